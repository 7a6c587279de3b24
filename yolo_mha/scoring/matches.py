"""Which detections are right at which threshold: all that AP needs, in arrays, so that images can be resampled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.instances import Instances, Prediction
from ..data.progress import Progress, silent
from .coco import AREAS, REFERENCE, check_results, check_truth, class_names, evaluated_classes, image_ranks

Positions = NDArray[np.int32]


@dataclass(frozen=True)
class Threshold:
    """The detections at one IoU threshold; an image is its position in the ground truth, everything is best first.

    Attributes:
        hits: Image of each true positive, shape (P,).
        steady_before: How many detections of `Table.steady` stand at or before each hit, shape (P,).
        varying: Image of each detection that counts at this threshold, but not at all of them, shape (V,).
        varying_before: How many of ``varying`` stand at or before each hit, shape (P,).
    """

    hits: Positions
    steady_before: Positions
    varying: Positions
    varying_before: Positions


@dataclass(frozen=True)
class Table:
    """One class within one range of areas.

    Attributes:
        objects: Number of boxes that count, by image, float32 of shape (I,).
        steady: Image of each detection that counts, right or wrong, at every threshold, best first, shape (D,). A
            detection does not count where it lies on an ignored box, or is unmatched and of another size.
        thresholds: One for each IoU from 0.5 to 0.95.
    """

    objects: NDArray[np.float32]
    steady: Positions
    thresholds: tuple[Threshold, ...]


@dataclass(frozen=True)
class Matches:
    """The detections of one model, matched to the ground truth by pycocotools.

    Attributes:
        images: Number of images.
        classes: Tables by class name: one a range of areas, in the order of `coco.AREAS`.
    """

    images: int
    classes: dict[str, tuple[Table, ...]]


def match_detections(truth: Instances, results: list[Prediction], progress: Progress = silent) -> Matches:
    """Match detections to the ground truth.

    Args:
        truth: A COCO annotation file's content; an image is from here on its position in ``truth["images"]``.
        results: A COCO results file's content.
        progress: Shows progress.

    Raises:
        DataError: Either is malformed.
    """
    truth = check_truth(truth)
    results = check_results(truth, results)
    ranks = image_ranks(truth)
    positions = {ranks[image["id"]]: i for i, image in enumerate(truth["images"])}
    classes = {}
    evaluations = evaluated_classes(truth, results, REFERENCE, progress)
    for name, evaluation in zip(class_names(truth).values(), evaluations, strict=True):
        concerned = len(evaluation.params.imgIds)
        records = evaluation.evalImgs  # area by area, image by image; None where the class is not
        classes[name] = tuple(
            _table(records[a * concerned : (a + 1) * concerned], positions, evaluation.params)
            for a in range(len(AREAS))
        )
    return Matches(len(positions), classes)


def _table(records: list[Any], positions: dict[int, int], params: Any) -> Table:
    """Read pycocotools' ``evalImgs``: of each image ``gtIgnore`` (G,), ``dtScores`` (D,), ``dtMatches`` (T, D), ..."""
    kept = [r for r in records if r is not None]
    most, levels = params.maxDets[-1], len(params.iouThrs)
    objects = np.zeros(len(positions), np.float32)
    for record in kept:
        objects[positions[record["image_id"]]] = np.count_nonzero(np.asarray(record["gtIgnore"]) == 0)
    if not kept:
        nothing = np.zeros(0, np.int32)
        return Table(objects, nothing, (Threshold(nothing, nothing, nothing, nothing),) * levels)
    scores = np.concatenate([record["dtScores"][:most] for record in kept])
    images = np.repeat([positions[r["image_id"]] for r in kept], [len(r["dtScores"][:most]) for r in kept])
    best_first = np.argsort(-scores, kind="mergesort")  # pycocotools' own order of equal scores
    images = images[best_first].astype(np.int32)
    matched = np.concatenate([r["dtMatches"][:, :most] for r in kept], axis=1)[:, best_first] != 0  # (T, D)
    counted = np.concatenate([r["dtIgnore"][:, :most] for r in kept], axis=1)[:, best_first] == 0
    steady = counted.all(axis=0)
    steady_before = np.cumsum(steady, dtype=np.int32)
    thresholds = []
    for right, counts in zip(matched, counted, strict=True):
        hits = np.flatnonzero(right & counts)
        varying = counts & ~steady
        varying_before = np.cumsum(varying, dtype=np.int32)
        thresholds.append(Threshold(images[hits], steady_before[hits], images[varying], varying_before[hits]))
    return Table(objects, images[steady], tuple(thresholds))
