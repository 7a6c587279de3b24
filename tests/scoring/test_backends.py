import csv

import cv2
import numpy as np
import pytest

from yolo_mha.errors import ConfigError
from yolo_mha.scoring.coco import BACKENDS, evaluate
from yolo_mha.scoring.curves import draw_pr_curves

BOX = [10.0, 10.0, 100.0, 100.0]


def _agree(random_coco, seeds) -> None:
    for seed in seeds:
        rng = np.random.default_rng(seed)
        truth, results = random_coco(rng, int(rng.integers(1, 8)), int(rng.integers(1, 5)))
        one, other = (evaluate(truth, results, backend=backend) for backend in BACKENDS)
        assert one.metrics == pytest.approx(other.metrics, abs=1e-9), seed
        for name, scores in one.per_class.items():
            assert scores == pytest.approx(other.per_class[name], abs=1e-9), (seed, name)


def test_backends__agree(random_coco):
    _agree(random_coco, range(60))


@pytest.mark.slow
def test_backends__agree_on_a_thousand_cases(random_coco):
    _agree(random_coco, range(1000))


@pytest.mark.parametrize("backend", BACKENDS)
def test_evaluate__what_is_ignored_is_neither_found_nor_missed(backend):
    """An ignored box takes one detection out of the count, a crowd any number of those inside it."""
    image = {"images": [{"id": 1}], "categories": [{"id": 1, "name": "cat"}]}
    beside = [300.0, 300.0, 100.0, 100.0]
    inside = [[310.0, 310.0, 20.0, 20.0], [340.0, 340.0, 30.0, 30.0]]

    def ap(mark: dict, *boxes: list[float]) -> float:
        own = {"id": 1, "image_id": 1, "category_id": 1, "bbox": BOX}
        truth = {**image, "annotations": [own, {**own, "id": 2, "bbox": beside, **mark}]}
        found = [{"image_id": 1, "category_id": 1, "bbox": b, "score": 0.9} for b in boxes]
        found.append({"image_id": 1, "category_id": 1, "bbox": BOX, "score": 0.5})
        scores = evaluate(truth, found, backend=backend)
        assert (scores.objects, scores.ignored) == (2 - bool(mark), int(bool(mark)))
        return scores.metrics["AP"]

    assert ap({"ignore": 1}) == pytest.approx(1)  # it is not missed
    assert ap({"ignore": 1}, beside) == pytest.approx(1)
    assert ap({"ignore": 1}, beside, beside) == pytest.approx(0.5)  # the second one is wrong
    assert ap({"ignore": 1}, *inside) == pytest.approx(1 / 3)
    assert ap({"iscrowd": 1}, *inside) == pytest.approx(1)
    assert ap({}) == pytest.approx(51 / 101)


def test_evaluate__names_the_backends_there_are():
    with pytest.raises(ConfigError, match="faster-coco-eval"):
        evaluate({"images": [], "annotations": [], "categories": []}, [], backend="faster-coco")


def test_draw_pr_curves__the_table_holds_ap(random_coco, tmp_path):
    scores = evaluate(*random_coco(np.random.default_rng(2), 12, 12))
    picture = draw_pr_curves(scores, tmp_path / "pr.png")
    assert cv2.imread(str(picture)).std() > 10
    with (tmp_path / "pr.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(scores.precision) * 10 * 101
    for name in scores.precision:
        own = [float(row["precision"]) for row in rows if row["class"] == name]
        assert np.mean(own) == pytest.approx(scores.per_class[name]["AP"], abs=1e-5)


def test_draw_pr_curves__with_names_that_look_like_formulas(random_coco, tmp_path):
    truth, results = random_coco(np.random.default_rng(2), 12, 12)
    for category in truth["categories"]:
        category["name"] = rf"$\frac$ {category['id']}"
    assert draw_pr_curves(evaluate(truth, results), tmp_path / "pr.png").exists()


def test_draw_pr_curves__of_nothing(tmp_path):
    truth = {"images": [{"id": 0}], "categories": [{"id": 0, "name": "cat"}], "annotations": []}
    assert draw_pr_curves(evaluate(truth, []), tmp_path / "pr.png").exists()
