"""The command ``data``: what a folder of labelled images is, and a ``data.yaml`` of it that can be trained on."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from ..data.groups import read_groups
from ..data.labels import MAX_NAMED
from ..data.near_duplicates import Pair, near_duplicates
from ..data.new_split import PARTS, check_ratios, stratified
from ..data.readers.look import Look, look
from ..data.readers.recognise import read_folder
from ..data.readers.record import Reading, Record
from ..data.readers.tree import Tree
from ..data.readers.write import write_dataset
from ..engine.own_settings import checked
from ..engine.progress import with_bar
from ..errors import ConfigError, DataError
from ..guard import guarded
from ..paths import given_path
from ..result import Result
from .data_pictures import draw_histograms, draw_sheet

RATIOS = (0.8, 0.1, 0.1)


@dataclass(frozen=True)
class Split:
    """Counts of a split: images, objects, and images without an object, with a label file and without one."""

    images: int
    objects: int
    background: int
    without_labels: int


@dataclass(frozen=True)
class Twins:
    """Two images that look alike, and the number of bits of 64 in which their perceptual hashes differ."""

    first: str
    second: str
    bits: int


@dataclass(frozen=True)
class PreparedData(Result):
    """What a folder of labelled images is, and what was written.

    Attributes:
        source: The folder or file.
        format: Its format.
        data: The ``data.yaml`` that was written.
        splits: Counts by split.
        classes: Number of objects by class and split.
        sizes: Smallest, median and largest width and height of the images, and square root of the area of the boxes
            that are no crowd, in pixels.
        proposed: Whether and how the split was made, in words; None where the dataset has one.
        across_splits: Images of different splits that look alike.
        within_splits: Number of pairs in one split that look alike.
        skipped: Images and label files that cannot be used, each with the reason.
        without_image: Annotations whose image is not there.
        not_named: Images that no annotation names and that are left out.
        notes: What is unusual.
        labels_picture: Images with their labels drawn.
        histograms: Objects by class and by image, and sizes.
    """

    source: str
    format: str
    data: str
    splits: dict[str, Split]
    classes: dict[str, dict[str, int]]
    sizes: dict[str, list[float]]
    proposed: str | None
    across_splits: list[Twins]
    within_splits: int
    skipped: list[str]
    without_image: list[str]
    not_named: list[str]
    notes: list[str] = field(default_factory=list)
    labels_picture: str = ""
    histograms: str = ""

    @property
    def ok(self) -> bool:
        return not self.skipped


@checked
@guarded()
def prepare_data(
    source: str | Path,
    out: str | Path | None = None,
    *,
    format: str | None = None,
    ratios: Sequence[float] = RATIOS,
    group: str | None = None,
    seed: int = 0,
) -> PreparedData:
    """Say what a folder of labelled images is, and write a ``data.yaml`` of it; the folder itself is only read.

    Args:
        source: A folder with images and labels of boxes, or an annotation file.
        out: Folder to write; one below ``runs/datasets`` if not given.
        format: The format to read, where the folder holds several: a word of `FORMATS`.
        ratios: Shares of train, val and test where the dataset has no split; where only val is missing, it is taken out
            of train.
        group: Images that are to stay in one part of a new split, see `read_groups`; near duplicates do in any case.
        seed: Seed of a new split.

    Returns:
        Counts, faults, near duplicates, and the files that were written.

    Raises:
        ConfigError: A setting has an unusable value.
        DataError: The folder is in no known format or in several, or no image can be used.
    """
    path = given_path(source, "source").expanduser()
    shares = check_ratios(ratios)
    if not path.exists():
        fix = "download it yourself first" if "://" in str(source) else None
        raise DataError("Dataset not found.", given=f"source={source}", expected="an existing folder or file", fix=fix)
    tree = Tree(path)
    folder = _check_out(out, tree.root)
    found, reading = read_folder(tree, format, with_bar)
    not_named = _not_named(tree, reading)
    if _any(reading.records, "train") and (in_none := [r for r in reading.records if r.split is None]):
        reading.notes.append(f"{len(in_none)} images are in no split and left out, such as {in_none[0].image}.")
        reading.records = [r for r in reading.records if r.split is not None]
    looks = _look(reading)
    if not reading.records:
        given = "; ".join(_lines(reading.skipped)[:MAX_NAMED])
        raise DataError(f"No image of {tree.root} can be used.", given=given, expected="images that can be read")
    if not reading.names:
        raise DataError(
            f"No image of {tree.root} has an object.", given=f"{len(reading.records)} images", expected="some"
        )
    pairs = near_duplicates([looks[r.image].bits for r in reading.records])
    pairs = [p for p in pairs if not _same_listed_twice(p, reading.records)]
    proposed = _propose(reading, pairs, shares, group, seed)
    yaml = write_dataset(found.title, tree.root, reading, folder, with_bar)
    records = reading.records
    across = [p for p in pairs if records[p.first].split != records[p.second].split]
    return PreparedData(
        source=str(path),
        format=found.title,
        data=str(yaml),
        splits={split: _count([r for r in records if r.split == split]) for split in PARTS if _any(records, split)},
        classes=_classes(reading),
        sizes=_sizes(records, looks),
        proposed=proposed,
        across_splits=[Twins(str(records[p.first].image), str(records[p.second].image), p.bits) for p in across],
        within_splits=len(pairs) - len(across),
        skipped=_lines(reading.skipped),
        without_image=reading.without_image,
        not_named=not_named,
        notes=reading.notes,
        labels_picture=str(draw_sheet(records, reading.names, yaml.with_name("labels.jpg"), seed)),
        histograms=str(draw_histograms(records, reading.names, looks, yaml.with_name("histograms.png"))),
    )


def _check_out(out: str | Path | None, root: Path) -> Path | None:
    if out is None:
        return None
    folder = given_path(out, "out").expanduser().absolute()
    if folder.resolve().is_relative_to(root.resolve()):
        raise ConfigError(
            "out is inside the dataset, which is never changed.",
            given=f"out={out}",
            expected=f"a folder outside {root}",
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError("out is not empty.", given=f"out={out}", expected="a new or an empty folder")
    return folder


def _lines(skipped: Mapping[Path, str]) -> list[str]:
    return [f"{path}: {reason}" for path, reason in sorted(skipped.items())]


def _any(records: Sequence[Record], split: str) -> bool:
    return any(r.split == split for r in records)


def _same_listed_twice(pair: Pair, records: Sequence[Record]) -> bool:
    first, second = records[pair.first], records[pair.second]
    return first.image == second.image and first.split == second.split


def _not_named(tree: Tree, reading: Reading) -> list[str]:
    known = {os.path.realpath(path) for path in (*(r.image for r in reading.records), *reading.skipped)}
    return [str(image) for image in tree.images if os.path.realpath(image) not in known]


def _look(reading: Reading) -> dict[Path, Look]:
    """Look at all images, and take those out of the records that cannot be used."""
    images = list(dict.fromkeys(r.image for r in reading.records))
    with ThreadPoolExecutor() as pool:
        seen = dict(zip(images, with_bar(pool.map(look, images), "looking at images", len(images)), strict=True))
    reading.skipped |= {image: found for image, found in seen.items() if isinstance(found, str)}
    looks = {image: found for image, found in seen.items() if isinstance(found, Look)}
    reading.records = [r for r in reading.records if r.image in looks]
    return looks


def _propose(
    reading: Reading, pairs: Sequence[Pair], shares: Sequence[float], group: str | None, seed: int
) -> str | None:
    """Give every record a split, where train or val is missing, and say how."""
    records = reading.records
    keeps = _any(records, "train")
    if keeps and _any(records, "val"):
        if group is not None:
            reading.notes.append("The dataset has a split, so group= changes nothing.")
        return None
    parts = PARTS[: len(shares)]
    if keeps:
        parts, shares = PARTS[:2], [share / sum(shares[:2]) for share in shares[:2]]
    dealt = [i for i, r in enumerate(records) if not keeps or r.split == "train"]
    used = [(part, share) for part, share in zip(parts, shares, strict=True) if share]
    named = read_groups(group, [records[i].image for i in dealt])
    together = _together(dealt, named or [str(i) for i in dealt], pairs)
    classes = [{o.name for o in records[i].objects} for i in dealt]
    part_of = stratified(classes, together, [share for _, share in used], seed)
    reading.records = list(records)
    for i, part in zip(dealt, part_of, strict=True):
        reading.records[i] = replace(records[i], split=used[part][0])
    what = "val is taken out of train" if keeps else "the split is new"
    kept = f" and group={group}" if named else ""
    return f"{what}: by class, near duplicates{kept} kept together, seed={seed}"


def _together(positions: Sequence[int], groups: Sequence[str], pairs: Sequence[Pair]) -> list[int]:
    """Join groups of images, given by their positions, that hold near duplicates of each other."""
    number = {name: i for i, name in enumerate(dict.fromkeys(groups))}
    own = {position: number[name] for position, name in zip(positions, groups, strict=True)}
    joint = [p for p in pairs if p.first in own and p.second in own]
    rows, columns = [own[p.first] for p in joint], [own[p.second] for p in joint]
    matrix = coo_matrix((np.ones(len(joint)), (rows, columns)), shape=(len(number), len(number)))
    joined = connected_components(matrix, directed=False)[1]
    return [int(joined[own[position]]) for position in positions]


def _count(records: Sequence[Record]) -> Split:
    empty = [r for r in records if not r.objects]
    without = sum(not r.labelled for r in empty)
    return Split(len(records), sum(len(r.objects) for r in records), len(empty) - without, without)


def _classes(reading: Reading) -> dict[str, dict[str, int]]:
    counts = Counter((o.name, r.split) for r in reading.records for o in r.objects)
    splits = [split for split in PARTS if _any(reading.records, split)]
    return {name: {split: counts[name, split] for split in splits} for name in reading.names}


def _sizes(records: Sequence[Record], looks: dict[Path, Look]) -> dict[str, list[float]]:
    values = {
        "image_width": [looks[r.image].width for r in records],
        "image_height": [looks[r.image].height for r in records],
        "box_side": [(o.bbox[2] * o.bbox[3]) ** 0.5 for r in records for o in r.objects if not o.iscrowd],
    }
    return {k: [round(float(q), 1) for q in np.quantile(v, (0, 0.5, 1))] for k, v in values.items() if v}
