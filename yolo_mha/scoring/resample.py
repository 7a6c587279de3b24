"""AP on resampled images, for all resamples at once.

AP changes with the images only through how often each of them is counted, so a resample is a column of weights, and
all replicates run through the same sums. Between two hits precision only falls; so pycocotools' envelope, the highest
precision at this recall or beyond, needs precision at the hits alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..data.progress import Progress, silent
from .coco import AREAS, RECALLS
from .intervals import LEAST_UNITS
from .matches import Matches, Table, Threshold
from .metric import OVERALL, class_metric, classes_of

RESAMPLES = 1000
MAX_ARRAY_ENTRIES = 4_000_000  # of one array at a time

Weights = NDArray[np.float32]
Values = NDArray[np.float64]


class MeanAP(NamedTuple):
    """A mean of AP over classes.

    Attributes:
        classes: Their names.
        area: Index of the size of objects in `AREAS`.
        fifty: Whether it is AP at an IoU of 0.50 alone.
    """

    classes: Sequence[str]
    area: int
    fifty: bool


Means = Mapping[str, MeanAP]  # by name of the metric
NO_MEANS: Means = MappingProxyType({})


def mean_of(metric: str, classes: Iterable[str]) -> MeanAP:
    """Return what a metric is the mean of, see `require_metric`.

    Args:
        metric: Its name.
        classes: Those of the dataset.
    """
    area = AREAS.index(metric.removeprefix("AP")) if metric in OVERALL[2:] else 0
    return MeanAP(classes_of(metric) or list(classes), area, metric == "AP50")


def bootstrap_weights(images: int, resamples: int, seed: int = 0, groups: NDArray[np.intp] | None = None) -> Weights:
    """Draw how often each image is in each resample (Efron & Tibshirani 1993, chapter 6).

    Args:
        images: Number of images.
        resamples: Number of resamples.
        seed: Of the random numbers; the same one gives all models the same resamples.
        groups: The group of each image, 0, 1, ..., where as many groups are drawn as there are, with all their images.

    Returns:
        Counts of shape (images, resamples); without groups each column sums to ``images``.
    """
    units = images if groups is None else int(groups.max()) + 1
    counts = np.random.default_rng(seed).multinomial(units, np.full(units, 1 / units), size=resamples).T
    return np.ascontiguousarray(counts if groups is None else counts[groups], np.float32)


def resampled_scores(
    matches: Matches, weights: Weights, progress: Progress = silent, own: Means = NO_MEANS
) -> dict[str, Values]:
    """Compute AP for every column of weights.

    Args:
        matches: Of one model.
        weights: How often each image counts, whole numbers, float32 of shape (images, R).
        progress: Shows progress.
        own: Metrics that are wanted too, such as that of "AP[pool,lane]".

    Returns:
        Arrays of shape (R,): "AP", "AP50", "APsmall", "APmedium", "APlarge", "AP of NAME" for every class, and those
        of ``own``. NaN where a resample holds no object of that kind, which pycocotools writes as -1.
    """
    jobs = [(name, area) for name in matches.classes for area in range(len(AREAS))]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        done = pool.map(lambda job: average_precision(matches.classes[job[0]][job[1]], weights), jobs)
        results = dict(zip(jobs, progress(done, "resampling", len(jobs)), strict=True))

    return {
        metric: _mean(np.stack([results[name, mean.area][mean.fifty] for name in mean.classes]))
        for metric, mean in _means(matches, own).items()
    }


def resampled_ap(matches: Matches, weights: Weights) -> Values:
    """Compute AP alone, see `resampled_scores`."""
    return _mean(np.stack([average_precision(tables[0], weights)[0] for tables in matches.classes.values()]))


class Support(NamedTuple):
    """What a metric was tested on.

    Attributes:
        images: Number of images that hold an object that it counts.
        group_sizes: How many of them are in each group that has any; None where each image is by itself.
    """

    images: int
    group_sizes: NDArray[np.int64] | None

    @property
    def groups(self) -> int | None:
        """The number of groups that have such images; None where each image is by itself."""
        return None if self.group_sizes is None else len(self.group_sizes)


def supports(matches: Matches, groups: NDArray[np.intp] | None = None, own: Means = NO_MEANS) -> dict[str, Support]:
    """Return what each metric of `resampled_scores` was tested on.

    Args:
        matches: Of any model; they hold the ground truth.
        groups: The group of each image, as for `bootstrap_weights`.
        own: As for `resampled_scores`.
    """
    return {metric: support(matches, mean, groups) for metric, mean in _means(matches, own).items()}


def _means(matches: Matches, own: Means) -> Means:
    """Return all metrics: those of COCO, of each class, and others that are wanted."""
    means = {metric: mean_of(metric, matches.classes) for metric in OVERALL}
    return {**means, **{class_metric(name): MeanAP([name], 0, False) for name in matches.classes}, **own}


def support(matches: Matches, mean: MeanAP, groups: NDArray[np.intp] | None = None) -> Support:
    """Return what one metric was tested on, see `supports`."""
    held = np.flatnonzero(np.sum([matches.classes[name][mean.area].objects for name in mean.classes], axis=0))
    if groups is None or groups.max() + 1 == len(groups):  # each image by itself
        return Support(len(held), None)
    sizes = np.bincount(groups[held])
    return Support(len(held), sizes[sizes > 0])


def common_classes(matches: Matches, mean: MeanAP, groups: NDArray[np.intp] | None = None) -> MeanAP:
    """Return a mean without the classes that are on fewer than ten images, or groups of these.

    Of a class on one image a resample can tell only whether it holds this image, not what another one would give.

    Args:
        matches: Of any model; they hold the ground truth.
        mean: The mean.
        groups: The group of each image, as for `bootstrap_weights`.
    """
    tested = {name: support(matches, mean._replace(classes=[name]), groups) for name in mean.classes}
    return mean._replace(classes=[n for n, t in tested.items() if not 0 < (t.groups or t.images) < LEAST_UNITS])


def _mean(values: Values) -> Values:
    """Return the mean over the first axis of what is not NaN, NaN where all is."""
    count = (~np.isnan(values)).sum(axis=0)
    return np.where(count > 0, np.nansum(values, axis=0) / np.maximum(count, 1), np.nan)


def average_precision(table: Table, weights: Weights) -> tuple[Values, Values]:
    """Return AP over all IoU thresholds and AP50 of one table, each of shape (R,)."""
    replicates = weights.shape[1]
    step = max(MAX_ARRAY_ENTRIES // max(len(table.steady), len(table.objects)), 1)
    means, halves = np.empty(replicates), np.empty(replicates)
    for start in range(0, replicates, step):
        part = slice(start, start + step)
        own = np.ascontiguousarray(weights[:, part])
        objects = (table.objects @ own).astype(np.float64)  # (r,)
        steady = _running_sum(own, table.steady)
        by_threshold = np.stack([_at_threshold(t, own, steady, objects) for t in table.thresholds])  # (T, r)
        by_threshold = np.where(objects > 0, by_threshold, np.nan)
        means[part], halves[part] = by_threshold.mean(axis=0), by_threshold[0]
    return means, halves


def _running_sum(weights: Weights, images: NDArray[np.int32]) -> Weights:
    """Return the running sums of the images' weights, shape (n + 1, r); float32 is exact below 16 million."""
    sums = np.zeros((len(images) + 1, weights.shape[1]), np.float32)
    np.cumsum(weights[images], axis=0, out=sums[1:])
    return sums


def _at_threshold(at: Threshold, weights: Weights, steady: Weights, objects: Values) -> Values:
    """Return AP at one IoU threshold, shape (r,): precision's envelope at 101 recalls, averaged."""
    if not len(at.hits):
        return np.zeros(weights.shape[1])
    hits = np.cumsum(weights[at.hits], axis=0)  # (P, r): true positives up to and with each hit
    counted = steady[at.steady_before]
    if len(at.varying):
        counted += _running_sum(weights, at.varying)[at.varying_before]
    precision = hits / np.maximum(counted.astype(np.float64), 1)
    envelope = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    recall = hits / np.maximum(objects, 1)
    reached = np.searchsorted(RECALLS, recall, side="right")  # how many of the 101 recalls are reached by each hit
    new = np.diff(reached, axis=0, prepend=0)
    return np.einsum("pr,pr->r", envelope, new) / len(RECALLS)  # type: ignore[no-any-return]
