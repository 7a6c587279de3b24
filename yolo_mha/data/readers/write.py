"""A read dataset as one that can be trained on: lists of images, or a mirror where labels have to be written."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from ..files import sha256_of_lines, write_text
from ..instances import check_instances
from ..mirror import ForeignContent, ForeignDataset, ForeignSplit, mirror, short_name
from ..new_split import PARTS
from ..progress import Progress
from .record import Reading, Record


def write_dataset(title: str, root: Path, reading: Reading, out: Path | None, progress: Progress) -> Path:
    """Write ``data.yaml`` with the splits of a reading's records.

    Args:
        title: Name of the format.
        root: The folder that was read.
        reading: The records, each with its split.
        out: Folder to write; one below ``runs/datasets`` where it is None.
        progress: Shows progress.

    Returns:
        The path of ``data.yaml``, which is written last.
    """
    records = {split: found for split in PARTS if (found := [r for r in reading.records if r.split == split])}
    layout = [f"{split} {r.image.absolute()}" for split, found in records.items() for r in found]
    if reading.in_place:
        return _write_lists(title, root, records, layout, reading.names, out)
    splits = {split: _instances(found, reading) for split, found in records.items()}
    content = ForeignContent(reading.names, splits, {})
    files = list(dict.fromkeys(reading.files))
    return mirror(ForeignDataset(title, root, files, [*layout, *reading.names], lambda _: content), progress, out)


def _write_lists(
    title: str, root: Path, records: dict[str, list[Record]], layout: list[str], names: list[str], out: Path | None
) -> Path:
    digest = sha256_of_lines([*layout, *names])[:10]
    folder = out or Path.cwd() / "runs" / "datasets" / f"{short_name(root)}-{digest}"
    for split, found in records.items():
        write_text(folder / f"{split}.txt", "".join(f"{r.image.absolute()}\n" for r in found))
    data = {**{split: f"{split}.txt" for split in records}, "names": dict(enumerate(names))}
    text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
    return write_text(folder / "data.yaml", f"# {title}: {root.resolve()}\n{text}")


def _instances(records: Sequence[Record], reading: Reading) -> ForeignSplit:
    """Return records as COCO instances, with the ids and the other keys of a COCO file if there is one for them."""
    ids = [r.more.get("id", number) for number, r in enumerate(records)]
    own_ids = len(set(ids)) == len(ids)
    category_ids = reading.category_ids or {name: i for i, name in enumerate(reading.names)}
    twice = Counter(r.image.name for r in records)
    top = os.path.commonpath([r.image.parent for r in records])
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, record in enumerate(records):
        name = record.image.name if twice[record.image.name] == 1 else os.path.relpath(record.image, top)
        width, height = record.size
        entry = {"file_name": name, "width": width, "height": height, **record.more}
        images.append({**entry, "id": ids[number] if own_ids else number})
        for o in record.objects:
            found = {"bbox": o.bbox, "area": o.bbox[2] * o.bbox[3], "iscrowd": o.iscrowd, "ignore": o.ignore, **o.more}
            own_id = found.get("id") if own_ids else None
            keys = {"id": own_id or len(annotations) + 1, "image_id": images[-1]["id"]}
            annotations.append({**found, **keys, "category_id": category_ids[o.name]})
    categories = [{"id": category_ids[name], "name": name} for name in reading.names]
    truth = check_instances({"images": images, "annotations": annotations, "categories": categories}, reading.files[0])
    unlabelled = frozenset(image["id"] for image, r in zip(images, records, strict=True) if not r.labelled)
    notes = reading.notes if records[0].split == PARTS[0] else []
    return ForeignSplit(truth, [r.image for r in records], unlabelled, notes=notes)
