"""Ultralytics' detection validator that also keeps its predictions, one plain record an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from ultralytics.models.yolo.detect import DetectionValidator


@dataclass(frozen=True)
class Detections:
    """The detections of one image.

    Attributes:
        image: The image file that was read.
        boxes: Corners x1, y1, x2, y2 in pixels of the original image, float64 of shape (n, 4).
        scores: Confidence of each, shape (n,).
        classes: Class index of each, shape (n,).
        size: Width and height of that file in pixels; None for those of the dataset's image.
    """

    image: Path
    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    classes: NDArray[np.int64]
    size: tuple[int, int] | None = None


class Validator(DetectionValidator):
    """Validate as Ultralytics does, and leave the detections in ``records``.

    Args:
        order: The dataset's class index for each of the model's, where the two differ; the numbers of the detections
            become the dataset's.
        **kwargs: Those of Ultralytics' validator.
    """

    def __init__(self, order: Sequence[int] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.order = order
        self.records: list[Detections] = []

    def init_metrics(self, model: Any) -> None:
        super().init_metrics(model)
        if self.order:
            self.names = self.metrics.names = self.confusion_matrix.names = self.data["names"]

    def postprocess(self, preds: Any) -> list[dict[str, Tensor]]:
        found: list[dict[str, Tensor]] = super().postprocess(preds)
        for image in found if self.order else []:
            image["cls"] = image["cls"].new_tensor(self.order)[image["cls"].long()]
        return found

    def update_metrics(self, preds: list[dict[str, Tensor]], batch: Any) -> None:
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
                    tuple(map(int, prepared["ori_shape"][1::-1])),  # type: ignore[arg-type]
                )
            )
        super().update_metrics(preds, batch)
