"""Numbers of a map: how much of it lies where."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .looking import Look

NAMES = ("elsewhere", "around", "others", "box", "padding")
ELSEWHERE, AROUND, OTHERS, BOX, PADDING = range(len(NAMES))
RING = 0.5  # of the box's width and height, to either side


@dataclass(frozen=True)
class Measures:
    """Where a map lies; the five shares sum to 1.

    Attributes:
        box: Share inside the box of the detection.
        around: Share in the ring around it, by half its width and height to either side.
        others: Share inside the boxes of other detections.
        padding: Share on what letterboxing has added to the picture.
        elsewhere: Share on the rest of the picture.
        entropy: Entropy as a share of the largest there can be: 0 all on one position, 1 even.
        distance: Mean distance from the positions that look to those looked at, in pixels of the picture; None for
            maps of several blocks together.
    """

    box: float
    around: float
    others: float
    padding: float
    elsewhere: float
    entropy: float
    distance: float | None = None


def region_map(look: Look, detection: int) -> Tensor:
    """Return which of `NAMES` each pixel of the network's input belongs to, for a detection.

    A pixel in several belongs to the first of padding, box, other objects and the ring around the box.

    Args:
        look: The pass.
        detection: Index of the detection.
    """
    (H, W), boxes = look.placement.size, look.boxes[:, :4].tolist()
    regions = torch.full((H, W), ELSEWHERE)
    x1, y1, x2, y2 = boxes[detection]
    dx, dy = RING * (x2 - x1), RING * (y2 - y1)
    _fill(regions, (x1 - dx, y1 - dy, x2 + dx, y2 + dy), AROUND)
    for i, corners in enumerate(boxes):
        if i != detection:
            _fill(regions, corners, OTHERS)
    _fill(regions, boxes[detection], BOX)
    picture = torch.zeros(H, W, dtype=torch.bool)
    _fill(picture, look.placement.content, True)
    return regions.masked_fill(~picture, PADDING)


def measure(maps: Tensor, regions: Tensor) -> list[Measures | None]:
    """Measure maps.

    Args:
        maps: Maps over the network's input, of shape (n, H, W).
        regions: From `region_map`; a position that is in several counts by area.

    Returns:
        The measures of each map, without ``distance``; None for a map that is 0 everywhere.
    """
    areas = F.one_hot(regions, len(NAMES)).permute(2, 0, 1).float()  # (5, H, W)
    areas = F.interpolate(areas[None], maps.shape[1:], mode="area")[0]
    maps = maps.double().cpu()
    sums = maps.sum((1, 2))
    shares = torch.einsum("nhw,rhw->nr", maps, areas.double()) / sums[:, None]
    p = maps.flatten(1) / sums[:, None]
    entropy = -torch.special.xlogy(p, p).sum(1) / math.log(max(p.shape[1], 2))
    return [
        Measures(**dict(zip(NAMES, row, strict=True)), entropy=value) if total > 0 else None
        for row, value, total in zip(shares.tolist(), entropy.tolist(), sums.tolist(), strict=True)
    ]


def _fill(target: Tensor, corners: tuple[float, ...] | list[float], value: int | bool) -> None:
    x1, y1, x2, y2 = (max(round(corner), 0) for corner in corners)
    target[y1 : max(y2, y1 + 1), x1 : max(x2, x1 + 1)] = value
