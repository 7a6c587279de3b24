"""A process that takes training steps and says how much memory and time they need; `footprint` starts it.

It reads one line of JSON, see `Probe`, and answers a line when it is ready. Every further line makes it take one step
and answer its seconds; at the end of its input it answers the memory. A process of its own is what makes the memory of
one batch measurable on a CPU: a process that has run another batch before keeps some of that memory.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psutil
import torch
from torch import nn
from ultralytics.cfg import get_cfg
from ultralytics.utils.torch_utils import ModelEMA

from ..registry import Network

SAMPLING = 0.002  # seconds
MIB = 2**20


@dataclass(frozen=True)
class Probe:
    """What to run.

    Attributes:
        model: File that `torch.save` wrote of the whole model.
        imgsz: Height and width in pixels.
        batch: Number of images.
        objects: Labelled objects in each image.
        device: Name of the device.
        precision: "float32", or what autocast lowers it to.
        optimizer: Name of the optimizer, for the size of its state.
    """

    model: str
    imgsz: int
    batch: int
    objects: int
    device: str
    precision: str
    optimizer: str


def main() -> None:
    """Serve one `Probe` on standard input and output."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print belongs to the log
    probe = Probe(**json.loads(sys.stdin.readline()))
    device = torch.device(probe.device)
    _warm_up(device)
    with _peak(device) as memory:
        model = torch.load(probe.model, map_location=device, weights_only=False)
        steps = _steps(model, probe, device)
        print(json.dumps({"base_mib": memory["base"]}), file=answers)
        for _ in sys.stdin:
            start = now(device)
            fixed = next(steps)
            seconds = now(device) - start
            print(json.dumps({"seconds": seconds, "fixed": fixed}), file=answers)
    print(json.dumps({"mib": memory["peak"] - memory["base"]}), file=answers)


def _steps(model: Network, probe: Probe, device: torch.device) -> Iterator[float]:
    """Take one training step after the other, and yield the seconds of its part that does not depend on the batch."""
    model.args = get_cfg(overrides={"amp": probe.precision != "float32"})
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = _optimizer(probe.optimizer, parameters)
    ema = ModelEMA(model)
    half = probe.precision == "float16"
    scaler = torch.amp.GradScaler(device.type, enabled=half)
    dtype = torch.float16 if half else torch.bfloat16
    generator = torch.Generator().manual_seed(0)
    while True:
        batch = made_up_batch(probe.batch, probe.imgsz, probe.objects, model, generator, device)
        with torch.autocast(device.type, dtype, enabled=probe.precision != "float32"):
            loss = model.loss(batch)[0].sum()
        scaler.scale(loss).backward()
        start = now(device)
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(parameters, max_norm=10.0)
        scaler.step(optimizer)
        scaler.update()
        # Ultralytics gathers gradients over several batches, so they are there during the next forward
        optimizer.zero_grad(set_to_none=False)
        ema.update(model)
        del batch, loss
        yield now(device) - start


def made_up_batch(
    count: int, imgsz: int, objects: int, model: Network, generator: torch.Generator, device: torch.device
) -> dict[str, Any]:
    """Return a batch of noise images with random boxes, as the loss takes it.

    Args:
        count: Number of images B.
        imgsz: Height and width in pixels.
        objects: Boxes in each image.
        model: A detection model.
        generator: Source of the noise.
        device: Where the batch goes.
    """
    boxes = count * objects
    centres = 0.2 + 0.6 * torch.rand(boxes, 2, generator=generator)
    sizes = 0.05 + 0.3 * torch.rand(boxes, 2, generator=generator)
    head: Any = model.model[-1]
    channels, classes = model.yaml.get("channels", 3), head.nc
    return {
        "img": torch.rand(count, channels, imgsz, imgsz, generator=generator).to(device),  # (B, 3, H, W)
        "cls": torch.randint(0, classes, (boxes, 1), generator=generator).float().to(device),
        "bboxes": torch.cat([centres, sizes], 1).to(device),
        "batch_idx": torch.arange(count).repeat_interleave(objects).float().to(device),
    }


def _optimizer(name: str, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """Return an optimizer that keeps as much state as the named one and moves nothing."""
    if "sgd" in name.lower():
        return torch.optim.SGD(parameters, lr=0.0, momentum=0.9)
    return torch.optim.AdamW(parameters, lr=0.0)


def _warm_up(device: torch.device) -> None:
    """Take a step with a toy, so that what libraries load when they are first used is in the base."""
    toy = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.SiLU()).to(device)
    optimizer = torch.optim.AdamW(toy.parameters(), lr=0.0)
    toy(torch.rand(1, 3, 32, 32, device=device)).sum().backward()
    optimizer.step()
    ModelEMA(toy)


def now(device: torch.device) -> float:
    """Return the time in seconds, from any moment on.

    On a GPU it is that of the clock once the device has done its work. On a CPU it is what this thread has computed,
    which takes part in every operation: the same as the clock on a machine without other programs, and nearly so on
    one with them.

    Args:
        device: Where the work is done.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.thread_time()


@contextmanager
def _peak(device: torch.device) -> Iterator[dict[str, float]]:
    """Give a dictionary with the memory in use now, and in the end the most that was in use, in MiB.

    On a GPU that is what PyTorch has allocated; on a CPU what the process holds, which also counts the scratch memory
    of the kernels.
    """
    process, done = psutil.Process(), threading.Event()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        memory = {"base": torch.cuda.memory_allocated(device) / MIB}
        yield memory
        memory["peak"] = torch.cuda.max_memory_allocated(device) / MIB
        return
    base = process.memory_info().rss / MIB
    memory = {"base": base, "peak": base}

    def sample() -> None:
        while not done.wait(SAMPLING):
            memory["peak"] = max(memory["peak"], process.memory_info().rss / MIB)

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield memory
    finally:
        done.set()
        thread.join()
