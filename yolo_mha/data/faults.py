"""What is wrong with one image and its labels so that training on them would be wrong, and what can be repaired."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from ultralytics.data.utils import IMG_FORMATS, exif_size
from ultralytics.utils.patches import imread

from ..errors import one_line
from .pictures import JPEG_END, MOST_PIXELS, is_cut_off, open_picture, unusual_samples

Picture = NDArray[np.uint8]
CHECK_VERSION = 1  # to be raised when another result is found for the same files
MIN_PIXELS = 10
TOLERANCE = 0.01  # by which Ultralytics lets coordinates leave the image, as a fraction of it
FARTHEST = 2.0  # coordinates beyond -1 and 2 are no fractions
REDUCED = {
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}  # by how many times

# reasons
MISSING = "image missing"
UNREADABLE = "image not readable"
CUT_OFF = "image cut off"
TOO_SMALL = "image too small"
TOO_LARGE = "image too large"
OTHER_FORMAT = "image of a format that is not trained on"
OTHER_VALUES = "image of floats or of an odd depth"
BAD_LABELS = "labels not readable"
OTHER_SIZE = "labels for another image size"
MIXED = "boxes and polygons in one label file"
OUTSIDE = "box outside the image"
NO_SIZE = "box of zero size"
OF_LABELS = (BAD_LABELS, OTHER_SIZE, MIXED, OUTSIDE, NO_SIZE)


class Fault(NamedTuple):
    """A fault of an image or of its label file.

    Attributes:
        reason: One of a few, to be counted.
        detail: What exactly, in words.
        repair: What is done about it on demand; empty where nothing can be.
    """

    reason: str
    detail: str
    repair: str = ""


@dataclass(frozen=True)
class Checked:
    """What was found in an image and its label file.

    Attributes:
        width: Width in pixels, as decoders show it (EXIF rotation applied).
        height: Height in pixels.
        rows: Class and corners x1, y1, x2, y2 of each box as fractions of the image; repaired where there are faults.
        faults: What would make training wrong.
        labelled: Whether there is a label file.
        repeated: Number of rows that are there already.
        unended: Whether it is a good JPEG with more bytes behind its end or without an end marker; Ultralytics would
            write such a file anew.
    """

    width: int = 0
    height: int = 0
    rows: Sequence[Sequence[float]] = ()
    faults: Sequence[Fault] = ()
    labelled: bool = False
    repeated: int = 0
    unended: bool = False

    @property
    def repairable(self) -> bool:
        return all(fault.repair for fault in self.faults)


def check_files(image: Path, label: Path, classes: int) -> Checked:
    """Read an image whole, and its labels.

    Args:
        image: The image file.
        label: Its label file, which may be missing.
        classes: Number of classes.
    """
    width, height, unended, found = _check_image(image)
    if not label.is_file():
        return Checked(width, height, faults=found, unended=unended)
    try:
        rows, repeated, of_labels = read_labels(label, classes)
    except (ValueError, OSError) as e:
        rows, repeated, of_labels = [], 0, [Fault(BAD_LABELS, one_line(e))]
    return Checked(width, height, rows, [*found, *of_labels], True, repeated, unended)


def _check_image(image: Path) -> tuple[int, int, bool, list[Fault]]:
    """Return width, height, whether it lacks its end, and the faults of an image."""
    width, height = 0, 0
    try:
        if unusual := unusual_samples(image):  # before Pillow, which does not know all of these
            picture = mended(image, OTHER_VALUES)
            if picture is None:
                return 0, 0, False, [Fault(OTHER_VALUES, unusual)]
            return picture.shape[1], picture.shape[0], False, [Fault(OTHER_VALUES, unusual, "re-encoded with 8 bits")]
        with open_picture(image) as opened:
            kind = str(opened.format).lower()
            if opened.size[0] * opened.size[1] > MOST_PIXELS:
                width, height = (int(v) for v in exif_size(opened))
                smaller = mended(image, TOO_LARGE)
                repair = "" if smaller is None else f"reduced to {smaller.shape[1]}x{smaller.shape[0]} pixels"
                return width, height, False, [Fault(TOO_LARGE, f"{width}x{height} pixels", repair)]
            opened.verify()
            width, height = (int(v) for v in exif_size(opened))
        if is_cut_off(image):
            return width, height, False, [Fault(CUT_OFF, "not a readable image: it ends before its picture does")]
        if min(width, height) < MIN_PIXELS:
            detail = f"{width}x{height} pixels, and Ultralytics ignores images below {MIN_PIXELS}"
            return width, height, False, [Fault(TOO_SMALL, detail)]
        if imread(image) is None:
            return width, height, False, [Fault(UNREADABLE, "not a readable image: OpenCV cannot decode it")]
        if kind not in IMG_FORMATS | {"jpeg2000"}:
            return width, height, False, [Fault(OTHER_FORMAT, f"{kind} in spite of its name", "re-encoded")]
        return width, height, kind == "jpeg" and not image.read_bytes().endswith(JPEG_END), []
    except FileNotFoundError:
        return 0, 0, False, [Fault(MISSING, "missing")]
    except Exception as e:  # PIL raises many kinds for a broken file
        return width, height, False, [Fault(UNREADABLE, f"not a readable image: {one_line(e) or type(e).__name__}")]


def mended(image: Path, reason: str) -> Picture | None:
    """Return an image as 8-bit BGR that can be trained on, or None where that cannot be made of it.

    Args:
        image: The file.
        reason: ``TOO_LARGE``: it is reduced. ``OTHER_VALUES``: fractions of 1 become 0 to 255, and of any other values
            the smallest becomes 0, the largest 255. Any other: as Ultralytics reads it.
    """
    picture: Picture | None
    try:
        content = np.fromfile(image, np.uint8)
        if reason == TOO_LARGE:
            with open_picture(image) as opened:
                pixels = opened.size[0] * opened.size[1]
            times = next((n for n in REDUCED if pixels / n**2 <= MOST_PIXELS), max(REDUCED))
            picture = cv2.imdecode(content, REDUCED[times])
        elif reason == OTHER_VALUES:
            picture = _to_8_bits(cv2.imdecode(content, cv2.IMREAD_UNCHANGED))
        else:
            picture = imread(image)
    except Exception:  # OpenCV and Pillow raise many kinds
        return None
    return picture


def _to_8_bits(values: Any) -> Any:
    """Return values of any kind as BGR of 8 bits, see `mended`."""
    finite = np.nan_to_num(values.astype(np.float64), posinf=0, neginf=0)
    low, high = finite.min(), finite.max()
    if values.dtype.kind == "f" and low >= 0 and high <= 1:
        low, high = 0, 1
    picture = np.rint((finite - low) * (255 / max(high - low, 1e-12))).astype(np.uint8)
    return cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR) if picture.ndim == 2 else picture[..., :3]


def read_labels(label: Path, classes: int) -> tuple[list[list[float]], int, list[Fault]]:
    """Read a label file.

    Args:
        label: The file.
        classes: Number of classes.

    Returns:
        Class and corners of each box as fractions of the image, repaired where there are faults; the number of rows
        that are there already; and the faults.

    Raises:
        ValueError: It is no label file; the message says why in a few words.
    """
    rows = [[float(v) for v in line.split()] for line in label.read_text("utf-8-sig").splitlines() if line.strip()]
    boxes: list[tuple[float, ...]] = [_box(row) for row in rows]
    unknown = [box[0] for box in boxes if box[0] >= classes]
    if unknown:
        raise ValueError(f"class {int(max(unknown))}, and the last is {classes - 1}")
    faults = []
    if 0 < (polygons := sum(len(row) != 5 for row in rows)) < len(rows):
        detail = f"rows of boxes and of polygons are mixed, which Ultralytics ignores; polygons: {polygons}"
        faults.append(Fault(MIXED, detail, "polygons made boxes"))
    outside = [i for i, box in enumerate(boxes) if min(box[1:]) < -TOLERANCE or max(box[1:]) > 1 + TOLERANCE]
    if outside:
        faults.append(Fault(OUTSIDE, _named(rows, outside), "clipped to the image"))
        for i in outside:
            boxes[i] = (boxes[i][0], *(min(max(v, 0.0), 1.0) for v in boxes[i][1:]))
    empty = [i for i, (_, x1, y1, x2, y2) in enumerate(boxes) if x2 <= x1 or y2 <= y1]
    if empty:
        faults.append(Fault(NO_SIZE, _named(rows, empty), "row left out"))
    kept = [box for i, box in enumerate(boxes) if i not in set(empty)]
    unique = np.unique(kept, axis=0).tolist() if kept else []
    return unique, len(kept) - len(unique), faults


def _named(rows: Sequence[Sequence[float]], chosen: Sequence[int]) -> str:
    """Name the first of some rows, counted from 1, and how many there are."""
    first = " ".join(f"{v:g}" for v in rows[chosen[0]][:5])
    return f"row {chosen[0] + 1}: {first}" + (f"; and {len(chosen) - 1} more" if len(chosen) > 1 else "")


def _box(row: list[float]) -> tuple[float, ...]:
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
    if not (np.isfinite(xy).all() and min(xy) >= 1 - FARTHEST and max(xy) <= FARTHEST):
        raise ValueError("coordinates lie outside 0..1, so they are not fractions of the image")
    return kind, *corners
