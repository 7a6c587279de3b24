"""Ultralytics' NDJSON (https://docs.ultralytics.com/datasets/detect/#ultralytics-ndjson-format).

The first line describes the dataset, each other one an image. Images are looked for beside the file; nothing is
downloaded.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ...errors import DataError, one_line
from ..progress import Progress
from .record import Object, Reading, Record, around, corners, image_size
from .tree import SPLIT_WORDS, Tree

FORM = "a line with class_names, and one with file and annotations for each image"


def find(tree: Tree) -> list[Path]:
    """Return the NDJSON files whose first line describes a dataset."""
    return [p for p in (*tree.files(".ndjson"), *tree.files(".jsonl")) if _describes(p)]


def read(tree: Tree, files: list[Path], progress: Progress) -> Reading:
    """Read boxes, and the boxes around polygons, of every image that is there; key points are left out.

    Raises:
        DataError: There are several files, or it is of another task.
    """
    if len(files) > 1:
        given = ", ".join(p.name for p in files)
        fix = f"choose one, for example source={files[0]}"
        raise DataError("There are several NDJSON files.", given=given, expected="one", fix=fix)
    file = files[0]
    try:
        head, *lines = [line for line in file.read_text(encoding="utf-8-sig").split("\n") if line.strip()]
        about = json.loads(head)
        classes = {int(k): str(v) for k, v in (about.get("class_names") or {}).items()}
    except (ValueError, AttributeError) as e:
        raise DataError("An NDJSON file cannot be read.", given=f"{file}: {one_line(e)}", expected=FORM) from e
    if about.get("task") == "classify":
        raise DataError("The dataset is for another task.", given=f"{file}: classify", expected="detection")
    records: dict[Path, Record] = {}
    skipped: dict[Path, str] = {}
    without = []
    for number, line in enumerate(progress(lines, "reading NDJSON", len(lines)), 2):
        image = None
        try:
            entry = json.loads(line)
            name, split = str(entry["file"]), entry.get("split")
            folder = f"{about['path']}/images/{split}/" if about.get("path") else f"{split}/" if split else ""
            image = tree.find(folder + name, file)
            if image is None or image in records:
                without.append(name)
                continue
            size = int(entry.get("width") or 0), int(entry.get("height") or 0)
            pixels = image_size(image)
            labels = [
                (row[0], row[1:5] if kind == "pose" else row[1:])
                for kind, rows in (entry.get("annotations") or {}).items()
                for row in rows
            ]
            objects = [Object(classes.get(int(c), f"class_{int(c)}"), _box(row, pixels)) for c, row in labels]
        except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError) as e:
            reason = f"no {e}" if isinstance(e, KeyError) else one_line(e)
            skipped[image or Path(f"{file}:{number}")] = f"{reason} in line {number}"
            continue
        named = SPLIT_WORDS.get(str(split))
        records[image] = Record(image, objects, named or tree.split_of(image), "annotations" in entry, size)
    names = [classes[i] for i in sorted(classes)]
    return Reading([records[i] for i in sorted(records)], names, files, skipped, without)


def _describes(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8-sig") as file:
            head = json.loads(next((line for line in file if line.strip()), ""))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(head, dict) and ("class_names" in head or head.get("type") == "dataset")


def _box(row: list[Any], size: tuple[int, int]) -> list[float]:
    """Return the box of a row in fractions: x, y, width, height, or a polygon."""
    width, height = size
    if len(row) == 4:
        x, y, w, h = map(float, row)
        return corners((x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height)
    return around([float(x) * width for x in row[::2]], [float(y) * height for y in row[1::2]])
