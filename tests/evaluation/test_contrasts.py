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


FILES_OF_ARMS = [f"{i}.jpg" for i in range(IMAGES)]


def three_arms() -> dict:
    """A better arm that misses image 4, which nobody else does; and a control like the baseline."""
    rng = np.random.default_rng(0)
    arms: dict = {"baseline": {}, "attention": {}, "control": {}}
    for seed in range(4):
        shift = 8 + rng.normal(0, 0.8)
        arms["baseline"][seed] = match_detections(TRUTH, found({1, 7}, shift))
        arms["control"][seed] = match_detections(TRUTH, found({1, 7}, shift + rng.normal(0, 0.01)))
        arms["attention"][seed] = match_detections(TRUTH, found({4}, shift - 4))
    return arms


@pytest.fixture(scope="module")
def compared():
    """The three arms; one run of the control did not finish."""
    arms = three_arms()
    del arms["control"][2]
    return contrasts(plan(), arms, FILES_OF_ARMS)[:2]


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
    (first, *_), wins, _ = contrasts(plan(arms={k: ARMS[k] for k in runs}), runs, ["x"] * IMAGES)
    assert (first.seeds, first.verdict.word, first.effects["AP"]) == ([], "no verdict", None)
    assert "no seed finished in both" in first.verdict.sentence
    assert wins == []


def test_contrasts__of_models_that_are_the_same():
    runs = {arm: {seed: match_detections(TRUTH, found({1})) for seed in range(3)} for arm in ("baseline", "attention")}
    (first,), _, _ = contrasts(plan(arms={k: ARMS[k] for k in runs}), runs, ["x"] * IMAGES)
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
    (whole,), _, _ = contrasts(recipe, runs, ["x"] * IMAGES)
    assert (whole.verdict.word, whole.with_failures) == ("helps", None)
    (failed,), _, _ = contrasts(recipe, runs, ["x"] * IMAGES, failed={("attention", 4)})
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
    (first,), _, _ = contrasts(plan(arms={k: ARMS[k] for k in runs}), runs, ["x"] * 9)
    assert first.verdict.word == "no verdict"
    assert "because 9 images are too few; 10 or more are needed" in first.verdict.sentence


def runs(seeds: int = 3, shift: float = 4) -> dict:
    """A better arm that misses image 4, which the baseline finds."""
    rng, arms = np.random.default_rng(0), {"baseline": {}, "attention": {}}
    for seed in range(seeds):
        off = 8 + rng.normal(0, 0.8)
        arms["baseline"][seed] = match_detections(TRUTH, found({1, 7}, off))
        arms["attention"][seed] = match_detections(TRUTH, found({4}, off - shift))
    return arms


TWO, FILES = plan(arms={k: ARMS[k] for k in ("baseline", "attention")}), [f"{i}.jpg" for i in range(IMAGES)]


def test_contrasts__of_groups_say_how_many_and_show_single_images(monkeypatch):
    """Two images a group; the images that speak for an arm are found as without groups, among few candidates."""
    monkeypatch.setattr("yolo_mha.evaluation.contrasts.CANDIDATES", 2)
    (grouped,), wins, _ = contrasts(TWO, runs(), FILES, groups=[f"video{i // 2}" for i in range(IMAGES)])
    (alone,), wins_alone, _ = contrasts(TWO, runs(), FILES)
    effect = grouped.effects["AP"]
    assert (effect.images, effect.groups) == (30, 15)
    assert effect.delta == alone.effects["AP"].delta
    assert effect.low != alone.effects["AP"].low
    assert "15 groups (30 images)" in grouped.verdict.sentence
    assert (grouped.per_class["dog"].images, grouped.per_class["dog"].groups) == (15, 15)
    assert wins == wins_alone


def test_contrasts__of_copies_of_images_know_that_they_are_copies():
    """Each image ten times, as frames of a video that stands still: groups tell as much as the first of each."""
    copies = 10
    ids = [(i, i * 100 + k) for i in range(IMAGES) for k in range(copies)]
    truth = {
        **TRUTH,
        "images": [{"id": new} for _, new in ids],
        "annotations": [{**TRUTH["annotations"][i], "id": new + 1, "image_id": new} for i, new in ids],
    }
    arms: dict = {"baseline": {}, "attention": {}}
    for seed in range(3):
        for arm, missed in (("baseline", {1, 7, 8, 20}), ("attention", {4, 9})):
            results = {r["image_id"]: r for r in found(missed, 6 + seed)}
            many = [{**results[i], "image_id": new} for i, new in ids if i in results]
            arms[arm][seed] = match_detections(truth, many)
    files = [str(new) for _, new in ids]
    (grouped,), _, _ = contrasts(TWO, arms, files, groups=[str(i) for i, _ in ids])
    (ignored,), _, _ = contrasts(TWO, arms, files)
    wide, narrow = (c.effects["AP"].high - c.effects["AP"].low for c in (grouped, ignored))
    assert grouped.effects["AP"].effective_groups == pytest.approx(IMAGES)
    assert wide == pytest.approx(narrow * copies**0.5, rel=0.15)


def test_contrasts__of_too_few_groups_say_so():
    (contrast,), _, _ = contrasts(TWO, runs(), FILES, groups=[f"video{i % 7}" for i in range(IMAGES)])
    assert set(contrast.effects.values()) == {None}
    assert contrast.verdict.word == "no verdict"
    assert "because 7 groups (30 images) are too few; 10 or more are needed" in contrast.verdict.sentence


def test_contrasts__that_are_named_are_judged_together_where_the_primary_one_stands_out(compared):
    named = ("attention vs control", "control: AP[dog]", "attention: AP[cat,dog]")
    results, wins, _ = contrasts(plan(contrasts=named), three_arms(), FILES_OF_ARMS)
    assert [(str(c), c.role) for c in results] == [
        ("attention - baseline", "primary"),
        ("attention - control", "named"),
        ("control - baseline, AP[dog]", "named"),
        ("attention - baseline, AP[cat,dog]", "named"),
        ("control - baseline", "exploratory"),
    ]
    primary, control, dog, both, _ = results
    assert both.effect.delta == pytest.approx(primary.effects["AP"].delta)  # the mean of these two is AP
    assert both.deltas == pytest.approx(primary.deltas)
    assert dog.effect == dog.per_class["dog"]
    assert (control.verdict.word, both.verdict.word) == ("helps", "helps")
    width = control.effect.high - control.effect.low
    assert control.judged.high - control.judged.low > width
    assert "interval corrected for" in control.verdict.sentence
    assert primary.judged is None
    assert wins == compared[1]


def test_contrasts__that_are_named_are_exploratory_where_the_primary_one_holds_zero():
    arms: dict = {"baseline": {}, "attention": {}, "control": {}}
    rng = np.random.default_rng(0)
    for seed in range(3):
        for arm, better in (("baseline", 0), ("attention", 0), ("control", 4)):
            arms[arm][seed] = match_detections(TRUTH, found({1, 7}, 8 - better + rng.normal(0, 0.5)))
    results, _, _ = contrasts(plan(contrasts=("control",)), arms, FILES_OF_ARMS)
    assert results[0].verdict.word == "inconclusive"
    assert (str(results[1]), results[1].role) == ("control - baseline", "exploratory")


def test_contrasts__about_another_metric():
    arms: dict = {"baseline": {}, "attention": {}, "control": {}}
    rng = np.random.default_rng(0)
    for seed in range(3):
        for arm in arms:
            arms[arm][seed] = match_detections(TRUTH, found({1, 7}, 8 + rng.normal(0, 0.5)))
    results, _, _ = contrasts(plan(metric="AP[cat]"), arms, FILES_OF_ARMS)
    assert (str(results[0]), results[0].primary) == ("attention - baseline, AP[cat]", True)
    assert results[0].effect == results[0].per_class["cat"]
    assert "AP[cat]" in results[0].verdict.sentence
    assert ("attention - baseline", "exploratory") in [(str(c), c.role) for c in results]


@pytest.mark.parametrize("metric", ["AP", "AP50", "APmedium", "AP[cat,bike]"])
def test_contrasts__a_class_on_one_image_decides_nothing(metric):
    """Found by one arm alone, it would raise the mean over classes by a lot, on whatever image it is drawn."""
    bike = {"id": 99, "image_id": 0, "category_id": 2, "bbox": [100, 100, 50, 50]}
    truth = {
        **TRUTH,
        "categories": [*TRUTH["categories"], {"id": 2, "name": "bike"}],
        "annotations": [*TRUTH["annotations"], bike],
    }
    right = {**bike, "score": 0.9}
    rng, arms = np.random.default_rng(0), {"baseline": {}, "attention": {}}
    for seed in range(3):
        for arm, more in (("baseline", []), ("attention", [right])):
            arms[arm][seed] = match_detections(truth, [*found({1, 7}, rng.normal(8, 0.5)), *more])
    recipe = plan(metric=metric, arms={name: ARMS[name] for name in arms})
    (primary, *_), _, _ = contrasts(recipe, arms, FILES_OF_ARMS)
    assert primary.rare == ["bike"]
    assert abs(primary.without_rare.delta) < 0.05 < primary.effect.delta
    assert primary.verdict.word == "inconclusive"
