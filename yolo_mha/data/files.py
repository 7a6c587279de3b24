"""Writing files whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from ..errors import ConfigError, DataError, one_line
from ..paths import given_path
from ..text import UNFINISHED, printable

MIN_FREE = 2**20  # bytes; a disk with less is full
PROCESSES = "/proc/self/ns/pid"  # of Linux


def unfinished() -> str:
    """Return how the name of a file or folder begins that this process is writing and will rename when it is whole."""
    return f"{UNFINISHED}{_machine()}@{os.getpid()}-"


def process_namespace() -> str:
    """Return what tells containers of one host apart, which number their processes alike; empty where unknown."""
    try:
        return str(os.stat(PROCESSES).st_ino)
    except OSError:
        return ""


def _machine() -> str:
    return f"{socket.gethostname()}.{process_namespace()}"


def clear_unfinished(folder: Path, *, below: int = 0, own: bool = False) -> None:
    """Remove what a killed process left half-written.

    Args:
        folder: The folder.
        below: How many levels of folders below it are cleared too.
        own: Whether only this machine writes there now, so that what other machines left goes too.
    """
    for level in range(below + 1):
        for left in folder.glob(f"{'*/' * level}{UNFINISHED}*"):
            if not _is_being_written(left, own):
                shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)


def _is_being_written(path: Path, own: bool) -> bool:
    """Say whether the process that a name speaks of may still write the file."""
    match = re.match(rf"{re.escape(UNFINISHED)}([^@]+)@(\d+)-", path.name)
    if not match or match[1] != _machine():
        return not own
    try:
        process = psutil.Process(int(match[2]))
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return process.create_time() <= path.stat().st_mtime  # otherwise another process had this number
    except (psutil.Error, OSError):
        return False


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Give a temporary path in the same folder, and move it to ``path`` when the block ends without an error.

    A reader sees the old file or the new one, never a part of it; after an error nothing is left behind.

    Args:
        path: Where the finished file goes; its folder is made.

    Raises:
        OSError: It cannot be written; the error names ``path``.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=unfinished(), suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        os.replace(temporary, path)
    except OSError as e:
        if e.errno is None or e.filename not in (None, name):
            raise
        raise OSError(e.errno, e.strerror, str(path)) from e
    except RuntimeError as e:
        if not any(said in str(e) for said in ("inline_container", "iostream error")):
            raise
        # what `torch.save` says where a file cannot be written, without the reason
        reason = errno.EIO if shutil.disk_usage(path.parent).free > MIN_FREE else errno.ENOSPC
        raise OSError(reason, os.strerror(reason), str(path)) from e
    finally:
        temporary.unlink(missing_ok=True)


def require_utf8(names: Iterable[str], what: str) -> None:
    """Make sure that names of files are UTF-8, as they are in the files that are written.

    Args:
        names: The names.
        what: What they are of, in the plural.

    Raises:
        DataError: One is not.
    """
    if unusable := [name for name in names if name.encode(errors="ignore").decode() != name]:
        raise DataError(
            f"{len(unusable)} {what} have a name that is not UTF-8.",
            given=printable(unusable[0]),
            expected="names in UTF-8",
            fix="rename them, as from archives of other systems: convmv -f cp1252 -t utf8 -r --notest FOLDER",
        )


def sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file's content."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def sha256_of_lines(lines: Iterable[str]) -> str:
    """Return the SHA-256 of lines, each with its end."""
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()


def read_json(path: str | Path, key: str) -> Any:
    """Read a JSON file that a user gave.

    Args:
        path: The file.
        key: The setting's name, for the message.

    Raises:
        DataError: It is missing or no JSON.
    """
    try:
        return json.loads(given_path(path, key).read_text(encoding="utf-8-sig"))
    except FileNotFoundError as e:
        raise DataError(f"The {key} file is missing.", given=f"{key}={path}", expected="an existing JSON file") from e
    except (ValueError, OSError, RecursionError) as e:
        raise DataError(f"The {key} file is not valid JSON.", given=f"{path}: {e}", expected="COCO JSON") from e


def read_text(path: Path) -> str:
    """Read a text file of a dataset, such as a list of images.

    Args:
        path: The file.

    Raises:
        DataError: It is no text in UTF-8, or cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as e:
        raise DataError(f"{path} cannot be read.", given=one_line(e), expected="a text file in UTF-8") from e


def require_writable(folder: Path, fix: str) -> None:
    """Make sure that files can be written into a folder, before the work whose result they are.

    Args:
        folder: An existing folder.
        fix: What to do where they cannot.

    Raises:
        ConfigError: They cannot.
    """
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as e:
        raise ConfigError("The folder cannot be written to.", given=f"{folder}: {one_line(e)}", fix=fix) from e


def write_text(path: str | Path, text: str) -> Path:
    """Write a text file whole or not at all, and return its path."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return Path(path)
