"""LabelMe: one JSON an image, with rectangles and polygons (https://github.com/wkentaro/labelme)."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from ...errors import one_line
from ..progress import Progress
from .record import Object, Reading, Record, around
from .tree import Tree

BOXES = ("rectangle", "polygon", "circle", "rotation", "mask")  # shapes with a box; points and lines have none


def find(tree: Tree) -> list[Path]:
    """Return the JSON files that hold the shapes of one image."""
    texts = ((file, file.read_bytes()) for file in tree.files(".json"))
    return [file for file, text in texts if b'"shapes"' in text and b'"imagePath"' in text]


def read(tree: Tree, files: list[Path], progress: Progress) -> Reading:
    """Read shapes; the image is the one that the file names, or else the one with the file's stem."""
    records: dict[Path, Record] = {}
    skipped: dict[Path, str] = {}
    without, others = [], 0
    for file in progress(files, "reading JSON", len(files)):
        try:
            content = json.loads(file.read_text(encoding="utf-8-sig"))
            named = str(content["imagePath"])
            shapes = [s for s in content["shapes"] if s.get("shape_type", "polygon") in BOXES]
            objects = [Object(str(s["label"]), _box(s)) for s in shapes]
            others += len(content["shapes"]) - len(shapes)
            size = int(content.get("imageWidth") or 0), int(content.get("imageHeight") or 0)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as e:
            reason = f"no {e}" if isinstance(e, KeyError) else one_line(e)
            skipped[tree.find(file.stem, file) or file] = f"{reason} in {file.name}"
            continue
        image = tree.find(named, file) or tree.find(file.stem, file)
        if image is None or image in records:
            without.append(str(file))
            continue
        split = tree.split_of(file) or tree.split_of(image)
        records[image] = Record(image, objects, split, size=size)
    notes = [f"{others} shapes without an area, such as points and lines, are left out."] if others else []
    return Reading([records[i] for i in sorted(records)], [], files, skipped, without, notes)


def _box(shape: dict[str, Any]) -> list[float]:
    points = [(float(x), float(y)) for x, y in shape["points"]]
    if shape.get("shape_type") == "circle":  # its centre and a point on it
        (x, y), edge = points
        radius = math.dist((x, y), edge)
        points = [(x - radius, y - radius), (x + radius, y + radius)]
    return around([x for x, _ in points], [y for _, y in points])
