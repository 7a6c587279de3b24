"""Ultralytics' own weights by their name, such as yolo11n.pt: the one thing that is downloaded."""

from __future__ import annotations

import errno
import inspect
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import requests
from ultralytics.utils import LOGGER, SETTINGS
from ultralytics.utils.downloads import GITHUB_ASSETS_NAMES, GITHUB_ASSETS_REPO, attempt_download_asset

from ..data.files import clear_unfinished, require_writable, unfinished
from ..errors import DownloadError, with_type
from ..guard import stock_download
from .foreign import file_format

# Of Ultralytics' list only what `YOLO` opens: no World, YOLOE, RT-DETR, NAS or SAM.
NAMES = frozenset(name for name in GITHUB_ASSETS_NAMES if re.fullmatch(r"yolo(v?\d+)(?!.*-world).*\.pt", name))
_TAG = inspect.signature(attempt_download_asset).parameters["release"].default
RELEASE = f"https://github.com/{GITHUB_ASSETS_REPO}/releases/download/{_TAG}"
RETRIES = 1
PATIENCE = 10  # seconds for the first answer
LEAST_BYTES = 1e5  # as Ultralytics; the page of an error is smaller
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

_allowed: ContextVar[bool] = ContextVar("download", default=True)


@contextmanager
def downloads_allowed(allowed: bool) -> Iterator[None]:
    """Allow or refuse downloads of official weights in what runs inside."""
    token = _allowed.set(allowed and _allowed.get())
    try:
        yield
    finally:
        _allowed.reset(token)


def switched_off() -> str:
    """Return what switched downloads off; an empty string where they are on."""
    if os.environ.get("YOLO_OFFLINE", "").strip().lower() in ("1", "true", "yes", "on", "y", "t"):
        return "YOLO_OFFLINE is set"
    return "" if _allowed.get() else "download=False"


def fetched(name: str) -> Path:
    """Return official weights: from Ultralytics' folder of weights, or downloaded into the working directory.

    Args:
        name: One of `NAMES`.

    Raises:
        DownloadError: They are not on this machine, and downloads are off or this one failed. No file is left then.
        ConfigError: The working directory cannot be written to.
    """
    if (known := Path(SETTINGS["weights_dir"]) / name).is_file():
        return known
    url, target = f"{RELEASE}/{name}", Path.cwd() / name
    by_hand = (
        f"download {url} yourself to {target.parent}, or give its path; to train from random weights, "
        f"give model={Path(name).stem.removesuffix('u')}.yaml, which needs no download"
    )
    if off := switched_off():
        raise DownloadError(
            f"{name} is not on this machine, and downloads are switched off.", given=off, expected=target, fix=by_hand
        )
    require_writable(target.parent, by_hand)
    clear_unfinished(target.parent)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=unfinished()) as folder:
        try:
            requests.head(url, timeout=PATIENCE)  # Ultralytics would wait for minutes where nothing answers
            file = Path(stock_download(url, name, folder, unzip=False, retry=RETRIES, min_bytes=LEAST_BYTES))
        except (ConnectionError, requests.RequestException, MemoryError) as e:
            cause = e.__cause__ or e
            # Ultralytics raises MemoryError where the file is larger than the free space on the disk
            full = isinstance(cause, MemoryError) or getattr(cause, "errno", None) in NO_ROOM
            raise DownloadError(
                f"{name} could not be downloaded{': the disk is full' if full else ''}.",
                given=f"{url}: {with_type(cause)}",
                expected=target,
                fix=f"free some space in {target.parent}" if full else by_hand,
            ) from e
        if kind := file_format(file):
            raise DownloadError(
                f"The file downloaded as {name} is not a checkpoint.",
                given=f"{url}: {kind}",
                expected=target,
                fix=f"check whether a proxy answered instead of the server, or {by_hand}",
            )
        size = file.stat().st_size / 1e6
        file.replace(target)
    LOGGER.info(f"{name}: {size:.1f} MB downloaded from {url} to {target}")
    return target
