import re
from dataclasses import replace

import pytest

from yolo_mha.evaluation.verdict import HELPS, HURTS, INCONCLUSIVE, NONE, SAME, judge
from yolo_mha.scoring.intervals import Interval


def interval(delta: float, half: float, seeds: int = 5, scope: str = "seeds and images", by_image: float = 0.001):
    return Interval(delta, delta - half, delta + half, scope, seeds, 100, half / 2, by_image, None)


@pytest.mark.parametrize(
    ("given", "word", "sentence"),
    [
        (interval(0.03, 0.02), HELPS, "attention helps: AP +0.030, 95 % interval +0.010 to +0.050"),
        (interval(-0.03, 0.02), HURTS, "attention hurts: AP -0.030"),
        (interval(0.0022, 0.006), SAME, "no difference larger than 0.009"),
        (interval(0.01, 0.02), INCONCLUSIVE, "fresh seeds would find a difference of 0.01"),
        (
            interval(0.01, 0.05),
            INCONCLUSIVE,
            "even 30 seeds find no less than about 0.014",
        ),
        (interval(0.0, 0.5, by_image=0.1), INCONCLUSIVE, "100 images are too few to test on for any number of seeds"),
        (interval(0.005, 0.0055, by_image=0.0027), INCONCLUSIVE, "More seeds alone would hardly settle it"),
        (interval(0.03, 0.02, seeds=2, scope="images"), NONE, "2 seeds cannot tell what training again would give"),
        (interval(0.03, 0.02, seeds=1, scope="images"), NONE, "One seed cannot tell"),
    ],
)
def test_judge__says_what_the_interval_allows(given, word, sentence):
    verdict = judge(given, "attention", "baseline", margin=0.01, best=0.4)
    assert verdict.word == word
    assert sentence in f"{verdict.sentence} {verdict.next_step}"
    assert bool(verdict.next_step) == (word == INCONCLUSIVE)
    assert (verdict.seeds_needed or 6) in range(6, 31)
    assert bool(verdict.seeds_needed) == ("about" in verdict.next_step and "fresh seeds would" in verdict.next_step)


def test_judge__an_interval_beyond_the_margin_is_no_equality():
    """It holds zero, and reaches beyond the margin on one side."""
    assert judge(interval(0.006, 0.007), "a", "b", margin=0.01, best=0.4).word == INCONCLUSIVE
    assert judge(interval(-0.006, 0.007), "a", "b", margin=0.01, best=0.4).word == INCONCLUSIVE
    assert judge(interval(0.006, 0.007), "a", "b", margin=0.02, best=0.4).word == SAME


def test_judge__two_models_that_learned_nothing_do_not_agree():
    verdict = judge(interval(0.0, 0.0001), "a", "b", margin=0.01, best=0.001)
    assert verdict.word == NONE
    assert "neither has learned anything" in verdict.sentence


@pytest.mark.parametrize(
    ("finished", "counted", "word", "sentence"),
    [
        (interval(0.03, 0.02, seeds=3), interval(-0.1, 0.3), INCONCLUSIVE, "because runs failed. Without them: helps"),
        (interval(-0.03, 0.02, seeds=3), interval(0.1, 0.3), INCONCLUSIVE, "With AP 0 for a failed run: inconclusive"),
        (interval(0.0, 0.002, seeds=3), interval(-0.3, 0.2), INCONCLUSIVE, "With AP 0 for a failed run: hurts"),
        (
            interval(-0.03, 0.02, seeds=3),
            interval(-0.3, 0.2),
            HURTS,
            "with AP 0 for a failed run the answer is the same",
        ),
        (interval(0.0, 0.05, seeds=3), interval(-0.3, 0.2), INCONCLUSIVE, "a against b is inconclusive: "),
        (interval(0.03, 0.02, seeds=2, scope="images"), interval(-0.3, 0.2), NONE, "2 seeds cannot tell"),
    ],
)
def test_judge__an_answer_that_failed_runs_would_change_is_none(finished, counted, word, sentence):
    verdict = judge(finished, "a", "b", margin=0.01, best=0.4, with_failures=counted)
    assert verdict.word == word
    assert sentence in verdict.sentence
    assert f"{5 - finished.seeds} of 5 seeds failed" in verdict.sentence


@pytest.mark.parametrize(
    ("common", "word", "sentence"),
    [
        (
            interval(0.02, 0.001),
            HELPS,
            "bike is on fewer than 10 images; without these: helps, AP +0.020, 95",
        ),
        (interval(0.0, 0.03), INCONCLUSIVE, "because bike is on fewer than 10 images, which is too few"),
        (interval(-0.02, 0.01), INCONCLUSIVE, "With all classes: helps, AP +0.500"),
        (None, INCONCLUSIVE, "Without these: nothing is left"),
    ],
)
def test_judge__an_answer_that_rests_on_rare_classes_is_none(common, word, sentence):
    given = interval(0.5, 0.1)
    verdict = judge(given, "attention", "baseline", margin=0.01, best=0.6, rare=["bike"], without_rare=common)
    assert verdict.word == word
    assert sentence in verdict.sentence
    assert verdict.next_step == ("Test on more images of bike." if word == INCONCLUSIVE else "")


def test_judge__bounds_hold_with_and_without_rare_classes():
    narrow, wide = interval(0.0, 0.001), interval(0.0, 0.003)
    for whole, common in ((narrow, wide), (wide, narrow)):
        same = judge(whole, "a", "b", margin=0.02, best=0.6, rare=["bike"], without_rare=common)
        alone = judge(wide, "a", "b", margin=0.02, best=0.6)
        assert same.sentence.split(" against")[0] == alone.sentence.split(" against")[0]


def test_judge__two_models_whose_ap_is_within_the_margin_do_not_agree():
    for best, word in ((0.01, NONE), (0.011, SAME)):
        assert judge(interval(0.0, 0.0001), "a", "b", margin=0.01, best=best).word == word
    few = judge(interval(0.0, 0.1), "a", "b", margin=0.5, best=0.3)
    assert "could hardly differ by the margin of 0.5" in few.sentence
    assert judge(interval(0.006, 0.002), "a", "b", margin=0.01, best=0.008).word == HELPS


def test_judge__claims_nothing_where_nothing_varies():
    same = judge(interval(0.0, 0.0, by_image=0.0), "a", "b", margin=0.01, best=0.4)
    assert same.word == NONE
    assert "the two arms gave the same detections (5 seeds, 100 images)" in same.sentence
    apart = judge(interval(0.02, 0.0, by_image=0.0), "a", "b", margin=0.01, best=0.4)
    assert (apart.word, "without any spread" in apart.sentence) == (NONE, True)
    assert not any("interval +" in v.sentence or "0.000 to" in v.sentence for v in (same, apart))


@pytest.mark.parametrize("margin", [0.0123, 0.0126, 0.01, 0.0005, 1e-05])
@pytest.mark.parametrize("share", [0.001, 0.3, 0.9, 0.99, 0.9999, 1.0])
def test_judge__no_figure_contradicts_the_sentence(margin, share):
    """As printed, a bound lies within the margin, and an interval on its side of zero."""
    same = judge(interval(0.0, margin * share), "a", "b", margin=margin, best=0.4)
    bound = float(re.search(r"larger than (\S+) ", same.sentence)[1])
    low, high = map(float, re.search(r"([+-][\d.]+) to ([+-][\d.]+)", same.sentence).groups())
    assert same.word == SAME
    assert max(-low, high) <= margin
    assert margin * share <= bound + 1e-15 <= margin + 2e-15
    helps = judge(interval(0.02 + margin * share, 0.02), "a", "b", margin=margin, best=0.4)
    assert helps.word == HELPS
    assert float(re.search(r"([+-][\d.]+) to", helps.sentence)[1]) > 0


def test_judge__only_the_primary_contrast_names_a_next_step():
    """Two contrasts would otherwise advise two things about one design."""
    given = interval(0.01, 0.02)
    assert "fresh seeds would find" in judge(given, "a", "b", margin=0.01, best=0.4).next_step
    other = judge(given, "a", "b", margin=0.01, best=0.4, primary=False)
    assert (other.seeds_needed, other.next_step) == (None, "")
    assert other.sentence.endswith("(5 seeds, 100 images).")


def test_judge__says_where_a_difference_is_small():
    small = judge(interval(0.003, 0.002), "a", "b", margin=0.01, best=0.4)
    assert small.sentence.startswith("a helps, by less than the margin of 0.01")


def test_judge__a_large_design_without_an_answer_names_the_next_step():
    given = Interval(0.0045, -0.0005, 0.0095, "seeds and images", 10, 100, 0.005, 0.0005, None)
    verdict = judge(given, "a", "b", margin=0.0094, best=0.4)
    assert verdict.word == INCONCLUSIVE
    assert verdict.seeds_needed > 10
    assert "if the estimate stays" in verdict.next_step


def test_judge__says_up_to_how_many_seeds_it_may_take():
    """Three seeds say little of the spread: by its 80 % upper bound, twice as large, many more are needed."""
    given = Interval(0.004, -0.02, 0.028, "seeds and images", 3, 100, 0.007, 0.001, None)
    verdict = judge(given, "a", "b", margin=0.01, best=0.4)
    most = int(re.search(r"it may take (\d+) ", verdict.next_step)[1])
    assert verdict.seeds_needed < most <= 30
    wide = judge(replace(given, sd_seeds=0.012), "a", "b", margin=0.01, best=0.4)
    assert "it may take more than 30 (80 % upper bound)" in wide.next_step
