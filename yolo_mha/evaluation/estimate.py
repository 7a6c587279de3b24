"""What a comparison will take: time and memory, measured on this machine before anything is trained."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from ultralytics.cfg import get_cfg
from ultralytics.data.utils import get_split_fraction
from ultralytics.utils.checks import check_imgsz
from ultralytics.utils.torch_utils import select_device

from ..data.dataset import Dataset, read_split
from ..diagnosis.data import objects_in_mosaic
from ..diagnosis.doctor import LONG, SCHEDULE
from ..engine.progress import bar, with_bar
from ..guard import guarded
from ..profiling.blocks import latency_ms
from ..profiling.footprint import Footprint, footprints, free_memory
from ..profiling.probe import Probe
from ..registry import Network
from ..result import Result
from .control import Match
from .networks import build_arms
from .recipe import Recipe, describe
from .weights import classes, for_classes


@dataclass(frozen=True)
class ArmEstimate:
    """What one run of an arm takes.

    Attributes:
        model: What is trained, in the words of the command line.
        parameters: Number of parameters, with the dataset's classes.
        matches: Convolutions of a control and the blocks that they stand for.
        step_seconds: Time of a training step.
        image_seconds: Time of one validation image in the network, without finding boxes and scoring them.
        seconds: Time of the run: all steps, and validation after each epoch and at the end.
        peak_mib: The most memory of the process, in MiB, with the doctor's reserve.
    """

    model: str
    parameters: int
    matches: list[Match]
    step_seconds: float
    image_seconds: float
    seconds: float
    peak_mib: float


@dataclass(frozen=True)
class Estimate(Result):
    """What a comparison takes.

    Attributes:
        recipe: What would be run.
        arms: By name, what one run takes.
        runs: Number of runs.
        epochs: Epochs of a run.
        steps: Training steps of an epoch.
        images: Number of images by split.
        device: Where it would run.
        seconds: Time of all runs one after the other.
        peak_mib: The most memory of ``jobs`` runs at once, in MiB.
        free_mib: Memory that is free now.
    """

    recipe: Recipe
    arms: dict[str, ArmEstimate]
    runs: int
    epochs: int
    steps: int
    images: dict[str, int]
    device: str
    seconds: float
    peak_mib: float
    free_mib: float

    @property
    def fits(self) -> bool:
        return self.peak_mib <= self.free_mib

    def as_dict(self) -> dict[str, Any]:
        found = asdict(self)
        for name, arm in self.arms.items():
            for shown, match in zip(found["arms"][name]["matches"], arm.matches, strict=True):
                shown["difference"] = match.difference
        return {**found, "fits": self.fits}


@guarded()
def estimate(plan: Recipe, dataset: Dataset) -> Estimate:
    """Estimate what a comparison takes, from training steps of every arm on this machine; no file of a run is written.

    Loading and augmenting images is not in it, nor is what Ultralytics does after the network in validation.

    Args:
        plan: The recipe, checked.
        dataset: What it would train on.

    Raises:
        RunError: A training step failed.
    """
    names = classes(plan, dataset)
    built = build_arms(plan.arms)
    models = {name: _as_trained(for_classes(arm.network, names, plan.seeds[0])) for name, arm in built.items()}
    args = get_cfg(overrides=dict(plan.train))
    device = select_device(args.device, verbose=False)
    stride = max(32, *(int(model.stride.max()) for model in models.values()))
    imgsz = int(check_imgsz(args.imgsz, stride=stride, floor=stride, max_dim=1))
    samples = {split: read_split(dataset, split, with_bar) for split in ("train", "val")}
    images = {split: _used(len(own), get_split_fraction(args.fraction, split)) for split, own in samples.items()}
    steps = math.ceil(images["train"] / args.batch)
    probe = Probe(
        model="",
        imgsz=imgsz,
        batch=args.batch,
        objects=objects_in_mosaic(samples["train"], args.mosaic > 0),
        device=str(device),
        precision=_precision(args, device.type),
        optimizer=_optimizer(args, images["train"]),
    )
    with bar() as progress:
        task = progress.add_task("training steps", total=None)
        found = footprints(models, probe, lambda text: progress.update(task, description=text))
        progress.update(task, description="validation images")
        latency = latency_ms({name: model.to(device) for name, model in models.items()}, imgsz)
    arms = {}
    for name, model in models.items():
        step, image = _step_seconds(found[name]), latency[name] / 1e3
        rounds = (args.epochs if args.val else 1) + 1  # after each epoch, and of the best in the end
        arms[name] = ArmEstimate(
            model=describe(plan.arms[name]),
            parameters=sum(p.numel() for p in model.parameters()),
            matches=built[name].matches,
            step_seconds=step,
            image_seconds=image,
            seconds=args.epochs * steps * step + rounds * images["val"] * image,
            peak_mib=found[name].needed,
        )
    each = sorted((arm.peak_mib for arm in arms.values() for _ in plan.seeds), reverse=True)
    return Estimate(
        recipe=plan,
        arms=arms,
        runs=len(each),
        epochs=args.epochs,
        steps=steps,
        images=images,
        device=str(device),
        seconds=len(plan.seeds) * sum(arm.seconds for arm in arms.values()),
        peak_mib=sum(each[: plan.jobs]),
        free_mib=free_memory(device),
    )


def _as_trained(model: Network) -> Network:
    """Let everything be trained but the box integral, as in training."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(".dfl" not in name)
    return model.train()


def _used(count: int, fraction: float) -> int:
    """Return how many of so many images Ultralytics uses; a whole number above 1 is a count."""
    return min(fraction, count) if isinstance(fraction, int) else max(round(count * fraction), 1)


def _step_seconds(footprint: Footprint) -> float:
    return (footprint.measured or footprint.estimated).seconds


def _precision(args: Any, device: str) -> str:
    if device != "cuda" or args.amp in (False, "fp32"):
        return "float32"
    return "bfloat16" if args.amp == "bf16" else "float16"


def _optimizer(args: Any, images: int) -> str:
    """Name the optimizer that Ultralytics would take."""
    if str(args.optimizer).lower() != "auto":
        return str(args.optimizer)
    return "SGD" if images / max(args.batch, SCHEDULE) * args.epochs > LONG else "AdamW"
