"""`compare`: arms x seeds under one recipe, scored on the same images, with an honest verdict and a report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ultralytics.utils import LOGGER

from ..engine.own_settings import checked
from ..errors import ConfigError
from ..guard import guarded
from ..scoring.power import LEAST_SEEDS
from .comparison import Comparison
from .conclude import conclude as conclude_runs
from .declared import read_declarations
from .estimate import Estimate, measure_plan
from .folder import comparisons, open_folder
from .given_runs import prepare_given
from .interim import stages
from .looks import read_looks, review
from .plan import Plan, prepare
from .planning import draw_power, find_power
from .recipe import JOBS, MARGIN, SEEDS, Recipe, read_recipe, recipe_from_settings, recipe_of_given
from .runs import Run, read_run, train_runs

# Trains the runs of a plan, by arm and seed, in the comparison's folder, and returns all of them in the same order.
Trainer = Callable[[Plan, Path, Sequence[tuple[str, int]]], list[Run]]


@checked
@guarded()
def compare(
    model: str | Path | None = None,
    data: str | Path | None = None,
    *,
    models: str | Path | Mapping[str, Mapping[int, str | Path]] | None = None,
    predictions: str | Path | Mapping[str, Mapping[int, str | Path]] | None = None,
    baseline: str | None = None,
    at: str | Iterable[str] | None = None,
    attention: str | Path | None = None,
    control: bool | str | Path | None = None,
    seeds: int | str | Sequence[int] = SEEDS,
    margin: float = MARGIN,
    jobs: int = JOBS,
    project: str | Path | None = None,
    name: str = "compare",
    conclude: bool = False,
    **settings: Any,
) -> Comparison:
    """Train a baseline and its variants with several seeds under one recipe, score them, and say what that shows.

    The same call after an interruption goes on where it was; finished runs are never trained again. With ``models`` or
    ``predictions`` nothing is trained: runs that one already has are scored and compared in the same way.

    Args:
        model: The baseline: a model YAML or a checkpoint.
        data: Dataset YAML, or "beacons" for the embedded default dataset.
        models: In place of ``model``, checkpoints by arm and seed: a pattern of paths with ``{arm}`` and ``{seed}`` in
            it, a YAML file with ``arm: {seed: path}``, or such a mapping.
        predictions: In place of ``model``, COCO results files by arm and seed, as ``models``.
        baseline: The arm of ``models`` or ``predictions`` that is the baseline, if none is called "baseline".
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
        conclude: Train nothing; score and report the runs that are finished.
        **settings: ``block`` and its options, ``freeze_base``, ``primary``, ``looks``, ``metric``, ``contrasts`` and
            ``split`` (see `Recipe`), ``group`` (see `read_groups`), ``bad`` (see `read_dataset`) and training settings,
            for all arms alike.

    Returns:
        The comparison, also written as JSON, HTML and Markdown.

    Raises:
        ConfigError: A setting is unusable, or another process works on the same comparison.
        ModelError, CheckpointError, DataError: A model, the dataset or predictions cannot be read.
        UnsupportedTaskError: A model is not for box detection.
        RunError: No run finished; the message says where the logs are.
    """
    settings |= {"model": model, "data": data, "at": at, "attention": attention, "control": control, "margin": margin}
    settings["name"] = name
    if models is None and predictions is None and baseline is None:
        recipe = recipe_from_settings({**settings, "seeds": seeds, "jobs": jobs})
        return run_comparison(recipe, project, None if conclude else train_runs)
    settings |= {"models": models, "predictions": predictions, "baseline": baseline, "conclude": conclude or None}
    settings |= {"seeds": None if seeds is SEEDS else seeds, "jobs": None if jobs == JOBS else jobs}  # refused if given
    return run_comparison(recipe_of_given(settings), project)


@checked
@guarded()
def run_recipe(
    recipe: str | Path, *, project: str | Path | None = None, conclude: bool = False, **overrides: Any
) -> Comparison:
    """Run a comparison that a YAML describes; see `compare`.

    Args:
        recipe: The YAML, or the name of a shipped one ("demo.yaml"); its keys are the attributes of `Recipe`.
        project: Folder for the folders of all comparisons; ``runs/compare`` if not given.
        conclude: Train nothing; score and report the runs that are finished.
        **overrides: Settings that replace those of the file.

    Returns:
        The comparison.

    Raises:
        ConfigError: The file is missing or has unknown, missing or repeated keys; and as `compare`.
    """
    return run_comparison(read_recipe(recipe, overrides), project, None if conclude else train_runs)


@checked
@guarded()
def estimate(
    recipe: str | Path | None = None,
    *,
    pilot: str | Path | None = None,
    sd_seeds: float | None = None,
    se_images: float | None = None,
    project: str | Path | None = None,
    **settings: Any,
) -> Estimate:
    """Check a comparison, and measure what it would take; nothing is trained, and no file of a run is written.

    Args:
        recipe: A recipe YAML; or None.
        pilot: An earlier comparison, for what this one can find, see `find_power`; the curve is drawn into
            ``NAME-power.png``.
        sd_seeds: In its place, the standard deviation of the difference over seeds.
        se_images: The standard error for the choice of images.
        project: Folder for the picture; ``runs/compare`` if not given.
        **settings: As for `compare`, or beside a recipe as for `run_recipe`.

    Returns:
        Time, memory and power.

    Raises:
        ConfigError, ModelError, DataError, UnsupportedTaskError: As `compare`.
        RunError: A training step failed.
    """
    wanted = read_recipe(recipe, settings) if recipe is not None else recipe_from_settings(settings)
    if wanted.given:
        raise ConfigError(
            "Nothing is trained, so there is nothing to estimate.",
            given=f"arms of {wanted.given}",
            expected="arms to train, or no dry_run",
        )
    plan = prepare(wanted)
    known = find_power(plan, pilot, sd_seeds, se_images)
    found = measure_plan(plan)
    if known is None:
        return found
    file = comparisons(project) / f"{plan.recipe.name}-power.png"
    draw_power(known, plan.recipe, file)
    return replace(found, power=known, picture=str(file))


def run_comparison(recipe: Recipe, project: str | Path | None, train: Trainer | None = None) -> Comparison:
    """Train, score and report a comparison; see `compare`.

    Args:
        recipe: The recipe.
        project: Folder for the folders of all comparisons; ``runs/compare`` if not given.
        train: What trains its runs; None scores those that are given, or finished.
    """
    plan, given = prepare_given(recipe) if recipe.given else (prepare(recipe), [])
    if len(recipe.seeds) < LEAST_SEEDS and not given:
        LOGGER.warning(f"A verdict needs {LEAST_SEEDS} seeds, such as seeds=0,1,2; this plan has {len(recipe.seeds)}")
    with open_folder(plan, project, begun=train is None and not given) as folder:
        for objection in review(read_declarations(folder)[-1].plan, read_looks(folder)).objections:
            LOGGER.warning(f"There will be no verdict: {objection}")
        if given or train is None:
            runs = given or [read_run(folder, arm, seed) for seed in recipe.seeds for arm in plan.arms]
            return conclude_runs(plan, folder, runs)
        runs = []
        for stage in stages(recipe.looks, recipe.seeds):
            seeds = stage.seeds[len({run.seed for run in runs}) :]
            runs += train(plan, folder, [(arm, seed) for seed in seeds for arm in plan.arms])
            found = conclude_runs(plan, folder, runs)
            if found.stage is None or found.stage.stop:
                break
        return found
