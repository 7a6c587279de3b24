"""`compare status=True`: what of a comparison runs where, since when, how far, and what failed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ..engine.own_settings import checked
from ..errors import ConfigError
from ..evaluation.claims import holder
from ..evaluation.declared import read_declarations
from ..evaluation.folder import comparisons, folders_of
from ..evaluation.recipe import read_recipe
from ..evaluation.report import PAGE
from ..evaluation.runs import DONE, FAILED, RUNNING, epochs_of, read_run
from ..result import Result

WAITING, INTERRUPTED = "waiting", "interrupted"


@dataclass(frozen=True)
class RunStatus:
    """Where a run is.

    Attributes:
        arm: Name of the arm.
        seed: The seed.
        state: "waiting", "running", "interrupted", "failed" or "done".
        epochs: Number of finished epochs.
        seconds: Wall-clock time of all attempts together.
        resumed: How often it went on from a checkpoint.
        holder: The process that trains it, while it runs.
        since: When that process began with it, in UTC, ISO 8601.
        error: Why it failed.
        log: What the training said.
    """

    arm: str
    seed: int
    state: str
    epochs: int
    seconds: float
    resumed: int
    holder: str | None
    since: str | None
    error: str | None
    log: str


@dataclass(frozen=True)
class Status(Result):
    """Where a comparison is.

    Attributes:
        save_dir: Its folder.
        epochs: Number of epochs of each run.
        counts: Number of runs by state.
        runs: All of its runs, seed by seed.
        report: The page of the last conclusion; None before the first.
    """

    save_dir: str
    epochs: int
    counts: dict[str, int]
    runs: list[RunStatus]
    report: str | None


@checked
def comparison_status(
    recipe: str | Path | None = None, *, name: str | None = None, project: str | Path | None = None
) -> Status:
    """Say what of a comparison runs where, since when, how far, and what failed. Nothing is changed.

    Args:
        recipe: Its recipe YAML, in place of its name; of several folders of this name the one that was planned last.
        name: Name of its folder; "compare" if not given.
        project: Folder for the folders of all comparisons; ``runs/compare`` if not given.

    Raises:
        ConfigError: There is no such comparison, or its records are damaged.
    """
    root = comparisons(project)
    known = {file.parent: read_declarations(file.parent) for file in sorted(root.glob("*/plan.json"))}
    if recipe is not None and name is None:
        own = [folder for folder in folders_of(read_recipe(recipe, {}).name, root) if folder in known]
        folder = max(own, key=lambda each: known[each][-1].date, default=root / read_recipe(recipe, {}).name)
    else:
        folder = root / (name or "compare")
    if folder not in known:
        names = ", ".join(each.name for each in known)
        raise ConfigError(
            "There is no such comparison.",
            given=folder,
            expected=f"one of {names}" if names else "the folder of a comparison that was begun",
            fix="name it with name= and its folder with project=",
        )
    plan = known[folder][-1].plan
    runs = [run_status(folder, arm, seed) for seed in plan["seeds"] for arm in plan["arms"]]
    page = folder / PAGE
    return Status(
        save_dir=str(folder),
        epochs=epochs_of(plan["train"]),
        counts=dict(Counter(run.state for run in runs)),
        runs=runs,
        report=str(page) if page.exists() else None,
    )


def run_status(folder: Path, arm: str, seed: int) -> RunStatus:
    """Say where a run is.

    Args:
        folder: The comparison's.
        arm: Name of the arm.
        seed: The seed.
    """
    run = read_run(folder, arm, seed)
    claim = None if run.state == DONE else holder(run.folder)
    if claim is not None:
        state = RUNNING
    elif run.state in (DONE, FAILED):
        state = run.state
    else:
        state = INTERRUPTED if run.log.exists() else WAITING
    return RunStatus(
        arm=arm,
        seed=seed,
        state=state,
        epochs=run.epochs,
        seconds=run.seconds,
        resumed=run.resumed,
        holder=None if claim is None else str(claim),
        since=None if claim is None else claim.since,
        error=run.error if state == FAILED else None,
        log=str(run.log),
    )
