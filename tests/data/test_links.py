from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from ultralytics.data.dataset import YOLODataset

from yolo_mha.data.dataset import load_dataset, read_dataset
from yolo_mha.errors import DataError

from .formats import coco, voc


def listed(folder: Path, names: list[str]) -> Path:
    """Write a dataset whose validation images are listed in a file, with folders between."""
    for number, name in enumerate(names):
        image = folder / name
        image.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(image), np.full((20 + number, 40, 3), number, np.uint8))
        label = Path(str(image).replace("/images/", "/labels/")).with_suffix(".txt")
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text(f"{number % 2} 0.5 0.5 0.5 0.5\n")
    (folder / "val.txt").write_text("".join(f"./{name}\n" for name in names))
    content = {"train": "val.txt", "val": "val.txt", "names": ["a", "b"], "channels": 3}
    (folder / "data.yaml").write_text(yaml.safe_dump(content))
    return folder / "data.yaml"


def test_link_split__keeps_names_and_order(tmp_path):
    """Of folders within each other, folders of like names, hidden files, and labels beside the images."""
    names = ["images/b/x.png", "images/b-c/x.png", "images/a.png", "images/b/z/x.png", "images/b/y.png"]
    names += ["images/b/.hidden.png", "other/x.png", "images/[1]/x.png", "images/h\u00fc/x y.png"]
    data = listed(tmp_path / "x", names)
    read = read_dataset(load_dataset(data), ["val"])
    samples = read.samples["val"]
    images = [str(s.image) for s in samples]
    assert images == sorted(str(data.parent / name) for name in names)
    assert [s.link.name.removeprefix("_") for s in samples] == [s.image.name for s in samples]
    theirs = YOLODataset(
        img_path=str(read.dataset.links["val"] / "images"), data={"names": read.dataset.names}, augment=False
    )
    assert theirs.im_files == [str(s.link) for s in samples]
    assert [label["shape"] for label in theirs.labels] == [(s.height, s.width) for s in samples]
    assert [label["cls"].ravel().tolist() for label in theirs.labels] == [s.classes.tolist() for s in samples]


def test_write_yaml__keeps_what_the_dataset_says_of_itself(tmp_path):
    data = listed(tmp_path / "x", ["images/a.png"])
    data.write_text(data.read_text() + "download: https://example.org/x.zip\nauthor: me\n")
    content = yaml.safe_load(read_dataset(load_dataset(data), ["val"]).dataset.yaml.read_text())
    assert (content["channels"], content["author"], content["names"]) == (3, "me", {0: "a", 1: "b"})
    assert "download" not in content
    assert content["mirror_of"] == str(data)
    assert not list(Path(content["train"]).iterdir())  # it was not read


@pytest.mark.parametrize("write", [coco, voc, lambda folder: listed(folder, ["images/a.png"])])
@pytest.mark.parametrize("given", ["x", "./linked", "other/../x"])
def test_read_dataset__is_the_same_from_the_yaml_that_it_wrote(tmp_path, write, given):
    """However its path is given: `compare` reads it again before each run, to find what was changed."""
    write(tmp_path / "x")
    Path("linked").symlink_to("x")
    Path("other").mkdir()
    first = read_dataset(load_dataset(given), ["train", "val"]).dataset.yaml
    assert read_dataset(load_dataset(first), ["train", "val"]).dataset.yaml == first


def test_read_dataset__of_a_link_to_a_yaml_begins_where_the_link_lies(tmp_path):
    data = listed(tmp_path / "x", ["images/a.png"])
    Path("kept.yaml").write_text(data.read_text())
    data.unlink()
    data.symlink_to(Path("kept.yaml").absolute())
    first = read_dataset(load_dataset("x"), ["val"]).dataset.yaml
    assert read_dataset(load_dataset(first), ["val"]).dataset.yaml == first


def test_datasets_folder__has_to_be_there(tmp_path):
    data = listed(tmp_path / "x", ["images/a.png"])
    Path("runs").write_text("a file")
    with pytest.raises(DataError, match="No mirror of the dataset"):
        read_dataset(load_dataset(data), ["val"])
