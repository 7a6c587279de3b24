import json
from pathlib import Path

import cv2
import pytest
import yaml

import yolo_mha
from yolo_mha.data.beacons import draw
from yolo_mha.errors import ConfigError, DataError, UnsupportedTaskError
from yolo_mha.paths import shipped

DEMO = shipped("weights") / "demo-mha.pt"


def test_val__scores_the_shipped_model_and_agrees_with_its_own_files(tmp_path):
    from yolo_mha.data.beacons import generate

    data = generate(tmp_path / "data", train=2, val=24, seed=1)
    result = yolo_mha.val(DEMO, data, imgsz=192, batch=8, device="cpu")
    assert result.coco.metrics["AP50"] > 0.9
    assert abs(result.ultralytics["mAP50"] - result.coco.metrics["AP50"]) < 0.03
    assert set(result.coco.per_class) == {"day", "night", "beacon"}
    assert result.settings["imgsz"] == 192

    folder = Path(result.predictions).parent
    assert json.loads((folder / "scores.json").read_text())["metrics"] == result.coco.metrics
    again = yolo_mha.val(predictions=result.predictions, annotations=result.annotations)
    assert again.coco == result.coco


def test_val__odd_sizes_give_boxes_in_pixels_of_the_original(tmp_path):
    """Pictures padded to another shape: the same objects at the same pixels are found, through letterbox and back."""
    for i in range(6):
        image, labels = draw(1, i)
        padded = cv2.copyMakeBorder(image, 0, 37, 0, 0, cv2.BORDER_REPLICATE)
        labels[:, [2, 4]] *= 192 / 229
        for folder in ("images", "labels"):
            (tmp_path / "d" / folder).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / "d" / "images" / f"{i}.png"), padded)
        rows = "".join(f"{int(c)} {x} {y} {w} {h}\n" for c, x, y, w, h in labels)
        (tmp_path / "d" / "labels" / f"{i}.txt").write_text(rows)
    names = ["day", "night", "beacon"]
    (tmp_path / "d" / "data.yaml").write_text(yaml.safe_dump({"train": "images", "val": "images", "names": names}))
    result = yolo_mha.val(DEMO, tmp_path / "d" / "data.yaml", imgsz=232, device="cpu", batch=3)
    assert result.coco.per_class["beacon"]["AP50"] > 0.8


@pytest.mark.parametrize("settings", [{"classes": [2]}, {"single_cls": True}])
def test_val__refuses_to_score_other_classes_than_the_dataset_has(beacons, settings):
    with pytest.raises(ConfigError, match="all classes"):
        yolo_mha.val(DEMO, beacons, **settings)


@pytest.mark.parametrize(
    "arguments",
    [{}, {"model": DEMO}, {"predictions": "a.json"}, {"predictions": "a", "annotations": "b", "model": "c"}],
)
def test_val__refuses_incomplete_settings(arguments):
    with pytest.raises(ConfigError):
        yolo_mha.val(**arguments)


def test_val__refuses_other_classes_and_other_tasks(beacons, tmp_path):
    content = yaml.safe_load(beacons.read_text())
    content["names"] = ["night", "day", "beacon"]
    content["path"] = str(beacons.parent)
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(DataError, match="classes are not the dataset's"):
        yolo_mha.val(DEMO, tmp_path / "other.yaml", imgsz=64, device="cpu")
    with pytest.raises(UnsupportedTaskError):
        yolo_mha.val("yolov8n-seg.yaml", beacons)
