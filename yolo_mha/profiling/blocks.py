"""Which block is to blame: its share of the network's time and memory, and the latency with and without blocks.

Times are the least of several, which other programs on the machine have disturbed least.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch

from ..registry import Network
from ..surgery.rows import blocks
from .probe import now
from .training_case import TrainingCase

ROUNDS, WARMUP = 5, 1


@dataclass(frozen=True)
class BlockShare:
    """What one block takes, as fractions of the whole network's.

    Attributes:
        row: Its row in the model YAML.
        block: Its class.
        training: Share of the time of forward and backward.
        memory: Share of what forward keeps for backward.
        inference: Share of the time of inference, fused.
    """

    row: int
    block: str
    training: float
    memory: float
    inference: float


def block_shares(model: Network, imgsz: int) -> list[BlockShare]:
    """Measure the blocks of a model on one noise image, in single precision.

    Args:
        model: A detection model.
        imgsz: Height and width in pixels.
    """
    rows = blocks(model.yaml)
    if not rows:
        return []
    model = deepcopy(model).float().train()
    # a single value has no variance, which BatchNorm refuses
    image = _image(model, imgsz, count=1 if imgsz > 32 else 2)
    inputs, kept = _kept_for_backward(model, rows, image)
    training = _backward_seconds(model, rows, inputs, image)
    fused = model.eval().fuse(verbose=False)
    inference = _inference_seconds(fused, rows, image)
    return [
        BlockShare(
            row=row,
            block=str((model.yaml["backbone"] + model.yaml["head"])[row][2]),
            training=training[row] / training[-1],
            memory=kept[row] / kept[-1],
            inference=inference[row] / inference[-1],
        )
        for row in rows
    ]


def latency_ms(cases: Mapping[str, TrainingCase]) -> dict[str, float]:
    """Return the least milliseconds of one image in inference, fused, one run of each model in turn.

    Args:
        cases: Models by name.
    """
    ready = {n: (deepcopy(c.model).eval().fuse(verbose=False), _image(c.model, c.imgsz)) for n, c in cases.items()}
    times: dict[str, list[float]] = {name: [] for name in cases}
    with torch.inference_mode():
        for _ in range(WARMUP + 3 * ROUNDS):
            for name, (model, image) in ready.items():
                start = now(image.device)
                model(image)
                times[name].append((now(image.device) - start) * 1e3)
    return {name: min(own[WARMUP:]) for name, own in times.items()}


def _kept_for_backward(model: Network, rows: list[int], image: torch.Tensor) -> tuple[dict[int, Any], dict[int, int]]:
    """Return what each block reads, and the bytes that forward keeps by row; the whole network's at -1."""
    inputs: dict[int, Any] = {}
    kept = dict.fromkeys([*rows, -1], 0)
    seen = {p.untyped_storage().data_ptr() for p in model.parameters()}
    running: list[int] = []

    def enter(row: int, given: Any) -> None:
        inputs[row] = given[0]
        running.append(row)

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in seen:  # several operations may keep the same tensor
            seen.add(storage.data_ptr())
            for row in {-1, *running}:
                kept[row] += storage.nbytes()
        return tensor

    with ExitStack() as stack:
        for row in rows:
            layer = model.model[row]
            stack.enter_context(layer.register_forward_pre_hook(lambda m, given, row=row: enter(row, given)))
            stack.enter_context(layer.register_forward_hook(lambda *_: running.pop() and None))
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            output = model(image)  # kept alive until here, so that no storage is counted under an old address
    del output
    return inputs, kept


def _backward_seconds(model: Network, rows: list[int], inputs: dict[int, Any], image: torch.Tensor) -> dict[int, float]:
    """Return the least seconds of forward and backward by row, each by itself; the whole network's at -1."""
    times: dict[int, list[float]] = {row: [] for row in [*rows, -1]}
    for _ in range(WARMUP + ROUNDS):
        for row, own in times.items():
            layer = model if row == -1 else model.model[row]
            given = image if row == -1 else _leaf(inputs[row])
            start = now(image.device)
            outputs = [t.sum() for t in tensors(layer(given)) if t.requires_grad]
            torch.stack(outputs).sum().backward()  # type: ignore[no-untyped-call]
            own.append(now(image.device) - start)
            model.zero_grad()
    return {row: min(own[WARMUP:]) for row, own in times.items()}


def _inference_seconds(model: Network, rows: list[int], image: torch.Tensor) -> dict[int, float]:
    """Return the least seconds of inference by row; the whole network's at -1."""
    times: dict[int, list[float]] = {row: [] for row in [*rows, -1]}
    started: dict[int, float] = {}

    def enter(row: int) -> None:
        started[row] = now(image.device)

    def leave(row: int) -> None:
        times[row].append(now(image.device) - started[row])

    for row in times:
        layer: Any = model if row == -1 else model.model[row]
        layer.register_forward_pre_hook(lambda *_, row=row: enter(row))
        layer.register_forward_hook(lambda *_, row=row: leave(row))
    with torch.inference_mode():
        for _ in range(WARMUP + ROUNDS):
            model(image)
    return {row: min(own[WARMUP:]) for row, own in times.items()}


def _leaf(given: Any) -> Any:
    """Return inputs that are cut off from the layers before, and yet want a gradient."""
    if isinstance(given, (list, tuple)):
        return [_leaf(g) for g in given]
    return given.detach().requires_grad_()


def tensors(value: Any) -> list[torch.Tensor]:
    """Return the floating-point tensors in what a module takes or gives."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [t for v in value for t in tensors(v)]
    return [value] if isinstance(value, torch.Tensor) and value.is_floating_point() else []


def _image(model: Network, imgsz: int, count: int = 1) -> torch.Tensor:
    """Return noise images (B, 3, H, W)."""
    channels = model.yaml.get("channels", 3)
    return torch.rand(count, channels, imgsz, imgsz, device=next(model.parameters()).device)
