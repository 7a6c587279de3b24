"""Runs that were trained elsewhere: they are opened and checked, and what is and is not known of them is said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..data.files import read_json, sha256
from ..engine.block_modules import block_sources
from ..engine.checkpoint import check_checkpoint
from ..engine.model import YOLO, require_detection
from ..errors import ConfigError, YoloMHAError
from ..scoring.truth import MANY, read_results, read_truth, without_prediction
from ..scoring.val import class_order
from .given import MODELS, PREDICTIONS, Given
from .plan import Plan, PlannedArm, with_data
from .recipe import Recipe
from .run_notes import named_runs
from .runs import DONE, Run

RECORDED = ("epochs", "imgsz", "batch", "optimizer", "lr0", "data", "pretrained", "model")  # training settings
FILES = ("data", "pretrained", "model")  # of which the name is said, not the folder
MOST_VALUES = 4  # that are told of one setting
BEST, LAST = "best", "last"  # names that Ultralytics gives checkpoints
UNKNOWN = {
    "models": "These models were not trained here. What is said of their training is what the checkpoints record. It "
    "is not known whether the arms of a seed began with the same weights and saw the same images in the same order, "
    "nor whether images that are scored here were among them.",
    "predictions": "Nothing is known of the models that made these predictions: how and on which images they were "
    "trained, what they began with, which checkpoint was taken, and at which image size and thresholds they predicted.",
}
CHOSEN = (
    "Arms and seeds may have been chosen, and results seen, before this plan was written; the intervals hold if they "
    "were not. The seeds are taken as they were given."
)


@dataclass(frozen=True)
class Opened:
    """What a checkpoint records about its training.

    Attributes:
        names: Its classes.
        parameters: Number of parameters.
        settings: Its training settings, as far as it records them.
        epoch: The number of finished epochs, where the training has not ended.
    """

    names: dict[int, str]
    parameters: int
    settings: dict[str, Any]
    epoch: int | None


def prepare_given(recipe: Recipe) -> tuple[Plan, list[Run]]:
    """Open and check given runs, and read the dataset.

    Args:
        recipe: Its arms are `Given`; without ``imgsz`` models are scored at the size that all of them record.

    Returns:
        The plan, and the runs, those of the first seed first and in each seed the baseline first.

    Raises:
        ConfigError: A run is there twice, the arms of the primary contrast share no seed, or it is not known at which
            size models are scored.
        CheckpointError, UnsupportedTaskError: A checkpoint cannot be read, or is of another task.
        DataError: The dataset or predictions are broken, or do not have the same classes and images.
    """
    given = {name: arm for name, arm in recipe.arms.items() if isinstance(arm, Given)}
    runs = [
        Run(name, seed, Path(arm.files[seed]).parent, DONE, given=Path(arm.files[seed]))
        for seed in recipe.seeds
        for name, arm in given.items()
        if seed in arm.files
    ]
    _check_runs(recipe, given, runs)
    notes = [UNKNOWN[recipe.given], CHOSEN, *_seed_notes(recipe, given)]
    if recipe.given != MODELS:
        plan = with_data(recipe, {}, (recipe.split,))
        return replace(plan, origin_notes=[*notes, *_check_predictions(plan, runs)]), runs
    opened, arms = _open(recipe, runs)
    if "imgsz" not in recipe.train:
        recipe = replace(recipe, train={**recipe.train, "imgsz": _one_size(opened)})
    plan = with_data(recipe, arms, (recipe.split,))
    for run, own in zip(runs, opened, strict=True):
        with _naming(run):
            class_order(own.names, plan.dataset)
    runs = [replace(run, sources=arms[run.arm].sources) for run in runs]
    return replace(plan, origin_notes=[*notes, *model_notes(runs, opened, recipe.split)]), runs


def model_notes(runs: Sequence[Run], opened: Sequence[Opened], split: str) -> list[str]:
    """Say what checkpoints record of their training, and where that differs.

    Args:
        runs: The runs.
        opened: What their checkpoints record.
        split: The images that are scored.
    """
    same, notes = [], []
    for key in RECORDED:
        found = _by_value(runs, [_shown(key, own.settings.get(key)) for own in opened])
        if len(found) > 1:
            notes.append(f"The checkpoints differ in {key}: {_values(found)}.")
        elif (value := next(iter(found))) != "none":
            same.append(f"{key}={value}")
    if same:
        notes.insert(0, f"All checkpoints record {', '.join(same)}.")
    for arm in dict.fromkeys(run.arm for run in runs):
        sizes = [f"{own.parameters:,}" for run, own in zip(runs, opened, strict=True) if run.arm == arm]
        found = _by_value([run for run in runs if run.arm == arm], sizes)
        if len(found) > 1:
            notes.append(f"The models of {arm} differ in their number of parameters: {_values(found)}.")
    other = [
        f"{run.arm} seed {run.seed} records seed {seed}"
        for run, own in zip(runs, opened, strict=True)
        if (seed := own.settings.get("seed", run.seed)) != run.seed
    ]
    if other:
        notes.append(f"The checkpoints record other seeds than were given: {', '.join(other)}.")
    for run, own in zip(runs, opened, strict=True):
        if own.epoch is not None:
            notes.append(f"{run.arm} seed {run.seed} was saved before its training ended, after {own.epoch} epochs.")
    return [*notes, *_choice_notes(runs, split)]


def _check_runs(recipe: Recipe, given: Mapping[str, Given], runs: Sequence[Run]) -> None:
    """Refuse a run that is there twice, and a primary contrast without a pair of runs."""
    known: dict[str, Run] = {}
    for run in runs:
        first = known.setdefault(sha256(run.last), run)
        empty = recipe.given == PREDICTIONS and run.last.stat().st_size <= len("[]\n")  # of a model that found nothing
        if first is not run and (not empty or first.last.samefile(run.last)):
            raise ConfigError(
                "Two runs have the same file.",
                given=f"{first.last} and {run.last} are the same file or have the same content",
                expected="a file of its own for each arm and seed",
            )
    own = {name: sorted(given[name].files) for name in (recipe.baseline, recipe.primary)}
    if not set(own[recipe.baseline]) & set(own[recipe.primary]):
        words = "; ".join(f"{name} {', '.join(map(str, seeds))}" for name, seeds in own.items())
        raise ConfigError("The compared arms have no seed in common.", given=words, expected="the same seeds in both")


def _check_predictions(plan: Plan, runs: Sequence[Run]) -> list[str]:
    """Make sure that all predictions can be read before anything is written, and say where they are of fewer images."""
    samples = plan.samples[plan.recipe.split]
    truth = read_truth(plan.dataset, plan.recipe.split, samples)
    missing = []
    for run in runs:
        with _naming(run):
            missing.append(without_prediction(read_results(read_json(run.last, "predictions"), truth, samples), truth))
    images = len(truth.coco["images"])
    if max(missing) - min(missing) <= MANY * images:
        return []
    least, most = (missing.index(end(missing)) for end in (min, max))
    return [
        f"Of {images} images {missing[least]} have no prediction in {named_runs([runs[least]])}, and {missing[most]} "
        f"in {named_runs([runs[most]])}. A model that was not run on all images looks worse than it is."
    ]


def _open(recipe: Recipe, runs: Sequence[Run]) -> tuple[list[Opened], dict[str, PlannedArm]]:
    """Open the checkpoints one by one; the first of each arm represents it, with the blocks of all its checkpoints."""
    opened: list[Opened] = []
    arms: dict[str, PlannedArm] = {}
    for run in runs:
        content: Mapping[str, Any] = check_checkpoint(run.last)
        with _naming(run):
            model = YOLO(run.last)
            require_detection(model.task, "compare")
        settings, epoch = content.get("train_args"), content.get("epoch")
        opened.append(
            Opened(
                names=model.names,
                parameters=sum(p.numel() for p in model.model.parameters()),
                settings=settings if isinstance(settings, dict) else {},
                epoch=epoch + 1 if type(epoch) is int and epoch >= 0 else None,
            )
        )
        arm = arms.setdefault(run.arm, PlannedArm(str(recipe.arms[run.arm]), model.model, extends=False))
        arm.sources.update(block_sources(model.model))
    return opened, {name: arms[name] for name in recipe.arms}


@contextmanager
def _naming(run: Run) -> Iterator[None]:
    """Let an error name the file of a run."""
    try:
        yield
    except YoloMHAError as e:
        if str(run.last) in str(e):
            raise
        raise type(e)(e.problem, given=f"{run.last}: {e.given}", expected=e.expected, fix=e.fix) from e


def _one_size(opened: Sequence[Opened]) -> int:
    """Return the image size that all checkpoints record."""
    sizes = {str(own.settings.get("imgsz")): own.settings.get("imgsz") for own in opened}
    size = next(iter(sizes.values()))
    if len(sizes) > 1 or type(size) is not int:
        raise ConfigError(
            "imgsz is missing: the models were trained at different or unknown image sizes.",
            given=f"the checkpoints record {', '.join(sizes)}",
            expected="imgsz=640, or another size for all of them",
        )
    return size


def _seed_notes(recipe: Recipe, given: Mapping[str, Given]) -> list[str]:
    """Say which seeds a difference to the baseline leaves out."""
    base, notes = set(given[recipe.baseline].files), []
    for name, arm in given.items():
        lacking = {name: base - set(arm.files), recipe.baseline: set(arm.files) - base}
        words = [f"{who} has no seed {', '.join(map(str, sorted(seeds)))}" for who, seeds in lacking.items() if seeds]
        if words:
            notes.append(f"{name} - {recipe.baseline} is over the seeds that both have: {'; '.join(words)}.")
    return notes


def _choice_notes(runs: Sequence[Run], split: str) -> list[str]:
    """Say what the names of checkpoints tell of how they were chosen."""
    best = [run for run in runs if run.last.stem == BEST]
    neither = [run for run in runs if run.last.stem not in (BEST, LAST)]
    notes = []
    if best:
        who = "all runs" if len(best) == len(runs) else named_runs(best)
        said = f"best.pt was chosen on the validation images of its training ({who})."
        if split == "val":
            said += " If these are the ones that are scored, the scores of baseline and arm alike are too high."
        notes.append(said)
        if len(best) < len(runs):
            notes.append("Some runs are scored with best.pt and others are not, so they are not treated alike.")
    if neither:
        who = "all runs" if len(neither) == len(runs) else named_runs(neither)
        notes.append(f"The file names do not say whether a checkpoint was chosen on validation images ({who}).")
    return notes


def _shown(key: str, value: object) -> str:
    return "none" if value is None else Path(str(value)).name if key in FILES else str(value)


def _by_value(runs: Sequence[Run], values: Sequence[str]) -> dict[str, list[Run]]:
    found: dict[str, list[Run]] = {}
    for run, value in zip(runs, values, strict=True):
        found.setdefault(value, []).append(run)
    return found


def _values(found: Mapping[str, Sequence[Run]]) -> str:
    """Say which runs have which value, the fewest first."""
    if len(found) > MOST_VALUES:
        return f"{len(found)} values"
    *fewer, most = sorted(found, key=lambda value: len(found[value]))
    return "; ".join([*(f"{value} in {named_runs(found[value])}" for value in fewer), f"{most} in the others"])
