"""`compare only=ARM/SEED`: one run of a comparison, for a scheduler that starts each run by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..engine.own_settings import checked
from ..errors import ConfigError, nearest
from ..evaluation.folder import join_folder
from ..evaluation.plan import prepare
from ..evaluation.recipe import Recipe, read_recipe, recipe_from_settings
from ..evaluation.runs import FAILED, train_runs
from ..guard import guarded
from ..result import Result
from .status import RunStatus, run_status


@dataclass(frozen=True)
class SingleRun(RunStatus, Result):
    """One run of a comparison; "running" where another process trains it.

    Attributes:
        save_dir: The comparison's folder.
    """

    save_dir: str

    @property
    def ok(self) -> bool:
        return self.state != FAILED


@checked
@guarded()
def train_run(
    recipe: str | Path | None = None, *, only: str, project: str | Path | None = None, **settings: Any
) -> SingleRun:
    """Train one run of a comparison, and conclude nothing.

    It may be called for all runs at the same time, on several machines with the same files and the same ``project``,
    and more than once: a run that is done stays as it is, one that another process trains is left to it, and one whose
    process was killed goes on from its last checkpoint. Then ``compare(..., conclude=True)`` scores and reports.

    Args:
        recipe: A recipe YAML; or None.
        only: The run: the arm's name, a slash and the seed, such as "attention/3".
        project: Folder for the folders of all comparisons; ``runs/compare`` if not given.
        **settings: As for `compare`, or beside a recipe as for `run_recipe`.

    Raises:
        ConfigError: There is no such run, a setting is unusable, or another process works on the comparison with
            another plan.
        ModelError, CheckpointError, DataError, UnsupportedTaskError: As `compare`.
    """
    wanted = recipe_of_single_runs(recipe, settings)
    arm, seed = _run_of(wanted, only)
    plan = prepare(wanted)
    folder = join_folder(plan, project)
    train_runs(plan, folder, [(arm, seed)], wait=False)
    return SingleRun(**vars(run_status(folder, arm, seed)), save_dir=str(folder))


def recipe_to_train(recipe: str | Path | None, settings: Mapping[str, Any]) -> Recipe:
    """Return the recipe of a comparison whose runs are trained.

    Raises:
        ConfigError: Its runs are given, or it is none.
    """
    wanted = read_recipe(recipe, settings) if recipe is not None else recipe_from_settings(settings)
    if wanted.given:
        expected = "arms with a model YAML or a checkpoint to train"
        raise ConfigError("Its runs are given, so none is trained.", given=f"arms of {wanted.given}", expected=expected)
    return wanted


def recipe_of_single_runs(recipe: str | Path | None, settings: Mapping[str, Any]) -> Recipe:
    """Return the recipe of a comparison whose runs are trained without regard to each other.

    Raises:
        ConfigError: It has looks, for which runs wait for each other; or as `recipe_to_train`.
    """
    wanted = recipe_to_train(recipe, settings)
    if wanted.looks:
        looks = ",".join(map(str, wanted.looks))
        raise ConfigError("looks cannot be combined with only or emit.", given=f"looks={looks}", expected="no looks")
    return wanted


def all_runs(recipe: Recipe) -> list[str]:
    """Name the runs of a comparison as ``only`` does."""
    return [f"{arm}/{seed}" for seed in recipe.seeds for arm in recipe.arms]


def _run_of(recipe: Recipe, only: object) -> tuple[str, int]:
    """Return the arm and seed of a run.

    Raises:
        ConfigError: There is no such run.
    """
    names = all_runs(recipe)
    if only not in names:
        raise ConfigError("The comparison has no such run.", given=f"only={only}", expected=nearest(str(only), names))
    arm, _, seed = str(only).rpartition("/")
    return arm, int(seed)
