"""What a model costs: parameters, operations, latency."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn
from ultralytics.utils.torch_utils import get_flops

ROUNDS, WARMUP = 15, 3


@dataclass(frozen=True)
class Cost:
    """Cost of one model.

    Attributes:
        parameters: Number of parameters as trained.
        gflops: Billions of operations for one image at the image size that was measured.
        latency_ms: Median time of one image, batch 1, fused, in milliseconds.
        latency_ratio: Median over rounds of this model's time by the first model's in the same round.
    """

    parameters: int
    gflops: float
    latency_ms: float
    latency_ratio: float


def measure(models: Mapping[str, nn.Module], imgsz: int, device: str = "cpu") -> dict[str, Cost]:
    """Measure models side by side: every round times each of them once, so that drift of the machine cancels.

    Args:
        models: PyTorch models by name; the first is the one that the others are compared with. They are left fused.
        imgsz: Height and width in pixels.
        device: Where to time them.
    """
    counts = {name: (sum(p.numel() for p in m.parameters()), float(get_flops(m, imgsz))) for name, m in models.items()}
    images = torch.rand(1, 3, imgsz, imgsz, device=device)
    fused = {name: m.float().eval().to(device).fuse(verbose=False) for name, m in models.items()}  # type: ignore[operator]
    times: dict[str, list[float]] = {name: [] for name in models}
    with torch.inference_mode():
        for _ in range(WARMUP + ROUNDS):
            for name, model in fused.items():
                start = time.perf_counter()
                model(images)
                if device != "cpu":
                    torch.cuda.synchronize()
                times[name].append((time.perf_counter() - start) * 1e3)
    first = times[next(iter(models))][WARMUP:]
    costs = {}
    for name, (parameters, gflops) in counts.items():
        own = times[name][WARMUP:]
        ratios = [a / b for a, b in zip(own, first, strict=True)]
        costs[name] = Cost(parameters, gflops, statistics.median(own), statistics.median(ratios))
    return costs
