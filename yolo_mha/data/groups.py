"""Which images belong together, such as frames of one video, so that they are resampled together."""

from __future__ import annotations

import csv
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from ..errors import ConfigError, DataError, one_line
from .labels import MAX_NAMED

IMAGE, FOLDER, TABLE = "image", "folder", ".csv"
FORMS = (
    r"a pattern for file names with the group in brackets, such as group='(writer\d+)'; a .csv file with the columns "
    "image,group; folder, one group per folder; or image, one group per image"
)
NUMBERED = r"(.*\D)\d+\.\w+$"  # the names of frames: what stands before the number at the end
ROBOFLOW = r"(.*\D)\d+_[A-Za-z]+\.rf\.\w+\.\w+$"  # the same as Roboflow writes them: clip_12_jpg.rf.5b3c.jpg
WITH_WORD = re.compile(r"([A-Za-z]+)\d+\.\w+$")
OF_FRAMES = ("frame", "img", "image")  # words before a number that says nothing about a group


def read_groups(group: object, images: Sequence[Path]) -> list[str] | None:
    r"""Return the group of each image.

    Args:
        group: A regular expression that is searched in the file's name, and whose first bracket holds the group's,
            such as ``(writer\d+)``; a CSV file with the columns image (a file name, or the end of a path) and group;
            "folder", the folder that the image is in; "image", each image for itself; or None.
        images: The files.

    Returns:
        Names of groups; None where each image is by itself.

    Raises:
        ConfigError: The setting is none of these, or leaves images without a group, or all in one.
        DataError: The CSV file is missing or broken, or lacks images.
    """
    if group is None or group == IMAGE:
        return None
    if not isinstance(group, (str, Path)) or not str(group):
        raise ConfigError("group has an unusable value.", given=f"group={group!r}", expected=FORMS)
    if group == FOLDER:
        groups = _by_folder(images)
    elif is_table(group):
        groups = _by_table(Path(group), images)
    else:
        groups = _by_pattern(str(group), images)
    if len(set(groups)) == 1:
        raise ConfigError(
            "All images are in one group.",
            given=f"group={group}: {len(images)} images in {groups[0]}",
            expected="several groups",
        )
    return groups


def is_table(group: object) -> bool:
    """Say whether the setting ``group`` names a CSV file."""
    return isinstance(group, (str, Path)) and str(group).lower().endswith(TABLE)


def frames_note(images: Sequence[Path]) -> str | None:
    """Return what to consider where the names look like those of frames: several beginnings, each with several numbers.

    Args:
        images: The files.

    Returns:
        A note with the setting ``group`` that would fit; None for other names.
    """
    pattern = ROBOFLOW if all(".rf." in image.name for image in images) else NUMBERED
    found = [re.search(pattern, image.name) for image in images]
    stems = Counter(match[1] for match in found if match)
    shared = [stem for stem, count in stems.items() if count > 1]
    covered = sum(stems[stem] for stem in shared)
    if None in found or len(shared) < 2 or covered < 0.8 * len(images):
        return None
    text = (
        f"{covered} of {len(images)} images, such as {images[0].name}, form {len(shared)} sets whose names differ "
        "only in the number at the end. If the images of a set are not independent, such as frames of one video or "
        f"scene, the intervals are too narrow; group='{pattern}' resamples them together."
    )
    words = [WITH_WORD.search(image.name) for image in images]
    of_word = Counter(match[0] for match in words if match)
    word = words[0] and words[0][1]
    if word and word.lower() not in OF_FRAMES and None not in words and 2 * len(of_word) <= len(images):
        text += rf" If those of one {word} are not, take group='({word}\d+)'."
    return text + " If each image is independent of the others, group=image says so."


def _by_pattern(pattern: str, images: Sequence[Path]) -> list[str]:
    try:
        compiled = re.compile(pattern)
    except re.error as e:
        raise ConfigError(
            "group is not a valid regular expression.", given=f"group={pattern}: {one_line(e)}", expected=FORMS
        ) from e
    if not compiled.groups:
        raise ConfigError("group has no brackets around the group's name.", given=f"group={pattern}", expected=FORMS)
    found = [compiled.search(image.name) for image in images]
    if lacking := [i.name for i, match in zip(images, found, strict=True) if not match or match[1] is None]:
        raise ConfigError(
            f"{len(lacking)} of {len(images)} images do not match group.",
            given=f"group={pattern}: {', '.join(lacking[:MAX_NAMED])}",
            expected="a pattern that matches the file name of every image",
        )
    return [str(match[1]) for match in found if match]


def _by_folder(images: Sequence[Path]) -> list[str]:
    folders = [str(image.parent) for image in images]
    if len(set(folders)) == 1:  # a mirror links from one folder to images in several
        folders = [str(image.resolve().parent) for image in images]
    return folders


def _by_table(path: Path, images: Sequence[Path]) -> list[str]:
    """Look images up by the end of their path that stands in the table, here or where a mirror links to."""
    known = defaultdict(list)
    for name, group in _rows(path):
        known[Path(name).name].append((Path(name).parts, group))
    groups: list[str] = []
    lacking: list[str] = []
    for image in images:
        ends = [p.parts for p in (image.absolute(), image.resolve())]
        found = {g for end in ends for parts, g in known[end[-1]] if end[-len(parts) :] == parts}
        if len(found) > 1:
            given = f"{image}: {', '.join(sorted(found))}"
            raise DataError(f"{path} has several groups for one image.", given=given, expected="one for each")
        groups += found
        lacking += [] if found else [image.name]
    if lacking:
        raise DataError(
            f"{len(lacking)} of {len(images)} images are not in {path}.",
            given=", ".join(lacking[:MAX_NAMED]),
            expected="a row image,group for each image, with its file name or the end of its path",
        )
    return groups


def _rows(path: Path) -> list[tuple[str, str]]:
    """Read the table; a heading says which columns count, otherwise these are the first two."""
    expected = "a CSV file with the columns image,group"
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if row]
    except (OSError, ValueError, csv.Error) as e:
        raise DataError(
            "The table of groups cannot be read.", given=f"group={path}: {one_line(e)}", expected=expected
        ) from e
    heading = [cell.lower() for cell in rows[0][1]] if rows else []
    columns = (0, 1)
    if {"image", "group"} <= set(heading):
        columns, rows = (heading.index("image"), heading.index("group")), rows[1:]
    pairs = []
    for line, row in rows:
        name, group = (row[c] if c < len(row) else "" for c in columns)
        if not Path(name).name or not group:
            raise DataError(f"Line {line} of {path} is unusable.", given=",".join(row), expected=expected)
        pairs.append((name.replace("\\", "/"), group))
    return pairs
