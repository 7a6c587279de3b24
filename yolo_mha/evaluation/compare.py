"""`compare`: arms x seeds under one recipe, scored on the same images, with an honest verdict and a report."""

from __future__ import annotations

import json
import os
import platform
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ultralytics.utils import LOGGER
from ultralytics.utils.checks import check_imgsz

from ..data.beacons import EMBEDDED
from ..data.dataset import Dataset, Sample, read_split
from ..data.files import write_text
from ..engine.model import YOLO
from ..engine.own_settings import checked
from ..engine.progress import with_bar
from ..engine.train import check_dataset
from ..errors import RunError
from ..guard import guarded
from ..profiling.cost import Cost, measure
from ..scoring.truth import read_truth
from ..scoring.val import score
from .comparison import ESTIMAND, METHOD, SCHEMA_VERSION, ArmResult, Comparison, RunResult, StartCheck
from .contrasts import RESAMPLES, contrasts, counted
from .estimate import Estimate, estimate
from .folder import open_folder
from .intervals import LEAST_SEEDS
from .matches import Matches, match
from .networks import build_arms
from .recipe import Recipe, check_recipe, describe, read_recipe, recipe_from_settings
from .report import write_reports
from .runs import Run, train_runs
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
def compare(recipe: str | Path | None = None, *, dry_run: bool = False, **settings: Any) -> Comparison | Estimate:
    """Train a baseline and its variants with several seeds under one recipe, score them, and say what that shows.

    The same call after an interruption goes on where it was; finished runs are never trained again.

    Args:
        recipe: A recipe YAML, or the name of a shipped one ("demo.yaml"); its keys are the attributes of `Recipe`.
        dry_run: Only say what would be run, with an estimate of time and memory; nothing is trained.
        **settings: In place of a recipe ``model`` (the baseline), ``at`` with options of the block (see `insert`) or
            ``attention`` (another model), optionally ``control``, ``data``, ``seeds``, ``primary``, ``margin`` and
            training settings; beside a recipe, settings that override it. ``jobs`` trains runs in parallel.

    Returns:
        The comparison, also written as JSON, HTML and Markdown; with ``dry_run`` the estimate.

    Raises:
        ConfigError: The recipe or a setting is unusable, or another process works on the same comparison.
        ModelError, DataError: A model or the dataset cannot be read.
        UnsupportedTaskError: A model is not for box detection.
        RunError: No run finished; the message says where the logs are.
    """
    plan = read_recipe(recipe, settings) if recipe is not None else recipe_from_settings(settings)
    check_recipe(plan)
    dataset = check_dataset(plan.data)
    if len(plan.seeds) < LEAST_SEEDS:
        LOGGER.warning(f"{len(plan.seeds)} of the {LEAST_SEEDS} seeds that a verdict needs, such as seeds=0,1,2")
    if plan.data != EMBEDDED:  # so that the saved recipe runs from any folder
        plan = replace(plan, data=str(Path(plan.data).resolve()) if Path(plan.data).exists() else str(dataset.yaml))
    if dry_run:
        return estimate(plan, dataset)
    with open_folder(plan, dataset) as folder:
        runs = train_runs(plan, dataset, folder)
        return _conclude(plan, dataset, folder, runs)


def _conclude(plan: Recipe, dataset: Dataset, folder: Path, runs: Sequence[Run]) -> Comparison:
    """Score the finished runs, compare them and write the reports."""
    finished = [run for run in runs if run.state == "done"]
    if not finished:
        raise RunError(
            "No run finished.",
            given=f"{runs[0].arm}, seed {runs[0].seed}: {runs[0].error}",
            fix=f"the logs are in {folder / 'arms'}; the same command tries again",
        )
    samples = read_split(dataset, "val", with_bar)
    weights = {(run.arm, run.seed): run.folder / "weights" / "last.pt" for run in finished}
    imgsz = check_imgsz(plan.train.get("imgsz", 640), stride=_stride(weights.values()))
    scores, settings = {}, {}
    for run, file in weights.items():
        scores[run] = _scored(file, dataset, samples, folder / "val" / run[0] / f"seed{run[1]}", plan, imgsz)
        settings = {k: v for k, v in scores[run]["settings"].items() if k not in ("model", "data")}
    truth = read_truth(dataset, "val", samples)
    by_id = dict(zip(truth.image_ids, samples, strict=True))
    scored = [by_id[image["id"]] for image in truth.coco["images"]]  # images without annotations are not
    found, wins = contrasts(plan, _matched(scores), [str(sample.image) for sample in scored], with_bar)
    first = {run.arm: weights[run.arm, run.seed] for run in reversed(finished)}  # of the first seed
    costs = measure({arm: YOLO(first[arm]).model for arm in plan.arms if arm in first}, imgsz)
    start, looks = shared_start(runs), _looks(plan, folder)
    results = [_run_result(run, scores.get((run.arm, run.seed)), folder) for run in runs]
    comparison = Comparison(
        schema_version=SCHEMA_VERSION,
        recipe=plan,
        estimand=ESTIMAND,
        method=METHOD.format(resamples=RESAMPLES),
        arms={
            arm: _arm_result(describe(words), [r for r in results if r.arm == arm and r.metrics], costs.get(arm))
            for arm, words in plan.arms.items()
        },
        runs=results,
        contrasts=found,
        wins=wins,
        start=start,
        looks=looks,
        settings=settings,
        notes=[
            *_notes(plan, runs),
            *_start_notes(start),
            *_look_notes(looks),
            *class_notes(plan, dataset),
            *_control_notes(plan),
            *truth.audit.notes,
        ],
        environment=_environment(str(settings["device"])),
        commands=_commands(plan, folder),
        save_dir=str(folder),
    )
    write_text(folder / "compare.json", json.dumps(comparison.as_dict(), indent=2))
    write_reports(comparison, scored, folder)
    return comparison


def _stride(files: Any) -> int:
    return max(int(YOLO(file).model.stride.max()) for file in files)


def _scored(
    weights: Path, dataset: Dataset, samples: list[Sample], folder: Path, plan: Recipe, imgsz: int
) -> dict[str, Any]:
    """Score a checkpoint, or read what that gave before it was interrupted."""
    file = folder / "scores.json"  # written last, so where it is everything is
    if not file.exists():
        passed = {"split": "val", "imgsz": imgsz, "project": str(folder.parent), "name": folder.name}
        passed |= {"exist_ok": True, "verbose": False, "plots": False}
        passed |= {key: plan.train[key] for key in SCORING if key in plan.train}
        score(YOLO(weights), dataset, samples, passed)
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return {**content, "folder": folder}


def _matched(scores: Mapping[tuple[str, int], Mapping[str, Any]]) -> dict[str, dict[int, Matches]]:
    """Match the detections of every run to the ground truth, by arm and seed."""
    finished: dict[str, dict[int, Matches]] = {}
    for i, ((arm, seed), content) in enumerate(scores.items(), 1):
        truth, results = (
            json.loads((content["folder"] / f"{name}.json").read_text()) for name in ("annotations", "predictions")
        )
        text = f"matching detections, run {i} of {len(scores)}"
        finished.setdefault(arm, {})[seed] = match(truth, results, counted(with_bar, text))
    return finished


def _run_result(run: Run, scores: Mapping[str, Any] | None, folder: Path) -> RunResult:
    return RunResult(
        arm=run.arm,
        seed=run.seed,
        state=run.state,
        error=run.error,
        weights=(run.folder / "weights" / "last.pt").relative_to(folder).as_posix() if scores else "",
        metrics=scores["metrics"] if scores else {},
        per_class=scores["per_class"] if scores else {},
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


def _notes(plan: Recipe, runs: Sequence[Run]) -> list[str]:
    notes = [SAME_IMAGES]
    if len(plan.seeds) < LEAST_SEEDS:
        notes.insert(0, FEW_SEEDS)
    if plan.data == EMBEDDED:
        notes.append(MADE_TASK)
    if resumed := [f"{run.arm} seed {run.seed}" for run in runs if run.resumed]:
        notes.append(
            f"Went on from a checkpoint after an interruption: {', '.join(resumed)}. Ultralytics keeps checkpoints in "
            "half precision, so such a run is not bit for bit what it would have been."
        )
    if failed := [f"{run.arm} seed {run.seed} ({run.error})" for run in runs if run.state != "done"]:
        notes.append(
            f"Failed, and left out: {'; '.join(failed)}. The same command tries them again. "
            "Means of an arm are over its own finished seeds, differences over those that both arms finished."
        )
    return notes


def _looks(plan: Recipe, folder: Path) -> list[list[int]]:
    """Return the seeds with which this comparison was concluded before, where there were fewer."""
    try:
        before = json.loads((folder / "compare.json").read_text(encoding="utf-8"))
        looks, seeds = list(before["looks"]), list(before["recipe"]["seeds"])
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return looks if set(seeds) == set(plan.seeds) else [*looks, seeds]


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


def _control_notes(plan: Recipe) -> list[str]:
    """Say of each matched control how many parameters its convolutions have, and the blocks that they stand for."""
    if not any("match" in arm for arm in plan.arms.values()):
        return []
    return [
        f"{name} has in row {match.row} a convolution with {match.own:,} parameters for {match.block} with "
        f"{match.parameters:,} ({match.difference:+.2%})."
        for name, arm in build_arms(plan.arms).items()
        for match in arm.matches
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


def _commands(plan: Recipe, folder: Path) -> list[str]:
    """Return what gives the same comparison again, and what scores the first model of each arm by itself."""
    commands = [f"yolo-mha compare {shlex.quote(str(folder / 'recipe.yaml'))}"]
    for arm in plan.arms:
        last = folder / "arms" / arm / f"seed{plan.seeds[0]}" / "weights" / "last.pt"
        words = {"model": last, "data": plan.data, "imgsz": plan.train.get("imgsz", 640)}
        words |= {key: plan.train[key] for key in SCORING if key in plan.train}
        commands.append("yolo-mha val " + " ".join(f"{k}={shlex.quote(str(v))}" for k, v in words.items()))
    return commands
