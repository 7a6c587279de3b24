"""Evaluate the finished runs of a comparison: scores, contrasts, notes and reports."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from ultralytics.utils.checks import check_imgsz

from ..data.files import sha256, write_text
from ..diagnosis.environment import version
from ..engine.model import YOLO
from ..engine.progress import with_bar
from ..errors import RunError
from ..profiling.cost import Cost, measure
from ..scoring.resample import RESAMPLES
from ..scoring.truth import read_truth
from ..scoring.val import ValResult
from .commands import commands_again
from .comparison import (
    ESTIMAND,
    FURTHER,
    GIVEN_ESTIMAND,
    GROUPED,
    IMAGES,
    INDEPENDENT,
    METHOD,
    SCHEMA_VERSION,
    ArmResult,
    Comparison,
    RunResult,
)
from .contrasts import contrasts
from .declared import in_words, plan_changes, read_declarations, seeds_chosen_late
from .interim import Stage, stage_of, stages
from .looks import fresh_seeds, read_looks, record_look, review, withhold
from .plan import Plan
from .recipe import Arm, Recipe
from .report import write_reports
from .run_notes import interim_note, reliance_notes, run_notes, uneven_groups
from .runs import DONE, FAILED, RUNNING, Run
from .score_runs import changed_blocks, match_runs, score_notes, score_runs, score_without_blocks
from .start import shared_start
from .summary import Next, seeds_wanted, summarize
from .verdicts import headline, stopping

RESAMPLES_FILE = "resamples.json"
PACKAGES = ("yolo-mha", "ultralytics", "torch", "pycocotools", "numpy")


def conclude(plan: Plan, folder: Path, runs: Sequence[Run]) -> Comparison:
    """Score the finished runs, compare them and write the reports.

    Args:
        plan: The plan.
        folder: From `open_folder`.
        runs: From `train_runs`; where nothing was trained, from `read_run` or `prepare_given`.

    Raises:
        RunError: No run finished.
    """
    recipe = plan.recipe
    stage = stage_of(stages(recipe.looks, recipe.seeds), {run.seed for run in runs} - _unfinished(runs))
    if stage:
        runs = [run for run in runs if run.seed in stage.seeds]
    finished = [run for run in runs if run.state == DONE]
    if not finished:
        raise RunError(
            "No run finished.",
            given=f"{runs[0].arm}, seed {runs[0].seed}: {runs[0].error or 'not trained to its end'}",
            fix=f"the logs are in {folder / 'arms'}; the same command tries again",
        )
    samples = plan.samples[recipe.split]
    declarations, earlier = read_declarations(folder), read_looks(folder)
    seen = review(declarations[-1].plan, earlier)
    if not seen.objections:
        seen = replace(seen, objections=seeds_chosen_late(declarations))
    done = {arm: [run.seed for run in finished if run.arm == arm] for arm in recipe.arms}
    looks = record_look(folder, declarations[-1], done)  # before any score is there
    unfinished = sorted(_unfinished(runs))
    objections = [*_not_trained(recipe, unfinished), *seen.objections]
    strides = [int(plan.arms[run.arm].network.stride.max()) for run in finished if run.arm in plan.arms]
    imgsz = check_imgsz(recipe.train.get("imgsz", 640), stride=max(strides, default=1))
    scores = score_runs(finished, plan, folder, imgsz)
    truth = read_truth(plan.dataset, recipe.split, samples)
    matched = match_runs(scores, truth)
    scored = truth.scored(samples)
    failed = {(run.arm, run.seed) for run in runs if run.state == FAILED}
    groups = None if plan.groups is None else [plan.groups[sample.image] for sample in scored]
    files = [str(sample.image) for sample in scored]
    found, wins, resampled = contrasts(recipe, matched, files, with_bar, failed, groups, stage)
    firsts = {run.arm: run for run in reversed(finished)}  # of the first seed
    first = {arm: run.last for arm, run in firsts.items()}
    changed = sorted({run.arm for run in finished if changed_blocks(run, plan)})
    models = {arm: YOLO(first[arm]).model for arm in plan.arms if arm in first.keys() - set(changed)}
    costs = measure(models, imgsz) if models else {}
    without = score_without_blocks([firsts[arm] for arm in models], plan, folder, imgsz) if models else {}
    start = shared_start([run for run in runs if run.seed not in unfinished and not run.given])
    commands = commands_again(recipe, folder, first)
    said = headline(found, recipe, stage or Stage()) if not objections else ""
    found = [replace(c, verdict=withhold(c.verdict, c.arm, c.against, objections)) for c in found]
    if stage:
        stage = replace(stage, stop=stopping(found[0], recipe.margin, stage))
    results = [_run_result(run, scores.get((run.arm, run.seed)), folder) for run in runs]
    notes = [f"No verdict: {'; '.join(objections)}."] if objections else []
    notes += [interim_note(stage)] if stage and stage.next else []
    notes += uneven_groups(found[0].interval)
    wanted = 0 if stage and stage.next else seeds_wanted(recipe, found[0], seen.objections)
    fresh = fresh_seeds(declarations[-1].plan, earlier, wanted)
    tests = "test" in plan.dataset.splits
    left = [] if seen.objections else unfinished  # which would give no verdict any more
    summary = summarize(recipe, found[0], said, results, Next(commands[0], stage, left, fresh, tests, first))
    notes += [*plan_changes(declarations), *seen.remarks]
    notes += [*run_notes(plan, runs, results, start, changed), *reliance_notes(without, results, recipe.margin)]
    notes += [*truth.audit.notes, *score_notes(scores, truth)]
    settings = next(reversed(scores.values())).settings
    known = {f"{a}/seed{s}": [None if np.isnan(v) else v for v in own.tolist()] for (a, s), own in resampled.items()}
    evidence = [write_text(folder / RESAMPLES_FILE, json.dumps({"groups": groups, "metric": known}))]
    evidence += [
        folder / recipe.split / own / f"{name}.json" for own in known for name in ("predictions", "annotations")
    ]
    comparison = Comparison(
        schema_version=SCHEMA_VERSION,
        recipe=recipe,
        estimand=_estimand(plan),
        method=METHOD.format(resamples=RESAMPLES) + (GROUPED.format(group=recipe.group) if groups else INDEPENDENT),
        arms={
            name: _arm_result(
                str(arm), [r for r in results if r.arm == name and r.metrics], costs.get(name), without.get(name)
            )
            for name, arm in recipe.arms.items()
        },
        runs=results,
        contrasts=found,
        headline=said,
        stage=stage,
        summary=summary,
        wins=wins,
        start=start,
        declaration=declarations[-1],
        objections=objections,
        looks=looks,
        settings={k: v for k, v in settings.items() if k not in ("model", "predictions", "data")},
        notes=notes,
        environment=_environment(str(settings.get("device", "cpu"))),
        commands=commands,
        save_dir=str(folder),
        evidence={file.relative_to(folder).as_posix(): sha256(file) for file in evidence},
        data_check=plan.data_check,
    )
    write_text(folder / "compare.json", json.dumps(comparison.as_dict(), indent=2))
    write_reports(comparison, scored, folder)
    return comparison


def _run_result(run: Run, scores: ValResult | None, folder: Path) -> RunResult:
    own = {key: value for key, value in vars(run).items() if key not in ("folder", "given")}
    own |= {"seconds": round(run.seconds, 1), "peak_mib": round(run.peak_mib, 1)}
    if run.state == RUNNING:
        own["state"] = "unfinished"
    if scores is None:
        return RunResult(**own, weights="", metrics={}, per_class={})
    weights = str(run.given or run.last.relative_to(folder).as_posix())
    coco = scores.coco
    return RunResult(**own, weights=weights, metrics=coco.metrics, per_class=coco.per_class, ties=coco.ties)


def _arm_result(model: str, runs: Sequence[RunResult], cost: Cost | None, without_blocks: float | None) -> ArmResult:
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
        without_blocks=without_blocks,
    )


def _estimand(plan: Plan) -> str:
    """Say what the result holds for."""
    if plan.recipe.given:
        return GIVEN_ESTIMAND.format(kind=plan.recipe.given, images=IMAGES[plan.recipe.split])
    first, pretrained = plan.recipe.arms[plan.recipe.baseline], plan.recipe.train.get("pretrained")
    further = ""
    if plan.start.source is not None and isinstance(first, Arm):
        further = FURTHER.format(file=Path(pretrained if isinstance(pretrained, str) else first.model).name)
    return ESTIMAND.format(further=further, images=IMAGES[plan.recipe.split])


def _unfinished(runs: Sequence[Run]) -> set[int]:
    """Return the seeds of which a run is not trained to its end."""
    return {run.seed for run in runs if run.state == RUNNING}


def _not_trained(recipe: Recipe, unfinished: list[int]) -> list[str]:
    """Say which of the declared seeds are not trained yet."""
    if not unfinished:
        return []
    return [f"{len(unfinished)} of {len(recipe.seeds)} declared seeds are not trained yet ({in_words(unfinished)})"]


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
