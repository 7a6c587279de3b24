"""What training would take: memory and time of a step, estimated from small batches before the real one is allocated.

Two small batches are run, each in a process of its own, and a line through them gives the batch that is asked for:
weights, gradients, optimizer and average are the same for every batch, activations grow with it. Then, if that fits,
the real batch is measured, so that every page shows how far its estimate was off.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, closing
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import psutil
import torch

from ..engine.child import Child
from ..engine.memory import MIB
from ..errors import RunError
from .probe import Probe
from .training_case import TrainingCase

LEAST_ROUNDS, MOST_ROUNDS = 3, 20  # timed steps of each model, after one that is not timed
LEAST_SECONDS = 4.0  # that timed steps take together, within these rounds
ENOUGH_PIXELS = 320  # a side of one image; below that what the allocator happens to keep is not small beside it
RESERVE = 1.1  # what must be free for each byte of the estimate
CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Step:
    """One training step.

    Attributes:
        mib: Memory at its peak beyond what PyTorch itself takes, in MiB, at the largest size of ``multi_scale``.
        seconds: Time of the fastest at ``imgsz`` by `probe.now`, which other programs have disturbed least.
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
        errors: How far the estimate is from the measurement, as a fraction of that.
    """

    estimated: Step
    measured: Step | None
    probes: dict[int, Step]
    base_mib: float
    errors: dict[str, float] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        if self.measured is not None:
            own, true = asdict(self.estimated), asdict(self.measured)
            object.__setattr__(self, "errors", {key: own[key] / true[key] - 1 for key in own})

    @property
    def needed(self) -> float:
        """Memory that should be free for the whole process, in MiB."""
        return RESERVE * (self.estimated.mib + self.base_mib)

    def largest_batch(self, free_mib: float) -> int:
        """Return the largest batch that fits into the free memory; 0 where none does."""
        (a, first), (b, second) = sorted(self.probes.items())[-2:]
        slope = max((second.mib - first.mib) / (b - a), 1e-6)
        return max(int((free_mib / RESERVE - self.base_mib - first.mib) / slope) + a, 0)


class _Taken(NamedTuple):
    """A measured step, the seconds of its part that does not depend on the batch, and the memory before the model."""

    step: Step
    fixed: float
    base_mib: float


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


def footprints(
    cases: Mapping[str, TrainingCase], progress: Callable[[str], None] = lambda text: None
) -> dict[str, Footprint]:
    """Estimate what a training step takes, then measure it if it fits into the free memory.

    Models are measured side by side, one step of each in turn, so that drift of the machine cancels.

    Args:
        cases: Models by name, on one device with one batch.
        progress: Called with what is being done.

    Raises:
        RunError: A step failed.
    """
    first_case = next(iter(cases.values()))
    device, batch = first_case.device, int(first_case.args.batch)
    with tempfile.TemporaryDirectory(prefix="yolo-mha-doctor-") as folder:
        probes = {name: _probe(c, Path(folder) / f"{i}.pt") for i, (name, c) in enumerate(cases.items())}

        def take(names: Iterable[str], count: int) -> dict[str, _Taken]:
            progress(f"training steps with {count} image{'s' * (count > 1)}")
            return _take(cases, {name: replace(probes[name], batch=count) for name in names})

        small: dict[str, dict[int, _Taken]] = {name: {} for name in cases}

        def take_small(*counts: int) -> None:
            for count in counts:
                for name, taken in take(cases, count).items():
                    small[name][count] = taken

        free, half = free_memory(device), batch // 2
        first, second = small_batches(min(c.imgsz for c in cases.values()), batch)
        take_small(first, second)
        at_half = sum(_estimate(results, half).needed for results in small.values())
        if device.type == "cuda" and half // 2 > second and at_half < free:
            # a GPU takes as long for one image as for several, so its time shows with many images only
            take_small(half // 2, half)
        found = {name: _estimate(results, batch) for name, results in small.items()}
        fitting = [name for name, f in found.items() if f.needed <= free]
        together = sum(found[name].needed for name in fitting) <= free
        for group in [fitting] if together and fitting else [[name] for name in fitting]:
            for name, taken in take(group, batch).items():
                found[name] = replace(found[name], measured=taken.step)
    return found


def slowdown(case: TrainingCase, jobs: int) -> float:
    """Measure how much longer a training step takes while several are made at once.

    Args:
        case: What is trained.
        jobs: How many processes train it.

    Raises:
        RunError: A step failed.
    """
    if jobs == 1:
        return 1.0
    with tempfile.TemporaryDirectory(prefix="yolo-mha-doctor-") as folder:
        names = [str(number) for number in range(jobs)]
        probes = {name: _probe(case, Path(folder) / f"{name}.pt") for name in names}
        alone = _take({names[0]: case}, {names[0]: probes[names[0]]})[names[0]]
        together = _take(dict.fromkeys(names, case), probes, at_once=True)
    return max(sum(taken.step.seconds for taken in together.values()) / jobs / alone.step.seconds, 1.0)


def _probe(case: TrainingCase, file: Path) -> Probe:
    """Write the model of a case for a process, and say what that does with it."""
    torch.save(deepcopy(case.model).cpu(), file)
    return Probe(
        model=str(file),
        imgsz=case.imgsz,
        largest_imgsz=case.largest_imgsz,
        batch=int(case.args.batch),
        objects=case.objects,
        device=str(case.device),
        precision=case.precision,
        optimizer=case.optimizer,
    )


def small_batches(imgsz: int, batch: int) -> tuple[int, int]:
    """Return the two batches to draw a line through: of one image and two, or more of them where they are small.

    Args:
        imgsz: Height and width in pixels.
        batch: The batch that is asked for; both are smaller where that is possible.
    """
    least = 2 if imgsz <= 32 else 1  # a single value has no variance, which BatchNorm refuses
    first = max(least, min(-(-(ENOUGH_PIXELS**2) // imgsz**2), batch // 2))
    return first, first + max(first // 2, 1)


def _estimate(probes: dict[int, _Taken], batch: int) -> Footprint:
    """Draw the line through the two largest batches.

    The time that does not depend on the batch is at least the optimizer's, which is measured by itself, and at most
    that of the smaller batch; this keeps the noise of short measurements from being carried far out.
    """
    (a, (first, _, base)), (b, (second, fixed, _)) = sorted(probes.items())[-2:]
    mib = first.mib + (second.mib - first.mib) / (b - a) * (batch - a)
    constant = min(max((b * first.seconds - a * second.seconds) / (b - a), fixed), first.seconds, second.seconds)
    seconds = constant + (second.seconds - constant) / b * batch
    return Footprint(Step(mib, seconds), None, {n: step for n, (step, _, _) in sorted(probes.items())}, base)


def _take(cases: Mapping[str, TrainingCase], probes: Mapping[str, Probe], at_once: bool = False) -> dict[str, _Taken]:
    """Run probes side by side, one step of each in turn, or of all at once."""
    with ExitStack() as stack:
        children: dict[str, Child] = {}
        for name, probe in probes.items():
            log = Path(probe.model).with_suffix(".log")
            children[name] = stack.enter_context(closing(Child(Probe.__module__, cases[name].model, log)))
            children[name].send(probe)
        try:
            bases = {name: child.receive() for name, child in children.items()}
            taken: dict[str, list[tuple[float, float]]] = {name: [] for name in probes}
            for done in range(1 + MOST_ROUNDS):
                enough = all(sum(seconds for seconds, _ in own[1:]) > LEAST_SECONDS for own in taken.values())
                if done > LEAST_ROUNDS and enough:
                    break
                for turn in [list(children)] if at_once else [[name] for name in children]:
                    for name in turn:
                        children[name].send("step")
                    for name in turn:
                        taken[name].append(children[name].receive())
            result = {}
            for name, child in children.items():
                child.end_input()
                seconds, fixed = map(min, zip(*taken[name][1:], strict=True))
                result[name] = _Taken(Step(child.receive(), seconds), fixed, bases[name])
            return result
        except RunError as e:
            fix = "a smaller batch or imgsz, if memory is short"
            raise RunError("A training step failed.", given=e.given, fix=fix) from e
