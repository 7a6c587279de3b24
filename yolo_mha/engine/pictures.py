"""Picture files, read whole and with the right values, or not at all."""

from __future__ import annotations

import cv2
from ultralytics.utils.patches import imread

from ..data.pictures import MOST_PIXELS, is_cut_off, size_and_mode, unusual_samples
from .video import Image

LONGEST = 100  # a side longer than so many times the other is named; a network sees a line of 6 pixels at 640


def read_picture(path: str, flags: int = cv2.IMREAD_COLOR, most: int = MOST_PIXELS) -> Image | None:
    """Read a picture as Ultralytics does: 8 bit as they are, of 16 bit the higher 8.

    Args:
        path: The file.
        flags: OpenCV's, for color, gray or all channels.
        most: The largest number of pixels; 0 for any.

    Returns:
        The picture; None where the file is broken or larger than that, where a JPEG is cut off (some versions of OpenCV
        fill with gray what it lacks), and where values are signed, wider or fractional: these have no range that is
        known.
    """
    if _too_large(path, most) or unusual_samples(path):
        return None
    picture: Image | None = imread(path, flags)
    return None if picture is None or picture.dtype != "uint8" or is_cut_off(path) else picture


def flags_for(channels: int) -> int:
    """Return OpenCV's flags for a model, as Ultralytics: BGR for 3 channels, gray for 1, otherwise all there is."""
    return {1: cv2.IMREAD_GRAYSCALE, 3: cv2.IMREAD_COLOR}.get(channels, cv2.IMREAD_UNCHANGED)


def skipped_name(path: str, most: int = MOST_PIXELS) -> str:
    """Name a file that was not read, with the reason where it is not simply broken."""
    kind = _too_large(path, most) or unusual_samples(path)
    return f"{path}: {kind}" if kind else path


def remark(path: str) -> str:
    """Say what is unusual about a picture that is read all the same, or return an empty string."""
    (width, height), mode = size_and_mode(path)
    if max(width, height) > LONGEST * min(width, height):
        return f"{path}: {width} x {height} pixels; resized for the model, next to nothing is left of the shorter side"
    return f"{path}: CMYK, read as RGB without its color profile" if mode == "CMYK" else ""


def _too_large(path: str, most: int) -> str:
    (width, height), _ = size_and_mode(path) if most else ((0, 0), "")
    if width * height <= most:
        return ""
    return f"{width} x {height} pixels; max_pixels={most} are read, any number with max_pixels=0"
