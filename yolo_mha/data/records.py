"""JSON files that the package itself wrote, checked for their shape when they are read again."""

from __future__ import annotations

import json
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from ..errors import ConfigError, one_line
from .instances import is_number


def read_record(file: Path, shape: Any) -> Any:
    """Read a record; None where there is no file.

    Args:
        file: The JSON file.
        shape: What it holds: a type such as ``dict[str, float]``, or a dataclass or TypedDict for an object with its
            attributes, which stays a dictionary.

    Raises:
        ConfigError: It is damaged: no JSON, or of another shape.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as e:
        raise damaged(file, one_line(e)) from e
    if not fits(content, shape):
        raise damaged(file, f"{type(content).__name__} of another shape than was written")
    return content


def damaged(file: Path, reason: str) -> ConfigError:
    """Say that a record cannot be used."""
    return ConfigError(
        "A file of the comparison is damaged.",
        given=f"{file}: {reason}",
        expected="the file as it was written",
        fix="restore it, or move its folder away and start that part again",
    )


def fits(value: object, shape: Any) -> bool:
    """Return whether what was read from JSON has a shape, see `read_record`."""
    kind, parts = get_origin(shape) or shape, get_args(shape)
    if kind is Any:
        return True
    if kind in (Union, UnionType):
        return any(fits(value, part) for part in parts)
    if kind is list:
        return isinstance(value, list) and all(fits(item, parts[0]) for item in value)
    if parts:  # of a dictionary, whose keys are text in JSON
        return isinstance(value, dict) and all(fits(item, parts[1]) for item in value.values())
    if kind is float:  # also one that is not finite, such as the gates of a training that diverged
        return isinstance(value, float) or is_number(value)
    if kind in (str, int, dict, NoneType):
        return type(value) is kind
    named = get_type_hints(kind)
    optional = {f.name for f in fields(kind) if f.default_factory is not MISSING} if is_dataclass(kind) else set()
    return (
        isinstance(value, dict)
        and named.keys() - optional <= value.keys() <= named.keys()
        and all(fits(item, named[name]) for name, item in value.items())
    )
