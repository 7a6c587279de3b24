"""A block at named places of a built model."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ultralytics.cfg import DEFAULT_CFG_DICT

from ..errors import ConfigError, ModelError, nearest
from ..registry import Network, Row, all_rows, block_class, count_inputs
from .advice import warn_of_wide_attention
from .graft import graft
from .places import find_hosts, layers, slug, split
from .rows import RowPlan, blocks, edit, plan_insertion, plan_removal

BLOCK = "SpatialMHABlock"
CONTEXT = "context"


@dataclass(frozen=True)
class Insertion:
    """A block, and where it goes.

    Attributes:
        at: Places, see `places.find_hosts`; a text with several is split.
        block: Class name of a registered block.
        options: Arguments of the block by name; for one with two inputs also ``context``, the place of the second.

    Raises:
        ConfigError: A place is malformed, the block has no such option, or its second input is missing.
        ModelError: No block has this name.
    """

    at: str | Iterable[str]
    block: str = BLOCK
    options: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "at", tuple(split(self.at)))
        _ = self.row  # of known options

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> tuple[Insertion | None, dict[str, Any]]:
        """Take what says where a block goes out of a command's settings.

        Args:
            settings: What the user gave: ``at``, ``block``, the block's options, and other settings.

        Returns:
            The insertion, None without ``at``; and the other settings.

        Raises:
            ConfigError: There are options and no place, an option has the name of a setting of Ultralytics, or see
                `Insertion`.
            ModelError: No block has this name.
        """
        rest = dict(settings)
        at, block = rest.pop("at", None), rest.pop("block", BLOCK)
        keys = [key for key in rest if key in block_options(block)]
        for key in keys:
            if at is not None and key in DEFAULT_CFG_DICT:
                raise ConfigError(
                    f"'{key}' is both an option of {block} and a setting of Ultralytics.",
                    given=f"{key}={rest[key]}",
                    expected="a name that is only one of them",
                    fix="insert the block first with yolo-mha insert, then use the model that it writes",
                )
        options = {key: rest.pop(key) for key in keys if key not in DEFAULT_CFG_DICT}
        if at is not None:
            return cls(at, block, options), rest
        if options or block != BLOCK:
            given = " ".join(f"{k}={v}" for k, v in {"block": block, **options}.items() if v != BLOCK)
            raise ConfigError("A block and its options need at.", given=given, expected=f"{given} at=P5")
        return None, rest

    @property
    def suffix(self) -> str:
        """What a model's name gets for its blocks: -mha-p5."""
        return f"-{'mha' if self.block == BLOCK else self.block.lower()}-{slug(self.at)}"

    def settings(self) -> dict[str, Any]:
        """Return the settings that give this insertion."""
        block = {} if self.block == BLOCK else {"block": self.block}
        return {"at": ",".join(self.at), **block, **self.options}

    @property
    def row(self) -> Row:
        """The row that goes into a model YAML, reading the layer before it.

        For a block with two inputs the place of the second stands in it until `apply` knows the layer.

        Raises:
            ConfigError: The block has no such option, or a second input is missing.
            ModelError: No block has this name.
        """
        valid = block_options(self.block)
        for name, value in self.options.items():
            if name not in valid:
                given = f"{name}={value}"
                raise ConfigError(f"{self.block} has no such option.", given=given, expected=nearest(name, valid))
        source: Any = -1
        arguments = dict(self.options)
        if CONTEXT in valid:
            if not arguments.get(CONTEXT):
                raise ConfigError(
                    f"{self.block} reads two layers, and context is missing.",
                    given=f"block={self.block}",
                    expected="context=P5 too: the layer that keys and values come from, given like at=",
                )
            source = [-1, arguments.pop(CONTEXT)]
        return [source, 1, self.block, [arguments] if arguments else []]

    def apply(self, model: Network) -> tuple[Network, RowPlan]:
        """Put the block behind the named layers of a model; all layers of the model are kept.

        Args:
            model: A model of Ultralytics; it stays as it is.

        Returns:
            The new model, and the plan that made it.

        Raises:
            ConfigError: A place is not in this model.
            ModelError: The block does not fit the layer, or changes the shape of the map.
        """
        before = layers(model)
        source, *rest = self.row
        if isinstance(source, list):
            found = find_hosts(source[1], before, setting=CONTEXT)
            if len(found) > 1:
                raise ConfigError(
                    "context names several layers; keys and values come from one.",
                    given=f"{CONTEXT}={source[1]}: rows {', '.join(map(str, found))}",
                    expected="one place, for example P5",
                )
            source = [source[0], *found]
        plan = plan_insertion(len(before), find_hosts(self.at, before), [source, *rest])
        made = graft(model, edit(model.yaml, plan), plan)
        after = layers(made)
        for host in plan.hosts:
            old, new = ((layer.channels, layer.stride) for layer in (before[host], after[plan.output[host]]))
            if old != new:
                raise ModelError(
                    f"{self.block} changes the shape of its input, so it cannot be inserted here.",
                    given=f"channels and stride {new} after row {host}, which gives {old}",
                    expected="a block that keeps channels, height and width",
                )
        warn_of_wide_attention(made, after)
        return made, plan


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


def remove_blocks(model: Network, at: str | Iterable[str] | None = None) -> tuple[Network, RowPlan]:
    """Take blocks out of a model; all other layers are kept.

    Args:
        model: A model of Ultralytics; it stays as it is.
        at: Where the blocks are that go, as for `Insertion` or as ``layer:10``, the index of the block itself; all
            blocks if None.

    Returns:
        The new model, and the plan that made it.

    Raises:
        ConfigError: There is no block, or none at one of these places.
    """
    present = blocks(model.yaml)
    if not present:
        given = model.yaml.get("yaml_file", "")
        raise ConfigError("The model has no attention block.", given=given, expected="a model with blocks")
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
    plan = plan_removal(all_rows(model.yaml), removed)
    return graft(model, edit(model.yaml, plan), plan), plan
