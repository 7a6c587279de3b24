"""What `explain` answers: where each detection looked, in numbers."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from .looking import Look
from .maps import BlockMaps, DetectionMaps
from .measures import Measures, measure, region_map

NO_EFFECT = 0.01  # logits: a score moves by 0.0025 at most


@dataclass(frozen=True)
class Where:
    """Where a head looked, or several together.

    Attributes:
        head: Index of the head; None for several together.
        effect: Upper bound of what it reads on the detection's logit, to first order, see `detection_maps`.
        no_effect: Whether that is so little that the head does nothing for this detection, as behind a gate near 0.
        by_attention: Measures of the attention; None where the detection does not depend on the block.
        by_effect: Measures of attention times the norm of what is read; None where there is no effect.
    """

    head: int | None
    effect: float
    no_effect: bool
    by_attention: Measures | None
    by_effect: Measures | None


@dataclass(frozen=True)
class Layer:
    """Where the heads of one block looked.

    Attributes:
        layer: The block's row in the model, "10", or "10.1" for the second block of a row that repeats.
        heads: Each head.
        together: All of these heads.
    """

    layer: str
    heads: list[Where]
    together: Where


@dataclass(frozen=True)
class Explained:
    """Where one detection looked.

    Attributes:
        source: The picture or video.
        frame: Index of the frame in a video; 0 in a picture.
        name: Name of its class.
        index: Index of its class; "class" in JSON.
        score: Score.
        box: x1, y1, x2, y2 in pixels of the picture.
        layers: Each block.
        together: All blocks.
        sheet: The sheet that was drawn; None where none was.
    """

    source: str
    frame: int
    name: str
    index: int
    score: float
    box: list[float]
    layers: list[Layer]
    together: Where
    sheet: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON holds it, as `predict` writes detections."""
        content = asdict(self)
        return {("class" if key == "index" else key): value for key, value in content.items()}


def explained(
    look: Look, detection: int, maps: DetectionMaps, names: dict[int, str], source: str, frame: int
) -> Explained:
    """Measure where a detection looked.

    Args:
        look: The pass.
        detection: Index of the detection.
        maps: Where it looked.
        names: Class names.
        source: The picture or video.
        frame: Index of the frame.
    """
    regions, index = region_map(look, detection), int(look.boxes[detection, 5])
    attention, effect = measure(torch.stack([maps.attention, maps.effect]), regions)
    reached = any(block.maps is not None for block in maps.blocks)
    return Explained(
        source,
        frame,
        names[index],
        index,
        float(look.boxes[detection, 4]),
        [round(v, 2) for v in look.corners[detection].tolist()],
        [_layer(look, block, regions) for block in maps.blocks],
        _where(None, float(maps.effect.sum()), attention if reached else None, effect),
    )


def _layer(look: Look, block: BlockMaps, regions: torch.Tensor) -> Layer:
    found = block.maps
    if found is None or not block.heads:
        return Layer(block.block.name, [_where(head, 0.0, None, None) for head in block.heads], _where(None, 0.0))
    h = len(block.heads)
    every = torch.cat([found.attention, found.attention.mean(0)[None], found.effect, found.effect.sum(0)[None]])
    measures = measure(every, regions)
    effects = found.effect.sum((1, 2)).tolist()
    pixels = look.placement.size[1] / block.block.size[1] / look.placement.gain  # of a position, in the picture
    weights = torch.tensor(effects) / (sum(effects) or 1.0)
    distances = (
        [*found.attention_distance.tolist(), float(found.attention_distance.mean())],
        [*found.effect_distance.tolist(), float((found.effect_distance.cpu().nan_to_num() * weights).sum())],
    )
    attention, effect = (
        [m and replace(m, distance=d * pixels) for m, d in zip(part, own, strict=True)]
        for part, own in zip((measures[: h + 1], measures[h + 1 :]), distances, strict=True)
    )
    rows = zip((*block.heads, None), (*effects, sum(effects)), attention, effect, strict=True)
    *heads, together = (_where(*row) for row in rows)
    return Layer(block.block.name, heads, together)


def _where(
    head: int | None, effect: float, by_attention: Measures | None = None, by_effect: Measures | None = None
) -> Where:
    nothing = effect < NO_EFFECT
    return Where(head, effect, nothing, by_attention, None if nothing else by_effect)
