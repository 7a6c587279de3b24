"""A process that works on a network, and so has to know the user's blocks in it; both ends speak lines of JSON."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from ..errors import RunError, one_line
from ..guard import environment
from ..registry import Network, is_block

# Imports the modules of the blocks, then runs ``main`` of one of this package. The working directory, which -c puts
# first on the path, may be a stranger's.
SCRIPT = """
import sys
if sys.path[0] == "":
    del sys.path[0]
import importlib
for name in sys.argv[2:]:
    importlib.import_module(name)
importlib.import_module(sys.argv[1]).main()
"""


class Child:
    """The parent's end. The process ends when its standard input does, so none outlives its parent.

    Args:
        module: The module whose ``main`` it runs.
        network: The network that it works on; the modules of other registered blocks are left alone.
        log: Where its messages go.
        answers: Whether it answers on standard output, which is of the messages otherwise.
        append: Keep what is in the log.
    """

    def __init__(self, module: str, network: Network, log: Path, *, answers: bool = True, append: bool = False) -> None:
        blocks = {type(m).__module__ for m in network.modules() if is_block(type(m).__name__)}
        with log.open("ab" if append else "wb") as messages:
            self._log, self._log_start = log, messages.tell()
            self._process = subprocess.Popen(
                [sys.executable, "-c", SCRIPT, module, *sorted(blocks)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if answers else messages,
                stderr=messages,
                encoding="utf-8",
                env={**environment(), "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONUNBUFFERED": "1"},
            )

    def send(self, message: object) -> None:
        """Send a dataclass, or what JSON holds."""
        with contextlib.suppress(OSError):  # it has ended, which `receive` reports
            print(json.dumps(message, default=_plain), file=self._process.stdin, flush=True)

    def receive(self) -> Any:
        """Wait for an answer and return it.

        Raises:
            RunError: The process ended.
        """
        line = self._process.stdout.readline()  # type: ignore[union-attr]
        if not line:
            raise RunError("The process ended.", given=self.fault())
        return json.loads(line)

    def poll(self) -> int | None:
        """Return the exit code; None while it runs."""
        return self._process.poll()

    def end_input(self) -> None:
        """Send no more."""
        with contextlib.suppress(OSError):  # what was never sent
            self._process.stdin.close()  # type: ignore[union-attr]

    def close(self, patience: float = 0.0) -> None:
        """End the process.

        Args:
            patience: Seconds in which it may end by itself, its input being at an end.
        """
        self.end_input()
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()

    def fault(self) -> str:
        """Say what went wrong in a process that ended: its signal, the error that it printed, or its last line."""
        code = self._process.wait()
        if code < 0:
            hint = ", which the system sends where memory runs out" if code == -signal.SIGKILL else ""
            return f"ended by signal {-code} ({signal.strsignal(-code)}){hint}"
        with self._log.open("rb") as file:
            file.seek(self._log_start)
            lines = [x for x in file.read().decode("utf-8", errors="replace").splitlines() if x.strip()]
        for i in reversed(range(len(lines))):
            if lines[i].startswith("error: "):
                return " ".join(
                    x.removeprefix("error: ").strip().removeprefix("given:").strip() for x in lines[i : i + 2]
                )
        raised = [x for x in lines if not x.startswith(" ")]  # of a traceback, what was raised
        return one_line((raised or lines or [f"exit code {code}"])[-1])


def _plain(value: object) -> object:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else str(value)


def answering() -> Callable[[object], None]:
    """Begin to answer, at the process's own end: return what sends an answer; what libraries print is a message."""
    answers = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)
    return lambda answer: print(json.dumps(answer), file=answers)
