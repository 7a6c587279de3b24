"""JPEG files that end too early, of which some decoders fill the rest with gray without a word."""

from __future__ import annotations

import os
from pathlib import Path

from PIL import Image

START, END = b"\xff\xd8\xff", b"\xff\xd9"


def is_cut_off(path: str | Path) -> bool:
    """Say whether a JPEG file ends before its picture does; bytes behind the end marker are fine.

    Args:
        path: The file; one of another format is never cut off for this function.

    Raises:
        OSError: It cannot be opened.
    """
    with Path(path).open("rb") as file:
        if file.read(len(START)) != START:
            return False
        file.seek(-len(END), os.SEEK_END)
        if file.read() == END:
            return False
    try:
        with Image.open(path) as opened:
            opened.load()
    except Image.DecompressionBombError:
        return False  # too large to tell
    except OSError:
        return True
    return False
