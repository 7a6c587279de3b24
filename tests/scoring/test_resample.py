import numpy as np
import pytest

from yolo_mha.scoring.coco import evaluate
from yolo_mha.scoring.matches import match_detections
from yolo_mha.scoring.resample import OVERALL, bootstrap_weights, resampled_ap, resampled_scores, supports


def _reference(truth, results) -> dict[str, float]:
    """pycocotools' numbers under the names of `resampled_scores`; NaN for its -1."""
    scores = evaluate(truth, results)
    named = {m: scores.metrics[m] for m in OVERALL} | {f"AP of {n}": c["AP"] for n, c in scores.per_class.items()}
    return {name: np.nan if value == -1 else value for name, value in named.items()}


@pytest.mark.parametrize("seed", range(25))
def test_resampled_scores__of_the_images_as_they_are_equal_pycocotools(random_coco, seed):
    rng = np.random.default_rng(seed)
    truth, results = random_coco(rng, images=int(rng.integers(1, 12)), classes=int(rng.integers(1, 4)))
    matches = match_detections(truth, results)
    scores = resampled_scores(matches, np.ones((matches.images, 2), np.float32))
    for name, value in _reference(truth, results).items():
        assert scores[name] == pytest.approx([value, value], abs=1e-12, nan_ok=True), name


@pytest.mark.parametrize("groups", [None, np.array([0, 1, 1, 2, 0, 2, 2, 3, 2])], ids=["images", "groups"])
@pytest.mark.parametrize("seed", range(8))
def test_resampled_scores__of_drawn_images_equal_pycocotools_on_copies_of_them(random_coco, seed, groups):
    """Every image that a resample holds several times is copied so often, with its boxes and its detections."""
    rng = np.random.default_rng(seed)
    truth, results = random_coco(rng, images=9, classes=2, ties=False)
    weights = bootstrap_weights(9, 4, seed, groups)
    scores = resampled_scores(match_detections(truth, results), weights)
    for column in range(4):
        copied: dict = {**truth, "images": [], "annotations": []}
        found = []
        for image, times in zip(truth["images"], weights[:, column].astype(int), strict=True):
            for copy in range(times):
                name = image["id"] * 100 + copy
                copied["images"].append({**image, "id": name})
                copied["annotations"] += [
                    {**a, "image_id": name} for a in truth["annotations"] if a["image_id"] == image["id"]
                ]
                found += [{**r, "image_id": name} for r in results if r["image_id"] == image["id"]]
        for name, value in _reference(copied, found).items():
            assert scores[name][column] == pytest.approx(value, abs=1e-12, nan_ok=True), (name, column)


def test_resampled_scores__leaving_out_an_image_equals_pycocotools_without_it(random_coco):
    truth, results = random_coco(np.random.default_rng(5), images=6, classes=2)
    scores = resampled_scores(match_detections(truth, results), 1 - np.eye(6, dtype=np.float32))
    for i, image in enumerate(truth["images"]):
        fewer = {
            **truth,
            "images": [x for x in truth["images"] if x is not image],
            "annotations": [a for a in truth["annotations"] if a["image_id"] != image["id"]],
        }
        reference = _reference(fewer, [r for r in results if r["image_id"] != image["id"]])
        for name, value in reference.items():
            assert scores[name][i] == pytest.approx(value, abs=1e-12, nan_ok=True), (name, i)


def test_resampled_scores__do_not_depend_on_the_size_of_the_parts(random_coco, monkeypatch):
    matches = match_detections(*random_coco(np.random.default_rng(3), images=8, classes=2))
    weights = bootstrap_weights(8, 23)
    whole = resampled_scores(matches, weights)
    monkeypatch.setattr("yolo_mha.scoring.resample.MAX_ARRAY_ENTRIES", 60)
    np.testing.assert_array_equal(resampled_ap(matches, weights), resampled_scores(matches, weights)["AP"])
    for name, values in resampled_scores(matches, weights).items():
        np.testing.assert_allclose(values, whole[name], atol=1e-14)


def test_match_detections__keeps_a_hundred_detections_an_image(random_coco):
    truth, _ = random_coco(np.random.default_rng(0), images=1, classes=1, objects=4)
    truth["annotations"] = [
        {"id": 1, "image_id": 10, "category_id": 1, "bbox": [0, 0, 50, 50], "area": 2500, "iscrowd": 0}
    ]
    wrong = [{"image_id": 10, "category_id": 1, "bbox": [200, 200, 9, 9], "score": 0.9}] * 100
    right = {"image_id": 10, "category_id": 1, "bbox": [0, 0, 50, 50], "score": 0.5}
    assert resampled_scores(match_detections(truth, [*wrong, right]), np.ones((1, 1), np.float32))["AP"] == 0
    assert resampled_scores(match_detections(truth, [*wrong[1:], right]), np.ones((1, 1), np.float32))["AP"] > 0


def test_bootstrap_weights__draw_as_many_images_as_there_are():
    weights = bootstrap_weights(30, 50)
    assert weights.shape == (30, 50)
    assert (weights.sum(axis=0) == 30).all()
    assert (weights == np.round(weights)).all()
    assert weights.std() > 0.5
    np.testing.assert_array_equal(weights, bootstrap_weights(30, 50))


def test_bootstrap_weights__draw_groups_with_all_their_images():
    groups = np.array([0, 1, 1, 2, 0, 2, 2, 3])
    weights = bootstrap_weights(8, 500, groups=groups)
    by_group = np.stack([weights[groups == g][0] for g in range(4)])
    np.testing.assert_array_equal(weights, by_group[groups])
    assert (by_group.sum(axis=0) == 4).all()  # as many groups as there are, of whatever size
    assert len(set(weights.sum(axis=0))) > 3
    np.testing.assert_array_equal(bootstrap_weights(8, 9), bootstrap_weights(8, 9, groups=np.arange(8)))


def test_supports__count_the_groups_that_hold_an_object():
    box = {"bbox": [0, 0, 50, 50], "area": 2500, "iscrowd": 0}
    truth = {
        "images": [{"id": i} for i in range(6)],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": [
            {**box, "id": n, "image_id": i, "category_id": c}
            for n, (i, c) in enumerate([(0, 1), (0, 1), (1, 1), (2, 1), (4, 2)], 1)
        ],
    }
    matches = match_detections(truth, [])
    found = supports(matches, np.array([0, 0, 1, 1, 2, 2]))
    assert {m: (s.images, s.group_sizes.tolist()) for m, s in found.items()} == {
        "AP": (4, [2, 1, 1]),
        "AP50": (4, [2, 1, 1]),
        "APsmall": (0, []),
        "APmedium": (4, [2, 1, 1]),
        "APlarge": (0, []),
        "AP of cat": (3, [2, 1]),
        "AP of dog": (1, [1]),
    }
    for groups in (None, np.arange(6)):  # each image by itself
        assert supports(matches, groups)["AP"] == (4, None)
