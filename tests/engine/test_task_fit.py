import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from ultralytics.cfg import get_cfg
from ultralytics.data.dataset import ClassificationDataset, YOLODataset
from ultralytics.data.utils import check_cls_dataset, check_det_dataset

import yolo_mha
from yolo_mha.data.beacons import generate
from yolo_mha.engine.task_fit import fitting_dataset
from yolo_mha.errors import DataError, YoloMHAError

XML = "<annotation><object><name>cat</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
XML += "</object></annotation>"


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jpg":
        cv2.imwrite(str(path), np.full((40, 40, 3), 90, np.uint8))
    else:
        path.write_text(text)


def voc(folder):
    for i in range(4):
        write(folder / "JPEGImages" / f"{i}.jpg", "")
        write(folder / "Annotations" / f"{i}.xml", XML)
    for split in ("train", "val"):
        write(folder / "ImageSets" / "Main" / f"{split}.txt", "0\n1\n")
    return folder


def roboflow(folder):
    for split in ("train", "valid"):
        for i in range(2):
            write(folder / split / "images" / f"{i}.jpg", "")
            write(folder / split / "labels" / f"{i}.txt", "0 0.5 0.5 0.5 0.5\n")
    return folder


def classes(folder):
    for name in ("cat", "dog"):
        write(folder / name / "0.jpg", "")
    return folder


def everything(folder):
    return {p.relative_to(folder): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def unended(image):
    image.write_bytes(image.read_bytes() + b"more")


@pytest.mark.parametrize("task", ["classify", "segment", "pose", "obb"])
@pytest.mark.parametrize("layout", [voc, roboflow, lambda folder: generate(folder, 2, 2).parent])
def test_fitting_dataset__refuses_boxes(task, layout, tmp_path):
    with pytest.raises(DataError, match="for another task than the model"):
        fitting_dataset(task, layout(tmp_path / "data"), ["train"])


@pytest.mark.parametrize("begin", ["./", "{root}/"])
def test_fitting_dataset__refuses_boxes_of_a_list_of_images(begin, tmp_path):
    data = generate(tmp_path / "data", 2, 2)
    names = [f"images/train/{p.name}" for p in (data.parent / "images" / "train").iterdir()]
    (data.parent / "train.txt").write_text("".join(f"{begin.format(root=data.parent)}{name}\n" for name in names))
    data.write_text(data.read_text().replace("images/train", "train.txt"))
    with pytest.raises(DataError, match="for another task than the model"):
        fitting_dataset("segment", data, ["train"])
    with pytest.raises(DataError, match="for another task than the model") as refused:
        fitting_dataset("classify", data, ["train"])
    assert "folders train and val" in str(refused.value)


@pytest.mark.parametrize(
    ("task", "row", "more"),
    [
        ("segment", "0 0.2 0.2 0.8 0.2 0.5 0.8", ""),
        ("obb", "0 0.2 0.2 0.8 0.2 0.8 0.8 0.2 0.8", ""),
        ("pose", "0 0.5 0.5 0.5 0.5 0.4 0.4 2", "kpt_shape: [1, 3]\n"),
    ],
)
def test_fitting_dataset__labels_are_read_and_the_folder_stays(task, row, more, tmp_path):
    data = generate(tmp_path / "data", 2, 2)
    data.write_text(data.read_text() + more)
    for label in (tmp_path / "data" / "labels").rglob("*.txt"):
        label.write_text(row + "\n")
    image = min((tmp_path / "data" / "images" / "train").iterdir())
    cv2.imwrite(str(image.with_suffix(".jpg")), cv2.imread(str(image)))
    image.unlink()
    unended(image.with_suffix(".jpg"))
    before = everything(tmp_path / "data")
    made = fitting_dataset(task, data, ["train", "val"])
    assert fitting_dataset(task, made, ["train", "val"]) == made  # as a run that goes on asks for it
    content = check_det_dataset(str(made))
    read = YOLODataset(img_path=content["train"], data=content, task=task, imgsz=32)
    assert len(read.labels) == 2
    assert all(len(label["cls"]) == 1 for label in read.labels)
    assert read.labels[0].get("keypoints") is not None if task == "pose" else len(read.labels[0]["segments"]) == 1
    assert everything(tmp_path / "data") == before


def test_fitting_dataset__class_folders_are_read_and_stay(tmp_path, monkeypatch):
    for split in ("train", "val"):
        classes(tmp_path / "data" / split)
    (tmp_path / "data" / "train" / "bird").mkdir()
    (tmp_path / "elsewhere").mkdir()
    write(tmp_path / "elsewhere" / "1.jpg", "")
    (tmp_path / "data" / "train" / "emu").symlink_to(tmp_path / "elsewhere")
    unended(tmp_path / "data" / "train" / "cat" / "0.jpg")
    odd = os.fsencode(tmp_path / "data" / "train" / "cat") + b"/caf\xe9.jpg"
    shutil.copy(tmp_path / "elsewhere" / "1.jpg", odd)
    with pytest.raises(DataError, match="1 files have a name that is not UTF-8"):
        fitting_dataset("classify", tmp_path / "data", ["train"])
    os.unlink(odd)
    before = everything(tmp_path / "data")
    made = fitting_dataset("classify", tmp_path / "data", ["train", "val"])
    assert fitting_dataset("classify", made, ["train", "val"]) == made
    (tmp_path / "data" / "train" / "cat" / "around").symlink_to(tmp_path / "data")
    before = everything(tmp_path / "data")
    monkeypatch.chdir(tmp_path / "data")  # where runs/datasets is then below it
    assert len(list(fitting_dataset("classify", Path(), ["train"]).rglob("*.jpg"))) == 5
    assert len(list(fitting_dataset("classify", Path(), ["train"]).parent.iterdir())) == 1
    shutil.rmtree(tmp_path / "data" / "runs")
    assert check_cls_dataset(made)["names"] == {0: "bird", 1: "cat", 2: "dog", 3: "emu"}
    read = ClassificationDataset(made / "train", get_cfg())
    assert [index for _, index, *_ in read.samples] == [1, 2, 3]
    assert (made / "train.cache").is_file()
    assert everything(tmp_path / "data") == before


@pytest.mark.parametrize(("make", "words"), [(voc, "Pascal VOC labels of boxes"), (classes, "folders train and val")])
def test_train__refuses_for_classification_and_writes_nothing(make, words, tmp_path):
    """Boxes; and classes without a split, where Ultralytics would write one beside the data."""
    folder = make(tmp_path / "data")
    before = everything(tmp_path)
    with pytest.raises(DataError, match=words):
        yolo_mha.train("yolo11n-cls.yaml", folder, epochs=1, imgsz=32)
    assert everything(tmp_path) == before


@pytest.mark.parametrize("command", [yolo_mha.train, yolo_mha.val, yolo_mha.compare])
def test_commands__refuse_key_points_and_folders_of_classes_for_detection(command, tmp_path):
    data = generate(tmp_path / "data", 2, 2)
    data.write_text(data.read_text() + "kpt_shape: [2, 3]\n")
    settings = {yolo_mha.val: {}, yolo_mha.train: {"epochs": 1}}.get(
        command, {"epochs": 1, "attention": "demo-mha.yaml"}
    )
    with pytest.raises(DataError, match="another task than detection"):
        command("demo-baseline.yaml" if settings else "demo-mha.pt", data, **settings)
    with pytest.raises(DataError, match="is not a dataset"):
        command("demo-baseline.yaml" if settings else "demo-mha.pt", classes(tmp_path / "classes"), **settings)


@pytest.mark.parametrize("command", [yolo_mha.val, yolo_mha.compare])
def test_commands__refuse_models_of_other_tasks(command, tmp_path):
    with pytest.raises(YoloMHAError, match="box detection only"):
        command("yolo11n-cls.yaml", voc(tmp_path / "data"), **({"at": "P5"} if command is yolo_mha.compare else {}))


def test_train__a_classifier_begins_with_its_gates_as_they_were_asked_for(tmp_path, tiny):
    found = []

    def look(trainer) -> None:
        found.extend(m.weight.unique().tolist() for m in trainer.model.modules() if isinstance(m, yolo_mha.nn.Gate))

    for split in ("train", "val"):
        classes(tmp_path / "data" / split)
    where = {"at": "P5", "gate_init": 0.25, "callbacks": {"on_train_start": look}}
    yolo_mha.train("yolo11n-cls.yaml", tmp_path / "data", **where, **{**tiny, "imgsz": 32})
    assert found == [[0.25]]


@pytest.mark.slow
def test_train__classification_and_segmentation_still_start(tmp_path, tiny):
    for split in ("train", "val"):
        classes(tmp_path / "data" / split)
    assert yolo_mha.train("yolo11n-cls.yaml", tmp_path / "data", **{**tiny, "imgsz": 32}).epochs == 1
    data = generate(tmp_path / "shapes", 2, 2)
    for label in (tmp_path / "shapes" / "labels").rglob("*.txt"):
        label.write_text("0 0.2 0.2 0.8 0.2 0.5 0.8\n")
    assert yolo_mha.train("yolo11n-seg.yaml", data, **tiny).epochs == 1
