"""Picture files, read whole and with the right values, or not at all."""

from __future__ import annotations

import cv2
from ultralytics.utils.patches import imread

from ..data.pictures import is_cut_off, unusual_samples
from .video import Image


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


def skipped_name(path: str) -> str:
    """Name a file that was not read, with the reason where it is not simply broken."""
    kind = unusual_samples(path)
    return f"{path}: {kind}" if kind else path
