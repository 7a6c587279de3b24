"""CVAT's own XML, "CVAT for images 1.1": all images in one file.

Described at https://docs.cvat.ai/docs/manual/advanced/formats/format-cvat/.
"""

from __future__ import annotations

import math
from pathlib import Path
from xml.etree import ElementTree

from ...errors import DataError, one_line
from ..progress import Progress
from .record import Object, Reading, Record, around, corners
from .tree import Tree, split_named
from .voc import is_voc


def find(tree: Tree) -> list[Path]:
    """Return the XML files that hold images of a CVAT task."""
    return [xml for xml in tree.files(".xml")[:100] if _is_cvat(xml)]


def read(tree: Tree, files: list[Path], progress: Progress) -> Reading:
    """Read boxes, and the boxes around polygons and turned boxes; other shapes are counted in a note.

    Raises:
        DataError: A file cannot be read, or is of a video.
    """
    records: dict[Path, Record] = {}
    names: dict[str, None] = {}
    skipped: dict[Path, str] = {}
    without, others = [], 0
    for xml in progress(files, "reading XML", len(files)):
        try:
            root = ElementTree.parse(xml).getroot()
        except (ElementTree.ParseError, OSError, ValueError) as e:
            given = f"{xml}: {one_line(e)}"
            raise DataError("A CVAT file cannot be read.", given=given, expected="XML of CVAT for images") from e
        if root.find("track") is not None:
            raise DataError(
                "A CVAT file is of a video.",
                given=f"{xml}: tracks",
                expected="XML of CVAT for images",
                fix="export the task from CVAT once more, in the format 'CVAT for images', with its images",
            )
        names.update(dict.fromkeys(n.text.strip() for n in root.findall("meta//label/name") if n.text))
        for entry in root.findall("image"):
            name, stated = entry.get("name", ""), split_named([entry.get("subset", "")])
            image = tree.find(name, xml, stated)
            if image is None or image in records:
                without.append(name)
                continue
            try:
                objects = [Object(s.attrib["label"], _box(s)) for s in entry if s.tag in ("box", "polygon")]
                size = int(entry.get("width", 0)), int(entry.get("height", 0))
            except (KeyError, ValueError) as e:
                skipped[image] = f"{one_line(e)} in {xml.name}"
                continue
            others += sum(s.tag not in ("box", "polygon", "tag") for s in entry)
            records[image] = Record(image, objects, stated or tree.split_of(image), size=size)
    notes = [f"{others} shapes that are no box and no polygon are left out."] if others else []
    used = {o.name for r in records.values() for o in r.objects}
    in_order = [n for n in names if n in used or not used]
    return Reading([records[image] for image in sorted(records)], in_order, files, skipped, without, notes)


def _is_cvat(xml: Path) -> bool:
    try:
        with xml.open("rb") as file:
            head = file.read(2000)
    except OSError:
        return False
    return b"<annotations" in head and not is_voc(head)


def _box(shape: ElementTree.Element) -> list[float]:
    if shape.tag == "box":
        box = [float(shape.get(key, "nan")) for key in ("xtl", "ytl", "xbr", "ybr")]
        angle = math.radians(float(shape.get("rotation", 0)))
        if not angle:
            return corners(*box)
        x, y, half_width, half_height = (
            (box[0] + box[2]) / 2,
            (box[1] + box[3]) / 2,
            (box[2] - box[0]) / 2,
            (box[3] - box[1]) / 2,
        )  # turned about its centre
        cos, sin = abs(math.cos(angle)), abs(math.sin(angle))
        wide, high = half_width * cos + half_height * sin, half_width * sin + half_height * cos
        return corners(x - wide, y - high, x + wide, y + high)
    points = [[float(v) for v in point.split(",")] for point in shape.get("points", "").split(";") if point]
    return around([p[0] for p in points], [p[1] for p in points])
