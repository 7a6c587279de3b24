"""Confidence intervals of a difference, over training seeds and over test images.

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

Images of one video, scene or writer are not independent. Then groups are resampled in place of images (Davison &
Hinkley 1997, section 3.8), and groups of unequal size count as fewer: with n_g images in group g, as G* = (sum n_g²)² /
sum n_g⁴, and their variance has G* - 1 degrees of freedom. This is the effective number of groups of Carter, Schnepel &
Steigerwald (2017) in their worst case, that what differs between images is their group alone.

Sources:
    Brennan, R. L. (2001). Generalizability Theory. Springer.
    Efron, B. & Tibshirani, R. J. (1993). An Introduction to the Bootstrap. Chapman & Hall.
    Howe, W. G. (1974). Approximate confidence limits on the mean of X + Y where X and Y are two tabled independent
    random variables. JASA 69, 789-794.
    Carter, A. V., Schnepel, K. T. & Steigerwald, D. G. (2017). Asymptotic behavior of a t-test robust to cluster
    heterogeneity. Review of Economics and Statistics 99, 698-709.
    Davison, A. C. & Hinkley, D. V. (1997). Bootstrap Methods and their Application. Cambridge University Press.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from .power import ALPHA, LEAST_SEEDS, MOST_SEEDS, Spread, quantile, smallest_detectable

ROUNDING = 1e-12  # what is closer than this differs by the rounding of the arithmetic alone
LEAST_UNITS = 10  # images or groups that hold an object of the kind; resamples of fewer are too coarse


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
        smallest_detectable: The true difference that a design like this one finds with probability 0.8, see `power`;
            None with fewer than three seeds.
        groups: Number of groups of these images, where groups are resampled; None where each image is by itself.
        effective_groups: To how many groups of equal size they amount.
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
    groups: int | None = None
    effective_groups: float | None = None

    @property
    def units(self) -> int:
        """The number of what is resampled: groups, or images."""
        return self.groups or self.images

    @property
    def df(self) -> float:
        """Degrees of freedom of ``se_images``."""
        return max((self.effective_groups or self.images) - 1, 1)

    @property
    def spread(self) -> Spread:
        """How much the difference varies."""
        return Spread(self.sd_seeds or 0.0, self.se_images, self.df, self.seeds)

    def sample(self, units: int | None = None) -> str:
        """Return in words what was tested on, "20 groups (121 images)", or what so many units would be."""
        return sample(round(self.images * (units or self.units) / self.units), self.groups and (units or self.groups))


@dataclass(frozen=True)
class ScoreInterval:
    """A score of one model with its 95 % interval over the choice of images, within 0 and 1.

    Attributes:
        score: The score on all images.
        low: Lower end; None where fewer than ten images or groups hold an object of the kind, or the score is the same
            on all resamples.
        high: Upper end.
        images: Number of images that hold an object of the kind.
        groups: Number of groups of these images, where groups are resampled; None where each image is by itself.
    """

    score: float
    low: float | None
    high: float | None
    images: int
    groups: int | None = None

    def sentence(self, name: str) -> str:
        """Say in words what the interval of a score is, and what it covers."""
        tested = sample(self.images, self.groups)
        if self.low is None or self.high is None:
            few = (self.groups or self.images) < LEAST_UNITS
            why = f"are too few, {LEAST_UNITS} or more are needed" if few else "all give the same"
            return f"{name} {self.score:.3f}, no interval: {tested} {why}"
        ends = f"95 % interval {self.low:.3f} to {self.high:.3f} from {tested}"
        return f"{name} {self.score:.3f}, {ends}, for these very weights on other images of this kind"


def no_spread(interval: Interval) -> bool:
    """Say whether nothing varied over seeds or images, so that there is no interval to speak of."""
    return interval.high - interval.low < ROUNDING


def sample(images: int, groups: int | None) -> str:
    """Return a number of images in words, with that of their groups where there are any."""
    return f"{images:,} images" if groups is None else f"{groups:,} groups ({images:,} images)"


def score_interval(
    score: float, replicates: NDArray[np.float64], images: int, group_sizes: NDArray[np.int64] | None = None
) -> ScoreInterval:
    """Return the interval of a score of one model; see `paired_interval`."""
    found = paired_interval(np.array([score]), replicates[None], images, group_sizes)
    low, high = (None, None) if found is None or no_spread(found) else (max(found.low, 0.0), min(found.high, 1.0))
    return ScoreInterval(score, low, high, images, None if group_sizes is None else len(group_sizes))


def paired_interval(
    deltas: NDArray[np.float64],
    replicates: NDArray[np.float64],
    images: int,
    group_sizes: NDArray[np.int64] | None = None,
) -> Interval | None:
    """Return the interval of a difference between two arms.

    Args:
        deltas: The difference of each seed on all images, shape (S,).
        replicates: The same on each resample of the images, the same resamples for all seeds, shape (S, R); NaN where
            a resample holds no object of the kind.
        images: Number of images that hold an object of the kind.
        group_sizes: How many of them are in each group that has any, where the resamples are of groups.

    Returns:
        The interval; None where the difference is not defined, or there are fewer than ten such images or groups.
    """
    seeds = len(deltas)
    valid = ~np.isnan(replicates).any(axis=0)
    groups = None if group_sizes is None else len(group_sizes)
    units = images if groups is None else groups
    if seeds == 0 or np.isnan(deltas).any() or units < LEAST_UNITS or valid.sum() < 2:
        return None
    drawn = replicates[:, valid]
    # a resample of n units has n - 1 degrees of freedom, and so too small a variance by that factor
    correction = units / (units - 1)
    of_mean = float(drawn.mean(axis=0).var(ddof=1)) * correction
    delta = float(deltas.mean())
    sd = float(deltas.std(ddof=1)) if seeds > 1 else None
    effective = None if group_sizes is None else effective_groups(group_sizes)
    of_images = Interval(delta, 0.0, 0.0, "images", seeds, images, sd, math.sqrt(of_mean), None, groups, effective)
    if seeds < LEAST_SEEDS:
        half = quantile(of_images.df) * math.sqrt(of_mean)
        return replace(of_images, low=delta - half, high=delta + half)
    of_one = float(drawn.var(axis=1, ddof=1).mean()) * correction
    shared = max((seeds * of_mean - of_one) / (seeds - 1), 0.0)
    interval = replace(of_images, scope="seeds and images", se_images=math.sqrt(shared))
    half, least = interval.spread.half_width(seeds), smallest_detectable(interval.spread, seeds)
    return replace(interval, low=delta - half, high=delta + half, smallest_detectable=least)


def effective_groups(sizes: NDArray[np.int64]) -> float:
    """Return to how many groups of equal size these amount (Carter, Schnepel & Steigerwald 2017).

    Args:
        sizes: Number of images of each group.
    """
    squares = sizes.astype(np.float64) ** 2
    return float(squares.sum() ** 2 / (squares**2).sum())


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
    return next((seeds for seeds in tried if interval.spread.half_width(seeds) < enough), None)


def images_needed(interval: Interval, margin: float) -> int:
    """Return about how many test images, or groups of them, would let very many seeds show a difference of ``margin``.

    Args:
        interval: With three seeds or more.
        margin: The smallest difference that matters.
    """
    least = smallest_detectable(replace(interval.spread, sd_seeds=0.0), interval.seeds)
    return math.ceil(interval.units * (least / margin) ** 2)


def corrected(interval: Interval, by_seed: float, by_image: float) -> Interval:
    """Return an interval for other probabilities of error than 5 %, as several looks or several contrasts ask for.

    Args:
        interval: With three seeds or more; any other is returned as it is.
        by_seed: Probability of error in the part that varies over seeds.
        by_image: The same in the part that varies over images.
    """
    if interval.scope == "images":
        return interval
    half = interval.spread.half_width(interval.seeds, by_seed, by_image)
    least = smallest_detectable(interval.spread, interval.seeds, by_seed, by_image)
    return replace(interval, low=interval.delta - half, high=interval.delta + half, smallest_detectable=least)


def share_needed(interval: Interval, by_seed: float = ALPHA, by_image: float = ALPHA) -> float:
    """Return the share of two probabilities of error with which an interval ends at zero.

    It is a p-value in units of the probability of error: zero is left out with a larger share, and kept with a
    smaller one.

    Args:
        interval: With three seeds or more, and some spread.
        by_seed: As for `corrected`.
        by_image: As for `corrected`.
    """

    def beyond(log: float) -> float:
        share = math.exp(log)
        return interval.spread.half_width(interval.seeds, by_seed * share, by_image * share) - abs(interval.delta)

    largest, smallest = math.log(1 / max(by_seed, by_image)), math.log(1e-12)
    if beyond(largest) >= 0:
        return math.exp(largest)
    return math.exp(smallest if beyond(smallest) <= 0 else optimize.brentq(beyond, smallest, largest))
