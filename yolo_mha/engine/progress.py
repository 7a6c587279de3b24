"""Progress bars for work that is not Ultralytics' own; on standard error, so that standard output can be parsed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

console = Console(stderr=True)


def bar() -> Progress:
    """Return a progress display with a bar, counts, elapsed and remaining time."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
    )


def track(items: Iterable[Any], description: str, total: int) -> Iterable[Any]:
    """Yield the items with a progress bar.

    Args:
        items: What to go through.
        description: What is being done.
        total: How many items there are.
    """
    with bar() as progress:
        yield from progress.track(items, total=total, description=description)
