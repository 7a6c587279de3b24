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
        (interval(0.01, 0.05), INCONCLUSIVE, "fresh seeds would find a difference of 0.01"),
        (interval(0.0, 0.5, by_image=0.1), INCONCLUSIVE, "test images as well"),
        (interval(0.03, 0.02, seeds=2, scope="images"), NONE, "2 seeds cannot tell what training again would give"),
        (interval(0.03, 0.02, seeds=1, scope="images"), NONE, "One seed cannot tell"),
    ],
)
def test_judge__says_what_the_interval_allows(given, word, sentence):
    verdict = judge(given, "attention", "baseline", margin=0.01, best=0.4, planned=5)
    assert verdict.word == word
    assert sentence in verdict.sentence
    assert (verdict.seeds_needed or 0) >= 0


def test_judge__an_interval_beyond_the_margin_is_no_equality():
    """It holds zero, and reaches beyond the margin on one side."""
    assert judge(interval(0.006, 0.007), "a", "b", margin=0.01, best=0.4, planned=5).word == INCONCLUSIVE
    assert judge(interval(-0.006, 0.007), "a", "b", margin=0.01, best=0.4, planned=5).word == INCONCLUSIVE
    assert judge(interval(0.006, 0.007), "a", "b", margin=0.02, best=0.4, planned=5).word == SAME


def test_judge__two_models_that_learned_nothing_do_not_agree():
    verdict = judge(interval(0.0, 0.0001), "a", "b", margin=0.01, best=0.001, planned=5)
    assert verdict.word == NONE
    assert "neither has learned anything" in verdict.sentence


def test_judge__says_where_seeds_failed_and_where_a_difference_is_small():
    few = judge(interval(0.03, 0.02, seeds=3), "a", "b", margin=0.01, best=0.4, planned=5)
    assert "2 of 5 seeds failed" in few.sentence
    small = judge(interval(0.003, 0.002), "a", "b", margin=0.01, best=0.4, planned=5)
    assert small.sentence.startswith("a helps, by less than the margin of 0.01")


def test_judge__a_large_design_without_an_answer_names_the_next_step():
    given = Interval(0.0045, -0.0005, 0.0095, "seeds and images", 10, 100, 0.005, 0.0005, None)
    verdict = judge(given, "a", "b", margin=0.0094, best=0.4, planned=10)
    assert verdict.word == INCONCLUSIVE
    assert verdict.seeds_needed > 10
    assert "if the estimate stays" in verdict.sentence
