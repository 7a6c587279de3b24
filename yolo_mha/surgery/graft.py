"""Surgery on a built model: its own layers stay the same objects, blocks come and go between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy, deepcopy

import torch
from torch import nn

from ..registry import ModelYAML, Network, build
from .rows import RowPlan, blocks, without_block_rows


def graft(model: Network, edited: ModelYAML, plan: RowPlan) -> Network:
    """Return a copy of a model after a plan: every kept layer as it is, every new row freshly built.

    Whatever else the model carries (class names, text features, a fused head) stays.

    Args:
        model: A model of Ultralytics.
        edited: Its YAML's content after the plan, see `rows.edit`.
        plan: The plan.
    """
    model = deepcopy(model)
    with torch.random.fork_rng(devices=[]):  # the same block every time, and the caller's random numbers as they were
        torch.default_generator.manual_seed(0)  # torch.manual_seed would set those of GPUs too
        built = build(edited)
    sample = next(model.parameters())
    layers = list(built.model.to(sample.device, sample.dtype).train(model.training))
    for i, place in enumerate(plan.place):
        if place is not None:
            layer = model.model[i]
            layer.i, layer.f = layers[place].i, layers[place].f
            layers[place] = layer
    model.model, model.save, model.yaml = nn.Sequential(*layers), built.save, edited
    return model


def gates(model: Network) -> dict[int, float]:
    """Return the mean absolute weight of the gates of each block, by row; blocks without a gate are left out."""
    found = {}
    for row in blocks(model.yaml):
        parts = model.model[row].named_modules()
        weights = [m.weight.float().abs() for name, m in parts if "gate" in name and isinstance(m, nn.BatchNorm2d)]
        if weights:
            found[row] = float(torch.cat(weights).mean())
    return found


def without_blocks(model: Network) -> Network:
    """Return a copy of a model without its attention blocks, all other weights kept.

    Args:
        model: A model of Ultralytics.
    """
    return graft(model, *without_block_rows(model.yaml))


def lay_out(model: Network, places: Mapping[int, int | None], count: int) -> Network:
    """Return a view of a model whose layers stand at other indices, with nothing at the indices in between.

    The layers are shared with ``model``, so this costs no memory.

    Args:
        model: A model of Ultralytics.
        places: New index of each layer, None to leave it out.
        count: Number of indices.
    """
    layers: list[nn.Module] = [nn.Identity() for _ in range(count)]
    for i, place in places.items():
        if place is not None:
            layers[place] = model.model[i]
    view = copy(model)
    view._modules = {**model._modules, "model": nn.Sequential(*layers)}
    return view


def renamed(name: str, places: Sequence[int | None] | Mapping[int, int | None]) -> str | None:
    """Return a tensor's name after its layer has moved, or None where the layer is gone.

    Args:
        name: Name in the state dictionary of a model of Ultralytics.
        places: New index of each layer by old index.
    """
    if not name.startswith("model."):
        return name
    _, index, rest = name.split(".", 2)
    place = places[int(index)]
    return None if place is None else f"model.{place}.{rest}"


def same_values(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Say whether two tensors are equal, a NaN to a NaN, whatever their precision."""
    return torch.equal(one, other) or torch.equal(one.float().nan_to_num(), other.float().nan_to_num())
