"""Warnings about attention that costs more than its author may expect."""

from __future__ import annotations

from collections.abc import Sequence

from ultralytics.utils import LOGGER

from ..nn import CrossScaleMHA, SpatialMHA
from ..nn.scopes import count_pairs
from ..registry import Network, all_rows, sources_of
from .places import Layer, layers

ADVICE_IMGSZ = 640  # pixels, the size that the numbers are given for
WIDE_PAIRS = count_pairs(*2 * (ADVICE_IMGSZ // 8,))  # all positions of P3: more operations than a whole YOLO n


def warn_of_wide_attention(model: Network, described: Sequence[Layer] | None = None) -> None:
    """Warn, with the numbers, of every attention that scores as many pairs as there are at P3.

    Args:
        model: A model of Ultralytics.
        described: From `layers` for this model, where the caller has it.
    """
    attentions = [[m for m in layer.modules() if isinstance(m, (SpatialMHA, CrossScaleMHA))] for layer in model.model]
    if not any(attentions):
        return
    described = described or layers(model)
    for i, parts in enumerate(attentions):
        strides = [described[source].stride for source in sources_of(all_rows(model.yaml)[i], i)]
        if all(strides):
            sides = [ADVICE_IMGSZ // stride for stride in strides if stride]
            for part in parts:
                if part.pairs(*(side for side in sides for _ in ("height", "width"))) >= WIDE_PAIRS:
                    LOGGER.warning(f"Row {i}: {_costs(part, sides)}")


def _costs(part: SpatialMHA | CrossScaleMHA, sides: list[int]) -> str:
    """Say what attention needs on square maps, and what would need less."""

    def gflops(pairs: int) -> str:
        return f"{4 * pairs * part.num_heads * part.head_dim / 1e9:.1f}"

    side = sides[0]
    if isinstance(part, SpatialMHA):
        positions, pairs = f"all {side**2:,} positions", part.pairs(side, side)
        cheaper = {
            "scope=window": count_pairs(side, side, "window"),
            "scope=axial": count_pairs(side, side, "axial"),
            "kv_stride=4": count_pairs(side, side, kv_stride=4),
        }
        advice = ", ".join(f"{gflops(count)} with {name}" for name, count in cheaper.items())
    else:
        positions, pairs = f"{side**2:,} positions and {sides[1] ** 2:,} others", (side * sides[1]) ** 2
        advice = "a context of larger stride needs less"
    return (
        f"attention among {positions} at {ADVICE_IMGSZ} px; "
        f"the scores alone need {gflops(pairs)} GFLOPs per image; {advice}"
    )
