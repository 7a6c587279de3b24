"""Errors that users can act on: what was given, what was expected, how to fix it."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable

from .text import printable

PARTS = ("given", "expected", "fix")  # of an error, each a line
ENDS = 160  # characters of a long line that are kept at either end; the reason may be at any


class YoloMHAError(Exception):
    """Base of all errors that a user can fix; the command line prints them and exits with code 2.

    Args:
        problem: One sentence that says what is wrong.
        given: What was received.
        expected: What would have been right.
        fix: What to do next.
    """

    def __init__(self, problem: str, *, given: object = None, expected: object = None, fix: str | None = None) -> None:
        self.problem = problem.replace("\n", "\\n")  # of a key or a name in it
        self.given = None if given is None else str(given)
        self.expected = None if expected is None else str(expected)
        self.fix = fix
        parts = [f"  {name + ':':<10}{text}" for name in PARTS if (text := getattr(self, name))]
        super().__init__(printable("\n".join([self.problem, *parts])))

    def as_dict(self) -> dict[str, str | None]:
        """Return the fault for ``--json`` output."""
        return {"type": type(self).__name__, **{name: getattr(self, name) for name in ("problem", *PARTS)}}


class ConfigError(YoloMHAError, ValueError):
    """A setting or an argument has an unknown name or an unusable value."""


class ModelError(YoloMHAError, ValueError):
    """A model YAML cannot be read or built."""


class CheckpointError(YoloMHAError, ValueError):
    """A weights file cannot be read, or was refused as unsafe."""


class DataError(YoloMHAError, ValueError):
    """A dataset, an image or a predictions file is missing or broken."""


class UnsupportedTaskError(YoloMHAError, ValueError):
    """The command does not cover this model's task."""


class RegistrationError(YoloMHAError, ValueError):
    """A block cannot be registered."""


class RunError(YoloMHAError, RuntimeError):
    """A training run or an export failed."""


class DownloadError(YoloMHAError, ConnectionError):
    """A download was refused or failed; Ultralytics treats it like being offline."""


class DependencyError(YoloMHAError, ImportError):
    """A package is missing or has the wrong version."""


def check_flag(name: str, value: object) -> None:
    """Make sure that a setting is a bool, not a string such as "yes".

    Raises:
        ConfigError: It is not.
    """
    if not isinstance(value, bool):
        raise ConfigError(
            f"{name} must be True or False.", given=f"{name}={value!r}", expected=f"{name}=True or {name}=False"
        )


def one_line(text: object) -> str:
    """Put a text, such as a library's message, on one line; the middle of a long text is left out."""
    line = " ".join(str(text).split())
    return line if len(line) <= 2 * ENDS else f"{line[:ENDS]} ... {line[-ENDS:]}"


def with_type(error: BaseException) -> str:
    """Return the type and message of an exception on one line."""
    return f"{type(error).__name__}: {one_line(error)}"


DISK_FULL, FREE_SPACE = "The disk is full.", "free some space and run the same command again"


def disk_is_full(error: BaseException) -> bool:
    """Say whether an error means that the disk, or the user's quota, is full."""
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)


def run_failed(work: str, error: Exception, where: object = None) -> YoloMHAError:
    """Turn an exception that a library raised into one readable error; a `YoloMHAError` is returned unchanged.

    Args:
        work: What was being done, such as "Training"; the message begins with it.
        error: What was raised.
        where: The folder that was written to, if the error does not name it.
    """
    if isinstance(error, YoloMHAError):
        return error
    if disk_is_full(error):
        return RunError(DISK_FULL, given=error if where is None else f"{where}: {error}", fix=FREE_SPACE)
    return RunError(f"{work} stopped with an error.", given=with_type(error), fix="--debug shows the traceback")


def nearest(word: object, valid: Iterable[object], limit: int = 3) -> str:
    """Name the valid words most similar to ``word``, or all of them if none is similar.

    Args:
        word: What was given.
        valid: The accepted words.
        limit: Largest number of similar words to name.

    Returns:
        A phrase for the ``expected`` line of an error.
    """
    names = sorted(str(v) for v in valid)
    lowered = {name.lower(): name for name in names}
    near = [lowered[m] for m in difflib.get_close_matches(str(word).lower(), lowered, n=limit, cutoff=0.6)]
    return f"did you mean {' or '.join(near)}?" if near else f"one of {', '.join(names)}"
