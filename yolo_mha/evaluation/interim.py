"""Declared looks: after some of the seeds the primary contrast is judged, and the comparison may stop there.

Someone who looks several times errs more often. What all seeds have in common, the choice of images, is the same at all
looks and takes no correction. The part that varies over seeds is corrected: up to a look, of its probability of error,
0.05, the square of the share of seeds is spent (the power family of Kim & DeMets 1987, in seeds in place of
information). The intervals of all looks together then hold the truth with probability 0.95 (repeated confidence
intervals, Jennison & Turnbull 1989). See benchmarks/sequential.py.

Sources:
    Kim, K. & DeMets, D. L. (1987). Design and analysis of group sequential tests based on the type I error spending
    rate function. Biometrika 74, 149-154.
    Jennison, C. & Turnbull, B. W. (1989). Interim analyses: the repeated confidence interval approach. JRSS B 51,
    305-361.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from scipy import stats

from ..scoring.intervals import Interval, corrected
from ..scoring.power import ALPHA

FUTILE = 0.05  # a comparison that settles its question with a smaller probability than this stops


@dataclass(frozen=True)
class Stage:
    """Where a comparison with declared looks is; without any there is one stage, with all seeds.

    Attributes:
        number: Of the look, from 1; the last one has all seeds.
        looks: Number of looks in all.
        seeds: The seeds that are trained for it.
        planned: Number of seeds of the plan.
        error: Probability of error of this look in the part of the interval that varies over seeds.
        last_error: The same of the last look.
        next: Number of seeds of the next look; None at the last.
        stop: Why the comparison stops here, although seeds are left: the word of the verdict, or "futility".
    """

    number: int = 1
    looks: int = 1
    seeds: list[int] = field(default_factory=list)
    planned: int = 0
    error: float = ALPHA
    last_error: float = ALPHA
    next: int | None = None
    stop: str = ""

    def __str__(self) -> str:
        return f"look {self.number} of {self.looks}" if self.looks > 1 else ""


def stages(looks: Sequence[int], seeds: Collection[int]) -> list[Stage]:
    """Return the stages of a comparison.

    Args:
        looks: After how many seeds results are looked at; all seeds are the last look in any case.
        seeds: All seeds; they are trained in ascending order.
    """
    counts = [*looks, len(seeds)]
    spent = [0.0, *(ALPHA * (count / len(seeds)) ** 2 for count in counts)]
    errors = [after - before for before, after in pairwise(spent)]
    return [
        Stage(i + 1, len(counts), sorted(seeds)[:count], len(seeds), errors[i], errors[-1], following)
        for i, (count, following) in enumerate(zip(counts, [*counts[1:], None], strict=True))
    ]


def stage_of(known: Sequence[Stage], ended: Collection[int]) -> Stage | None:
    """Return the stage for which exactly the seeds that ended were trained; None between looks."""
    return next((stage for stage in known if stage.seeds == sorted(ended)), None)


def chance_to_settle(intervals: Sequence[Interval], stage: Stage, margin: float) -> float:
    """Return the probability that all seeds leave zero out, or a difference that matters, as things look now.

    Args:
        intervals: Uncorrected, of a look before the last one, with three seeds or more. Of several, which have to give
            the same answer, an upper bound is returned.
        stage: That look.
        margin: The smallest difference that matters.
    """
    answers = zip(*(_chances(interval, stage, margin) for interval in intervals), strict=True)
    return sum((min(of_each) for of_each in answers), 0.0)


def _chances(interval: Interval, stage: Stage, margin: float) -> tuple[float, float, float]:
    """Return the probabilities that all seeds will say "helps", "hurts" and "no difference that matters"."""
    sd, so_far = interval.sd_seeds or 0.0, interval.seeds
    ends = corrected(replace(interval, seeds=stage.planned), stage.last_error, ALPHA)
    half = (ends.high - ends.low) / 2
    spread = max(sd * math.sqrt(1 / so_far - 1 / stage.planned), 1e-15)

    t = stats.t(so_far - 1, loc=interval.delta, scale=spread)
    inside = max(min(margin - half, half), 0.0)
    return float(t.sf(half)), float(t.cdf(-half)), float(t.cdf(inside) - t.cdf(-inside))
