"""Weights follow their layers, whatever stands between them."""

import re

import pytest
import torch
import ultralytics
from ultralytics.nn import tasks

import yolo_mha
from yolo_mha.errors import ModelError
from yolo_mha.registry import build
from yolo_mha.surgery.insertion import Insertion
from yolo_mha.surgery.rows import edit, plan_insertion
from yolo_mha.surgery.transfer import align, reported

from .conftest import SHIPPED, built, read, rows

ROW = Insertion("P5").row
DEEPER = {"scale": "d", "scales": {"d": [1.0, 0.25, 1024]}}  # as wide as n, so most tensors have the same shape


def content(name: str, *hosts: int, **changes) -> dict:
    """The content of a shipped YAML with a block behind each host."""
    base = {**read(next(p for p in SHIPPED if p.name == name)), **changes}
    return edit(base, plan_insertion(len(rows(base)), hosts, ROW))


def load(target, source):
    with reported() as reports:
        target.load(source, verbose=False)
    return reports[0]


@pytest.mark.parametrize("name", ["yolov8.yaml", "yolo11.yaml", "yolo12.yaml", "yolo26.yaml"])
def test_load__moves_all_where_ultralytics_alone_moves_a_part(name, caplog):
    base = built(next(p for p in SHIPPED if p.name == name))
    target = build(content(name, 4))
    caplog.set_level("INFO", logger="ultralytics")
    tasks.BaseModel.load.__wrapped__(build(content(name, 4)), base)
    alone = int(re.search(r"Transferred (\d+)/", caplog.text)[1])
    assert alone < len(base.state_dict()) / 4
    report = load(target, base)
    assert (report.moved, report.total, report.left) == (len(base.state_dict()), len(base.state_dict()), {})
    assert report.new == len(target.state_dict()) - report.total > 0
    state = target.state_dict()
    for key, value in base.state_dict().items():
        _, index, rest = key.split(".", 2)
        assert torch.equal(state[f"model.{int(index) + (int(index) > 4)}.{rest}"], value), key


def test_load__takes_the_names_of_the_base_as_ultralytics_does():
    base = built(next(p for p in SHIPPED if p.name == "yolov8.yaml"))
    base.names = {i: f"thing {i}" for i in range(80)}
    target = build(content("yolov8.yaml", 9))
    load(target, base)
    assert target.names == base.names
    assert target.names is not base.names


def test_load__keeps_blocks_that_both_have_and_names_those_that_are_gone():
    base = build(content("yolov8.yaml", 6, 9))
    base.model[7].gate.weight.data.fill_(0.5)
    base.model[11].gate.weight.data.fill_(0.25)
    target = build(content("yolov8.yaml", 4, 6))
    report = load(target, base)
    assert target.model[8].gate.weight.unique().tolist() == [0.5]  # the one at P4
    assert target.model[5].gate.weight.unique().tolist() == [0.0]  # the new one at P3
    assert {name.split(".")[1] for name in report.left} == {"11"}
    assert "no such block" in next(iter(report.left.values()))
    assert report.total - report.moved == len(report.left) == len(base.model[11].state_dict())
    assert report.new == len(target.model[5].state_dict())


def test_load__into_a_model_without_blocks():
    base = build(content("yolov8.yaml", 6))
    target = build(content("yolov8.yaml"))
    report = load(target, base)
    assert report.moved == len(target.state_dict())
    assert all(
        torch.equal(a, b) for a, b in zip(target.model[22].parameters(), base.model[23].parameters(), strict=True)
    )


@pytest.mark.parametrize("classes", [6, 200])
def test_load__with_another_class_count_does_what_ultralytics_does(classes):
    base = built(next(p for p in SHIPPED if p.name == "yolov8.yaml"))
    base.names = {i: f"thing {i}" for i in range(80)}
    plain, target = (build(content("yolov8.yaml", *hosts, nc=classes)) for hosts in ((), (9,)))
    for model in (plain, target):
        model.names = {i: f"thing {i + 3}" for i in range(classes)}
        torch.manual_seed(0)
    plain.load(base, verbose=False)
    report = load(target, base)
    ours, theirs, old = (m.model[-1].state_dict() for m in (target, plain, base))
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}
    same = {k for k in theirs if theirs[k].shape == old[k].shape}
    assert all(torch.equal(ours[k], theirs[k]) and torch.equal(ours[k], old[k]) for k in same)
    assert {name.removeprefix("model.22.") for name in report.left} == theirs.keys() - same
    # older versions narrow the layer before as well, and then take the bias alone
    logits = {k for k in theirs.keys() - same if k.startswith("cv3") and theirs[k].shape[:1] == (classes,)}
    logits = {k for k in logits if theirs[k].shape[1:] == old[k].shape[1:]}
    shared = min(classes, 77)
    assert logits
    assert all(torch.equal(ours[k][:shared], theirs[k][:shared]) for k in logits)  # rows found by name
    assert all(torch.equal(ours[k][:shared], old[k][3 : 3 + shared]) for k in logits)
    assert f"80 classes became {classes}, of which {shared} are known by name" in next(iter(report.left.values()))


def test_load__tells_key_points_from_classes():
    for model, heads in (
        ("yolo11-pose.yaml", {"cv3", "cv4"}),
        ("yolo26-pose.yaml", {"cv3", "cv4", "cv4_kpts", "cv4_sigma"}),
    ):
        left = load(build(content(model, 9, nc=2, kpt_shape=[5, 3])), build(content(model, nc=1))).left
        found = {name.split(".")[2].removeprefix("one2one_") for name in left}
        assert found == heads
        for name, why in left.items():
            assert why.endswith("key points [17, 3] became [5, 3]" if "cv4" in name else "1 classes became 2")


def test_load__says_so_where_classes_stand_in_another_order():
    base = built(next(p for p in SHIPPED if p.name == "yolov8.yaml"))
    target = build(content("yolov8.yaml", 9))
    base.names = {i: f"thing {i}" for i in range(80)}
    target.names = {i: f"thing {79 - i}" for i in range(80)}
    for branch in base.model[-1].cv3:
        branch[-1].bias.data.normal_()
    report = load(target, base)
    assert len(report.left) == 6
    assert set(report.left.values()) == {"its rows follow the new order of the classes"}
    bias = "cv3.0.2.bias"
    assert torch.equal(target.model[-1].state_dict()[bias], base.model[-1].state_dict()[bias].flip(0))


def test_load__another_task_of_the_family_takes_all_but_its_own_head():
    base = built(next(p for p in SHIPPED if p.name == "yolov8.yaml"))
    target = build(content("yolov8-seg.yaml", 9))
    report = load(target, base)
    assert report.left == {}
    back = load(build(content("yolov8.yaml", 9)), target)
    assert all("Detect has no such tensor" in why for why in back.left.values())
    assert back.left


@pytest.mark.parametrize(
    ("base", "model", "words"),
    [
        (("yolov8.yaml", {"scale": "s"}), ("yolov8.yaml", {}), ["another scale", "scale s", "yolov8.yaml, scale n"]),
        (("yolov8.yaml", DEEPER), ("yolov8.yaml", {}), ["another scale", "scale d", "yolov8.yaml, scale n"]),
        (("yolo11.yaml", {}), ("yolov8.yaml", {}), ["another family", "yolo11.yaml", "yolov8.yaml"]),
        (("yolov8-p2.yaml", {}), ("yolov8.yaml", {}), ["another variant", "yolov8-p2.yaml"]),
        (("yolov9t.yaml", {}), ("yolov9s.yaml", {}), ["another scale", "yolov9t.yaml", "yolov9s.yaml"]),
        (("yolov10n.yaml", {}), ("yolov10s.yaml", {}), ["another scale", "yolov10n.yaml"]),
    ],
)
def test_load__refuses_another_scale_or_family_by_name(base, model, words):
    source = build(content(base[0], **base[1]))
    target = build(content(model[0], 4, **model[1]))
    before = {k: v.clone() for k, v in target.state_dict().items()}
    with pytest.raises(ModelError) as caught:
        target.load(source, verbose=False)
    assert all(word in str(caught.value) for word in words)
    assert all(torch.equal(v, before[k]) for k, v in target.state_dict().items())


def test_load__of_models_without_blocks_is_ultralytics_own():
    base = build(content("yolov8.yaml", scale="s"))
    with reported() as reports:
        build(content("yolov8.yaml")).load(base, verbose=False)
    assert reports == []


def test_align__pairs_blocks_behind_the_same_layer_by_what_they_say():
    old = content("yolov8.yaml", 6)  # its block is row 7
    new = edit(old, plan_insertion(len(rows(old)), [6], Insertion("P4", options={"num_heads": 4}).row))
    assert [row[3] for row in rows(new)[7:9]] == [[{"num_heads": 4}], []]
    assert align(old, new) == {i: i + (i > 6) for i in range(len(rows(old)))}
    assert align(new, old) == {7: None} | {i: i - (i > 7) for i in range(len(rows(new))) if i != 7}


def test_align__of_blocks_with_two_inputs_asks_what_the_second_is():
    base = content("yolo11.yaml")

    def reading(other: int) -> dict:
        return edit(base, plan_insertion(len(rows(base)), [16], [[-1, other], 1, "CrossScaleMHA", []]))

    assert align(reading(10), reading(10))[17] == 17
    assert align(reading(10), reading(9))[17] is None  # as wide, and yet another layer
    with_block = edit(reading(10), plan_insertion(len(rows(base)) + 1, [4], ROW))
    assert rows(with_block)[18][0] == [-1, 11]
    assert align(reading(10), with_block)[17] == 18  # the same layer, at another index
    assert align(with_block, reading(10))[18] == 17


@pytest.mark.parametrize("front", [yolo_mha.YOLO, ultralytics.YOLO])
def test_load__from_a_file_through_both_fronts(front, tmp_path):
    base = ultralytics.YOLO("yolov8n.yaml")
    base.save(tmp_path / "base.pt")
    model = front("yolov8n-mha-p4p5.yaml").load(tmp_path / "base.pt")
    assert torch.equal(
        model.model.model[24].cv2[0][0].conv.weight, base.model.model[22].cv2[0][0].conv.weight.half().float()
    )
    with pytest.raises(ModelError, match="another scale"):
        front("yolov8s-mha-p5.yaml").load(tmp_path / "base.pt")


def test_insertion__twice_is_the_same_as_at_once():
    base = build(content("yolov8.yaml"))
    at_once, _ = Insertion("P4,P5").apply(base)
    one, _ = Insertion("P5").apply(base)
    twice, _ = Insertion("P4").apply(one)
    assert twice.yaml["backbone"] == at_once.yaml["backbone"]
    assert twice.yaml["head"] == at_once.yaml["head"]
    assert twice.save == at_once.save
