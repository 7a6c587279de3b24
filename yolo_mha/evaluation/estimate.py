"""What a comparison will take: time, memory and disk space, measured on this machine before anything is trained."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ultralytics.cfg import get_cfg

from ..engine.progress import bar, console
from ..profiling.blocks import latency_ms
from ..profiling.footprint import footprints, free_memory, slowdown
from ..profiling.training_case import TrainingCase, image_channels, used_images
from ..result import Result
from .control import Substitute
from .plan import Plan
from .planning import Power
from .recipe import Recipe

# Bytes of a checkpoint for each parameter: while a run is trained (half precision, and the state of Adam), when it is
# done, and of the weights that all arms of a seed begin with.
TRAINED, DONE, BEGUN = 2 + 8, 2, 4


@dataclass(frozen=True)
class ArmEstimate:
    """What one run of an arm takes.

    Attributes:
        model: What is trained, in the words of the command line.
        parameters: Number of parameters, with the dataset's classes.
        substitutes: Convolutions of a control and the blocks that they replace.
        step_seconds: Time of a training step.
        image_seconds: Time of one validation image in the network, without finding boxes and scoring them.
        seconds: Time of the run: all steps, and validation after each epoch and at the end.
        peak_mib: The most memory of the process, in MiB, with the doctor's reserve.
    """

    model: str
    parameters: int
    substitutes: list[Substitute]
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
        seconds: Time of all runs, ``jobs`` at a time.
        slowdown: How much longer a training step takes while ``jobs`` runs are trained at once.
        peak_mib: The most memory of ``jobs`` runs at once, in MiB.
        free_mib: Memory that is free now.
        disk_mib: The most disk space that checkpoints take, in MiB.
        power: What the comparison can find; None where nothing is known of the spread.
        picture: The power curve as a picture.
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
    disk_mib: float
    slowdown: float = 1.0
    power: Power | None = None
    picture: str | None = None

    @property
    def fits(self) -> bool:
        return self.peak_mib <= self.free_mib

    def as_dict(self) -> dict[str, Any]:
        return {**super().as_dict(), "recipe": self.recipe.as_dict(), "fits": self.fits}


def measure_plan(plan: Plan) -> Estimate:
    """Estimate what a comparison takes, from training steps of every arm on this machine; no file of a run is written.

    Loading and augmenting images is not in it, nor is what Ultralytics does after the network in validation.

    Args:
        plan: The plan.

    Raises:
        RunError: A training step failed.
    """
    recipe, train = plan.recipe, plan.samples["train"]
    args, seeds = get_cfg(overrides=dict(recipe.train)), len(recipe.seeds)
    images = {split: used_images(args, len(own), split) for split, own in plan.samples.items()}
    steps = math.ceil(images["train"] / args.batch)
    names, channels = plan.dataset.names, image_channels(plan.dataset)
    cases = {name: TrainingCase.of(arm.network, args, names, train, channels) for name, arm in plan.arms.items()}
    device = next(iter(cases.values())).device
    with bar() as progress:
        task = progress.add_task("training steps", total=None)

        def now(text: str) -> None:
            progress.update(task, description=text)
            if not console.is_terminal:
                console.print(f"measuring {text}", soft_wrap=True)

        found = footprints(cases, now)
        now("validation images")
        latency = latency_ms(cases)
        largest_first = sorted((found[name].needed for name in cases for _ in recipe.seeds), reverse=True)
        peak, free = sum(largest_first[: recipe.jobs]), free_memory(device)
        if recipe.jobs > 1:
            now(f"{recipe.jobs} training steps at once")
        # what does not fit is not tried
        slower = slowdown(next(iter(cases.values())), recipe.jobs) if peak <= free else float(recipe.jobs)
    arms = {}
    for name, case in cases.items():
        step, image = (found[name].measured or found[name].estimated).seconds, latency[name] / 1e3
        rounds = (args.epochs if args.val else 1) + 1  # after each epoch, and of the best in the end
        arms[name] = ArmEstimate(
            model=plan.arms[name].described,
            parameters=sum(p.numel() for p in case.model.parameters()),
            substitutes=plan.arms[name].substitutes,
            step_seconds=step,
            image_seconds=image,
            seconds=args.epochs * steps * step + rounds * images["val"] * image,
            peak_mib=found[name].needed,
        )
    sizes = [arm.parameters for arm in arms.values()]
    each = (1 + recipe.keep_best) * DONE + (args.epochs // args.save_period if args.save_period > 0 else 0) * TRAINED
    disk = seeds * (each * sum(sizes) + BEGUN * max(sizes)) + recipe.jobs * 2 * TRAINED * max(sizes)
    rounds = math.ceil(len(largest_first) / recipe.jobs) / len(largest_first)
    return Estimate(
        recipe=recipe,
        arms=arms,
        runs=len(largest_first),
        epochs=args.epochs,
        steps=steps,
        images=images,
        device=str(device),
        seconds=seeds * sum(arm.seconds for arm in arms.values()) * slower * rounds,
        slowdown=slower,
        peak_mib=peak,
        free_mib=free,
        disk_mib=disk / 2**20,
    )
