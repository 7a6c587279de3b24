"""A block at named places of a built model."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import ConfigError, ModelError, nearest
from ..registry import Network, block_class
from .graft import graft
from .places import find_hosts, layers
from .rows import Plan, Row, blocks, edit, plan_insertion, plan_removal

BLOCK = "SpatialMHABlock"


def block_options(block: str = BLOCK) -> list[str]:
    """Name the arguments that a registered block takes after its channels.

    Args:
        block: Its class name.

    Raises:
        ModelError: No block has this name.
    """
    parameters = list(inspect.signature(block_class(block).__init__).parameters.values())[2:]
    return [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]


def block_row(block: str, options: Mapping[str, Any]) -> Row:
    """Write the row that goes into a model YAML, reading the layer before it.

    Args:
        block: Class name of a registered block.
        options: Its arguments by name.

    Raises:
        ConfigError: The block has no such argument.
        ModelError: No block has this name.
    """
    valid = block_options(block)
    for name, value in options.items():
        if name not in valid:
            raise ConfigError(f"{block} has no such option.", given=f"{name}={value}", expected=nearest(name, valid))
    return [-1, 1, block, [dict(options)] if options else []]


def insert_blocks(model: Network, at: str | Iterable[str], row: Row) -> tuple[Network, Plan]:
    """Put a block behind the named layers of a model; all layers of the model are kept.

    Args:
        model: A model of Ultralytics; it stays as it is.
        at: See `places.find_hosts`.
        row: From `block_row`.

    Returns:
        The new model, and the plan that made it.

    Raises:
        ConfigError: A place is not in this model.
        ModelError: The block does not fit the layer, or changes the shape of the map.
    """
    content: dict[str, Any] = model.yaml
    before = layers(model)
    plan = plan_insertion(len(before), find_hosts(at, before))
    made = graft(model, edit(content, plan, row), plan)
    after = layers(made)
    for host in plan.hosts:
        old, new = ((at_row.channels, at_row.stride) for at_row in (before[host], after[plan.output[host]]))
        if old != new:
            raise ModelError(
                f"{row[2]} changes the shape of what it reads, so it cannot stand here.",
                given=f"channels and stride {new} behind row {host}, which gives {old}",
                expected="a block that keeps channels, height and width",
            )
    return made, plan


def remove_blocks(model: Network, at: str | Iterable[str] | None = None) -> tuple[Network, Plan]:
    """Take blocks out of a model; all other layers are kept.

    Args:
        model: A model of Ultralytics; it stays as it is.
        at: Where the blocks are that go, as in `insert_blocks` or as ``layer:10``, the index of the block itself; all
            blocks if None.

    Returns:
        The new model, and the plan that made it.

    Raises:
        ConfigError: There is no block, or none at one of these places.
    """
    content: dict[str, Any] = model.yaml
    present = blocks(content)
    if not present:
        raise ConfigError("The model has no attention block.", given=str(content.get("yaml_file", "")), expected="one")
    removed = present
    if at is not None:
        described = layers(model)
        removed = []
        for host in find_hosts(at, described):
            # behind SPPF means the block that follows it; the last layer at a stride is the block itself
            found = host if host in present else host + 1
            if found not in present:
                raise ConfigError(
                    "There is no block at this place.",
                    given=f"row {host}, {described[host].module}",
                    expected=f"one of {', '.join(f'layer:{i}' for i in present)}",
                )
            if found in removed:
                raise ConfigError("Two places are the same block.", given=f"row {found}", expected="each block once")
            removed.append(found)
    plan = plan_removal(content["backbone"] + content["head"], removed)
    return graft(model, edit(content, plan), plan), plan
