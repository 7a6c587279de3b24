"""Does the exported model give what PyTorch gives?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import DependencyError

BOX_TOLERANCE = 1e-2  # pixels
SCORE_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Agreement:
    """The largest differences at one input shape.

    Attributes:
        batch: Number of images.
        height: Height in pixels.
        width: Width in pixels.
        boxes: Largest difference of a box coordinate in pixels; None where the outputs have different shapes.
        scores: Largest difference of a class score, likewise.
        ok: Whether both are within tolerance.
    """

    batch: int
    height: int
    width: int
    boxes: float | None
    scores: float | None
    ok: bool


def compare_onnx(file: str | Path, network: torch.nn.Module, shapes: list[tuple[int, int, int]]) -> list[Agreement]:
    """Run an ONNX model in ONNX Runtime beside its PyTorch model on the same noise images.

    Args:
        file: The ONNX model.
        network: The PyTorch model.
        shapes: Batch, height and width of each input.

    Raises:
        DependencyError: onnxruntime is not installed.
    """
    try:
        import onnxruntime
    except ImportError as e:
        raise DependencyError("onnxruntime is not installed.", fix="pip install 'yolo-mha[export]'") from e
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    network = network.eval().cpu().float()
    results = []
    for batch, height, width in shapes:
        images = np.random.default_rng(0).random((batch, 3, height, width), dtype=np.float32)
        with torch.inference_mode():
            ours = network(torch.from_numpy(images))
        ours = (ours[0] if isinstance(ours, (list, tuple)) else ours).numpy()
        theirs = session.run(None, {name: images})[0]
        results.append(_difference(ours, theirs, batch, height, width))
    return results


def _difference(ours: Any, theirs: Any, batch: int, height: int, width: int) -> Agreement:
    """Compare raw outputs: (B, 4 + classes, anchors), or (B, detections, 6) of a model without NMS."""
    if ours.shape != theirs.shape:
        return Agreement(batch, height, width, None, None, False)
    if ours.shape[-1] == 6:
        ours, theirs = ours.transpose(0, 2, 1), theirs.transpose(0, 2, 1)
    difference = np.abs(ours - theirs)
    boxes, scores = float(difference[:, :4].max()), float(difference[:, 4:].max())
    return Agreement(batch, height, width, boxes, scores, boxes <= BOX_TOLERANCE and scores <= SCORE_TOLERANCE)
