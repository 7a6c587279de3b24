"""A block at named places of a built model."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import ConfigError, ModelError, nearest
from ..registry import Network, block_class, count_inputs
from .advice import warn_of_wide_attention
from .graft import graft
from .places import Layer, find_hosts, layers
from .rows import Plan, Row, blocks, edit, plan_insertion, plan_removal

BLOCK = "SpatialMHABlock"
CONTEXT = "context"


def block_options(block: str = BLOCK) -> list[str]:
    """Name the arguments that a registered block takes after its channels, and where its second input comes from.

    Args:
        block: Its class name.

    Raises:
        ModelError: No block has this name.
    """
    known = block_class(block)
    parameters = list(inspect.signature(known.__init__).parameters.values())[1 + count_inputs(known) :]
    options = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    return [*options, *([CONTEXT] if count_inputs(known) == 2 else [])]


def block_row(block: str, options: Mapping[str, Any]) -> Row:
    """Write the row that goes into a model YAML, reading the layer before it.

    Args:
        block: Class name of a registered block.
        options: Its arguments by name; for a block with two inputs also ``context``, the place of the second, whose
            name stands in the row until `insert_blocks` knows the layer.

    Raises:
        ConfigError: The block has no such argument, or a second input is missing.
        ModelError: No block has this name.
    """
    valid = block_options(block)
    for name, value in options.items():
        if name not in valid:
            raise ConfigError(f"{block} has no such option.", given=f"{name}={value}", expected=nearest(name, valid))
    arguments = {name: value for name, value in options.items() if name != CONTEXT or CONTEXT not in valid}
    source: Any = -1
    if CONTEXT in valid:
        if not options.get(CONTEXT):
            raise ConfigError(
                f"{block} reads two layers, and only one is named.",
                given=f"block={block}",
                expected="context=P5 beside it: where keys and values come from, a place as in at=",
            )
        source = [-1, options[CONTEXT]]
    return [source, 1, block, [arguments] if arguments else []]


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
    source, *rest = row
    if isinstance(source, list):
        source = [source[0], _context(source[1], before)]
    plan = plan_insertion(len(before), find_hosts(at, before), [source, *rest])
    made = graft(model, edit(content, plan), plan)
    after = layers(made)
    for host in plan.hosts:
        old, new = ((at_row.channels, at_row.stride) for at_row in (before[host], after[plan.output[host]]))
        if old != new:
            raise ModelError(
                f"{row[2]} changes the shape of what it reads, so it cannot stand here.",
                given=f"channels and stride {new} behind row {host}, which gives {old}",
                expected="a block that keeps channels, height and width",
            )
    warn_of_wide_attention(made, after)
    return made, plan


def _context(place: str, model: list[Layer]) -> int:
    """Find the one layer that a place stands for."""
    found = find_hosts(place, model, setting=CONTEXT)
    if len(found) > 1:
        raise ConfigError(
            "Keys and values come from one layer.",
            given=f"{CONTEXT}={place}: rows {', '.join(map(str, found))}",
            expected="one place, for example P5",
        )
    return found[0]


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
