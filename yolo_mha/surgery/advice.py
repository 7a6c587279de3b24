"""A word on attention that will cost more than its author may expect."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from ultralytics.utils import LOGGER

from ..nn import SpatialMHA
from ..registry import Network
from .places import Layer, layers

IMGSZ = 640  # pixels, the size that the numbers are given for
STRIDE = 8  # from P3 down a global scope costs more than most models
WINDOW = 10


def warn_of_wide_attention(model: Network, described: Sequence[Layer] | None = None) -> None:
    """Warn, with the numbers, of every attention among all positions of a map as large as P3.

    Args:
        model: A model of Ultralytics.
        described: From `layers` for this model, where the caller has it.
    """
    wide = {i: parts for i, layer in enumerate(model.model) if (parts := _global_attention(layer))}
    if not wide:
        return
    for i, parts in wide.items():
        stride = (described or layers(model))[i].stride
        if stride is None or stride > STRIDE:
            continue
        side = IMGSZ // stride
        width = sum(part.num_heads * part.head_dim for part in parts)
        costs = {
            "it needs": side**4,
            "scope=window": side**2 * WINDOW**2,
            "scope=axial": side**2 * 2 * side,
            "kv_stride=4": side**4 // 16,
        }
        own, *others = (f"{name} {4 * pairs * width / 1e9:.1f}" for name, pairs in costs.items())
        LOGGER.warning(
            f"Row {i}: attention among all {side**2:,} positions of a map of stride {stride} at {IMGSZ} px; for the "
            f"scores alone {own} GFLOPs an image, {', '.join(others)}"
        )


def _global_attention(layer: nn.Module) -> list[SpatialMHA]:
    parts = [m for m in layer.modules() if isinstance(m, SpatialMHA)]
    return [m for m in parts if m.scope == "global" and m.kv_stride == 1]
