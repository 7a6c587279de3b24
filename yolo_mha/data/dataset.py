"""Detection datasets: finding, reading and checking them before anything is trained or scored."""

from __future__ import annotations

import glob
import shlex
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from ultralytics.data.utils import IMG_FORMATS, exif_size, img2label_paths
from ultralytics.utils import DATASETS_DIR
from ultralytics.utils import ROOT as ULTRALYTICS_ROOT

from ..errors import DataError, nearest, one_line
from ..paths import can_be_path, given_path
from ..yaml_files import MOST_NODES, read_yaml
from .beacons import EMBEDDED, generate
from .coco_json import coco_dataset, coco_files
from .files import read_text
from .labels import MAX_NAMED
from .mirror import ForeignDataset, mirror
from .pictures import is_cut_off, unusual_samples
from .progress import Progress, silent
from .voc import voc_dataset

SPLITS = ("train", "val", "test")
MIN_PIXELS = 10
ACCEPTED = (
    "a YOLO data.yaml; a COCO folder (annotations/instances_train*.json and instances_val*.json, or "
    "train/_annotations.coco.json and valid/...); a Pascal VOC folder (Annotations, JPEGImages and ImageSets/Main, or "
    "XML files beside the images in train and valid)"
)


@dataclass(frozen=True)
class Dataset:
    """A dataset YAML with its paths resolved.

    Attributes:
        yaml: The YAML file in YOLO format; that of the mirror, where the dataset is in another one.
        names: Class names by class index.
        splits: Image folders or list files of each split that the YAML names.
        annotations: The COCO file that is the truth of a split when it is scored; the label files where there is none.
        absent: Why a split of a COCO or VOC dataset cannot be used.
        source: What was given as the dataset: the YAML itself, or the COCO or VOC dataset that was mirrored.
    """

    yaml: Path
    names: dict[int, str]
    splits: dict[str, tuple[Path, ...]]
    annotations: dict[str, Path] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    source: Path | None = None


@dataclass(frozen=True)
class Sample:
    """One image and its labelled boxes.

    Attributes:
        image: The image file.
        width: Width in pixels, as decoders show it (EXIF rotation applied).
        height: Height in pixels.
        classes: Class index of each box, shape (n,).
        boxes: Corners x1, y1, x2, y2 in pixels, float64 of shape (n, 4).
    """

    image: Path
    width: int
    height: int
    classes: NDArray[np.int64]
    boxes: NDArray[np.float64]


def load_dataset(data: str | Path, progress: Progress = silent) -> Dataset:
    """Find a dataset in YOLO, COCO or Pascal VOC format; the latter two are mirrored in YOLO format first.

    Args:
        data: Path of a data YAML, or the bare name of one that Ultralytics ships; its ``download:`` entry is ignored,
            as nothing is fetched or executed. "beacons" generates the embedded default into ``runs/beacons``. A folder
            that holds one data YAML, a COCO or a Pascal VOC dataset, see `coco_files` and `voc_dataset`. The splits
            of a YAML may be COCO files; one under ``annotations: {val: instances.json}`` is only the truth to score.
        progress: Shows the progress of mirroring.

    Returns:
        The dataset; that the files of a YOLO dataset exist is checked by `read_split`.

    Raises:
        DataError: The dataset is missing, is in no known format, or lacks ``train``, ``val`` or ``names``.
    """
    path = _find(data)
    found = _foreign(path) if path.is_dir() else _read_yaml(path)
    if isinstance(found, ForeignDataset):
        return replace(load_dataset(mirror(found, progress)), source=found.root.resolve())
    return found


def _read_yaml(path: Path) -> Dataset | ForeignDataset:
    """Read a data YAML, and check that it names splits and classes; those of COCO files are in the files."""
    content = read_yaml(path, DataError, expected="train:, val: and names:")
    if "val" not in content and "validation" in content:
        content["val"] = content["validation"]
    for key in ("path", *SPLITS):
        value = content.get(key)
        entries = value if isinstance(value, list) and key != "path" else [value]
        if not all(e in (None, "") or (isinstance(e, str) and can_be_path(e)) for e in entries):
            raise DataError(
                f"{key}: of {path} is unusable.", given=f"{key}: {value}", expected="a path, or a list of them"
            )
    missing = [k for k in ("train", "val") if not content.get(k)]
    named = content.get("names") or content.get("nc") or _is_json(content.get("train"))
    if missing or not named:
        raise DataError(
            f"{path} is incomplete.",
            given=f"keys {', '.join(map(str, content))}",
            expected="train:, val: and names:",
            fix=f"add {', '.join([f'{k}:' for k in missing] or ['names:'])}",
        )
    if shape := content.get("kpt_shape"):
        raise DataError(
            f"{path} is for another task than detection.",
            given=f"kpt_shape: {shape}, so labels of key points",
            expected="labels of boxes or polygons",
            fix="take a pose model, such as model=yolo11n-pose.yaml",
        )
    root = Path(content.get("path") or path.parent)
    if not root.is_absolute() and not root.exists():
        root = Path(DATASETS_DIR, root)
    named_splits = {split: content[split] for split in SPLITS if content.get(split)}
    coco = [split for split, entry in named_splits.items() if _is_json(entry)]
    if coco and len(coco) < len(named_splits):
        raise DataError(
            f"{path} names a COCO file for some splits only.",
            given=", ".join(f"{split}: {entry}" for split, entry in named_splits.items()),
            expected="COCO files for all splits, or for none",
            fix="to score a YOLO split against a COCO file, name its images there and the file under annotations:",
        )
    files = {split: _coco_file(root, content[split], f"{split}: of {path}") for split in coco}
    names = _names(path, content.get("names"), content.get("nc")) if content.get("names") or not files else {}
    if files:
        return coco_dataset(path, root, files, list(names.values()))
    absent = content["absent"] if isinstance(content.get("absent"), dict) else {}  # only a mirror says so
    splits = {
        split: tuple((root / str(e)).resolve() for e in entry) if isinstance(entry, list) else (_resolve(root, entry),)
        for split, entry in named_splits.items()
        if split not in absent
    }
    truth = content.get("annotations") or {}
    if not isinstance(truth, dict) or not all(split in SPLITS and _is_json(entry) for split, entry in truth.items()):
        raise DataError(
            f"annotations: of {path} is unusable.",
            given=f"annotations: {truth}",
            expected="a COCO file by split, for example annotations: {val: annotations/instances_val.json}",
        )
    annotations = {s: _coco_file(root, entry, f"annotations: {s}: of {path}") for s, entry in truth.items()}
    return Dataset(path.resolve(), names, splits, annotations, absent, path.resolve())


def _is_json(entry: object) -> bool:
    return isinstance(entry, str) and entry.lower().endswith(".json") and can_be_path(entry)


def _coco_file(root: Path, entry: str, key: str) -> Path:
    file = _resolve(root, entry)
    if not file.is_file():
        raise DataError("A COCO file is missing.", given=f"{key}: {file}", expected="an existing instances JSON")
    return file


def _foreign(folder: Path) -> ForeignDataset:
    """Recognise the format of a folder without a data YAML."""
    files, voc = coco_files(folder), voc_dataset(folder)
    if files and voc:
        raise DataError(
            f"{folder} holds COCO files and Pascal VOC files.",
            given=", ".join(p.name for p in files.values()),
            expected="one format",
            fix="write a data YAML whose train: and val: name the COCO files, or move one kind away",
        )
    if files:
        return coco_dataset(folder, folder, files)
    if voc:
        return voc
    inside = ", ".join(sorted(p.name for p in folder.iterdir())[:10]) or "nothing"
    raise DataError(
        f"{folder} is no dataset.",
        given=f"a folder with {inside}",
        expected=ACCEPTED,
        fix=f"yolo-mha data source={shlex.quote(str(folder))} knows more formats, and writes a data.yaml",
    )


def _find(data: str | Path) -> Path:
    """Return the data YAML's path as Ultralytics would resolve it, without a download; or a folder without one."""
    path = given_path(data, "data")
    if "://" in str(data):
        raise DataError("Datasets are not downloaded.", given=data, expected=ACCEPTED, fix="download it yourself first")
    if str(data) == EMBEDDED:
        return generate(Path.cwd() / "runs" / EMBEDDED)
    if path.is_dir():
        found = sorted(path.glob("*.yaml"))
        if len(found) > 1:
            raise DataError(f"{path} is a folder.", given=f"{len(found)} YAML files in it", expected="one data.yaml")
        return found[0] if found else path
    if path.is_file() and path.suffix in (".yaml", ".yml"):
        return path
    shipped = {p.name: p for p in Path(ULTRALYTICS_ROOT, "cfg", "datasets").glob("*.yaml")}
    name = path.name if path.suffix else f"{path.name}.yaml"
    if str(data) in (name, path.stem) and name in shipped:
        return shipped[name]
    near = nearest(path.name, Path.cwd().glob("*.yaml"))
    raise DataError(
        "Dataset YAML not found.",
        given=f"data={data}",
        expected=f"{near} or {ACCEPTED}" if near.startswith("did you mean") else ACCEPTED,
        fix="give the path of your dataset; a YOLO data.yaml is described at "
        "https://docs.ultralytics.com/datasets/detect",
    )


def _resolve(root: Path, entry: str) -> Path:
    path = (root / entry).resolve()
    if not path.exists() and entry.startswith("../"):  # one level too many, which Ultralytics accepts outside lists
        path = (root / entry[3:]).resolve()
    return path


def _names(path: Path, names: Any, nc: Any) -> dict[int, str]:
    try:
        count = None if nc is None else int(nc)
        if count is not None and count > MOST_NODES:
            raise ValueError("more classes than a file could name")
        names = names or [f"class_{i}" for i in range(count or 0)]
        names = {int(k): str(v) for k, v in (dict(enumerate(names)) if isinstance(names, list) else names).items()}
    except (AttributeError, TypeError, ValueError, OverflowError) as e:
        given = f"names: {names}, nc: {nc}"
        raise DataError(
            f"names: or nc: of {path} is unusable.", given=given, expected="names: a list, or {0: ...}"
        ) from e
    if sorted(names) != list(range(len(names))):
        raise DataError(
            f"names: of {path} has gaps.", given=f"indices {sorted(names)}", expected=f"0 to {len(names) - 1}"
        )
    if count is not None and count != len(names):
        raise DataError(f"nc: and names: of {path} differ.", given=f"nc: {nc}", expected=len(names))
    return dict(sorted(names.items()))


def image_files(dataset: Dataset, split: str) -> list[Path]:
    """List a split's images in the order that Ultralytics uses.

    Args:
        dataset: From `load_dataset`.
        split: "train", "val" or "test".

    Raises:
        DataError: The split is not in the YAML, its folder is missing, or there is no image in it.
    """
    if split in dataset.absent:
        raise DataError(
            f"{dataset.source} has no {split} images that can be used.",
            given=dataset.absent[split],
            expected="annotations and images of this split",
            fix=f"add them, or take another split: {', '.join(dataset.splits)}",
        )
    if split not in dataset.splits:
        raise DataError(
            f"{dataset.yaml.name} has no split '{split}'.",
            given=f"split={split}",
            expected=f"one of {', '.join(dataset.splits)}",
        )
    files: list[str] = []
    for source in dataset.splits[split]:
        if source.is_dir():
            files += glob.glob(str(Path(glob.escape(str(source))) / "**" / "*.*"), recursive=True)  # no hidden ones
        elif source.is_file():
            lines = read_text(source).split("\n")
            files += [str(source.parent / x[2:]) if x.startswith("./") else x for x in map(str.strip, lines) if x]
        else:
            raise DataError(
                f"The {split} images are missing.",
                given=str(source),
                expected="an existing folder or list of images",
                fix=f"correct '{split}:' or 'path:' in {dataset.yaml}, or put the images there; nothing is downloaded",
            )
    images = sorted(f for f in files if f.rpartition(".")[-1].lower() in IMG_FORMATS)
    if not images:
        raise DataError(
            f"There are no {split} images.",
            given=", ".join(map(str, dataset.splits[split])),
            expected=f"files ending in {', '.join(sorted(IMG_FORMATS))}",
        )
    if twice := [name for name, n in Counter(images).items() if n > 1]:
        raise DataError(
            f"{len(twice)} {split} images are listed twice.",
            given=", ".join(twice[:MAX_NAMED]),
            expected="each one once",
        )
    return [Path(f) for f in images]


def read_split(dataset: Dataset, split: str, progress: Progress = silent) -> list[Sample]:
    """Read the image sizes and the labels of a split, and check all of them.

    Boxes come from the label files with full precision; a box that is listed twice counts once, and a polygon counts
    as the box around it, both as in Ultralytics. An image without a label file has no objects.

    Args:
        dataset: From `load_dataset`.
        split: "train", "val" or "test".
        progress: Shows progress.

    Returns:
        One sample an image, in the order of `image_files`; its position is its image id.

    Raises:
        DataError: Images cannot be decoded, labels are malformed, or no image has a label.
    """
    images = image_files(dataset, split)
    labels = [Path(p) for p in img2label_paths([str(p) for p in images])]
    classes = len(dataset.names)
    with ThreadPoolExecutor() as pool:
        read = pool.map(lambda image, label: _read(image, label, classes), images, labels)
        results = list(progress(read, f"checking {split}", len(images)))
    if faults := [r for r in results if isinstance(r, str)]:
        more = f"; and {len(faults) - MAX_NAMED} more" if len(faults) > MAX_NAMED else ""
        raise DataError(
            f"{len(faults)} of {len(images)} {split} images or label files are broken.",
            given="; ".join(faults[:MAX_NAMED]) + more,
            expected="readable images, and label rows 'class x y width height' as fractions of the image",
            fix="repair these files or remove them together with their labels",
        )
    samples = [r for r in results if isinstance(r, Sample)]
    if not any(len(s.classes) for s in samples):
        raise DataError(
            f"No {split} image has a label.",
            given=f"{len(images)} images; label files looked for in {labels[0].parent}",
            expected="one .txt beside each image's folder, with images/ replaced by labels/",
            fix="put the label files there",
        )
    return samples


def _read(image: Path, label: Path, classes: int) -> Sample | str:
    """Read one image header and its labels; return what is wrong as a sentence."""
    try:
        with Image.open(image) as opened:
            opened.verify()
            width, height = exif_size(opened)
        if is_cut_off(image):
            return f"{image}: not a readable image"
        if kind := unusual_samples(image):
            return f"{image}: {kind}"
        if min(width, height) < MIN_PIXELS:
            return f"{image}: {width}x{height} pixels, and Ultralytics ignores images below {MIN_PIXELS}"
    except FileNotFoundError:
        return f"{image}: missing"
    except Exception:  # PIL raises many kinds for a broken file
        return f"{image}: not a readable image"
    if not label.is_file():
        return Sample(image, width, height, np.zeros(0, np.int64), np.zeros((0, 4)))
    try:
        rows = [[float(v) for v in line.split()] for line in label.read_text("utf-8-sig").splitlines() if line.strip()]
        if len({len(row) == 5 for row in rows}) > 1:
            raise ValueError("rows of boxes and of polygons are mixed, which Ultralytics ignores")
        boxes = np.unique([_box(row) for row in rows], axis=0) if rows else np.zeros((0, 5))
        if boxes.size and not (boxes[:, 0] < classes).all():
            raise ValueError(f"class {int(boxes[:, 0].max())} of only {classes} classes")
    except ValueError as e:
        return f"{label}: {one_line(e)}"
    scale = np.array([width, height, width, height])
    return Sample(image, width, height, boxes[:, 0].astype(np.int64), boxes[:, 1:] * scale)


def _box(row: list[float]) -> tuple[float, float, float, float, float]:
    """Return class and corners, as fractions of the image, of a label row."""
    kind, *xy = row
    if not 0 <= kind < 1e6 or kind != int(kind):
        raise ValueError(f"class {kind:g} is no class index")
    if len(row) == 5:
        x, y, w, h = xy
        if w < 0 or h < 0:
            raise ValueError("a box has a negative size")
        corners = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
    elif len(row) > 6 and len(row) % 2:
        corners = (min(xy[::2]), min(xy[1::2]), max(xy[::2]), max(xy[1::2]))
    else:
        raise ValueError(f"a row has {len(row)} columns instead of 5")
    if not (np.isfinite(xy).all() and min(xy) >= -0.01 and max(xy) <= 1.01):
        raise ValueError("coordinates lie outside 0..1, so they are not fractions of the image")
    return kind, *corners
