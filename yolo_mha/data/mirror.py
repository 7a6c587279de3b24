"""A YOLO copy of a dataset in another format: links to the images, labels, the truth.

The mirror stands in the working directory, so the dataset itself may be read-only, and is made once: its name holds a
hash of what the annotations say. The truth that scores are taken from is kept beside the labels as a COCO file, with
what a label file cannot say: original ids, crowd regions and objects to be ignored.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TypedDict

import yaml
from ultralytics.data.utils import exif_size

from ..errors import DataError
from .check_cache import Stamp, stamp
from .faults import BAD_LABELS, OTHER_SIZE
from .files import unfinished
from .instances import Id, Image, Instances
from .links import datasets_folder, link
from .pictures import open_picture
from .progress import Progress, silent

MIRROR_VERSION = 4  # to be raised when mirrors are written differently, so that old ones are made anew
ORIGINS = "origins.json"
SAME_SIZE = 0.01  # by which sizes may differ, as a fraction
SPLIT_FOLDERS = {"train": ("train",), "val": ("val", "valid"), "test": ("test",)}  # how datasets call them


@dataclass(frozen=True)
class ForeignSplit:
    """One split of a foreign dataset.

    Attributes:
        truth: COCO instances; the size of an image may be missing.
        files: The file of each of its images, in the same order.
        unlabelled: Ids of images that nothing is known about, neither objects nor that there are none.
        truth_without_image: Number of annotation files without an image.
        notes: What is unusual.
        faults: By position of the image, the annotation file that cannot be read, and why.
    """

    truth: Instances
    files: list[Path]
    unlabelled: frozenset[Id] = frozenset()
    truth_without_image: int = 0
    notes: Sequence[str] = ()
    faults: Mapping[int, tuple[Path, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class ForeignContent:
    """The content of a dataset in another format than YOLO.

    Attributes:
        names: Class names in the order of their indices.
        splits: The splits whose images are there.
        absent: Why a split is not there, by its name.
    """

    names: list[str]
    splits: dict[str, ForeignSplit]
    absent: dict[str, str]


@dataclass(frozen=True)
class ForeignDataset:
    """A dataset that is not in YOLO format, found but not read.

    Attributes:
        format: Its name for people.
        root: The folder, or the YAML file that names its parts.
        files: All files that say something about objects and splits; their content is hashed.
        layout: What else decides on the result, such as the folders that exist.
        read: Reads it, with a display of progress.
    """

    format: str
    root: Path
    files: Sequence[Path]
    layout: Sequence[str]
    read: Callable[[Progress], ForeignContent]


class Origin(TypedDict):
    """Where an image of a mirror is from.

    Its keys: the user's ``image``, and its ``stamp``, without the time if it was readable; the file of its ``labels``;
    what is wrong with these for this image, with the ``reason`` in a few words and the ``fault`` in more.
    """

    image: str
    stamp: Stamp
    labels: str
    reason: str
    fault: str


def mirror(foreign: ForeignDataset, progress: Progress = silent, out: Path | None = None) -> Path:
    """Make the YOLO mirror of a dataset below ``runs/datasets``, or find the one that was made before.

    Args:
        foreign: The dataset.
        progress: Shows progress.
        out: The folder to write in place of one below ``runs/datasets``.

    Returns:
        Its ``data.yaml``, which names the classes, the splits, and the COCO file of each split under ``annotations:``.

    Raises:
        DataError: The dataset is broken, or none of its images is there.
    """
    name = short_name(foreign.root)
    folder = out or datasets_folder() / f"{name}-{_digest(foreign)}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    if _is_whole(folder):
        return folder / "data.yaml"
    content = foreign.read(progress)
    if not content.splits:
        raise DataError(
            f"{foreign.root} has no split that can be used.",
            given="; ".join(f"{split}: {reason}" for split, reason in content.absent.items()),
            expected="annotations and images of one split at least",
        )
    aside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=unfinished()))
    origins: dict[str, Origin] = {}
    try:
        for split, part in content.splits.items():
            origins |= _write_split(aside, foreign, split, part, content.names, progress)
        data = {
            **{split: f"images/{split}" for split in (*content.splits, *content.absent)},
            "names": dict(enumerate(content.names)),
            "annotations": {split: f"annotations/{split}.json" for split in content.splits},
            "absent": content.absent,
            "origins": ORIGINS,
        }
        (aside / ORIGINS).write_text(json.dumps(origins), encoding="utf-8")
        head = f"# {foreign.format}: {foreign.root.resolve()}\n"
        text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
        (aside / "data.yaml").write_text(head + text, encoding="utf-8")
        aside.chmod(0o755)
        if _is_whole(folder):  # another process was faster
            return folder / "data.yaml"
        shutil.rmtree(folder, ignore_errors=True)  # one whose images have moved
        try:
            os.rename(aside, folder)
        except OSError:  # another process was faster
            if not _is_whole(folder):
                raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder / "data.yaml"


def short_name(root: Path) -> str:
    """Return the name of a dataset as names of folders begin."""
    return re.sub(r"[^\w.-]+", "_", root.resolve().stem) or "dataset"


def _digest(foreign: ForeignDataset) -> str:
    digest = hashlib.sha256(json.dumps([MIRROR_VERSION, str(foreign.root.resolve()), *foreign.layout]).encode())
    for file in foreign.files:
        content = file.read_bytes()
        digest.update(f"\n{file} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()[:10]


def _is_whole(folder: Path) -> bool:
    """Say whether a mirror was written to its end, and all images that it was made of are as they were.

    Its labels are fractions of their sizes. The time of a readable image may be another one, as of a copy on another
    machine, so that machines with one working directory do not make the mirror anew in turns.
    """
    try:
        origins = json.loads((folder / ORIGINS).read_text(encoding="utf-8")).values()
    except OSError:  # there is none, or another process makes it anew
        return False
    return all(origin["stamp"] == stamp(Path(origin["image"]))[: len(origin["stamp"])] for origin in origins)


def _write_split(
    folder: Path, foreign: ForeignDataset, split: str, part: ForeignSplit, names: list[str], progress: Progress
) -> dict[str, Origin]:
    """Write images, labels and truth of a split, and return the origin of each image."""
    sizes = _sizes(part.files, split, progress)
    images, labels = folder / "images" / split, folder / "labels" / split
    images.mkdir(parents=True)
    labels.mkdir(parents=True)
    classes = {c["id"]: names.index(c["name"]) for c in part.truth["categories"] if c["name"] in names}
    rows: dict[Id, set[str]] = {image["id"]: set() for image in part.truth["images"]}
    size_of = {image["id"]: size for image, size in zip(part.truth["images"], sizes, strict=True)}
    annotated, outside = set(), Counter[Id]()  # images
    for a in part.truth["annotations"]:
        (x, y, w, h), size = a["bbox"], size_of[a["image_id"]]
        if size is None:
            continue
        width, height = size
        annotated.add(a["image_id"])
        outside[a["image_id"]] += min(x, y) < -1 or x + w > width + 1 or y + h > height + 1
        x1, y1, x2, y2 = max(x, 0), max(y, 0), min(x + w, width), min(y + h, height)
        if x1 < x2 and y1 < y2 and not (a.get("iscrowd") or a.get("ignore")):
            fractions = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
            row = " ".join(f"{v:.10g}" for v in fractions)
            rows[a["image_id"]].add(f"{classes[a['category_id']]} {row}\n")
    taken: set[str] = set()
    others = []
    written: list[Image] = []
    origins: dict[str, Origin] = {}
    steps = zip(part.truth["images"], part.files, sizes, strict=True)
    for i, (image, file, size) in enumerate(progress(steps, f"linking {split}", len(sizes))):
        name = _own_name(image["file_name"], file.suffix, taken)
        link(file, images / name)
        if image["id"] not in part.unlabelled:
            text = "".join(sorted(rows[image["id"]]))
            (labels / name).with_suffix(".txt").write_text(text, encoding="utf-8")
        said = image.get("width") or 0, image.get("height") or 0
        width, height = size or said
        if 0 not in said and said != (width, height):
            others.append(f"{image['file_name']} (said {said[0]}x{said[1]}, is {width}x{height})")
        written.append({**image, "width": width, "height": height, "mirror_name": name})
        labelled, fault = part.faults.get(i, (file, ""))
        reason = BAD_LABELS if fault else ""
        if not fault and 0 not in said and image["id"] in annotated:
            fault = _drawn_on_another(said, (width, height), outside[image["id"]])
            reason = OTHER_SIZE if fault else ""
        known = stamp(file)[: 1 if size else None]
        origins[f"{split}/{name}"] = Origin(
            image=str(file), stamp=known, labels=str(labelled), reason=reason, fault=fault
        )
    notes = [*part.notes]
    if others:
        notes.append(
            f"The size of {len(others)} images differs from their annotations, such as {others[0]}; that of the image "
            "is used."
        )
    if outside.total():
        notes.append(
            f"{outside.total()} boxes extend more than a pixel beyond their image; they are clipped for training only."
        )
    remarks = {
        "format": foreign.format,
        "images_without_truth": len(part.unlabelled),
        "truth_without_image": part.truth_without_image,
        "other_sizes": len(others),
        "notes": notes,
    }
    info = part.truth.get("info")
    info = {**(info if isinstance(info, dict) else {}), "yolo_mha": remarks}
    truth: Instances = {**part.truth, "info": info, "images": written}
    (folder / "annotations").mkdir(exist_ok=True)
    (folder / "annotations" / f"{split}.json").write_text(json.dumps(truth), encoding="utf-8")
    return origins


def _drawn_on_another(said: tuple[int, int], size: tuple[int, int], outside: int) -> str:
    """Say why boxes were not drawn on this image, in words: it was scaled, or they leave it; empty where they may be.

    Args:
        said: Width and height in the annotations.
        size: Width and height of the image.
        outside: Number of boxes that leave it.
    """
    wide, high = (theirs / own for theirs, own in zip(said, size, strict=True))
    if max(abs(wide - 1), abs(high - 1)) <= SAME_SIZE:
        return ""
    sizes = f"boxes for {said[0]}x{said[1]} pixels, and the image has {size[0]}x{size[1]}"
    if outside:
        return f"{sizes}: {outside} of them leave it"
    return sizes if abs(wide / high - 1) <= SAME_SIZE else ""


def _sizes(files: Sequence[Path], split: str, progress: Progress) -> list[tuple[int, int] | None]:
    """Read width and height of images as decoders show them, what a box is a fraction of; None for broken images."""

    def size(file: Path) -> tuple[int, int] | None:
        try:
            with open_picture(file) as opened:
                width, height = exif_size(opened)
                return int(width), int(height)
        except Exception:  # PIL raises many kinds for a broken file; `read_dataset` names it
            return None

    with ThreadPoolExecutor() as pool:
        return list(progress(pool.map(size, files), f"sizes of {split} images", len(files)))


def _own_name(file_name: str, suffix: str, taken: set[str]) -> str:
    """Return a file name for an image in one flat folder, whose stem no other image there has.

    Flat, because a folder ``images`` within the name would move the place where Ultralytics looks for the label.
    """
    parts = [p for p in PurePosixPath(file_name.replace("\\", "/")).parts if p not in ("/", "..")]
    stem = PurePosixPath("__".join(parts)).stem.lstrip(".")
    stem = stem.encode()[-180:].decode(errors="ignore") or "image"  # a name takes 255 bytes at most
    while stem.lower() in taken:
        stem += "_"
    taken.add(stem.lower())
    return stem + suffix
