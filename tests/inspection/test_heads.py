"""The command `heads`: gradients, silencing, correlations, and bad input."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from networks import opened

import yolo_mha
from yolo_mha import YOLO, ConfigError, UnsupportedTaskError
from yolo_mha.cli import main
from yolo_mha.data.beacons import generate
from yolo_mha.data.dataset import load_dataset, read_dataset
from yolo_mha.inspection.head_importance import Passes, gradient_importance, map_correlation, rank_correlation
from yolo_mha.inspection.recorder import Recorder
from yolo_mha.surgery.heads import attentions

LOOK = {"imgsz": 64, "device": "cpu"}


@pytest.fixture
def five_heads() -> str:
    """The demo's model with a second block, of three heads."""
    made = yolo_mha.insert("demo-mha.pt", "layer:3", num_heads=3, head_dim=8, gate_init=0.3, out="five.pt")
    return str(made.checkpoint)


@pytest.mark.parametrize("options", [{}, {"scope": "window", "window": 3}, {"position": "dwconv"}], ids=str)
def test_gradients__are_those_of_the_weights_behind_a_head(beacons, options):
    """A gate scales columns of the projection: its gradient is their product with their own, summed."""
    name = yolo_mha.insert("demo-mha.pt", "layer:3", num_heads=3, head_dim=8, gate_init=0.3, out="m.pt", **options)
    sample = read_dataset(load_dataset(beacons), ["val"]).samples["val"][0]
    passes = Passes(YOLO(name.checkpoint), None, **LOOK)
    found = passes.gradients(sample)
    model = passes.model.requires_grad_(True)
    model.loss(passes._batch(sample))[0].sum().backward()
    for row, attention in attentions(model).items():
        weight = attention.proj.weight
        products = (weight * weight.grad).view(len(weight), attention.num_heads, -1).sum((0, 2))
        torch.testing.assert_close(found[row], products.detach().abs(), rtol=1e-3, atol=1e-5)
    assert not any(m._forward_pre_hooks for m in model.modules())


def test_gradients__of_boxes_as_ultralytics_scales_them(beacons):
    """The loss of an image is that of Ultralytics' own dataset, with the classes in the model's order."""
    read = read_dataset(load_dataset(beacons), ["val"])
    passes = Passes(YOLO("demo-mha.pt"), [1, 0, 2], **LOOK)
    sample = read.samples["val"][0]
    batch = passes._batch(sample)
    assert batch["cls"][:, 0].tolist() == [[1, 0, 2][c] for c in sample.classes]
    x, y, w, h = batch["bboxes"].T.numpy() * 64
    scale = 64 / sample.width
    expected = sample.boxes * scale
    np.testing.assert_allclose(np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], 1), expected, atol=1e-3)


def test_gradients__of_an_image_without_objects_are_finite(beacons):
    sample = read_dataset(load_dataset(beacons), ["val"]).samples["val"][0]
    empty = type(sample)(**{**vars(sample), "classes": sample.classes[:0], "boxes": sample.boxes[:0]})
    found = Passes(YOLO("demo-mha.pt"), None, **LOOK).gradients(empty)
    assert found["5"].isfinite().all()


def test_map_correlation__is_that_of_numpy():
    torch.manual_seed(0)
    module = yolo_mha.SpatialMHA(24, 3).eval()
    torch.nn.init.normal_(module.qkv.weight)
    with Recorder(module) as recorder, torch.no_grad():
        module(torch.randn(1, 24, 4, 4))
    (block,) = recorder.blocks.values()
    maps = block.attention(torch.arange(16)).flatten(2).numpy()
    expected = np.mean([np.corrcoef(maps[:, query]) for query in range(16)], 0)
    np.testing.assert_allclose(map_correlation(block).numpy(), expected, atol=1e-5)
    torch.nn.init.zeros_(module.qkv.weight)
    with recorder, torch.no_grad():
        module(torch.randn(1, 24, 4, 4))
    assert map_correlation(block).abs().max() < 1e-2, "even attention correlates with nothing"


def test_rank_correlation__only_where_there_is_one():
    assert rank_correlation([1, 2, 3], [3, 5, 9]) == pytest.approx(1)
    assert rank_correlation([1, 2], [1, 2]) is None
    assert rank_correlation([0, 0, 0], [1, 2, 3]) is None


@pytest.mark.slow
def test_heads__says_what_pruning_would(beacons, five_heads, capsys):
    outputs = []
    for _ in range(2):
        with pytest.raises(SystemExit) as ended:
            main(["heads", f"model={five_heads}", f"data={beacons}", "device=cpu", "--json"])
        assert ended.value.code in (0, None)
        outputs.append(json.loads(capsys.readouterr().out))
    result, again = outputs
    assert {**again, "save_dir": "", "outputs": ""} == {**result, "save_dir": "", "outputs": ""}
    assert json.loads(Path(result["outputs"]["numbers"]).read_text()) == result
    assert cv2.imread(result["outputs"]["plot"]) is not None
    assert sorted((h["layer"], h["head"]) for h in result["heads"]) == [
        ("4", 0),
        ("4", 1),
        ("4", 2),
        ("6", 0),
        ("6", 1),
    ]
    for kind, rank in (("ap_lost", "ap_rank"), ("gradient", "gradient_rank")):
        by_rank = sorted(result["heads"], key=lambda head: head[rank])
        values = [head[kind]["value"] for head in by_rank]
        assert values == sorted(values, reverse=True)
        assert all(head[kind]["low"] is None for head in by_rank), "eight images are too few"
    assert result["heads"] == sorted(result["heads"], key=lambda head: head["ap_rank"])
    assert [len(block["correlation"]) for block in result["blocks"]] == [3, 2]
    assert -1 <= result["rank_correlation"] <= 1
    assert result["notes"] == []
    assert result["ap"] == yolo_mha.val(five_heads, beacons, device="cpu", plots=False).coco.metrics["AP"]


@pytest.mark.slow
def test_heads__groups_are_resampled(tmp_path):
    data = generate(tmp_path / "data", train=1, val=20)
    alone, grouped = (yolo_mha.heads(data=data, group=group, device="cpu") for group in (None, r"(\d)\.\w+$"))
    assert (alone.groups, grouped.groups) == (None, 10)
    for one, other in zip(alone.heads, grouped.heads, strict=True):
        for kind in ("gradient", "ap_lost"):
            first, second = (getattr(head, kind) for head in (one, other))
            assert first.value == second.value
            assert first.low < first.value < first.high
            assert second.low not in (None, first.low)


def test_gradients__an_image_that_is_there_twice_is_one_group(tmp_path):
    dataset = load_dataset(generate(tmp_path / "data", train=1, val=10))
    samples = read_dataset(dataset, ["val"]).samples["val"]
    once, _ = gradient_importance(Passes(YOLO("demo-mha.pt"), None, **LOOK), samples)
    both = [sample for sample in samples for _ in range(2)]
    units = np.repeat(np.arange(10), 2)
    twice, _ = gradient_importance(Passes(YOLO("demo-mha.pt"), None, **LOOK), both, units=units)
    for name, found in once.items():
        assert (twice[name].low, twice[name].high) == pytest.approx((found.low, found.high))


def test_heads__says_where_there_is_no_ap_to_lose(beacons, trained):
    (note,) = yolo_mha.heads(trained, beacons, imgsz=64, device="cpu").notes
    assert note.startswith("The model scores AP 0.000 here, so nothing could be lost that matters.")


def test_heads__bad_input(beacons):
    with pytest.raises(ConfigError, match="group"):
        yolo_mha.heads(data=beacons, group="(")
    with pytest.raises(ConfigError, match="The model has no attention heads"):
        yolo_mha.heads(opened("demo-baseline.yaml"), beacons)
    with pytest.raises(ConfigError, match=r"heads does not take epochs.*\n.*epochs=3"):
        yolo_mha.heads(data=beacons, epochs=3)
    with pytest.raises(UnsupportedTaskError, match="heads scores box detection only"):
        yolo_mha.heads("yolo11n-seg.yaml", beacons)
    assert not Path("runs/heads").exists()
