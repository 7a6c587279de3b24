"""A process that runs one model in its runtime when it is asked to; `benchmark` starts several and asks them in turn.

A process of its own gives each model its own memory to be measured, and its own allocator and threads.
"""

from __future__ import annotations

import json
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..engine.child import Child, answering
from ..engine.memory import peak_since_reset_mib, reset_peak, resident_mib
from ..errors import RunError, YoloMHAError, one_line, with_type
from ..registry import Network
from .runtime import Runtime

WARMUP = 3  # passes at every new shape; TorchScript compiles in the first two
PAUSE = 0.01  # seconds
Answer = dict[str, float | str | None]  # what was asked for, or an error


class Worker(Child):
    """The parent's end of such a process. It begins to open its model at once; `receive` waits until it has.

    Args:
        log: Where its messages go.
        network: The model, or the one that the file was made from.
        **request: What `_Served.open` takes.
    """

    def __init__(self, log: Path, network: Network, **request: Any) -> None:
        super().__init__(__name__, network, log)
        self.ask("open", **request)

    def ask(self, do: str, **request: Any) -> None:
        """Send a request: the name of a method of `_Served`, and its arguments."""
        self.send({"do": do, **request})

    def receive(self) -> Answer:
        """Wait for the answer.

        Raises:
            RunError: The process met an error, or ended.
        """
        answer: Answer = super().receive()
        if "error" in answer:
            raise RunError(str(answer["error"]))
        return answer


def main() -> None:
    """Serve requests on standard input and output."""
    answer = answering()
    served = _Served()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer(getattr(served, request.pop("do"))(**request))
        except Exception as e:  # whatever the runtime meets
            answer({"error": said(e)})


def said(error: Exception) -> str:
    """Say in one line what went wrong."""
    if isinstance(error, YoloMHAError):
        return one_line(" ".join(filter(None, (error.problem, error.given))))
    return with_type(error)


class _Served:
    """What the process does."""

    def open(self, file: str, device: str, library: str | None, trust: bool) -> Answer:
        """Open the model; the runtime's library is loaded before, so that its own size is not the model's."""
        if library:
            import_module(library)
        self._device, self._base = device, resident_mib()
        self._run = Runtime(file, device, trust=trust)
        if device != "cpu" and self._run.device == "cpu":  # Ultralytics takes the CPU with a warning
            raise RunError("This runtime has no GPU here.", given=f"device={device}", expected="device=cpu")
        return {"threads": torch.get_num_threads()}

    def start(self, batch: int, channels: int, size: int) -> Answer:
        """Begin with another shape of input."""
        self._images = np.random.default_rng(0).random((batch, channels, size, size), dtype=np.float32)
        reset_peak()
        for _ in range(WARMUP):
            self._run(self._images)
        return {}

    def time(self) -> Answer:
        """Time a pass, after another one that brings back what the other processes have pushed out of the caches."""
        self._run(self._images)
        start = time.perf_counter()
        self._run(self._images)
        seconds = time.perf_counter() - start
        settle()
        return {"ms": seconds * 1e3}

    def finish(self) -> Answer:
        """Return the most memory held since `start`, beyond what was held before the model was opened, in MiB."""
        return {"mib": peak_since_reset_mib() - self._base if self._device == "cpu" else None}


def settle() -> None:
    """Wait until all threads rest; those of ONNX Runtime go round for 30 ms, in which the next process would suffer."""
    for _ in range(40):
        before = time.process_time()
        time.sleep(PAUSE)
        if time.process_time() - before < PAUSE / 10:
            return
