"""COCO instances files under any name: in ``annotations/``, in the folder of each split, or one for all images."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from ...errors import DataError
from ..coco_json import coco_files, placeholders, read_coco
from ..labels import MAX_NAMED
from ..progress import Progress
from .record import Object, Reading, Record
from .tree import Tree

KEYS = (b'"images"', b'"annotations"', b'"categories"')
OWN = {"id", "image_id", "category_id", "bbox", "iscrowd", "ignore"}


def find(tree: Tree) -> list[Path]:
    """Return the JSON files with COCO's three lists; of COCO's own folder those of the instances alone."""
    jsons = tree.files(".json")
    try:
        if standard := [file for file in coco_files(tree.root).values() if file in jsons]:
            return standard
    except DataError:  # several for a split, which `read` names
        pass
    return [file for file in jsons if all(key in file.read_bytes() for key in KEYS)]


def read(tree: Tree, files: list[Path], progress: Progress) -> Reading:
    """Read instances files with their ids; the file's name or the image's folder says the split.

    Raises:
        DataError: Two files are of one split, or a file is broken.
    """
    by_split = defaultdict(list)
    for file in files:
        by_split[tree.split_of(file, of_file=True)].append(file)
    if twice := next((found for found in by_split.values() if len(found) > 1), None):
        raise DataError(
            f"{tree.root} has several COCO files that may describe the same images.",
            given=", ".join(str(p.relative_to(tree.root)) for p in twice[:MAX_NAMED]),
            expected="one for each split, or one for all images",
            fix=f"choose one, for example source={twice[0]}",
        )
    truths = {file: read_coco(file) for file in progress(files, "reading COCO", len(files))}
    groups = placeholders(list(truths.values()))
    ids = {c["name"]: c["id"] for t in reversed(truths.values()) for c in t["categories"] if c["name"] not in groups}
    order = dict.fromkeys(c["name"] for t in truths.values() for c in t["categories"] if c["name"] in ids)
    records, without, taken = [], [], set()
    for file, truth in truths.items():
        names = {c["id"]: c["name"] for c in truth["categories"]}
        objects = defaultdict(list)
        for a in truth["annotations"]:
            more = {k: v for k, v in a.items() if k not in OWN or k == "id"}
            crowd, ignore = int(bool(a.get("iscrowd"))), int(bool(a.get("ignore")))
            objects[a["image_id"]].append(Object(names[a["category_id"]], a["bbox"], crowd, ignore, more))
        for entry in truth["images"]:
            image = tree.find(entry["file_name"], file)
            if image is None or image in taken:
                without.append(entry["file_name"])
                continue
            taken.add(image)
            split = tree.split_of(file, of_file=True) or tree.split_of(image)
            size = int(entry.get("width") or 0), int(entry.get("height") or 0)
            records.append(Record(image, objects[entry["id"]], split, size=size, more=entry))
    notes = [f"Category '{n}' groups the others and is no class." for n in sorted(groups)]
    unique = len(set(ids.values())) == len(ids)
    return Reading(records, list(order), files, {}, without, notes, ids if unique else {})
