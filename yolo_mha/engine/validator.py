"""Ultralytics' detection validator that also keeps its predictions, one plain record an image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ultralytics.models.yolo.detect import DetectionValidator


@dataclass(frozen=True)
class Detections:
    """The detections of one image.

    Attributes:
        image: The image file.
        boxes: Corners x1, y1, x2, y2 in pixels of the original image, float64 of shape (n, 4).
        scores: Confidence of each, shape (n,).
        classes: Class index of each, shape (n,).
    """

    image: Path
    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    classes: NDArray[np.int64]


class Validator(DetectionValidator):
    """Validate as Ultralytics does, and leave the detections in ``records``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.records: list[Detections] = []

    def update_metrics(self, preds: list[dict[str, Any]], batch: dict[str, Any]) -> None:
        """Keep the detections of a batch, in pixels of the original images, then update the metrics."""
        for i, pred in enumerate(preds):
            prepared = self._prepare_batch(i, batch)
            scaled = self.scale_preds(pred, prepared)
            self.records.append(
                Detections(
                    Path(prepared["im_file"]),
                    scaled["bboxes"].cpu().numpy().astype(np.float64),
                    pred["conf"].cpu().numpy().astype(np.float64),
                    pred["cls"].cpu().numpy().astype(np.int64),
                )
            )
        super().update_metrics(preds, batch)
