"""Picture files that a decoder silently reads as a different picture."""

from __future__ import annotations

import os
import struct
from pathlib import Path

from PIL import Image, ImageFile, TiffImagePlugin, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

JPEG_START, JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0")  # at the beginning of a TIFF; the last of BigTIFF
MOST_PIXELS = 150_000_000  # of a picture that is read by default: 12,000 x 12,500, in 450 MB
BIGTIFF_VERSION = 43  # in place of 42: 64-bit offsets
BITS_TAG, FORMAT_TAG = 258, 339  # TIFF's BitsPerSample and SampleFormat
SAMPLE_KINDS = {1: "unsigned", 2: "signed", 3: "float"}  # values of the latter


def open_picture(path: str | Path) -> ImageFile.ImageFile:
    """Open a picture without decoding it, as `PIL.Image.open` does, but however large it is.

    Pillow's own limit can only be lifted for the whole process.

    Args:
        path: The file.

    Raises:
        OSError: It is missing, or of a format that Pillow does not know; other errors where its header is broken.
    """
    Image.init()
    with Path(path).open("rb") as file:
        start = file.read(16)
    for factory, accept in (Image.OPEN[name] for name in Image.ID):
        if not accept or accept(start) is True:
            try:
                return factory(str(path), "")  # type: ignore[arg-type]
            except (SyntaxError, IndexError, TypeError, struct.error):  # another format after all
                continue
    raise UnidentifiedImageError(str(path))


def is_unended(path: str | Path) -> bool:
    """Say whether a JPEG file does not end with the end marker: it is cut off, or has bytes behind it.

    Args:
        path: The file; for one of another format it is False.

    Raises:
        OSError: It cannot be opened.
    """
    with Path(path).open("rb") as file:
        if file.read(len(JPEG_START)) != JPEG_START:
            return False
        file.seek(-len(JPEG_END), os.SEEK_END)
        return file.read() != JPEG_END


def is_cut_off(path: str | Path) -> bool:
    """Say whether a JPEG file ends before its picture does; some decoders fill the rest with gray.

    Bytes behind the end marker are fine.

    Args:
        path: The file; one of another format is never cut off for this function.

    Raises:
        OSError: It cannot be opened.
    """
    if not is_unended(path):
        return False
    try:
        with JpegImageFile(path) as opened:  # Image.open would refuse very large ones, and ask for more packages
            opened.draft("L", (1, 1))  # at an eighth of the size, which is quicker
            opened.load()
    except (OSError, SyntaxError):  # the latter for a broken header
        return True
    return False


def size_and_mode(path: str | Path) -> tuple[tuple[int, int], str]:
    """Return width, height and Pillow's name of the kind of color from the head of a file, without decoding it.

    Args:
        path: The file; for one that Pillow does not know, the size is (0, 0).
    """
    try:
        with open_picture(path) as opened:
            return opened.size, opened.mode
    except Exception:  # a broken header is met with any kind of error, and decoding tells
        return (0, 0), ""


def unusual_samples(path: str | Path) -> str:
    """Name the kind of number in a TIFF, such as "32-bit float values", where it is not 8 or 16 bits without a sign.

    The range of such numbers is not known; OpenCV takes them for black or white.

    Args:
        path: The file; for one of another format, or a broken one, there is nothing to say.
    """
    try:
        with Path(path).open("rb") as file:
            header = file.read(8)
            if header[:4] not in TIFF_MAGIC:
                return ""
            if header[2] == BIGTIFF_VERSION:
                header += file.read(8)
            tags = TiffImagePlugin.ImageFileDirectory_v2(header)
            file.seek(tags.next)
            tags.load(file)
        bits = max(tags.get(BITS_TAG, (1,)))
        kind = SAMPLE_KINDS.get(max(tags.get(FORMAT_TAG, (1,))), "other")
    except Exception:  # a broken header is met with any kind of error, and decoding tells
        return ""
    if kind == "unsigned" and bits <= 16:
        return ""
    return f"{bits}-bit {kind} values; 8 and 16 bits without a sign are read"
