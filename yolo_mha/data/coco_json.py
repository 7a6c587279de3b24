"""COCO instances files (https://cocodataset.org/#format-data): reading, checking, and finding their images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import DataError
from ..paths import can_be_path
from .files import read_json
from .instances import Category, Instances, check_instances, unusable
from .labels import MAX_NAMED
from .mirror import SPLIT_FOLDERS, ForeignContent, ForeignDataset, ForeignSplit
from .progress import Progress

ROBOFLOW_FILE = "_annotations.coco.json"


def coco_files(folder: Path) -> dict[str, Path]:
    """Find the instances file of each split in a folder.

    Args:
        folder: One with ``annotations/instances_{train,val,test}*.json``, or with ``_annotations.coco.json`` in each of
            ``train``, ``valid`` and ``test``.

    Returns:
        The files by split; empty where the folder is no COCO dataset.

    Raises:
        DataError: There are several for one split.
    """
    files = {}
    for split, names in SPLIT_FOLDERS.items():
        found = sorted((folder / "annotations").glob(f"instances_{split}*.json"))
        found += [path for name in names if (path := folder / name / ROBOFLOW_FILE).is_file()]
        if len(found) > 1:
            raise DataError(
                f"{folder} has {len(found)} COCO files for {split}.",
                given=", ".join(p.name for p in found[:MAX_NAMED]),
                expected="one for each split",
                fix=f"write a data YAML that names one of them: path: {folder}, {split}: annotations/{found[0].name}",
            )
        if found:
            files[split] = found[0]
    return files


def coco_dataset(root: Path, base: Path, files: Mapping[str, Path], names: Sequence[str] = ()) -> ForeignDataset:
    """Describe a COCO dataset to `mirror`.

    Args:
        root: The dataset's folder or data YAML, which names the mirror.
        base: The folder below which images are.
        files: The instances file of each split.
        names: Class names in the order of their indices; by default the categories in the order of the first file.
    """
    folders = {split: _image_folders(base, split, file) for split, file in files.items()}
    layout = [str(folder) for split in folders for folder in folders[split]] + list(names)

    def read(progress: Progress) -> ForeignContent:
        read_files = {split: read_coco(file) for split, file in progress(files.items(), "reading COCO", len(files))}
        dropped = placeholders(list(read_files.values())) - set(names)
        found = {c["name"]: None for t in read_files.values() for c in t["categories"] if c["name"] not in dropped}
        if names and (differing := set(names) ^ found.keys()):
            raise DataError(
                f"names: of {root} are not the categories of its COCO files.",
                given=f"only in names: {sorted(differing - found.keys())}; "
                f"only in COCO: {sorted(differing - set(names))}",
                expected="the same names, in the order of the class indices; or no names:",
            )
        classes = list(names or found)
        splits, absent = {}, {split: "no instances file" for split in ("train", "val") if split not in files}
        for split, truth in read_files.items():
            if not truth["images"]:
                absent[split] = f"{files[split]} lists no image"
            elif images := _find_images(truth, files[split], folders[split]):
                notes = [f"Category '{n}' groups the others and is no class." for n in sorted(dropped)]
                truth = {**truth, "categories": _complete(truth, classes, dropped)}
                splits[split] = ForeignSplit(truth, images, notes=notes)
            else:
                absent[split] = (
                    f"none of the {len(truth['images'])} images of {files[split]} was found, such as "
                    f"{truth['images'][0]['file_name']}; looked in {', '.join(map(str, folders[split]))}"
                )
        return ForeignContent(classes, splits, absent)

    return ForeignDataset("COCO JSON", root, list(files.values()), layout, read)


def read_coco(path: Path) -> Instances:
    """Read and check a COCO instances file.

    Args:
        path: The JSON file.

    Returns:
        Its content, with all keys that it has; ``id``, ``file_name`` and ``name`` are there and ids are unique. Width
        and height are whole numbers, 0 where the file does not say.

    Raises:
        DataError: It is missing, no JSON, or not such a file; the message names the first fault.
    """
    content = check_instances(read_json(path, "COCO"), path)
    for kind, entries, key in (("Image", content["images"], "file_name"), ("Category", content["categories"], "name")):
        for i, entry in enumerate(entries):
            if not isinstance(entry.get(key), str) or not entry.get(key):
                raise unusable(f"{kind} {i}", path, f"it has no {key}", entry, f"id and {key}")
    for i, image in enumerate(content["images"]):
        if not can_be_path(image["file_name"]):
            raise unusable(f"Image {i}", path, "no file can have its file_name", image, "file_name: the image's path")
        try:  # some write them as text
            said = image.get("width"), image.get("height")
            image["width"], image["height"] = (int(float(value or 0)) for value in said)
        except (TypeError, ValueError, OverflowError) as e:
            expected = "width and height in pixels, or neither"
            raise unusable(f"Image {i}", path, "its size is no number", image, expected) from e
    for i, a in enumerate(content["annotations"]):
        if min(a["bbox"][2:]) < 0:
            raise unusable(f"Annotation {i}", path, "bbox has a negative size", a, "bbox: [x, y, width, height]")
    if twice := [name for name, n in Counter(c["name"] for c in content["categories"]).items() if n > 1]:
        raise DataError(
            f"{path} has two categories with one name.", given=", ".join(twice[:MAX_NAMED]), expected="a name for each"
        )
    return content


def _image_folders(base: Path, split: str, file: Path) -> list[Path]:
    """List the folders in which the images of a split may be, nearest first: coco/val2017 before coco/val."""
    tags = dict.fromkeys((file.stem.removeprefix("instances_"), *SPLIT_FOLDERS[split]))
    folders = [base / inner / tag for tag in tags for inner in (".", "images")]
    existing = [f for f in (*folders, file.parent, base / "images", base) if f.is_dir()]
    return list(dict.fromkeys(f.resolve() for f in existing))


def _find_images(truth: Instances, file: Path, folders: list[Path]) -> list[Path]:
    """Return the file of each image; none at all where not one is there.

    Raises:
        DataError: Some are there and some are missing.
    """
    names = [image["file_name"] for image in truth["images"]]
    paths = [next((p for folder in folders if (p := folder / name).is_file()), None) for name in names]
    found = [path for path in paths if path]
    if found and (missing := [name for name, path in zip(names, paths, strict=True) if not path]):
        raise DataError(
            f"{len(missing)} of {len(names)} images of {file} are missing.",
            given=", ".join(missing[:MAX_NAMED]) + (", ..." if len(missing) > MAX_NAMED else ""),
            expected=f"files in {', '.join(map(str, folders))}",
            fix="put them there, or take them out of the annotations",
        )
    return found


def placeholders(contents: list[Instances]) -> set[str]:
    """Name categories that only group others, as Roboflow writes one: no object, and the supercategory of the rest."""
    categories = [c for t in contents for c in t["categories"]]
    groups = {s for c in categories if isinstance(s := c.get("supercategory"), str) and s != c["name"]}
    for t in contents:
        used = {a["category_id"] for a in t["annotations"]}
        groups -= {c["name"] for c in t["categories"] if c["id"] in used}
    return {c["name"] for c in categories if c["name"] in groups and c.get("supercategory") in (None, "", "none")}


def _complete(truth: Instances, classes: list[str], dropped: set[str]) -> list[Category]:
    """Return a file's categories without placeholders, and with the classes that only other splits have."""
    own = [c for c in truth["categories"] if c["name"] not in dropped]
    free = max((c["id"] for c in truth["categories"] if isinstance(c["id"], int)), default=0) + 1
    lacking = [n for n in classes if n not in {c["name"] for c in own}]
    return own + [Category(id=free + i, name=name) for i, name in enumerate(lacking)]
