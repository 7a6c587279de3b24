"""Picture files, read whole and with the right values, or not at all."""

from __future__ import annotations

from pathlib import Path

import cv2
from PIL import TiffImagePlugin
from ultralytics.utils.patches import imread

from ..data.jpeg import is_cut_off
from .video import Image

BIG = 43  # in place of 42: 64-bit offsets
MAGIC = (b"II*\0", b"MM\0*", b"II+\0")  # at the beginning; the last of BigTIFF
BITS_PER_SAMPLE, SAMPLE_FORMAT = 258, 339  # tags of TIFF
KINDS = {1: "unsigned", 2: "signed", 3: "float"}  # values of the latter


def read_picture(path: str, flags: int = cv2.IMREAD_COLOR) -> Image | None:
    """Read a picture as Ultralytics does: 8 bit as they are, of 16 bit the higher 8.

    Args:
        path: The file.
        flags: OpenCV's, for color, gray or all channels.

    Returns:
        The picture; None where the file is broken, where a JPEG is cut off (some versions of OpenCV fill with gray what
        it lacks), and where values are signed, wider or fractional: these have no range that is known.
    """
    if unusual_samples(path):
        return None
    picture: Image | None = imread(path, flags)
    return None if picture is None or picture.dtype != "uint8" or is_cut_off(path) else picture


def unusual_samples(path: str) -> str:
    """Name the kind of number in a TIFF, such as "32-bit float", where it is neither 8 nor 16 bits without a sign."""
    try:
        tags = _tiff_tags(path)
        bits = max(tags.get(BITS_PER_SAMPLE, (1,)))
        kind = KINDS.get(max(tags.get(SAMPLE_FORMAT, (1,))), "other")
    except Exception:  # no TIFF, or a broken header is met with any kind of error, and decoding tells
        return ""
    return "" if kind == "unsigned" and bits <= 16 else f"{bits}-bit {kind}"


def skipped_name(path: str) -> str:
    """Name a file that was not read, with the reason where it is not simply broken."""
    kind = unusual_samples(path)
    return f"{path}: {kind} values; 8 and 16 bits without a sign are read" if kind else path


def _tiff_tags(path: str) -> TiffImagePlugin.ImageFileDirectory_v2:
    with Path(path).open("rb") as file:
        header = file.read(8)
        if header[:4] not in MAGIC:
            raise ValueError
        if header[2] == BIG:
            header += file.read(8)
        tags = TiffImagePlugin.ImageFileDirectory_v2(header)
        file.seek(tags.next)
        tags.load(file)
    return tags
