"""Heads silenced while a block of code runs, to see what is lost without them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from ..registry import Network
from ..surgery.heads import Heads, attentions, check_heads

ENDS = ("gate", "mlp.narrow", "mlp_gate")  # what a block adds passes these, folded or not


@contextmanager
def silenced(model: nn.Module | Network, heads: Heads) -> Iterator[None]:
    """Set what heads give to 0 within the block; a block whose heads are all silenced is the identity, MLP included.

    It is their columns of the output projection that become 0. So copies of the model are silenced too, such as the
    fused one that Ultralytics validates with. At the end every weight is bit for bit what it was.

    Args:
        model: A model of Ultralytics, fused or not.
        heads: The heads, as for `prune_heads`.

    Raises:
        ConfigError: The model has no such heads.
    """
    check_heads(model, heads)
    modules = dict(model.named_modules())
    paths = {module: path for path, module in modules.items()}
    saved: list[tuple[torch.Tensor, torch.Tensor]] = []
    try:
        with torch.no_grad():
            for name, attention in attentions(model).items():
                gone = set(heads.get(name, ()))
                if len(gone) == attention.num_heads:
                    block = paths[attention].removesuffix(".attn")
                    ends = [attention.proj, *(modules.get(f"{block}.{end}".removeprefix(".")) for end in ENDS)]
                    whole = [p for end in ends if end is not None for p in end.parameters()]
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
