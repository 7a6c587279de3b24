"""Ctrl-C and SIGTERM that wait until what belongs together is written."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

SIGNALS: tuple[int, ...] = (signal.SIGINT, signal.SIGTERM)
EXIT_INTERRUPTED = 130


@contextmanager
def held_back() -> Iterator[None]:
    """Hold Ctrl-C and SIGTERM back, and let them come right after the block; elsewhere than in the main thread none do.

    The former handlers are set again whatever happens.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    try:
        with ExitStack() as stack:
            for number in SIGNALS:
                if (former := signal.getsignal(number)) is not None:  # None: not of Python's making
                    stack.callback(signal.signal, number, former)
                    signal.signal(number, lambda number, _: came.append(number))
            yield
    finally:
        for number in came:
            signal.raise_signal(number)


def stopped_code(stop: BaseException) -> int:
    """Return the exit code of a program that was interrupted: that of SystemExit, 130 after Ctrl-C."""
    given = getattr(stop, "code", None)
    return given if isinstance(given, int) else EXIT_INTERRUPTED
