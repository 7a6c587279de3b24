"""Where the files that come with the package are: in a wheel, in an editable install, from any working directory."""

from __future__ import annotations

import os
import re
from pathlib import Path

from .errors import ConfigError

LONGEST, LONGEST_NAME = 4000, 255  # bytes of a path and of a name in it, which most systems take
PACKAGE = Path(__file__).resolve().parent


def given_path(value: object, key: str) -> Path:
    """Take a path that a user gave.

    Args:
        value: What was given.
        key: The setting's name, for the message.

    Raises:
        ConfigError: It is no text or path, or no file can have it as its name.
    """
    if not isinstance(value, (str, Path)) or not can_be_path(str(value)):
        raise ConfigError(f"{key} is not a path.", given=f"{key}={str(value)[:80]!r}", expected=f"{key}=path/to/file")
    return Path(value)


def can_be_path(text: str) -> bool:
    """Say whether a file could have this path: not empty, not too long, and of characters that names may have."""
    try:
        path = os.fsencode(text)
    except UnicodeEncodeError:  # a lone surrogate
        return False
    parts = path.replace(b"\\", b"/").split(b"/")
    return bool(text.strip()) and len(path) <= LONGEST and max(map(len, parts)) <= LONGEST_NAME and b"\0" not in path


def shipped(folder: str) -> Path:
    """Return a folder of files that ship with the package: ``cfg`` or ``weights``.

    A wheel carries it inside the package; a source tree has it beside the package.
    """
    inside = PACKAGE / folder
    return inside if inside.is_dir() else PACKAGE.parent / folder


def find_cfg(kind: str, name: str) -> Path | None:
    """Find a shipped YAML by its bare name.

    Args:
        kind: "models" or "compare".
        name: File name; in a model's name the scale letter may be there (``yolo11n-mha-p5.yaml``) or not.

    Returns:
        The file, or None.
    """
    candidates = (shipped("cfg") / kind / candidate for candidate in (name, without_scale(name)))
    return next(filter(Path.is_file, candidates), None)


def without_scale(name: str) -> str:
    """Drop the scale letter from a model's file name, as Ultralytics does: yolo11n-x.yaml becomes yolo11-x.yaml."""
    return re.sub(r"(\d+)([nslmx])(.+)?$", r"\1\3", name)
