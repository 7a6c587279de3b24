"""What an interval lets one say, in words."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..scoring.intervals import LEAST_SEEDS, Interval, images_needed, seeds_needed, seeds_to_settle

HELPS, HURTS, INCONCLUSIVE, NONE = "helps", "hurts", "inconclusive", "no verdict"
SAME = "no difference that matters"
LEARNED = 0.005  # a model below this AP has learned next to nothing, and two of them differ in nothing


@dataclass(frozen=True)
class Verdict:
    """A verdict on one difference.

    Attributes:
        word: "helps", "hurts", "no difference that matters", "inconclusive" or, below three seeds or where neither arm
            has learned anything, "no verdict".
        sentence: The same with the figures.
        seeds_needed: With "inconclusive", about how many seeds would be needed; None where seeds alone do not suffice.
    """

    word: str
    sentence: str
    seeds_needed: int | None = None


def judge(interval: Interval, arm: str, against: str, margin: float, *, best: float, planned: int) -> Verdict:
    """Say what an interval means.

    It helps or hurts where the interval lies on one side of zero. Where it holds zero and lies within the margin on
    both sides, a difference that matters is excluded (two one-sided tests, Schuirmann 1987, at 2.5 % each). Otherwise
    nothing is known yet, and a rough number of seeds is given that would find a difference of the margin.

    Args:
        interval: Of the difference in AP, the arm less the other.
        arm: Name of the arm.
        against: Name of what it is compared with.
        margin: The smallest difference that matters, chosen before the run.
        best: AP of the better of the two.
        planned: Number of seeds that were to be trained; runs that failed are missing.
    """
    if best < LEARNED:
        return Verdict(
            NONE,
            f"No verdict on {arm} against {against}: neither has learned anything (AP {best:.3f} at best). Train "
            "longer, or look at the data.",
        )
    size = f"AP {interval.delta:+.3f}, 95 % interval {interval.low:+.3f} to {interval.high:+.3f}"
    if interval.scope == "images":
        some = "One seed" if interval.seeds == 1 else f"{interval.seeds} seeds"
        return Verdict(
            NONE,
            f"No verdict on {arm} against {against}: {size} for these very models on other images of this kind. {some} "
            f"cannot tell what training again would give; {LEAST_SEEDS} or more can.",
        )
    design = f"{interval.seeds} seeds, {interval.images} images"
    if interval.seeds < planned:
        design += f"; {planned - interval.seeds} of {planned} seeds failed and are not in it"
    widest = max(-interval.low, interval.high, 0.0)
    small = f", by less than the margin of {margin:g}" if widest < margin else ""
    if interval.low > 0 or interval.high < 0:
        word = HELPS if interval.low > 0 else HURTS
        return Verdict(word, f"{arm} {word}{small}: {size} against {against} ({design}).")
    if widest <= margin:
        bound = math.ceil(widest * 1000) / 1000
        return Verdict(SAME, f"{arm} makes no difference larger than {bound:.3f} against {against}: {size} ({design}).")
    needed, then = _next(interval, margin)
    return Verdict(INCONCLUSIVE, f"{arm} against {against} is inconclusive: {size} ({design}); {then}.", needed)


def _next(interval: Interval, margin: float) -> tuple[int | None, str]:
    """Return about how many seeds would be needed, None where seeds alone do not suffice, and that in words."""
    needed = seeds_needed(interval, margin)
    if needed is not None and needed > interval.seeds:
        return needed, f"another comparison with about {needed} fresh seeds would find a difference of {margin:g}"
    if needed is not None:  # a design large enough, and an unlucky one
        needed = seeds_to_settle(interval, margin)
        if needed is not None:
            return needed, f"another comparison with about {needed} fresh seeds would settle it if the estimate stays"
    images = max(images_needed(interval, margin), interval.images + 1)
    return None, f"more seeds alone do not suffice, it takes about {images:,} test images as well"
