"""`compare`: arms x seeds under one recipe, scored on the same images, with an honest verdict and a report."""

from __future__ import annotations

import json
import os
import platform
import shlex
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ultralytics.utils import LOGGER
from ultralytics.utils.checks import check_imgsz

from ..data.beacons import EMBEDDED
from ..data.dataset import Dataset, Sample
from ..data.files import read_json, write_text
from ..data.instances import Instances
from ..engine.model import YOLO
from ..engine.own_settings import checked
from ..engine.progress import with_bar
from ..errors import RunError
from ..guard import guarded
from ..profiling.cost import Cost, measure
from ..scoring.truth import read_truth
from ..scoring.val import ValResult, read_scores, score
from .comparison import ESTIMAND, METHOD, SCHEMA_VERSION, ArmResult, Comparison, RunResult, StartCheck
from .contrasts import RESAMPLES, contrasts, counted
from .estimate import Estimate, measure_plan
from .folder import open_folder
from .intervals import LEAST_SEEDS
from .matches import Matches, match_detections
from .plan import Plan, prepare
from .recipe import JOBS, MARGIN, SEEDS, Recipe, read_recipe, recipe_from_settings
from .report import write_reports
from .runs import DONE, Run, train_runs
from .start import shared_start
from .weights import class_notes

# settings of the recipe that also decide how its models are scored
SCORING = ("device", "batch", "half", "conf", "iou", "max_det", "agnostic_nms", "augment")
FEW_SEEDS = (
    "Fewer than 3 seeds: the intervals say how these very models would do on other images. Training again may turn the "
    "sign of a small difference, so there is no verdict."
)
MADE_TASK = "The beacons task is made so that convolution cannot solve it; it says nothing about natural images."
SAME_IMAGES = (
    "Scores are of the last checkpoint on the validation images; nothing was chosen on them unless the recipe itself "
    "was tuned on them."
)


@checked
@guarded()
def compare(
    model: str | Path,
    data: str | Path,
    *,
    at: str | Iterable[str] | None = None,
    attention: str | Path | None = None,
    control: bool | str | Path | None = None,
    seeds: int | str | Sequence[int] = SEEDS,
    margin: float = MARGIN,
    jobs: int = JOBS,
    project: str | Path | None = None,
    name: str = "compare",
    **settings: Any,
) -> Comparison:
    """Train a baseline and its variants with several seeds under one recipe, score them, and say what that shows.

    The same call after an interruption goes on where it was; finished runs are never trained again.

    Args:
        model: The baseline: a model YAML or a checkpoint.
        data: Dataset YAML, or "beacons" for the embedded default dataset.
        at: Where attention goes into the baseline; with ``block`` and its options, see `insert`.
        attention: In place of ``at``, another model YAML or checkpoint.
        control: Whether a convolution of as many parameters is trained too, as it is with ``at`` unless this is False;
            or a model that is.
        seeds: Every arm is trained with each of them.
        margin: The smallest difference in AP that matters.
        jobs: How many runs are trained at the same time.
        project: Folder for the folders of all comparisons; ``runs/compare`` if not given.
        name: Name of this comparison's folder. It is taken up again if it is about the same; otherwise the next free
            one of ``name-2``, ``name-3``, ... is made.
        **settings: ``block`` and its options, ``freeze_base``, ``primary`` and training settings, for all arms alike.

    Returns:
        The comparison, also written as JSON, HTML and Markdown.

    Raises:
        ConfigError: A setting is unusable, or another process works on the same comparison.
        ModelError, DataError: A model or the dataset cannot be read.
        UnsupportedTaskError: A model is not for box detection.
        RunError: No run finished; the message says where the logs are.
    """
    given = {"at": at, "attention": attention, "control": control, "seeds": seeds, "margin": margin, "jobs": jobs}
    given = {key: value for key, value in given.items() if value is not None}
    recipe = recipe_from_settings({"model": model, "data": data, "name": name, **given, **settings})
    return _run(recipe, project)


@checked
@guarded()
def run_recipe(recipe: str | Path, *, project: str | Path | None = None, **overrides: Any) -> Comparison:
    """Run a comparison that a YAML describes; see `compare`.

    Args:
        recipe: The YAML, or the name of a shipped one ("demo.yaml"); its keys are the attributes of `Recipe`.
        project: Folder for the folders of all comparisons; ``runs/compare`` if not given.
        **overrides: Settings that replace those of the file.

    Returns:
        The comparison.

    Raises:
        ConfigError: The file is missing or has unknown, missing or repeated keys; and as `compare`.
    """
    return _run(read_recipe(recipe, overrides), project)


@checked
@guarded()
def estimate(recipe: str | Path | None = None, **settings: Any) -> Estimate:
    """Check a comparison, and measure what it would take; nothing is trained, and no file of a run is written.

    Args:
        recipe: A recipe YAML; or None.
        **settings: As for `compare`, or beside a recipe as for `run_recipe`.

    Returns:
        Time and memory.

    Raises:
        ConfigError, ModelError, DataError, UnsupportedTaskError: As `compare`.
        RunError: A training step failed.
    """
    settings.pop("project", None)
    return measure_plan(
        prepare(read_recipe(recipe, settings) if recipe is not None else recipe_from_settings(settings))
    )


def _run(recipe: Recipe, project: str | Path | None) -> Comparison:
    plan = prepare(recipe)
    if len(recipe.seeds) < LEAST_SEEDS:
        LOGGER.warning(f"{len(recipe.seeds)} of the {LEAST_SEEDS} seeds that a verdict needs, such as seeds=0,1,2")
    with open_folder(plan, project) as folder:
        return _conclude(plan, folder, train_runs(plan, folder))


def _conclude(plan: Plan, folder: Path, runs: Sequence[Run]) -> Comparison:
    """Score the finished runs, compare them and write the reports."""
    finished = [run for run in runs if run.state == DONE]
    if not finished:
        raise RunError(
            "No run finished.",
            given=f"{runs[0].arm}, seed {runs[0].seed}: {runs[0].error}",
            fix=f"the logs are in {folder / 'arms'}; the same command tries again",
        )
    recipe, samples = plan.recipe, plan.samples["val"]
    weights = {(run.arm, run.seed): run.folder / "weights" / "last.pt" for run in finished}
    imgsz = check_imgsz(recipe.train.get("imgsz", 640), stride=_stride(weights.values()))
    scores, settings = {}, {}
    for run, file in weights.items():
        scores[run] = _scored(file, plan.dataset, samples, folder / "val" / run[0] / f"seed{run[1]}", recipe, imgsz)
        settings = {k: v for k, v in scores[run].settings.items() if k not in ("model", "data")}
    truth = read_truth(plan.dataset, "val", samples)
    by_id = dict(zip(truth.image_ids, samples, strict=True))
    scored = [by_id[image["id"]] for image in truth.coco["images"]]  # images without annotations are not
    found, wins = contrasts(recipe, _matched(scores, truth.coco), [str(sample.image) for sample in scored], with_bar)
    first = {run.arm: weights[run.arm, run.seed] for run in reversed(finished)}  # of the first seed
    costs = measure({arm: YOLO(first[arm]).model for arm in plan.arms if arm in first}, imgsz)
    start, looks = shared_start(runs), _looks(recipe, folder)
    results = [_run_result(run, scores.get((run.arm, run.seed)), folder) for run in runs]
    comparison = Comparison(
        schema_version=SCHEMA_VERSION,
        recipe=recipe,
        estimand=ESTIMAND,
        method=METHOD.format(resamples=RESAMPLES),
        arms={
            name: _arm_result(arm.described, [r for r in results if r.arm == name and r.metrics], costs.get(name))
            for name, arm in plan.arms.items()
        },
        runs=results,
        contrasts=found,
        wins=wins,
        start=start,
        looks=looks,
        settings=settings,
        notes=[
            *_notes(recipe, runs),
            *_start_notes(start),
            *_look_notes(looks),
            *class_notes(plan),
            *_control_notes(plan),
            *truth.audit.notes,
        ],
        environment=_environment(str(settings["device"])),
        commands=_commands(recipe, folder),
        save_dir=str(folder),
    )
    write_text(folder / "compare.json", json.dumps(comparison.as_dict(), indent=2))
    write_reports(comparison, scored, folder)
    return comparison


def _stride(files: Any) -> int:
    return max(int(YOLO(file).model.stride.max()) for file in files)


def _scored(
    weights: Path, dataset: Dataset, samples: list[Sample], folder: Path, recipe: Recipe, imgsz: int
) -> ValResult:
    """Score a checkpoint, or read what that gave before it was interrupted."""
    if (found := read_scores(folder)) is not None:
        return found
    passed = {key: recipe.train[key] for key in SCORING if key in recipe.train}
    passed |= {"imgsz": imgsz, "project": str(folder.parent), "name": folder.name, "exist_ok": True}
    return score(YOLO(weights), dataset, samples, "val", verbose=False, plots=False, **passed)


def _matched(scores: Mapping[tuple[str, int], ValResult], truth: Instances) -> dict[str, dict[int, Matches]]:
    """Match the detections of every run to the ground truth, by arm and seed."""
    finished: dict[str, dict[int, Matches]] = {}
    for i, ((arm, seed), scored) in enumerate(scores.items(), 1):
        results = read_json(scored.predictions, "predictions")
        shown = counted(with_bar, f"matching detections, run {i} of {len(scores)}")
        finished.setdefault(arm, {})[seed] = match_detections(truth, results, shown)
    return finished


def _run_result(run: Run, scores: ValResult | None, folder: Path) -> RunResult:
    return RunResult(
        arm=run.arm,
        seed=run.seed,
        state=run.state,
        error=run.error,
        weights=(run.folder / "weights" / "last.pt").relative_to(folder).as_posix() if scores else "",
        metrics=scores.coco.metrics if scores else {},
        per_class=scores.coco.per_class if scores else {},
        epochs=run.epochs,
        seconds=round(run.seconds, 1),
        resumed=run.resumed,
        peak_mib=round(run.peak_mib, 1),
        curve=run.curve,
    )


def _arm_result(model: str, runs: Sequence[RunResult], cost: Cost | None) -> ArmResult:
    """Average an arm over its finished seeds."""
    if not runs:
        return ArmResult(model, {}, {}, None, 0.0)
    return ArmResult(
        model=model,
        metrics={m: float(np.mean([run.metrics[m] for run in runs])) for m in runs[0].metrics},
        per_class={
            name: {m: float(np.mean([run.per_class[name][m] for run in runs])) for m in values}
            for name, values in runs[0].per_class.items()
        },
        cost=cost,
        train_seconds=round(float(np.mean([run.seconds for run in runs])), 1),
    )


def _notes(recipe: Recipe, runs: Sequence[Run]) -> list[str]:
    notes = [SAME_IMAGES]
    if len(recipe.seeds) < LEAST_SEEDS:
        notes.insert(0, FEW_SEEDS)
    if recipe.data == EMBEDDED:
        notes.append(MADE_TASK)
    if resumed := [f"{run.arm} seed {run.seed}" for run in runs if run.resumed]:
        notes.append(
            f"Went on from a checkpoint after an interruption: {', '.join(resumed)}. Ultralytics keeps checkpoints in "
            "half precision, so such a run is not bit for bit what it would have been."
        )
    if failed := [f"{run.arm} seed {run.seed} ({run.error})" for run in runs if run.state != DONE]:
        notes.append(
            f"Failed, and left out: {'; '.join(failed)}. The same command tries them again. "
            "Means of an arm are over its own finished seeds, differences over those that both arms finished."
        )
    return notes


def _looks(recipe: Recipe, folder: Path) -> list[list[int]]:
    """Return the seeds with which this comparison was concluded before, where there were fewer."""
    try:
        before = json.loads((folder / "compare.json").read_text(encoding="utf-8"))
        looks, seeds = list(before["looks"]), list(before["recipe"]["seeds"])
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return looks if set(seeds) == set(recipe.seeds) else [*looks, seeds]


def _look_notes(looks: Sequence[Sequence[int]]) -> list[str]:
    if not looks:
        return []
    numbers = ", then ".join(str(len(seeds)) for seeds in looks)
    return [
        f"This comparison was concluded before, with {numbers} seeds. Adding seeds until an answer comes out makes it "
        "less sure than 95 %."
    ]


def _start_notes(checks: Sequence[StartCheck]) -> list[str]:
    """Say whether the arms of a seed began alike, or which did not."""
    notes = []
    if other := [str(check.seed) for check in checks if not check.same_batches]:
        notes.append(f"The first batches of seed {', '.join(other)} are not known to be the same for all arms.")
    apart = sorted({arm for check in checks for arm, shared in check.shared.items() if shared < check.tensors})
    if apart:
        notes.append(f"Another start than the baseline's: {', '.join(apart)}.")
    if not notes:
        notes.append(
            "All arms of a seed began with the same weights in the layers that they share, and the same batch."
        )
    return notes


def _control_notes(plan: Plan) -> list[str]:
    """Say of each matched control how many parameters its convolutions have, and the blocks that they stand for."""
    return [
        f"{name} has in row {s.row} a convolution with {s.own:,} parameters for {s.block} with "
        f"{s.parameters:,} ({s.difference:+.2%})."
        for name, arm in plan.arms.items()
        for s in arm.substitutes
    ]


def _environment(device: str) -> dict[str, str]:
    packages = ("yolo-mha", "ultralytics", "torch", "pycocotools", "numpy")
    if device.startswith("cuda"):
        device = f"{device} {torch.cuda.get_device_name(torch.device(device))}"
    return {p: metadata.version(p) for p in packages} | {
        "python": platform.python_version(),
        "system": platform.system(),
        "device": device,
        "cpus": str(os.cpu_count()),
        "threads": str(torch.get_num_threads()),
    }


def _commands(recipe: Recipe, folder: Path) -> list[str]:
    """Return what gives the same comparison again, and what scores the first model of each arm by itself."""
    commands = [f"yolo-mha compare {shlex.quote(str(folder / 'recipe.yaml'))}"]
    for arm in recipe.arms:
        last = folder / "arms" / arm / f"seed{recipe.seeds[0]}" / "weights" / "last.pt"
        words = {"model": last, "data": recipe.data, "imgsz": recipe.train.get("imgsz", 640)}
        words |= {key: recipe.train[key] for key in SCORING if key in recipe.train}
        commands.append("yolo-mha val " + " ".join(f"{k}={shlex.quote(str(v))}" for k, v in words.items()))
    return commands
