import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from yolo_mha.data.dataset import image_files, load_dataset, read_split
from yolo_mha.errors import DataError, YoloMHAError
from yolo_mha.scoring.val import class_order


def dataset(folder: Path, labels: dict[str, str | None], **extra) -> Path:
    """Write a dataset of 40x20 pictures; a label of None means no label file."""
    for split in ("train", "val"):
        (folder / "images" / split).mkdir(parents=True)
        (folder / "labels" / split).mkdir(parents=True)
        for stem, text in labels.items():
            cv2.imwrite(str(folder / "images" / split / f"{stem}.png"), np.zeros((20, 40, 3), np.uint8))
            if text is not None:
                (folder / "labels" / split / f"{stem}.txt").write_text(text)
    content = {"train": "images/train", "val": "images/val", "names": ["a", "b"], **extra}
    (folder / "data.yaml").write_text(yaml.safe_dump(content))
    return folder / "data.yaml"


def test_read_split__boxes_in_pixels_with_full_precision(tmp_path):
    labels = {
        "box": "1 0.5 0.5 0.123456789 0.2\n",
        "polygon": "0 0.1 0.2 0.3 0.2 0.3 0.8\n",
        "twice": "0 0.5 0.5 0.1 0.1\n0 0.5 0.5 0.1 0.1\n",
        "empty": "",
        "none": None,
    }
    samples = {s.image.stem: s for s in read_split(load_dataset(dataset(tmp_path, labels)), "val")}
    assert list(samples) == sorted(labels)
    half = 0.123456789 / 2
    assert np.allclose(samples["box"].boxes, [[(0.5 - half) * 40, 8, (0.5 + half) * 40, 12]], rtol=0, atol=1e-12)
    assert samples["box"].classes.tolist() == [1]
    assert np.allclose(samples["polygon"].boxes, [[4, 4, 12, 16]])
    assert len(samples["twice"].boxes) == 1
    assert samples["empty"].boxes.shape == samples["none"].boxes.shape == (0, 4)
    assert (samples["none"].width, samples["none"].height) == (40, 20)


def test_load_dataset__path_left_out_means_the_folder_of_the_yaml(tmp_path):
    data = load_dataset(dataset(tmp_path, {"x": "0 .5 .5 .1 .1"}))
    assert image_files(data, "val") == [tmp_path / "images" / "val" / "x.png"]


def test_load_dataset__names_come_in_the_order_of_their_indices(tmp_path):
    data = load_dataset(dataset(tmp_path, {"x": "0 .5 .5 .1 .1"}, names={1: "b", 0: "a"}))
    assert list(data.names.items()) == [(0, "a"), (1, "b")]
    assert class_order({1: "b", 0: "a"}, data) is None
    assert class_order({1: "a", 0: "b"}, data) == [1, 0]


def test_load_dataset__takes_a_list_file(tmp_path):
    path = dataset(tmp_path, {"x": "0 .5 .5 .1 .1", "y": None}, val="val.txt")
    (tmp_path / "val.txt").write_text("./images/val/y.png\n")
    assert [p.name for p in image_files(load_dataset(path), "val")] == ["y.png"]


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("0 0.5 0.5 0.1\n", "4 columns"),
        ("2 0.5 0.5 0.1 0.1\n", "class 2, and the last is 1"),
        ("0 50 50 10 10\n", "not fractions"),
        ("0 0.5 0.5 nan 0.1\n", "not fractions"),
        ("0.5 0.5 0.5 0.1 0.1\n", "no class index"),
        ("cat 0.5 0.5 0.1 0.1\n", "could not convert"),
        ("0 0.5 0.5 -0.1 0.1\n", "negative size"),
        ("inf 0.5 0.5 0.1 0.1\n", "no class index"),
    ],
)
def test_read_split__names_a_broken_label(tmp_path, label, words):
    data = load_dataset(dataset(tmp_path, {"good": "0 .5 .5 .1 .1", "bad": label}))
    with pytest.raises(DataError) as caught:
        read_split(data, "val")
    assert words in str(caught.value)
    assert "bad.txt" in str(caught.value)


def test_image_files__refuses_a_path_that_no_file_can_have(tmp_path):
    path = dataset(tmp_path, {"x": "0 .5 .5 .1 .1"}, val="val.txt")
    (tmp_path / "val.txt").write_text(f"./{'9' * 300}.png\n")
    with pytest.raises(DataError, match="1 val images are listed with a path that no file can have"):
        image_files(load_dataset(path), "val")


def test_image_files__refuses_a_name_that_is_not_utf8(tmp_path):
    path = dataset(tmp_path, {"x": "0 .5 .5 .1 .1"})
    shutil.copy(tmp_path / "images" / "val" / "x.png", os.fsencode(tmp_path / "images" / "val") + b"/stra\xdfe.png")
    with pytest.raises(DataError, match="1 val images have a name that is not UTF-8") as caught:
        image_files(load_dataset(path), "val")
    str(caught.value).encode()


def test_image_files__refuses_a_list_that_is_no_text(tmp_path):
    path = dataset(tmp_path, {"x": "0 .5 .5 .1 .1"}, val="val.txt")
    (tmp_path / "val.txt").write_bytes("./images/val/x.png".encode("utf-16"))
    with pytest.raises(DataError, match=r"val\.txt cannot be read"):
        image_files(load_dataset(path), "val")


def test_read_split__names_broken_images(tmp_path):
    data = load_dataset(dataset(tmp_path, {"good": "0 .5 .5 .1 .1"}))
    for i in range(7):
        (tmp_path / "images" / "val" / f"bad{i}.jpg").write_bytes(b"no picture")
    with pytest.raises(DataError, match="7 of 8 val images") as caught:
        read_split(data, "val")
    assert "and 2 more" in str(caught.value)


def test_read_split__a_cut_off_jpeg_is_broken_and_bytes_behind_the_end_are_not(tmp_path):
    data = load_dataset(dataset(tmp_path, {"good": "0 .5 .5 .1 .1"}))
    whole = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))[1].tobytes()
    (tmp_path / "images" / "val" / "more.jpg").write_bytes(whole + b"more")
    assert len(read_split(data, "val")) == 2
    (tmp_path / "images" / "val" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "images" / "val" / ".hidden.jpg").write_bytes(b"ignored, as Ultralytics does")
    with pytest.raises(DataError, match="1 of 3 val images"):
        read_split(data, "val")


def test_read_split__a_picture_of_floats_is_named(tmp_path):
    """Ultralytics would train on a black one."""
    data = load_dataset(dataset(tmp_path, {"good": "0 .5 .5 .1 .1"}))
    cv2.imwrite(str(tmp_path / "images" / "val" / "deep.tif"), np.full((64, 64), 9, np.uint16))
    assert len(read_split(data, "val")) == 2
    cv2.imwrite(str(tmp_path / "images" / "val" / "floats.tif"), np.full((64, 64), 0.5, np.float32))
    with pytest.raises(DataError, match=r"floats\.tif: 32-bit float values"):
        read_split(data, "val")


def test_read_split__refuses_a_split_without_labels(tmp_path):
    data = load_dataset(dataset(tmp_path, {"x": None, "y": ""}))
    with pytest.raises(DataError, match="No val image has a label"):
        read_split(data, "val")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"val": None}, "add val:"),
        ({"names": None}, "incomplete"),
        ({"names": {0: "a", 2: "b"}}, "gaps"),
        ({"names": 5}, "unusable"),
        ({"nc": 3}, "differ"),
        ({"val": "images/nowhere"}, "missing"),
        ({"val": "labels/val"}, "no val images"),
        ({"path": 5}, "unusable"),
        ({"test": [5]}, "unusable"),
        ({"nc": "abc"}, "unusable"),
        ({"channels": None}, "channels: of"),
        ({"channels": True}, "channels: of"),
        ({"names": {None: "a"}}, "unusable"),
        ({"val": ["images/val", "images/val"]}, "listed twice"),
        ({"val": "a\0b"}, "val: of"),
        ({"val": ["images/val", "x" * 300]}, "val: of"),
        ({"path": "x" * 5000}, "path: of"),
        ({"annotations": {"val": "a\0.json"}}, "annotations: of"),
        ({"nc": float("inf")}, "nc: of"),
        ({"names": None, "nc": 10**18}, "nc: of"),
    ],
)
def test_load_dataset__says_what_is_wrong(tmp_path, change, words):
    path = dataset(tmp_path, {"x": "0 .5 .5 .1 .1"}, **change)
    with pytest.raises(DataError) as caught:
        image_files(load_dataset(path), "val")
    assert words in str(caught.value)


def test_load_dataset__beacons_is_generated_where_one_works(tmp_path):
    assert load_dataset("beacons").yaml == tmp_path / "runs" / "beacons" / "data.yaml"


@pytest.mark.parametrize("data", ["nowhere.yaml", 5, [], "", b"x", "x" * 5000, "https://example.org/data.yaml"])
def test_load_dataset__refuses(data):
    with pytest.raises(YoloMHAError):
        load_dataset(data)


def test_load_dataset__a_download_entry_is_fine_where_the_images_are_there(tmp_path):
    path = dataset(tmp_path, {"x": "0 .5 .5 .1 .1"}, download="https://example.org/x.zip")
    assert read_split(load_dataset(path), "val")


def test_read_split__refuses_what_ultralytics_would_drop(tmp_path):
    path = dataset(tmp_path, {"mixed": "0 .5 .5 .1 .1\n0 .1 .1 .2 .1 .2 .2\n", "good": "0 .5 .5 .1 .1"})
    cv2.imwrite(str(tmp_path / "images" / "val" / "tiny.png"), np.zeros((9, 40, 3), np.uint8))
    with pytest.raises(DataError, match="2 of 3 val images") as caught:
        read_split(load_dataset(path), "val")
    assert "mixed.txt" in str(caught.value)
    assert "40x9 pixels" in str(caught.value)


def test_read_split__exif_rotation_counts(tmp_path):
    from PIL import Image

    path = dataset(tmp_path, {"x": "0 .5 .5 .5 .5"})
    turned = Image.new("RGB", (40, 20))
    exif = turned.getexif()
    exif[274] = 6  # rotated by a quarter
    turned.save(tmp_path / "images" / "val" / "x.jpg", exif=exif)
    (tmp_path / "images" / "val" / "x.png").unlink()
    sample = read_split(load_dataset(path), "val")[0]
    assert (sample.width, sample.height) == (20, 40)
    assert cv2.imread(str(sample.image)).shape[:2] == (40, 20)
