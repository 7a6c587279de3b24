"""A look at an image file: whether it can be read, its size, and its perceptual hash."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from ultralytics.data.utils import exif_size

from ...errors import one_line
from ..faults import MIN_PIXELS
from ..near_duplicates import SIDE, perceptual_hash
from ..pictures import unusual_samples


class Look(NamedTuple):
    """Width and height in pixels as decoders show it, and the hash of an image that has contrast."""

    width: int
    height: int
    bits: NDArray[np.bool_] | None


def look(image: Path) -> Look | str:
    """Decode an image, a large JPEG at a fraction of its size.

    Args:
        image: The file.

    Returns:
        What was seen, or in words what is wrong with the file.
    """
    try:
        with Image.open(image) as opened:
            width, height = exif_size(opened)
            opened.draft("L", (2 * SIDE, 2 * SIDE))
            gray = np.asarray(opened if opened.mode in ("L", "I;16") else opened.convert("L"), dtype=np.float32)
    except Exception as e:  # PIL raises many kinds for a broken file
        return f"not a readable image ({one_line(e)})"
    if kind := unusual_samples(image):
        return kind
    if min(width, height) < MIN_PIXELS:
        return f"{width}x{height} pixels, and Ultralytics ignores images below {MIN_PIXELS}"
    return Look(int(width), int(height), perceptual_hash(gray))
