"""Does a dataset hold what a model of another task than detection learns from? Ultralytics would take what it finds.

A classification model takes the folder names of a detection dataset for classes, and where there is no ``train`` folder
Ultralytics writes a split beside the user's data.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from ultralytics.data.utils import IMG_FORMATS, img2label_paths

from ..data.dataset import SPLITS
from ..data.readers.recognise import FORMATS, recognised
from ..data.readers.tree import Tree
from ..errors import DataError
from ..yaml_files import read_yaml

LOOKED_AT = 200  # images whose labels are looked at
CLASS_FOLDERS = "folders train and val (or test), in each a folder of images for every class"
LABELS = {
    "segment": "label rows 'class x y x y x y ...', polygons",
    "obb": "label rows 'class x y x y x y x y', four corners",
    "pose": "kpt_shape: in the data YAML, and label rows with a box and its key points",
}


def check_task_fits(task: str | None, data: str | Path) -> None:
    """Refuse a dataset whose labels are not those of a model's task, before anything is written.

    Args:
        task: A task of Ultralytics other than "detect", which `load_dataset` checks; unknown ones are not checked.
        data: What was given as the dataset; one that ships with Ultralytics is not checked.

    Raises:
        DataError: It does not fit.
    """
    path = Path(data)
    if task == "classify":
        _check_class_folders(path)
    elif task in LABELS and path.is_dir() and not any(path.glob("*.yaml")):
        _refuse_labels(task, path)
    elif task in LABELS and (path.is_dir() or path.is_file()):
        _check_rows(task, path if path.is_file() else min(path.glob("*.yaml")))


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


def _check_rows(task: str, path: Path) -> None:
    content = read_yaml(path, DataError, expected="train:, val: and names:")
    if task == "pose" and not content.get("kpt_shape"):
        raise _other_task(task, f"no kpt_shape: in {path}")
    fits = {"segment": lambda n: n > 6 and n % 2, "obb": lambda n: n == 9, "pose": lambda n: n > 5}[task]
    lengths = {len(row) for row in _rows(path, content)}
    if lengths and not any(map(fits, lengths)):
        columns = " and ".join(map(str, sorted(lengths)))
        raise _other_task(task, f"label rows of {columns} columns in the train split of {path}")


def _other_task(task: str, given: str) -> DataError:
    return DataError(
        "The dataset is for another task than the model.",
        given=f"a model for the task '{task}'; {given}",
        expected=LABELS.get(task, CLASS_FOLDERS),
        fix="labels of boxes are for detection models, such as model=yolo11n.yaml",
    )


def _rows(path: Path, content: dict[str, object]) -> list[list[str]]:
    """Return the first row of the label files of some images of the first split."""
    root = path.parent / str(content.get("path") or "")
    source = next((root / str(content[split]) for split in SPLITS if isinstance(content.get(split), str)), root)
    files: Iterable[Path] = source.rglob("*.*")
    if source.is_file():  # a list, whose paths may begin at its own folder
        named = map(str.strip, source.read_text("utf-8-sig", errors="replace").split("\n"))
        files = (source.parent / line if line.startswith("./") else Path(line) for line in named if line)
    images = (str(p) for p in files if p.suffix[1:].lower() in IMG_FORMATS)
    labels = (Path(label) for label in img2label_paths(list(islice(images, LOOKED_AT))))
    lines = (label.read_text("utf-8-sig", errors="replace").split("\n") for label in labels if label.is_file())
    return [line[0].split() for line in lines if line[0].strip()]
