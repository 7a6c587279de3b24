"""YOLO label files: a row "class x y width height", or a polygon, an object; beside the images or in another folder."""

from __future__ import annotations

import contextlib
import re
from collections import defaultdict
from pathlib import Path

from ultralytics.data.utils import img2label_paths

from ...errors import DataError, one_line
from ...yaml_files import read_yaml
from ..dataset import SPLITS, Dataset, image_files, load_dataset
from ..labels import NOT_LABELS
from ..progress import Progress
from .record import Object, Reading, Record, around, corners, image_size
from .tree import Tree

NAME_FILES = ("classes.txt", "obj.names", "classes.names", "_darknet.labels", "labels.txt", "data.names")
MOST_CLASSES = 10_000  # a larger number is no class index
ROW = re.compile(r"\s*\d+(\.0*)?(\s+-?[\d.]+(e[-+]?\d+)?){4,}\s*", re.IGNORECASE)


def find(tree: Tree) -> list[Path]:
    """Return the data YAML, if it lists splits, and the text files with the stem of an image and rows of numbers."""
    stems = {image.stem for image in tree.images}
    labels = [p for p in tree.files(".txt") if p.stem in stems and p.name not in NOT_LABELS]
    return [p for p in labels[:20] if ROW.fullmatch(_first_line(p))] and [*_data_yaml(tree), *labels]


def read(tree: Tree, files: list[Path], progress: Progress) -> Reading:
    """Read label files from where Ultralytics looks for them, or else from anywhere in the folder by their stem."""
    labels = {p for p in files if p.suffix == ".txt"}
    by_stem = defaultdict(list)
    for path in sorted(labels):
        by_stem[path.stem].append(path)
    names, name_files, notes = _names(tree)
    splits, listed = _splits(tree)
    pose, unnamed = _has_key_points(tree), not names
    notes += ["Key points are left out; the boxes are read."] if pose else []
    records, used, in_place = [], set(), True
    skipped: dict[Path, str] = {}
    images = [(image, split) for split, images in splits.items() for image in images]
    for image, split in progress(images, "reading labels", len(images)):
        expected = Path(img2label_paths([str(image)])[0])
        label = expected if expected.is_file() else None
        if label is None:
            near = [p for p in by_stem[image.stem] if tree.split_of(p) == tree.split_of(image)]
            label = near[0] if len(near) == 1 else None
            in_place = in_place and label is None
        try:
            rows = _rows(label, image, pose) if label else []
            largest = max([index for index, _ in rows], default=-1)
            if unnamed:
                names += [f"class_{i}" for i in range(len(names), largest + 1)]
            elif largest >= len(names):
                raise ValueError(f"class {largest}, and the last is {len(names) - 1}")
        except (ValueError, OSError) as e:
            skipped[image] = f"{one_line(e)} in {label}"
            continue
        finally:
            used.add(label)
        objects = [Object(names[i], box) for i, box in rows]
        records.append(Record(image, objects, split, label is not None))
    if unnamed:
        notes.append(f"No file has class names; put them into {NAME_FILES[0]}, one per line, or into data.yaml.")
    without = [str(p) for p in sorted(labels - used)] if not listed else []
    return Reading(records, names, [*files, *name_files], skipped, without, notes, in_place=in_place)


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
        if isinstance(names, dict) and sorted(names) == list(range(len(names))):
            return [str(names[i]) for i in range(len(names))], [path], []
        if isinstance(names, list):
            return [str(n) for n in names], [path], []
    by_name = {p.name: p for suffix in (".txt", ".names", ".labels") for p in tree.files(suffix)}
    for path in (by_name[name] for name in NAME_FILES if name in by_name):
        lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
        return [line.strip() for line in lines if line.strip()], [path], []
    return [], [], []


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
