"""Ctrl-C while the command line imports PyTorch, which takes seconds: one line and exit code 130, as later."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

AS_COMMAND = Path(sys.argv[0]).stem == "yolo-mha" or sys.orig_argv[1:3] == ["-m", "yolo_mha"]


def _leave(*_: object) -> None:
    os.write(2, b"interrupted\n")
    os._exit(130)  # nothing is open yet; an exception might be caught by what is being imported


def imported() -> None:
    """Say that everything is imported, so that Ctrl-C raises `KeyboardInterrupt` again."""
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


if AS_COMMAND and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _leave)
