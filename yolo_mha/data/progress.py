"""How work shows its progress, if at all."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar

T = TypeVar("T")


class Progress(Protocol):
    """Wraps what is iterated over: ``progress(items, description, total)``."""

    def __call__(self, items: Iterable[T], description: str, total: int, /) -> Iterable[T]: ...


def silent(items: Iterable[T], description: str, total: int, /) -> Iterable[T]:
    """Show nothing; the default wherever a `Progress` is taken."""
    return items
