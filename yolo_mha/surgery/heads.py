"""Heads cut away: the weights of a block's heads leave for real, and its row says how many are left.

A block whose heads all go is removed, with its MLP where it has one. `S2Attention` and `ConvBlock` have no heads.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..nn import CrossScaleMHA, SpatialMHA, SpatialMHABlock
from ..registry import Network, all_rows
from .graft import graft
from .rows import RowPlan, edit, plan_removal

Attention = SpatialMHA | CrossScaleMHA
Heads = Mapping[str, Collection[int]]  # indices of heads by the name of their attention, see `attentions`
PRUNABLE = (SpatialMHABlock.__name__, CrossScaleMHA.__name__)  # what their rows take is known here


def attentions(model: nn.Module | Network) -> dict[str, Attention]:
    """Return the attention of each block, by its row: "10", or "10.1" for the second block of a row that repeats.

    Args:
        model: A model of Ultralytics.
    """
    return {
        path.removeprefix("model.").removesuffix(".attn"): module
        for path, module in model.named_modules()
        if isinstance(module, (SpatialMHA, CrossScaleMHA))
    }


def check_heads(model: nn.Module | Network, heads: Heads) -> None:
    """Refuse heads that a model does not have.

    Args:
        model: A model of Ultralytics.
        heads: The heads.

    Raises:
        ConfigError: The model has no attention, none in such a row, or no such head in it.
    """
    present = attentions(model)
    if not present:
        raise ConfigError(
            "The model has no attention heads.",
            expected="a model with SpatialMHABlock or CrossScaleMHA",
            fix="put attention in and train it: yolo-mha train model=... at=P5 data=...",
        )
    for name, indices in heads.items():
        if name not in present:
            given, expected = f"row {name}", f"one of {', '.join(present)}"
            raise ConfigError("This row has no attention block.", given=given, expected=expected)
        most = present[name].num_heads
        if unknown := [i for i in indices if not 0 <= i < most]:
            given = f"{name}:{unknown[0]}"
            raise ConfigError("There is no such head.", given=given, expected=f"{name}:0 to {name}:{most - 1}")


def check_some_stay(model: nn.Module | Network, heads: Heads) -> None:
    """Refuse to cut all heads of a model.

    Args:
        model: A model of Ultralytics.
        heads: Those that would go, all of them in the model.

    Raises:
        ConfigError: No head would be left.
    """
    count = sum(attention.num_heads for attention in attentions(model).values())
    if sum(len(set(indices)) for indices in heads.values()) == count:
        raise ConfigError(
            "No head would be left.",
            given=f"all {count} heads",
            expected="some of them",
            fix="to remove all attention: yolo-mha remove model=...",
        )


def prune_heads(model: Network, heads: Heads) -> tuple[Network, RowPlan]:
    """Cut heads out of a model; all other weights are kept.

    The model then gives what it gave with these heads set to 0, and where all heads of a block go, with the block set
    to the identity.

    Args:
        model: A model of Ultralytics, fused or not; it stays as it is.
        heads: The heads that go.

    Returns:
        The new model, and the plan that made it.

    Raises:
        ConfigError: The model has no such heads, or a row cannot say what is left of it.
    """
    check_heads(model, heads)
    made = deepcopy(model)
    kept = {
        name: [i for i in range(m.num_heads) if i not in heads.get(name, ())] for name, m in attentions(made).items()
    }
    plan = _plan(made, kept)
    for name, attention in attentions(made).items():
        if 0 < len(kept[name]) < attention.num_heads:
            keep_heads(attention, kept[name])
    return graft(made, edit(model.yaml, plan), plan), plan


@torch.no_grad()
def keep_heads(attention: Attention, kept: Sequence[int]) -> None:
    """Cut all heads but some out of an attention module, in place.

    Args:
        attention: The module.
        kept: Indices of the heads that stay, one or more.
    """
    d, inner = attention.head_dim, attention.num_heads * attention.head_dim
    channels = torch.cat([torch.arange(i * d, (i + 1) * d) for i in kept])  # of queries, keys or values
    projections = [attention.q, attention.kv] if isinstance(attention, CrossScaleMHA) else [attention.qkv]
    for projection in projections:
        firsts = range(0, projection.out_channels, inner)
        _take(projection, torch.cat([channels + first for first in firsts]), 0)
        projection.out_channels = len(firsts) * len(channels)
    _take(attention.proj, channels, 1)
    attention.proj.in_channels = len(channels)
    if isinstance(attention, SpatialMHA) and attention.pe is not None:
        _take(attention.pe, channels, 0)
        attention.pe.in_channels = attention.pe.out_channels = attention.pe.groups = len(channels)
    if isinstance(attention, SpatialMHA) and attention.bias is not None:
        attention.bias.table = _taken(attention.bias.table, torch.tensor(kept), 2)
    attention.num_heads = len(kept)


def _plan(model: Network, kept: Mapping[str, Sequence[int]]) -> RowPlan:
    """Plan which rows go, and what those say that keep some of their heads."""
    rows, present = all_rows(model.yaml), attentions(model)
    removed, arguments = [], {}
    for index, group in groupby(kept, key=lambda name: name.partition(".")[0]):
        names = list(group)
        changed = [name for name in names if len(kept[name]) < present[name].num_heads]
        if not changed:
            continue
        row = int(index)
        left = {len(kept[name]) for name in names}
        if rows[row][2] not in PRUNABLE:
            raise ConfigError(
                "Heads can be removed from this package's own blocks only.",
                given=f"row {row}, {rows[row][2]}",
                expected=" or ".join(PRUNABLE),
            )
        if len(left) > 1:
            raise ConfigError(
                f"The repeated blocks of row {row} must keep the same number of heads.",
                given=", ".join(f"{name} with {len(kept[name])} heads left" for name in names),
                expected="the same number of heads left in each",
            )
        if left == {0}:
            removed.append(row)
        else:
            arguments[row] = _arguments(rows[row][3], left.pop(), present[names[0]].head_dim)
    return replace(plan_removal(rows, removed), arguments=arguments)


def _arguments(given: Any, num_heads: int, head_dim: int) -> list[dict[str, object]]:
    """Return a row's arguments with another number of heads; their width then has to be said too."""
    last = given[-1] if isinstance(given, list) and given else given
    named = last if isinstance(last, dict) else {}
    return [{**named, "num_heads": num_heads, "head_dim": head_dim}]


def _take(conv: nn.Conv2d, channels: Tensor, axis: int) -> None:
    conv.weight = _taken(conv.weight, channels, axis)
    if conv.bias is not None and axis == 0:
        conv.bias = _taken(conv.bias, channels, axis)


def _taken(parameter: Tensor, indices: Tensor, axis: int) -> nn.Parameter:
    some = parameter.index_select(axis, indices.to(parameter.device))
    return nn.Parameter(some, requires_grad=parameter.requires_grad)
