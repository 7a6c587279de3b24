from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from yolo_mha.evaluation.comparison import Contrast
from yolo_mha.evaluation.interim import chance_to_settle, stage_of, stages
from yolo_mha.evaluation.recipe import Arm, Control, Recipe
from yolo_mha.evaluation.verdicts import FUTILITY, headline, stopping, with_verdicts
from yolo_mha.scoring.intervals import Interval, corrected, paired_interval, share_needed


def interval(delta: float, sd: float, se_images: float = 0.001, seeds: int = 3) -> Interval:
    deltas = delta + sd * np.array([-1.0, 0.0, 1.0]) if seeds == 3 else np.full(seeds, delta)
    rng = np.random.default_rng(0)
    shared = rng.normal(0, se_images, 1000)
    found = paired_interval(deltas, deltas[:, None] + (shared - shared.mean())[None], 100)
    assert found is not None
    return found


def contrast(given: Interval, **words: Any) -> Contrast:
    none: Any = None
    return Contrast("attention", "baseline", True, [0, 1, 2], {"AP": given}, {}, none, named=True, best=0.4, **words)


def judged(given: Interval, stage, margin: float = 0.01, **words: Any) -> Contrast:
    return with_verdicts([contrast(given, **words)], margin, stage)[0]


def test_stages__spend_the_error_by_the_square_of_the_share_of_seeds():
    first, second, last = stages([3, 6], [9, 2, 5, 4, 3, 8, 7, 6, 1, 0])
    assert [stage.error for stage in (first, second, last)] == pytest.approx([0.0045, 0.0135, 0.032])
    assert first.error + second.error + last.error == pytest.approx(0.05)
    assert (first.seeds, first.next, last.next) == ([0, 1, 2], 6, None)
    assert {stage.last_error for stage in (first, second, last)} == {last.error}
    (only,) = stages([], [0, 1, 2])
    assert (only.error, only.looks, str(only)) == (pytest.approx(0.05), 1, "")


def test_stage_of__is_none_between_looks():
    known = stages([3], range(5))
    assert stage_of(known, {0, 1, 2}) == known[0]
    assert stage_of(known, range(5)) == known[1]
    assert stage_of(known, {0, 1, 2, 3}) is None
    assert stage_of(known, {0, 1, 3}) is None


def test_corrected__widens_only_the_part_of_the_seeds():
    given = interval(0.05, 0.01)
    assert corrected(given, 0.05, 0.05) == given
    look = corrected(given, 0.0045, 0.05)
    assert look.high - look.low > 3 * (given.high - given.low)
    assert look.smallest_detectable > given.smallest_detectable
    images_alone = interval(0.05, 0.0, se_images=0.01)
    wider = corrected(images_alone, 0.0045, 0.05)
    assert wider.high - wider.low == pytest.approx(images_alone.high - images_alone.low)


def test_share_needed__is_where_the_interval_ends_at_zero():
    given = interval(0.05, 0.01)
    share = share_needed(given)
    assert corrected(given, 0.05 * share, 0.05 * share).low == pytest.approx(0, abs=1e-9)
    assert share_needed(interval(0.0, 0.01)) > 1


def test_look__stops_for_what_stands_out_and_goes_on_otherwise():
    first = stages([3], range(10))[0]
    clear = judged(interval(0.2, 0.005), first)
    assert clear.verdict.word == "helps"
    assert "look 1 of 2" in clear.verdict.sentence
    assert stopping(clear, 0.01, first) == "helps"
    tempting = judged(interval(0.02, 0.006), first)  # an interval without correction leaves zero out
    assert (tempting.effect.low > 0, tempting.verdict.word) == (True, "inconclusive")
    assert stopping(tempting, 0.01, first) == ""


def test_look__stops_where_all_seeds_would_not_settle_it():
    first = stages([3], range(5))[0]
    hopeless = judged(interval(0.004, 0.0005, se_images=0.02), first)
    assert chance_to_settle([hopeless.effect], first, 0.01) < 0.01
    assert stopping(hopeless, 0.01, first) == FUTILITY
    last = stages([3], range(5))[-1]
    assert stopping(judged(interval(0.004, 0.0005, se_images=0.02), last), 0.01, last) == ""


def test_chance_to_settle__agrees_with_simulated_ends():
    """Of many ends that are possible, with the spread that the three seeds show."""
    given, margin = interval(0.01, 0.006), 0.02
    stage = stages([3], range(10))[0]
    rng = np.random.default_rng(1)
    ends = given.delta + given.sd_seeds * np.sqrt(1 / 3 - 1 / 10) * rng.standard_t(2, 200_000)
    half = corrected(replace(given, seeds=10), stage.last_error, 0.05)
    half = (half.high - half.low) / 2
    settled = (abs(ends) > half) | (abs(ends) + half < margin)
    assert chance_to_settle([given], stage, margin) == pytest.approx(settled.mean(), abs=0.005)


def test_look__stops_where_no_seeds_could_make_rare_classes_agree():
    """Of a gain that one rare class makes more seeds say the same; an answer takes more images."""
    first = stages([3], range(5))[0]
    gain = interval(0.2, 0.001)
    for common, reason in ((interval(0.0, 0.0001), FUTILITY), (None, FUTILITY), (interval(0.02, 0.006), "")):
        found = judged(gain, first, rare=["pool"], without_rare=common)
        assert found.verdict.word == "inconclusive"
        assert stopping(found, 0.01, first) == reason


def test_named__are_judged_as_sharply_as_their_common_classes_allow():
    """Holm's second step is open only to those that come after a contrast that is answered."""
    (only,) = stages([], range(3))
    primary = contrast(interval(0.2, 0.005))
    clear = replace(contrast(interval(0.2, 0.005)), primary=False)
    doubtful = replace(clear, rare=["pool"], without_rare=interval(0.0, 0.05))
    second = replace(clear, effects={"AP": interval(0.03, 0.01)})
    for first, word in ((clear, "helps"), (doubtful, "inconclusive")):
        _, judged_first, judged_second = with_verdicts([primary, first, second], 0.01, only)
        assert (judged_first.verdict.word, judged_second.verdict.word) == (word, word)


def test_headline__needs_both_contrasts():
    (only,) = stages([], range(3))
    arms = {"baseline": Arm("a.yaml"), "attention": Arm("b.yaml"), "control": Control("attention")}
    recipe = Recipe("x", "d.yaml", arms)
    clear, nothing = interval(0.2, 0.005), interval(0.0, 0.005)
    helps = judged(clear, only)

    def said(against_control: Interval, first: Contrast = helps, failures: Interval | None = None) -> str:
        control = replace(judged(against_control, only), against="control", primary=False, with_failures=failures)
        return headline([first, control], recipe, only)

    assert said(clear) == "attention is better than baseline and than its control of as many parameters, control."
    assert "may come from the parameters" in said(nothing)
    assert "may come from the parameters" in said(clear, failures=nothing)
    assert said(clear, first=judged(nothing, only)) == ""
    assert headline([helps], recipe, only) == ""
