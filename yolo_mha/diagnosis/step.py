"""One real forward and backward pass in the precision of training; a NaN is found and located."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import nn
from ultralytics.data import build_yolo_dataset
from ultralytics.data.utils import img2label_paths

from ..data.dataset import Dataset, Sample
from ..errors import one_line
from ..profiling.blocks import tensors
from ..profiling.training_case import TrainingCase
from ..registry import Network
from .check import Check

NAME = "forward and backward"
LARGEST_FLOAT16 = 65504.0
SCALES = (65536.0, 256.0, 1.0)  # of the loss; training starts with the first and backs off where gradients overflow
MOST_IMAGES = 4


class Watch:
    """Watch a model run: the first module that makes NaN or infinity from finite input, in the order of execution.

    Also a context manager. Afterwards ``fault`` describes that module or is None, ``inside`` lists the modules that
    were running when an error stopped the model, and ``largest`` is the largest absolute value and where it was.

    Args:
        model: A model of Ultralytics.
    """

    def __init__(self, model: Network) -> None:
        self.model = model
        self.names = {m: name for name, m in model.named_modules() if name}
        self.fault: str | None = None
        self.inside: list[str] = []
        self.largest = (0.0, "")

    def __enter__(self) -> Watch:
        self._handles = [m.register_forward_pre_hook(self._enter) for m in self.names]
        self._handles += [m.register_forward_hook(self._leave) for m in self.names]
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for handle in self._handles:
            handle.remove()

    def _enter(self, module: nn.Module, inputs: Any) -> None:
        self.inside.append(self.names[module])

    def _leave(self, module: nn.Module, inputs: Any, output: Any) -> None:
        name = self.inside.pop()
        tops = [float(t.detach().abs().max()) for t in tensors(output) if t.numel()]
        if all(map(math.isfinite, tops)):
            self.largest = max(self.largest, *((top, name) for top in tops))
        elif self.fault is None and all(torch.isfinite(t).all() for t in tensors(inputs)):
            own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
            broken = non_finite(dict(own))
            why = f", whose {broken} holds it already" if broken else ""
            self.fault = located(self.model, name) + why


def located(model: Network, name: str) -> str:
    """Return a module's full name together with its row: ``model.10.attn.qkv (row 10, SpatialMHABlock)``."""
    parts = name.split(".")
    if len(parts) < 2 or not parts[1].isdecimal():
        return name
    return f"{name} (row {parts[1]}, {type(model.model[int(parts[1])]).__name__})"


def non_finite(named: Mapping[str, torch.Tensor | None]) -> str | None:
    """Return the name of the first tensor that holds NaN or infinity."""
    return next((name for name, t in named.items() if t is not None and not torch.isfinite(t).all()), None)


def check_step(
    model: Network, batch: Mapping[str, torch.Tensor], precision: str, stands_in: bool, kind: str = "images"
) -> Check:
    """Run the loss forward and backward once.

    Args:
        model: The model as training would build it, with ``args``.
        batch: From `training_batch` or `probe.made_up_batch`.
        precision: "float32", "float16" or "bfloat16".
        stands_in: Whether the precision stands in for float16, whose range is smaller.
        kind: What the batch is made of, for the message.
    """
    device = next(model.parameters()).device
    batch = {k: v.to(device) for k, v in batch.items()}
    watch = Watch(model.train())
    images = f"{len(batch['img'])} {kind} in {precision}"
    dtype = getattr(torch, precision)
    try:
        with watch, torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            loss = model.loss(batch)[0].sum()
    except Exception as e:  # a block may fail in its own way
        place = located(model, watch.inside[-1]) if watch.inside else "the loss"
        message = f"A forward pass with {images} stops in {place}: {one_line(e)}."
        return Check(NAME, "failed", message, "correct this row of the model YAML, or its block")
    value = float(loss.detach())
    details = {"precision": precision, "images": len(batch["img"]), "loss": value}
    if watch.fault:
        message = f"A forward pass with {images} turns to NaN or infinity in {watch.fault}."
        fix = "train from weights without NaN" if "holds" in watch.fault else "train with amp=False, or lower lr0"
        return Check(NAME, "failed", message, fix, {**details, "module": watch.fault})
    if not torch.isfinite(loss):
        message = f"The loss of {images} is {value:g} though every layer's output is finite."
        return Check(NAME, "failed", message, "train with amp=False, and check the labels", details)
    broken = _gradients(model, loss, precision)
    if broken:
        place = located(model, broken)
        message = f"A backward pass with {images} gives {place} a gradient of NaN or infinity."
        return Check(NAME, "failed", message, "train with amp=False", {**details, "parameter": broken})
    top, where = watch.largest
    details["largest_activation"] = top
    if stands_in and top > LARGEST_FLOAT16:
        message = f"Finite with {images}, but {located(model, where)} reaches {top:.3g}, beyond float16's range."
        return Check(NAME, "warning", message, "train with amp=bf16 or amp=False on a GPU", details)
    as_on_gpu = ", in place of float16 on a GPU" if stands_in else ""
    return Check(NAME, "ok", f"Finite with {images}{as_on_gpu}, loss {value:.3g}.", None, details)


def _gradients(model: Network, loss: torch.Tensor, precision: str) -> str | None:
    """Run backward; return the parameter whose gradient is the first on the way back to be not finite."""
    scales = SCALES if precision == "float16" else (1.0,)
    for scale in scales:
        model.zero_grad()
        (loss * scale).backward(retain_graph=scale != scales[-1])  # type: ignore[no-untyped-call]
        broken = non_finite({name: p.grad for name, p in reversed(list(model.named_parameters()))})
        if broken is None:
            break
    model.zero_grad()
    return broken


def training_batch(
    dataset: Dataset, samples: Sequence[Sample], case: TrainingCase, count: int
) -> dict[str, torch.Tensor]:
    """Load images with Ultralytics' own dataset, augmented as in training.

    The images are copied aside first, so that Ultralytics reads no others.

    Args:
        dataset: The dataset.
        samples: Its training samples; those with objects come first.
        case: What is trained.
        count: Number of images.
    """
    chosen = sorted(samples, key=lambda s: not len(s.classes))[:: max(len(samples) // (4 * count), 1)][: 4 * count]
    with tempfile.TemporaryDirectory(prefix="yolo-mha-doctor-") as folder:
        for kind in ("images", "labels"):
            (Path(folder) / kind).mkdir()
        for i, sample in enumerate(chosen):
            shutil.copyfile(sample.file, Path(folder) / "images" / f"{i:04d}{sample.image.suffix}")
            label = Path(img2label_paths([str(sample.file)])[0])
            if label.is_file():
                shutil.copyfile(label, Path(folder) / "labels" / f"{i:04d}.txt")
        data = {"names": dataset.names, "nc": len(dataset.names), "channels": case.channels}
        images = str(Path(folder) / "images")
        stride = int(case.model.stride.max())
        loader = build_yolo_dataset(case.args, images, count, data, mode="train", stride=stride, fraction=1.0)
        items = [loader[i % len(loader)] for i in range(count)]
    batch = {k: v for k, v in loader.collate_fn(items).items() if isinstance(v, torch.Tensor)}
    return {**batch, "img": batch["img"].float() / 255}  # (B, C, H, W)
