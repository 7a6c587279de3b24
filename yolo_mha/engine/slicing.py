"""Small objects in large pictures: prediction tile by tile, with supervision's slicer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from ultralytics.engine.results import Results

from ..errors import ConfigError, DependencyError
from .video import Image

SAME_OBJECT = 0.5  # share of a box that lies in another one, from which both are of one object
AT_BORDER = 0.01  # share of a tile's shorter side; a box that comes as near as that to its border may be cut


class Slicer:
    """Predicts the tiles of a picture and joins their detections.

    A detection is dropped if half or more of it lies in a better one of its class: it is the same object in another
    tile, whole or cut. Detections that do not reach their tile's border are the better ones, whatever their score, and
    those with a higher score among them; then come those that a border may have cut, by score times area. So a piece
    is dropped for the whole object, and the whole is never dropped for a piece. Of a small object in front of a large
    one of its class, both are kept if the small one is better, and the large one only if it is not. Objects larger than
    the overlap may be cut everywhere, and their pieces be kept.

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
        self._sv, self._near = supervision, AT_BORDER * min(width, height)
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
            boxes = np.column_stack([found.xyxy, found.confidence, found.class_id]).astype(np.float32)
            cut = (found.data["reached"] & ~self._reached(found.xyxy, image)).any(1)  # at the picture's border none is
            boxes = boxes[_objects(boxes, cut, self._agnostic)]
        best = boxes[np.argsort(-boxes[:, 4], kind="stable")][: self._max_det]
        return Results(image, path="", names=self._names, boxes=torch.from_numpy(best))

    def _one_tile(self, tile: Image) -> Any:
        result = self._predict(np.ascontiguousarray(tile))
        self._names = result.names
        found = self._sv.Detections.from_ultralytics(result)
        found.data["reached"] = self._reached(found.xyxy, tile)
        return found

    def _reached(self, corners: NDArray[Any], image: Image) -> NDArray[np.bool_]:
        """Say which borders of an image boxes (n, 4) reach: left, top, right and bottom."""
        return np.hstack([corners[:, :2] <= self._near, corners[:, 2:] >= np.subtract(image.shape[1::-1], self._near)])


def _objects(boxes: NDArray[np.float32], cut: NDArray[np.bool_], agnostic: bool) -> list[int]:
    """Choose one detection of each object, see `Slicer`, in memory that grows with their number alone.

    Args:
        boxes: Corners, score and class, (n, 6).
        cut: Whether the border of a tile may have cut it, (n,).
        agnostic: Whether classes do not matter.

    Returns:
        Rows that are kept.
    """
    scores, classes = boxes[:, 4], np.zeros(len(boxes)) if agnostic else boxes[:, 5]
    areas = np.maximum((boxes[:, 2:4] - boxes[:, :2]).prod(1), np.finfo(np.float32).tiny)  # nothing lies in no area
    order, kept = np.lexsort((-np.where(cut, scores * areas, scores), cut)), []
    columns = np.vstack([boxes[:, :4].T, areas])
    for name in np.unique(classes):
        rest = order[classes[order] == name]
        left = columns[:, rest]
        while len(rest):
            kept.append(int(rest[0]))
            x1, y1, x2, y2, _ = left[:, 0]
            rest, left = rest[1:], left[:, 1:]
            width = np.minimum(left[2], x2) - np.maximum(left[0], x1)
            height = np.minimum(left[3], y2) - np.maximum(left[1], y1)
            other = width.clip(0) * height.clip(0) < SAME_OBJECT * left[4]
            if not other.all():
                rest, left = rest[other], left[:, other]
    return kept


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
