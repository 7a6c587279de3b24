import hashlib

import numpy as np
import pytest
import torch

from yolo_mha.data.beacons import MIN_DISTANCE, draw, generate
from yolo_mha.data.dataset import load_dataset, read_split
from yolo_mha.evaluation.plan import build_arms
from yolo_mha.evaluation.recipe import read_recipe


def test_draw__same_seed_same_picture():
    for a, b in zip(draw(3, 5), draw(3, 5), strict=True):
        assert np.array_equal(a, b)
    assert not np.array_equal(draw(3, 5)[0], draw(4, 5)[0])


def test_draw__the_beacon_sets_every_class_from_afar():
    counts = np.zeros(3, int)
    for index in range(200):
        image, labels = draw(0, index)
        assert image.shape == (192, 192, 3)
        beacon, shapes = labels[labels[:, 0] == 2], labels[labels[:, 0] != 2]
        assert len(beacon) == 1
        assert 1 <= len(shapes) <= 7
        assert len(set(shapes[:, 0])) == 1
        distance = np.abs(shapes[:, 1:3] - beacon[0, 1:3]).max(1) * 192
        assert distance.min() > MIN_DISTANCE
        x, y = (beacon[0, 1:3] * 192).astype(int)
        blue, _, red = image[y, x].astype(int)
        assert (blue > red) == (shapes[0, 0] == 1)
        assert (labels[:, 1:3] - labels[:, 3:] / 2 >= 0).all()
        assert (labels[:, 1:3] + labels[:, 3:] / 2 <= 1).all()
        counts += np.bincount(labels[:, 0].astype(int), minlength=3)
    assert 0.8 < counts[0] / counts[1] < 1.25


@pytest.mark.parametrize(("name", "sees"), [("baseline", False), ("convolution", False), ("attention", True)])
def test_task__only_attention_can_see_the_beacon_from_a_shape(name, sees):
    """The gradient of a shape's class scores at the beacon's pixels: exactly zero without attention."""
    model = build_arms(read_recipe("demo.yaml", {}))[name].network
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.constant_(module.weight, 1.0)
    model.eval()
    for index in range(5):
        image, labels = draw(0, index)
        x = torch.from_numpy(image.transpose(2, 0, 1)[None] / 255.0).float().requires_grad_()
        scores = model(x)[0][0, 4:].view(3, 24, 24)  # class scores of the cells, stride 8
        beacon = labels[labels[:, 0] == 2][0]
        shape = labels[labels[:, 0] != 2][0]
        column, row = (int(shape[i] * 24) for i in (1, 2))
        scores[:2, row, column].sum().backward()
        x1, x2, y1, y2 = (round((beacon[i] + s * beacon[i + 2] / 2) * 192) for i in (1, 2) for s in (-1, 1))
        seen = x.grad[0, :, y1:y2, x1:x2].abs().max() > 0
        assert bool(seen) is sees


def test_generate__is_deterministic_complete_and_left_alone(tmp_path):
    yamls = [generate(tmp_path / name, train=5, val=3, seed=7) for name in ("a", "b")]
    digests = [
        [hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(y.parent.rglob("*")) if p.is_file()] for y in yamls
    ]
    assert digests[0] == digests[1]
    dataset = load_dataset(yamls[0])
    assert dataset.names == {0: "day", 1: "night", 2: "beacon"}
    assert [len(read_split(dataset, split)) for split in ("train", "val")] == [5, 3]

    image = next(yamls[0].parent.rglob("*.png"))
    stamp = image.stat().st_mtime_ns
    generate(tmp_path / "a", train=5, val=3, seed=7)
    assert image.stat().st_mtime_ns == stamp
    generate(tmp_path / "a", train=2, val=2, seed=7)
    assert not list((tmp_path / "a" / "images" / "train").glob("0002*"))
    assert [len(read_split(load_dataset(yamls[0]), split)) for split in ("train", "val")] == [2, 2]


def test_generate__interrupted_is_not_taken_for_finished(tmp_path, monkeypatch):
    data = generate(tmp_path, train=5, val=3)
    monkeypatch.setattr("yolo_mha.data.beacons.draw", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        generate(tmp_path, train=6, val=3)
    assert not data.exists()
