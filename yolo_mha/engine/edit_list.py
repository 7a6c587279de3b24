"""How much of a video its edit list plays: a cut without encoding keeps whole groups of frames and hides some.

The boxes are those of ISO/IEC 14496-12: ``elst`` lists the edits, ``mvhd`` and ``mdhd`` hold the units of time.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


def played_share(path: str) -> float:
    """Return the share of a video's length that its edit list plays.

    Args:
        path: A file, or an address.

    Returns:
        A number above 0, at most 1; it is 1 where there is no edit list, or nothing that can be read as one.
    """
    try:
        with Path(path).open("rb") as file:
            length = os.fstat(file.fileno()).st_size
            movie = next(file.read(min(size, length)) for kind, size in _top_boxes(file) if kind == b"moov")
        ticks, _ = _clock(_box(movie, b"mvhd"))
        for track in (body for kind, body in _boxes(movie) if kind == b"trak"):
            media = _box(track, b"mdia")
            if _box(media, b"hdlr")[8:12] == b"vide":
                media_ticks, length = _clock(_box(media, b"mdhd"))
                played = _played(_box(_box(track, b"edts"), b"elst"))
                share = played / ticks / (length / media_ticks)
                return min(share, 1.0) if share > 0 else 1.0
    except (OSError, ValueError, StopIteration, LookupError, ArithmeticError, struct.error):
        pass  # no such file, no such box, or a damaged one
    return 1.0


def _top_boxes(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Give kind and size of each box of a file, which stands at the beginning of its content."""
    while len(head := file.read(8)) == 8:
        size, kind = struct.unpack(">I4s", head)
        size = struct.unpack(">Q", file.read(8))[0] - 16 if size == 1 else size - 8
        if size < 0:  # up to the end of the file
            return
        after = file.tell() + size
        yield kind, size
        file.seek(after)


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Give kind and content of each box inside another one."""
    at = 0
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        if size < 8:
            return
        yield kind, data[at + 8 : at + size]
        at += size


def _box(data: bytes, kind: bytes) -> bytes:
    """Return the content of the first box of a kind; raises StopIteration."""
    return next(body for found, body in _boxes(data) if found == kind)


def _clock(header: bytes) -> tuple[int, int]:
    """Return ticks per second and length in ticks, of ``mvhd`` or ``mdhd``."""
    return struct.unpack_from(">IQ", header, 20) if header[0] else struct.unpack_from(">II", header, 12)


def _played(edits: bytes) -> int:
    """Return how long an edit list plays the media, in ticks of the movie; empty edits (time -1) only delay it."""
    form = ">Qq4x" if edits[0] else ">Ii4x"
    return sum(length for length, start in struct.iter_unpack(form, edits[8:]) if start >= 0)
