"""Images that look alike: a perceptual hash of 64 bits, and pairs of hashes with few bits between them.

The hash is pHash: the image in gray, 32 x 32 pixels, its discrete cosine transform, and of the 8 x 8 lowest
frequencies whether each is above their median (Zauner, Implementation and Benchmarking of Perceptual Image Hash
Functions, 2010). It hardly changes with size, compression and brightness. On textures such as steel, where hashes of
neighbouring pixels find hundreds of false pairs, it finds the true ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

MOST_BITS = 6  # of 64 that differ between near duplicates
SIDE, LOW = 32, 8  # pixels of the small image, and frequencies that count, along one side
LEAST_CONTRAST = 1.0  # standard deviation of gray values below which an image looks like every other flat one
ROWS = 2048  # hashes that are compared with all others at once


class Pair(NamedTuple):
    """Two images by their positions, and the number of bits between their hashes."""

    first: int
    second: int
    bits: int


def perceptual_hash(gray: NDArray[np.float32]) -> NDArray[np.bool_] | None:
    """Return the 64 bits of an image; None for one without contrast.

    Args:
        gray: The image, of shape (H, W).
    """
    small = cv2.resize(gray, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    if small.std() < LEAST_CONTRAST:
        return None
    low = cv2.dct(small)[:LOW, :LOW].ravel()
    bits: NDArray[np.bool_] = low > np.median(low)
    return bits


def near_duplicates(hashes: Sequence[NDArray[np.bool_] | None]) -> list[Pair]:
    """Find all pairs of images that look alike.

    Args:
        hashes: From `perceptual_hash`.
    """
    known = np.array([i for i, bits in enumerate(hashes) if bits is not None], dtype=np.int64)
    signs = np.array([bits for bits in hashes if bits is not None], dtype=np.float32).reshape(-1, LOW * LOW) * 2 - 1
    pairs = []
    for start in range(0, len(known), ROWS):
        # the product of two rows of signs is 64 less twice the number of bits that differ
        bits = (LOW * LOW - signs[start : start + ROWS] @ signs[start:].T) / 2
        for i, j in np.argwhere(np.triu(bits <= MOST_BITS, 1)):
            pairs.append(Pair(int(known[start + i]), int(known[start + j]), int(bits[i, j])))
    return pairs
