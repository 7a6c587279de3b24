"""A process that runs one model in its runtime when it is asked to; `benchmark` starts several and asks them in turn.

A process of its own gives each model its own memory to be measured, and its own allocator and threads. Both ends speak
lines of JSON; a process ends with its input, so none outlives its parent.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from ..engine import child
from ..errors import RunError, YoloMHAError, one_line, with_type
from ..registry import Network
from .runtime import Runtime

WARMUP = 3  # passes at every new shape; TorchScript compiles in the first two
PAUSE = 0.01  # seconds
MIB = 2**20


class Worker:
    """The parent's end of such a process. It begins to open its model at once; `receive` waits until it has.

    Args:
        log: Where its messages go.
        network: The model, or the one that the file was made from.
        **request: What `_Served.open` takes.
    """

    def __init__(self, log: Path, network: Network, **request: Any) -> None:
        self._log = log
        with log.open("w", encoding="utf-8") as messages:
            self._process = subprocess.Popen(
                child.command(__name__, network),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=messages,
                encoding="utf-8",
                env=child.environment(),
            )
        self.send("open", **request)

    def send(self, do: str, **request: Any) -> None:
        """Send a request: the name of a method of `_Served`, and its arguments."""
        assert self._process.stdin
        with contextlib.suppress(OSError):  # it has ended, which `receive` reports
            print(json.dumps({"do": do, **request}), file=self._process.stdin, flush=True)

    def receive(self) -> dict[str, Any]:
        """Wait for the answer.

        Raises:
            RunError: The process met an error, or ended.
        """
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            last = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
            raise RunError("The process ended.", given=" ".join(last)[:300] or f"exit code {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise RunError(answer["error"])
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):  # what was never sent
                pipe.close()  # type: ignore[union-attr]


def main() -> None:
    """Serve requests on standard input and output."""
    answers = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)  # what libraries print belongs to the log
    served = _Served()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = getattr(served, request.pop("do"))(**request)
        except Exception as e:  # whatever the runtime meets
            answer = {"error": said(e)}
        print(json.dumps(answer), file=answers)


def said(error: Exception) -> str:
    """Say in one line what went wrong."""
    if isinstance(error, YoloMHAError):
        return one_line(" ".join(filter(None, (error.problem, error.given))))
    return with_type(error)


class _Served:
    """What the process does."""

    def open(self, file: str, device: str, library: str | None, trust: bool) -> dict[str, Any]:
        """Open the model; the runtime's library is loaded before, so that its own size is not the model's."""
        if library:
            import_module(library)
        self._device, self._base = device, psutil.Process().memory_info().rss / MIB
        self._run = Runtime(file, device, trust=trust)
        if device != "cpu" and self._run.device == "cpu":  # Ultralytics takes the CPU with a warning
            raise RunError("This runtime has no GPU here.", given=f"device={device}")
        return {"threads": torch.get_num_threads()}

    def start(self, batch: int, channels: int, size: int) -> dict[str, Any]:
        """Begin with another shape of input."""
        self._images = np.random.default_rng(0).random((batch, channels, size, size), dtype=np.float32)
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak starts anew
        for _ in range(WARMUP):
            self._run(self._images)
        return {}

    def time(self) -> dict[str, float]:
        """Time a pass, after another one that brings back what the other processes have pushed out of the caches."""
        self._run(self._images)
        start = time.perf_counter()
        self._run(self._images)
        seconds = time.perf_counter() - start
        _settle()
        return {"ms": seconds * 1e3}

    def finish(self) -> dict[str, float | None]:
        """Return the most memory held since `start`, beyond what was held before the model was opened, in MiB."""
        return {"mib": _peak_mib() - self._base if self._device == "cpu" else None}


def _settle() -> None:
    """Wait until all threads rest; those of ONNX Runtime go round for 30 ms, in which the next process would suffer."""
    for _ in range(40):
        before = time.process_time()
        time.sleep(PAUSE)
        if time.process_time() - before < PAUSE / 10:
            return


def _peak_mib() -> float:
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    memory = psutil.Process().memory_info()
    return float(getattr(memory, "peak_wset", memory.rss) / MIB)
