"""`doctor`: one page before hours of training. What would go wrong, what it would cost, and which block is to blame."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from ultralytics.cfg import get_cfg
from ultralytics.utils import LOGGER
from ultralytics.utils.checks import check_imgsz
from ultralytics.utils.torch_utils import select_device

from ..data.dataset import Dataset, Sample, load_dataset
from ..engine import settings as config
from ..engine.model import YOLO, require_detection
from ..engine.own_settings import checked
from ..engine.progress import bar, with_bar
from ..errors import CheckpointError, ConfigError, ModelError
from ..guard import guarded
from ..paths import given_path, shipped
from ..profiling.blocks import BlockShare, block_shares, latency_ms
from ..profiling.footprint import RESERVE, Footprint, busy, footprints, free_memory
from ..profiling.probe import Probe, made_up_batch
from ..registry import Network, build, find_model_yaml
from ..result import Result
from ..surgery.graft import without_blocks
from ..surgery.insertion import BLOCK, block_options, block_row, insert_blocks
from ..surgery.rows import blocks
from .check import Check, failed
from .data import check_data, objects_in_mosaic
from .model import check_export, check_heads, check_registration, check_sizes
from .step import MOST_IMAGES, check_step, training_batch

WITH, WITHOUT = "with attention", "without attention"
MADE_UP_OBJECTS = 20
BUSY = 0.3  # share of the processor in other hands, from where on times are rough
DEAR = 1.5  # times the cost without attention, from where on a block is to blame
SCHEDULE = 64  # images between two optimizer steps in Ultralytics' recipe, which says how often a step is taken
LONG = 10000  # optimizer steps, from where on Ultralytics' optimizer=auto is MuSGD


@dataclass(frozen=True)
class Diagnosis(Result):
    """The doctor's page.

    Attributes:
        checks: What was checked, in order.
        footprints: Memory and time of a training step by model, ``WITH`` and ``WITHOUT``.
        latency_ms: Time of one image in inference, likewise.
        blocks: Each block's share of the network's time and memory.
        settings: What the page holds for.
    """

    checks: list[Check]
    footprints: dict[str, Footprint] = field(default_factory=dict)
    latency_ms: dict[str, float] = field(default_factory=dict)
    blocks: list[BlockShare] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return all(check.status != "failed" for check in self.checks)

    def as_dict(self) -> dict[str, Any]:
        return {
            "ok": self.ok,
            "settings": self.settings,
            "checks": [check.as_dict() for check in self.checks],
            "footprints": {name: f.as_dict() for name, f in self.footprints.items()},
            "latency_ms": self.latency_ms,
            "blocks": [asdict(b) for b in self.blocks],
        }


@dataclass
class _Case:
    """What is examined.

    Attributes:
        network: The model as it was given.
        model: The model as training would build it, with the dataset's classes.
        args: Training settings of Ultralytics.
        imgsz: Height and width in pixels, rounded up to the model's stride.
        device: Where training would run.
        precision: What training computes in.
    """

    network: YOLO
    model: Network
    args: Any
    imgsz: int
    device: torch.device
    precision: str


@checked
@guarded()
def doctor(
    model: str | Path | None = None,
    data: str | Path | None = None,
    *,
    at: str | Iterable[str] | None = None,
    block: str = BLOCK,
    trust: bool = False,
    **settings: Any,
) -> Diagnosis:
    """Examine a model, a dataset and this machine before training. Nothing is written but ``data="beacons"``.

    Args:
        model: Model YAML or checkpoint.
        data: Dataset YAML; without one a made-up batch is used.
        at: Where `train` would put attention into the model first, see `insert`.
        block: Class name of the block that goes there; its options are settings too.
        trust: Read the checkpoint with full pickle, for files that you made yourself.
        **settings: Ultralytics' training settings: ``imgsz``, ``batch``, ``device``, ``amp``, ...

    Returns:
        The page; ``ok`` is False where a check failed.

    Raises:
        ConfigError: A setting is unknown, unusable or missing.
        ModelError, CheckpointError, DataError: The model or the dataset YAML is not there.
        UnsupportedTaskError: The model is not for box detection.
    """
    options = config.take_block_options(settings, at, block)
    passed = config.check(settings, own=("at", "block", *block_options(block)))
    if model is None:
        raise ConfigError("model is missing.", expected="model=yolo11n-mha-p5.yaml, or another YAML or checkpoint")
    for key in ("imgsz", "batch"):
        if passed.get(key) is not None and (type(passed[key]) is not int or passed[key] < 1):
            raise ConfigError(f"doctor needs a whole {key}.", given=f"{key}={passed[key]}", expected="1 or more")
    if "," in str(passed.get("device", "")):
        raise ConfigError(
            "doctor looks at one device.",
            given=f"device={passed['device']}",
            expected="one of them",
            fix="device=0, and the batch divided by the number of GPUs",
        )
    page = Diagnosis([])
    with _quiet():
        network = _open(model, trust, page)
        if at is not None and network is not None:
            network.model, _ = insert_blocks(network.model, at, block_row(block, options))
    dataset = load_dataset(data, with_bar) if data is not None else None
    with _quiet(), bar() as progress:
        task = progress.add_task("examining", total=7)

        def step(name: str, function: Callable[[], Check | list[Check]]) -> None:
            """Run one check; what it stumbles over is a row of the page and hides no other check."""
            progress.update(task, description=name)
            try:
                found = function()
            except Exception as e:
                found = failed(name, e)
            page.checks.extend(found if isinstance(found, list) else [found])
            progress.advance(task)

        def counted(items: Iterable[Any], description: str, total: int) -> Iterable[Any]:
            part = progress.add_task(description, total=total)
            yield from progress.track(items, total=total, task_id=part)
            progress.remove_task(part)

        samples: list[Sample] = []

        def examine_data() -> list[Check]:
            if dataset is None:
                return [Check("dataset", "skipped", "No dataset given, so the batch is made up.", "add data=...")]
            checks, found = check_data(dataset, ("train", passed.get("split", "val")), counted)
            samples.extend(found)
            return checks

        if network is None:
            step("dataset", examine_data)
            return page
        case = _case(network, dataset, passed)
        page.settings.update(
            model=str(model),
            at=at,
            **({"block": block, **options} if at is not None else {}),
            data=str(data),
            imgsz=case.imgsz,
            batch=case.args.batch,
            device=str(case.device),
            precision=case.precision,
        )
        step("registration", lambda: check_registration(network, trust))
        step("channels and heads", lambda: check_heads(case.model, case.imgsz))
        step("dataset", lambda: [*examine_data(), *_same_classes(network, dataset)])
        step("image sizes", lambda: check_sizes(case.model, case.imgsz))
        step(
            "memory and time", lambda: _cost(case, samples, page, lambda text: progress.update(task, description=text))
        )
        step("forward and backward", lambda: _step(case, dataset, samples, page))
        step("export", lambda: check_export(network, case.imgsz, trust))
    return page


def _open(model: str | Path, trust: bool, page: Diagnosis) -> YOLO | None:
    """Open the model; one that is there and cannot be opened is a failed check."""
    name = str(given_path(model, "model"))
    there = find_model_yaml(name) if name.endswith((".yaml", ".yml")) else Path(name).exists() or _shipped(name)
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


def _shipped(name: str) -> bool:
    return Path(name).name == name and (shipped("weights") / name).is_file()


def _case(network: YOLO, dataset: Dataset | None, settings: dict[str, Any]) -> _Case:
    """Build the model as training would: with the dataset's classes, and everything but the box integral trained."""
    size = network.overrides.get("imgsz")  # a checkpoint brings its own
    args = get_cfg(overrides={"imgsz": size, **settings} if type(size) is int else settings)
    device = select_device(args.device, verbose=False)
    given: Network = network.model
    model = deepcopy(given)
    if dataset is not None and list(dataset.names.values()) != list(given.names.values()):
        model = build({**given.yaml, "nc": len(dataset.names)})
        model.names = dict(dataset.names)
        model.load(given)
    model = model.float().to(device)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(".dfl" not in name)
    model.args = args
    stride = max(int(model.stride.max()), 32)
    imgsz = int(check_imgsz(args.imgsz, stride=stride, floor=stride, max_dim=1))
    precision = "float32"
    if device.type == "cuda" and args.amp not in (False, "fp32"):
        precision = "bfloat16" if args.amp == "bf16" else "float16"
    return _Case(network, model, args, imgsz, device, precision)


def _same_classes(network: YOLO, dataset: Dataset | None) -> list[Check]:
    """Say what training will do where the model's classes are not the dataset's."""
    names = list(network.names.values())
    if dataset is None or not network.ckpt or names == list(dataset.names.values()):
        return []
    known = set(names) & set(dataset.names.values())
    message = (
        f"The checkpoint has {len(names)} classes and the dataset {len(dataset.names)}, so the last layers of the head "
        f"start anew, apart from {len(known)} classes of the same name."
    )
    return [Check("classes of the checkpoint", "warning", message, "nothing, if you mean to train for new classes")]


def _step(case: _Case, dataset: Dataset | None, samples: list[Sample], page: Diagnosis) -> Check:
    """Run forward and backward on real images where there are some, on no more of them than memory was found for."""
    free = free_memory(case.device)
    fitting = [max(f.largest_batch(free), 1) for f in page.footprints.values()]
    count = min(case.args.batch, MOST_IMAGES, *fitting)
    if case.imgsz <= 32:
        count = max(count, 2)  # a single value has no variance, which BatchNorm refuses
    if dataset is not None and samples:
        kind = "images"
        args = deepcopy(case.args)
        args.imgsz = case.imgsz
        batch = training_batch(dataset, samples, args, int(case.model.stride.max()), count)
    else:
        kind = "made-up images"
        generator = torch.Generator().manual_seed(0)
        batch = made_up_batch(count, case.imgsz, MADE_UP_OBJECTS, case.model, generator, case.device)
    stands_in = case.device.type == "cpu"
    precision = "bfloat16" if stands_in and case.args.amp not in (False, "fp32") else case.precision
    return check_step(deepcopy(case.model), batch, precision, stands_in and precision == "bfloat16", kind)


def _cost(case: _Case, samples: list[Sample], page: Diagnosis, progress: Callable[[str], None]) -> list[Check]:
    """Estimate and measure memory and time, with attention and without."""
    arms = {WITH: case.model}
    if blocks(case.model.yaml):
        with contextlib.suppress(ModelError):  # a block that reads the image itself cannot be taken out
            arms[WITHOUT] = without_blocks(case.model)
    else:
        arms = {WITHOUT: case.model}
    objects = objects_in_mosaic(samples, case.args.mosaic > 0) if samples else MADE_UP_OBJECTS
    probe = Probe(
        "", case.imgsz, case.args.batch, objects, str(case.device), case.precision, _optimizer(case.args, len(samples))
    )
    others = busy()
    page.footprints.update(footprints(arms, probe, progress))
    page.settings["objects"] = objects
    progress("latency of one image")
    page.latency_ms.update(latency_ms(arms, case.imgsz))
    page.blocks.extend(block_shares(case.model, case.imgsz))
    checks = [_fits(case, page), *_dear(page)]
    if others > BUSY:
        message = f"Other programs use {others:.0%} of the processor, so the times on this page may be rough."
        checks.append(Check("machine", "warning", message, "run doctor again when they have ended", {"busy": others}))
    return checks


def _optimizer(args: Any, images: int) -> str:
    """Name the optimizer that Ultralytics would take."""
    if str(args.optimizer).lower() != "auto":
        return str(args.optimizer)
    return "SGD" if images / max(args.batch, SCHEDULE) * args.epochs > LONG else "AdamW"


def _fits(case: _Case, page: Diagnosis) -> Check:
    """Say whether the model that is to be trained, the first, fits into the free memory."""
    free = free_memory(case.device)
    needed = next(iter(page.footprints.values()))
    total = needed.needed
    details = {"needed_mib": total, "free_mib": free}
    if needed.measured is None:
        batch = needed.largest_batch(free)
        message = (
            f"A batch of {case.args.batch} at {case.imgsz} pixels needs about {total / 1024:.1f} GiB, a reserve of "
            f"{RESERVE - 1:.0%} included, and {free / 1024:.1f} GiB are free."
        )
        fix = f"batch={batch}" if batch else "a smaller imgsz or model"
        return Check("memory", "failed", message, fix, {**details, "largest_batch": batch})
    message = f"A training step needs {needed.measured.mib / 1024:.2f} GiB, and {free / 1024:.1f} GiB are free."
    return Check("memory", "ok", message, None, details)


def _dear(page: Diagnosis) -> list[Check]:
    """Say what attention costs, and blame a block where that is much."""
    if len(page.footprints) < 2 or not page.blocks:
        return []
    both = [page.footprints[name] for name in (WITH, WITHOUT)]
    measured = [f.measured for f in both if f.measured]
    own, base = measured if len(measured) == 2 else [f.estimated for f in both]
    ratios = {
        "training time": own.seconds / base.seconds,
        "training memory": own.mib / base.mib,
        "latency": page.latency_ms[WITH] / page.latency_ms[WITHOUT],
    }
    said = ", ".join(f"{name} x{ratio:.2f}" for name, ratio in ratios.items())
    if max(ratios.values()) < DEAR:
        return [Check("cost of attention", "ok", f"{said}.", None, ratios)]
    dearest = max(page.blocks, key=lambda b: max(b.training, b.memory, b.inference))
    share = max(dearest.training, dearest.memory, dearest.inference)
    message = f"{said}; {dearest.block} at row {dearest.row} is to blame, with up to {share:.0%} of the network."
    fix = "put it at a larger stride, give it scope=window or kv_stride=2, or lower imgsz"
    return [Check("cost of attention", "warning", message, fix, ratios)]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Ultralytics and PyTorch's exporter from talking; what matters is on the page."""
    level = LOGGER.level
    LOGGER.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        LOGGER.setLevel(level)
