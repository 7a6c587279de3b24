"""Simulate how often 95 % intervals hold the true difference, for the method of `compare` and for usual others.

Two models. `linear`: the difference of a seed is a mean over images of image, seed and interaction effects, the image
effects skewed. `AP`: detectors with made-up objects, boxes, scores and false positives; AP and its resamples come from
the code that `compare` runs, and the truth from thousands of seeds. Three regimes each: the noise is mostly of seeds,
mostly of images, or of both; and for AP a fourth with eight classes, the rarest on about four of 120 images.

Then images in 10, 20 and 50 groups of 2 to 20, as frames of videos are: the method of `compare` with `group` and
without. The effects of groups are normal; in the linear model also as skewed as an exponential distribution, which no
interval of Student's t from so few groups withstands, so that nothing is asked there.

A method is fit for use where it covers at least 93 % everywhere; of those the narrowest is best.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table as RichTable
from scipy import stats

from yolo_mha.data.files import write_text
from yolo_mha.scoring.intervals import Interval, paired_interval
from yolo_mha.scoring.matches import Matches, Table, Threshold
from yolo_mha.scoring.resample import bootstrap_weights, resampled_ap

EXAMPLES = """examples:
  python benchmarks/coverage.py                                      both models; about an hour on two cores
  python benchmarks/coverage.py --model linear --simulations 4000    the fast one alone
  python benchmarks/coverage.py --units groups                       images in groups alone
  python benchmarks/coverage.py --json coverage.json                 numbers for a program
"""
SEEDS = (3, 5, 10)
LEAST = 0.93
IOUS = np.linspace(0.5, 0.95, 10)
OURS, IGNORED = "t of seeds and images", "groups ignored"


@dataclass(frozen=True)
class Regime:
    """Where the noise comes from.

    Attributes:
        name: In words.
        linear: Standard deviations of image, seed and interaction effects in the linear model, of one image each.
        ap: Standard deviations, on the scale of a detector's skill, of an arm on an image and of an arm with a seed.
        classes: How frequent each class is in the model of AP.
        groups: Number of groups of images; 0 where images are independent.
        by_group: Standard deviation of what the images of a group share, in the linear model and in that of AP.
        skewed: Whether these effects are exponential, in the linear model; normal if not.
    """

    name: str
    linear: tuple[float, float, float]
    ap: tuple[float, float]
    classes: tuple[float, ...] = (1.0,)
    groups: int = 0
    by_group: tuple[float, float] = (0.15, 0.50)
    skewed: bool = False

    def in_model(self, model: str) -> bool:
        """Say whether this is simulated in a model."""
        return len(self.classes) == 1 if model == "linear" else not self.skewed


REGIMES = (
    Regime("seeds", (0.05, 0.02, 0.05), (0.05, 0.25)),
    Regime("images", (0.30, 0.002, 0.05), (0.80, 0.02)),
    Regime("both", (0.15, 0.015, 0.15), (0.50, 0.10)),
    Regime("both, 8 classes", (0.15, 0.015, 0.15), (0.50, 0.10), (0.40, 0.25, 0.15, 0.08, 0.05, 0.04, 0.02, 0.01)),
    *(Regime(f"{n} groups", (0.15, 0.005, 0.05), (0.30, 0.05), groups=n) for n in (10, 20, 50)),
    *(Regime(f"{n} groups, skewed", (0.15, 0.005, 0.05), (0, 0), groups=n, skewed=True) for n in (10, 20, 50)),
)
GROUP_SIZES = (2, 20)  # images, the least and the most
TRUTH = (3000, 1000)  # pairs of models, and images
IMAGES = 120
RESAMPLES = 200


@dataclass(frozen=True)
class Experiment:
    """Differences of one experiment.

    Attributes:
        deltas: Of each seed on all images, shape (S,).
        by_image: On resamples of images, shape (S, R).
        images: Number of images.
        by_group: On resamples of groups, shape (S, R).
        sizes: Number of images of each group.
    """

    deltas: Any
    by_image: Any
    images: int
    by_group: Any = None
    sizes: Any = None


# Methods -------------------------------------------------------------------------------------------------------------


def ours(found: Experiment) -> tuple[float, float]:
    """Return the interval of `compare`, with `group` where there are groups."""
    grouped = found.sizes is not None
    replicates = found.by_group if grouped else found.by_image
    return _ends(paired_interval(found.deltas, replicates, found.images, found.sizes))


def groups_ignored(found: Experiment) -> tuple[float, float]:
    """Return the interval of `compare` that takes images for independent."""
    return _ends(paired_interval(found.deltas, found.by_image, found.images))


def _ends(interval: Interval | None) -> tuple[float, float]:
    assert interval is not None
    return interval.low, interval.high


def over_seeds(found: Experiment) -> tuple[float, float]:
    """Return the paired t interval over seeds, which takes the images for all there are."""
    deltas = found.deltas
    half = stats.t.ppf(0.975, len(deltas) - 1) * deltas.std(ddof=1) / np.sqrt(len(deltas))
    return deltas.mean() - half, deltas.mean() + half


def over_images(found: Experiment) -> tuple[float, float]:
    """Return the percentile bootstrap over images, which takes these seeds for all there are."""
    low, high = np.percentile(found.by_image.mean(axis=0), (2.5, 97.5))
    return low, high


def nested(found: Experiment) -> tuple[float, float]:
    """Return the percentile bootstrap that resamples the seeds and the images."""
    rng = np.random.default_rng(0)
    seeds, count = found.by_image.shape
    drawn = rng.integers(seeds, size=(seeds, count))
    low, high = np.percentile(found.by_image[drawn, np.arange(count)].mean(axis=0), (2.5, 97.5))
    return low, high


def satterthwaite(found: Experiment) -> tuple[float, float]:
    """Return the interval with one t for the sum of both variances."""
    interval = paired_interval(found.deltas, found.by_image, found.images)
    assert interval is not None
    seeds = len(found.deltas)
    by_seed = (interval.sd_seeds or 0.0) ** 2 / seeds
    by_image = interval.se_images**2
    total = by_seed + by_image
    df = total**2 / (by_seed**2 / (seeds - 1) + by_image**2 / interval.df)
    half = stats.t.ppf(0.975, df) * np.sqrt(total)
    return interval.delta - half, interval.delta + half


Methods = dict[str, Callable[[Experiment], tuple[float, float]]]
METHODS: Methods = {
    OURS: ours,
    "one t, Satterthwaite": satterthwaite,
    "t over seeds": over_seeds,
    "bootstrap of images": over_images,
    "nested bootstrap": nested,
}
FOR_GROUPS: Methods = {OURS: ours, IGNORED: groups_ignored}


# Models --------------------------------------------------------------------------------------------------------------


def draw_groups(rng: Any, regime: Regime) -> Any:
    """Draw the group of each image; None where images are independent."""
    if not regime.groups:
        return None
    return np.repeat(np.arange(regime.groups), rng.integers(GROUP_SIZES[0], GROUP_SIZES[1] + 1, regime.groups))


def draw_linear(regime: Regime, seeds: int, number: int) -> Experiment:
    """Draw one experiment of the linear model whose true difference is 0."""
    rng = np.random.default_rng((seeds, number))
    groups = draw_groups(rng, regime)
    images = IMAGES if groups is None else len(groups)
    image, seed, interaction = regime.linear
    effects = image * (rng.standard_exponential(images) - 1)[None]  # skewed, mean 0
    effects = effects + seed * rng.standard_normal((seeds, 1)) + interaction * rng.standard_normal((seeds, images))
    if groups is not None:
        of_group = rng.standard_exponential(regime.groups) - 1 if regime.skewed else rng.standard_normal(regime.groups)
        of_both = interaction * rng.standard_normal((seeds, regime.groups))
        effects = effects + (regime.by_group[0] * of_group + of_both)[:, groups]
    return _experiment(effects.mean(axis=1), lambda weights: effects @ weights / weights.sum(axis=0), groups, number)


def _experiment(deltas: Any, scored: Callable[[Any], Any], groups: Any, number: int) -> Experiment:
    """Score the resamples of an experiment."""
    if groups is None:
        return Experiment(deltas, scored(bootstrap_weights(IMAGES, RESAMPLES, number)), IMAGES)
    by_image, by_group = (bootstrap_weights(len(groups), RESAMPLES, number, g) for g in (None, groups))
    return Experiment(deltas, scored(by_image), len(groups), scored(by_group), np.bincount(groups))


def detections(rng: Any, regime: Regime, images: int, seeds: int, groups: Any = None) -> list[tuple[Matches, Matches]]:
    """Draw the detections of both arms with every seed on the same images."""
    by_image, by_seed = regime.ap
    counts = 1 + rng.poisson(2, images)
    of = np.repeat(np.arange(images), counts)  # image of each object
    difficulty = rng.normal(0, 0.6, images)[of] + rng.normal(0, 0.6, len(of))
    likes = rng.normal(0, by_image, (2, images))[:, of]
    if groups is not None:
        likes = likes + rng.normal(0, regime.by_group[1], (2, groups.max() + 1))[:, groups[of]]
    kinds = rng.choice(len(regime.classes), len(of), p=regime.classes)
    pairs = []
    for _ in range(seeds):
        models = []
        for arm in range(2):
            skill = 0.1 * arm + rng.normal(0, by_seed)
            quality = skill + difficulty + likes[arm] + rng.normal(0, 0.3, images)[of] + rng.normal(0, 0.7, len(of))
            models.append(_model(rng, quality, of, kinds, images, regime.classes))
        pairs.append((models[0], models[1]))
    return pairs


def _model(rng: Any, quality: Any, of: Any, kinds: Any, images: int, frequency: tuple[float, ...]) -> Matches:
    """Make boxes and scores of qualities: better ones overlap more, and score higher but for some noise."""
    found = quality > -1
    wrong = np.repeat(np.arange(images), rng.poisson(2, images))
    image = np.concatenate([of[found], wrong]).astype(np.int32)
    kind = np.concatenate([kinds[found], rng.choice(len(frequency), len(wrong), p=frequency)])
    overlap = np.concatenate([0.35 + 0.62 / (1 + np.exp(-quality[found])), np.zeros(len(wrong))])
    score = np.concatenate([quality[found] + rng.normal(0, 0.7, found.sum()), rng.normal(-1.2, 1, len(wrong))])
    best_first = np.argsort(-score)
    image, kind, overlap = image[best_first], kind[best_first], overlap[best_first]
    classes = {}
    for k in range(len(frequency)):
        objects = np.bincount(of[kinds == k], minlength=images).astype(np.float32)
        classes[f"class {k}"] = (_table(objects, image[kind == k], overlap[kind == k]), *[_empty(images)] * 3)
    return Matches(images, classes)


NOTHING = np.zeros(0, np.int32)


def _table(objects: Any, image: Any, overlap: Any) -> Table:
    thresholds = []
    for iou in IOUS:
        hits = np.flatnonzero(overlap >= iou)
        thresholds.append(Threshold(image[hits], (hits + 1).astype(np.int32), NOTHING, np.zeros(len(hits), np.int32)))
    return Table(objects, image, tuple(thresholds))


def _empty(images: int) -> Table:
    """Return the table of a range of areas without objects."""
    return Table(np.zeros(images, np.float32), NOTHING, (Threshold(*[NOTHING] * 4),) * len(IOUS))


def draw_ap(regime: Regime, seeds: int, number: int) -> Experiment:
    """Draw one experiment with detectors, whose differences are in AP."""
    rng = np.random.default_rng((seeds, number))
    groups = draw_groups(rng, regime)
    images = IMAGES if groups is None else len(groups)
    pairs = detections(rng, regime, images, seeds, groups)

    def scored(weights: Any) -> Any:
        return np.stack([resampled_ap(b, weights) - resampled_ap(a, weights) for a, b in pairs])

    return _experiment(scored(np.ones((images, 1), np.float32))[:, 0], scored, groups, number)


def true_difference(regime: Regime) -> tuple[float, float]:
    """Return the expected difference in AP, from many pairs of models, each on images of its own, and its error.

    With groups each image is of another one: of many groups the images are distributed in the same way.
    """
    pairs, images = TRUTH
    groups = np.arange(images) if regime.groups else None
    weights = np.ones((images, 1), np.float32)
    found = []
    for number in range(pairs):
        ((one, other),) = detections(np.random.default_rng((7, number)), regime, images, 1, groups)
        found.append(float((resampled_ap(other, weights) - resampled_ap(one, weights))[0]))
    return float(np.mean(found)), float(np.std(found) / np.sqrt(pairs))


def methods(regime: Regime) -> Methods:
    """Return the methods that are tried in a regime."""
    return FOR_GROUPS if regime.groups else METHODS


def intervals(number: int, draw: Callable[..., Experiment], regime: Regime, seeds: int) -> list[tuple[float, float]]:
    """Return the interval of each method in one experiment."""
    found = draw(regime, seeds, number)
    return [method(found) for method in methods(regime).values()]


def run(model: str, simulations: int, regimes: Sequence[Regime]) -> list[dict[str, Any]]:
    """Simulate one model in some regimes and for all numbers of seeds."""
    draw = {"linear": draw_linear, "AP": draw_ap}[model]
    rows = []
    regimes = [regime for regime in regimes if regime.in_model(model)]
    cases = [(regime, seeds) for regime in regimes for seeds in SEEDS]
    with ProcessPoolExecutor() as pool:
        # one true difference for all numbers of groups
        kinds = {replace(regime, name="", groups=min(regime.groups, 1)): regime for regime in regimes}
        known = [(0.0, 0.0)] * len(kinds) if model == "linear" else list(pool.map(true_difference, kinds.values()))
        truths = dict(zip(kinds, known, strict=True))
        for regime, seeds in track(cases, description=f"simulating {model}", console=Console(stderr=True)):
            work = partial(intervals, draw=draw, regime=regime, seeds=seeds)
            ends = np.array(list(pool.map(work, range(simulations), chunksize=10)))  # (simulations, methods, 2)
            truth, error = truths[replace(regime, name="", groups=min(regime.groups, 1))]
            covered = ((ends[..., 0] <= truth) & (truth <= ends[..., 1])).mean(axis=0)
            widths = (ends[..., 1] - ends[..., 0]).mean(axis=0)
            for name, cover, width in zip(methods(regime), covered, widths, strict=True):
                rows.append(
                    {
                        "model": model,
                        "noise": regime.name,
                        "seeds": seeds,
                        "method": name,
                        "asked": name == OURS and not regime.skewed,
                        "truth": truth,
                        "truth_error": error,
                        "coverage": float(cover),
                        "width": float(width),
                        "simulations": simulations,
                    }
                )
    return rows


def table(rows: list[dict[str, Any]], model: str) -> RichTable:
    """Lay out the coverage of every method, and the mean width of its intervals."""
    tried = list(dict.fromkeys(r["method"] for r in rows))
    shown = RichTable("noise", "seeds", *tried, title=f"{model}: coverage (width)")
    for noise, seeds in dict.fromkeys((r["noise"], r["seeds"]) for r in rows):
        own = {r["method"]: r for r in rows if (r["noise"], r["seeds"]) == (noise, seeds)}
        cells = (f"{own[m]['coverage']:.3f} ({own[m]['width']:.3f})" if m in own else "" for m in tried)
        shown.add_row(noise, str(seeds), *cells)
    return shown


def main(arguments: list[str] | None = None) -> int:
    """Simulate and print; exit with 1 where the method of `compare` covers too little."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", choices=("linear", "AP"), help="one of the two models; both if not given")
    parser.add_argument("--simulations", type=int, default=1000, help="experiments a cell (default 1000)")
    parser.add_argument(
        "--units", choices=("images", "groups"), help="independent images, or groups; both if not given"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers")
    settings = parser.parse_args(arguments)
    if settings.simulations < 1:
        parser.error("--simulations must be 1 or more")
    console, rows = Console(), []
    regimes = [r for r in REGIMES if settings.units in (None, "groups" if r.groups else "images")]
    for model in [settings.model] if settings.model else ["linear", "AP"]:
        own = run(model, settings.simulations, regimes)
        rows += own
        console.print(table(own, model))
    if settings.json:
        write_text(settings.json, json.dumps(rows, indent=1))
    worst = min(r["coverage"] for r in rows if r["asked"])
    error = np.sqrt(LEAST * (1 - LEAST) / settings.simulations)
    console.print(f"{OURS}: covers {worst:.3f} at worst, standard error {error:.3f}; {LEAST} is asked for")
    return int(worst < LEAST)


if __name__ == "__main__":
    raise SystemExit(main())
