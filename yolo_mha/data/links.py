"""What Ultralytics is given in place of a user's dataset: links, and copies of files that need another form.

Ultralytics writes into the folders of a dataset: caches beside labels, decoded images beside images, and some JPEGs
anew. In these folders it may.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import yaml

from ..errors import DataError, one_line
from ..yaml_files import read_yaml
from .check_cache import Entry, stamp
from .faults import CHECK_VERSION, OF_LABELS, mended
from .files import clear_unfinished, require_utf8, sha256_of_lines, unfinished, write_text
from .pictures import JPEG_END, is_unended
from .progress import Progress

LINKS_VERSION = 1  # to be raised when the folders are made differently, so that old ones are made anew
Writer = Callable[[Path], None]


def datasets_folder() -> Path:
    """Return the folder for all that is made of datasets, below the working directory.

    Raises:
        DataError: It cannot be made.
    """
    folder = Path.cwd() / "runs" / "datasets"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as e:
        raise DataError(
            "No mirror of the dataset can be made; training writes into it, because datasets are never changed.",
            given=f"{folder}: {one_line(e)}",
            expected="a working directory with write permission",
            fix="change to another folder and run the same command there",
        ) from e
    clear_unfinished(folder)
    return folder


def link(file: Path, target: Path) -> None:
    """Make a symbolic link to a file, or a hard link or a copy where the system refuses that."""
    try:
        target.symlink_to(file.absolute())
    except FileExistsError:  # a copy would be written through that link
        raise
    except OSError:  # no links on this file system, or not for this user
        try:
            os.link(file.resolve(), target)
        except OSError:
            shutil.copy2(file, target)


def link_split(entries: Sequence[Entry], folder: Path, name: str, progress: Progress) -> tuple[Path, list[Path]]:
    """Make the folder of a split's images and labels, or find the one that was made before of the same files.

    Images keep their names and their order: each change of the folder, in the order of paths, is a new numbered folder.

    Args:
        entries: The images that are used, and what is to be repaired of them.
        folder: Where it goes.
        name: The beginning of its name.
        progress: Shows progress.

    Returns:
        The folder, and in it the path of each image.
    """
    places = list(places_of([entry.image for entry in entries]))
    said = (f"{e.image} {e.stamps} {e.checked.unended} {e.checked.faults}" for e in entries)
    made = folder / f"{name}-{sha256_of_lines([f'{LINKS_VERSION} {CHECK_VERSION}', *said])[:10]}"
    writers: dict[str, Writer] = {}
    for place, entry in zip(places, entries, strict=True):
        writers[f"images/{place}"] = partial(_write_image, entry)
        if entry.checked.labelled:
            writers.setdefault(label_place(place), partial(_write_label, entry))
    _fill(made, writers, progress)
    return made, [made / "images" / place for place in places]


def link_files(files: Mapping[str, Path], folder: Path, name: str, progress: Progress) -> Path:
    """Make a folder of links, or find the one that was made before of the same files.

    JPEGs that Ultralytics would write anew are copied.

    Args:
        files: For each path in the new folder the file, or the folder of which only the name is taken.
        folder: Where it goes.
        name: The beginning of its name.
        progress: Shows progress.
    """
    require_utf8(files, "files")
    said = (f"{place} {file} {stamp(file)}" for place, file in files.items())
    made = folder / f"{name}-{sha256_of_lines([f'{LINKS_VERSION}', *said])[:10]}"
    _fill(made, {place: partial(_write_file, file) for place, file in files.items()}, progress)
    return made


def places_of(images: Sequence[Path]) -> Iterator[str]:
    """Return where each image goes below the ``images`` folder of a split, so that names and order stay."""
    number, last = -1, None
    for image in images:
        hidden = image.name.startswith(".")  # which a search would not find
        if (image.parent, hidden) != last:
            number, last = number + 1, (image.parent, hidden)
        yield f"{number:07d}/{'_' * hidden}{image.name}"


def label_place(place: str) -> str:
    """Return where the label file of an image goes, see `places_of`."""
    return str(Path("labels", place).with_suffix(".txt"))


def write_yaml(content: Mapping[str, Any], folders: Mapping[str, Path], folder: Path, name: str) -> Path:
    """Write the dataset YAML that Ultralytics is given.

    Args:
        content: What it holds beside the splits.
        folders: The folder of each split that was read, from `link_split`.
        folder: Where it goes.
        name: The beginning of its name.
    """
    unread = folder / "unread"  # Ultralytics wants train: and val: in any case, and an existing folder
    unread.mkdir(exist_ok=True)
    splits = {split: str(made / "images") for split, made in folders.items()}
    data = {"train": str(unread), "val": str(unread), **content, **splits}
    text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
    return write_text(folder / f"{name}-{sha256_of_lines([text])[:10]}.yaml", text)


def source_of(data: object) -> str:
    """Return the dataset that a YAML of `write_yaml` was made for; anything else is returned unchanged."""
    with contextlib.suppress(DataError):
        return str(read_yaml(Path(str(data)), DataError, expected="names:").get("mirror_of", data))
    return str(data)


def _fill(made: Path, writers: Mapping[str, Writer], progress: Progress) -> None:
    """Make a folder of files by what writes each of them, whole or not at all; one that is there is left alone."""
    if made.is_dir():
        return
    aside = Path(tempfile.mkdtemp(dir=made.parent, prefix=unfinished()))
    try:
        for place, write in progress(list(writers.items()), f"linking {made.name}", len(writers)):
            file = aside / place
            file.parent.mkdir(parents=True, exist_ok=True)
            write(file)
        aside.chmod(0o755)
        try:
            os.rename(aside, made)
        except OSError:  # another process was faster
            if not made.is_dir():
                raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _write_file(source: Path, target: Path) -> None:
    if source.is_dir():
        target.mkdir(exist_ok=True)
    elif source.is_file() and is_unended(source):  # of a missing one Ultralytics speaks
        shutil.copy(source, target)
    else:
        link(source, target)


def _write_image(entry: Entry, target: Path) -> None:
    reasons = [fault.reason for fault in entry.checked.faults if fault.reason not in OF_LABELS]
    if reasons:
        picture = mended(entry.image, reasons[0])
        target.write_bytes(cv2.imencode(".png", picture)[1].tobytes())  # the name keeps its suffix; content decides
    elif entry.checked.unended:
        target.write_bytes(entry.image.read_bytes() + JPEG_END)  # decoders stop at the first one
    else:
        link(entry.image, target)


def _write_label(entry: Entry, target: Path) -> None:
    if not any(fault.reason in OF_LABELS for fault in entry.checked.faults):
        link(entry.label, target)
        return
    text = ""
    for kind, x1, y1, x2, y2 in entry.checked.rows:
        box = ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1)
        text += f"{kind:g} {' '.join(f'{v:.10g}' for v in box)}\n"
    target.write_text(text, encoding="utf-8")
