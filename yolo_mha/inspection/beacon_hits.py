"""The demo's task as a test of maps: its truth is known, because a shape's class is the colour of the beacon."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from ..data.beacons import NAMES
from ..data.dataset import Sample
from ..engine.video import Image
from .looking import Look, Looker
from .maps import DetectionMaps, detection_maps
from .random_weights import same_detections, with_random_weights

BEACON = NAMES.index("beacon")
PAINT_MARGIN = 3  # pixels around the beacon that are painted over too
MAPS = ("attention", "effect")


@dataclass(frozen=True)
class ClassHits:
    """How often attention is greatest on the beacon, of the shapes that are detected as one class.

    Attributes:
        shapes: Number of shapes.
        hits: Share of them whose attention hits the beacon.
    """

    shapes: int
    hits: float


@dataclass(frozen=True)
class BeaconHits:
    """How often maps are greatest on the beacon.

    A detection flips if the model calls the shape by another class once the beacon is painted over: then its class
    depends on the beacon, so a true map must hit it. Where it does not flip, a map may hit the beacon or not.

    Attributes:
        flipped: Number of shapes whose class flips.
        hits: Share of them whose map hits the beacon, by kind of map; None where none flips.
        others: Number of shapes whose class stays.
        other_hits: The same share of these.
        by_class: The same by class as detected.
        random_hits: Share of all shapes whose attention hits the beacon where the whole network has random weights.
        random_attention_hits: The same where attention alone has them: the other layers still make the beacon stand
            out.
        chance: Share of the positions that touch the beacon, which a random map would hit.
    """

    flipped: int
    hits: dict[str, float] | None
    others: int
    other_hits: dict[str, float] | None
    by_class: dict[str, ClassHits]
    random_hits: float
    random_attention_hits: float
    chance: float


def beacon_hits(looker: Looker, pictures: Iterable[tuple[Sample, Image]]) -> BeaconHits | None:
    """Count how often maps hit the beacon.

    Args:
        looker: A detector of the demo's task.
        pictures: Images of that task.

    Returns:
        The counts; None where no shape is detected.
    """
    twins = [with_random_weights(looker, attention_only=only) for only in (False, True)]
    rows: list[tuple[int, bool, list[bool], list[bool], float]] = []  # class, flipped, hits, hits of twins, chance
    for sample, picture in pictures:
        beacon = sample.boxes[sample.classes == BEACON]
        look = looker(picture)
        shapes = [i for i in range(len(look.boxes)) if int(look.boxes[i, 5]) != BEACON]
        if not len(beacon) or not shapes:
            continue
        painted = looker(_without(picture, beacon[0])).logits.detach()
        others = [same_detections(twin, picture, look) for twin in twins]
        for i in shapes:
            index, anchor = int(look.boxes[i, 5]), int(look.anchors[i])
            now = int(painted[:BEACON, anchor].argmax())
            maps = detection_maps(look, i)
            touched = _touched(look, beacon[0], maps)
            attention = [detection_maps(other, i).attention for other in others]
            hit = [bool(touched.flatten()[m.argmax().cpu()]) for m in (maps.attention, maps.effect, *attention)]
            rows.append((index, now != index, hit[:2], hit[2:], float(touched.float().mean())))
    if not rows:
        return None
    return BeaconHits(
        flipped=sum(flipped for _, flipped, *_ in rows),
        hits=_shares([hit for _, flipped, hit, *_ in rows if flipped]),
        others=sum(not flipped for _, flipped, *_ in rows),
        other_hits=_shares([hit for _, flipped, hit, *_ in rows if not flipped]),
        by_class={
            NAMES[index]: ClassHits(len(own), float(np.mean([hit[0] for hit in own])))
            for index in sorted({row[0] for row in rows})
            if (own := [hit for i, _, hit, *_ in rows if i == index])
        },
        random_hits=float(np.mean([row[3][0] for row in rows])),
        random_attention_hits=float(np.mean([row[3][1] for row in rows])),
        chance=float(np.mean([row[4] for row in rows])),
    )


def _shares(hits: list[list[bool]]) -> dict[str, float] | None:
    return dict(zip(MAPS, np.mean(hits, axis=0).tolist(), strict=True)) if hits else None


def _without(picture: Image, beacon: np.ndarray) -> Image:
    """Paint the beacon over with what surrounds it."""
    mask = np.zeros(picture.shape[:2], np.uint8)
    x1, y1, x2, y2 = (round(float(v)) for v in beacon)
    mask[max(y1 - PAINT_MARGIN, 0) : y2 + PAINT_MARGIN, max(x1 - PAINT_MARGIN, 0) : x2 + PAINT_MARGIN] = 255
    painted: Image = cv2.inpaint(picture, mask, PAINT_MARGIN, cv2.INPAINT_TELEA)
    return painted


def _touched(look: Look, beacon: np.ndarray, maps: DetectionMaps) -> Tensor:
    """Say which positions of the maps touch the beacon."""
    (H, W), (height, width) = look.placement.size, maps.effect.shape
    x1, y1, x2, y2 = look.placement.inside(beacon.tolist())
    rows, columns = (torch.arange(n) * (length / n) for n, length in ((height, H), (width, W)))
    touched = (columns < x2) & (columns + W / width > x1)
    return (rows < y2)[:, None] & (rows + H / height > y1)[:, None] & touched
