"""`doctor`: one page before hours of training. What would go wrong, what it would cost, and which block is to blame."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import nn
from ultralytics.cfg import get_cfg

from ..data.data_check import STOP, check_bad
from ..data.dataset import Dataset, Sample, load_dataset
from ..engine import settings as config
from ..engine.model import YOLO, require_detection
from ..engine.own_settings import checked
from ..engine.progress import bar, with_bar, without_messages
from ..errors import CheckpointError, ConfigError, ModelError
from ..guard import guarded
from ..paths import given_path, shipped
from ..profiling.blocks import BlockShare, block_shares, latency_ms
from ..profiling.footprint import RESERVE, Footprint, footprints, free_memory
from ..profiling.probe import made_up_batch
from ..profiling.training_case import TrainingCase, image_channels
from ..registry import find_model_yaml
from ..result import Result
from ..surgery.graft import without_blocks
from ..surgery.insertion import BLOCK, Insertion, block_options
from ..surgery.rows import blocks
from .check import Check, failed
from .data import check_data, class_layers
from .model import check_export, check_heads, check_registration, check_sizes
from .step import MOST_IMAGES, check_step, training_batch

WITH_BLOCKS, WITHOUT_BLOCKS = "with attention", "without attention"
MOST_BUSY = 0.3  # share of the processor in other hands, beyond which times are rough
MOST_TIMES_DEARER = 1.5  # times the cost without blocks; above it, a warning names the block that costs most


@dataclass(frozen=True)
class Diagnosis(Result):
    """The doctor's page.

    Attributes:
        settings: What the page holds for.
        checks: What was checked, in order.
        footprints: Memory and time of a training step by model, ``WITH_BLOCKS`` and ``WITHOUT_BLOCKS``.
        latency_ms: Time of one image in inference, likewise.
        blocks: Each block's share of the network's time and memory.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)
    footprints: dict[str, Footprint] = field(default_factory=dict)
    latency_ms: dict[str, float] = field(default_factory=dict)
    blocks: list[BlockShare] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return all(check.status != "failed" for check in self.checks)

    def as_dict(self) -> dict[str, Any]:
        return {"ok": self.ok, **super().as_dict()}


@checked
@guarded()
def doctor(
    model: str | Path,
    data: str | Path | None = None,
    *,
    at: str | Iterable[str] | None = None,
    block: str = BLOCK,
    bad: str = STOP,
    trust: bool = False,
    **settings: Any,
) -> Diagnosis:
    """Examine a model, a dataset and this machine before training.

    Nothing is written but what `read_dataset` makes of a dataset, and ``data="beacons"``.

    Args:
        model: Model YAML or checkpoint.
        data: Dataset YAML; without one, a generated batch is used.
        at: Where `train` would put attention into the model first, see `insert`.
        block: Class name of the block that goes there; its options are settings too.
        bad: What is done about damaged images and labels, see `read_dataset`.
        trust: Read the checkpoint with full pickle, for files that you made yourself.
        **settings: Ultralytics' training settings: ``imgsz``, ``batch``, ``device``, ``amp``, ...

    Returns:
        The page; ``ok`` is False where a check failed.

    Raises:
        ConfigError: A setting is unknown or unusable.
        ModelError, CheckpointError, DataError: The model or the dataset YAML is not there.
        UnsupportedTaskError: The model is not for box detection.
    """
    insertion, rest = Insertion.from_settings({"at": at, "block": block, **settings})
    passed = config.check(rest, own=("at", "block", *block_options(block)))
    check_bad(bad)
    for key in ("imgsz", "batch"):
        if passed.get(key) is not None and (type(passed[key]) is not int or passed[key] < 1):
            raise ConfigError(f"{key} must be a whole number.", given=f"{key}={passed[key]}", expected="1 or more")
    if "," in str(passed.get("device", "")):
        raise ConfigError(
            "doctor checks one device at a time.",
            given=f"device={passed['device']}",
            expected="one of them",
            fix="device=0, and the batch divided by the number of GPUs",
        )
    page = Diagnosis()
    with _quiet():
        network = _open(model, trust, page)
        if insertion and network:
            network.model, _ = insertion.apply(network.model)
    dataset = load_dataset(data, with_bar) if data is not None else None
    with _quiet():
        of_data, samples = _examine(dataset, passed.get("split", "val"), bad)
    if network is None:
        page.checks.extend(of_data)
        return page
    with _quiet(), bar() as progress:
        args = get_cfg(overrides=passed)
        if "imgsz" not in passed and type(own := network.overrides.get("imgsz")) is int:
            args.imgsz = own  # a checkpoint brings its own
        names, channels = (dataset.names, image_channels(dataset)) if dataset else (None, None)
        case = TrainingCase.of(network.model, args, names, samples, channels)
        page.settings.update({"model": str(model), "at": None, **(insertion.settings() if insertion else {})})
        page.settings.update(data=str(data), imgsz=case.imgsz, batch=args.batch)
        page.settings.update(device=str(case.device), precision=case.precision)
        checks: dict[str, Callable[[], Check | list[Check]]] = {
            "registration": lambda: check_registration(network, trust),
            "channels and heads": lambda: check_heads(case.model, case.imgsz),
            "dataset": lambda: [*of_data, *_same_classes(network, dataset, args)],
            "image sizes": lambda: check_sizes(case.model, case.imgsz),
            "memory and time": lambda: _cost(case, page, say),
            "forward and backward": lambda: _step(case, dataset, samples, page),
            "export": lambda: check_export(network, case.imgsz, trust),
        }
        task = progress.add_task("examining", total=len(checks))

        def say(text: str) -> None:
            progress.update(task, description=text)

        for name, check in checks.items():
            say(name)
            try:
                found = check()
            except Exception as e:  # it is a row of the page, and hides no other check
                found = failed(name, e)
            page.checks.extend(found if isinstance(found, list) else [found])
            progress.advance(task)
    return page


def _open(model: str | Path, trust: bool, page: Diagnosis) -> YOLO | None:
    """Open the model; one that is there and cannot be opened is a failed check."""
    name = str(given_path(model, "model"))
    bundled = {file.name for file in shipped("weights").glob("*.pt")}
    there = find_model_yaml(name) if name.endswith((".yaml", ".yml")) else name in bundled or Path(name).exists()
    try:
        network = YOLO(model, trust=trust)
    except (ModelError, CheckpointError) as e:
        if not there:
            raise
        page.checks.append(failed("model", e))
        return None
    if not isinstance(network.model, nn.Module):
        raise ConfigError("An exported model cannot be trained.", given=f"model={model}", expected="a .pt or .yaml")
    require_detection(network.task, "doctor")
    return network


def _examine(dataset: Dataset | None, split: str, bad: str) -> tuple[list[Check], Sequence[Sample]]:
    """Check the dataset; return also the samples to train on."""
    if dataset is None:
        return [Check("dataset", "skipped", "No dataset given, so the batch is generated.", "add data=...")], []
    try:
        return check_data(dataset, ("train", split), with_bar, bad)
    except Exception as e:  # as with every other check
        return [failed("dataset", e)], []


def _same_classes(network: YOLO, dataset: Dataset | None, args: Any) -> list[Check]:
    """Say what training will do where the model's classes are not the dataset's."""
    if dataset is None or not network.ckpt:
        return []
    if not (said := class_layers(network.names, dataset.names, args.cls_remap)):
        return []
    message = f"The checkpoint has {len(network.names)} classes and the dataset {len(dataset.names)}: {said}."
    return [Check("classes of the checkpoint", "warning", message, "nothing, if you want to train new classes")]


def _step(case: TrainingCase, dataset: Dataset | None, samples: Sequence[Sample], page: Diagnosis) -> Check:
    """Run forward and backward on real images where there are some, on no more of them than memory was found for."""
    free = free_memory(case.device)
    fitting = [max(f.largest_batch(free), 1) for f in page.footprints.values()]
    count = min(case.args.batch, MOST_IMAGES, *fitting)
    if case.imgsz <= 32:
        count = max(count, 2)  # a single value has no variance, which BatchNorm refuses
    if dataset is not None and samples:
        kind, batch = "images", training_batch(dataset, samples, case, count)
    else:
        kind, generator = "made-up images", torch.Generator().manual_seed(0)
        batch = made_up_batch(count, case.imgsz, case.objects, case.model, generator)
    stands_in = case.device.type == "cpu" and case.args.amp not in (False, "fp32")
    precision = "bfloat16" if stands_in else case.precision
    return check_step(deepcopy(case.model), batch, precision, stands_in, kind)


def _cost(case: TrainingCase, page: Diagnosis, say: Callable[[str], None]) -> list[Check]:
    """Estimate and measure memory and time, with attention and without."""
    cases = {WITH_BLOCKS if blocks(case.model.yaml) else WITHOUT_BLOCKS: case}
    if WITH_BLOCKS in cases:
        with contextlib.suppress(ModelError):  # a block that reads the image itself cannot be taken out
            cases[WITHOUT_BLOCKS] = replace(case, model=without_blocks(case.model))
    busy = psutil.cpu_percent(interval=0.5) / 100
    page.footprints.update(footprints(cases, say))
    page.settings["objects"] = case.objects
    say("latency of one image")
    page.latency_ms.update(latency_ms(cases))
    page.blocks.extend(block_shares(case.model, case.imgsz))
    checks = [_fits(case, page), *_dear(page)]
    if busy > MOST_BUSY:
        message = f"Other programs use {busy:.0%} of the processor, so the times on this page may be rough."
        checks.append(Check("machine", "warning", message, "run doctor again when they have ended", {"busy": busy}))
    return checks


def _fits(case: TrainingCase, page: Diagnosis) -> Check:
    """Say whether the model that is to be trained, the first, fits into the free memory."""
    free = free_memory(case.device)
    needed = next(iter(page.footprints.values()))
    total = needed.needed
    details = {"needed_mib": total, "free_mib": free}
    largest = ", the largest size of multi_scale," if case.largest_imgsz > case.imgsz else ""
    size = f"at {case.largest_imgsz} pixels{largest}"
    if needed.measured is None:
        batch = needed.largest_batch(free)
        message = (
            f"A batch of {case.args.batch} {size} needs about {total / 1024:.2f} GiB, a reserve of "
            f"{RESERVE - 1:.0%} included, and {free / 1024:.1f} GiB are free."
        )
        fix = f"batch={batch}" if batch else "a smaller imgsz or model"
        return Check("memory", "failed", message, fix, {**details, "largest_batch": batch})
    message = f"A training step {size} needs {needed.measured.mib / 1024:.2f} GiB, and {free / 1024:.1f} GiB are free."
    return Check("memory", "ok", message, None, details)


def _dear(page: Diagnosis) -> list[Check]:
    """Say what attention costs, and name the most expensive block if it costs much."""
    if len(page.footprints) < 2 or not page.blocks:
        return []
    both = [page.footprints[name] for name in (WITH_BLOCKS, WITHOUT_BLOCKS)]
    measured = [f.measured for f in both if f.measured]
    own, base = measured if len(measured) == 2 else [f.estimated for f in both]
    ratios = {
        "training time": own.seconds / base.seconds,
        "training memory": own.mib / base.mib,
        "latency": page.latency_ms[WITH_BLOCKS] / page.latency_ms[WITHOUT_BLOCKS],
    }
    said = ", ".join(f"{name} x{ratio:.2f}" for name, ratio in ratios.items())
    if max(ratios.values()) < MOST_TIMES_DEARER:
        return [Check("cost of attention", "ok", f"{said}.", None, ratios)]
    costliest = max(page.blocks, key=lambda b: max(b.training, b.memory, b.inference))
    share = max(costliest.training, costliest.memory, costliest.inference)
    message = f"{said}; {costliest.block} in row {costliest.row} costs most, up to {share:.0%} of the network."
    fix = "move it to a larger stride, set scope=window or kv_stride=2, or lower imgsz"
    return [Check("cost of attention", "warning", message, fix, ratios)]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Ultralytics and PyTorch's exporter from talking; what matters is on the page."""
    with without_messages(logging.ERROR), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
