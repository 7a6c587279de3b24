"""Does the exported model give what PyTorch gives?"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import pad
from ultralytics.utils.nms import non_max_suppression

from ..errors import with_type
from .runtime import Array, Runtime

DETECTION_CONF = 0.25  # from this score on an anchor counts as a detection, Ultralytics' default
CUT_SHARE = 1e-3  # a score is at a cut within this share of it
SAME_OBJECT_PX = 10.0  # two boxes further apart are not the same object


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
        ok: Whether both are within tolerance; None where nothing that is judged was seen: no object whose box could be
            compared, or a precision that is judged by AP alone.
        problem: What the exported model did instead of giving such outputs, or an empty string.
    """

    batch: int
    height: int
    width: int
    boxes: float | None
    scores: float | None
    compared: int
    ok: bool | None
    problem: str = ""


@dataclass(frozen=True)
class Suppression:
    """The non-maximum suppression that an export with ``nms=True`` holds, as Ultralytics does it in PyTorch.

    Attributes:
        conf: Lowest score.
        iou: Overlap above which the lower of two boxes of a class goes.
        max_det: Most boxes of an image.
        agnostic_nms: Whether boxes of other classes count as well.
    """

    conf: float = 0.25
    iou: float = 0.7
    max_det: int = 300
    agnostic_nms: bool = False

    def __call__(self, raw: Array) -> Array:
        """Turn raw outputs (B, 4 + classes, anchors) into rows (B, max_det, 6), filled up with zeros."""
        images = torch.from_numpy(raw)
        kept = non_max_suppression(images, self.conf, self.iou, agnostic=self.agnostic_nms, max_det=self.max_det)
        return np.stack([pad(rows, (0, 0, 0, self.max_det - len(rows))).numpy() for rows in kept])


def compare(
    exported: Runtime,
    reference: Runtime,
    inputs: Iterable[list[Array]],
    tolerance: Tolerance,
    suppress: Callable[[Array], Array] | None = None,
    conf: float = 0.0,
) -> list[Agreement]:
    """Run an exported model beside its PyTorch model on the same images.

    Args:
        exported: The exported model in its runtime.
        reference: The PyTorch model.
        inputs: RGB images between 0 and 1: batches of shape (B, 3, H, W), of one shape within a list.
        tolerance: How far the two may differ.
        suppress: What the exported model does to the raw output by itself (see `Suppression`), or None.
        conf: The lowest score that it then gives.

    Returns:
        One agreement for each list; one that the exported model cannot run is one that does not agree.
    """
    found = []
    for batches in inputs:
        batch, _, height, width = batches[0].shape
        shape = batch, height, width
        ours = np.concatenate([reference(images) for images in batches])
        ours = suppress(ours) if suppress else ours
        try:
            theirs = np.concatenate([exported(images) for images in batches])
        except Exception as e:  # every runtime fails in its own way
            found.append(Agreement(*shape, None, None, 0, False, with_type(e)))
            continue
        found.append(_agreement(shape, ours, theirs, tolerance, conf))
    return found


def _agreement(shape: tuple[int, int, int], ours: Array, theirs: Array, tolerance: Tolerance, conf: float) -> Agreement:
    theirs = theirs.astype(np.float32)
    if ours.shape != theirs.shape:
        return Agreement(*shape, None, None, 0, False, f"its output is {theirs.shape}, PyTorch's {ours.shape}")
    if not np.isfinite(theirs).all():
        return Agreement(*shape, None, None, 0, False, "its output is not finite")
    if ours.shape[-1] == 6:
        boxes, scores, count, alone = _rows_apart(ours, theirs, tolerance, conf)
    else:  # (B, 4 + classes, anchors)
        difference = np.abs(ours - theirs)
        which = np.full(ours[:, 0].shape, True) if tolerance.all_anchors else ours[:, 4:].max(1) >= DETECTION_CONF
        boxes = float(difference[:, :4].max(1)[which].max()) if which.any() else None
        scores, count, alone = float(difference[:, 4:].max()), int(which.sum()), 0
    if tolerance.boxes is None:
        return Agreement(*shape, boxes, scores, count, None)
    problem = f"{alone} objects are found by one of the two only" if alone else ""
    judged = ((boxes, tolerance.boxes), (scores, tolerance.scores))
    within = not problem and all(value is None or limit is None or value <= limit for value, limit in judged)
    return Agreement(*shape, boxes, scores, count, None if within and boxes is None else within, problem)


def _rows_apart(
    ours: Array, theirs: Array, tolerance: Tolerance, conf: float
) -> tuple[float | None, float | None, int, int]:
    """Compare lists of detections (B, rows, 6): x1, y1, x2, y2, score, class; rows of score 0 are filling.

    Each detection is compared with the nearest of its class in the other list, because equal scores come in any order.
    One whose score is at a cut, the lowest score allowed or the last of a full list, may be in one list alone. Given
    back: largest difference of a box and of a score, how many were compared, and how many have no counterpart.
    """
    boxes: list[float] = []
    scores: list[float] = []
    alone = 0
    for a, b in zip(ours, theirs, strict=True):
        for left, right in ((a, b), (b, a)):
            there = right[right[:, 4] > 0]
            cuts = [conf, *(rows[-1, 4] for rows in (left, right) if (rows[:, 4] > 0).all())]
            for row in left[left[:, 4] > (0 if tolerance.all_anchors else DETECTION_CONF)]:
                same = there[there[:, 5] == row[5]]
                apart = np.abs(same - row)
                near = int((apart[:, :4].max(1) + apart[:, 4]).argmin()) if len(same) else None
                if near is not None and apart[near, :4].max() <= SAME_OBJECT_PX:
                    boxes.append(float(apart[near, :4].max()))
                    scores.append(float(apart[near, 4]))
                elif row[4] > max(cuts) * (1 + CUT_SHARE) + (tolerance.scores or 0.0):
                    alone += 1
    return max(boxes, default=None), max(scores, default=None), len(boxes), alone
