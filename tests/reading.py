"""How often a dataset is read, and that it is as it was."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from yolo_mha.data import check_cache


@contextmanager
def counted() -> Iterator[Counter]:
    """Count how often each image is verified, with its labels."""
    counts, read = Counter(), check_cache.check_files
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(check_cache, "check_files", lambda image, *rest: counts.update([image]) or read(image, *rest))
        yield counts


def state(folder: Path) -> dict[str, tuple[str, int]]:
    """Content and time of change of every file, by name; and of every folder what is in it."""
    return {str(path): (_content(path), path.lstat().st_mtime_ns) for path in [folder, *folder.rglob("*")]}


def _content(path: Path) -> str:
    if path.is_dir():
        return str(sorted(path.iterdir()))
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "a broken link"
