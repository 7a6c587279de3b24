import json
import sys
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from samples import NAMES, SAMPLES, perfect, truth_of

import yolo_mha
from yolo_mha.engine.validator import Detections
from yolo_mha.errors import DataError
from yolo_mha.scoring.coco import (
    METRICS,
    REFERENCE,
    CocoScores,
    Modules,
    check_truth,
    class_names,
    evaluate,
    evaluated_classes,
)
from yolo_mha.scoring.matches import match_detections
from yolo_mha.scoring.resample import supports
from yolo_mha.scoring.truth import detections


def detection(name: str, boxes, classes, scores) -> Detections:
    return Detections(
        Path(f"/x/{name}.png"),
        np.array(boxes, float).reshape(-1, 4),
        np.array(scores, float),
        np.array(classes, np.int64),
    )


TRUTH_OF_THREE = truth_of(SAMPLES, {**NAMES, 2: "never"})


def test_evaluate__perfect_and_empty_predictions():
    truth = TRUTH_OF_THREE
    scores = evaluate(truth.coco, detections(SAMPLES, perfect(SAMPLES), truth))
    assert list(scores.metrics) == list(METRICS)
    assert scores.metrics["AP"] == scores.metrics["AR100"] == pytest.approx(1)
    sizes = {"APsmall": 1, "APmedium": 1, "APlarge": -1}
    assert scores.per_class["cat"] == pytest.approx({"AP": 1, "AP50": 1, **sizes, "objects": 2})
    assert scores.per_class["never"] == {**dict.fromkeys(scores.per_class["cat"], -1), "objects": 0}
    assert (scores.images, scores.objects, scores.detections) == (3, 3, 3)

    found = [{**r, "caption": "a cat", "area": 7} for r in detections(SAMPLES, perfect(SAMPLES), truth)]
    assert evaluate(truth.coco, found).metrics == scores.metrics  # keys that pycocotools takes for other tasks

    nothing = [detection(s.image.stem, [], [], []) for s in SAMPLES]
    assert evaluate(truth.coco, detections(SAMPLES, nothing, truth)).metrics["AP"] == 0


def test_evaluate__ids_go_by_image_not_by_order_and_classes_count():
    truth = TRUTH_OF_THREE
    found = [
        detection("9", [[5, 5, 20, 20]], [0], [0.9]),
        detection("8", [], [], []),
        detection("7", [[0, 0, 50, 50], [60, 0, 160, 100]], [0, 0], [0.9, 0.8]),
    ]
    scores = evaluate(truth.coco, detections(SAMPLES, found, truth))
    assert scores.per_class["cat"]["AP"] == pytest.approx(1)
    assert scores.per_class["dog"]["AP"] == 0


@pytest.mark.parametrize(
    ("results", "words"),
    [
        ([{"image_id": 9, "category_id": 0, "bbox": [0, 0, 1, 1], "score": 1}], "not in the annotations"),
        ([{"image_id": 0, "bbox": [0, 0, 1, 1], "score": 1}], "unusable"),
        ([5], "unusable"),
    ],
)
def test_evaluate__refuses_malformed_results(results, words):
    with pytest.raises(DataError, match=words):
        evaluate(TRUTH_OF_THREE.coco, results)


def _files(folder: Path, truth: dict, results: list) -> tuple[Path, Path]:
    (folder / "results.json").write_text(json.dumps(results))
    (folder / "truth.json").write_text(json.dumps(truth))
    return folder / "results.json", folder / "truth.json"


def _scored(predictions: Path, annotations: Path) -> CocoScores:
    """As `val` scores two files; the scores that it returns are those of `evaluate`."""
    return yolo_mha.val(predictions=predictions, annotations=annotations, plots=False).coco


TRUTH = {
    "images": [{"id": 0}],
    "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "cat"}],
    "annotations": [{"id": 0, "image_id": 0, "category_id": 1, "bbox": [0, 0, 50, 50]}],
}
FOUND = {"image_id": 0, "category_id": 1, "bbox": [0, 0, 50, 50], "score": 0.5}


def test_val__files_ids_from_zero_and_missing_fields_are_no_trap(tmp_path):
    scores = _scored(*_files(tmp_path, TRUTH, [FOUND]))
    assert scores.metrics["AP"] == pytest.approx(1)
    assert scores.metrics["APmedium"] == pytest.approx(1)  # 50 x 50, from the box where no area is given
    assert list(scores.per_class) == ["cat", "cat (2)"]


@pytest.mark.parametrize(
    "change",
    [
        {"score": float("nan")},
        {"score": "high"},
        {"bbox": [0, 0, 5]},
        {"bbox": None},
        {"image_id": [0]},
        {"category_id": 99},
    ],
)
def test_val__files_refuses_unusable_predictions(tmp_path, change):
    with pytest.raises(DataError):
        _scored(*_files(tmp_path, TRUTH, [{**FOUND, **change}]))


@pytest.mark.parametrize(
    "change",
    [
        {"images": [{}]},
        {"images": [{"id": 0}, {"id": 0}]},
        {"categories": [{"id": 7}]},
        {"annotations": [{"id": 1, "image_id": 5, "category_id": 1, "bbox": [0, 0, 1, 1]}]},
        {"annotations": [5]},
    ],
)
def test_val__files_refuses_unusable_annotations(tmp_path, change):
    with pytest.raises(DataError):
        _scored(*_files(tmp_path, TRUTH | change, [FOUND]))


def test_per_class__means_to_the_ap_of_all(tmp_path):
    """Precision at 100 detections over all areas: its mean over classes is AP, when both have objects."""
    truth = truth_of(SAMPLES)
    found = [
        detection("7", [[0, 0, 50, 45], [60, 0, 160, 100], [61, 1, 150, 99]], [0, 1, 1], [0.6, 0.5, 0.9]),
        detection("8", [[0, 0, 9, 9]], [0], [0.9]),
        detection("9", [[4, 5, 20, 20]], [0], [0.3]),
    ]
    scores = evaluate(truth.coco, detections(SAMPLES, found, truth))
    assert np.mean([c["AP"] for c in scores.per_class.values()]) == pytest.approx(scores.metrics["AP"])
    assert np.mean([c["AP50"] for c in scores.per_class.values()]) == pytest.approx(scores.metrics["AP50"])


def test_val__files_refuses_missing_and_broken(tmp_path):
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "object.json").write_text("{}")
    (tmp_path / "broken.json").write_text("{")
    for predictions, annotations in (("nowhere", "object"), ("list", "list"), ("broken", "object"), ("list", "object")):
        with pytest.raises(DataError):
            _scored(tmp_path / f"{predictions}.json", tmp_path / f"{annotations}.json")


def test_val__files_reference_numbers(test_data):
    """The public detections of the COCO API give the numbers of its reference implementation."""
    folder = test_data / "coco-eval"
    scores = _scored(folder / "instances_val2014_fakebbox100_results.json", folder / "instances_val2014_100.json")
    expected = json.loads((folder / "expected.json").read_text())
    assert scores.metrics == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("backend", ["pycocotools", "faster-coco-eval"])
@pytest.mark.parametrize(
    "ids",
    [
        [2**63 + n if n % 2 else n for n in range(20)],
        [2**70 + n for n in range(20)],
        [f"a{n:02}" for n in range(20)],
        [str(n) for n in range(20)],
        [-n for n in range(20)],
    ],
    ids=["unsigned hashes", "beyond 64 bits", "texts", "digits", "negative"],
)
def test_evaluate__any_ids_give_the_same_numbers(ids, backend):
    """pycocotools alone would lose images with mixed large ids, and faster-coco-eval refuse texts."""
    pytest.importorskip("faster_coco_eval")
    box = [10.0, 10.0, 50.0, 50.0]
    truth = {
        "images": [{"id": i} for i in ids],
        "categories": [{"id": 1, "name": "x"}],
        "annotations": [{"image_id": i, "category_id": 1, "bbox": box} for i in ids],
    }
    before = json.dumps(truth)
    results = [{"image_id": i, "category_id": 1, "bbox": box, "score": 0.5} for i in ids[::2]]
    assert evaluate(truth, results, backend=backend).metrics["AP"] == pytest.approx(51 / 101)  # half are found
    assert supports(match_detections(truth, results))["AP"].images == 20
    assert json.dumps(truth) == before


def test_evaluate__prints_nothing_and_leaves_standard_output_to_other_threads(capsys):
    truth = TRUTH_OF_THREE
    results = detections(SAMPLES, perfect(SAMPLES), truth)
    evaluate(truth.coco, results)
    assert capsys.readouterr().out == ""

    before, meanwhile = sys.stdout, []

    class Watched(REFERENCE.COCOeval):
        def evaluate(self):
            meanwhile.append(sys.stdout)
            super().evaluate()

    assert len(list(evaluated_classes(check_truth(truth.coco), results, Modules(REFERENCE.COCO, Watched)))) == 3
    assert all(stream is before for stream in meanwhile)
    assert meanwhile
    COCO().createIndex()
    assert "creating index" in capsys.readouterr().out  # pycocotools itself is as it was


def test_class_names__are_unique_whatever_they_are():
    names = class_names(
        {
            "images": [],
            "annotations": [],
            "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "a (3)"}, {"id": 3, "name": "a"}],
        }
    )
    assert names == {1: "a", 2: "a (3)", 3: "a (3) (3)"}
