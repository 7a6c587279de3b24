"""The readers of checkpoints and label caches, and a valid file of each."""

import contextlib
import io
import zipfile
from pathlib import Path

import numpy as np
from watch import done_by

import yolo_mha
from yolo_mha.engine.checkpoint import check_checkpoint
from yolo_mha.errors import CheckpointError
from yolo_mha.guard import guarded
from yolo_mha.pickles import load_label_cache

MODEL = "nc: 1\nbackbone: [[-1, 1, Conv, [8, 3, 8]], [-1, 1, SpatialMHABlock, []]]\nhead: [[[1], 1, Detect, [nc]]]\n"
READERS = {"checkpoint": (check_checkpoint, CheckpointError), "cache": (load_label_cache, FileNotFoundError)}


def entries(folder: Path) -> dict[str, bytes]:
    """Return the entries of a small checkpoint that Ultralytics writes.

    Args:
        folder: For files in between.
    """
    (folder / "x.yaml").write_text(MODEL)
    yolo_mha.YOLO(folder / "x.yaml").save(folder / "x.pt")
    with zipfile.ZipFile(folder / "x.pt") as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def cache() -> bytes:
    """Return a label cache as Ultralytics writes it."""
    label = {"im_file": "a.png", "shape": (20, 40), "cls": np.zeros((2, 1), np.float32), "bboxes": np.ones((2, 4))}
    content = {"labels": [{**label, "segments": []}], "hash": "ab", "results": (1, 0, 0, 0, 1), "version": "1.0.3"}
    file = io.BytesIO()
    np.save(file, content, allow_pickle=True)
    return file.getvalue()


def can_be_read(kind: str, file: Path, content: bytes) -> bool:
    """Read a file, make sure that nothing else is done, and say whether it holds what it should.

    Args:
        kind: One of `READERS`.
        file: Where it is written, in a folder of its own.
        content: What it holds.
    """
    reader, refused = READERS[kind]
    file.write_bytes(content)
    found = []

    def read() -> None:
        with contextlib.suppress(refused):
            found.append(reader(file))

    with guarded():  # which itself sets variables of the environment
        if done := done_by(read):
            raise AssertionError(f"reading it did more: {done}")
    if list(file.parent.iterdir()) != [file]:
        raise AssertionError("reading it made a file")
    return bool(found and found[-1])
