"""What a model costs: parameters, operations, latency, memory."""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count
from ultralytics.nn.autobackend import AutoBackend

from ..engine.memory import MIB, allocator_peak_bytes

Key = TypeVar("Key")
ROUNDS, WARMUP = 15, 3
OUTSIDE = 3  # rounds beyond either bound: of 15, three or fewer lie on one side of the median in 1.8 % of cases


@dataclass(frozen=True)
class Cost:
    """Cost of one model.

    Attributes:
        parameters: Number of parameters as trained.
        gflops: Billions of floating-point operations of the matrix products, convolutions and attention for one image.
        latency_ms: Time of one image on the CPU, batch 1, fused, in milliseconds: the first model's median, times
            ``latency_ratio``.
        latency_ratio: Median over rounds of this model's time by the first model's in the same round.
        ratio_range: Between what bounds that median lies with 96 % confidence, by the order of the rounds.
        memory_mib: The most that one such pass holds at once beyond weights and input, in MiB.
    """

    parameters: int
    gflops: float
    latency_ms: float
    latency_ratio: float
    ratio_range: tuple[float, float]
    memory_mib: float


def count_gflops(model: nn.Module, imgsz: int) -> float:
    """Count operations at the real image size, so that attention's share grows with the square of the pixels.

    Args:
        model: The model.
        imgsz: Height and width in pixels.
    """
    # older PyTorch does not count the CPU's fused kernel
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    formulas = {kernel: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v)}  # type: ignore[no-untyped-call]
    with FlopCounterMode(display=False, custom_mapping=formulas) as counter, torch.no_grad():
        model.float().eval()(torch.zeros(1, 3, imgsz, imgsz))
    return float(counter.get_total_flops() / 1e9)


def measure(models: Mapping[str, nn.Module], imgsz: int) -> dict[str, Cost]:
    """Measure models side by side, as Ultralytics runs them on this machine's CPU.

    Every round times each model once, in an order that rotates, so that drift of the machine and the state in which
    one model leaves the caches for the next cancel.

    Args:
        models: PyTorch models by name; the first is the one that the others are compared with.
        imgsz: Height and width in pixels, a multiple of the models' stride.
    """
    counts = {name: (sum(p.numel() for p in m.parameters()), count_gflops(m, imgsz)) for name, m in models.items()}
    device = torch.device("cpu")
    ready = {name: AutoBackend(deepcopy(m), device=device, verbose=False).eval() for name, m in models.items()}
    images = torch.rand(1, 3, imgsz, imgsz)
    with torch.inference_mode():
        latency = time_side_by_side(ready, images)
        memory = {name: allocator_peak_bytes(partial(model, images), "cpu") for name, model in ready.items()}
    return {
        name: Cost(*counts[name], own.ms, own.ratio, own.ratio_range, round(memory[name] / MIB, 2))
        for name, own in latency.items()
    }


@dataclass(frozen=True)
class Latency:
    """Time of one pass of one of several models, see `Cost`.

    Attributes:
        ms: In milliseconds: the first model's median, times ``ratio``.
        ratio: Median over rounds of this model's time by the first model's in the same round.
        ratio_range: Between what bounds that median lies with 96 % confidence, by the order of the rounds.
    """

    ms: float
    ratio: float
    ratio_range: tuple[float, float]


def time_side_by_side(
    ready: Mapping[Key, Callable[[Any], object]], images: Any, rest: Callable[[], None] | None = None
) -> dict[Key, Latency]:
    """Time models in rounds, in an order that rotates.

    Args:
        ready: What runs each model, by name; the first is the one that the others are compared with.
        images: What they are called with.
        rest: Called after each pass, outside the time.
    """
    times: dict[Key, list[float]] = {name: [] for name in ready}
    order = deque(ready)
    for _ in range(WARMUP + ROUNDS):
        for name in order:
            start = time.perf_counter()
            ready[name](images)
            times[name].append((time.perf_counter() - start) * 1e3)
            if rest:
                rest()
        order.rotate(-1)
    taken = {name: own[WARMUP:] for name, own in times.items()}
    first, latency = next(iter(taken.values())), {}
    scale = statistics.median(first)
    for name, own in taken.items():
        ratios = sorted(a / b for a, b in zip(own, first, strict=True))
        ratio, bounds = statistics.median(ratios), (ratios[OUTSIDE], ratios[-1 - OUTSIDE])
        # a median of its own would be from other rounds than the ratio's, and the two could contradict each other
        latency[name] = Latency(scale * ratio, ratio, bounds)
    return latency
