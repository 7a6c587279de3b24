"""Which format a folder is in: the one place that picks a reader."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ...errors import DataError, nearest
from ..progress import Progress, silent
from . import coco, cvat, labelme, ndjson, table, voc, yolo
from .record import Reading
from .tree import Tree


class Format(NamedTuple):
    """A format: its name for people, what finds its files in a folder, and what reads them."""

    title: str
    find: Callable[[Tree], list[Path]]
    read: Callable[[Tree, list[Path], Progress], Reading]


FORMATS = {
    "yolo": Format("YOLO", yolo.find, yolo.read),
    "coco": Format("COCO JSON", coco.find, coco.read),
    "voc": Format("Pascal VOC", voc.find, voc.read),
    "cvat": Format("CVAT XML", cvat.find, cvat.read),
    "csv": Format("CSV table", table.find, table.read),
    "labelme": Format("LabelMe", labelme.find, labelme.read),
    "ndjson": Format("NDJSON", ndjson.find, ndjson.read),
}


def recognised(tree: Tree) -> dict[str, list[Path]]:
    """Return the annotation files of each format that a folder holds, by the format's word."""
    return {word: files for word, known in FORMATS.items() if (files := known.find(tree))}


def read_folder(tree: Tree, word: str | None = None, progress: Progress = silent) -> tuple[Format, Reading]:
    """Read a folder in the one format that it is in.

    Args:
        tree: Its files.
        word: The format to read, where there are several.
        progress: Shows progress.

    Raises:
        DataError: It is in no known format or in several, or none of the images is there.
    """
    found = recognised(tree)
    if word is not None and word not in FORMATS:
        raise DataError("Unknown format.", given=f"format={word}", expected=nearest(word, FORMATS))
    if word is None and len(found) > 1:
        raise DataError(
            f"{tree.root} holds labels in several formats.",
            given="; ".join(f"{FORMATS[w].title}: {len(f)} files, such as {f[-1]}" for w, f in found.items()),
            expected="one format",
            fix=f"choose one: {' or '.join(f'format={w}' for w in found)}",
        )
    if not found or (word and word not in found):
        raise DataError(
            f"{tree.root} holds no labels {f'in the format {word}' if word else 'in a known format'}.",
            given=_seen(tree),
            expected="images with YOLO, COCO, Pascal VOC, CVAT, CSV, LabelMe or NDJSON labels of boxes",
            fix="give the parent folder, or the annotation file itself: source=path/to/file",
        )
    word = word or next(iter(found))
    reading = FORMATS[word].read(tree, found[word], progress)
    if not reading.records:
        named = ", ".join([*reading.without_image, *map(str, reading.skipped)][:3])
        raise DataError(
            f"{tree.root} has {FORMATS[word].title} labels, but none of their images.",
            given=f"{_seen(tree)}; labels of {named}",
            expected="the images in the same folder or below it",
        )
    return FORMATS[word], reading


def _seen(tree: Tree) -> str:
    """Say what a folder holds: the number of images, and of files of each other kind."""
    suffixes = Counter({suffix or "no suffix": len(tree.files(suffix)) for suffix in tree.suffixes})
    others = ", ".join(f"{count} {suffix}" for suffix, count in suffixes.most_common(6))
    return f"{len(tree.images)} images" + (f"; {others}" if others else "")
