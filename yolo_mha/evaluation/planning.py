"""What a planned comparison can find, from a pilot, an earlier comparison or stated numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ..data.files import read_json, whole_file
from ..data.records import fits
from ..errors import ConfigError
from ..fonts import legible
from ..scoring.intervals import LEAST_UNITS, Interval, effective_groups, sample
from ..scoring.matches import match_detections
from ..scoring.power import (
    LEAST_SEEDS,
    MOST_SEEDS,
    POWER,
    Spread,
    power,
    power_to_exclude,
    seeds_needed,
    smallest_detectable,
)
from ..scoring.resample import mean_of, support
from ..scoring.truth import read_truth
from ..text import plotted_lines
from .figures import size
from .interim import stages
from .plan import Plan
from .recipe import Recipe

TRIED = (3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30)  # numbers of seeds
RESULTS = "compare.json"


@dataclass(frozen=True)
class Tested:
    """What a metric will be tested on.

    Attributes:
        images: Number of images.
        sizes: How many of them each group has; None where each image is by itself.
    """

    images: int
    sizes: list[int] | None

    @property
    def units(self) -> int:
        return self.images if self.sizes is None else len(self.sizes)

    @property
    def df(self) -> float:
        """Degrees of freedom of the spread over images."""
        return max((self.images if self.sizes is None else effective_groups(np.array(self.sizes))) - 1, 1)

    def __str__(self) -> str:
        return sample(self.images, None if self.sizes is None else len(self.sizes))


@dataclass(frozen=True)
class PowerPoint:
    """What a number of seeds can find.

    Attributes:
        seeds: Number of seeds.
        finds: Probability that a true difference as large as the margin is found.
        finds_upper: The same if the spread over seeds is at its 80 % upper bound.
        excludes: Probability that "no difference that matters" comes out where there is none.
        smallest_detectable: The true difference that is found with probability 0.8.
    """

    seeds: int
    finds: float
    finds_upper: float
    excludes: float
    smallest_detectable: float


@dataclass(frozen=True)
class Power:
    """What a comparison can find.

    Attributes:
        source: Where the spread comes from.
        spread: The spread over seeds and images.
        sd_upper: The 80 % upper bound of the standard deviation over seeds.
        tested: The images that are tested on, and their groups, in words.
        points: By number of seeds; one of them is what is planned.
        needed: The number of seeds that find the margin with probability 0.8; None above thirty.
        needed_upper: The same if the spread is at its upper bound.
        notes: What the numbers rest on.
    """

    source: str
    spread: Spread
    sd_upper: float
    tested: str
    points: list[PowerPoint]
    needed: int | None
    needed_upper: int | None
    notes: list[str]

    def sentences(self, recipe: Recipe) -> list[str]:
        """Say what a design can and cannot find.

        Args:
            recipe: What is planned.
        """
        seeds, margin, said = len(recipe.seeds), recipe.margin, []
        if own := next((point for point in self.points if point.seeds == seeds), None):
            uncertain = self.sd_upper > self.spread.sd_seeds
            upper = f" ({own.finds_upper:.2f} if the spread is at its 80 % upper bound)" if uncertain else ""
            least = size(own.smallest_detectable, margin)
            said += [
                f"With {seeds} seeds and {self.tested} a true difference of {margin:g} in {recipe.metric} is found "
                f"with probability {own.finds:.2f}{upper}.",
                f"A difference of {least} is found with probability {POWER:g}, a smaller one less often.",
                f"If there is no true difference, one of {margin:g} or more is excluded with probability "
                f"{own.excludes:.2f}.",
            ]
        else:
            said.append(f"Fewer than {LEAST_SEEDS} seeds give no verdict.")
        if self.needed is None:
            error = stages(recipe.looks, recipe.seeds)[-1].error
            tried = max(MOST_SEEDS, seeds)
            floor = size(smallest_detectable(self.spread, tried, error), margin)
            said.append(
                f"Even {tried} seeds find only differences of {floor} or more: use a larger margin, or more test "
                "images."
            )
        elif self.needed > seeds:
            most = f"up to {self.needed_upper}" if self.needed_upper else f"more than {MOST_SEEDS}"
            doubt = "" if self.needed_upper == self.needed else f", or {most}, because the spread is uncertain"
            said.append(f"A difference of {margin:g} takes about {self.needed} seeds{doubt}.")
        return said


def find_power(
    plan: Plan, pilot: str | Path | None = None, sd_seeds: float | None = None, se_images: float | None = None
) -> Power | None:
    """Compute what differences a comparison can find; None if no spread is given.

    Args:
        plan: The plan.
        pilot: Folder of a comparison of the same kind with three seeds or more, or its ``compare.json``.
        sd_seeds: In its place, the standard deviation of the difference over seeds.
        se_images: The standard error for the choice of images.

    Raises:
        ConfigError: The pilot is no comparison or has no such contrast, or a number is unusable.
        DataError: Its file cannot be read.
    """
    if pilot is None and sd_seeds is None and se_images is None:
        return None
    recipe, tested = plan.recipe, _tested(plan)
    if pilot is None:
        source, spread, notes = _stated(sd_seeds, se_images, tested)
    elif sd_seeds is None and se_images is None:
        source, found = read_pilot(pilot, recipe.primary, recipe.baseline, recipe.metric)
        spread, notes = _scaled(found, tested)
    else:
        raise ConfigError(
            "pilot cannot be combined with sd_seeds or se_images.",
            given=f"pilot={pilot} sd_seeds={sd_seeds} se_images={se_images}",
            expected="pilot=runs/compare/NAME, or sd_seeds=0.01 se_images=0.005",
        )
    if tested.units < LEAST_UNITS:
        notes.append(f"{tested} are too few for an interval; {LEAST_UNITS} or more are needed.")
    if recipe.looks:
        notes.append("The numbers are for the last look; earlier looks can find large differences sooner.")
    margin, error = recipe.margin, stages(recipe.looks, recipe.seeds)[-1].error
    return Power(
        source=source,
        spread=spread,
        sd_upper=spread.upper.sd_seeds,
        tested=str(tested),
        points=[
            PowerPoint(
                seeds=count,
                finds=power(spread, count, margin, error),
                finds_upper=power(spread.upper, count, margin, error),
                excludes=power_to_exclude(spread, count, margin, error),
                smallest_detectable=smallest_detectable(spread, count, error),
            )
            for count in sorted({*TRIED, max(len(recipe.seeds), LEAST_SEEDS)})
        ],
        needed=seeds_needed(spread, margin, error),
        needed_upper=seeds_needed(spread.upper, margin, error),
        notes=notes,
    )


def _stated(sd_seeds: float | None, se_images: float | None, tested: Tested) -> tuple[str, Spread, list[str]]:
    """Take the spread from numbers."""
    if sd_seeds is None:
        given = f"se_images={se_images}"
        raise ConfigError("se_images needs sd_seeds.", given=given, expected=f"sd_seeds=0.01 {given}")
    for name, value in (("sd_seeds", sd_seeds), ("se_images", se_images or 0.0)):
        if type(value) not in (int, float) or not 0 <= value < 1:
            given = f"{name}={value}"
            raise ConfigError(f"{name} is out of range.", given=given, expected="an AP difference from 0 to below 1")
    notes = [] if se_images is not None else ["se_images is not given, so variation over images is taken as 0."]
    source = f"sd_seeds={sd_seeds:g}, se_images={se_images or 0:g}"
    return source, Spread(sd_seeds, se_images or 0.0, tested.df), notes


def _scaled(found: Interval, tested: Tested) -> tuple[Spread, list[str]]:
    """Take the spread from an earlier difference, for another number of images."""
    se, notes = found.se_images, []
    if (found.groups is None) != (tested.sizes is None):
        notes.append(
            "Only one of the pilot and this plan resamples groups, so the pilot's spread over images is not rescaled."
        )
    elif found.units != tested.units:
        se *= math.sqrt(found.units / tested.units)
        notes.append(f"The spread over images is that of {found.sample()}, scaled to {tested}.")
    return Spread(found.sd_seeds or 0.0, se, tested.df, found.seeds), notes


def read_pilot(pilot: str | Path, arm: str, against: str, metric: str) -> tuple[str, Interval]:
    """Return the difference that an earlier comparison found, and where it comes from in words.

    Args:
        pilot: Its folder or ``compare.json``.
        arm: The primary arm of the plan; where the comparison does not have it, its own primary contrast is taken.
        against: The baseline of the plan.
        metric: What is compared.
    """
    file = Path(pilot) / RESULTS if Path(pilot).is_dir() else Path(pilot)
    content = read_json(file, "pilot")
    try:
        known: list[Mapping[str, Any]] = content["contrasts"]
        named = [c for c in known if (c["arm"], c["against"]) == (arm, against)]
        chosen = next((c for c in (*named, *known) if c["effects"].get(metric)), None)
        if chosen and not fits(chosen["effects"][metric], Interval):
            raise TypeError(metric)
        found = Interval(**chosen["effects"][metric]) if chosen else None
    except (KeyError, TypeError, AttributeError) as e:
        expected = f"the folder of a finished comparison, or its {RESULTS}"
        raise ConfigError("The pilot is not a comparison.", given=file, expected=expected) from e
    if chosen is None or found is None or found.seeds < LEAST_SEEDS:
        what = f"seeds of {chosen['arm']} - {chosen['against']}: {found.seeds}" if found and chosen else "no interval"
        raise ConfigError(
            f"The pilot cannot tell how much {metric} varies over seeds.",
            given=f"{file}: {what}",
            expected=f"a comparison with {LEAST_SEEDS} seeds or more and an interval of {metric}",
        )
    return f"{file.parent.name}: {chosen['arm']} - {chosen['against']}, {found.seeds} seeds, {found.sample()}", found


def _tested(plan: Plan) -> Tested:
    """Return what the metric of a plan will be tested on: the images that hold an object that counts for it."""
    recipe, samples = plan.recipe, plan.samples[plan.recipe.split]
    truth = read_truth(plan.dataset, recipe.split, samples)
    groups = None
    if plan.groups is not None:
        groups = np.unique([plan.groups[s.image] for s in truth.scored(samples)], return_inverse=True)[1]
    matches = match_detections(truth.coco, [])
    found = support(matches, mean_of(recipe.metric, matches.classes), groups)
    return Tested(found.images, None if found.group_sizes is None else found.group_sizes.tolist())


@legible()
def draw_power(found: Power, recipe: Recipe, file: Path) -> None:
    """Draw the power curve as a picture.

    Args:
        found: From `find_power`.
        recipe: What is planned.
        file: The PNG.
    """
    seeds, margin = len(recipe.seeds), recipe.margin
    figure = Figure(figsize=(7, 4.6), layout="constrained")
    axes = figure.subplots()
    x = [point.seeds for point in found.points]
    finds, upper, excludes = ([getattr(p, key) for p in found.points] for key in ("finds", "finds_upper", "excludes"))
    axes.plot(x, finds, "o-", color="#d1495b", label=f"a true difference of {margin:g} is found")
    if found.spread.pilot is not None:
        worst = "with a spread over seeds up to its 80 % upper bound"
        axes.fill_between(x, upper, finds, color="#d1495b", alpha=0.2, lw=0, label=worst)
    axes.plot(x, excludes, "s--", color="#2e86ab", label=f"that there is none of {margin:g} is shown, if so")
    axes.axhline(POWER, color="0.6", lw=1)
    axes.axvline(seeds, color="0.3", lw=1, ls=":", label=f"planned: {seeds} seeds")
    axes.set(
        xlabel="seeds",
        ylabel="probability",
        ylim=(0, 1.02),
        title=plotted_lines(f"What this comparison can find in {recipe.metric}", 70),
    )
    axes.grid(alpha=0.3)
    figure.legend(frameon=False, loc="outside lower center")
    with whole_file(file) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
