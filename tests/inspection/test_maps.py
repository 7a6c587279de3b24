"""Detections with their anchors and gradients, and where their maps lie."""

import numpy as np
import pytest
import torch
from networks import opened

from yolo_mha import YOLO, ConfigError, SpatialMHA, SpatialMHABlock
from yolo_mha.inspection.explanation import explained
from yolo_mha.inspection.looking import Look, Looker, Placement, selected
from yolo_mha.inspection.maps import detection_maps, resized
from yolo_mha.inspection.measures import NAMES, measure, region_map
from yolo_mha.inspection.sheet import draw_sheet


def test_looker__finds_what_predict_finds(look, picture):
    expected = YOLO("demo-mha.pt").predict(picture, verbose=False)[0].boxes.data
    found = torch.cat([look.corners, look.boxes[:, 4:]], 1)
    torch.testing.assert_close(found, expected, atol=0.01, rtol=1e-4)


@pytest.mark.parametrize("settings", [{}, {"nms": False}, {"nms": False, "agnostic_nms": True}], ids=str)
def test_looker__takes_the_head_that_predict_takes(settings, picture):
    """Of two heads; the checkpoint says that the one without NMS was trained."""
    network, settings = YOLO(opened("yolo26n-mha-p5.yaml")), {"conf": 1e-7, "imgsz": 128, "max_det": 20, **settings}
    network.model.end2end = True
    network.save(file := "trained.pt")
    assert YOLO(file).model.end2end
    expected = YOLO(file).predict(picture, verbose=False, **settings)[0].boxes.data
    found = Looker(YOLO(file), **settings)(picture)
    torch.testing.assert_close(torch.cat([found.corners, found.boxes[:, 4:]], 1), expected, atol=0.01, rtol=1e-4)


@pytest.mark.parametrize(("name", "nms"), [("yolo11n-mha-p5.yaml", None), ("yolo26n-mha-p5.yaml", False)])
def test_looker__keeps_the_anchor_of_each_detection(name, nms, picture):
    found = Looker(YOLO(opened(name)), conf=1e-7, imgsz=128, max_det=20, nms=nms)(picture)
    assert len(found.boxes) == 20
    scores = torch.stack([found.logit(i) for i in range(20)]).sigmoid()
    torch.testing.assert_close(scores.detach(), found.boxes[:, 4])


def test_gradients__are_those_of_the_logit(looker, look, picture):
    block = look.recorder["5"]
    gradient = look.gradients(1, {"5": block.output})["5"]
    for _ in range(3):
        step = torch.randn_like(gradient) / gradient.numel() ** 0.5

        def moved(_, __, output, step=step):
            return output + 0.01 * step

        handle = block.gate.register_forward_hook(moved)
        after = looker(picture).logits[int(look.boxes[1, 5]), look.anchors[1]]
        handle.remove()
        expected = float((gradient * step).sum()) * 0.01
        assert float((after - look.logit(1)).detach()) == pytest.approx(expected, rel=0.05, abs=1e-4)


def test_gradients__zero_where_nothing_depends(look):
    assert not look.gradients(0, {"x": torch.ones(1, 2, 3, 3, requires_grad=True)})["x"].any()


@pytest.mark.parametrize("size", [(100, 192), (192, 100), (192, 192), (37, 11)], ids=str)
def test_placement__is_where_the_letterbox_puts_the_picture(looker, size):
    given = looker.prepare(np.full((*size, 3), 255, np.uint8))
    placement = Placement(*size, tuple(given.shape[2:]))
    left, top, right, bottom = map(int, placement.content)
    inside = given[0, 0, top:bottom, left:right]
    assert inside.min() == 1
    assert (given == 1).sum() == 3 * inside.numel()
    x1, y1, x2, y2 = placement.extent
    assert x2 - x1 == pytest.approx(given.shape[3] / (right - left) * size[1])
    assert (y1 <= 0, y2 >= size[0], x1 <= 0) == (True, True, True)


def test_detection_maps__together_is_all_heads(look):
    maps = detection_maps(look, 1)
    block = maps.blocks[0].maps
    torch.testing.assert_close(maps.effect, block.effect.sum(0))
    torch.testing.assert_close(maps.attention, block.attention.mean(0))
    assert float(maps.attention.sum()) == pytest.approx(1, abs=1e-4)
    one = detection_maps(look, 1, heads=[1])
    torch.testing.assert_close(one.effect, block.effect[1])


def test_detection_maps__effect_bounds_what_is_added(look):
    """To first order no key moves the logit by more than its effect."""
    block, gradient = look.recorder["5"], look.gradients(1, {"5": look.recorder["5"].output})["5"][0].flatten(1)
    maps = block.attention(torch.arange(gradient.shape[1]))  # (h, N, H, W)
    v, weight = block.module.heads(block.inputs[0])[2][0].flatten(0, 1), block.module.proj.weight.flatten(1)
    for head in range(block.num_heads):
        read = v[:, head] @ weight.view(len(weight), block.num_heads, -1)[:, head].T  # (N, C): gate is folded
        moved = ((gradient.T @ read.T) * maps[head].flatten(1)).sum(0)  # (N,) over queries
        bound = detection_maps(look, 1).blocks[0].maps.effect[head].flatten()
        assert (moved.abs() <= bound * 1.02 + 1e-6).all()


@pytest.mark.parametrize("gate", [0.0, 1e-6])
def test_detection_maps__a_closed_gate_has_no_effect(picture, gate):
    network = YOLO("yolov8n-mha-p4p5.yaml")
    for block in network.model.modules():
        if isinstance(block, SpatialMHABlock):
            torch.nn.init.constant_(block.gate.weight, gate)
    look = Looker(network, conf=1e-7, imgsz=64, max_det=1)(picture)
    found = explained(look, 0, detection_maps(look, 0), network.names, "x", 0)
    wheres = [found.together, *(w for layer in found.layers for w in (*layer.heads, layer.together))]
    assert all(where.no_effect and (where.effect > 0) == (gate > 0) and where.by_effect is None for where in wheres)
    assert all(where.by_attention for where in wheres)


def test_explained__a_block_that_the_detection_does_not_depend_on(looker, picture):
    look = looker(picture)
    look.recorder["5"].output = torch.zeros(1, 64, 24, 24, requires_grad=True)
    maps = detection_maps(look, 1)
    found = explained(look, 1, maps, looker.names, "x.png", 0)
    wheres = [found.together, *found.layers[0].heads, found.layers[0].together]
    assert all(where.no_effect and where.by_attention is where.by_effect is None for where in wheres)
    assert draw_sheet(picture, look, 1, maps, found).startswith(b"\x89PNG")


def test_detection_maps__a_block_that_did_not_run(picture):
    looker = Looker(YOLO("demo-mha.pt"))
    looker.model.model[5].b = SpatialMHA(64)
    look = looker(picture)
    maps = detection_maps(look, 1)
    assert [(block.block.name, block.maps is None) for block in maps.blocks] == [("5", False), ("5.b", True)]
    assert torch.equal(maps.effect, detection_maps(look, 1, ["5"]).effect)
    with pytest.raises(ConfigError, match="No attention ran that could be explained"):
        detection_maps(look, 1, ["5.b"])


def test_explained__heads_add_up(look, looker):
    found = explained(look, 1, detection_maps(look, 1), looker.names, "x", 0)
    (layer,) = found.layers
    assert found.together.effect == pytest.approx(sum(head.effect for head in layer.heads))
    assert (layer.layer, [head.head for head in layer.heads], found.name) == ("5", [0, 1], "night")
    for where in (found.together, layer.together, *layer.heads):
        for measures in (where.by_attention, where.by_effect):
            assert sum(getattr(measures, name) for name in NAMES) == pytest.approx(1)
    assert layer.heads[0].by_attention.distance > 100  # the beacon is far away


def test_resized__keeps_the_sum():
    maps = torch.rand(2, 3, 5)
    torch.testing.assert_close(resized(maps, (6, 10)).sum((1, 2)), maps.sum((1, 2)))
    torch.testing.assert_close(resized(maps, (7, 11)).sum((1, 2)), maps.sum((1, 2)))
    assert not resized(torch.zeros(1, 2, 2), (4, 4)).any()


def look_of(boxes: list[list[float]], height: int = 40, width: int = 80) -> Look:
    """A pass with boxes of which nothing else is known."""
    rows = torch.tensor([[*box, 0.9, 0.0] for box in boxes])
    return Look(Placement(height, width, (80, 80)), torch.zeros(1, 3, 80, 80), rows, *[None] * 4)


def test_measure__shares_of_known_regions():
    look = look_of([[20, 30, 40, 50], [35, 30, 60, 50]])  # the second overlaps the first, and its ring
    maps = torch.zeros(7, 8, 8)
    for i, (row, column) in enumerate([(3, 2), (3, 5), (2, 2), (3, 1), (0, 0), (2, 7)]):
        maps[i, row, column] = 3.0
    found = measure(maps, region_map(look, 0))
    names = ["box", "others", "around", "around", "padding", "elsewhere"]
    assert [name for m in found[:6] for name in NAMES if getattr(m, name) == 1] == names
    assert all(m.entropy == 0 for m in found[:6])
    assert found[6] is None
    assert measure(torch.ones(1, 8, 8), region_map(look, 0))[0].entropy == pytest.approx(1)


def test_measure__a_position_in_two_regions_counts_by_area():
    maps = torch.zeros(1, 8, 8)
    maps[0, 3, 2] = 1.0  # x 20 to 30, y 30 to 40
    found = measure(maps, region_map(look_of([[25, 30, 60, 50]]), 0))[0]
    assert (found.box, found.around) == (0.5, 0.5)


@pytest.mark.parametrize(
    ("box", "expected"), [(None, [0, 1]), ((21, 9, 41, 31), [1]), ((70, 0, 80, 10), [])], ids=["all", "one", "none"]
)
def test_selected__the_box_that_overlaps_most(box, expected):
    assert selected(look_of([[0, 20, 20, 60], [20, 30, 40, 50]]), box) == expected
