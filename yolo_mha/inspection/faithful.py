"""Whether the maps of a model are true: how they fare when what they mark is taken away, and against simple rivals."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from ..data.dataset import Sample
from ..data.progress import Progress, silent
from ..engine.video import Image
from ..scoring.intervals import Interval, ScoreInterval, paired_interval, sample, score_interval
from ..scoring.resample import RESAMPLES, bootstrap_weights
from .deletion import deletion_insertion
from .drise import drise
from .explanation import NO_EFFECT
from .looking import Look, Looker
from .maps import DetectionMaps, detection_maps
from .random_weights import same_detections, with_random_weights
from .rivals import rival_maps

KINDS = ("effect", "attention")
RIVALS = ("random", "centre", "box", "LayerCAM")
DRISE = "D-RISE"
TO_BEAT = ("random", "centre")  # by a map that is to be believed; they know nothing of the detection
PER_IMAGE = 4  # detections, so that many images have a say
MOST_CORRELATION = 0.5  # with the map of random attention; a map that stays does not depend on what was learned
DELETION, INSERTION, POINTING, CORRELATION = MEASURES = ("deletion", "insertion", "pointing", "correlation")


@dataclass(frozen=True)
class MapScores:
    """How a kind of map fares, the mean over detections, with 95 % intervals over images.

    Attributes:
        deletion: Area under the deletion curve, see `deletion_insertion`; the smaller, the better.
        insertion: Area under the insertion curve; the larger, the better.
        pointing: Share of maps whose greatest position lies in a labelled box of the detection's class (pointing game,
            Zhang et al. 2018, section 4.1).
        correlation: Rank correlation with the map of the same detection where attention has random weights; None for
            the rivals, which do not depend on it alone.
    """

    deletion: ScoreInterval
    insertion: ScoreInterval
    pointing: ScoreInterval
    correlation: float | None


@dataclass(frozen=True)
class Judgement:
    """Whether a kind of map may be believed.

    Attributes:
        word: "yes", "no", or "unknown" with too few images for an interval.
        sentence: The same in words, with the reason.
        differences: Area of the map less that of each rival, by "deletion" and "insertion"; None with too few images.
    """

    word: str
    sentence: str
    differences: dict[str, dict[str, Interval | None]]


@dataclass(frozen=True)
class BesideDRISE:
    """How a kind of map fares on the detections for which there is a D-RISE map, the mean over them.

    Attributes:
        deletion: As in `MapScores`.
        insertion: As in `MapScores`.
        correlation: Rank correlation with the D-RISE map; 1 for that itself.
    """

    deletion: float
    insertion: float
    correlation: float


@dataclass(frozen=True)
class Faithful:
    """What `measure_faithfulness` found.

    Attributes:
        images: Number of images.
        groups: Number of their groups, where these are resampled; None where each image is by itself.
        detections: Number of detections.
        no_effect: Number of those on which the attention of all blocks has no effect, see `Where`.
        maps: Scores of each kind of map.
        judgements: By kind of attention map.
        beside_drise: By kind of map, one detection of each of some images; empty where D-RISE was left out.
    """

    images: int
    groups: int | None
    detections: int
    no_effect: int
    maps: dict[str, MapScores]
    judgements: dict[str, Judgement]
    beside_drise: dict[str, BesideDRISE]


def measure_faithfulness(
    looker: Looker,
    pictures: Iterable[tuple[Sample, Image]],
    detections: int,
    classes: Sequence[int],
    layers: list[str] | None = None,
    heads: list[int] | None = None,
    drise_images: int = 0,
    groups: Mapping[Path, str] | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> Faithful | None:
    """Measure the maps of up to so many detections.

    Args:
        looker: The model.
        pictures: Labelled images in random order; no more are read than needed.
        detections: Number of detections.
        classes: The dataset's index of each class of the model.
        layers: As for `detection_maps`.
        heads: As for `detection_maps`.
        drise_images: Number of images of which one detection gets a D-RISE map, which takes as long as all else.
        groups: The group of each image by its file, where intervals are over groups; see `read_groups`.
        seed: Of the random map, and the choice of detections in an image.
        progress: Shows progress.

    Returns:
        The measures; None where nothing is detected.
    """
    generator = torch.Generator().manual_seed(seed)
    twin = with_random_weights(looker, attention_only=True)
    values: dict[tuple[str, str], list[float]] = defaultdict(list)
    references: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    owner: list[int] = []  # number of the image of each detection
    images: list[Path] = []
    idle = 0

    def picked() -> Iterator[tuple[int, Look, Look, Sample]]:
        """Yield detections, each with its pass, that of random attention, and the labelled image."""
        for labelled, picture in pictures:
            if len(owner) >= detections:
                return
            look = looker(picture)
            chosen = torch.randperm(len(look.boxes), generator=generator)[:PER_IMAGE].tolist()
            if chosen:
                other = same_detections(twin, picture, look)
                for i in chosen[: detections - len(owner)]:
                    owner.append(len(images))
                    yield i, look, other, labelled
                images.append(labelled.image)

    for i, look, other, labelled in progress(picked(), "measuring", detections):
        found = detection_maps(look, i, layers, heads)
        idle += float(found.effect.sum()) < NO_EFFECT
        maps = {"effect": found.effect.cpu(), "attention": found.attention.cpu()}
        maps |= rival_maps(look, i, tuple(found.effect.shape), generator)  # type: ignore[arg-type]
        rated = dict(maps)
        if owner[-1] < drise_images and owner.count(owner[-1]) == 1:
            rated[DRISE] = drise(looker, look, i, tuple(found.effect.shape), seed)  # type: ignore[arg-type]
        areas = deletion_insertion(looker, look, i, torch.stack(list(rated.values())))
        if DRISE in rated:
            for name, (deletion, insertion) in zip(rated, areas.tolist(), strict=True):
                references[name].append((deletion, insertion, _correlation(rated[name], rated[DRISE])))
        pointed = _labelled(look, labelled, classes[int(look.boxes[i, 5])], maps)
        correlations = _correlations(found, detection_maps(other, i, layers, heads))
        for name, (deletion, insertion), hit in zip(maps, areas.tolist(), pointed, strict=False):
            row = (deletion, insertion, hit, correlations.get(name, math.nan))
            for measure, value in zip(MEASURES, row, strict=True):
                values[name, measure].append(value)
    if not owner:
        return None
    beside = {name: BesideDRISE(*np.mean(rows, axis=0).tolist()) for name, rows in references.items()}
    table = {key: np.array(column) for key, column in values.items()}
    units = None if groups is None else np.unique([groups[image] for image in images], return_inverse=True)[1]
    return _summed_up(table, np.array(owner), units, idle, beside)


def _summed_up(
    table: Mapping[tuple[str, str], NDArray[np.float64]],
    owner: NDArray[np.int64],
    units: NDArray[np.intp] | None,
    no_effect: int,
    beside_drise: dict[str, BesideDRISE],
) -> Faithful:
    """Average over detections, with intervals over images.

    Args:
        table: Values of each detection, by map and measure.
        owner: Number of the image of each detection.
        units: Number of the group of each image, where groups are resampled.
        no_effect: See `Faithful`.
        beside_drise: See `Faithful`.
    """
    images = int(owner[-1]) + 1
    weights = bootstrap_weights(images, RESAMPLES, groups=units)[owner].astype(np.float64)  # (detections, resamples)
    sizes = None if units is None else np.bincount(units)
    groups = None if sizes is None else len(sizes)
    tested = sample(images, groups)

    def score(name: str, measure: str) -> ScoreInterval:
        mean, replicates = _resampled(table[name, measure], weights)
        return score_interval(mean, replicates, images, sizes)

    def difference(values: NDArray[np.float64]) -> Interval | None:
        mean, replicates = _resampled(values, weights)
        return paired_interval(np.array([mean]), replicates[None], images, sizes)

    scores = {
        name: MapScores(
            score(name, DELETION),
            score(name, INSERTION),
            score(name, POINTING),
            float(np.mean(table[name, CORRELATION])) if name in KINDS else None,
        )
        for name in (*KINDS, *RIVALS)
    }
    differences = {
        kind: {
            rival: {m: difference(table[kind, m] - table[rival, m]) for m in (DELETION, INSERTION)} for rival in RIVALS
        }
        for kind in KINDS
    }
    judgements = {kind: judge(kind, scores[kind], differences[kind], len(owner), tested, no_effect) for kind in KINDS}
    return Faithful(images, groups, len(owner), no_effect, scores, judgements, beside_drise)


def judge(
    kind: str,
    scores: MapScores,
    differences: Mapping[str, Mapping[str, Interval | None]],
    detections: int,
    tested: str,
    no_effect: int,
) -> Judgement:
    """Say whether a kind of map may be believed.

    It may where it is better than a random map and a centre prior, in deletion as in insertion, with intervals that
    leave 0 out, where it changes when attention gets random weights, and where attention has an effect on most
    detections. All of this must hold, so no correction for several tests is needed.

    Args:
        kind: The kind of map.
        scores: Its scores.
        differences: Its areas less those of the rivals.
        detections: Number of detections.
        tested: Their images, in words.
        no_effect: Number of the detections on which attention has no effect.
    """
    kept = {rival: dict(found) for rival, found in differences.items()}
    over = f"over {detections} detections in {tested}"
    if any(interval is None for rival in TO_BEAT for interval in kept[rival].values()):
        sentence = f"It cannot be said whether the {kind} map may be believed: {tested} are too few."
        return Judgement("unknown", sentence, kept)
    failed = [
        f"{_worse(interval, measure)} than {_named(rival)} in {measure}"
        for rival in TO_BEAT
        for measure, interval in kept[rival].items()
        if not _is_better(interval, measure)
    ]
    if scores.correlation is not None and scores.correlation > MOST_CORRELATION:
        failed.append(f"nearly the same with random weights (rank correlation {scores.correlation:.2f})")
    if no_effect > detections / 2:
        failed.append(f"without effect on {no_effect} of {detections} detections")
    if failed:
        sentence = f"No: the {kind} map is not to be believed for this model. It is {'; '.join(failed)}, {over}."
        return Judgement("no", sentence, kept)
    sentence = (
        f"Yes: the {kind} map may be believed for this model. It is better than a random map and a centre prior in "
        f"deletion and insertion, and changes with the weights (rank correlation {scores.correlation or 0.0:.2f} with "
        f"random ones), {over}. {_beside(kept)}"
    )
    return Judgement("yes", sentence, kept)


def _beside(differences: Mapping[str, Mapping[str, Interval | None]]) -> str:
    """Say how a map that may be believed compares with the other rivals."""
    words = []
    for rival in RIVALS:
        if rival not in TO_BEAT:
            parts = [f"{_compared(interval, m)} in {m}" for m, interval in differences[rival].items()]
            words.append(f"beside {_named(rival)} it is {' and '.join(parts)}")
    return f"Compared with the others: {'; '.join(words)}."


def _named(rival: str) -> str:
    return {"random": "a random map", "centre": "a centre prior", "box": "the box itself"}.get(rival, rival)


def _is_better(interval: Interval | None, measure: str) -> bool:
    return interval is not None and (interval.high < 0 if measure == DELETION else interval.low > 0)


def _is_worse(interval: Interval | None, measure: str) -> bool:
    return interval is not None and (interval.low > 0 if measure == DELETION else interval.high < 0)


def _worse(interval: Interval | None, measure: str) -> str:
    return "worse" if _is_worse(interval, measure) else "not surely better"


def _compared(interval: Interval | None, measure: str) -> str:
    return "better" if _is_better(interval, measure) else "worse" if _is_worse(interval, measure) else "no different"


def _labelled(look: Look, labelled: Sample, index: int, maps: Mapping[str, Tensor]) -> list[float]:
    """Say of each map whether its greatest position lies in a labelled box of a class."""
    boxes = [look.placement.inside(box) for box in labelled.boxes[labelled.classes == index].tolist()]
    H, W = look.placement.size
    hits = []
    for heat in maps.values():
        row, column = divmod(int(heat.argmax()), heat.shape[1])
        y, x = (row + 0.5) * H / heat.shape[0], (column + 0.5) * W / heat.shape[1]
        hits.append(float(any(x1 <= x <= x2 and y1 <= y <= y2 for x1, y1, x2, y2 in boxes)))
    return hits


def _correlations(maps: DetectionMaps, random: DetectionMaps) -> dict[str, float]:
    """Return the rank correlation of each kind of map with that of random attention."""
    return {kind: _correlation(getattr(maps, kind), getattr(random, kind)) for kind in KINDS}


def _correlation(first: Tensor, second: Tensor) -> float:
    """Return the rank correlation of two maps; 0 where one is even."""
    a, b = (heat.flatten().cpu().numpy() for heat in (first, second))
    even = a.min() == a.max() or b.min() == b.max()
    return 0.0 if even else float(stats.spearmanr(a, b).statistic)


def _resampled(values: NDArray[np.float64], weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    """Return the mean over detections, and that of each resample; NaN where a resample has none."""
    counts = weights.sum(0)
    return float(values.mean()), np.where(counts > 0, values @ weights / np.maximum(counts, 1), np.nan)
