"""The process that trains one run of a comparison; `runs` starts it.

It reads a `Job` on standard input, which stays open. When the input ends, the process that started this one is gone or
wants no more, and this one ends at once, with every process that it has started. So nothing is left even after a kill.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypedDict

import psutil
from ultralytics.utils.torch_utils import strip_optimizer

from ..data.files import whole_file, write_text
from ..engine.epoch_seeds import EpochSeeds
from ..engine.memory import process_peak_mib
from ..engine.model import YOLO
from ..engine.run_folder import locked
from ..engine.start_record import StartRecord
from ..engine.train import Callbacks, train
from ..errors import YoloMHAError
from ..guard import read_checkpoint
from ..surgery.graft import gates
from .claims import is_held
from .run_code import CodeRecord

END = "end.json"
CLAIM_CHECK = 5.0  # seconds


class End(TypedDict):
    """Content of ``end.json``, see `Run`."""

    peak_mib: float
    gates: dict[str, float]


@dataclass(frozen=True)
class Job:
    """What to train.

    Attributes:
        settings: Arguments of `train`.
        seed: The seed.
        folder: The run's folder.
        keep_best: Whether best.pt stays.
        sources: SHA-256 of the source of each block, as planned.
        claim: File of the claim on the run, see `claims`.
        token: Of that claim; this process ends when another holds.
    """

    settings: dict[str, Any]
    seed: int
    folder: str
    keep_best: bool
    sources: dict[str, str]
    claim: str
    token: str


def main() -> None:
    """Train one `Job`, and write ``end.json`` into the run's folder when it is done."""
    # Where Ray is installed, Ultralytics would load its tuner, which takes seconds and has nothing to tune here.
    sys.modules["ultralytics.utils.callbacks.raytune"] = SimpleNamespace(callbacks={})  # type: ignore[assignment]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal; who started this one decides
    line = sys.stdin.readline()
    threading.Thread(target=_end_with_input, daemon=True).start()
    try:
        job = Job(**json.loads(line))
        threading.Thread(target=_end_with_claim, args=(job,), daemon=True).start()
        gates = _train(job)
        if not job.keep_best:
            (Path(job.folder) / "weights" / "best.pt").unlink(missing_ok=True)
        write_text(Path(job.folder) / END, json.dumps({"peak_mib": process_peak_mib(), "gates": gates}))
    except YoloMHAError as e:
        traceback.print_exc()
        print(f"error: {e}", file=sys.stderr)
        sys.exit(1)


def _train(job: Job) -> dict[int, float]:
    """Train from the start, or go on from the last checkpoint; return the gates at the end."""
    callbacks: Callbacks = {
        "on_pretrain_routine_end": CodeRecord(job.sources),
        "on_train_start": StartRecord(),
        "on_train_epoch_start": EpochSeeds(job.seed),
    }
    last = Path(job.folder) / "weights" / "last.pt"
    if not last.exists():
        return train(**job.settings, seed=job.seed, callbacks=callbacks).gates
    state = read_checkpoint(last)
    if state["optimizer"] is not None and state["epoch"] + 1 < state["train_args"]["epochs"]:
        return train(resume=last, data=job.settings["data"], callbacks=callbacks).gates
    with locked(Path(job.folder)):  # interrupted after the last epoch, so only this is left to do
        for file in last.parent.glob("*.pt"):
            with whole_file(file) as temporary:
                strip_optimizer(file, s=str(temporary))
    return gates(YOLO(last).model)


def _end_with_input() -> None:
    """Wait for the end of standard input, then end all processes below this one, and it."""
    while os.read(0, 1):  # not through sys.stdin, whose lock a forked worker would inherit
        pass
    _end()


def _end_with_claim(job: Job) -> None:
    """Wait until the claim is lost, as after a long pause of the process that renews it; then end."""
    while is_held(Path(job.claim), job.token):
        time.sleep(CLAIM_CHECK)
    _end()


def _end() -> None:
    """End all processes below this one, and it."""
    for process in psutil.Process().children(recursive=True):
        process.kill()
    os._exit(1)
