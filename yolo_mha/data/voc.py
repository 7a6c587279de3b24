"""Pascal VOC datasets: one XML an image.

Corners are read as the VOC devkit counts them (http://host.robots.ox.ac.uk/pascal/VOC/voc2012/devkit_doc.pdf, section
3.3.2): pixels from 1 on, the last one included. So a box begins at xmin - 1 and is xmax - xmin + 1 wide. An object
marked difficult counts neither way when scores are taken, and is not trained on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from ultralytics.data.utils import IMG_FORMATS

from ..errors import DataError, one_line
from .files import read_text
from .instances import numbered
from .labels import MAX_NAMED, refuse_shared_labels
from .mirror import SPLIT_FOLDERS, ForeignContent, ForeignDataset, ForeignSplit
from .progress import Progress

CLASS_LIST_FILES = ("labels.txt", "classes.txt")


class Listing(NamedTuple):
    """The files of one split; the XML of each image or None, and ``orphans``, XMLs beside them that have no image."""

    images: list[Path]
    xmls: list[Path | None]
    orphans: list[Path]


class VocObject(NamedTuple):
    """An object of an annotation file; ``bbox`` is x, y, width, height in pixels, ``ignore`` 1 if it is difficult."""

    name: str
    bbox: list[float]
    ignore: int


class VocFile(NamedTuple):
    """An annotation file; width and height of the image in pixels, 0 where it does not say."""

    width: int = 0
    height: int = 0
    objects: Sequence[VocObject] = ()


def voc_dataset(folder: Path) -> ForeignDataset | None:
    """Describe a Pascal VOC dataset to `mirror`.

    Args:
        folder: One with ``Annotations``, ``JPEGImages`` and ``ImageSets/Main/{train,val,test}.txt``, or with XML files
            beside the images in ``train``, ``valid`` and ``test``.

    Returns:
        The dataset, or None where the folder holds no such thing.

    Raises:
        DataError: It is incomplete or ambiguous.
    """
    if (folder / "Annotations").is_dir() and (folder / "JPEGImages").is_dir():
        lists = {s: path for s in SPLIT_FOLDERS if (path := folder / "ImageSets" / "Main" / f"{s}.txt").is_file()}
        if not lists:
            raise DataError(
                f"{folder} is a Pascal VOC dataset without splits.",
                given=f"no list in {folder / 'ImageSets' / 'Main'}",
                expected="train.txt and val.txt there, with the name of one image a line",
            )
        absent = {s: f"no ImageSets/Main/{s}.txt" for s in ("train", "val") if s not in lists}
        listings = {s: found for s, path in lists.items() if (found := _from_list(folder, s, path, absent))}
    else:
        names = {name: s for s, names in SPLIT_FOLDERS.items() for name in names}
        parts = {s: part for name, s in names.items() if any((part := folder / name).glob("*.xml"))}
        if not parts:
            return None
        absent = {s: "no folder with XML files" for s in ("train", "val") if s not in parts}
        listings = {}
        for s, part in parts.items():
            if images := _images(part):
                refuse_shared_labels(images, s)
                listings[s] = _listing(images, part, {image.stem for image in images})
            else:
                absent[s] = f"no image in {part}"
    class_list = next((path for name in CLASS_LIST_FILES if (path := folder / name).is_file()), None)
    xmls = {xml for listing in listings.values() for xml in listing.xmls if xml}
    files = [*sorted(xmls), *([class_list] if class_list else [])]
    layout = [f"{s} {image}" for s, listing in listings.items() for image in listing.images]
    read = partial(_read, folder, listings, absent, class_list)
    return ForeignDataset("Pascal VOC", folder, files, layout, read)


def read_voc(xml: Path) -> VocFile:
    """Read one annotation file.

    Args:
        xml: The file.

    Returns:
        Its content; an object that is given twice counts once.

    Raises:
        ValueError: It is no such file; the message says why in a few words.
    """
    try:
        root = ElementTree.parse(xml).getroot()
    except (ElementTree.ParseError, OSError, ValueError) as e:
        raise ValueError(f"no XML ({one_line(e)})") from e
    if root.tag != "annotation":
        raise ValueError(f"<{root.tag}> in place of <annotation>")
    objects = []
    for i, found in enumerate(root.findall("object")):
        name = (found.findtext("name") or "").strip()
        box = found.find("bndbox")
        if not name or box is None:
            raise ValueError(f"object {i} lacks {'bndbox' if name else 'a name'}")
        x1, y1, x2, y2 = (_number(box, corner) for corner in ("xmin", "ymin", "xmax", "ymax"))
        if x2 < x1 or y2 < y1:
            raise ValueError(f"object {i} ends before it begins: {x1:g}, {y1:g} to {x2:g}, {y2:g}")
        difficult = (found.findtext("difficult") or "0").strip()
        objects.append(VocObject(name, [x1 - 1, y1 - 1, x2 - x1 + 1, y2 - y1 + 1], int(difficult == "1")))
    size = root.find("size")
    width, height = (0, 0) if size is None else (int(_number(size, key, "0")) for key in ("width", "height"))
    once = {(o.name, *o.bbox, o.ignore): o for o in objects}
    return VocFile(width, height, list(once.values()))


def _number(parent: ElementTree.Element, key: str, default: str | None = None) -> float:
    text = parent.findtext(key, default)
    try:
        value = float(text or "")
    except ValueError:
        value = float("nan")
    if not abs(value) < 1e9:
        raise ValueError(f"{key} is {text!r}")
    return value


def _images(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("*.*") if p.suffix[1:].lower() in IMG_FORMATS)


def _from_list(folder: Path, split: str, path: Path, absent: dict[str, str]) -> Listing | None:
    """List a split of the devkit's layout, or enter why it is absent."""
    names = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    if twice := [name for name, n in Counter(names).items() if n > 1]:
        raise DataError(f"{path} names images twice.", given=", ".join(twice[:MAX_NAMED]), expected="each one once")
    present = _images(folder / "JPEGImages")
    by_name = {key: image for image in present for key in (image.stem, image.name)}
    missing = [name for name in names if name not in by_name]
    if len(missing) == len(names):
        absent[split] = f"none of the {len(names)} images of {path} is in {folder / 'JPEGImages'}"
        return None
    if missing:
        raise DataError(
            f"{len(missing)} of {len(names)} images of {path} are missing.",
            given=", ".join(missing[:MAX_NAMED]),
            expected=f"images in {folder / 'JPEGImages'}",
            fix="put them there, or take them out of the list",
        )
    stems = {by_name[name].stem for name in names}
    refuse_shared_labels([image for image in present if image.stem in stems], split)
    images = sorted(by_name[name] for name in names)  # in the order of `image_files`
    return _listing(images, folder / "Annotations", by_name)


def _listing(images: list[Path], folder: Path, known: Container[str]) -> Listing:
    """Pair images with the annotation files of a folder; ``known`` holds the stems of those that an image has."""
    xmls = [xml if (xml := folder / f"{image.stem}.xml").is_file() else None for image in images]
    return Listing(images, xmls, sorted(xml for xml in folder.glob("*.xml") if xml.stem not in known))


def _read(
    folder: Path,
    listings: dict[str, Listing],
    absent: dict[str, str],
    class_list: Path | None,
    progress: Progress,
) -> ForeignContent:
    read: dict[Path, VocFile] = {}
    faults: dict[Path, str] = {}
    xmls = list(dict.fromkeys(xml for listing in listings.values() for xml in listing.xmls if xml))
    for xml in progress(xmls, "reading XML", len(xmls)):
        try:
            read[xml] = read_voc(xml)
        except ValueError as e:
            faults[xml] = str(e)
    if faults and not read:
        raise DataError(
            f"{len(faults)} of {len(xmls)} annotation files are broken.",
            given="; ".join(f"{xml}: {fault}" for xml, fault in list(faults.items())[:MAX_NAMED]),
            expected="Pascal VOC XML: <annotation> with <object>, each with <name> and <bndbox>",
            fix="repair these files",
        )
    present = {found.name for content in read.values() for found in content.objects}
    names = sorted(present)
    if class_list:
        lines = read_text(class_list).splitlines()
        names = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
        if unknown := sorted(present - set(names)):
            raise DataError(
                f"{class_list} lacks classes of the annotations.",
                given=f"without {', '.join(unknown[:MAX_NAMED])}",
                expected="all class names, one a line",
            )
    if not names:
        raise DataError(f"No annotation of {folder} has an object.", given=f"{len(xmls)} XML files", expected="objects")
    return ForeignContent(
        names, {split: _split(listing, read, faults, names) for split, listing in listings.items()}, absent
    )


def _split(listing: Listing, read: dict[Path, VocFile], faults: dict[Path, str], names: list[str]) -> ForeignSplit:
    """Return a split as COCO instances."""
    index = {name: i for i, name in enumerate(names)}
    contents = [read.get(xml, VocFile()) if xml else VocFile() for xml in listing.xmls]
    truth = numbered(
        [(image.name, found.width, found.height) for image, found in zip(listing.images, contents, strict=True)],
        [(i, index[o.name], o.bbox, o.ignore) for i, found in enumerate(contents) for o in found.objects],
        names,
    )
    notes = []
    if from_zero := sum(min(a["bbox"][:2]) < 0 for a in truth["annotations"]):
        notes.append(
            f"{from_zero} boxes begin at pixel 0, so these files seem to count from 0, not from 1 as VOC does; "
            "all boxes may lie one pixel too far to the upper left."
        )
    if listing.orphans:
        notes.append(f"{len(listing.orphans)} XML files have no image, such as {listing.orphans[0].name}.")
    unlabelled = frozenset(i for i, xml in enumerate(listing.xmls) if xml is None)
    broken = {i: (xml, faults[xml]) for i, xml in enumerate(listing.xmls) if xml in faults}
    return ForeignSplit(truth, listing.images, unlabelled, len(listing.orphans), notes, broken)
