import numpy as np
import pytest

import yolo_mha
from yolo_mha.engine.own_settings import checked, python_values
from yolo_mha.engine.settings import (
    check,
    check_trains_on,
    class_names,
    imgsz_notes,
    in_working_directory,
    not_by_name,
    parse,
)
from yolo_mha.errors import ConfigError


def test_parse__reads_values_as_ultralytics_does():
    words = ["epochs=3", "lr0=1e-3", "device=cpu", "imgsz=[480,640]", "rect=true", "name=None", "x=a=b"]
    assert parse(words) == {
        "epochs": 3,
        "lr0": 1e-3,
        "device": "cpu",
        "imgsz": [480, 640],
        "rect": True,
        "name": None,
        "x": "a=b",
    }
    names = {"name": "2024_11_23", "project": "1e5", "source": "0x10", "data": "007"}
    assert parse([f"{key}={value}" for key, value in names.items()]) == names
    assert parse(["source=0", "name=5"]) == {"source": 0, "name": 5}
    assert parse(["demo.yaml", "epochs=1"], positional="recipe") == {"recipe": "demo.yaml", "epochs": 1}


@pytest.mark.parametrize("words", [["epochs"], ["=3"], ["epochs=1", "epochs=2"], ["--epochs", "3"]])
def test_parse__refuses(words):
    with pytest.raises(ConfigError):
        parse(words)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"epoch": 3}, "did you mean epochs"),
        ({"frobnicate": 3}, "see --help"),
        ({"mode": "train"}, "Unknown setting"),
        ({"epochs": "many"}, "epochs=many"),
        ({"epochs": 0}, "epochs=0"),
        ({"optimizer": "Adm"}, "did you mean Adam"),
        ({"format": "onxx"}, "did you mean onnx"),
        ({"split": "vall"}, "one of train, val, test"),
        ({"split": "all"}, "one of train, val, test"),
        ({"conf": 7}, "conf=7"),
        ({"imgsz": 0}, "positive number"),
        ({"imgsz": None, "batch": 0}, "1 or more"),
        ({"batch": 1.5}, "1 or more"),
        ({"epochs": True}, "1 or more"),
        ({"freeze": "abc"}, "layer numbers"),
        ({"classes": "abc"}, "class indices"),
        ({"classes": []}, "class indices"),
        ({"imgsz": [320, 640, 3]}, "[height, width]"),
        ({"line_width": -5}, "1 or more pixels"),
        ({"cache": "banana"}, "ram or disk"),
        ({"device": "cuda:7"}, "device"),
    ],
)
def test_check__names_the_nearest_valid(settings, words):
    with pytest.raises(ConfigError) as caught:
        check(settings)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("wbc", ["wbc"]),
        ("wbc, rbc", ["wbc", "rbc"]),
        ("['wbc','rbc']", ["wbc", "rbc"]),
        ([0, "rbc"], ["rbc"]),
        ([0, 1], []),
        ((0, 1), []),
        (1, []),
        (None, []),
    ],
)
def test_class_names__are_the_words(given, words):
    assert class_names({"classes": given}) == words


def test_not_by_name__says_the_indices():
    names = {0: "RBC", 1: "WBC"}
    assert not_by_name(["wbc"], names).expected == "classes=1"
    assert not_by_name(["wbc", "RBC"], names).expected == "classes=1,0"
    assert "0 RBC, 1 WBC" in not_by_name(["wbc", "dog"], names).expected
    assert "no such class" in not_by_name(["dog"], names).problem


@pytest.mark.parametrize(
    ("given", "used", "notes"),
    [
        (None, [64, 64], 0),
        (64, [64, 64], 0),
        ([64, 64], 64, 0),
        ((64, 96), [64, 96], 0),
        (100, [128, 128], 1),
        ([96, 64], [64, 96], 1),
    ],
)
def test_imgsz_notes__where_two_sizes_differ(given, used, notes):
    assert len(imgsz_notes(given, used)) == notes


def test_check__keeps_the_settings_of_ultralytics():
    assert check({"epochs": 3, "jobs": 2}, own=["jobs"]) == {"epochs": 3}


@pytest.mark.parametrize("device", ["tpu", "intel:gpu", "vulkan"])
def test_check_trains_on__refuses_devices_of_exported_models(device):
    for use in (
        lambda: check_trains_on({"device": device}),
        lambda: yolo_mha.train("demo-mha.yaml", "beacons", device=device),
        lambda: yolo_mha.compare("demo-mha.yaml", "beacons", attention="demo-mha.yaml", device=device),
    ):
        with pytest.raises(ConfigError, match="cannot train"):
            use()
    check_trains_on({"device": "cpu"})
    check_trains_on({})


def test_outputs_go_below_the_working_directory(tmp_path):
    assert in_working_directory({})["project"] == str(tmp_path / "runs" / "detect")
    assert in_working_directory({"project": "mine"})["project"] == str(tmp_path / "mine")
    assert in_working_directory({"project": "/abs"})["project"] == "/abs"


@pytest.mark.parametrize(
    ("given", "same"),
    [
        (np.int64(64), 64),
        (np.float64(0.5), 0.5),
        (np.bool_(True), True),
        (np.str_("P5"), "P5"),
        (np.arange(3), [0, 1, 2]),
        (np.array(4), 4),
        ([np.int64(0), (np.int32(1), "a")], [0, (1, "a")]),
        ({"arm": {np.int64(0): "a.pt"}}, {"arm": {0: "a.pt"}}),
        (range(3), range(3)),
        (None, None),
    ],
)
def test_python_values__of_numpy(given, same):
    assert repr(python_values(given)) == repr(same)


def test_checked__hands_on_values_of_python_and_images_as_they_are():
    def predict(*args, **kwargs):
        return args, kwargs

    image = np.zeros((4, 4, 3), np.uint8)
    (model, source), kwargs = checked(predict)("m.pt", image, imgsz=np.int64(64), max_pixels=np.int64(9))
    assert source is image
    assert model == "m.pt"
    assert repr(kwargs) == "{'imgsz': 64, 'max_pixels': 9}"
    assert checked(predict)(source=[image])[1]["source"][0] is image


def test_commands__take_numbers_of_numpy(tmp_path):
    yolo_mha.insert("yolo11n.yaml", "P5", out=tmp_path / "x.yaml", num_heads=np.int64(4))
    assert "{num_heads: 4}" in (tmp_path / "x.yaml").read_text()
    with pytest.raises(ConfigError, match="epochs has"):  # and none of the others, which are checked before
        yolo_mha.compare(
            "demo-mha.yaml",
            "beacons",
            attention="demo-mha.yaml",
            imgsz=np.int64(64),
            batch=np.int32(2),
            seeds=np.arange(3),
            margin=np.float64(0.02),
            epochs=np.int64(0),
        )
