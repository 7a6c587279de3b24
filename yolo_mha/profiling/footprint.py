"""What training would take: memory and time of a step, estimated from small batches before the real one is allocated.

Two small batches are run, each in a process of its own, and a line through them gives the batch that is asked for:
weights, gradients, optimizer and average are the same for every batch, activations grow with it. Then, if that fits,
the real batch is measured, so that every page shows how far its estimate was off.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any

import psutil
import torch

from ..engine import child
from ..errors import RunError
from ..registry import Network
from .probe import MIB, Probe

LEAST_ROUNDS, MOST_ROUNDS = 3, 20  # timed steps of each model, after one that is not timed
LEAST_SECONDS = 4.0  # that timed steps take together, within these rounds
ENOUGH_PIXELS = 320  # a side of one image; below that what the allocator happens to keep is not small beside it
RESERVE = 1.1  # what must be free for each byte of the estimate
CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Step:
    """One training step.

    Attributes:
        mib: Memory at its peak beyond what PyTorch itself takes, in MiB.
        seconds: Time of the fastest by `probe.now`, which other programs have disturbed least.
    """

    mib: float
    seconds: float


@dataclass(frozen=True)
class Footprint:
    """Memory and time of one model in training.

    Attributes:
        estimated: From small batches.
        measured: With the batch itself; None where that would not fit.
        probes: The small batches, by their number of images.
        base_mib: Memory of the process before there was a model.
    """

    estimated: Step
    measured: Step | None
    probes: dict[int, Step]
    base_mib: float

    @property
    def errors(self) -> dict[str, float] | None:
        """How far the estimate is from the measurement, as a fraction of that."""
        if self.measured is None:
            return None
        own, true = asdict(self.estimated), asdict(self.measured)
        return {key: own[key] / true[key] - 1 for key in own}

    @property
    def needed(self) -> float:
        """Memory that should be free for the whole process, in MiB."""
        return RESERVE * (self.estimated.mib + self.base_mib)

    def largest_batch(self, free_mib: float) -> int:
        """Return the largest batch that fits into the free memory; 0 where none does."""
        (a, first), (b, second) = sorted(self.probes.items())[-2:]
        slope = max((second.mib - first.mib) / (b - a), 1e-6)
        return max(int((free_mib / RESERVE - self.base_mib - first.mib) / slope) + a, 0)

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "errors": self.errors}


def free_memory(device: torch.device) -> float:
    """Return the memory that a new process may still take, in MiB; a container's limit counts."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0] / MIB)
    free = float(psutil.virtual_memory().available / MIB)
    try:
        limit, used = ((CGROUP / f"memory.{name}").read_text().strip() for name in ("max", "current"))
        cached = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
        return min(free, (int(limit) - int(used) + int(cached.get("inactive_file", 0))) / MIB)
    except (OSError, ValueError):  # no container, or one without a limit
        return free


def busy() -> float:
    """Return the share of the processor that is in use while this process waits, 0 to 1."""
    return float(psutil.cpu_percent(interval=0.5) / 100)


def footprints(
    models: Mapping[str, Network],
    probe: Probe,
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, Footprint]:
    """Estimate what a training step takes, then measure it if it fits into the free memory.

    Models are measured side by side, one step of each in turn, so that drift of the machine cancels.

    Args:
        models: Detection models by name.
        probe: What to run; its ``model`` is filled in.
        progress: Called with what is being done.

    Raises:
        RunError: A step failed.
    """
    device = torch.device(probe.device)
    with tempfile.TemporaryDirectory(prefix="yolo-mha-doctor-") as folder:
        files: dict[str, str] = {}
        for name, model in models.items():
            files[name] = str(Path(folder) / f"{len(files)}.pt")
            torch.save(deepcopy(model).cpu(), files[name])
        small: dict[str, dict[int, Any]] = {name: {} for name in models}

        def estimate(batches: tuple[int, int], target: int) -> dict[str, Footprint]:
            for batch in batches:
                progress(f"training steps with {batch} image{'s' * (batch > 1)}")
                batches_of = {n: replace(probe, model=f, batch=batch) for n, f in files.items()}
                for name, result in _take(models, batches_of).items():
                    small[name][batch] = result
            return {name: _estimate(results, target) for name, results in small.items()}

        free = free_memory(device)
        first, second = small_batches(probe.imgsz, probe.batch)
        half = probe.batch // 2
        found = estimate((first, second), half)
        if device.type == "cuda" and half // 2 > second and sum(f.needed for f in found.values()) < free:
            # a GPU takes as long for one image as for several, so its time shows with many images only
            estimate((half // 2, half), half)
        found = {name: _estimate(results, probe.batch) for name, results in small.items()}
        fitting = [name for name, f in found.items() if f.needed <= free]
        if not fitting:
            return found
        progress(f"training steps with {probe.batch} images")
        together = sum(found[name].needed for name in fitting) <= free
        groups = [fitting] if together else [[name] for name in fitting]
        for group in groups:
            for name, (step, _, _) in _take(models, {n: replace(probe, model=files[n]) for n in group}).items():
                found[name] = replace(found[name], measured=step)
    return found


def small_batches(imgsz: int, batch: int) -> tuple[int, int]:
    """Return the two batches to draw a line through: of one image and two, or more of them where they are small.

    Args:
        imgsz: Height and width in pixels.
        batch: The batch that is asked for; both are smaller where that is possible.
    """
    least = 2 if imgsz <= 32 else 1  # a single value has no variance, which BatchNorm refuses
    first = max(least, min(-(-(ENOUGH_PIXELS**2) // imgsz**2), batch // 2))
    return first, first + max(first // 2, 1)


def _estimate(probes: dict[int, tuple[Step, float, float]], batch: int) -> Footprint:
    """Draw the line through the two largest batches.

    The time that does not depend on the batch is at least the optimizer's, which is measured by itself, and at most
    that of the smaller batch; this keeps the noise of short measurements from being carried far out.
    """
    (a, (first, _, base)), (b, (second, fixed, _)) = sorted(probes.items())[-2:]
    mib = first.mib + (second.mib - first.mib) / (b - a) * (batch - a)
    constant = min(max((b * first.seconds - a * second.seconds) / (b - a), fixed), first.seconds, second.seconds)
    seconds = constant + (second.seconds - constant) / b * batch
    return Footprint(Step(mib, seconds), None, {n: step for n, (step, _, _) in sorted(probes.items())}, base)


def _take(models: Mapping[str, Network], probes: Mapping[str, Probe]) -> dict[str, tuple[Step, float, float]]:
    """Run probes side by side, one step of each in turn.

    Returns:
        The step, the seconds of its part that does not depend on the batch, and the memory before there was a model.
    """
    with tempfile.TemporaryFile() as log:
        processes = {name: _start(models[name], log) for name in probes}
        try:
            for name, probe in probes.items():
                _tell(processes[name], json.dumps(asdict(probe)))
            bases = {name: _answer(p, log)["base_mib"] for name, p in processes.items()}
            taken: dict[str, list[dict[str, float]]] = {name: [] for name in probes}
            for done in range(1 + MOST_ROUNDS):
                enough = all(sum(t["seconds"] for t in own[1:]) > LEAST_SECONDS for own in taken.values())
                if done > LEAST_ROUNDS and enough:
                    break
                for name, process in processes.items():
                    _tell(process, "step")
                    taken[name].append(_answer(process, log))
            result = {}
            for name, process in processes.items():
                process.stdin.close()  # type: ignore[union-attr]
                seconds, fixed = (min(t[key] for t in taken[name][1:]) for key in ("seconds", "fixed"))
                result[name] = (Step(_answer(process, log)["mib"], seconds), fixed, bases[name])
            return result
        finally:
            for process in processes.values():
                process.kill()
                process.wait()


def _start(network: Network, log: IO[bytes]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        child.command(Probe.__module__, network),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        bufsize=1,
        env=child.environment(),
    )


def _tell(process: subprocess.Popen[str], line: str) -> None:
    with contextlib.suppress(BrokenPipeError):  # the answer that then does not come says why
        print(line, file=process.stdin, flush=True)


def _answer(process: subprocess.Popen[str], log: IO[bytes]) -> dict[str, float]:
    line = process.stdout.readline()  # type: ignore[union-attr]
    if not line:
        log.seek(0)
        written = log.read().decode(errors="replace").splitlines()
        lines = [x for x in written if x.strip() and not x.startswith(" ")]  # of a traceback, what was raised
        code = process.wait()
        killed = "killed, as a system does that is short of memory" if code == -9 else f"exit code {code}"
        given = lines[-1].strip() if lines and code != -9 else killed
        raise RunError("A training step failed.", given=given, fix="a smaller batch or imgsz, if memory is short")
    return dict(json.loads(line))
