"""Detection datasets: finding, reading and checking them before anything is trained or scored."""

from __future__ import annotations

import glob
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ultralytics.data.utils import IMG_FORMATS, img2label_paths
from ultralytics.utils import DATASETS_DIR
from ultralytics.utils import ROOT as ULTRALYTICS_ROOT

from ..errors import DataError, nearest
from ..paths import can_be_path, given_path
from ..yaml_files import MOST_NODES, read_yaml
from .beacons import EMBEDDED, generate
from .check_cache import Entry, check_split
from .coco_json import coco_dataset, coco_files
from .data_check import LEFT_OUT, REPAIR, STOP, BadFile, DataCheck, check_bad, data_check, in_words
from .faults import OF_LABELS, Fault
from .files import read_json, read_text, require_utf8, sha256_of_lines
from .labels import MAX_NAMED
from .links import datasets_folder, link_split, write_yaml
from .mirror import ForeignDataset, Origin, mirror
from .progress import Progress, silent
from .voc import voc_dataset

SPLITS = ("train", "val", "test")
# of a data YAML, what the one that is made for Ultralytics says in its own way
REWRITTEN = ("path", *SPLITS, "validation", "minival", "download", "nc", "annotations", "absent", "origins")
ACCEPTED = (
    "a YOLO data.yaml; a COCO folder (annotations/instances_train*.json and instances_val*.json, or "
    "train/_annotations.coco.json and valid/...); a Pascal VOC folder (Annotations, JPEGImages and ImageSets/Main, or "
    "XML files beside the images in train and valid)"
)


@dataclass(frozen=True)
class Dataset:
    """A dataset YAML with its paths resolved.

    Attributes:
        yaml: The YAML file in YOLO format; that of a mirror, where the dataset is in another one or was read.
        names: Class names by class index.
        splits: Image folders or list files of each split that the YAML names.
        annotations: The COCO file that is the truth of a split when it is scored; the label files where there is none.
        absent: Why a split of a COCO or VOC dataset cannot be used.
        source: What was given as the dataset: the YAML itself, or the COCO or VOC dataset that was mirrored.
        origins: JSON file with the user's file of each image of a COCO or VOC dataset's mirror, by name.
        links: What Ultralytics is given in place of the splits that were read, see `link_split`.
        bad: What was to be done about faults, where the YAML is one that `read_dataset` wrote.
    """

    yaml: Path
    names: dict[int, str]
    splits: dict[str, tuple[Path, ...]]
    annotations: dict[str, Path] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    source: Path | None = None
    origins: Path | None = None
    links: dict[str, Path] = field(default_factory=dict)
    bad: str = STOP


@dataclass(frozen=True)
class Sample:
    """One image and its labelled boxes.

    Attributes:
        image: The image file.
        width: Width in pixels, as decoders show it (EXIF rotation applied).
        height: Height in pixels.
        classes: Class index of each box, shape (n,).
        boxes: Corners x1, y1, x2, y2 in pixels, float64 of shape (n, 4).
        link: Where Ultralytics reads it: a link to the image, or a repaired copy.
        repairs: What was repaired in the image or its labels.
    """

    image: Path
    width: int
    height: int
    classes: NDArray[np.int64]
    boxes: NDArray[np.float64]
    link: Path | None = None
    repairs: Sequence[str] = ()

    @property
    def file(self) -> Path:
        """What is to be read: the image as it is trained on."""
        return self.link or self.image


@dataclass(frozen=True)
class ReadDataset:
    """A dataset whose images and labels were checked.

    Attributes:
        dataset: The dataset; its YAML is that of a mirror, into which Ultralytics may write.
        samples: The samples of each split that was read; those that are left out are not among them.
        check: What was found, and what was done about it.
    """

    dataset: Dataset
    samples: dict[str, list[Sample]]
    check: DataCheck


def load_dataset(data: str | Path, progress: Progress = silent, *, key_points: bool = False) -> Dataset:
    """Find a dataset in YOLO, COCO or Pascal VOC format; the latter two are mirrored in YOLO format first.

    Args:
        data: Path of a data YAML, or the bare name of one that Ultralytics ships; its ``download:`` entry is ignored,
            as nothing is fetched or executed. "beacons" generates the embedded default into ``runs/beacons``. A folder
            that holds one data YAML, a COCO or a Pascal VOC dataset, see `coco_files` and `voc_dataset`. The splits
            of a YAML may be COCO files; one under ``annotations: {val: instances.json}`` is only the truth to score.
        progress: Shows the progress of mirroring.
        key_points: Whether it may be a dataset of key points.

    Returns:
        The dataset; that the files of a YOLO dataset exist is checked by `read_dataset`. A YAML that was written for
        Ultralytics by that stands for the dataset that it was written for.

    Raises:
        DataError: The dataset is missing, is in no known format, or lacks ``train``, ``val`` or ``names``.
    """
    path = _find(data)
    # full, so that the same dataset is known again; a link to a YAML stays one, as its paths begin where it lies
    path = path.resolve() if path.is_dir() else path.parent.resolve() / path.name
    found = _foreign(path) if path.is_dir() else _read_yaml(path, key_points)
    if isinstance(found, ForeignDataset):
        return replace(load_dataset(mirror(found, progress)), source=found.root)
    return found


def _read_yaml(path: Path, key_points: bool) -> Dataset | ForeignDataset:
    """Read a data YAML, and check that it names splits and classes; those of COCO files are in the files."""
    content = read_yaml(path, DataError, expected="train:, val: and names:")
    if "mirror_of" in content:
        own = load_dataset(str(content["mirror_of"]), key_points=key_points)
        return replace(own, bad=check_bad(content.get("bad")))
    if "val" not in content and "validation" in content:
        content["val"] = content["validation"]
    for key in ("path", *SPLITS):
        value = content.get(key)
        entries = value if isinstance(value, list) and key != "path" else [value]
        if not all(e in (None, "") or (isinstance(e, str) and can_be_path(e)) for e in entries):
            raise DataError(
                f"{key}: of {path} is unusable.", given=f"{key}: {value}", expected="a path, or a list of them"
            )
    if type(channels := content.get("channels", 3)) is not int or channels < 1:
        expected = "1 for grey images, 3 for colour, or the number of bands"
        raise DataError(f"channels: of {path} is unusable.", given=f"channels: {channels}", expected=expected)
    missing = [k for k in ("train", "val") if not content.get(k)]
    named = content.get("names") or content.get("nc") or _is_json(content.get("train"))
    if missing or not named:
        raise DataError(
            f"{path} is incomplete.",
            given=f"keys {', '.join(map(str, content))}",
            expected="train:, val: and names:",
            fix=f"add {', '.join([f'{k}:' for k in missing] or ['names:'])}",
        )
    if (shape := content.get("kpt_shape")) and not key_points:
        raise DataError(
            f"{path} is for another task than detection.",
            given=f"kpt_shape: {shape}, so the labels are keypoints",
            expected="labels of boxes or polygons",
            fix="use a pose model, such as model=yolo11n-pose.yaml",
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
            fix="to score a YOLO split against a COCO file, give the images as the split and the file in annotations:",
        )
    files = {split: _coco_file(root, content[split], f"{split}: of {path}") for split in coco}
    names = read_names(path, content.get("names"), content.get("nc")) if content.get("names") or not files else {}
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
    origins = _resolve(root, str(content["origins"])) if "origins" in content else None  # as above
    return Dataset(path, names, splits, annotations, absent, path, origins)


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
            fix="write a data YAML whose train: and val: are the COCO files, or move the files of one format away",
        )
    if files:
        return coco_dataset(folder, folder, files)
    if voc:
        return voc
    inside = ", ".join(sorted(p.name for p in folder.iterdir())[:10]) or "nothing"
    raise DataError(
        f"{folder} is not a dataset in a known layout.",
        given=f"a folder with {inside}",
        expected=ACCEPTED,
        fix=f"yolo-mha data source={shlex.quote(str(folder))} reads more formats and writes a data.yaml",
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
        f"{path.name} is not a dataset YAML." if path.is_file() else "Dataset YAML not found.",
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


def read_names(path: Path, names: Any, nc: Any) -> dict[int, str]:
    """Return the class names of a data YAML by their index.

    Args:
        path: The file, for the message.
        names: What it has under that key: a list, or names by index.
        nc: The number of classes; None where it does not say.

    Raises:
        DataError: They are no such things, or do not fit.
    """
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
            f"{(dataset.source or dataset.yaml).name} has no split '{split}'.",
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
                fix=f"correct '{split}:' or 'path:' in {dataset.source}, or put the images there; none are downloaded",
            )
    images = sorted(f for f in files if f.rpartition(".")[-1].lower() in IMG_FORMATS)
    if not images:
        raise DataError(
            f"There are no {split} images.",
            given=", ".join(map(str, dataset.splits[split])),
            expected=f"files ending in {', '.join(sorted(IMG_FORMATS))}",
        )
    if unusable := [name for name in images if not can_be_path(name)]:
        raise DataError(
            f"{len(unusable)} {split} images are listed with a path that no file can have.",
            given=unusable[0],
            expected="the path of an image on each line",
        )
    require_utf8(images, f"{split} images")
    if twice := [name for name, n in Counter(images).items() if n > 1]:
        raise DataError(
            f"{len(twice)} {split} images are listed twice.",
            given=", ".join(twice[:MAX_NAMED]),
            expected="each one once",
        )
    return [Path(f) for f in images]


def read_split(dataset: Dataset, split: str, progress: Progress = silent) -> list[Sample]:
    """Read one split, see `read_dataset`; a fault stops it."""
    return read_dataset(dataset, [split], progress=progress).samples[split]


def read_dataset(dataset: Dataset, splits: Iterable[str], bad: str = STOP, progress: Progress = silent) -> ReadDataset:
    """Read the images and the labels of splits, check all of them, and make what Ultralytics is given.

    The dataset is only read. Ultralytics gets a mirror below ``runs/datasets``: links, and copies of files that it
    would write anew or that are repaired. Boxes come from the label files with full precision; a box that is listed
    twice counts once, and a polygon counts as the box around it, both as in Ultralytics. An image without a label file
    has no objects.

    Args:
        dataset: From `load_dataset`.
        splits: Some of "train", "val" and "test".
        bad: What is done about faults that would make training wrong: "stop"; "skip", which leaves their images out; or
            "repair", which takes a repaired copy where one can be made, and leaves the others out.
        progress: Shows progress.

    Returns:
        The dataset, and one sample an image, in the order of `image_files`; its position is its image id.

    Raises:
        DataError: A file has a fault and ``bad`` is "stop", nothing is left, or no image has a label.
    """
    bad = dataset.bad if check_bad(bad) == STOP else bad
    folder, name = datasets_folder(), mirror_name(dataset.source or dataset.yaml)
    origins: dict[str, Origin] = read_json(dataset.origins, "origins") if dataset.origins else {}
    found: dict[str, list[Entry]] = {}
    for split in dict.fromkeys(splits):
        images = image_files(dataset, split)
        pairs = list(zip(images, map(Path, img2label_paths([str(image) for image in images])), strict=True))
        cache = folder / f"{name}-{split}.checked.json"
        entries = check_split(pairs, len(dataset.names), cache, progress, f"checking {split}")
        found[split] = [_with_fault(entry, origins.get(f"{split}/{entry.image.name}")) for entry in entries]
    used = {split: [e for e in own if _is_used(e, bad)] for split, own in found.items()}
    check = _report(found, origins, bad, folder / f"{name}-{'-'.join(found)}-bad-{bad}.csv")
    if check.faults and bad == STOP:
        raise _refused(check, found)
    samples: dict[str, list[Sample]] = {}
    links = dict(dataset.links)
    for split, entries in used.items():
        if not entries:
            raise DataError(
                f"No {split} image is left.",
                given=f"{check.subject()} have faults, with bad={bad}",
                expected="an image that can be used",
                fix=f"all of them are listed in {check.file}",
            )
        if not any(e.checked.rows for e in entries):
            raise DataError(
                f"No {split} image has a label.",
                given=f"{len(entries)} images; label files looked for in {entries[0].label.parent}",
                expected="one .txt beside each image's folder, with images/ replaced by labels/",
                fix="put the label files there, or correct the path of the images",
            )
        links[split], places = link_split(entries, folder, f"{name}-{split}", progress)
        samples[split] = [_sample(entry, place) for entry, place in zip(entries, places, strict=True)]
    return ReadDataset(replace(dataset, yaml=mirror_yaml(dataset, links, bad), links=links), samples, check)


def mirror_name(source: Path) -> str:
    """Return what the files that are made of a dataset begin with."""
    stem = re.sub(r"[^\w.-]+", "_", (source.parent if source.stem == "data" else source).stem) or "dataset"
    return f"{stem}-{sha256_of_lines([str(source)])[:6]}"


def mirror_yaml(dataset: Dataset, links: Mapping[str, Path], bad: str = STOP) -> Path:
    """Write the YAML that Ultralytics is given in place of a dataset's own.

    Args:
        dataset: From `load_dataset`.
        links: The folder of each split with its ``images`` and ``labels``.
        bad: What was to be done about faults.
    """
    source = dataset.source or dataset.yaml
    content = {k: v for k, v in read_yaml(dataset.yaml, DataError, "names:").items() if k not in REWRITTEN}
    content |= {"names": dataset.names, "mirror_of": str(source), "bad": bad}
    return write_yaml(content, links, datasets_folder(), mirror_name(source))


def _is_used(entry: Entry, bad: str) -> bool:
    return not entry.checked.faults or (bad == REPAIR and entry.checked.repairable)


def _sample(entry: Entry, link: Path) -> Sample:
    checked = entry.checked
    boxes = np.array(checked.rows, np.float64).reshape(-1, 5)
    scale = np.array([checked.width, checked.height, checked.width, checked.height])
    classes = boxes[:, 0].astype(np.int64)
    return Sample(
        entry.image,
        checked.width,
        checked.height,
        classes,
        boxes[:, 1:] * scale,
        link,
        [f.repair for f in checked.faults],
    )


def _with_fault(entry: Entry, origin: Origin | None) -> Entry:
    """Add what was wrong with the annotation file of which the labels were made."""
    if origin is None or not origin["fault"]:
        return entry
    faults = [*entry.checked.faults, Fault(origin["reason"], origin["fault"])]
    return entry._replace(checked=replace(entry.checked, faults=faults))


def _report(found: Mapping[str, Sequence[Entry]], origins: Mapping[str, Origin], bad: str, path: Path) -> DataCheck:
    """Count and list what was found, by the user's own files."""
    files = []
    for split, entry in ((split, entry) for split, own in found.items() for entry in own):
        origin = origins.get(f"{split}/{entry.image.name}")
        image, label = (Path(origin["image"]), Path(origin["labels"])) if origin else (entry.image, entry.label)
        for fault in entry.checked.faults:
            action = "" if bad == STOP else fault.repair if _is_used(entry, bad) else LEFT_OUT
            file = label if fault.reason in OF_LABELS else image
            files.append(BadFile(split, image, file, fault.reason, fault.detail, action))
    checked = [entry.checked for own in found.values() for entry in own]
    harmless = {
        "labels given twice": sum(c.repeated for c in checked),
        "images without a label file, taken as background": sum(not c.labelled for c in checked),
        "JPEGs with bytes behind their end": sum(c.unended for c in checked),
    }
    return data_check(bad, {split: len(own) for split, own in found.items()}, files, harmless, path)


def _refused(check: DataCheck, found: Mapping[str, Sequence[Entry]]) -> DataError:
    """Say what is wrong, and how to go on all the same."""
    more = f"; and {check.faults - MAX_NAMED} more" if check.faults > MAX_NAMED else ""
    mendable = sum(bool(e.checked.faults) and e.checked.repairable for own in found.values() for e in own)
    return DataError(
        f"{check.subject()} have faults that would make training wrong.",
        given=f"{in_words(check.reasons)}. {'; '.join(check.first)}{more}",
        expected="readable images, and label rows 'class x y width height' as fractions of the image",
        fix=f"repair these files, all listed in {check.file}; or take bad=skip, which leaves their images out, or "
        f"bad=repair, which uses repaired copies ({mendable} images can be repaired) and leaves the others out. train, "
        "val, compare and doctor have this setting, and the dataset stays as it is.",
    )
