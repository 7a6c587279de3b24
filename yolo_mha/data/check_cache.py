"""Checking the files of a split: those that are as they were the last time are not read again."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from .faults import CHECK_VERSION, Checked, Fault, check_files
from .files import write_text
from .progress import Progress

Stamp = list[int]  # size in bytes and time of change in nanoseconds; empty for a missing file


class Entry(NamedTuple):
    """An image with its label file, what was found in them, and the stamps of both files."""

    image: Path
    label: Path
    checked: Checked
    stamps: list[Stamp]


def check_split(
    pairs: Sequence[tuple[Path, Path]], classes: int, cache: Path, progress: Progress, description: str
) -> list[Entry]:
    """Check images and labels, each as `check_files` does.

    Args:
        pairs: Images and their label files.
        classes: Number of classes.
        cache: JSON file with the results of the last time; it is written anew where something has changed.
        progress: Shows progress.
        description: What is being done.
    """
    known = _read(cache, classes)

    def entry(pair: tuple[Path, Path]) -> tuple[Entry, bool]:
        image, label = pair
        stamps, last = [stamp(image), stamp(label)], known.get(str(image))
        if last is not None and last[0] == stamps:
            return Entry(image, label, _checked(last[1]), stamps), False
        return Entry(image, label, check_files(image, label, classes), stamps), True

    with ThreadPoolExecutor() as pool:
        found = list(progress(pool.map(entry, pairs), description, len(pairs)))
    if any(new for _, new in found):
        files = {str(e.image): [e.stamps, list(vars(e.checked).values())] for e, _ in found}
        content = json.dumps({"version": CHECK_VERSION, "classes": classes, "files": files}, separators=(",", ":"))
        write_text(cache, content)
    return [e for e, _ in found]


def stamp(file: Path) -> Stamp:
    """Return size and time of change of a file, by which it is known again."""
    try:
        status = os.stat(file)
    except (OSError, ValueError):  # a name that no file can have, too
        return []
    return [status.st_size, status.st_mtime_ns]


def _read(cache: Path, classes: int) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):  # missing, damaged, or of another version
        content = json.loads(cache.read_text(encoding="utf-8"))
        if (content["version"], content["classes"]) == (CHECK_VERSION, classes):
            return dict(content["files"])
    return {}


def _checked(values: Sequence[Any]) -> Checked:
    width, height, rows, faults, *rest = values
    return Checked(width, height, rows, [Fault(*fault) for fault in faults], *rest)
