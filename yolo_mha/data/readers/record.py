"""What every reader returns: images with their objects, and what could not be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from ultralytics.data.utils import exif_size

from ..instances import Id


class Object(NamedTuple):
    """An object of an image.

    Attributes:
        name: Its class.
        bbox: x, y, width, height in pixels.
        iscrowd: 1 for a crowd region.
        ignore: 1 for an object that counts neither way, such as VOC's difficult ones.
        more: Other keys of its COCO annotation.
    """

    name: str
    bbox: list[float]
    iscrowd: int = 0
    ignore: int = 0
    more: Mapping[str, object] = {}


@dataclass(frozen=True)
class Record:
    """An image and what its annotations say.

    Attributes:
        image: The file.
        objects: Its objects; none for background.
        split: "train", "val" or "test"; None where nothing says.
        labelled: Whether there are annotations for it, be it that there is no object.
        size: Width and height that the annotations say, 0 where they do not.
        more: Other keys of its COCO entry.
    """

    image: Path
    objects: Sequence[Object] = ()
    split: str | None = None
    labelled: bool = True
    size: tuple[int, int] = (0, 0)
    more: Mapping[str, object] = field(default_factory=dict)


@dataclass
class Reading:
    """What a reader found in a folder.

    Attributes:
        records: One for every image.
        names: Class names in the order of their indices; sorted by name where no file gives an order.
        files: All files that were read.
        skipped: Why an image cannot be used; or a label file, where its image is not known.
        without_image: Annotations of images that are not there, by the name that they give.
        notes: What is unusual.
        category_ids: COCO's id of each class; the index where there is none.
        in_place: Whether all label files lie where Ultralytics looks for them, so that nothing need be written.
    """

    records: list[Record]
    names: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    skipped: dict[Path, str] = field(default_factory=dict)
    without_image: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    category_ids: dict[str, Id] = field(default_factory=dict)
    in_place: bool = False

    def __post_init__(self) -> None:
        self.records = [replace(r, objects=_once(r.objects)) for r in self.records]
        used = {o.name for r in self.records for o in r.objects}
        self.names = [*self.names, *sorted(used - set(self.names))]


def _once(objects: Sequence[Object]) -> list[Object]:
    """Return objects without those that are given twice; one with an id of its own is another one."""
    return list({(o.name, *o.bbox, o.iscrowd, o.ignore, str(o.more.get("id"))): o for o in objects}.values())


def corners(x1: float, y1: float, x2: float, y2: float) -> list[float]:
    """Return x, y, width, height of a box given by two opposite corners, in whatever order they are.

    Raises:
        ValueError: They are no finite numbers, or the box is empty.
    """
    left, right = sorted((float(x1), float(x2)))
    top, bottom = sorted((float(y1), float(y2)))
    if not all(abs(v) < 1e9 for v in (left, top, right, bottom)):
        raise ValueError("a corner is no finite number")
    if left == right or top == bottom:
        raise ValueError("a box has no area")
    return [left, top, right - left, bottom - top]


def around(xs: Sequence[float], ys: Sequence[float]) -> list[float]:
    """Return x, y, width, height of the box around a polygon."""
    if len(xs) < 2 or len(xs) != len(ys):
        raise ValueError("a polygon has too few points")
    return corners(min(xs), min(ys), max(xs), max(ys))


def image_size(image: Path) -> tuple[int, int]:
    """Return width and height of an image as decoders show it, from its head.

    Raises:
        ValueError: It cannot be read.
    """
    try:
        with Image.open(image) as opened:
            width, height = exif_size(opened)
    except Exception as e:  # PIL raises many kinds for a broken file
        raise ValueError("not a readable image") from e
    return int(width), int(height)
