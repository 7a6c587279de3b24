"""Scoring the finished runs of a comparison, each once, and matching their detections with the ground truth."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ..data.files import read_json
from ..engine.model import YOLO
from ..engine.progress import console, with_bar, without_messages
from ..engine.run_folder import taken
from ..errors import ConfigError, ModelError
from ..scoring.matches import Matches, match_detections
from ..scoring.truth import Truth
from ..scoring.val import ValResult, read_scores, score, score_predictions, tie_notes
from ..surgery.graft import without_blocks
from ..surgery.rows import blocks
from .contrasts import counted
from .given import PREDICTIONS
from .plan import Plan
from .recipe import SCORING
from .runs import Run

Scores = dict[tuple[str, int], ValResult]  # by arm and seed


def score_runs(finished: Sequence[Run], plan: Plan, folder: Path, imgsz: int) -> Scores:
    """Score the last checkpoint of each run, or what was given of it.

    Args:
        finished: The finished runs.
        plan: The plan.
        folder: The comparison's.
        imgsz: Size of the images.

    Raises:
        ConfigError: The source of a run's blocks has changed since it was trained.
    """
    split = folder / plan.recipe.split
    scores: Scores = {}
    for run in with_bar(finished, "scoring runs", len(finished)):
        with without_messages():
            found = _scored(run, plan, split / run.arm / f"seed{run.seed}", imgsz)
        if not console.is_terminal:
            console.print(f"{run.arm}, seed {run.seed}: AP {found.coco.metrics['AP']:.3f}", soft_wrap=True)
        scores[run.arm, run.seed] = found
    return scores


def score_without_blocks(runs: Sequence[Run], plan: Plan, folder: Path, imgsz: int) -> dict[str, float]:
    """Score last checkpoints with their blocks taken out, all other weights kept.

    What that changes is how much a network has come to rely on its blocks.

    Args:
        runs: One finished run an arm.
        plan: The plan.
        folder: The comparison's.
        imgsz: Size of the images.

    Returns:
        AP by arm, of those that have blocks which can be taken out; none where the baseline has blocks itself.
    """
    if blocks(plan.arms[plan.recipe.baseline].network.yaml):
        return {}
    without, own = {}, [run for run in runs if blocks(plan.arms[run.arm].network.yaml)]
    for run in with_bar(own, "scoring without blocks", len(own)):
        target, model = folder / plan.recipe.split / run.arm / f"seed{run.seed}" / "without-blocks", YOLO(run.last)
        with suppress(ModelError), without_messages():  # a block that reads the image itself cannot be taken out
            model.model = without_blocks(model.model)
            without[run.arm] = (read_scores(target) or _score(model, plan, target, imgsz)).coco.metrics["AP"]
    return without


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


def score_notes(scores: Scores, truth: Truth) -> list[str]:
    """Say what is unusual about the scores of single runs, beside what holds for the images and about ties.

    Args:
        scores: From `score_runs`.
        truth: Of the scored split.
    """
    found: dict[str, list[str]] = {}
    for (arm, seed), of_run in scores.items():
        known = [*truth.audit.notes, *tie_notes(of_run.coco)]
        for note in of_run.audit.notes:
            if note not in known:
                found.setdefault(note, []).append(f"{arm} seed {seed}")
    return [f"{', '.join(runs)}: {note}" for note, runs in found.items()]


def changed_blocks(run: Run, plan: Plan) -> list[str]:
    """Name the blocks whose source is not what it was when a run was trained."""
    now = plan.arms[run.arm].sources if run.arm in plan.arms else {}
    return [name for name in now if run.sources.get(name) != now[name]]


def _scored(run: Run, plan: Plan, folder: Path, imgsz: int) -> ValResult:
    """Score a run, or read what that gave before it was interrupted."""
    if (found := read_scores(folder)) is not None:
        return found
    if changed := changed_blocks(run, plan):
        raise ConfigError(
            "The code of a run's blocks has changed since its training, so it cannot be scored.",
            given=f"{run.arm} seed {run.seed}: the source of {', '.join(changed)} has changed",
            expected="the source with which the comparison was planned",
            fix="restore that source, or call compare to start a new comparison with the current one",
        )
    if plan.recipe.given == PREDICTIONS:
        split = plan.recipe.split
        return score_predictions(run.last, plan.dataset, plan.samples[split], split, plots=False, **taken(folder))
    return _score(YOLO(run.last), plan, folder, imgsz)


def _score(model: YOLO, plan: Plan, folder: Path, imgsz: int) -> ValResult:
    train, split = plan.recipe.train, plan.recipe.split
    passed = {key: train[key] for key in SCORING if key in train}
    passed |= {"imgsz": imgsz, **taken(folder)}
    return score(model, plan.dataset, plan.samples[split], split, verbose=False, plots=False, **passed)
