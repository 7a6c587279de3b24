"""Progress bars for work that is not Ultralytics' own; on standard error, so that standard output can be parsed."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text
from ultralytics.utils import LOGGER

from ..text import printable


class Terminal(Console):
    """A console that shows control characters in names, and does not pass them on to the terminal."""

    def render_str(self, text: str, **kwargs: Any) -> Text:
        return super().render_str(printable(text), **kwargs)


console = Terminal(stderr=True)


class _Rate(ProgressColumn):
    """How many units are done in a second."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f} {self.unit}/s" if speed else "")


def bar(unit: str | None = None) -> Progress:
    """Return a progress display with a bar, counts, elapsed and remaining time; in a pipe or a file it shows nothing.

    Args:
        unit: What is counted, in the plural; with it the rate is shown too.
    """
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        *([_Rate(unit)] if unit else []),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def with_bar(items: Iterable[Any], description: str, total: int) -> Iterable[Any]:
    """Yield the items with a progress bar.

    Args:
        items: What to go through.
        description: What is being done.
        total: How many items there are.
    """
    with bar() as progress:
        yield from progress.track(items, total=total, description=description)


@contextmanager
def without_messages(least: int = logging.WARNING) -> Iterator[None]:
    """Leave out Ultralytics' messages below a level and its bars, as in one of many steps that a bar of ours shows."""
    before = LOGGER.level
    LOGGER.setLevel(least)
    try:
        yield
    finally:
        LOGGER.setLevel(before)
