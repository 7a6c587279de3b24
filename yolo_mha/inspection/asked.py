"""What the commands of this package are asked for, checked before any work."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from ..engine import settings as config
from ..engine.model import YOLO
from ..errors import ConfigError, UnsupportedTaskError, nearest
from .looking import Looker
from .recorder import Recorder

# Ultralytics' settings of detection that mean something here
DETECTING = ("imgsz", "conf", "iou", "max_det", "classes", "agnostic_nms", "nms", "rect", "device")


def check_settings(settings: Mapping[str, Any], taken: Sequence[str], command: str) -> dict[str, Any]:
    """Check settings, and refuse those of Ultralytics that do nothing here.

    Args:
        settings: What the user gave.
        taken: Those that do something.
        command: The command, for messages.

    Raises:
        ConfigError: A setting is unknown, unusable, or does nothing.
    """
    names = config.class_names(settings)
    passed = config.check({k: v for k, v in settings.items() if k != "classes" or not names})
    for key in passed:
        if key not in taken:
            given = f"{key}={passed[key]}"
            raise ConfigError(f"{command} does not take {key}.", given=given, expected=nearest(key, taken))
    return passed


def detector(network: YOLO, settings: Mapping[str, Any], passed: Mapping[str, Any]) -> Looker:
    """Return the detector that is explained.

    Args:
        network: The model.
        settings: What the user gave.
        passed: The same, checked.

    Raises:
        ConfigError: The model has no class that is asked for, or classes are given by name.
    """
    if names := config.class_names(settings):
        raise config.not_by_name(names, network.names)
    looker = Looker(network, **{key: passed[key] for key in DETECTING if key in passed})
    if unknown := [index for index in looker.classes or [] if index not in looker.names]:
        raise config.no_such_class(unknown, looker.names)
    return looker


def numbers(name: str, value: Any, expected: str, kind: type) -> list[Any] | None:
    """Read a setting that is one number or several; None where it is not given.

    Args:
        name: The setting.
        value: What was given.
        expected: What would have been right, for the message.
        kind: int or float.

    Raises:
        ConfigError: It is something else.
    """
    if value is None:
        return None
    given = value.split(",") if isinstance(value, str) else value if isinstance(value, Iterable) else [value]
    try:
        found = [kind(number) for number in given]
    except (TypeError, ValueError, OverflowError):
        found = []
    cut = [n for n in given if isinstance(n, bool) or (isinstance(n, float) and kind is int)]
    if not found or cut or not all(map(math.isfinite, found)):
        raise ConfigError(f"{name} has an unusable value.", given=f"{name}={value}", expected=expected)
    return found


def chosen_blocks(network: YOLO, layer: Any, head: Any) -> tuple[list[str] | None, list[int] | None]:
    """Return the names of the blocks and the heads that are asked for, None for all.

    Args:
        network: The model.
        layer: Rows of its blocks, as a user gives them.
        head: Indices of heads, likewise.

    Raises:
        ConfigError: The model cannot be explained, or has no such block or head.
        UnsupportedTaskError: It is not for box detection.
    """
    heads = numbers("head", head, "numbers of heads from 0, such as 0,3", int)
    if not isinstance(network.model, torch.nn.Module):
        given = f"model={network.model_name}"
        expected = "the .pt checkpoint that it was exported from"
        raise ConfigError("An exported model cannot be explained.", given=given, expected=expected)
    if network.task != "detect":
        given, expected = f"a model for the task '{network.task}'", "a detection model"
        raise UnsupportedTaskError("Attention can be explained for box detection only.", given=given, expected=expected)
    blocks = Recorder(network.model).blocks
    if not blocks:
        raise ConfigError(
            "The model has no attention blocks that can be recorded.",
            given=f"model={network.model_name}",
            expected="a model with SpatialMHABlock or CrossScaleMHA",
            fix="train one: yolo-mha train model=... at=P5 data=...",
        )
    layers = None
    if layer is not None:
        layers = [str(v) for v in (layer if isinstance(layer, (list, tuple)) else str(layer).split(","))]
        if not layers or (unknown := [v for v in layers if v not in blocks]):
            rows, given = ", ".join(blocks), f"layer={','.join(unknown if layers else [])}"
            raise ConfigError("This row has no attention block.", given=given, expected=f"one of {rows}")
        blocks = {name: blocks[name] for name in layers}
    most = max(block.num_heads for block in blocks.values())
    if unknown := [str(h) for h in heads or [] if not 0 <= h < most]:
        raise ConfigError("There is no such head.", given=f"head={','.join(unknown)}", expected=f"0 to {most - 1}")
    return layers, heads
