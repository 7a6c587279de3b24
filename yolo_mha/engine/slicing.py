"""Small objects in large pictures: prediction tile by tile, with supervision's slicer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from ultralytics.engine.results import Results

from ..errors import ConfigError, DependencyError
from .video import Image

MERGE_THRESHOLD = 0.5  # share of the smaller box that lies in the other one, from which two are one object


class Slicer:
    """Predicts the tiles of a picture and joins their detections.

    A detection that lies half or more within one of the same class with a higher score is dropped: it is the same
    object in another tile, whole or cut. Objects larger than the overlap may be cut everywhere.

    Args:
        predict: Ultralytics' result for an image.
        size: Side of the square tiles in pixels, or [height, width].
        overlap: Share of a tile that the next one repeats.
        agnostic: Whether classes do not matter when detections are joined.
        max_det: Largest number of detections in a picture.

    Raises:
        ConfigError: The size or the overlap is unusable.
        DependencyError: supervision is missing.
    """

    def __init__(
        self,
        predict: Callable[[Image], Results],
        size: Any,
        overlap: Any,
        *,
        agnostic: bool = False,
        max_det: int = 300,
    ) -> None:
        height, width = check_tiles(size, overlap)
        import supervision

        self._predict, self._agnostic, self._max_det = predict, agnostic, max_det
        self._sv = supervision
        self._tiles = supervision.InferenceSlicer(
            self._one_tile,
            slice_wh=(width, height),
            overlap_wh=(round(width * overlap), round(height * overlap)),
            overlap_filter=supervision.OverlapFilter.NONE,
            thread_workers=1,
        )

    def __call__(self, image: Image) -> Results:
        """Return the joined detections of a picture, best first."""
        self._names: dict[int, str] = {}
        found, boxes = self._tiles(image), np.zeros((0, 6), np.float32)
        if len(found):
            metric = self._sv.OverlapMetric.IOS
            found = found.with_nms(MERGE_THRESHOLD, class_agnostic=self._agnostic, overlap_metric=metric)
            boxes = np.column_stack([found.xyxy, found.confidence, found.class_id]).astype(np.float32)
        best = boxes[np.argsort(-boxes[:, 4], kind="stable")][: self._max_det]
        return Results(image, path="", names=self._names, boxes=torch.from_numpy(best))

    def _one_tile(self, tile: Image) -> Any:
        result = self._predict(np.ascontiguousarray(tile))
        self._names = result.names
        return self._sv.Detections.from_ultralytics(result)


def wanted(size: object) -> bool:
    """Say whether tiles are asked for; 0 is no size, and no way of saying no."""
    return size is not None and size is not False


def check_tiles(size: Any, overlap: Any) -> tuple[int, int]:
    """Check the settings of tiles, and that supervision is there.

    Returns:
        Height and width of a tile in pixels.

    Raises:
        ConfigError: One of them is unusable.
        DependencyError: supervision is missing.
    """
    sides = list(size) if isinstance(size, (list, tuple)) else [size, size]
    if len(sides) != 2 or not all(type(s) is int and s >= 32 for s in sides):
        expected = "a side of 32 pixels or more, or [height, width]"
        raise ConfigError("slice has an unusable value.", given=f"slice={size}", expected=expected)
    if type(overlap) not in (int, float) or not 0 <= overlap <= 0.9:
        raise ConfigError(
            "overlap has an unusable value.", given=f"overlap={overlap}", expected="a share from 0 to 0.9"
        )
    try:
        import supervision  # noqa: F401
    except ImportError as e:
        raise DependencyError(
            "supervision is not installed; slicing needs it.", fix="pip install 'yolo-mha[slice]'"
        ) from e
    return sides[0], sides[1]
