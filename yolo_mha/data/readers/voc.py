"""Pascal VOC: one XML an image, with ``ImageSets`` or without, in any folder or beside the images."""

from __future__ import annotations

import re
from pathlib import Path

from ..progress import Progress
from ..voc import CLASS_LIST_FILES, read_voc
from .record import Object, Reading, Record
from .tree import SPLIT_WORDS, Tree

LISTS = ("ImageSets", "Main")


def find(tree: Tree) -> list[Path]:
    """Return the XML files, where the first that can be told is one of Pascal VOC."""
    xmls = tree.files(".xml")
    return xmls if any(is_voc(_head(xml)) for xml in xmls[:10]) else []


def read(tree: Tree, files: list[Path], progress: Progress) -> Reading:
    """Read the XML files; an image belongs to the one with its stem, in its folder if there are several."""
    splits, lists = _lists(tree)
    records: dict[Path, Record] = {}
    skipped: dict[Path, str] = {}
    without = []
    for xml in progress(files, "reading XML", len(files)):
        image = tree.find(xml.stem, xml)
        try:
            found = read_voc(xml)
        except ValueError as e:
            skipped[image or xml] = f"{e} in {xml.name}"
            continue
        if image is None or image in records:
            without.append(str(xml))
            continue
        objects = [Object(o.name, o.bbox, 0, o.ignore) for o in found.objects]
        split = splits.get(image.stem) if lists else tree.split_of(image)
        records[image] = Record(image, objects, split, size=(found.width, found.height))
    for image in (i for i in tree.images if i not in records and i not in skipped):
        split = splits.get(image.stem) if lists else tree.split_of(image)
        records[image] = Record(image, split=split, labelled=False)
    notes = []
    if lists and (unlisted := [image for image in records if image.stem not in splits]):
        such = f"such as {unlisted[0].name}"
        notes.append(f"{len(unlisted)} images are in no list of ImageSets/Main and left out, {such}.")
        records = {image: r for image, r in records.items() if image.stem in splits}
    names, class_files = _class_list(tree)
    return Reading(
        [records[image] for image in sorted(records)], names, [*files, *lists, *class_files], skipped, without, notes
    )


def is_voc(head: bytes) -> bool:
    """Say whether the beginning of an XML file is one of Pascal VOC."""
    return re.search(rb"<annotation[\s>]", head) is not None


def _head(xml: Path) -> bytes:
    try:
        return xml.read_bytes()[:2000]
    except OSError:
        return b""


def _lists(tree: Tree) -> tuple[dict[str, str], list[Path]]:
    """Return the split of each stem that a list in ``ImageSets/Main`` names, the exact ones before ``trainval``."""
    splits: dict[str, str] = {}
    by_name = {key: image.stem for image in tree.images for key in (image.stem, image.name)}
    found = [p for p in tree.files(".txt") if p.parts[-3:-1] == LISTS and p.stem in SPLIT_WORDS]
    for path in sorted(found, key=lambda p: p.stem == "trainval"):
        for line in path.read_text(encoding="utf-8-sig", errors="replace").splitlines():
            without_flag = re.sub(r"\s+-?[01]$", "", line.strip())  # which says whether the image has a class
            first = line.split()[:1]  # some lists name image and XML
            said = (line.strip(), without_flag, Path(without_flag).name, *(Path(word).name for word in first))
            if name := next((by_name[word] for word in said if word in by_name), None):
                splits.setdefault(name, SPLIT_WORDS[path.stem])
    return splits, found


def _class_list(tree: Tree) -> tuple[list[str], list[Path]]:
    path = next((p for name in CLASS_LIST_FILES if (p := tree.root / name).is_file()), None)
    if path is None:
        return [], []
    lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    return list(dict.fromkeys(line.strip() for line in lines if line.strip())), [path]
