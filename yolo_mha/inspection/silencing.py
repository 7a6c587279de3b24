"""Heads silenced while a block of code runs, to see what is lost without them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from ..nn import CrossScaleMHA, SpatialMHABlock
from ..registry import Network
from ..surgery.heads import Heads, attentions, check_heads

BLOCKS = {SpatialMHABlock: ("gate", "mlp.narrow", "mlp_gate"), CrossScaleMHA: ("gate",)}  # what they add passes these


@contextmanager
def silenced(model: nn.Module | Network, heads: Heads, *, whole_blocks: bool = True) -> Iterator[None]:
    """Set what heads give to 0 while a block of code runs.

    It is their columns of the output projection that become 0. So copies of the model are silenced too, such as the
    fused one that Ultralytics validates with. At the end every weight is bit for bit what it was.

    Args:
        model: A model of Ultralytics, fused or not.
        heads: The heads, as for `prune_heads`.
        whole_blocks: Whether a block of this package whose heads are all silenced becomes the identity, MLP included,
            because `prune_heads` removes it.

    Raises:
        ConfigError: The model has no such heads.
    """
    check_heads(model, heads)
    owners = {m.attn: m for m in model.modules() if type(m) is SpatialMHABlock}
    saved: list[tuple[torch.Tensor, torch.Tensor]] = []
    try:
        with torch.no_grad():
            for name, attention in attentions(model).items():
                gone = set(heads.get(name, ()))
                block = owners.get(attention, attention)
                if whole_blocks and len(gone) == attention.num_heads and type(block) in BLOCKS:
                    modules = dict(block.named_modules())
                    ends = [attention.proj, *(modules[end] for end in BLOCKS[type(block)] if end in modules)]
                    whole = [p for end in ends for p in end.parameters()]
                    saved += [(p, p.clone()) for p in whole]
                    for p in whole:
                        p.zero_()
                elif gone:
                    weight = attention.proj.weight  # (C, hd, 1, 1)
                    saved.append((weight, weight.clone()))
                    weight.view(len(weight), attention.num_heads, -1)[:, sorted(gone)] = 0
        yield
    finally:
        with torch.no_grad():
            for parameter, before in saved:
                parameter.copy_(before)
