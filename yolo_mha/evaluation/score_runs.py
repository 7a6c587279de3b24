"""Scoring the finished runs of a comparison, each once, and matching their detections with the ground truth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..data.files import read_json
from ..engine.model import YOLO
from ..engine.progress import with_bar
from ..errors import ConfigError
from ..scoring.matches import Matches, match_detections
from ..scoring.truth import Truth
from ..scoring.val import ValResult, read_scores, score
from .contrasts import counted
from .plan import Plan
from .runs import Run

# settings of the recipe that also decide how its models are scored
SCORING = ("device", "batch", "half", "conf", "iou", "max_det", "agnostic_nms", "augment")
Scores = dict[tuple[str, int], ValResult]  # by arm and seed


def score_runs(finished: Sequence[Run], plan: Plan, folder: Path, imgsz: int) -> Scores:
    """Score the last checkpoint of each run.

    Args:
        finished: The finished runs.
        plan: The plan.
        folder: The comparison's.
        imgsz: Size of the images.

    Raises:
        ConfigError: The source of a run's blocks has changed since it was trained.
    """
    split = folder / plan.recipe.split
    return {(run.arm, run.seed): _scored(run, plan, split / run.arm / f"seed{run.seed}", imgsz) for run in finished}


def match_runs(scores: Scores, truth: Truth) -> dict[str, dict[int, Matches]]:
    """Match the detections of each run with the ground truth.

    Args:
        scores: From `score_runs`.
        truth: Of the scored split.

    Returns:
        The matches by arm and seed.
    """
    matched: dict[str, dict[int, Matches]] = {arm: {} for arm, _ in scores}
    for i, ((arm, seed), of_run) in enumerate(scores.items(), 1):
        predictions = read_json(of_run.predictions, "predictions")
        shown = counted(with_bar, f"matching detections, run {i} of {len(scores)}")
        matched[arm][seed] = match_detections(truth.coco, predictions, shown)
    return matched


def changed_blocks(run: Run, plan: Plan) -> list[str]:
    """Name the blocks whose source is not what it was when a run was trained."""
    now = plan.arms[run.arm].sources
    return [name for name in now if run.sources.get(name) != now[name]]


def _scored(run: Run, plan: Plan, folder: Path, imgsz: int) -> ValResult:
    """Score a run, or read what that gave before it was interrupted."""
    if (found := read_scores(folder)) is not None:
        return found
    if changed := changed_blocks(run, plan):
        raise ConfigError(
            "A run cannot be scored with other code of its blocks than it was trained with.",
            given=f"{run.arm} seed {run.seed}: the source of {', '.join(changed)} has changed since",
            expected="the source with which the comparison was planned",
            fix="bring that source back, or call compare for a new comparison with the present one",
        )
    train, split = plan.recipe.train, plan.recipe.split
    passed = {key: train[key] for key in SCORING if key in train}
    passed |= {"imgsz": imgsz, "project": str(folder.parent), "name": folder.name, "exist_ok": True}
    return score(YOLO(run.last), plan.dataset, plan.samples[split], split, verbose=False, plots=False, **passed)
