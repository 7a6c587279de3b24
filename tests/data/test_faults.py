import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
from reading import counted, state
from ultralytics.data.dataset import YOLODataset

from yolo_mha.data import faults
from yolo_mha.data.dataset import load_dataset, read_dataset
from yolo_mha.errors import ConfigError, DataError

from .damage import KINDS, damaged

FAULTY = {name: kind for name, kind in KINDS.items() if kind.reasons}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return damaged(tmp_path_factory.mktemp("damaged") / "signs")


@pytest.fixture(autouse=True)
def _huge(monkeypatch) -> None:
    """A picture of 640x480 counts as huge."""
    monkeypatch.setattr(faults, "MOST_PIXELS", 200_000)


def listed(file: str) -> dict[str, list[dict[str, str]]]:
    """Read the list of faults, by kind of damage."""
    found: dict[str, list[dict[str, str]]] = {}
    with open(file, encoding="utf-8", newline="") as opened:
        for row in csv.DictReader(opened):
            found.setdefault(Path(row["image"]).stem[:-2], []).append(row)
    return found


def test_read_dataset__stops_at_each_kind_of_damage_and_lists_all(data):
    before = state(data.parent)
    with pytest.raises(DataError, match=f"{len(FAULTY)} of {len(KINDS)} train images have faults") as caught:
        read_dataset(load_dataset(data), ["train"])
    assert "bad=skip" in caught.value.fix
    assert "bad=repair" in caught.value.fix
    found = listed(next(str(p) for p in Path.cwd().rglob("*.csv")))
    assert {name: tuple(row["reason"] for row in rows) for name, rows in found.items()} == {
        name: kind.reasons for name, kind in FAULTY.items()
    }
    for row in (row for rows in found.values() for row in rows):
        kind = "labels" if row["reason"] in faults.OF_LABELS else "images"
        assert Path(row["file"]).parent == data.parent / kind
        assert row["action"] == ""
    assert not list(Path.cwd().glob("runs/datasets/*/images"))
    assert state(data.parent) == before


@pytest.mark.parametrize("bad", ["skip", "repair"])
def test_read_dataset__what_is_left_is_read_by_ultralytics_as_it_is_here(data, bad):
    before = state(data.parent)
    read = read_dataset(load_dataset(data), ["train"], bad)
    used = {s.image.stem[:-2]: s for s in read.samples["train"]}
    expected = {name for name, kind in KINDS.items() if not kind.reasons or (bad == "repair" and kind.repaired)}
    assert used.keys() == expected
    assert {name: len(used[name].classes) for name in used} == {name: KINDS[name].boxes for name in used}
    found = listed(read.check.file)
    assert found.keys() == FAULTY.keys()
    for name, rows in found.items():
        assert all((row["action"] == "left out") == (name not in used) for row in rows)
    theirs = YOLODataset(
        img_path=str(read.dataset.links["train"] / "images"), data={"names": read.dataset.names}, augment=False
    )
    assert theirs.im_files == [str(s.link) for s in read.samples["train"]]
    for i, (label, sample) in enumerate(zip(theirs.labels, read.samples["train"], strict=True)):
        size = np.array([sample.width, sample.height])
        centres, sizes = label["bboxes"][:, :2], label["bboxes"][:, 2:]
        corners = np.c_[centres - sizes / 2, centres + sizes / 2] * np.tile(size, 2)
        own = np.c_[sample.classes, sample.boxes]
        assert np.allclose(np.unique(np.c_[label["cls"], corners], axis=0), own, atol=1e-3)
        assert theirs.load_image(i)[0].dtype == np.uint8
    assert state(data.parent) == before


def test_read_dataset__a_repaired_picture_has_the_values_of_the_first(data):
    read = read_dataset(load_dataset(data), ["train"], "repair")
    samples = {s.image.stem[:-2]: s for s in read.samples["train"]}
    fractions = cv2.imread(str(samples["fractions"].image), cv2.IMREAD_UNCHANGED)
    assert np.abs(cv2.imread(str(samples["fractions"].link)) - fractions * 255).max() <= 0.5 + 1e-3
    huge = samples["huge"]
    assert (huge.width, huge.height) == (640, 480)  # boxes and scores are those of the image
    assert cv2.imread(str(huge.link)).shape == (240, 320, 3)
    assert huge.repairs == ["reduced to 320x240 pixels"]


def test_read_dataset__checks_again_only_what_has_changed(data, tmp_path):
    with counted() as first:
        one = read_dataset(load_dataset(data), ["train"], "repair")
    with counted() as second:
        two = read_dataset(load_dataset(data), ["train"], "repair")
    assert len(first) == len(KINDS)
    assert not second
    assert (two.dataset, two.check) == (one.dataset, one.check)
    label = data.parent / "labels" / "good 0.txt"
    text = label.read_text()
    label.write_text("1 0.5 0.5 0.5 0.125\n")
    with counted() as third:
        three = read_dataset(load_dataset(data), ["train"], "repair")
    label.write_text(text)
    assert [image.name for image in third] == ["good 0.jpg"]
    assert three.dataset.yaml != one.dataset.yaml
    changed = next(s for s in three.samples["train"] if s.image.name == "good 0.jpg")
    assert changed.classes.tolist() == [1]


def test_read_dataset__a_damaged_cache_is_of_no_consequence(data):
    one = read_dataset(load_dataset(data), ["train"], "skip")
    (cache,) = Path.cwd().rglob("*.checked.json")
    cache.write_text("[")
    assert read_dataset(load_dataset(data), ["train"], "skip").check == one.check


def test_read_dataset__counts_what_is_harmless(data):
    check = read_dataset(load_dataset(data), ["train"], "skip").check
    assert check.harmless == {
        "labels given twice": 1,
        "images without a label file, taken as background": 1,
        "JPEGs with bytes behind their end": 1,
    }
    assert check.images == {"train": len(KINDS)}
    assert sum(check.actions.values()) == check.faults


def test_read_dataset__the_yaml_for_ultralytics_stands_for_the_dataset(data):
    read = read_dataset(load_dataset(data), ["train"], "skip")
    again = load_dataset(read.dataset.yaml)
    assert (again.source, again.bad) == (data, "skip")
    assert read_dataset(again, ["train"]).dataset.yaml == read.dataset.yaml


def test_read_dataset__says_that_nothing_is_left(tmp_path):
    data = damaged(tmp_path / "x", {"nan": KINDS["nan"]})
    with pytest.raises(DataError, match="No val image is left"):
        read_dataset(load_dataset(data), ["val"], "skip")


def test_read_dataset__refuses_another_way(data):
    with pytest.raises(ConfigError, match="bad, the way to treat"):
        read_dataset(load_dataset(data), ["train"], "ignore")
