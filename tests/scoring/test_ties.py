import json

import numpy as np
import pytest

import yolo_mha
from yolo_mha.scoring.coco import BACKENDS, evaluate
from yolo_mha.scoring.ties import Ties

BOX = [100.0, 100.0, 100.0, 100.0]
BESIDE = [300.0, 300.0, 50.0, 50.0]
HALF = 51 / 101  # AP with every second object found and nothing wrong


def case(objects: list[list[float]], found: list[tuple[list[float], float]], **mark) -> tuple[dict, list[dict]]:
    """One class; the i-th object and the i-th detection, with its score, are on the i-th image."""
    images = range(1, max(len(objects), len(found)) + 1)
    truth = {
        "images": [{"id": i, "width": 640, "height": 640} for i in images],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 1, "bbox": b} | (mark if i > 1 else {})
            for i, b in enumerate(objects, 1)
        ],
    }
    return truth, [{"image_id": i, "category_id": 1, "bbox": b, "score": s} for i, (b, s) in enumerate(found, 1)]


def renumbered(truth: dict, results: list[dict], rng: np.random.Generator) -> tuple[dict, list[dict]]:
    """Give the images other ids, which is their order."""
    ids = [image["id"] for image in truth["images"]]
    new = dict(zip(ids, rng.permutation(ids).tolist(), strict=True))
    return (
        {
            **truth,
            "images": [{**image, "id": new[image["id"]]} for image in truth["images"]],
            "annotations": [{**a, "image_id": new[a["image_id"]]} for a in truth["annotations"]],
        },
        [{**r, "image_id": new[r["image_id"]]} for r in results],
    )


@pytest.mark.parametrize("seed", range(12))
def test_ties__ap_of_the_images_in_any_order_is_in_the_range(random_coco, seed):
    rng = np.random.default_rng(seed)
    truth, results = random_coco(rng, images=int(rng.integers(2, 12)), classes=int(rng.integers(1, 4)))
    ties = evaluate(truth, results).ties
    found = [evaluate(*renumbered(truth, results, rng)) for _ in range(6)]
    for scores in found:
        assert ties.worst_ap - 1e-12 <= scores.metrics["AP"] <= ties.best_ap + 1e-12
        assert scores.ties == Ties(ties.detections, pytest.approx(ties.worst_ap), pytest.approx(ties.best_ap))
    assert len({scores.metrics["AP"] for scores in found}) == 1 or ties.detections


@pytest.mark.parametrize("seed", range(6))
def test_ties__without_equal_scores_the_range_is_ap(random_coco, seed):
    truth, results = random_coco(np.random.default_rng(seed), images=8, classes=3, ties=False)
    scores = evaluate(truth, results)
    ap = pytest.approx(scores.metrics["AP"], abs=1e-12)
    assert scores.ties == Ties(0, ap, ap)
    assert not scores.ties.matter


def test_ties__known_cases():
    """One object and two detections of one score, the wrong one on the other image."""
    assert evaluate(*case([BOX], [(BOX, 0.5), (BESIDE, 0.5)])).ties == Ties(2, pytest.approx(0.5), pytest.approx(1))
    assert evaluate(*case([BOX], [(BOX, 0.5), (BESIDE, 0.4)])).ties == Ties(0, pytest.approx(1), pytest.approx(1))
    two_right = case([BOX, BOX], [(BOX, 0.5), (BOX, 0.5)])
    assert evaluate(*two_right).ties == Ties(0, pytest.approx(1), pytest.approx(1))


def test_ties__count_at_each_iou_threshold():
    """Of IoU 0.72 the second detection is right at five thresholds and wrong at five."""
    scores = evaluate(*case([BOX, BOX], [(BOX, 0.5), ([100.0, 100.0, 100.0, 72.0], 0.5)]))
    assert scores.ties == Ties(2, pytest.approx((1 + HALF / 2) / 2), pytest.approx((1 + HALF) / 2))


def test_ties__what_is_ignored_is_no_tie():
    truth, results = case([BOX, BESIDE], [(BOX, 0.5), (BESIDE, 0.5)], ignore=1)
    assert evaluate(truth, results).ties == Ties(0, pytest.approx(1), pytest.approx(1))


def test_ties__classes_without_objects_do_not_count():
    truth, results = case([BOX], [(BOX, 0.5), (BESIDE, 0.5)])
    truth["categories"].append({"id": 2, "name": "dog"})
    results += [{**r, "category_id": 2} for r in results]
    assert evaluate(truth, results).ties == Ties(2, pytest.approx(0.5), pytest.approx(1))
    assert evaluate({**truth, "annotations": []}, results).ties == Ties(0, -1, -1)


def test_ties__are_not_known_with_faster_coco_eval():
    assert evaluate(*case([BOX], [(BOX, 0.5)]), backend=BACKENDS[1]).ties is None


@pytest.mark.parametrize(("score", "told"), [(0.5, True), (0.5 + 1e-7, False)])
def test_val__says_how_ap_depends_on_the_order_of_equal_scores(tmp_path, score, told):
    truth, results = case([BOX], [(BOX, score), (BESIDE, 0.5)])
    (tmp_path / "t.json").write_text(json.dumps(truth))
    (tmp_path / "p.json").write_text(json.dumps(results))
    result = yolo_mha.val(predictions=tmp_path / "p.json", annotations=tmp_path / "t.json", plots=False)
    assert result.coco.metrics["AP"] == pytest.approx(1)
    notes = [note for note in result.audit.notes if "equal scores" in note]
    assert len(notes) == told
    if told:
        assert "AP is 1.000 in this order of the images, and 0.500 to 1.000 in other orders" in notes[0]
        assert "2 detections" in notes[0]
        assert result.as_dict()["ties"] == {"detections": 2, "worst_ap": 0.5, "best_ap": 1.0}
