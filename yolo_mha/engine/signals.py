"""Ctrl-C and SIGTERM that wait until what belongs together is written."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SIGNALS: tuple[int, ...] = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def held_back() -> Iterator[None]:
    """Hold Ctrl-C and SIGTERM back, and let them come right after the block; elsewhere than in the main thread none do.

    The former handlers are set again whatever happens, and until then they are called for what comes after the block.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    formers = {number: signal.getsignal(number) for number in SIGNALS}
    came: list[int] = []
    holding = True

    def handle(number: int, frame: Any) -> None:
        former = formers[number]
        if holding or not callable(former):
            came.append(number)
        else:
            former(number, frame)

    own = [number for number, former in formers.items() if former is not None]  # None: not of Python's making
    try:
        for number in own:
            signal.signal(number, handle)
        yield
    finally:
        holding = False
        for number in own:
            signal.signal(number, formers[number])
    for number in came:
        signal.raise_signal(number)
