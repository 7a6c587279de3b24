"""Where one detection looked: attention of the positions that its score depends on, per head and together."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import ConfigError
from .looking import Look
from .recorder import Recorded, WeightedMaps

QUERY_SHARE = 0.99  # of all weight that the queries have which are computed; the others are many, and weak


@dataclass(frozen=True)
class BlockMaps:
    """What the positions of one block attend to, for one detection.

    Attributes:
        block: The block.
        heads: The heads that the maps are of.
        maps: Their maps, h being the number of ``heads``; None where the detection does not depend on the block, or
            the block did not run.
    """

    block: Recorded
    heads: list[int]
    maps: WeightedMaps | None


@dataclass(frozen=True)
class DetectionMaps:
    """Where one detection looked.

    Attributes:
        blocks: Each block that was asked for.
        attention: The mean attention of all heads, (H, W) with a sum of 1, even over the letterboxed image where the
            detection depends on no block.
        effect: The sum of the effects of all heads, (H, W).
    """

    blocks: list[BlockMaps]
    attention: Tensor
    effect: Tensor


def detection_maps(
    look: Look, detection: int, layers: Collection[str] | None = None, heads: Collection[int] | None = None
) -> DetectionMaps:
    """Compute the attention and effect maps of a detection.

    The weight of a query position is the norm, over channels, of the gradient of the detection's logit with respect to
    the output that the block adds there. The effect of a key is the sum over query positions of weight x attention x
    norm of the vector read at the key. It is an upper bound without sign: to first order, changing the vector read at
    this key by at most its own length cannot move the logit further (Cauchy-Schwarz). The many weak positions beyond
    99 % of the total weight are left out. The norm is used rather than the product of gradient and output, because in
    the product positive and negative contributions of different keys would cancel, and the weight of a query would
    depend on the values read.

    Args:
        look: The pass.
        detection: Index of the detection.
        layers: Names of the blocks; all if None.
        heads: Indices of the heads; all if None.

    Raises:
        ConfigError: None of the blocks ran.
    """
    chosen = {name: b for name, b in look.recorder.blocks.items() if layers is None or name in layers}
    outputs = {name: b.output for name, b in chosen.items() if b.ran and b.output is not None}
    if not outputs:
        given, expected = f"row {', '.join(chosen)}", "a block that runs in prediction"
        raise ConfigError("No attention ran that could be explained.", given=given, expected=expected)
    gradients = look.gradients(detection, outputs)
    blocks = []
    for name, block in chosen.items():
        kept = [i for i in range(block.num_heads) if heads is None or i in heads]
        weights = _strongest(gradients[name][0].float().norm(dim=0)) if name in gradients else torch.zeros(())
        found = block.weighted(weights) if weights.any() else None
        blocks.append(BlockMaps(block, kept, None if found is None else _of_heads(found, kept)))
    size = max((chosen[name].key_size for name in outputs), key=lambda size: size[0] * size[1])
    every = [b.maps for b in blocks if b.maps is not None and b.heads]
    if not every:
        even = torch.full(size, 1 / (size[0] * size[1]), device=look.input.device)
        return DetectionMaps(blocks, even, torch.zeros_like(even))
    attention = torch.cat([resized(maps.attention, size) for maps in every]).mean(0)
    effect = torch.cat([resized(maps.effect, size) for maps in every]).sum(0)
    return DetectionMaps(blocks, attention, effect)


def resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Return maps (h, H, W) at a larger size, with the same sum over positions."""
    larger = F.interpolate(maps[None], size, mode="nearest")[0]
    sums = maps.sum((1, 2)) / larger.sum((1, 2)).clamp_min(torch.finfo(maps.dtype).tiny)
    return larger * sums[:, None, None]


def _strongest(weights: Tensor) -> Tensor:
    """Keep the fewest weights that make up nearly all of their sum, and set the others to 0."""
    ordered, at = weights.flatten().sort(descending=True)
    before = ordered.cumsum(0) - ordered
    ordered[before >= QUERY_SHARE * ordered.sum()] = 0
    return torch.zeros_like(ordered).scatter_(0, at, ordered).view_as(weights)


def _of_heads(maps: WeightedMaps, heads: list[int]) -> WeightedMaps:
    return WeightedMaps(*(getattr(maps, field.name)[heads] for field in fields(maps)))
