"""YOLO label files: a row "class x y width height", or a polygon, an object; beside the images or in another folder."""

from __future__ import annotations

import contextlib
import re
from collections import Counter, defaultdict
from itertools import islice
from pathlib import Path

from ultralytics.data.utils import img2label_paths

from ...errors import DataError, one_line
from ...yaml_files import read_yaml
from ..dataset import SPLITS, Dataset, image_files, load_dataset, read_names
from ..labels import MAX_NAMED, NOT_LABELS
from ..progress import Progress
from .record import Object, Reading, Record, around, corners, image_size
from .tree import Tree, agreeing

NAME_FILES = ("classes.txt", "obj.names", "classes.names", "_darknet.labels", "labels.txt", "data.names")
MOST_CLASSES = 10_000  # a larger number is no class index
ROW = re.compile(r"\s*\d+(\.0*)?(\s+-?[\d.]+(e[-+]?\d+)?){4,}\s*", re.IGNORECASE)


def find(tree: Tree) -> list[Path]:
    """Return the data YAML, if it lists splits, and the text files with the stem of an image and rows of numbers."""
    stems = {image.stem for image in tree.images}
    labels = [p for p in tree.files(".txt") if p.stem in stems and p.name not in NOT_LABELS]
    rows = islice(filter(None, map(_first_line, labels)), 20)
    return [*_data_yaml(tree), *labels] if any(map(ROW.fullmatch, rows)) else []


def read(tree: Tree, files: list[Path], progress: Progress) -> Reading:
    """Read label files from where Ultralytics looks for them, or else from anywhere in the folder by their stem.

    Raises:
        DataError: There are several lists of class names.
    """
    labels = {p for p in files if p.suffix.lower() == ".txt"}
    names, name_files, notes = _names(tree)
    splits, listed = _splits(tree)
    pose, unnamed = _has_key_points(tree), not names
    notes += ["Key points are left out; the boxes are read."] if pose else []
    records, used, in_place = [], set(), True
    skipped: dict[Path, str] = {}
    images = [(image, split) for split, images in splits.items() for image in images]
    in_its_place = {image: path for image, _ in images if (path := _label_of(image)).is_file()}
    by_stem = defaultdict(list)
    for path in sorted(labels - set(in_its_place.values())):
        by_stem[path.stem, tree.split_of(path)].append(path)
    number = Counter((image.stem, tree.split_of(image)) for image, _ in images if image not in in_its_place)
    for image, split in progress(images, "reading labels", len(images)):
        label = in_its_place.get(image)
        try:
            if label is None:
                key = image.stem, tree.split_of(image)
                label = _elsewhere(image, by_stem[key], number[key])
                in_place = in_place and label is None
            rows = _rows(label, image, pose) if label else []
            largest = max([index for index, _ in rows], default=-1)
            if unnamed:
                names += [f"class_{i}" for i in range(len(names), largest + 1)]
            elif largest >= len(names):
                raise ValueError(f"class {largest}, and the last is {len(names) - 1}")
        except (ValueError, OSError) as e:
            skipped[image] = f"{one_line(e)} in {label}" if label else one_line(e)
            continue
        finally:
            used.add(label)
        objects = [Object(names[i], box) for i, box in rows]
        records.append(Record(image, objects, split, label is not None))
    if unnamed:
        notes.append(f"No file has class names; put them into {NAME_FILES[0]}, one per line, or into data.yaml.")
    without = [str(p) for p in sorted(labels - used)] if not listed else []
    return Reading(records, names, [*files, *name_files], skipped, without, notes, in_place=in_place)


def _label_of(image: Path) -> Path:
    """Return where Ultralytics looks for the labels of an image."""
    return Path(img2label_paths([str(image)])[0])


def _elsewhere(image: Path, labels: list[Path], images: int) -> Path | None:
    """Return the label file of an image that has none where Ultralytics looks; None where there is none.

    Args:
        image: The image.
        labels: The files with its stem that are of no other image for sure, and of its split.
        images: Number of images with its stem, of its split, that have no label file either.

    Raises:
        ValueError: The folders of several do not say which it is.
    """
    own = labels if len(labels) == images == 1 else [label for label in labels if agreeing(image, label)]
    if labels and len(own) != 1:
        raise ValueError(f"{len(labels)} label files for {images} images of this name, such as {labels[0]}")
    return own[0] if own else None


def _first_line(path: Path) -> str:
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            return next((line for line in file if line.strip()), "")
    except OSError:
        return ""


def _data_yaml(tree: Tree) -> list[Path]:
    return [p for p in (tree.files(".yaml") + tree.files(".yml")) if p.parent == tree.root]


def _names(tree: Tree) -> tuple[list[str], list[Path], list[str]]:
    """Return the class names, the file that they are from, and a note where that is broken."""
    for path in _data_yaml(tree):
        try:
            names = read_yaml(path, DataError, expected="names:").get("names")
        except DataError as e:
            return [], [], [f"{path.name} is not used: {one_line(e.problem)}"]
        with contextlib.suppress(DataError):  # names of something else
            if names:
                return list(read_names(path, names, None).values()), [path], []
    texts = [p for suffix in (".txt", ".names", ".labels") for p in tree.files(suffix)]
    for name in NAME_FILES:
        lists = {p: found for p in texts if p.name == name and (found := _lines(p))}
        if len({tuple(found) for found in lists.values()}) > 1:
            raise DataError(
                "There are several lists of class names, and they differ.",
                given="; ".join(f"{p}: {', '.join(found[:MAX_NAMED])}" for p, found in list(lists.items())[:MAX_NAMED]),
                expected=f"the same classes in the same order in each {name}, by which the label files number them",
                fix="number the label files alike and leave one list; or prepare each folder by itself",
            )
        if lists:
            return next(iter(lists.values())), list(lists), []
    return [], [], []


def _lines(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    return [line.strip() for line in lines if line.strip()]


def _splits(tree: Tree) -> tuple[dict[str | None, list[Path]], bool]:
    """Return the images of each split as the data YAML lists them, or else by folder, and whether a YAML did."""
    for path in _data_yaml(tree):
        try:
            dataset = load_dataset(path)
            return {s: image_files(dataset, s) for s in SPLITS if s in dataset.splits and _exists(dataset, s)}, True
        except DataError:  # a path that is right on another machine
            continue
    by_folder: dict[str | None, list[Path]] = defaultdict(list)
    for image in tree.images:
        by_folder[tree.split_of(image)].append(image)
    return dict(by_folder), False


def _exists(dataset: Dataset, split: str) -> bool:
    return split == "train" or all(source.exists() for source in dataset.splits[split])


def _has_key_points(tree: Tree) -> bool:
    """Say whether the data YAML is for pose models, whose rows are boxes with key points behind them."""
    for path in _data_yaml(tree):
        with contextlib.suppress(DataError):
            if read_yaml(path, DataError, expected="names:").get("kpt_shape"):
                return True
    return False


def _rows(label: Path, image: Path, pose: bool) -> list[tuple[int, list[float]]]:
    """Return class index and box in pixels of each row; a row that is given twice counts once."""
    width, height = image_size(image)
    found = {}
    for line in label.read_text("utf-8-sig").splitlines():
        if not line.strip():
            continue
        kind, *xy = map(float, line.split()[:5] if pose else line.split())
        if not 0 <= kind < MOST_CLASSES or kind != int(kind):
            raise ValueError(f"class {kind:g} is no class index")
        if len(xy) not in (4, *range(6, len(xy) + 1, 2)) or min(xy) < -0.01 or max(xy) > 1.01:
            raise ValueError("a row is neither 'class x y width height' nor a polygon, as fractions of the image")
        if len(xy) == 4:
            x, y, w, h = xy
            box = corners((x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height)
        else:
            box = around([x * width for x in xy[::2]], [y * height for y in xy[1::2]])
        found[(int(kind), tuple(box))] = int(kind), box
    return list(found.values())
