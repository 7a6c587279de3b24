import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from yolo_mha.errors import ConfigError
from yolo_mha.evaluation.declared import declare, read_declarations
from yolo_mha.evaluation.looks import LOOKS, Look, fresh_seeds, read_looks, record_look, review, withhold
from yolo_mha.evaluation.verdict import HELPS, HURTS, NONE, SAME, Verdict, judge
from yolo_mha.scoring.intervals import paired_interval
from yolo_mha.scoring.resample import bootstrap_weights

DATA = {"data train": "a", "data val": "b"}
INPUTS = {"yolov8n.yaml": "m", **DATA}


def plan(seeds=(0, 1, 2), **other) -> dict:
    arms = {
        "baseline": {"model": "yolov8n.yaml"},
        "attention": {"model": "yolov8n.yaml", "at": ["P5"]},
        "control": {"match": "attention"},
    }
    content = {"arms": arms, "train": {"epochs": 3}, "primary": "attention", "margin": 0.01, "split": "val"}
    return {**content, "baseline": "baseline", "group": None, "inputs": INPUTS, "seeds": list(seeds), **other}


def look(day: int = 1, **changes) -> Look:
    return Look(f"2026-01-{day:02d}T10:00:00+00:00", "0" * 64, plan(**changes), {})


G = {"group": "g.csv", "inputs": {**INPUTS, "g.csv": "1"}}
TEST = {"split": "test", "inputs": {**INPUTS, "data test": "t"}}
SWAPPED = {"arms": {k: plan()["arms"][k] for k in ("attention", "baseline")}, "baseline": "attention"}
MOVED = {
    name: {**arm, **({"model": "moved/yolov8n.yaml"} if "model" in arm else {})} for name, arm in plan()["arms"].items()
}
RENAMED = {"baseline": {"model": "yolov8n.yaml"}, "mha": {"model": "yolov8n.yaml", "at": ["P5"]}}


@pytest.mark.parametrize(
    ("now", "before", "objection"),
    [
        (plan((0, 1, 2, 3, 4)), {}, "seeds 3, 4 were added after a look at the results of seeds 0, 1, 2"),
        (plan((0, 1)), {}, "seed 2 was left out after a look at the results of seeds 0, 1, 2"),
        (plan((1, 2, 5)), {}, "seed 5 was added"),
        (plan(margin=0.02), {}, "margin was 0.01 when the results were looked at (2026-01-01 10:00 UTC"),
        (plan(primary="control"), {}, "primary was attention"),
        (plan(group="(w)"), {}, "group was none"),
        (plan(group="g.csv", inputs={**INPUTS, "g.csv": "2"}), G, "file that group names"),
        (plan((0, 1), **TEST), TEST, "seed 2 was left out"),
        (plan((0, 1, 2, 3), train={"epochs": 3, "plots": False, "workers": 2}), {}, "seed 3 was added"),
        (plan((0, 1, 2, 3), arms=RENAMED, primary="mha"), {}, "seed 3 was added"),
        (plan((0, 1, 2, 3), train={"epochs": 3, "batch": 16}), {}, "seed 3 was added"),  # which is the default
        (plan((0, 1, 2, 3), train={"epochs": 3, "iou": 0.6, "line_width": 2}), {}, "seed 3 was added"),
        (plan(train={"epochs": 3, "conf": 0.05}), {}, "train was epochs=3 when the results were looked at"),
        (plan((0, 1, 2, 3), arms=MOVED, inputs={**DATA, "moved/yolov8n.yaml": "m"}), {}, "seed 3 was added"),
        (plan((0, 1, 2, 3), **SWAPPED, primary="baseline"), {}, "seed 3 was added"),
        (plan((0, 1, 2, 3), split="test", inputs={**INPUTS, "data test": "b"}), {}, "seed 3 was added"),
    ],
)
def test_review__objects_to_a_plan_that_was_changed_after_a_look(now, before, objection):
    for where in ("", "elsewhere"):
        found = review(now, [(where, look(**before))])
        assert objection in found.objections[0]
        assert ("elsewhere" in found.objections[0]) == bool(where)


def runs(seeds=(0, 1, 2), **other) -> dict:
    """A plan of given runs; one of an arm and seed is called a0."""
    arms = {name: {"models": {str(seed): f"{name[0]}{seed}" for seed in seeds}} for name in ("baseline", "attention")}
    return plan(seeds, **{"arms": arms, "train": {"imgsz": 64}, "inputs": {"data val": "b"}, **other})


REPLACED = {"baseline": {"models": {"0": "b0", "1": "b1", "2": "b9"}}, "attention": runs()["arms"]["attention"]}
RENUMBERED = {name: {"models": {f"1{i}": f"{name[0]}{i}" for i in range(3)}} for name in ("baseline", "attention")}
MOVED = {"plain": runs()["arms"]["baseline"], "mha": runs()["arms"]["attention"]}


@pytest.mark.parametrize(
    ("now", "objection"),
    [
        (runs((0, 1, 2, 3)), "seed 3 was added after a look"),
        (runs((0, 1)), "seed 2 was left out after a look"),
        (runs(arms=RENUMBERED, seeds=(10, 11, 12)), "seeds 10, 11, 12 were added after a look"),
        (runs(margin=0.02), "margin was 0.01"),
        (runs(arms=REPLACED), "the primary contrast was between other runs"),
        (runs(train={"imgsz": 96}), "train was imgsz=64 when the results were looked at"),
        (runs((0, 1, 2, 3), arms=MOVED, baseline="plain", primary="mha"), "seed 3 was added after a look"),
        (runs(arms=runs()["arms"], baseline="attention", primary="baseline", margin=0.02), "margin was 0.01"),
    ],
)
def test_review__objects_to_other_given_runs_after_a_look(now, objection):
    found = review(now, [("", Look("2026-01-01T10:00:00+00:00", "0" * 64, runs(), {}))])
    assert objection in found.objections[0]


@pytest.mark.parametrize(
    "now",
    [runs(), runs(train={"imgsz": 64, "device": "cpu"}), runs(arms=MOVED, baseline="plain", primary="mha"), plan()],
)
def test_review__has_nothing_against_the_same_given_runs(now):
    assert review(now, [("", Look("2026-01-01T10:00:00+00:00", "0" * 64, runs(), {}))]).objections == []


def test_review__takes_arms_without_a_run_in_common_for_others():
    arms = {name: {"models": {str(seed): f"new-{name}{seed}" for seed in range(3)}} for name in runs()["arms"]}
    found = review(runs(arms=arms), [("", Look("2026-01-01T10:00:00+00:00", "0" * 64, runs(), {}))])
    assert found.objections == []
    assert "attention and baseline were concluded before from other files, seeds 0, 1, 2" in found.remarks[0]
    arms = {"plain": arms["baseline"], "mha": arms["attention"]}
    found = review(
        runs(arms=arms, baseline="plain", primary="mha"),
        [("", Look("2026-01-01T10:00:00+00:00", "0" * 64, runs(), {}))],
    )
    assert (found.objections, found.remarks) == ([], [])


@pytest.mark.parametrize(
    ("now", "before", "remark"),
    [
        (plan((3, 4, 5)), {}, "concluded before with other seeds, 0, 1, 2"),
        (plan(**TEST), {}, "Seeds 0, 1, 2 were scored on the val images before"),
        (plan((0, 1, 2, 3), margin=0.2, **TEST), {}, "scored on the val images before"),
    ],
)
def test_review__tells_of_looks_that_do_no_harm(now, before, remark):
    found = review(now, [("", look(**before))])
    assert found.objections == []
    assert remark in found.remarks[0]


@pytest.mark.parametrize(
    "other",
    [
        {"train": {"epochs": 4}},
        {"inputs": {**INPUTS, "data train": "x"}},
        {"inputs": {**INPUTS, "source of Own": "1"}},
        {"arms": {**plan()["arms"], "attention": {"model": "yolov8n.yaml", "at": ["P4"]}}},
    ],
)
def test_review__is_silent_of_other_questions(other):
    now = plan((0, 1), inputs={**INPUTS, "source of Own": "2"})
    assert review(now, [("other", look(**other))]) == review(now, [])


def test_review__knows_the_arms_in_a_comparison_with_fewer_arms():
    """Without the control first, and with it and more seeds then, is the same difference looked at twice."""
    arms = {name: plan()["arms"][name] for name in ("baseline", "attention")}
    assert review(plan((0, 1, 2, 3)), [("first", look(arms=arms))]).objections


@pytest.mark.parametrize(
    ("now", "before"),
    [
        (plan(group="image"), {}),
        (plan(), {"group": "image"}),
        (plan(group="moved/g.csv", inputs={**INPUTS, "moved/g.csv": "1"}), G),
        (plan(arms=RENAMED, primary="mha"), {}),
    ],
)
def test_review__does_not_object_to_other_words_for_the_same(now, before):
    """group=image is what the tool itself proposes after a report."""
    assert review(now, [("", look(**before))]).objections == []


def test_review__of_the_same_plan_again():
    assert review(plan(), [("", look())]) == review(plan(), [])
    again = review(plan(), [("first", look())])
    assert (again.objections, again.remarks) == ([], ["The same was concluded before (2026-01-01 10:00 UTC, first)."])


def test_review__the_first_look_at_a_plan_decides():
    """What is looked at later, and has no verdict then, does not take away that of the first plan."""
    looks = [("", look()), ("", look(2, seeds=(0, 1, 2, 3)))]
    assert review(plan(), looks).objections == []
    assert "later with another plan" in review(plan(), looks).remarks[0]
    assert review(plan((0, 1, 2, 3)), looks).objections


def test_review__names_each_plan_once():
    looks = [("", look(day)) for day in (1, 2, 3)]
    assert len(review(plan((0, 1, 2, 3)), looks).objections) == 1


def test_review__tells_who_scored_the_test_images_before():
    other = {**TEST, "train": {"epochs": 99}}
    found = review(plan(**TEST), [("first", look(**other)), ("first", look(2, **other)), ("val", look(train={}))])
    assert found.remarks == ["The test images were scored before (2026-01-01 10:00 UTC, first)."]
    unlike = {"split": "test", "inputs": {**INPUTS, "data test": "others"}}
    assert review(plan(**TEST), [("first", look(**unlike))]) == review(plan(**TEST), [])


def test_withhold__keeps_what_is_no_verdict_already():
    helps, none = Verdict(HELPS, "a helps.", 5), Verdict(NONE, "neither has learned anything")
    assert withhold(helps, "a", "b", []) == helps
    assert withhold(none, "a", "b", ["seed 3 was added"]) == none
    assert withhold(helps, "a", "b", ["seed 3 was added", "more"]) == Verdict(
        NONE, "No verdict on a against b: seed 3 was added."
    )


def test_fresh_seeds__are_neither_planned_nor_seen():
    looks = [("other", look(seeds=(3, 4))), ("stranger", look(seeds=(50,), train={}))]
    assert fresh_seeds(plan(), looks, 2) == [5, 6]


ALTERED = json.dumps([{**asdict(look()), "finished": {"baseline": [0]}}])  # with another hash than that of its plan


def test_record_look__keeps_each_look_once(tmp_path):
    declare(tmp_path, plan())
    (declared,) = read_declarations(tmp_path)
    for finished in ([0], [0], [0, 1]):
        looks = record_look(tmp_path / "mine", declared, {"baseline": finished})
    assert [each.finished for each in looks] == [{"baseline": [0]}, {"baseline": [0, 1]}]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / LOOKS).write_text(json.dumps([asdict(replace(look(), sha256=declared.sha256))]))
    assert [where for where, _ in read_looks(tmp_path / "mine")] == ["other", "", ""]


@pytest.mark.parametrize("content", ["[", "{}x", '[{"date": "2026"}]', "[1]", "{}", "null", "[" * 9**6, ALTERED])
def test_read_looks__refuses_a_damaged_record(tmp_path, content):
    (tmp_path / LOOKS).write_text(content)
    with pytest.raises(ConfigError, match="damaged") as caught:
        read_looks(tmp_path)
    assert str(tmp_path / LOOKS) in caught.value.given


@pytest.mark.slow
def test_review__bounds_the_false_verdicts_of_looking_after_every_seed():
    """Equal arms with 3 to 10 seeds, looked at after each: with the rule the first look alone has a verdict."""
    random, simulations, images = np.random.default_rng(0), 300, 60
    weights = bootstrap_weights(images, 60).astype(np.float64)  # (I, R)
    wrong = {"every look": 0, "with the rule": 0}
    for _ in range(simulations):
        # the difference of each seed on each image, mostly the seed's
        effects = random.normal(0, 0.02, (10, 1)) + random.normal(0, 0.02, (10, images))
        looks, found = [], {"every look": [], "with the rule": []}
        for seeds in range(3, 11):
            own = effects[:seeds]
            interval = paired_interval(own.mean(axis=1), own @ weights / images, images)
            verdict = judge(interval, "a", "b", 0.4, best=0.5)
            now = plan(range(seeds))
            objections = review(now, looks).objections
            looks.append(("", look(len(looks) + 1, seeds=list(range(seeds)))))
            found["every look"].append(verdict.word)
            found["with the rule"].append(withhold(verdict, "a", "b", objections).word)
        assert set(found["with the rule"][1:]) == {NONE}
        assert found["every look"][0] in (SAME, HELPS, HURTS)
        for kind, words in found.items():
            wrong[kind] += bool({HELPS, HURTS} & set(words))
    assert wrong["every look"] / simulations > 0.10
    assert wrong["with the rule"] / simulations < 0.07
