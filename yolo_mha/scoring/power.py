"""What a comparison can find: the probability that its interval leaves zero out, by seeds, spread and true difference.

With S seeds the mean difference varies by var = sd_seeds² / S + se_images². The interval's half-width is itself random,
because both parts are estimated: their variances follow chi-square distributions with S - 1 degrees of freedom and with
those of the images. The probability that the difference is beyond the half-width is integrated over the two.

What a pilot of three seeds says of the spread is uncertain by a factor of two, so a number of seeds that follows from
one has an upper bound beside it, from the upper 80 % confidence limit of a variance (Browne 1995).

Sources:
    Bloom, H. S. (1995). Minimum detectable effects. Evaluation Review 19, 547-556.
    Browne, R. H. (1995). On the use of a pilot sample for sample size determination. Statistics in Medicine 14,
    1933-1940.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

ALPHA = 0.05  # probability of error
POWER = 0.80  # with which a difference should be found
SURE = 0.80  # confidence of the upper limit of a spread
LEAST_SEEDS = 3  # for a statement about training in general
MOST_SEEDS = 30  # more are not practical
SEED_NODES, IMAGE_NODES = 32, 16  # of the integral


@dataclass(frozen=True)
class Spread:
    """How much a difference between two arms varies.

    Attributes:
        sd_seeds: Standard deviation over seeds.
        se_images: Standard error for the choice of images that all seeds share.
        df: Degrees of freedom of ``se_images``.
        pilot: Number of seeds that ``sd_seeds`` was estimated from; None where it is known or assumed.
    """

    sd_seeds: float
    se_images: float
    df: float
    pilot: int | None = None

    def half_width(self, seeds: int, by_seed: float = ALPHA, by_image: float = ALPHA) -> float:
        """Return half the width of an interval.

        Args:
            seeds: Number of seeds.
            by_seed: Probability of error in the part that varies over seeds.
            by_image: The same in the part that varies over images.
        """
        spread = self.sd_seeds / math.sqrt(seeds)
        return math.hypot(quantile(seeds - 1, by_seed) * spread, quantile(self.df, by_image) * self.se_images)

    @property
    def upper(self) -> Spread:
        """The spread with the upper 80 % confidence limit of ``sd_seeds``; the same where it is known."""
        if self.pilot is None:
            return self
        df = self.pilot - 1
        return replace(self, sd_seeds=self.sd_seeds * math.sqrt(df / stats.chi2.ppf(1 - SURE, df)), pilot=None)


def quantile(df: float, error: float = ALPHA) -> float:
    """Return the quantile of Student's t for a two-sided interval."""
    return float(stats.t.isf(error / 2, df))


def power(spread: Spread, seeds: int, difference: float, by_seed: float = ALPHA, by_image: float = ALPHA) -> float:
    """Return the probability that an interval leaves zero out.

    Args:
        spread: The true spread.
        seeds: Number of seeds, three or more.
        difference: The true difference.
        by_seed: As for `Spread.half_width`.
        by_image: As for `Spread.half_width`.
    """
    half, share = _half_widths(spread, seeds, by_seed, by_image)
    sd = _sd(spread, seeds)
    beyond = stats.norm.sf((half - difference) / sd) + stats.norm.cdf((-half - difference) / sd)
    return float((share * beyond).sum())


def power_to_exclude(spread: Spread, seeds: int, margin: float, by_seed: float = ALPHA) -> float:
    """Return the probability of "no difference that matters" where there is none.

    Args:
        spread: The true spread.
        seeds: Number of seeds, three or more.
        margin: The smallest difference that matters.
        by_seed: As for `Spread.half_width`.
    """
    half, share = _half_widths(spread, seeds, by_seed, ALPHA)
    most = np.clip(np.minimum(half, margin - half), 0, None) / _sd(spread, seeds)  # zero inside, and the margin outside
    return float((share * (2 * stats.norm.cdf(most) - 1)).sum())


def smallest_detectable(spread: Spread, seeds: int, by_seed: float = ALPHA, by_image: float = ALPHA) -> float:
    """Return the true difference that is found with probability 0.8.

    Args:
        spread: The true spread.
        seeds: Number of seeds to plan with, three or more.
        by_seed: As for `Spread.half_width`.
        by_image: As for `Spread.half_width`.
    """
    sd = _sd(spread, seeds)
    if sd <= _NONE:
        return 0.0
    largest = spread.half_width(seeds, by_seed, by_image) * 4 + 4 * sd

    def lacking(difference: float) -> float:
        return power(spread, seeds, difference, by_seed, by_image) - POWER

    return float(optimize.brentq(lacking, 0.0, largest, rtol=1e-6))


def seeds_needed(spread: Spread, margin: float, by_seed: float = ALPHA) -> int | None:
    """Return the number of seeds with which a difference of ``margin`` is found with probability 0.8.

    Args:
        spread: The true spread.
        margin: The difference.
        by_seed: As for `power`.

    Returns:
        The number; None where thirty seeds are too few.
    """
    tried = range(LEAST_SEEDS, MOST_SEEDS + 1)
    return next((seeds for seeds in tried if power(spread, seeds, margin, by_seed) >= POWER), None)


_NONE = 1e-15  # a spread that is rounding alone


def _sd(spread: Spread, seeds: int) -> float:
    """Return the standard deviation of the mean difference."""
    return max(math.hypot(spread.sd_seeds / math.sqrt(seeds), spread.se_images), _NONE)


def _half_widths(
    spread: Spread, seeds: int, by_seed: float, by_image: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return half-widths as they come out, shape (32, 16), and the probability of each."""
    by_chance, share = _nodes(seeds - 1, SEED_NODES)
    images, image_share = _nodes(spread.df, IMAGE_NODES)
    of_seeds = (quantile(seeds - 1, by_seed) * spread.sd_seeds) ** 2 / seeds * by_chance
    of_images = (quantile(spread.df, by_image) * spread.se_images) ** 2 * images
    return np.sqrt(of_seeds[:, None] + of_images[None]), share[:, None] * image_share[None]


@lru_cache(maxsize=1024)
def _nodes(df: float, count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return estimated variances in units of the true one, at the nodes of a Gauss-Legendre rule, and their shares."""
    nodes, weights = np.polynomial.legendre.leggauss(count)
    return stats.chi2.ppf((nodes + 1) / 2, df) / df, weights / 2
