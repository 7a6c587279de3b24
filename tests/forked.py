"""Runs commands of the package in processes that can be killed at any moment; they begin with everything imported.

Importing PyTorch takes seconds, in which a command writes nothing. So one process imports all that commands use, and is
forked for each of them: a kill that is drawn from the duration of a command then falls into its work.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SERVER = """
import importlib, json, os, signal, sys, time
import yolo_mha
from yolo_mha.cli import main
for module in set(yolo_mha._MODULES.values()):
    importlib.import_module("yolo_mha." + module)
answers = os.fdopen(os.dup(1), "w", buffering=1)
print("ready", file=answers)
for line in sys.stdin:
    job = json.loads(line)
    process = os.fork()
    if not process:
        os.setsid()
        os.chdir(job["folder"])
        for number, name in ((0, os.devnull), (1, job["out"]), (2, job["err"])):
            os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666), number)
        code = 70
        try:
            main(job["words"])
        except SystemExit as end:
            code = int(end.code or 0)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    print(process, file=answers)
    print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), file=answers)
"""


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        code: Exit code; -9 after a kill.
        seconds: How long it ran.
        changes: How often names or sizes of files below its working directory were seen to change.
        size: Bytes of all files there at the end.
        out: What it printed.
        err: What it printed on standard error.
    """

    code: int
    seconds: float
    changes: int
    size: int
    out: str
    err: str


class Commands:
    """The process that is forked; ``close`` ends it.

    Args:
        logs: A folder for what commands print.
    """

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._server = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert self._server.stdout.readline() == "ready\n"

    def run(
        self,
        words: Sequence[object],
        folder: Path,
        kill_after: float = math.inf,
        kill_at_change: float = math.inf,
    ) -> Ended:
        """Run a command, and kill it with SIGKILL if it runs so long.

        Args:
            words: The words after ``yolo-mha``.
            folder: The working directory.
            kill_after: Seconds after which it is killed.
            kill_at_change: Number of changes of files after which it is killed.
        """
        out, err = self._logs / "out", self._logs / "err"
        job = {"words": [*map(str, words)], "folder": str(folder), "out": str(out), "err": str(err)}
        started, changes, before = time.monotonic(), 0, _files(folder)
        print(json.dumps(job), file=self._server.stdin, flush=True)
        process = int(self._server.stdout.readline())
        while not select.select([self._server.stdout], [], [], 0.002)[0]:
            changes += before != (before := _files(folder))
            if changes >= kill_at_change or time.monotonic() - started >= kill_after:
                with contextlib.suppress(ProcessLookupError):  # it has just ended
                    os.kill(process, signal.SIGKILL)
                break
        code = int(self._server.stdout.readline())
        texts = [file.read_text(encoding="utf-8", errors="replace") for file in (out, err)]
        return Ended(code, time.monotonic() - started, changes, sum(_files(folder).values()), *texts)

    def close(self) -> None:
        """End the process."""
        self._server.stdin.close()
        self._server.kill()
        self._server.wait()
        self._server.stdout.close()


def _files(folder: Path) -> dict[str, int]:
    """Return the sizes of files, by path."""
    found = {}
    for root, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                found[os.path.join(root, name)] = os.stat(os.path.join(root, name)).st_size
    return found
