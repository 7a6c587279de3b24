import csv
import os
from pathlib import Path

import numpy as np
import pytest
from reading import state
from ultralytics.data.dataset import YOLODataset

from yolo_mha.data.dataset import load_dataset, read_dataset, read_split
from yolo_mha.errors import DataError

from .formats import coco, instances, picture, voc


def test_mirror__is_made_once_and_anew_when_annotations_change(tmp_path):
    folder = coco(tmp_path / "pets")
    first = load_dataset(folder)
    stamp = first.yaml.stat().st_mtime_ns
    os.utime(folder / "val2017" / "b.png", (0, 0))  # as of a copy on another machine that shares the working directory
    assert load_dataset(folder).yaml == first.yaml
    assert first.yaml.stat().st_mtime_ns == stamp
    file = folder / "annotations" / "instances_val2017.json"
    file.write_text(file.read_text().replace('"cat"', '"cow"'))
    instances(folder / "annotations" / "instances_train2017.json", [(1, "b.png")], [(1, 5, [0, 0, 9, 9], {})], ("cow",))
    second = load_dataset(folder)
    assert second.yaml != first.yaml
    assert second.names == {0: "cow", 1: "dog"}


def test_mirror__is_made_anew_when_the_images_moved(tmp_path):
    folder = coco(tmp_path / "pets")
    first = load_dataset(folder)
    (folder / "val2017").rename(folder / "val")
    again = load_dataset(folder)
    assert all(s.image.exists() for s in read_split(again, "val"))
    assert again.yaml.parent.parent == first.yaml.parent.parent


def test_mirror__leaves_the_source_alone_and_reads_as_any_yolo_dataset(tmp_path):
    folder = voc(tmp_path / "pets")
    before = sorted(folder.rglob("*"))
    dataset = load_dataset(folder)
    assert sorted(folder.rglob("*")) == before
    assert all(p.is_symlink() for p in (dataset.yaml.parent / "images").glob("*/*"))
    direct = load_dataset(dataset.yaml)
    assert (direct.names, direct.splits, direct.annotations) == (dataset.names, dataset.splits, dataset.annotations)


def test_mirror__is_read_by_ultralytics_as_it_is_read_here(tmp_path):
    dataset = load_dataset(coco(tmp_path / "pets"))
    theirs = YOLODataset(img_path=str(dataset.splits["val"][0]), data={"names": dataset.names}, augment=False)
    samples = read_split(dataset, "val")
    assert theirs.im_files == [str(s.image) for s in samples]
    for label, sample in zip(theirs.labels, samples, strict=True):
        centres = (sample.boxes[:, :2] + sample.boxes[:, 2:]) / 2 / [40, 20]
        assert np.allclose(label["bboxes"][:, :2], centres, atol=1e-6)
        assert label["cls"].ravel().tolist() == sample.classes.tolist()
    assert sum(len(s.classes) for s in samples) == 3


def test_mirror__copies_where_links_cannot_be_made(tmp_path, monkeypatch):
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError("links are not allowed")

    monkeypatch.setattr(os, "symlink", refuse)
    monkeypatch.setattr(Path, "symlink_to", refuse)
    sample = read_split(load_dataset(voc(tmp_path / "pets")), "val")[0]
    for made in (sample.image, sample.link):
        assert made.is_file()
        assert not made.is_symlink()


def test_mirror__leaves_nothing_after_an_error(tmp_path):
    folder = coco(tmp_path / "pets")
    (folder / "val2017" / "b.png").write_text("no picture")
    (folder / "annotations" / "instances_val2017.json").write_text("{")
    with pytest.raises(DataError, match="not valid JSON"):
        load_dataset(folder)
    assert not list((tmp_path / "runs" / "datasets").iterdir())


def test_mirror__is_made_anew_when_a_broken_image_was_repaired(tmp_path):
    folder = coco(tmp_path / "pets")
    good = (folder / "val2017" / "one" / "a.png").read_bytes()
    (folder / "val2017" / "one" / "a.png").write_text("no picture")
    with pytest.raises(DataError, match=r"val2017/one/a\.png: not a readable image"):
        read_split(load_dataset(folder), "val")
    (folder / "val2017" / "one" / "a.png").write_bytes(good)
    assert sum(len(s.classes) for s in read_split(load_dataset(folder), "val")) == 3


def test_mirror__boxes_are_fractions_of_the_image_as_it_is(tmp_path):
    """The JSON says 40x20; the picture is 80x20, and boxes are in pixels."""
    folder = coco(tmp_path / "pets")
    picture(folder / "val2017" / "images" / "a.png", 80, 20)
    samples = {s.image.resolve().parent.name: s for s in read_split(load_dataset(folder), "val")}
    assert [4, 4, 12, 12] in samples["images"].boxes.round(6).tolist()


@pytest.mark.parametrize("size", [(80, 40), (20, 10), (20, 40)])
@pytest.mark.parametrize("make", [voc, coco])
def test_mirror__boxes_that_were_drawn_on_another_size_are_a_fault_until_the_image_is_put_back(tmp_path, make, size):
    """Images that were scaled or turned while their annotations were kept: all of their boxes are wrong."""
    folder = make(tmp_path / "pets")
    image = folder / "JPEGImages" / "c.png" if make is voc else folder / "val2017" / "one" / "a.png"
    whole = read_dataset(load_dataset(folder), ["val"]).samples["val"]
    kept = image.read_bytes()
    picture(image, *size)
    words = f"labels for another image size.* boxes for 40x20 pixels, and the image has {size[0]}x{size[1]}"
    with pytest.raises(DataError, match=words):
        read_dataset(load_dataset(folder), ["val"])
    left = read_dataset(load_dataset(folder), ["val"], "skip").samples["val"]
    assert len(left) == len(whole) - 1
    image.write_bytes(kept)
    again = read_dataset(load_dataset(folder), ["val"]).samples["val"]
    assert [s.boxes.tolist() for s in again] == [s.boxes.tolist() for s in whole]


def test_mirror__names_of_many_bytes(tmp_path):
    """Three bytes a character: the name of the file fits the limit of 255 bytes, and that with its folder would not."""
    folder, name = tmp_path / "pets", f"{'図' * 40}/{'像' * 60}.png"
    for split in ("train2017", "val2017"):
        instances(folder / "annotations" / f"instances_{split}.json", [(1, name)], [(1, 5, [0, 0, 9, 9], {})])
        picture(folder / split / name)
    samples = read_split(load_dataset(folder), "val")
    assert [s.image.resolve().name for s in samples] == [f"{'像' * 60}.png"]


def test_mirror__needs_a_working_directory_that_can_be_written_to(tmp_path):
    Path("runs").write_text("a file")
    with pytest.raises(DataError, match="No mirror of the dataset") as failed:
        load_dataset(coco(tmp_path / "pets"))
    assert "working directory" in failed.value.expected


@pytest.mark.parametrize("make", [voc, coco])
def test_mirror__faults_are_told_by_the_files_of_the_user(tmp_path, make):
    """A picture that is none, and of VOC an annotation file that is none."""
    folder = make(tmp_path / "pets")
    broken = next(p for p in sorted(folder.rglob("*.png")) if p.parent.name in ("val2017", "JPEGImages"))
    broken = folder / "JPEGImages" / "c.png" if make is voc else broken
    broken.write_text("no picture")
    wrong = {str(broken)}
    if make is voc:
        instead = folder / "Annotations" / "a.xml"
        instead.write_text("<annotation>")
        wrong.add(str(instead))
    before = state(folder)
    splits = ("train", "val")
    with pytest.raises(DataError, match="have faults") as stopped:
        read_dataset(load_dataset(folder), splits)
    read = read_dataset(load_dataset(folder), splits, "skip")
    with open(read.check.file, encoding="utf-8", newline="") as opened:
        rows = list(csv.DictReader(opened))
    assert {row["file"] for row in rows} == wrong
    assert all(file in str(stopped.value) for file in wrong)
    assert {row["action"] for row in rows} == {"left out"}
    whole = {"train": 2, "val": 2} if make is voc else {"train": 3, "val": 3}
    left = {"train": 1, "val": 1} if make is voc else {"train": 3, "val": 2}
    assert read.check.images == whole
    assert {split: len(samples) for split, samples in read.samples.items()} == left
    assert state(folder) == before
