"""What is made of the finished runs of a comparison: scores, contrasts, notes, and the reports."""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from ultralytics.utils.checks import check_imgsz

from ..data.beacons import EMBEDDED
from ..data.files import read_json, write_text
from ..diagnosis.environment import version
from ..engine.model import YOLO
from ..engine.progress import with_bar
from ..errors import ConfigError, RunError
from ..profiling.cost import Cost, measure
from ..scoring.intervals import LEAST_SEEDS
from ..scoring.matches import Matches, match_detections
from ..scoring.resample import RESAMPLES
from ..scoring.truth import read_truth
from ..scoring.val import ValResult, read_scores, score
from .comparison import (
    ESTIMAND,
    FURTHER,
    GROUPED,
    INDEPENDENT,
    METHOD,
    SCHEMA_VERSION,
    ArmResult,
    Comparison,
    Contrast,
    RunResult,
    StartCheck,
)
from .contrasts import contrasts, counted
from .declared import in_words, plan_changes, read_declarations
from .looks import fresh_seeds, read_looks, record_look, review, withhold
from .plan import Plan
from .recipe import Arm, Recipe
from .report import write_reports
from .run_notes import gate_notes, version_notes
from .runs import DONE, FAILED, RUNNING, Run
from .start import shared_start
from .weights import class_notes

# settings of the recipe that also decide how its models are scored
SCORING = ("device", "batch", "half", "conf", "iou", "max_det", "agnostic_nms", "augment")
PACKAGES = ("yolo-mha", "ultralytics", "torch", "pycocotools", "numpy")
FEW_SEEDS = (
    "Fewer than 3 seeds: the intervals say how these very models would do on other images. Training again may turn the "
    "sign of a small difference, so there is no verdict."
)
MADE_TASK = "The beacons task is made so that convolution cannot solve it; it says nothing about natural images."
SAME_IMAGES = (
    "Scores are of the last checkpoint on the {images} images; nothing was chosen on them unless the recipe itself "
    "was tuned on them."
)
IMAGES = {"val": "validation", "test": "test"}


def conclude(plan: Plan, folder: Path, runs: Sequence[Run]) -> Comparison:
    """Score the finished runs, compare them and write the reports.

    Args:
        plan: The plan.
        folder: From `open_folder`.
        runs: From `train_runs`, or `read_run` where nothing was trained.

    Raises:
        RunError: No run finished.
    """
    finished = [run for run in runs if run.state == DONE]
    if not finished:
        raise RunError(
            "No run finished.",
            given=f"{runs[0].arm}, seed {runs[0].seed}: {runs[0].error or 'not trained to its end'}",
            fix=f"the logs are in {folder / 'arms'}; the same command tries again",
        )
    recipe, samples = plan.recipe, plan.samples[plan.recipe.split]
    declarations, earlier = read_declarations(folder), read_looks(folder)
    seen = review(declarations[-1].plan, earlier)
    done = {arm: [run.seed for run in finished if run.arm == arm] for arm in recipe.arms}
    looks = record_look(folder, declarations[-1], done)  # before any score is there
    unfinished = sorted({run.seed for run in runs if run.state == RUNNING})
    objections = [*_not_trained(recipe, unfinished), *seen.objections]
    stride = max(int(plan.arms[run.arm].network.stride.max()) for run in finished)
    imgsz = check_imgsz(recipe.train.get("imgsz", 640), stride=stride)
    scores = {
        (run.arm, run.seed): _scored(run, plan, folder / recipe.split / run.arm / f"seed{run.seed}", imgsz)
        for run in finished
    }
    truth = read_truth(plan.dataset, recipe.split, samples)
    matched: dict[str, dict[int, Matches]] = {arm: {} for arm, _ in scores}
    for i, ((arm, seed), of_run) in enumerate(scores.items(), 1):
        predictions = read_json(of_run.predictions, "predictions")
        shown = counted(with_bar, f"matching detections, run {i} of {len(scores)}")
        matched[arm][seed] = match_detections(truth.coco, predictions, shown)
    by_id = dict(zip(truth.image_ids, samples, strict=True))
    scored = [by_id[image["id"]] for image in truth.coco["images"]]  # images without annotations are not
    failed = {(run.arm, run.seed) for run in runs if run.state == FAILED}
    groups = None if plan.groups is None else [plan.groups[sample.image] for sample in scored]
    files = [str(sample.image) for sample in scored]
    found, wins = contrasts(recipe, matched, files, with_bar, failed, groups)
    first = {run.arm: run.folder / "weights" / "last.pt" for run in reversed(finished)}  # of the first seed
    changed = {run.arm for run in finished if _changed_blocks(run, plan)}
    models = {arm: YOLO(first[arm]).model for arm in plan.arms if arm in first.keys() - changed}
    costs = measure(models, imgsz) if models else {}
    start = shared_start([run for run in runs if run.seed not in unfinished])
    commands = _commands(recipe, folder, first)
    found = [replace(c, verdict=withhold(c.verdict, c.arm, c.against, objections)) for c in found]
    results = [_run_result(run, scores.get((run.arm, run.seed)), folder) for run in runs]
    notes = [f"No verdict: {'; '.join(objections)}."] if objections else []
    if count := _wanted(recipe, found[0], seen.objections):
        notes.append(_advice(recipe, fresh_seeds(declarations[-1].plan, earlier, count), commands[0]))
    notes += [*plan_changes(declarations), *seen.remarks, *_notes(plan, runs, start)]
    notes += [*_tie_notes(results), *truth.audit.notes]
    settings = next(reversed(scores.values())).settings
    comparison = Comparison(
        schema_version=SCHEMA_VERSION,
        recipe=recipe,
        estimand=_estimand(plan),
        method=METHOD.format(resamples=RESAMPLES) + (GROUPED.format(group=recipe.group) if groups else INDEPENDENT),
        arms={
            name: _arm_result(arm.described, [r for r in results if r.arm == name and r.metrics], costs.get(name))
            for name, arm in plan.arms.items()
        },
        runs=results,
        contrasts=found,
        wins=wins,
        start=start,
        declaration=declarations[-1],
        objections=objections,
        looks=looks,
        settings={k: v for k, v in settings.items() if k not in ("model", "data")},
        notes=notes,
        environment=_environment(str(settings["device"])),
        commands=commands,
        save_dir=str(folder),
    )
    write_text(folder / "compare.json", json.dumps(comparison.as_dict(), indent=2))
    write_reports(comparison, scored, folder)
    return comparison


def _scored(run: Run, plan: Plan, folder: Path, imgsz: int) -> ValResult:
    """Score a run, or read what that gave before it was interrupted."""
    if (found := read_scores(folder)) is not None:
        return found
    if changed := _changed_blocks(run, plan):
        raise ConfigError(
            "A run cannot be scored with other code of its blocks than it was trained with.",
            given=f"{run.arm} seed {run.seed}: the source of {', '.join(changed)} has changed since",
            expected="the source with which the comparison was planned",
            fix="bring that source back, or call compare for a new comparison with the present one",
        )
    weights = run.folder / "weights" / "last.pt"
    train, split = plan.recipe.train, plan.recipe.split
    passed = {key: train[key] for key in SCORING if key in train}
    passed |= {"imgsz": imgsz, "project": str(folder.parent), "name": folder.name, "exist_ok": True}
    return score(YOLO(weights), plan.dataset, plan.samples[split], split, verbose=False, plots=False, **passed)


def _changed_blocks(run: Run, plan: Plan) -> list[str]:
    """Name the blocks whose source is not what it was when a run was trained."""
    now = plan.arms[run.arm].sources
    return [name for name in now if run.sources.get(name) != now[name]]


def _run_result(run: Run, scores: ValResult | None, folder: Path) -> RunResult:
    own = {key: value for key, value in vars(run).items() if key != "folder"}
    own |= {"seconds": round(run.seconds, 1), "peak_mib": round(run.peak_mib, 1)}
    if run.state == RUNNING:
        own["state"] = "unfinished"
    if scores is None:
        return RunResult(**own, weights="", metrics={}, per_class={})
    weights = (run.folder / "weights" / "last.pt").relative_to(folder).as_posix()
    coco = scores.coco
    return RunResult(**own, weights=weights, metrics=coco.metrics, per_class=coco.per_class, ties=coco.ties)


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


def _estimand(plan: Plan) -> str:
    """Say what the result holds for."""
    first, pretrained = plan.recipe.arms[plan.recipe.baseline], plan.recipe.train.get("pretrained")
    further = ""
    if plan.start.source is not None and isinstance(first, Arm):
        further = FURTHER.format(file=Path(pretrained if isinstance(pretrained, str) else first.model).name)
    return ESTIMAND.format(further=further, images=IMAGES[plan.recipe.split])


def _not_trained(recipe: Recipe, unfinished: list[int]) -> list[str]:
    """Say which of the declared seeds are not trained yet."""
    if not unfinished:
        return []
    return [f"{len(unfinished)} of {len(recipe.seeds)} declared seeds are not trained yet ({in_words(unfinished)})"]


def _wanted(recipe: Recipe, primary: Contrast, objections: Sequence[str]) -> int | None:
    """Return the number of fresh seeds that another comparison should have; None where this one has its answer."""
    if objections or len(recipe.seeds) < LEAST_SEEDS:
        return max(len(recipe.seeds), LEAST_SEEDS)
    return primary.verdict.seeds_needed


def _advice(recipe: Recipe, seeds: Sequence[int], command: str) -> str:
    """Say how to go on."""
    name = f"{re.sub(r'-seed[0-9]+$', '', recipe.name)}-seed{seeds[0]}"
    return (
        "To find out more, plan another comparison with seeds that are not used yet: "
        f"{command} name={name} seeds={','.join(map(str, seeds))}. Seeds that are added to this one would leave it "
        "without a verdict: the answer could be steered by when to stop."
    )


def _notes(plan: Plan, runs: Sequence[Run], start: Sequence[StartCheck]) -> list[str]:
    """Say what may and may not be concluded."""
    notes = [SAME_IMAGES.format(images=IMAGES[plan.recipe.split]), *plan.group_notes]
    finished = [run for run in runs if run.state == DONE]
    if len(plan.recipe.seeds) < LEAST_SEEDS:
        notes.insert(0, FEW_SEEDS)
    if plan.recipe.data == EMBEDDED:
        notes.append(MADE_TASK)
    if resumed := [f"{run.arm} seed {run.seed}" for run in runs if run.resumed]:
        notes.append(
            f"Went on from a checkpoint after an interruption: {', '.join(resumed)}. Ultralytics keeps checkpoints in "
            "half precision, so such a run is not bit for bit what it would have been."
        )
    if failed := [f"{run.arm} seed {run.seed} ({run.error})" for run in runs if run.state == FAILED]:
        notes.append(
            f"Failed, and left out: {'; '.join(failed)}. The same command tries them again. "
            "Means of an arm are over its own finished seeds, differences over those that both arms finished."
        )
    other = [str(check.seed) for check in start if not check.same_batches]
    apart = sorted({arm for check in start for arm, shared in check.shared.items() if shared < check.tensors})
    if other:
        notes.append(f"The first batches of seed {', '.join(other)} are not known to be the same for all arms.")
    if apart:
        notes.append(f"Another start than the baseline's: {', '.join(apart)}.")
    if start and not other and not apart:
        notes.append(
            "All arms of a seed began with the same weights in the layers that they share, and the same batch."
        )
    if changed := sorted({run.arm for run in finished if _changed_blocks(run, plan)}):
        notes.append(
            f"The source of the blocks of {', '.join(changed)} has changed since the training, so no cost was measured."
        )
    notes += [*version_notes(finished), *gate_notes(finished), *class_notes(plan)]
    return notes + [
        f"{name} has in row {s.row} a convolution with {s.own:,} parameters for {s.block} with "
        f"{s.parameters:,} ({s.difference:+.2%})."
        for name, arm in plan.arms.items()
        for s in arm.substitutes
    ]


def _tie_notes(results: Sequence[RunResult]) -> list[str]:
    """Say of which runs AP depends on the order of equal scores."""
    tied = [f"{r.arm} seed {r.seed} {r.ties}" for r in results if r.ties and r.ties.matter]
    if not tied:
        return []
    return [
        f"AP depends on the order of equal scores in {'; '.join(tied)}. Few epochs and half precision make scores "
        "equal: train longer, or score in full precision."
    ]


def _environment(device: str) -> dict[str, str]:
    if device.startswith("cuda"):
        device = f"{device} {torch.cuda.get_device_name(torch.device(device))}"
    known = version()
    return {p: known.packages[p] for p in PACKAGES} | {
        "python": known.python,
        "system": platform.system(),
        "device": device,
        "cpus": str(os.cpu_count()),
        "threads": str(torch.get_num_threads()),
    }


def _commands(recipe: Recipe, folder: Path, first: Mapping[str, Path]) -> list[str]:
    """Return what gives the same comparison again, and what scores the first finished model of each arm by itself."""
    own = {"blocks": ",".join(recipe.blocks)} if recipe.blocks else {}
    commands = [("compare", {"recipe": folder / "recipe.yaml", "project": folder.parent, **own})]
    for arm in recipe.arms:
        if arm in first:
            words = {
                "model": first[arm],
                "data": recipe.data,
                "split": recipe.split,
                "imgsz": recipe.train.get("imgsz", 640),
            }
            words |= {key: recipe.train[key] for key in SCORING if key in recipe.train}
            commands.append(("val", {**words, **own}))
    return [" ".join(["yolo-mha", c, *(shlex.quote(f"{k}={v}") for k, v in words.items())]) for c, words in commands]
