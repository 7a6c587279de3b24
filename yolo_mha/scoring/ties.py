"""AP in the best and in the worst order of equal scores.

COCO ranks the detections of a class by score. pycocotools leaves equal scores in the order of the images, so where one
of them is right and another wrong, AP depends on how the images are numbered.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

NOTED_RANGE = 0.001  # of AP, which is printed with three decimals

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Ties:
    """What depends on the order of equal scores: AP with the images in any order lies within the range.

    Attributes:
        detections: Number of detections in groups of one class and one score in which, at some IoU threshold, one is
            right and another is wrong.
        worst_ap: AP with the wrong ones of each group first, at each IoU threshold by itself; -1 without objects.
        best_ap: AP with the right ones first.
    """

    detections: int
    worst_ap: float
    best_ap: float

    @property
    def matter(self) -> bool:
        """Whether the range is large enough to be told."""
        return self.best_ap - self.worst_ap > NOTED_RANGE

    def __str__(self) -> str:
        return f"{self.worst_ap:.3f} to {self.best_ap:.3f}"


def class_ties(evaluation: Any) -> Ties:
    """Compute the range of AP of one class, over objects of all sizes.

    Which detection takes which object is left as it is: equal scores on one image are matched in the order in which
    they are given, and beyond a hundred the first ones are kept, as pycocotools does.

    Args:
        evaluation: pycocotools' COCOeval of one class after ``evaluate()``. Of each image it has ``gtIgnore`` (G,),
            ``dtScores`` (D,), ``dtMatches`` (T, D) and ``dtIgnore`` (T, D), for T thresholds.
    """
    params = evaluation.params
    records = [r for r in evaluation.evalImgs[: len(params.imgIds)] if r is not None]  # the first range: all areas
    objects = sum(int(np.count_nonzero(np.asarray(r["gtIgnore"]) == 0)) for r in records)
    if not objects:
        return Ties(0, -1.0, -1.0)
    most = params.maxDets[-1]
    scores = np.concatenate([r["dtScores"][:most] for r in records])
    order = np.argsort(-scores, kind="stable")
    ranked = -scores[order]
    first, behind = (np.searchsorted(ranked, ranked, side) for side in ("left", "right"))  # of each one's group
    matched = np.concatenate([r["dtMatches"][:, :most] for r in records], axis=1)[:, order] != 0
    counted = np.concatenate([r["dtIgnore"][:, :most] for r in records], axis=1)[:, order] == 0
    right, wrong = _running(counted & matched), _running(counted & ~matched)  # (T, D + 1)
    mixed = (right[:, behind] > right[:, first]) & (wrong[:, behind] > wrong[:, first]) & counted
    worst, best = (
        np.mean([_ap(w[edge[hits]], objects, params.recThrs) for w, hits in zip(wrong, counted & matched, strict=True)])
        for edge in (behind, first)
    )
    return Ties(int(np.count_nonzero(mixed.any(axis=0))), float(worst), float(best))


def join_ties(classes: Iterable[Ties]) -> Ties:
    """Return the ties of all classes together, AP as the mean over those with objects."""
    known = [of_class for of_class in classes if of_class.best_ap >= 0]
    if not known:
        return Ties(0, -1.0, -1.0)
    worst, best = (float(np.mean([getattr(c, name) for c in known])) for name in ("worst_ap", "best_ap"))
    return Ties(sum(c.detections for c in known), worst, best)


def _running(flags: Flags) -> NDArray[np.int32]:
    """Return how many are set before each position, shape (T, D + 1)."""
    return np.pad(np.cumsum(flags, axis=1, dtype=np.int32), ((0, 0), (1, 0)))


def _ap(wrong_before: NDArray[np.int32], objects: int, recalls: NDArray[np.float64]) -> float:
    """Return AP at one IoU threshold from the number of wrong detections before each right one, best score first."""
    rank = np.arange(1, len(wrong_before) + 1)
    envelope = np.maximum.accumulate((rank / (rank + wrong_before))[::-1])[::-1]
    reached = np.searchsorted(recalls, rank / objects, side="right")  # how many of the recalls each one reaches
    return float(envelope @ np.diff(reached, prepend=0)) / len(recalls)
