"""Does the exported model give what PyTorch gives?"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from ultralytics.utils.nms import non_max_suppression

from .runtime import Array, Runtime

SURE = 0.25  # from this score on an anchor counts as a detection, Ultralytics' default
NEAR = 1e-3  # rows whose scores are this close to the last one's, relatively, may be in one list and not in the other


@dataclass(frozen=True)
class Tolerance:
    """How far a model may be from PyTorch.

    Attributes:
        boxes: Largest difference of a box coordinate in pixels; None does not judge by boxes.
        scores: Largest difference of a score; None does not judge by scores.
        all_anchors: Whether boxes without an object in them are compared too.
    """

    boxes: float | None
    scores: float | None
    all_anchors: bool = False


# In half precision a coordinate of some hundred pixels has steps of a quarter of a pixel.
TOLERANCES = {
    "fp32": Tolerance(1e-2, 1e-4, all_anchors=True),
    "fp16": Tolerance(2.0, 2e-2),
    "int8": Tolerance(None, None),  # judged by its AP
}


@dataclass(frozen=True)
class Agreement:
    """The largest differences at one input shape.

    Attributes:
        batch: Number of images.
        height: Height in pixels.
        width: Width in pixels.
        boxes: Largest difference of a box coordinate in pixels; None where no boxes could be compared.
        scores: Largest difference of a class score, likewise.
        compared: How many boxes were compared.
        ok: Whether both are within tolerance.
        problem: What the exported model did instead of giving such outputs, or an empty string.
    """

    batch: int
    height: int
    width: int
    boxes: float | None
    scores: float | None
    compared: int
    ok: bool
    problem: str = ""


def compare(
    exported: Runtime,
    reference: Runtime,
    inputs: Iterable[Array],
    tolerance: Tolerance,
    suppress: Callable[[Array], Array] | None = None,
) -> list[Agreement]:
    """Run an exported model beside its PyTorch model on the same images.

    Args:
        exported: The exported model in its runtime.
        reference: The PyTorch model.
        inputs: RGB images between 0 and 1, each of shape (B, 3, H, W).
        tolerance: How far the two may differ.
        suppress: What the exported model does to the raw output by itself (see `suppressed`), or None.

    Returns:
        One agreement for each input; an input that the exported model cannot run is one that does not agree.
    """
    found = []
    for images in inputs:
        shape = images.shape[0], images.shape[2], images.shape[3]
        ours = reference(images)
        ours = suppress(ours) if suppress else ours
        try:
            theirs = exported(images)
        except Exception as e:  # every runtime fails in its own way
            problem = f"{type(e).__name__}: {' '.join(str(e).split())[:200]}"
            found.append(Agreement(*shape, None, None, 0, False, problem))
            continue
        found.append(_agreement(shape, ours, theirs, tolerance))
    return found


def suppressed(conf: float, iou: float, max_det: int, agnostic: bool) -> Callable[[Array], Array]:
    """Return the non-maximum suppression that an export with ``nms=True`` holds, as Ultralytics does it in PyTorch.

    Args:
        conf: Lowest score.
        iou: Overlap above which the lower of two boxes of a class goes.
        max_det: Most boxes of an image.
        agnostic: Whether boxes of other classes count as well.

    Returns:
        A function from raw outputs (B, 4 + classes, anchors) to rows (B, max_det, 6), filled up with zeros.
    """

    def suppress(raw: Array) -> Array:
        rows = np.zeros((len(raw), max_det, 6), np.float32)
        kept = non_max_suppression(torch.from_numpy(raw), conf, iou, agnostic=agnostic, max_det=max_det)
        for i, image in enumerate(kept):
            rows[i, : len(image)] = image.numpy()
        return rows

    return suppress


def _agreement(shape: tuple[int, int, int], ours: Array, theirs: Array, tolerance: Tolerance) -> Agreement:
    theirs = theirs.astype(np.float32)
    if ours.shape != theirs.shape:
        problem = f"its output is {theirs.shape}, PyTorch's {ours.shape}"
        return Agreement(*shape, None, None, 0, False, problem)
    if not np.isfinite(theirs).all():
        return Agreement(*shape, None, None, 0, False, "its output is not finite")
    rows = ours.shape[-1] == 6
    boxes, scores, count = _rows_apart(ours, theirs) if rows else _anchors_apart(ours, theirs, tolerance.all_anchors)
    problem = "" if boxes is not None or not rows or not count else "it finds other objects"
    ok = not problem and all(
        limit is None or value is None or value <= limit
        for value, limit in ((boxes, tolerance.boxes), (scores, tolerance.scores))
    )
    return Agreement(*shape, boxes, scores, count, ok, problem)


def _anchors_apart(ours: Array, theirs: Array, all_anchors: bool) -> tuple[float | None, float, int]:
    """Compare raw outputs (B, 4 + classes, anchors): difference of boxes and of scores, and the number of boxes."""
    difference = np.abs(ours - theirs)
    which = np.full(ours[:, 0].shape, True) if all_anchors else ours[:, 4:].max(1) >= SURE  # (B, anchors)
    boxes = float(difference[:, :4].max(1)[which].max()) if which.any() else None
    return boxes, float(difference[:, 4:].max()), int(which.sum())


def _rows_apart(ours: Array, theirs: Array) -> tuple[float | None, float | None, int]:
    """Compare lists of detections (B, rows, 6): x1, y1, x2, y2, score, class; rows of score 0 are filling.

    Each detection is compared with the nearest of its class, because equal scores come in any order. The last ones may
    be in one list and not in the other.
    """
    boxes: list[float] = []
    scores: list[float] = []
    count = 0
    for a, b in zip(ours, theirs, strict=True):
        for left, right in ((a, b), (b, a)):
            wanted, there = _safe(left), right[right[:, 4] > 0]
            count += len(wanted)
            for row in wanted:
                same = there[there[:, 5] == row[5]]
                if not len(same):
                    return None, None, count
                apart = np.abs(same - row)
                near = int((apart[:, :4].max(1) + apart[:, 4]).argmin())
                boxes.append(float(apart[near, :4].max()))
                scores.append(float(apart[near, 4]))
    return (max(boxes), max(scores), count) if boxes else (None, None, 0)


def _safe(rows: NDArray[Any]) -> NDArray[Any]:
    """Return the detections that cannot fall out of the list by rounding."""
    rows = rows[rows[:, 4] > 0]
    return rows[rows[:, 4] > rows[:, 4].min() * (1 + NEAR)] if len(rows) else rows
