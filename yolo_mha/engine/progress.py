"""Progress bars for work that is not Ultralytics' own; on standard error, so that standard output can be parsed."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text
from ultralytics.utils import LOGGER

from ..text import printable

LINE_EVERY = 30.0  # seconds between two lines, where no bar is seen
_lock, _level, _least = threading.Lock(), LOGGER.level, list[int]()  # of Ultralytics' logger, and what is asked of it


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


class _Lines(Progress):
    """A line now and then about the first task, which is the whole work; for a pipe or a file, where no bar is seen."""

    def __init__(self) -> None:
        super().__init__(console=console, auto_refresh=False, speed_estimate_period=600, disable=True)
        self._next, self._said = time.monotonic() + LINE_EVERY, 0.0

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        super().advance(task_id, advance)
        self._say()

    def update(self, task_id: TaskID, **changes: Any) -> None:
        super().update(task_id, **changes)
        self._say()

    def _say(self) -> None:
        """Print how far it is, if that is new and the last line is long enough ago."""
        task = self.tasks[0]
        if task.completed == self._said or time.monotonic() < self._next:
            return
        of = "" if task.total is None else f" of {task.total:.0f}"
        left = "" if task.time_remaining is None else f", about {timedelta(seconds=task.time_remaining)} left"
        console.print(f"{task.description}: {task.completed:.0f}{of}{left}", soft_wrap=True)
        self._next, self._said = time.monotonic() + LINE_EVERY, task.completed


def bar(unit: str | None = None) -> Progress:
    """Return a progress display with a bar, counts, elapsed and remaining time; lines in a pipe or a file.

    Args:
        unit: What is counted, in the plural; with it the rate is shown too.
    """
    if not console.is_terminal:
        return _Lines()
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        *([_Rate(unit)] if unit else []),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
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
    """Leave out Ultralytics' messages below a level and its bars, as in one of many steps that a bar of ours shows.

    The level is of the whole process: the highest that any thread asks for, and the first one again after the last.
    """
    global _level
    with _lock:
        _level = _level if _least else LOGGER.level
        _least.append(least)
        LOGGER.setLevel(max(_least))
    try:
        yield
    finally:
        with _lock:
            _least.remove(least)
            LOGGER.setLevel(max(_least, default=_level))
