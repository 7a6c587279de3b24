import numpy as np
import pytest

from yolo_mha.evaluation.contrasts import contrasts
from yolo_mha.evaluation.recipe import Arm, Recipe
from yolo_mha.scoring.matches import match_detections
from yolo_mha.scoring.resample import resampled_ap

ARMS = {"baseline": Arm("a.yaml"), "attention": Arm("b.yaml"), "control": Arm("c.yaml")}


def plan(**changes) -> Recipe:
    return Recipe(**{"name": "x", "data": "d", "arms": ARMS, "primary": "attention", "margin": 0.01, **changes})


IMAGES, BOX = 30, [10.0, 10.0, 60.0, 60.0]
TRUTH = {
    "images": [{"id": i} for i in range(IMAGES)],
    "categories": [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}],
    "annotations": [{"id": i + 1, "image_id": i, "category_id": i % 2, "bbox": BOX} for i in range(IMAGES)],
}


def found(missed: set[int], shift: float = 0.0) -> list[dict]:
    """A detector that misses some images and is off by some pixels."""
    box = [BOX[0] + shift, *BOX[1:]]
    return [
        {"image_id": i, "category_id": i % 2, "bbox": box, "score": 0.9 - i / 100}
        for i in range(IMAGES)
        if i not in missed
    ]


@pytest.fixture(scope="module")
def compared():
    """A better arm that misses image 4, which nobody else does; and a control like the baseline."""
    rng = np.random.default_rng(0)
    arms: dict = {"baseline": {}, "attention": {}, "control": {}}
    for seed in range(4):
        shift = 8 + rng.normal(0, 0.8)
        arms["baseline"][seed] = match_detections(TRUTH, found({1, 7}, shift))
        arms["control"][seed] = match_detections(TRUTH, found({1, 7}, shift + rng.normal(0, 0.01)))
        arms["attention"][seed] = match_detections(TRUTH, found({4}, shift - 4))
    del arms["control"][2]
    return contrasts(plan(), arms, [f"{i}.jpg" for i in range(IMAGES)])


def test_contrasts__the_primary_one_first_and_each_pair_on_its_common_seeds(compared):
    pairs = [(c.arm, c.against, c.primary, c.seeds) for c in compared[0]]
    assert pairs == [
        ("attention", "baseline", True, [0, 1, 2, 3]),
        ("control", "baseline", False, [0, 1, 3]),
        ("attention", "control", False, [0, 1, 3]),
    ]


def test_contrasts__find_what_helps_and_what_does_nothing(compared):
    helps, same, _ = compared[0]
    assert helps.verdict.word == "helps"
    assert helps.effects["AP"].delta > 0.1
    assert same.effects["AP"].low <= 0 <= same.effects["AP"].high
    assert list(helps.per_class) == ["cat", "dog"]
    assert helps.per_class["dog"].images == 15
    assert helps.effects["APsmall"] is None  # there are no such boxes
    assert helps.effects["APmedium"] == helps.effects["AP"]


def test_contrasts__images_that_speak_for_either_side(compared):
    wins = {(w.arm, w.image): w.influence for w in compared[1]}
    assert wins["attention", "4.jpg"] < 0  # found by the baseline alone
    assert {w.image for w in compared[1] if w.arm == "attention" and w.influence > 0} >= {"1.jpg", "7.jpg"}


def test_contrasts__of_a_pair_without_common_seeds_say_nothing():
    runs = {
        "baseline": {0: match_detections(TRUTH, found(set()))},
        "attention": {1: match_detections(TRUTH, found(set()))},
    }
    (first, *_), wins = contrasts(plan(arms={k: ARMS[k] for k in runs}), runs, ["x"] * IMAGES)
    assert (first.seeds, first.verdict.word, first.effects["AP"]) == ([], "no verdict", None)
    assert "no seed finished in both" in first.verdict.sentence
    assert wins == []


def test_contrasts__of_models_that_are_the_same():
    runs = {arm: {seed: match_detections(TRUTH, found({1})) for seed in range(3)} for arm in ("baseline", "attention")}
    (first,), _ = contrasts(plan(arms={k: ARMS[k] for k in runs}), runs, ["x"] * IMAGES)
    assert (first.effects["AP"].low, first.effects["AP"].high) == (0, 0)
    assert first.verdict.word == "no verdict"
    assert "gave the same detections" in first.verdict.sentence


def test_contrasts__a_failed_run_counts_as_ap_0_beside_the_others():
    """Of a better arm whose fifth training failed; what was never trained is no failure."""
    rng = np.random.default_rng(0)
    runs: dict = {"baseline": {}, "attention": {}}
    for seed in range(5):
        shift = 8 + rng.normal(0, 0.8)
        runs["baseline"][seed] = match_detections(TRUTH, found({1, 7}, shift))
        runs["attention"][seed] = match_detections(TRUTH, found({4}, shift - 4))
    aps = {arm: [resampled_ap(m, np.ones((IMAGES, 1), np.float32))[0] for m in of.values()] for arm, of in runs.items()}
    del runs["attention"][4]
    recipe = plan(arms={k: ARMS[k] for k in runs}, seeds=(0, 1, 2, 3, 4, 5))
    (whole,), _ = contrasts(recipe, runs, ["x"] * IMAGES)
    assert (whole.verdict.word, whole.with_failures) == ("helps", None)
    (failed,), _ = contrasts(recipe, runs, ["x"] * IMAGES, failed={("attention", 4)})
    differences = np.subtract([*aps["attention"][:4], 0.0], aps["baseline"])
    assert failed.with_failures.delta == pytest.approx(differences.mean())
    assert failed.with_failures.sd_seeds == pytest.approx(differences.std(ddof=1))
    assert (failed.with_failures.seeds, failed.effects["AP"].seeds) == (5, 4)
    assert failed.effects == whole.effects
    assert failed.verdict.word == "inconclusive"
    assert "1 of 5 seeds failed" in failed.verdict.sentence


def test_contrasts__with_too_few_images_say_so():
    few = {**TRUTH, "images": TRUTH["images"][:9], "annotations": TRUTH["annotations"][:9]}
    detections = [d for d in found({1}) if d["image_id"] < 9]
    runs = {arm: {seed: match_detections(few, detections) for seed in range(3)} for arm in ("baseline", "attention")}
    (first,), _ = contrasts(plan(arms={k: ARMS[k] for k in runs}), runs, ["x"] * 9)
    assert first.verdict.word == "no verdict"
    assert "fewer than 10 test images hold an object" in first.verdict.sentence
