"""What an interval lets one say, in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..data.labels import MAX_NAMED
from ..scoring.intervals import LEAST_UNITS, Interval, images_needed, no_spread, sample, seeds_to_settle
from ..scoring.power import LEAST_SEEDS, MOST_SEEDS, POWER, seeds_needed, smallest_detectable
from ..scoring.resample import Support
from .figures import DECIMALS, figures, size

HELPS, HURTS, INCONCLUSIVE, NONE = "helps", "hurts", "inconclusive", "no verdict"
SAME = "no difference that matters"
LEARNED = 0.005  # a model below this AP has learned next to nothing, and two of them differ in nothing


@dataclass(frozen=True)
class Verdict:
    """A verdict on one difference.

    Attributes:
        word: "helps", "hurts", "no difference that matters", "inconclusive" or, below three seeds, without any spread
            or where neither arm has learned anything, "no verdict".
        sentence: The same with the figures.
        seeds_needed: With "inconclusive" in the primary contrast, about how many seeds would be needed; None where no
            practical number suffices.
        next_step: What would give an answer, in a sentence.
    """

    word: str
    sentence: str
    seeds_needed: int | None = None
    next_step: str = ""


def judge(
    interval: Interval,
    arm: str,
    against: str,
    margin: float,
    *,
    best: float,
    with_failures: Interval | None = None,
    rare: Sequence[str] = (),
    without_rare: Interval | None = None,
    primary: bool = True,
    metric: str = "AP",
    told: str = "",
) -> Verdict:
    """Say what an interval means.

    It helps or hurts where the interval lies on one side of zero. Where it holds zero and lies within the margin on
    both sides, a difference that matters is excluded (two one-sided tests, Schuirmann 1987, at 2.5 % each); unless AP
    itself is no larger than the margin, so that nothing was there to exclude. Otherwise nothing is known yet. An answer
    that changes when a failed run counts as AP 0 is none: an arm whose training diverges is not better for its other
    seeds. Nor is one that changes without the classes that are on a few images only: of these a resample of the images
    cannot tell what others would give.

    Args:
        interval: Of the difference, the arm less the other.
        arm: Name of the arm.
        against: Name of what it is compared with.
        margin: The smallest difference that matters, chosen before the run.
        best: The metric of the better of the two.
        with_failures: The same interval over all seeds, with AP 0 for every failed run; None where none failed.
        rare: Classes that are on fewer than ten images, or groups.
        without_rare: The same interval without these; None where there are no others.
        primary: Whether it is the primary contrast; where that is inconclusive, the next step is named.
        metric: What is compared.
        told: For what the interval was corrected.
    """
    if best < LEARNED:
        return Verdict(
            NONE,
            f"No verdict on {arm} against {against}: neither has learned anything ({metric} {best:.3f} at best). Train "
            "longer, or look at the data.",
        )
    design, found = _design(interval, with_failures) + told, _found(interval, margin, metric)
    word = word_of(interval, margin)
    if word == NONE:
        return Verdict(NONE, f"No verdict on {arm} against {against}: {_reason(interval, found, design, metric)}")
    if with_failures and word != INCONCLUSIVE:
        counted = word_of(with_failures, margin)
        if counted != word:
            return Verdict(
                INCONCLUSIVE,
                f"{arm} against {against} is inconclusive, because runs failed. Without them: {word}, {found} "
                f"({design}). With AP 0 for a failed run: {counted}, {_found(with_failures, margin, metric)}. "
                "Find out first why they failed.",
            )
        design += "; with AP 0 for a failed run the answer is the same"
    if rare and word != INCONCLUSIVE:
        common = word_of(without_rare, margin) if without_rare else NONE
        few = on_few(rare, "images" if interval.groups is None else "groups")
        rest = f"{common}, {_found(without_rare, margin, metric)}" if without_rare else "nothing is left"
        if common != word:
            return Verdict(
                INCONCLUSIVE,
                f"{arm} against {against} is inconclusive, because {few}, which is too few to tell what others would "
                f"give. With all classes: {word}, {found} ({design}). Without these: {rest}.",
                next_step=f"Test on more images of {_listed(rare)}." if primary else "",
            )
        design += f"; {few}; without these: {rest}"
    widest = max(0.0, *(end for each in (interval, without_rare) if each for end in (-each.low, each.high)))
    if word in (HELPS, HURTS):
        small = f", by less than the margin of {margin:g}" if widest < margin else ""
        return Verdict(word, f"{arm} {word}{small}: {found} against {against} ({design}).")
    if word == SAME and best <= margin:
        return Verdict(
            NONE,
            f"No verdict on {arm} against {against}: {found} ({design}), but with {metric} {best:.3f} at best they "
            f"could hardly differ by the margin of {margin:g}. Train longer, or "
            "choose a smaller margin before the results.",
        )
    if word == SAME:
        bound = math.ceil(widest * 10**DECIMALS) / 10**DECIMALS
        larger = f"{bound:.{DECIMALS}f}" if bound <= margin else f"{margin:g}"
        return Verdict(SAME, f"{arm} makes no difference larger than {larger} against {against}: {found} ({design}).")
    advice = _next(interval, margin) if primary else (None, "")
    return Verdict(INCONCLUSIVE, f"{arm} against {against} is inconclusive: {found} ({design}).", *advice)


def no_interval(arm: str, against: str, seeds: int, tested: Support) -> Verdict:
    """Say why there is no interval to judge.

    Args:
        arm: Name of the arm.
        against: Name of what it is compared with.
        seeds: Number of seeds that both finished.
        tested: What the metric was tested on.
    """
    reason = "no seed finished in both"
    if seeds:
        few = sample(tested.images, tested.groups)
        reason = f"there is no interval, because {few} are too few; {LEAST_UNITS} or more are needed"
    return Verdict(NONE, f"No verdict on {arm} against {against}: {reason}.")


def word_of(interval: Interval, margin: float) -> str:
    """Return the verdict that an interval allows, see `judge`."""
    if no_spread(interval) or interval.scope == "images":
        return NONE
    if interval.low > 0:
        return HELPS
    if interval.high < 0:
        return HURTS
    return SAME if max(-interval.low, interval.high) <= margin else INCONCLUSIVE


def on_few(rare: Sequence[str], units: str) -> str:
    """Say that classes are on too few images, or groups of these."""
    return f"{_listed(rare)} {'is' if len(rare) == 1 else 'are each'} on fewer than {LEAST_UNITS} {units}"


def _listed(classes: Sequence[str]) -> str:
    more = f" and {len(classes) - MAX_NAMED} more classes" if len(classes) > MAX_NAMED else ""
    return f"{', '.join(classes[:MAX_NAMED])}{more}"


def _found(interval: Interval, margin: float, metric: str) -> str:
    delta, ends = figures(interval, margin)
    return f"{metric} {delta}, 95 % interval {ends}"


def _design(interval: Interval, with_failures: Interval | None) -> str:
    seeds = "1 seed" if interval.seeds == 1 else f"{interval.seeds} seeds"
    design = f"{seeds}, {interval.sample()}"
    if with_failures:
        failed = with_failures.seeds - interval.seeds
        design += f"; {failed} of {with_failures.seeds} seeds failed, not counted here"
    return design


def _reason(interval: Interval, found: str, design: str, metric: str) -> str:
    """Say why an interval allows no verdict."""
    if no_spread(interval) and not interval.delta:
        return (
            f"as far as {metric} shows, the two arms gave the same detections ({design}). They may be the "
            "same model, or the gate of the block may still be 0."
        )
    if no_spread(interval):
        return (
            f"{metric} {figures(interval, 0.0)[0]} without any spread over seeds or images ({design}), so no interval."
        )
    some = "One seed" if interval.seeds == 1 else f"{interval.seeds} seeds"
    return (
        f"{found} for these very models on other images of this kind ({design}). {some} cannot tell what training "
        f"again would give; {LEAST_SEEDS} or more can."
    )


def _next(interval: Interval, margin: float) -> tuple[int | None, str]:
    """Return about how many seeds would be needed, None where no practical number suffices, and that in words.

    One advice: a number of seeds; or, where that would not do, what limits the design.
    """
    needed = seeds_needed(interval.spread, margin)
    if needed is not None and needed > interval.seeds:
        most = seeds_needed(interval.spread.upper, margin) or f"more than {MOST_SEEDS}"
        few = f"{interval.seeds} seeds tell little of the spread, so it may take {most} (80 % upper bound)."
        then = f"Another comparison with about {needed} fresh seeds would find a difference of {margin:g}"
        return needed, f"{then} with probability {POWER:g}. {few}"
    if needed is not None:  # the design was large enough, and yet this result is inconclusive
        needed = seeds_to_settle(interval, margin)
        if needed is not None:
            return needed, f"Another comparison with about {needed} fresh seeds would settle it if the estimate stays."
        return None, "More seeds alone would hardly settle it, more test images may."
    units = images_needed(interval, margin)
    if units > interval.units:
        few = f"{interval.sample()} are too few to test on for any number of seeds"
        return None, f"{few}: a difference of {margin:g} takes about {interval.sample(units)} or more."
    most = max(MOST_SEEDS, interval.seeds)
    least = size(smallest_detectable(interval.spread, most), margin)
    return (
        None,
        f"{margin:g} is too small a difference to find here: even {most} seeds find no less than about {least}.",
    )
