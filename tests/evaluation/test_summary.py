from dataclasses import replace
from pathlib import Path

import pytest

from yolo_mha.evaluation.comparison import Contrast, RunResult
from yolo_mha.evaluation.given import MODELS, PREDICTIONS, Given
from yolo_mha.evaluation.interim import stages
from yolo_mha.evaluation.recipe import Arm, Recipe
from yolo_mha.evaluation.summary import Next, seeds_wanted, summarize
from yolo_mha.evaluation.verdict import judge, no_interval
from yolo_mha.scoring.intervals import Interval
from yolo_mha.scoring.resample import Support

AGAIN = "yolo-mha compare recipe=r.yaml"
WEIGHTS = {"baseline": Path("b 1.pt"), "attention": Path("a.pt")}
RECIPE = Recipe("x", "d.yaml", {"baseline": Arm("a.yaml"), "attention": Arm("b.yaml")}, {"epochs": 5})
GIVEN = Next(AGAIN, None, (), (), False, WEIGHTS)


def contrast(delta: float, half: float, best: float = 0.5, seeds: int = 3, **words: object) -> Contrast:
    scope = "seeds and images" if seeds > 2 else "images"
    effect = Interval(delta, delta - half, delta + half, scope, seeds, 80, 0.008, 0.001, None)
    verdict = judge(effect, "attention", "baseline", 0.01, best=best, **words)
    return Contrast("attention", "baseline", True, list(range(seeds)), {"AP": effect}, {}, verdict, best=best, **words)


def summary(given: Contrast, headline: str = "", runs=(), **next_step):
    found = summarize(RECIPE, given, headline, runs, replace(GIVEN, **next_step))
    assert found.question == "Is attention better than baseline?"
    return found


@pytest.mark.parametrize(
    ("given", "answer", "finding"),
    [
        (
            contrast(0.03, 0.02),
            "Yes.",
            "AP is 0.030 higher with attention: 0.500 against 0.470, each the mean of 3 trainings. With 95 % "
            "confidence the true difference is between +0.010 and +0.050.",
        ),
        (
            contrast(-0.03, 0.02),
            "No, it is worse.",
            "AP is 0.030 lower with attention: 0.470 against 0.500, each the mean of 3 trainings. With 95 % "
            "confidence the true difference is between -0.050 and -0.010.",
        ),
        (contrast(0.004, 0.002), "Yes.", "That is less than the 0.01 that was said to matter."),
        (
            contrast(0.001, 0.005),
            "There is no difference that matters.",
            "so a difference of 0.01 or more is excluded.",
        ),
        (
            contrast(0.0, 0.005),
            "There is no difference that matters.",
            "AP is the same with both, 0.500, the mean of 3",
        ),
        (contrast(0.01, 0.03), "One cannot tell yet.", "Chance alone may have done that: with 95 % confidence the"),
        (contrast(0.01, 0.03, seeds=2), "There is no verdict.", "AP +0.010, 95 % interval -0.020 to +0.040 for these"),
        (contrast(0.0, 0.001, best=0.001), "There is no verdict.", "Neither has learned anything (AP 0.001 at best)."),
    ],
)
def test_summarize__says_what_was_found(given, answer, finding):
    found = summary(given)
    assert found.answer == answer
    assert finding in found.finding


def test_summarize__joins_what_is_known_of_the_control():
    assert summary(contrast(0.03, 0.02), "attention is better than both.").finding.endswith(" better than both.")


def test_summarize__without_an_interval():
    none = no_interval("attention", "baseline", 3, Support(6, None))
    found = summary(Contrast("attention", "baseline", True, [0, 1, 2], {"AP": None}, {}, none, best=0.5))
    assert found.finding.startswith("There is no interval, because 6 images are too few")
    assert (found.next_step, found.command) == ("Test on more images, or on more groups of them.", None)


def same_detections() -> Contrast:
    effect = Interval(0.0, 0.0, 0.0, "seeds and images", 3, 80, 0.0, 0.0, None)
    none = judge(effect, "attention", "baseline", 0.01, best=0.5)
    return Contrast("attention", "baseline", True, [0, 1, 2], {"AP": effect}, {}, none, best=0.5)


@pytest.mark.parametrize("given", [same_detections(), contrast(0.001, 0.002, best=0.009)])
def test_summarize__no_verdict_on_equal_or_weak_models_asks_for_longer_training(given):
    assert given.verdict.word == "no verdict"
    assert summary(given).next_step == "Train longer, or look at the data."
    assert summary(given).command == f"{AGAIN} name=x-longer epochs=10"


def test_summarize__names_one_command():
    helps, same, open_ = contrast(0.03, 0.02), contrast(0.001, 0.005), contrast(0.01, 0.03)
    assert summary(helps).command == "yolo-mha export model=a.pt format=onnx"
    assert summary(same).command == "yolo-mha export 'model=b 1.pt' format=onnx"
    assert summary(helps, tests=True).command == f"{AGAIN} split=test conclude=True"
    done = RunResult("attention", 0, "done", None, "", {}, {}, 5, 600.0, 0, 10.0, [])
    fresh = summary(open_, fresh=(3, 4, 5), runs=[done])
    assert fresh.command == f"{AGAIN} name=x-seed3 seeds=3,4,5"
    assert fresh.next_step.startswith(open_.verdict.next_step)
    assert "leave it without a verdict" in fresh.next_step
    assert "about 60 min" in fresh.next_step  # two arms, three seeds, ten minutes each
    assert summary(open_).command is None
    assert summary(open_).next_step == open_.verdict.next_step
    longer = summary(contrast(0.0, 0.001, best=0.001))  # of five epochs
    assert longer.command == f"{AGAIN} name=x-longer epochs=30"
    more = summary(contrast(0.0, 0.001, best=0.001, seeds=1), fresh=(1, 2, 3))  # and of too few seeds
    assert (more.next_step, more.command) == (longer.next_step, f"{longer.command} seeds=1,2,3")
    rising = replace(done, curve=[0.02 * epoch for epoch in range(10)])
    undone = summary(open_, fresh=(3, 4, 5, 6), runs=[rising])
    assert undone.next_step.startswith("The runs were still learning.")
    assert undone.command == f"{AGAIN} name=x-longer epochs=10 seeds=3,4,5"
    assert summary(helps, runs=[rising]).command.startswith("yolo-mha export")
    assert summary(helps, weights={}).command is None


def test_summarize__goes_on_with_what_is_not_finished():
    failed = RunResult("attention", 2, "failed", "out of memory", "", {}, {}, 0, 5.0, 0, 10.0, [])
    for given in (
        summary(contrast(0.03, 0.02), unfinished=(2,)),
        summary(contrast(0.03, 0.02), runs=[failed]),
        summary(contrast(0.01, 0.03), stage=stages((3,), range(5))[0]),
    ):
        assert given.command == AGAIN
    stopped = replace(stages((3,), range(5))[0], stop="helps")
    assert summary(contrast(0.03, 0.02), stage=stopped).command.startswith("yolo-mha export")
    futile = summary(contrast(0.01, 0.03), stage=replace(stopped, stop="futility"))
    assert futile.command is None
    assert "they would settle the question with a probability below 5%" in futile.next_step


def test_summarize__an_answer_that_failed_runs_would_change_is_none():
    counted = Interval(-0.1, -0.4, 0.2, "seeds and images", 4, 80, 0.1, 0.001, None)
    found = summary(contrast(0.03, 0.02, with_failures=counted))
    assert found.answer == "One cannot tell yet."
    assert "because runs failed" in found.finding


def test_summarize__an_answer_with_rare_classes_says_what_it_is_without_them():
    common = Interval(0.004, 0.001, 0.007, "seeds and images", 3, 80, 0.008, 0.001, None)
    found = summary(contrast(0.3, 0.2, rare=["pool"], without_rare=common))
    assert found.answer == "Yes."
    assert "pool is on fewer than 10 images; without these: helps, AP +0.004" in found.finding
    unclear = replace(common, low=-0.02)
    assert "Chance alone" in summary(contrast(0.01, 0.03, rare=["pool"], without_rare=unclear)).finding
    found = summary(contrast(0.3, 0.2, rare=["pool"], without_rare=unclear))
    assert (found.answer, found.next_step) == ("One cannot tell yet.", "Test on more images of pool.")
    assert "inconclusive, because pool is on fewer than 10 images" in found.finding


def test_seeds_wanted__as_many_as_the_verdict_says_or_anew():
    primary = contrast(0.01, 0.03)
    assert seeds_wanted(RECIPE, primary, []) == primary.verdict.seeds_needed > 3
    assert seeds_wanted(RECIPE, contrast(0.03, 0.02), []) == 0
    assert seeds_wanted(RECIPE, contrast(0.03, 0.02), ["seeds were added"]) == 3
    assert seeds_wanted(replace(RECIPE, seeds=(0,)), contrast(0.03, 0.02, seeds=1), []) == 3
    assert seeds_wanted(replace(RECIPE, seeds=(0, 1, 2, 3, 4)), contrast(0.03, 0.02, seeds=1), []) == 5  # one in common


def test_summarize__of_given_runs_trains_nothing():
    arms = {name: Given(MODELS, {0: f"{name}.pt"}) for name in RECIPE.arms}
    recipe = replace(RECIPE, arms=arms)
    helps, open_ = contrast(0.03, 0.02), contrast(0.01, 0.03)
    found = summarize(recipe, open_, "", (), replace(GIVEN, fresh=(3, 4, 5)))
    assert found.command is None
    assert "Give runs with other seeds, 3 or more of each arm" in found.next_step
    hopeless = summarize(recipe, open_, "", (), GIVEN)  # where no number of seeds would do
    assert (hopeless.next_step, hopeless.command) == (open_.verdict.next_step, None)
    nothing = summarize(recipe, contrast(0.0, 0.001, best=0.0), "", (), GIVEN)
    assert (nothing.next_step, nothing.command) == ("Train longer, or look at the data.", None)
    assert summarize(recipe, helps, "", (), replace(GIVEN, tests=True)).command == f"{AGAIN} split=test"
    predicted = replace(recipe, arms={name: Given(PREDICTIONS, {0: f"{name}.json"}) for name in arms})
    assert summarize(predicted, helps, "", (), replace(GIVEN, tests=True)).command is None
