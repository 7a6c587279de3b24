"""The faults found in a dataset and what was done about them: counts for the screen, and a list of all files."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ..errors import ConfigError
from .files import whole_file
from .labels import MAX_NAMED

BAD = STOP, SKIP, REPAIR = ("stop", "skip", "repair")
LEFT_OUT = "left out"


class BadFile(NamedTuple):
    """A line of the list: the user's image, the file of the fault, what it is, and what was done."""

    split: str
    image: Path
    file: Path
    reason: str
    detail: str
    action: str


@dataclass(frozen=True)
class DataCheck:
    """What was found in the images and labels that a command read.

    Attributes:
        bad: What to do about faults: "stop", "skip" or "repair".
        images: Number of images that were checked, by split.
        bad_images: How many of them have faults, by split.
        reasons: Number of faults by reason.
        actions: Number of faults by what was done.
        harmless: Number of harmless irregularities, by kind.
        first: The first faults: file and what is wrong.
        file: CSV file with all faults; None where there are none.
    """

    bad: str = STOP
    images: dict[str, int] = field(default_factory=dict)
    bad_images: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    actions: dict[str, int] = field(default_factory=dict)
    harmless: dict[str, int] = field(default_factory=dict)
    first: list[str] = field(default_factory=list)
    file: str | None = None

    @property
    def faults(self) -> int:
        """Number of all faults."""
        return sum(self.reasons.values())

    def subject(self) -> str:
        """Say how many images of which split have faults."""
        counts = [f"{n} of {self.images[split]} {split} images" for split, n in self.bad_images.items() if n]
        return " and ".join(counts)

    def sentences(self) -> list[str]:
        """Say what was found and done; nothing where nothing was found."""
        said = [f"Harmless: {in_words(self.harmless)}."] if self.harmless else []
        if not self.faults:
            return said
        found = f"{self.subject()} have faults ({in_words(self.reasons)})"
        said.append(f"{found}; with bad={self.bad}: {in_words(self.actions)}. All of them are listed in {self.file}.")
        return said


def check_bad(bad: object) -> str:
    """Return the setting ``bad`` after checking it.

    Raises:
        ConfigError: It has another value.
    """
    if bad not in BAD:
        raise ConfigError(
            "bad, the way to treat damaged images and labels, has an unusable value.",
            given=f"bad={bad}",
            expected=f"one of {', '.join(BAD)}",
        )
    return str(bad)


def data_check(
    bad: str, images: Mapping[str, int], files: Sequence[BadFile], harmless: Mapping[str, int], path: Path
) -> DataCheck:
    """Count the faults of a dataset, and write the list of them.

    Args:
        bad: What is done about them.
        images: Number of images by split.
        files: The faults.
        harmless: Number of what is only unusual.
        path: The CSV file to write, where there are faults.
    """
    if files:
        with whole_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as opened:
            table = csv.writer(opened)
            table.writerow(BadFile._fields)
            table.writerows([str(cell) for cell in file] for file in files)
    return DataCheck(
        bad,
        dict(images),
        {split: len({f.image for f in files if f.split == split}) for split in images},
        dict(Counter(f.reason for f in files)),
        dict(Counter(f.action for f in files)),
        {what: n for what, n in harmless.items() if n},
        [f"{f.file}: {f.detail}" for f in files[:MAX_NAMED]],
        str(path) if files else None,
    )


def in_words(counts: Mapping[str, int]) -> str:
    """Return counts as people read them: 3 image cut off, 1 box of zero size."""
    return ", ".join(f"{what}: {n}" for what, n in counts.items())
