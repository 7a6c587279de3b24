"""CSV tables with one object a row: a file name, a box and a class.

The columns are known by their heading, such as ``filename,width,height,class,xmin,ymin,xmax,ymax``, or Open Images'
``ImageID,...,LabelName,...,XMin,XMax,YMin,YMax`` (https://storage.googleapis.com/openimages/web/download_v7.html).
In place of two corners there may be ``x,y,w,h``, or one column ``bbox`` with these four (as in Global Wheat Detection):
the left upper corner and the size, as COCO counts. Without a heading the columns are ``path,x1,y1,x2,y2,class``
(https://github.com/fizyr/keras-retinanet#csv-datasets). Values are pixels from 0 as they stand, or fractions of the
image where none is above 1.
"""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

from ...errors import DataError, one_line
from ..progress import Progress
from .record import Object, Reading, Record, corners, image_size
from .tree import Tree, split_named

HEADINGS = {
    "image": ("filename", "image", "imageid", "imagename", "imagepath", "imgname", "img", "path", "filepath", "file"),
    "x1": ("xmin", "x1", "left", "xtl"),
    "y1": ("ymin", "y1", "top", "ytl"),
    "x2": ("xmax", "x2", "right", "xbr"),
    "y2": ("ymax", "y2", "bottom", "ybr"),
    "x": ("x", "bboxx", "boxx"),
    "y": ("y", "bboxy", "boxy"),
    "w": ("w", "bboxw", "bboxwidth", "boxwidth", "width"),
    "h": ("h", "bboxh", "bboxheight", "boxheight", "height"),
    "box": ("bbox", "box"),
    "name": ("class", "classname", "label", "labelname", "name", "category", "classid"),
    "iscrowd": ("isgroupof", "iscrowd"),
    "split": ("split", "set", "subset"),
}
CORNERS = ("x1", "y1", "x2", "y2")
SIZED = ("x", "y", "w", "h")
PLAIN = ("image", *CORNERS, "name")  # the columns without a heading
ONLY_CLASS = "object"  # where no column names one
Row = dict[str, str]


def find(tree: Tree) -> list[Path]:
    """Return the tables whose first rows have a file name and corners."""
    found = []
    for path in tree.files(".csv"):
        with suppress(DataError):  # some other file
            found += [path] if _columns(_lines(path, 3)) else []
    return found


def read(tree: Tree, files: list[Path], progress: Progress) -> Reading:
    """Read tables; a row whose corners are empty names an image without objects."""
    named = _class_names(tree)
    records: dict[Path, Record] = {}
    skipped: dict[Path, str] = {}
    without: dict[str, None] = {}
    for path in progress(files, "reading tables", len(files)):
        lines = _lines(path)
        columns = _columns(lines[:3])
        rows = [
            {k: line[i] if i < len(line) else "" for k, i in columns.items()} for line in lines[_has_heading(lines) :]
        ]
        fractions = _are_fractions(rows)
        by_image: dict[tuple[str, str | None], list[Row]] = defaultdict(list)
        for row in rows:
            by_image[row["image"], split_named([row.get("split", "")])].append(row)
        for (name, stated), own in by_image.items():
            image = tree.find(name, path, stated)
            split = stated or tree.split_of(path, of_file=True) or (tree.split_of(image) if image else None)
            if image is None or (image in records and records[image].split != split):
                without[name] = None
                continue
            try:
                scale = image_size(image) if fractions else (1, 1)
                objects = [_object(row, scale, named) for row in own if any(_cells(row))]
            except ValueError as e:
                skipped[image] = f"{one_line(e)} in {path.name}"
                continue
            earlier = records[image].objects if image in records else ()
            records[image] = Record(image, [*earlier, *objects], split)
    kept = [records[image] for image in sorted(records) if image not in skipped]
    used = {o.name for r in kept for o in r.objects}
    order = [n for n in named.values() if n in used]
    return Reading(kept, list(dict.fromkeys(order)), files, skipped, list(without))


def _lines(path: Path, most: int | None = None) -> list[list[str]]:
    """Return the cells of a table's rows, or of the first of them."""
    try:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            found = []
            head = file.readline()
            file.seek(0)
            for row in csv.reader(file, delimiter=";" if head.count(";") > head.count(",") else ","):
                if any(cell.strip() for cell in row):
                    found.append([cell.strip() for cell in row])
                if most and len(found) == most:
                    break
            return found
    except (OSError, csv.Error) as e:
        raise DataError("A table cannot be read.", given=f"{path}: {one_line(e)}", expected="CSV") from e


def _columns(lines: list[list[str]]) -> dict[str, int]:
    """Return the position of each column that counts; none where this is no table of boxes."""
    if not lines:
        return {}
    heading = [re.sub(r"[\W_]", "", cell).lower() for cell in lines[0]]
    found = {key: heading.index(w) for key, words in HEADINGS.items() for w in reversed(words) if w in heading}
    for box in (CORNERS, SIZED, ("box",)):
        if {"image", *box} <= found.keys():
            return {key: i for key, i in found.items() if key in box or key not in (*CORNERS, *SIZED, "box")}
    row = lines[0]
    plain = len(row) == len(PLAIN) and "." in row[0] and all(_is_number(cell) or not cell for cell in row[1:5])
    return {key: i for i, key in enumerate(PLAIN)} if plain else {}


def _has_heading(lines: list[list[str]]) -> bool:
    return not any(_is_number(cell) for cell in lines[0]) and any(lines[0][1:])


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _are_fractions(rows: list[Row]) -> bool:
    values = [float(cell) for row in rows for cell in _cells(row) if _is_number(cell)]
    return bool(values) and max(values) <= 1


def _cells(row: Row) -> list[str]:
    """Return the numbers of a row's box; empty ones where the row names an image without objects."""
    if "box" in row:
        return re.split(r"[\s,;]+", row["box"].strip("[]() "))
    return [row[c] for c in (CORNERS if "x1" in row else SIZED)]


def _object(row: Row, scale: tuple[int, int], named: dict[str, str]) -> Object:
    if len(cells := _cells(row)) != 4:
        raise ValueError(f"{row['box']} in place of x, y, width, height")
    x1, y1, x2, y2 = map(float, cells)
    if "x1" not in row:
        x2, y2 = x1 + x2, y1 + y2
    box = corners(x1 * scale[0], y1 * scale[1], x2 * scale[0], y2 * scale[1])
    name = row.get("name", ONLY_CLASS)
    if not name:
        raise ValueError("an object without a class")
    return Object(named.get(name, name), box, int(row.get("iscrowd", "0") in ("1", "True", "true")))


def _class_names(tree: Tree) -> dict[str, str]:
    """Read a table of two columns beside the others: a class's code and name, or its name and index, in order."""
    for path in tree.files(".csv"):
        if "class" in path.stem.lower() and (lines := _lines(path)) and all(len(line) == 2 for line in lines):
            if all(line[1].isdigit() for line in lines):
                return {name: name for name, _ in sorted(lines, key=lambda line: int(line[1]))}
            return {code: name for code, name in lines if code.lower() != "labelname"}
    return {}
