import hashlib
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

import yolo_mha
from yolo_mha.data.beacons import draw, generate
from yolo_mha.data.dataset import load_dataset
from yolo_mha.errors import ConfigError, DataError, UnsupportedTaskError
from yolo_mha.paths import shipped
from yolo_mha.scoring.val import ValResult, read_scores

DEMO = shipped("weights") / "demo-mha.pt"


def test_val__scores_the_shipped_model_and_agrees_with_its_own_files(tmp_path):
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
    ("arguments", "words"),
    [
        ({}, "one input to score"),
        ({"model": DEMO}, "one input to score"),
        ({"predictions": "a.json"}, "one input to score"),
        ({"annotations": "a.json", "data": "beacons"}, "one input to score"),
        ({"predictions": "a", "annotations": "b", "model": "c"}, "one input to score"),
        ({"predictions": "a", "data": "b", "conf": 0.5, "imgsz": 64}, "conf=0.5 imgsz=64"),
        ({"predictions": "a", "annotations": "b", "split": "test"}, "cannot be combined with annotations"),
        ({"model": DEMO, "data": "beacons", "backend": "fast"}, "Unknown backend"),
    ],
)
def test_val__refuses_incomplete_settings(arguments, words):
    with pytest.raises(ConfigError) as caught:
        yolo_mha.val(**arguments)
    assert words in str(caught.value)


def test_val__refuses_other_classes_and_other_tasks(beacons, tmp_path):
    content = yaml.safe_load(beacons.read_text())
    content["names"] = ["night", "dawn", "beacon"]
    content["path"] = str(beacons.parent)
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(DataError, match="classes are not the dataset's"):
        yolo_mha.val(DEMO, tmp_path / "other.yaml", imgsz=64, device="cpu")
    with pytest.raises(UnsupportedTaskError):
        yolo_mha.val("yolov8n-seg.yaml", beacons)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory) -> Path:
    return generate(tmp_path_factory.mktemp("shapes"), train=2, val=12, seed=1)


@pytest.fixture(scope="module")
def expected(shapes, tmp_path_factory) -> ValResult:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("expected"))
        return yolo_mha.val(DEMO, shapes, imgsz=192, device="cpu", rect=False)


def test_val__classes_in_another_order_are_matched_by_name(shapes, expected, tmp_path):
    """The same pictures with renumbered labels give the same scores, in Ultralytics' own numbers too."""
    order = {"0": "2", "1": "0", "2": "1"}  # day, night, beacon become night, beacon, day
    shutil.copytree(shapes.parent, tmp_path / "d")
    for label in (tmp_path / "d" / "labels").rglob("*.txt"):
        label.write_text("".join(f"{order[line[0]]}{line[1:]}\n" for line in label.read_text().splitlines()))
    content = {"train": "images/train", "val": "images/val", "names": ["night", "beacon", "day"]}
    (tmp_path / "d" / "data.yaml").write_text(yaml.safe_dump(content))
    result = yolo_mha.val(DEMO, tmp_path / "d", imgsz=192, device="cpu", rect=False)
    assert result.coco.metrics == pytest.approx(expected.coco.metrics, abs=1e-6)
    assert result.coco.per_class["beacon"] == pytest.approx(expected.coco.per_class["beacon"], abs=1e-6)
    assert result.ultralytics == pytest.approx(expected.ultralytics, abs=1e-6)
    assert any("matched by name" in note for note in result.audit.notes)


def test_val__an_exported_model_scores_as_its_checkpoint(shapes, expected, tmp_path):
    shutil.copy(DEMO, tmp_path / "demo.pt")
    file = yolo_mha.export(tmp_path / "demo.pt", imgsz=192).file
    result = yolo_mha.val(file, shapes, imgsz=320, device="cpu")
    assert result.settings["imgsz"] == 192
    assert result.coco.metrics == pytest.approx(expected.coco.metrics, abs=5e-3)
    assert any("imgsz=320 was given" in note for note in result.audit.notes)


def test_val__a_predictions_file_scores_as_the_model_that_made_it(shapes, expected, tmp_path):
    again = yolo_mha.val(predictions=expected.predictions, data=shapes)
    assert again.coco == expected.coco
    assert again.audit.prediction_ids == "images by file_name, categories by category_name"
    assert Path(again.curves).is_file()
    results = json.loads(Path(expected.predictions).read_text())
    for r in results:
        del r["file_name"], r["category_name"]
    (tmp_path / "p.json").write_text(json.dumps(results))
    assert yolo_mha.val(predictions=tmp_path / "p.json", data=shapes, plots=False).coco == expected.coco


def test_val__writes_every_digit_of_the_model(expected):
    """The model computes in float32; rounding to five decimals would make scores equal that are not."""
    results = json.loads(Path(expected.predictions).read_text())
    numbers = np.array([[r["score"], *r["bbox"][:2]] for r in results])
    np.testing.assert_array_equal(numbers, numbers.astype(np.float32))
    assert (numbers[:, 0] != numbers[:, 0].round(5)).mean() > 0.9


def test_read_scores__of_a_moved_folder_equals_what_val_returned(expected, tmp_path):
    folder = shutil.copytree(Path(expected.predictions).parent, tmp_path / "moved")
    found = read_scores(folder)
    assert (found.coco, found.settings, found.audit) == (expected.coco, expected.settings, expected.audit)
    assert (found.predictions, found.annotations) == (
        str(folder / "predictions.json"),
        str(folder / "annotations.json"),
    )
    written = json.loads((folder / "scores.json").read_text())
    digest = written.pop("predictions_sha256")
    assert found.as_dict() == {**written, "predictions": found.predictions, "annotations": found.annotations}
    assert digest == hashlib.sha256((folder / "predictions.json").read_bytes()).hexdigest()


def test_read_scores__is_none_where_the_predictions_are_not_those_that_were_scored(expected, tmp_path):
    folder = shutil.copytree(Path(expected.predictions).parent, tmp_path / "changed")
    (folder / "predictions.json").write_text("[]")
    assert read_scores(folder) is None
    (folder / "predictions.json").unlink()
    assert read_scores(folder) is None


@pytest.mark.parametrize("text", [None, "", "[]", "5", '{"metrics": {}}', '{"metrics": {}, "audit": 5}'])
def test_read_scores__is_none_where_scoring_did_not_end(tmp_path, text):
    if text is not None:
        (tmp_path / "scores.json").write_text(text)
    assert read_scores(tmp_path) is None


@pytest.mark.parametrize("key", ["data", "annotations"])
def test_val__says_that_faint_predictions_are_missing(shapes, expected, tmp_path, key):
    """With them nothing is said, and the file of a model's own scoring has them."""
    results = json.loads(Path(expected.predictions).read_text())
    against = shapes if key == "data" else expected.annotations
    notes = {}
    for least in (0, 0.25, 2):
        (tmp_path / "p.json").write_text(json.dumps([r for r in results if r["score"] >= least]))
        scored = yolo_mha.val(predictions=tmp_path / "p.json", plots=False, **{key: against})
        notes[least] = [note for note in scored.audit.notes if "conf=0.001" in note]
    assert (notes[0], len(notes[0.25]), notes[2]) == ([], 1, [])
    assert f"below {min(r['score'] for r in results if r['score'] >= 0.25):.3g}" in notes[0.25][0]
    saved = json.loads(Path("runs/detect/val-2/scores.json").read_text())
    assert saved["audit"]["notes"] == notes[0.25]


def test_val__a_coco_folder_is_scored_with_its_own_ids(shapes, expected, tmp_path):
    """The same pictures as a COCO dataset with ids of its own; the results file fits the file that was given."""
    truth = json.loads(Path(expected.annotations).read_text())
    for split, images in {"train": truth["images"][:2], "val": truth["images"]}.items():
        ids = {image["id"] for image in images}
        content = {
            "images": [{**image, "id": 1000 - image["id"]} for image in images],
            "annotations": [
                {**a, "image_id": 1000 - a["image_id"], "category_id": 10 * a["category_id"] + 3}
                for a in truth["annotations"]
                if a["image_id"] in ids
            ],
            "categories": [{**c, "id": 10 * c["id"] + 3} for c in truth["categories"]],
        }
        path = tmp_path / "coco" / "annotations" / f"instances_{split}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
        shutil.copytree(shapes.parent / "images" / "val", tmp_path / "coco" / split)
    result = yolo_mha.val(DEMO, tmp_path / "coco", imgsz=192, device="cpu", rect=False)
    assert result.coco.metrics == pytest.approx(expected.coco.metrics, abs=1e-6)
    assert result.ultralytics == pytest.approx(expected.ultralytics, abs=1e-3)
    assert result.settings["data"] == str(tmp_path / "coco")
    given = tmp_path / "coco" / "annotations" / "instances_val.json"
    direct = yolo_mha.val(predictions=result.predictions, annotations=given)
    assert direct.coco.metrics == pytest.approx(result.coco.metrics, abs=1e-9)


def test_val__shared_label_files_are_refused(shapes, tmp_path):
    shutil.copytree(shapes.parent, tmp_path / "d")
    image = next((tmp_path / "d" / "images" / "val").glob("*.png"))
    cv2.imwrite(str(image.with_suffix(".jpg")), cv2.imread(str(image)))
    with pytest.raises(DataError, match="share 1 label files"):
        yolo_mha.val(DEMO, tmp_path / "d", imgsz=192, device="cpu")


def test_val__annotations_of_coco_count_crowds(test_data):
    folder = test_data / "coco-eval"
    result = yolo_mha.val(
        predictions=folder / "instances_val2014_fakebbox100_results.json",
        annotations=folder / "instances_val2014_100.json",
    )
    assert result.coco.metrics == pytest.approx(json.loads((folder / "expected.json").read_text()), abs=1e-9)
    truth = json.loads((folder / "instances_val2014_100.json").read_text())
    crowd = sum(a["iscrowd"] for a in truth["annotations"])
    assert (result.audit.crowd, result.audit.objects) == (crowd, len(truth["annotations"]) - crowd)
    assert json.loads((Path(result.curves).parent / "scores.json").read_text())["audit"]["crowd"] == crowd


def test_val__bccd_perfect_predictions_by_file_name(test_data, tmp_path):
    """The XML boxes as predictions, named by file: everything is found, on the real split."""
    dataset = load_dataset(test_data / "bccd")
    truth = json.loads(dataset.annotations["val"].read_text())
    names = {image["id"]: image["file_name"] for image in truth["images"]}
    results = [
        {"image_id": names[a["image_id"]], "category_id": a["category_id"], "bbox": a["bbox"], "score": 0.9}
        for a in truth["annotations"]
    ]
    (tmp_path / "p.json").write_text(json.dumps(results))
    result = yolo_mha.val(predictions=tmp_path / "p.json", data=test_data / "bccd")
    assert result.coco.metrics["AP"] > 0.99
    assert (result.coco.images, result.audit.format) == (87, "Pascal VOC")
    assert result.audit.prediction_ids.startswith("images by file name")


def test_val__group_gives_ap_an_interval(shapes, expected):
    result = yolo_mha.val(DEMO, shapes, imgsz=192, device="cpu", rect=False, group="image", plots=False)
    assert result.coco.metrics == expected.coco.metrics
    assert expected.intervals is None
    for name, found in result.intervals.items():
        assert found.score == result.coco.metrics[name]
        assert found.low <= found.score <= found.high <= 1
        assert (found.images, found.groups) == (12, None)
    written = json.loads((Path(result.predictions).parent / "scores.json").read_text())
    assert written["intervals"]["AP"]["low"] == result.intervals["AP"].low


def test_val__group_of_predictions_is_read_before_anything_is_written(expected, shapes, tmp_path):
    """From a table with data, from file names with annotations; both give the same."""
    names = [image["file_name"] for image in json.loads(Path(expected.annotations).read_text())["images"]]
    (tmp_path / "g.csv").write_text("".join(f"{name},{i % 4}\n" for i, name in enumerate(names)))
    for bad, error in ((r"(x\d)", ConfigError), ("lacking.csv", DataError)):
        for truth in ({"data": shapes}, {"annotations": expected.annotations}):
            with pytest.raises(error, match="group"):
                yolo_mha.val(predictions=expected.predictions, **truth, group=bad)
    assert not (tmp_path / "runs" / "detect").exists()
    for truth in ({"data": shapes}, {"annotations": expected.annotations}):
        result = yolo_mha.val(predictions=expected.predictions, **truth, group="g.csv", plots=False)
        assert (result.intervals["AP"].groups, result.intervals["AP"].low) == (4, None)  # too few
    with pytest.raises(ConfigError, match="All images are in one group"):
        yolo_mha.val(DEMO, shapes, group="folder", imgsz=192)


def videos(frames: int) -> tuple[dict, list[dict]]:
    """Twelve videos that stand still, in some of which the object is missed."""
    ids = range(12 * frames)
    truth = {
        "images": [{"id": i, "file_name": f"v{i // frames}/v{i // frames}_{i % frames}.jpg"} for i in ids],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [{"id": i + 1, "image_id": i, "category_id": 1, "bbox": [9, 9, 50, 50]} for i in ids],
    }
    seen = [i for i in ids if i // frames % 3]
    return truth, [{"image_id": i, "category_id": 1, "bbox": [9, 9, 50, 45], "score": 0.9} for i in seen]


def test_val__group_takes_frames_of_a_video_for_one_image(tmp_path):
    ends = {}
    for frames, group in ((1, "image"), (8, "image"), (8, "folder"), (8, r"(v\d+)_")):
        truth, results = videos(frames)
        (tmp_path / "t.json").write_text(json.dumps(truth))
        (tmp_path / "p.json").write_text(json.dumps(results))
        result = yolo_mha.val(predictions="p.json", annotations="t.json", group=group, plots=False)
        found = result.intervals["AP50"]
        ends[frames, group] = found.high - found.low
        assert found.groups == (None if group == "image" else 12)
    assert ends[8, "folder"] == ends[8, r"(v\d+)_"] == pytest.approx(ends[1, "image"], rel=0.05)
    assert ends[8, "image"] < ends[8, "folder"] / 2
    del truth["images"][3]["file_name"]
    (tmp_path / "t.json").write_text(json.dumps(truth))
    with pytest.raises(DataError, match="needs a file name"):
        yolo_mha.val(predictions="p.json", annotations="t.json", group="folder")
