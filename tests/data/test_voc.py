import json

import numpy as np
import pytest

from yolo_mha.data.dataset import load_dataset, read_split
from yolo_mha.data.voc import read_voc, voc_dataset
from yolo_mha.errors import DataError

from .formats import picture, voc, xml


def test_read_voc__counts_pixels_from_one_and_includes_the_last(tmp_path):
    found = read_voc(xml(tmp_path / "a.xml", ("cat", 0, 1, 1, 40, 20), ("dog", 1, 11, 6, 11, 6), size=(40, 20)))
    assert (found.width, found.height) == (40, 20)
    assert found.objects == [("cat", [0, 0, 40, 20], 0), ("dog", [10, 5, 1, 1], 1)]


def test_load_dataset__voc_becomes_a_yolo_dataset(tmp_path):
    dataset = load_dataset(voc(tmp_path / "pets"))
    assert dataset.names == {0: "ant", 1: "zebra"}
    assert dataset.source == tmp_path / "pets"
    assert dataset.yaml.is_relative_to(tmp_path / "runs" / "datasets")
    samples = read_split(dataset, "val")
    assert [s.image.name for s in samples] == ["c.png", "d.png"]
    assert samples[0].classes.tolist() == [1]  # the difficult ant is not trained on
    assert np.allclose(samples[0].boxes, [[0, 0, 20, 10]])
    truth = json.loads(dataset.annotations["val"].read_text())
    assert [(a["category_id"], a["bbox"], a["ignore"]) for a in truth["annotations"][:2]] == [
        (1, [0, 0, 20, 10], 0),
        (0, [10, 5, 20, 15], 1),
    ]


def test_load_dataset__class_list_gives_the_order(tmp_path):
    folder = voc(tmp_path / "pets")
    (folder / "labels.txt").write_text("zebra\nyak\nant\n")
    assert load_dataset(folder).names == {0: "zebra", 1: "yak", 2: "ant"}
    (folder / "labels.txt").write_text("zebra\n")
    with pytest.raises(DataError, match="lacks classes"):
        load_dataset(folder)


def test_load_dataset__xml_beside_the_images(tmp_path):
    for part in ("train", "valid"):
        picture(tmp_path / "d" / part / "a.png")
        xml(tmp_path / "d" / part / "a.xml", ("cat", 0, 1, 1, 9, 9))
    dataset = load_dataset(tmp_path / "d")
    assert [len(read_split(dataset, split)) for split in ("train", "val")] == [1, 1]


def test_load_dataset__voc_faults_of_files_and_sizes_are_recorded(tmp_path):
    folder = voc(tmp_path / "pets")
    xml(folder / "Annotations" / "alone.xml", ("ant", 0, 1, 1, 2, 2))
    (folder / "Annotations" / "c.xml").unlink()
    xml(folder / "Annotations" / "d.xml", ("ant", 0, 0, 1, 60, 20))
    xml(folder / "Annotations" / "a.xml", ("ant", 0, 0, 1, 30, 20), size=(400, 100))
    dataset = load_dataset(folder)
    train, about = (json.loads(dataset.annotations[s].read_text())["info"]["yolo_mha"] for s in ("train", "val"))
    assert (about["images_without_truth"], about["truth_without_image"], train["other_sizes"]) == (1, 1, 1)
    notes = " ".join(train["notes"] + about["notes"])
    for words in ("alone.xml", "said 400x100, is 40x20", "begin at pixel 0", "beyond their image"):
        assert words in notes
    without, clipped = read_split(dataset, "val")
    assert len(without.classes) == 0
    assert np.allclose(clipped.boxes, [[0, 0, 40, 20]])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: (d / "Annotations" / "c.xml").write_text("<annotation>"), "no XML"),
        (lambda d: (d / "Annotations" / "c.xml").write_text("<a/>"), "<a> in place of"),
        (lambda d: xml(d / "Annotations" / "c.xml", ("ant", 0, 9, 1, 2, 2)), "ends before it begins"),
        (lambda d: xml(d / "Annotations" / "c.xml", ("ant", 0, "nan", 1, 2, 2)), "xmin is 'nan'"),
        (lambda d: xml(d / "Annotations" / "c.xml", ("", 0, 1, 1, 2, 2)), "lacks a name"),
        (lambda d: (d / "JPEGImages" / "c.png").unlink(), "1 of 2 images"),
        (lambda d: (d / "JPEGImages" / "c.png").write_text("x"), "not a readable image"),
        (lambda d: picture(d / "JPEGImages" / "c.jpg"), "share 1 label files"),
        (lambda d: (d / "ImageSets" / "Main" / "val.txt").write_text("c\nc\n"), "twice"),
        (lambda d: [p.unlink() for p in (d / "ImageSets" / "Main").iterdir()], "without splits"),
        (lambda d: (d / "ImageSets" / "Main" / "val.txt").write_bytes(b"\xff"), "val.txt cannot be read"),
        (lambda d: (d / "classes.txt").write_bytes(b"\xff"), "classes.txt cannot be read"),
    ],
)
def test_load_dataset__names_what_is_wrong_with_voc(tmp_path, change, words):
    folder = voc(tmp_path / "pets")
    change(folder)
    with pytest.raises(DataError) as caught:
        read_split(load_dataset(folder), "val")
    assert words in str(caught.value)
    assert "images/val" not in str(caught.value)  # the mirror's


@pytest.mark.parametrize("text", ["", None, "x\ny\n"])
def test_load_dataset__voc_without_val_images_says_so_when_val_is_read(tmp_path, text):
    folder = voc(tmp_path / "pets")
    path = folder / "ImageSets" / "Main" / "val.txt"
    path.unlink() if text is None else path.write_text(text)
    dataset = load_dataset(folder)
    assert len(read_split(dataset, "train")) == 2
    with pytest.raises(DataError, match="no val images"):
        read_split(dataset, "val")


def test_voc_dataset__is_none_elsewhere(tmp_path):
    assert voc_dataset(tmp_path) is None


def test_load_dataset__bccd_as_supervision_reads_it(test_data):
    """All 364 images of a real dataset: the same images, classes and boxes as another library's reader finds."""
    import supervision

    folder = test_data / "bccd"
    reference = supervision.DetectionDataset.from_pascal_voc(str(folder / "JPEGImages"), str(folder / "Annotations"))
    dataset = load_dataset(folder)
    assert sorted(reference.classes) == list(dataset.names.values()) == ["Platelets", "RBC", "WBC"]
    seen = 0
    for split, images in {"train": 205, "val": 87, "test": 72}.items():
        truth = json.loads(dataset.annotations[split].read_text())
        samples = read_split(dataset, split)
        assert len(samples) == len(truth["images"]) == images
        for image, sample in zip(truth["images"], samples, strict=True):
            assert image["file_name"] == sample.image.name
            expected = reference.annotations[str(folder / "JPEGImages" / image["file_name"])]
            own = [a for a in truth["annotations"] if a["image_id"] == image["id"]]
            assert np.allclose([_corners(a["bbox"]) for a in own], expected.xyxy)
            names = [reference.classes[c] for c in expected.class_id]
            assert [dataset.names[a["category_id"]] for a in own] == names
            inside = np.unique(
                np.c_[[a["category_id"] for a in own], np.clip(expected.xyxy, 0, [640, 480] * 2)], axis=0
            )
            assert np.allclose(np.unique(np.c_[sample.classes, sample.boxes].round(4), axis=0), inside, atol=1e-3)
            seen += len(own)
    assert seen == 4888


def _corners(box):
    x, y, w, h = box
    return [x, y, x + w, y + h]
