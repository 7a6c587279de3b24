"""Datasets of other tasks than detection: do they hold what the model learns from, and what Ultralytics is given.

Ultralytics would take what it finds: a classification model takes the folder names of a detection dataset for classes,
and where there is no ``train`` folder Ultralytics writes a split beside the user's data.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path

from ultralytics.data.utils import IMG_FORMATS, img2label_paths

from ..data.dataset import Dataset, image_files, load_dataset, mirror_name, mirror_yaml
from ..data.links import datasets_folder, label_place, link_files, places_of
from ..data.readers.recognise import FORMATS, recognised
from ..data.readers.tree import Tree
from ..errors import DataError
from ..yaml_files import read_yaml
from .progress import with_bar

LOOKED_AT = 200  # images whose labels are looked at
CLASS_FOLDERS = "folders train and val (or test), in each a folder of images for every class"
CLASS_SPLITS = ("train", "val", "validation", "valid", "test")
CLASS_NAMES = ".ndjson.yaml"  # in a classification dataset that Ultralytics made of an NDJSON file
LABELS = {
    "segment": "label rows 'class x y x y x y ...', polygons",
    "obb": "label rows 'class x y x y x y x y', four corners",
    "pose": "kpt_shape: in the data YAML, and label rows with a box and its key points",
}


def fitting_dataset(task: str | None, data: str | Path, splits: Iterable[str]) -> str | Path:
    """Refuse a dataset whose labels are not those of a model's task; link one that fits, so that it is only read.

    Args:
        task: A task of Ultralytics other than "detect", which `load_dataset` checks.
        data: What was given as the dataset.
        splits: The splits that will be used.

    Returns:
        What Ultralytics is given: a folder or a YAML of links below ``runs/datasets``; for a task that is not known
        here, what was given.

    Raises:
        DataError: It does not fit.
    """
    path = Path(data)
    if task == "classify":
        _check_class_folders(path)
        return _link_class_folders(path.resolve())
    if task not in LABELS:
        return data
    if path.is_dir() and not any(path.glob("*.yaml")):
        _refuse_labels(task, path)
    dataset = load_dataset(data, with_bar, key_points=task == "pose")
    _check_rows(task, dataset)
    return _link(dataset, splits)


def _check_class_folders(path: Path) -> None:
    if path.is_file():
        raise _other_task("classify", f"the file {path}")
    if not path.is_dir():
        raise DataError("Dataset folder not found.", given=f"data={path}", expected="an existing folder of images")
    _refuse_labels("classify", path)
    inside = ", ".join(sorted(p.name for p in path.iterdir())[:10]) or "nothing"
    if not any(p.suffix[1:].lower() in IMG_FORMATS for p in (path / "train").glob("*/*")):
        raise DataError(
            f"{path} is not a dataset for a classification model.",
            given=f"a folder with {inside}",
            expected=CLASS_FOLDERS,
            fix="create these folders; yolo-mha does not change a dataset of yours",
        )


def _refuse_labels(task: str, path: Path) -> None:
    if found := recognised(Tree(path)):
        kinds = " and ".join(FORMATS[word].title for word in found)
        raise _other_task(task, f"{path} holds {kinds} labels of boxes")


def _check_rows(task: str, dataset: Dataset) -> None:
    source = dataset.source or dataset.yaml
    if task == "pose" and not read_yaml(dataset.yaml, DataError, expected="kpt_shape:").get("kpt_shape"):
        raise _other_task(task, f"no kpt_shape: in {source}")
    fits = {"segment": lambda n: n > 6 and n % 2, "obb": lambda n: n == 9, "pose": lambda n: n > 5}[task]
    labels = (label for _, label in islice(_pairs(dataset, "train"), LOOKED_AT) if label.is_file())
    rows = (label.read_text("utf-8-sig", errors="replace").split("\n")[0].split() for label in labels)
    lengths = {len(row) for row in rows if row}
    if lengths and not any(map(fits, lengths)):
        columns = " and ".join(map(str, sorted(lengths)))
        raise _other_task(task, f"label rows of {columns} columns in the train split of {source}")


def _other_task(task: str, given: str) -> DataError:
    return DataError(
        "The dataset is for another task than the model.",
        given=f"a model for the task '{task}'; {given}",
        expected=LABELS.get(task, CLASS_FOLDERS),
        fix="labels of boxes are for detection models, such as model=yolo11n.yaml",
    )


def _link_class_folders(root: Path) -> Path:
    folder = datasets_folder()
    if root.parent == folder:  # linked already, for the run that goes on
        return root
    files = {CLASS_NAMES: root / CLASS_NAMES} if (root / CLASS_NAMES).is_file() else {}
    for inside, folders, names in chain.from_iterable(
        os.walk(root / split, followlinks=True) for split in CLASS_SPLITS
    ):
        here = Path(inside)
        if here.resolve() in {parent.resolve() for parent in here.parents}:  # a link to a folder around it
            folders.clear()
            continue
        images = (name for name in names if name.rpartition(".")[-1].lower() in IMG_FORMATS)
        files |= {str((here / name).relative_to(root)): here / name for name in (*folders, *images)}
    return link_files(dict(sorted(files.items())), folder, mirror_name(root), with_bar)


def _pairs(dataset: Dataset, split: str) -> Iterator[tuple[Path, Path]]:
    """Return the images of a split with their label files, which may be missing."""
    images = image_files(dataset, split)
    return zip(images, map(Path, img2label_paths(list(map(str, images)))), strict=True)


def _link(dataset: Dataset, splits: Iterable[str]) -> Path:
    files: dict[str, Path] = {}
    for split in splits:
        pairs = list(_pairs(dataset, split))
        for place, (image, label) in zip(places_of([image for image, _ in pairs]), pairs, strict=True):
            files[f"{split}/images/{place}"] = image
            if label.is_file():
                files[f"{split}/{label_place(place)}"] = label
    made = link_files(files, datasets_folder(), mirror_name(dataset.source or dataset.yaml), with_bar)
    return mirror_yaml(dataset, {split: made / split for split in splits})
