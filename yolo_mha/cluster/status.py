"""`compare status=True`: what of a comparison runs where, since when, how far, and what failed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ultralytics.cfg import DEFAULT_CFG_DICT

from ..engine.own_settings import checked
from ..errors import ConfigError
from ..evaluation.claims import holder
from ..evaluation.declared import Declaration, read_declarations
from ..evaluation.folder import comparisons
from ..evaluation.recipe import read_recipe
from ..evaluation.report import PAGE
from ..evaluation.runs import DONE, FAILED, RUNNING, read_run
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
    """Say what of a comparison runs where, since when, how far, and what failed. Nothing is written.

    Args:
        recipe: Its recipe YAML, in place of its name.
        name: Name of its folder; "compare" if not given.
        project: Folder for the folders of all comparisons; ``runs/compare`` if not given.

    Raises:
        ConfigError: There is no such comparison, or its records are damaged.
    """
    root = comparisons(project)
    folder = root / (name or ("compare" if recipe is None else read_recipe(recipe, {}).name))
    declarations = read_declarations(folder)
    if not declarations or folder.parent != root:
        begun = sorted(file.parent.name for file in root.glob("*/plan.json"))
        raise ConfigError(
            "There is no such comparison.",
            given=folder,
            expected=f"one of {', '.join(begun)}" if begun else "the folder of a comparison that was begun",
            fix="name it with name= and its folder with project=",
        )
    runs = _runs(folder, declarations[-1])
    page = folder / PAGE
    return Status(
        save_dir=str(folder),
        epochs=int(declarations[-1].plan["train"].get("epochs", DEFAULT_CFG_DICT["epochs"])),
        counts=dict(Counter(run.state for run in runs)),
        runs=runs,
        report=str(page) if page.exists() else None,
    )


def _runs(folder: Path, declared: Declaration) -> list[RunStatus]:
    plan, found = declared.plan, []
    for seed in plan["seeds"]:
        for arm in plan["arms"]:
            run = read_run(folder, arm, seed)
            claim = holder(run.folder)
            log = run.folder.with_name(f"{run.folder.name}.log")
            begun = INTERRUPTED if log.exists() else WAITING
            ended = run.state if run.state in (DONE, FAILED) else begun
            found.append(
                RunStatus(
                    arm=arm,
                    seed=seed,
                    state=RUNNING if claim and run.state != DONE else ended,
                    epochs=run.epochs,
                    seconds=run.seconds,
                    resumed=run.resumed,
                    holder=None if claim is None else str(claim),
                    since=None if claim is None else claim.since,
                    error=run.error,
                    log=str(log),
                )
            )
    return found
