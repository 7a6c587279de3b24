"""How sure a difference is, over training seeds and over test images.

Every model of a comparison is trained with the same seeds and scored on the same images: seeds and images are crossed.
The difference of one seed s on one set of images i is, to first order,

    d(s, i) = delta + image(i) + seed(s) + interaction(s, i)

and ``delta``, what is estimated, is its expectation over training randomness and over images of this distribution.
On the one set of images at hand the spread over S seeds holds var(seed) + var(interaction), so it gives the variance of
their mean by itself. What all seeds have in common, var(image), it cannot show. That comes from resampling images, once
a replicate for all models and seeds: the mean over seeds then varies by var(image) + var(interaction) / S, and one seed
by var(image) + var(interaction), from which var(image) follows (the two-way random model of Brennan 2001, chapter 2).

The half-width joins both parts, each with its own quantile of Student's t: sqrt(t² var_seeds + t² var_images), as Howe
(1974) does for sums of components with unequal degrees of freedom. It was chosen by simulation, see
benchmarks/coverage.py: t over seeds alone leaves out the images, and a bootstrap of three seeds is much too narrow.

Sources:
    Brennan, R. L. (2001). Generalizability Theory. Springer.
    Efron, B. & Tibshirani, R. J. (1993). An Introduction to the Bootstrap. Chapman & Hall.
    Howe, W. G. (1974). Approximate confidence limits on the mean of X + Y where X and Y are two tabled independent
    random variables. JASA 69, 789-794.
    Satterthwaite, F. E. (1946). An approximate distribution of estimates of variance components. Biometrics 2, 110-114.
    Bloom, H. S. (1995). Minimum detectable effects. Evaluation Review 19, 547-556.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

LEVEL = 0.95
POWER = 0.80
LEAST_SEEDS = 3  # for a statement about training in general
LEAST_IMAGES = 10  # that hold an object of the kind; resamples of fewer are too coarse to say anything
MOST_SEEDS = 30  # more are no plan


@dataclass(frozen=True)
class Interval:
    """A difference with its 95 % interval.

    Attributes:
        delta: The difference, the mean over seeds.
        low: Lower end.
        high: Upper end.
        scope: "seeds and images", what training in general and other images of this kind would give; or, with fewer
            than three seeds, "images": these very models on other images of this kind.
        seeds: Number of seeds.
        images: Number of images that hold an object of the kind.
        sd_seeds: Standard deviation over seeds; None with one seed.
        se_images: Standard error for the choice of images that all seeds share.
        smallest_detectable: The true difference that a design like this one finds with probability 0.8 (Bloom 1995);
            None with fewer than three seeds.
    """

    delta: float
    low: float
    high: float
    scope: str
    seeds: int
    images: int
    sd_seeds: float | None
    se_images: float
    smallest_detectable: float | None


def paired_interval(deltas: NDArray[np.float64], replicates: NDArray[np.float64], images: int) -> Interval | None:
    """Return the interval of a difference between two arms.

    Args:
        deltas: The difference of each seed on all images, shape (S,).
        replicates: The same on each resample of the images, the same resamples for all seeds, shape (S, R); NaN where
            a resample holds no object of the kind.
        images: Number of images that hold an object of the kind.

    Returns:
        The interval; None where the difference is not defined, or there are fewer than ten such images.
    """
    seeds = len(deltas)
    valid = ~np.isnan(replicates).any(axis=0)
    if seeds == 0 or np.isnan(deltas).any() or images < LEAST_IMAGES or valid.sum() < 2:
        return None
    drawn = replicates[:, valid]
    # a resample of n images has n - 1 degrees of freedom, and so too small a variance by that factor
    correction = images / (images - 1)
    of_mean = float(drawn.mean(axis=0).var(ddof=1)) * correction
    delta = float(deltas.mean())
    sd = float(deltas.std(ddof=1)) if seeds > 1 else None
    if seeds < LEAST_SEEDS:
        half = _t(images - 1) * math.sqrt(of_mean)
        return Interval(delta, delta - half, delta + half, "images", seeds, images, sd, math.sqrt(of_mean), None)
    of_one = float(drawn.var(axis=1, ddof=1).mean()) * correction
    shared = max((seeds * of_mean - of_one) / (seeds - 1), 0.0)
    interval = Interval(delta, 0.0, 0.0, "seeds and images", seeds, images, sd, math.sqrt(shared), None)
    half, least = _half_width(interval, seeds), smallest_detectable(interval, seeds)
    return replace(interval, low=delta - half, high=delta + half, smallest_detectable=least)


def smallest_detectable(interval: Interval, seeds: int) -> float:
    """Return the true difference that is found with probability 0.8 with this many seeds and the same images.

    Args:
        interval: With three seeds or more.
        seeds: Number of seeds to plan with.
    """
    by_seed = (interval.sd_seeds or 0.0) ** 2 / seeds
    by_image = interval.se_images**2
    total = by_seed + by_image
    if total == 0:
        return 0.0
    freedom = total**2 / (by_seed**2 / (seeds - 1) + by_image**2 / (interval.images - 1))  # Satterthwaite 1946
    return _half_width(interval, seeds) + float(stats.t.ppf(POWER, freedom)) * math.sqrt(total)


def seeds_needed(interval: Interval, margin: float) -> int | None:
    """Return the number of seeds with which a difference of ``margin`` would be found with probability 0.8.

    Args:
        interval: With three seeds or more.
        margin: The smallest difference that matters.

    Returns:
        The number; None where the images alone leave more doubt than that, see `images_needed`.
    """
    tried = range(LEAST_SEEDS, MOST_SEEDS + 1)
    return next((seeds for seeds in tried if smallest_detectable(interval, seeds) <= margin), None)


def seeds_to_settle(interval: Interval, margin: float) -> int | None:
    """Return the number of seeds with which the interval would leave zero out, or lie within the margin.

    Args:
        interval: With three seeds or more; its difference and spread are taken to stay as they are.
        margin: The smallest difference that matters.

    Returns:
        The number; None where the images alone leave more doubt than that.
    """
    enough = max(abs(interval.delta), margin - abs(interval.delta))
    tried = range(interval.seeds + 1, MOST_SEEDS + 1)
    return next((seeds for seeds in tried if _half_width(interval, seeds) < enough), None)


def images_needed(interval: Interval, margin: float) -> int:
    """Return about how many test images would let very many seeds show a difference of ``margin``.

    Args:
        interval: With three seeds or more.
        margin: The smallest difference that matters.
    """
    freedom = interval.images - 1
    least = (_t(freedom) + float(stats.t.ppf(POWER, freedom))) * interval.se_images
    return math.ceil(interval.images * (least / margin) ** 2)


def _half_width(interval: Interval, seeds: int) -> float:
    by_seed = (interval.sd_seeds or 0.0) / math.sqrt(seeds)
    return math.hypot(_t(seeds - 1) * by_seed, _t(interval.images - 1) * interval.se_images)


def _t(freedom: int) -> float:
    return float(stats.t.ppf((1 + LEVEL) / 2, freedom))
