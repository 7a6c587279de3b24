"""The folder of a run: one of its own for each, also where several runs begin at the same moment."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from itertools import chain, count
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ..data.files import clear_unfinished, require_writable
from ..errors import ConfigError, one_line
from .settings import in_working_directory

OTHER_FOLDER = "name another with project=path/to/folder"
LOCK, HOLDER = ".lock", ".lock-holder"  # the latter says who holds it; a locked file cannot be read everywhere
MKDIR_TRIES = 100  # to make a folder whose parent vanishes


class FolderInUseError(ConfigError):
    """Another process works in a folder."""


@contextmanager
def run_folder(settings: Mapping[str, Any], command: str, below: str = "runs/detect") -> Iterator[Path]:
    """Make the folder that a run writes to, by the names of Ultralytics: ``project/name``, ``project/name-2``, ...

    Ultralytics looks for a free name and makes the folder later, so two runs that begin together would share one. Here
    looking and making are one step. A run that fails before it has written anything leaves no folder behind.

    Args:
        settings: Ultralytics' settings ``project``, ``name`` and ``exist_ok``, with which a folder is taken as it is.
        command: Name of the folder where ``name`` is not given.
        below: Folder in the working directory where ``project`` is not given.

    Yields:
        The folder, absolute.

    Raises:
        ConfigError: It cannot be made or written into, or has an unusable name.
    """
    project = Path(in_working_directory(dict(settings), below)["project"])
    name = str(command if settings.get("name") in (None, "") else settings["name"])
    if Path(name).name in ("", ".."):
        raise ConfigError("name is not a usable folder name.", given=f"name={name}", expected="for example name=first")
    wanted = (project / name).resolve()
    made: list[Path] = []
    try:
        try:
            folder = _make(wanted, bool(settings.get("exist_ok")), made)
        except (OSError, ValueError) as e:  # the latter for a name that no file can have
            raise cannot_write(wanted, e) from e
        require_writable(folder, OTHER_FOLDER)  # what was there may be another user's, or a file
        with locked(folder):
            yield folder
    except BaseException:
        for path in reversed(made):
            with suppress(OSError):  # something is in it
                path.rmdir()
        raise


@contextmanager
def locked(
    folder: Path,
    otherwise: str = "leave exist_ok out, so that each run has a folder of its own",
    *,
    patience: float = 0.0,
    alone: bool = True,
) -> Iterator[None]:
    """Keep a folder for this process while the block runs; what a killed one left half-written goes.

    Args:
        folder: An existing folder, of a run or a comparison.
        otherwise: What to do where another process works there and is not waited for.
        patience: For how many seconds another process is waited for.
        alone: Whether no other machine writes below the folder, so that what it left half-written goes too.

    Raises:
        FolderInUseError: Another process works there.
    """
    lock, holder = FileLock(folder / LOCK), folder / HOLDER
    try:
        lock.acquire(timeout=patience)
    except Timeout as e:
        who = holder.read_text(encoding="utf-8", errors="replace") if holder.is_file() else "another process"
        raise FolderInUseError(
            "Another process is using this folder.",
            given=f"{folder}, locked by {one_line(who)}",
            expected="one process at a time",
            fix=f"wait until it is done, or {otherwise}",
        ) from e
    try:
        clear_unfinished(folder, below=2, own=alone)
        holder.write_text(f"process {os.getpid()} on {socket.gethostname()} since {datetime.now():%Y-%m-%d %H:%M:%S}")
        yield
    finally:
        for file in (holder, folder / LOCK):  # while it is held, so that nobody else's is taken away
            with suppress(OSError):
                file.unlink()
        lock.release()


def taken(folder: Path) -> dict[str, Any]:
    """Return the settings by which Ultralytics writes to a folder that is there."""
    return {"project": str(folder.parent), "name": folder.name, "exist_ok": True}


def cannot_write(path: Path, error: Exception) -> ConfigError:
    """Say that the outputs of a run have no place."""
    return ConfigError("The folder cannot be written to.", given=f"{path}: {one_line(error)}", fix=OTHER_FOLDER)


def _make(wanted: Path, exist_ok: bool, made: list[Path]) -> Path:
    """Make a folder that nothing else has made, and take note of all that were made on the way."""
    names = chain([wanted], (Path(f"{wanted}-{number}") for number in count(2)))
    folder, tries = next(names), MKDIR_TRIES
    while True:
        _make_parents(folder.parent, made)
        try:
            folder.mkdir()
        except FileNotFoundError:  # another run failed, and has just taken the parent away
            tries -= 1
            if not tries:
                raise
        except FileExistsError:
            if exist_ok:
                return folder
            folder = next(names)
        else:
            made.append(folder)
            return folder


def _make_parents(folder: Path, made: list[Path]) -> None:
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    with suppress(FileNotFoundError):  # as above; then the folder itself cannot be made either
        folder.mkdir(parents=True, exist_ok=True)
    made += [path for path in reversed(missing) if path not in made]
