"""A process that takes training steps and says how much memory and time they need; `footprint` starts it.

It reads a `Probe`, and answers with the memory in use, in MiB, when it is ready. Every further line makes it take one
step and answer two times, its seconds and those of its part that does not depend on the batch; at the end of its input
it answers with the memory that was used beyond the first, in MiB. A process of its own is what makes the memory of
one batch measurable on a CPU: a process that has run another batch before keeps some of that memory.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from ultralytics.engine.trainer import BaseTrainer
from ultralytics.utils.torch_utils import ModelEMA

from ..engine.child import answering
from ..engine.memory import sampled_peak
from ..registry import Network


@dataclass(frozen=True)
class Probe:
    """What to run.

    Attributes:
        model: File that `torch.save` wrote of the whole model, with its ``args``.
        imgsz: Height and width in pixels of the steps that are timed.
        largest_imgsz: The same of the step that takes the most memory.
        batch: Number of images.
        objects: Labelled objects in each image.
        device: Name of the device.
        precision: "float32", or what autocast lowers it to.
        optimizer: Name of the optimizer.
    """

    model: str
    imgsz: int
    largest_imgsz: int
    batch: int
    objects: int
    device: str
    precision: str
    optimizer: str


def main() -> None:
    """Serve one `Probe` on standard input and output."""
    answer = answering()
    probe = Probe(**json.loads(sys.stdin.readline()))
    device = torch.device(probe.device)
    _warm_up(device)
    with sampled_peak(device) as memory:
        model = torch.load(probe.model, map_location=device, weights_only=False)
        steps = _steps(model, probe, device)
        answer(memory.base_mib)
        for _ in sys.stdin:
            start = now(device)
            fixed = next(steps)
            answer((now(device) - start, fixed))
        if probe.largest_imgsz > probe.imgsz:
            steps.send(probe.largest_imgsz)
    answer(memory.peak_mib - memory.base_mib)


def _steps(model: Network, probe: Probe, device: torch.device) -> Generator[float, int | None, None]:
    """Take one training step after the other, and yield the seconds of its part that does not depend on the batch.

    The size of a step's images may be sent.
    """
    optimizer = build_optimizer(model, probe.optimizer)
    ema = ModelEMA(model)
    half = probe.precision == "float16"
    scaler = torch.amp.GradScaler(device.type, enabled=half)
    dtype = torch.float16 if half else torch.bfloat16
    generator = torch.Generator().manual_seed(0)
    imgsz: int | None = None
    while True:
        batch = made_up_batch(probe.batch, imgsz or probe.imgsz, probe.objects, model, generator)
        with torch.autocast(device.type, dtype, enabled=probe.precision != "float32"):
            loss = model.loss(batch)[0].sum()
        scaler.scale(loss).backward()
        start = now(device)
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=10.0)
        scaler.step(optimizer)
        scaler.update()
        # Ultralytics gathers gradients over several batches, so they are there during the next forward
        optimizer.zero_grad(set_to_none=False)
        ema.update(model)
        del batch, loss
        imgsz = yield now(device) - start


def made_up_batch(
    count: int, imgsz: int, objects: int, model: Network, generator: torch.Generator
) -> dict[str, torch.Tensor]:
    """Return a batch of noise images with random boxes, as the loss takes it, on the model's device.

    Args:
        count: Number of images B.
        imgsz: Height and width in pixels.
        objects: Boxes in each image.
        model: A detection model.
        generator: Source of the noise.
    """
    boxes, device = count * objects, next(model.parameters()).device
    centres = 0.2 + 0.6 * torch.rand(boxes, 2, generator=generator)
    sizes = 0.05 + 0.3 * torch.rand(boxes, 2, generator=generator)
    head: Any = model.model[-1]
    channels, classes = model.yaml.get("channels", 3), head.nc
    return {
        "img": torch.rand(count, channels, imgsz, imgsz, generator=generator).to(device),  # (B, C, H, W)
        "cls": torch.randint(0, classes, (boxes, 1), generator=generator).float().to(device),
        "bboxes": torch.cat([centres, sizes], 1).to(device),
        "batch_idx": torch.arange(count).repeat_interleave(objects).float().to(device),
    }


def build_optimizer(model: Network, name: str) -> torch.optim.Optimizer:
    """Build an optimizer as Ultralytics' trainer does; this one moves nothing."""
    built: torch.optim.Optimizer = BaseTrainer.build_optimizer(None, model, name, lr=0.0)  # no "auto", so no trainer
    return built


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
