"""What an interval lets one say, in words."""

from __future__ import annotations

from dataclasses import dataclass

from .intervals import LEAST_SEEDS, MOST_SEEDS, Interval, images_needed, seeds_needed

HELPS, HURTS, SAME, INCONCLUSIVE, NONE = (
    "helps",
    "hurts",
    "no difference that matters",
    "inconclusive",
    "no verdict",
)


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


def judge(interval: Interval, arm: str, against: str, metric: str, margin: float, best: float) -> Verdict:
    """Say what an interval means.

    It helps or hurts where the interval lies on one side of zero. Where it holds zero and lies within the margin on
    both sides, a difference that matters is excluded (two one-sided tests, Schuirmann 1987, at 2.5 % each). Otherwise
    nothing is known yet, and the number of seeds is given that would find a difference of the margin.

    Args:
        interval: Of the difference arm less baseline.
        arm: Name of the arm.
        against: Name of what it is compared with.
        metric: Name of the metric.
        margin: The smallest difference that matters, chosen before the run.
        best: The metric of the better of the two.
    """
    if best < LEARNED:
        return Verdict(
            NONE,
            f"No verdict on {arm} against {against}: neither has learned anything ({metric} {best:.3f} at best). Train "
            "longer, or look at the data.",
        )
    size = f"{metric} {interval.delta:+.3f}, 95 % interval {interval.low:+.3f} to {interval.high:+.3f}"
    if interval.scope == "images":
        some = "One seed" if interval.seeds == 1 else f"{interval.seeds} seeds"
        return Verdict(
            NONE,
            f"No verdict on {arm} against {against}: {size} for these very models on other images of this kind. {some} "
            f"cannot tell what training again would give; {LEAST_SEEDS} or more can.",
        )
    design = f"{interval.seeds} seeds, {interval.images} images"
    if interval.low > 0:
        return Verdict(HELPS, f"{arm} helps: {size} against {against} ({design}).")
    if interval.high < 0:
        return Verdict(HURTS, f"{arm} hurts: {size} against {against} ({design}).")
    widest = max(-interval.low, interval.high, 0.0)
    if widest <= margin:
        return Verdict(
            SAME, f"{arm} makes no difference larger than {widest:.3f} against {against}: {size} ({design})."
        )
    needed = seeds_needed(interval, margin)
    if needed is None:
        images = images_needed(interval, margin)
        then = (
            f"{MOST_SEEDS} seeds would not find a difference of {margin:g}"
            if images <= interval.images
            else f"more seeds alone will not find a difference of {margin:g}, about {images:,} test images would"
        )
    elif needed <= interval.seeds:  # a difference of the margin would have been seen, yet a smaller one may be there
        then = "a difference of the margin would probably have been seen; a smaller one may still be there"
    else:
        then = f"about {needed} seeds would be needed to find a difference of {margin:g}"
    return Verdict(INCONCLUSIVE, f"{arm} against {against} is inconclusive: {size} ({design}); {then}.", needed)
