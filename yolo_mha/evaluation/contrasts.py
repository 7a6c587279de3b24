"""Differences between arms with intervals, and the images behind them, from the matched detections of all runs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..data.progress import Progress, silent
from ..scoring.intervals import Interval, paired_interval
from ..scoring.matches import Matches
from ..scoring.metric import OVERALL, class_metric
from ..scoring.resample import (
    RESAMPLES,
    Support,
    Values,
    Weights,
    bootstrap_weights,
    common_classes,
    mean_of,
    resampled_ap,
    resampled_scores,
    supports,
)
from .comparison import Contrast, Win
from .interim import Stage
from .named import Named
from .recipe import Recipe
from .verdict import no_interval
from .verdicts import with_verdicts

CANDIDATES = 100  # images on either side that are left out one by one, to find those that matter most
MOST_WINS = 3  # images that are shown for either side

Finished = Mapping[str, Mapping[int, Matches]]  # by arm and seed
Resampled = Mapping[tuple[str, int], Values]  # the metric on each resample of the images, by arm and seed


def contrasts(
    recipe: Recipe,
    finished: Finished,
    files: Sequence[str],
    progress: Progress = silent,
    failed: Collection[tuple[str, int]] = (),
    groups: Sequence[str] | None = None,
    stage: Stage | None = None,
) -> tuple[list[Contrast], list[Win], Resampled]:
    """Compare what the recipe names, all arms with the baseline, and the primary arm with the others.

    Args:
        recipe: The recipe.
        finished: The matched detections of every finished run, all on the same images.
        files: The image files, in the order of the ground truth.
        progress: Shows progress.
        failed: Arm and seed of the runs that failed.
        groups: The group of each image, where groups are resampled.
        stage: Which of the declared looks this is; None for the only one, with all seeds.

    Returns:
        The contrasts, the primary one first, then those that are named; the images that move AP's difference most; and
        the primary contrast's metric of each run on each resample.
    """
    runs = {(arm, seed): matches for arm, seeds in finished.items() for seed, matches in seeds.items()}
    if not runs:
        return [], [], {}
    images = next(iter(runs.values())).images
    numbers = None if groups is None else np.unique(groups, return_inverse=True)[1]
    drawn = bootstrap_weights(images, RESAMPLES, groups=numbers)
    weights = np.concatenate([np.ones((images, 1), np.float32), drawn], axis=1)  # the images as they are come first
    planned, stage = recipe.named(), stage or Stage()
    truth = next(iter(runs.values()))
    means = {metric: mean_of(metric, truth.classes) for metric in ("AP", *(named.metric for named in planned))}
    common = {metric: common_classes(truth, mean, numbers) for metric, mean in means.items()}
    rare = {m: [name for name in mean.classes if name not in common[m].classes] for m, mean in means.items()}
    own_means = {metric: mean for metric, mean in means.items() if metric not in OVERALL}
    own_means |= {_without_rare(m): mean for m, mean in common.items() if rare[m] and mean.classes}
    scores = {}
    for i, (run, matches) in enumerate(runs.items(), 1):
        named = counted(progress, f"resampling images, run {i} of {len(runs)}")
        scores[run] = resampled_scores(matches, weights, named, own_means)
    tested = supports(truth, numbers, own_means)

    baseline, *others = recipe.arms
    pairs = [Named(arm, baseline) for arm in (recipe.primary, *others)]
    pairs += [Named(recipe.primary, arm) for arm in others if arm != recipe.primary]
    found, wins = [], []
    for pair in dict.fromkeys((*planned, *pairs)):
        arm, against, metric = pair.arm, pair.against, pair.metric
        seeds = sorted(set(finished.get(arm, {})) & set(finished.get(against, {})))
        own, other = ([scores[name, s] for s in seeds] for name in (arm, against))
        metrics = next(iter(own), {})
        # arm less other by metric, shape (S, 1 + R), the images as they are first
        differences = {m: np.stack([a[m] - b[m] for a, b in zip(own, other, strict=True)]) for m in metrics}
        effects = {m: paired_interval(d[:, 0], d[:, 1:], *tested[m]) for m, d in differences.items()}
        undefined = not seeds or bool(np.isnan(differences[metric][:, 0]).any())  # APlarge without one
        tried = stage.seeds or recipe.seeds
        found.append(
            Contrast(
                arm=arm,
                against=against,
                metric=metric,
                primary=pair == planned[0],
                named=pair in planned,
                seeds=seeds,
                deltas=[] if undefined else differences[metric][:, 0].tolist(),
                effects={m: effects.get(m) for m in dict.fromkeys((*OVERALL, metric))},
                per_class={name: effects.get(class_metric(name)) for name in truth.classes},
                best=0.0 if undefined else max(float(np.mean([s[metric][0] for s in side])) for side in (own, other)),
                with_failures=_with_failures(pair, tried, scores, failed, tested[metric]),
                rare=rare[metric],
                without_rare=effects.get(_without_rare(metric)),
                verdict=no_interval(arm, against, len(seeds), tested[metric]),
            )
        )
        if pair == Named(arm, baseline) and seeds:
            models = [(finished[arm][s], finished[against][s]) for s in seeds]
            replicates, by_image = differences["AP"][:, 1:], drawn
            if groups is not None:  # drawn together, the images of a group cannot be told apart
                by_image = bootstrap_weights(images, RESAMPLES)
                replicates = np.stack([resampled_ap(a, by_image) - resampled_ap(b, by_image) for a, b in models])
            influence = _influence(models, replicates, by_image)
            wins += [Win(files[image], arm, value) for image, value in influence]
    resampled = {run: own[recipe.metric][1:] for run, own in scores.items()}
    return with_verdicts(found, recipe.margin, stage), wins, resampled


def _without_rare(metric: str) -> str:
    """Name a metric without its rare classes."""
    return f"{metric} of common classes"


def _with_failures(
    pair: Named,
    seeds: Sequence[int],
    scores: Mapping[tuple[str, int], Mapping[str, NDArray[np.float64]]],
    failed: Collection[tuple[str, int]],
    tested: Support,
) -> Interval | None:
    """Compare two arms over all seeds that they tried, a failed run with AP 0; None where none failed."""
    arms = (pair.arm, pair.against)
    tried = [s for s in seeds if all((name, s) in scores or (name, s) in failed for name in arms)]
    nothing = {pair.metric: np.zeros(1 + RESAMPLES)}
    pairs = [[scores.get((name, s), nothing)[pair.metric] for name in arms] for s in tried]
    if not any((name, s) in failed for name in arms for s in tried):
        return None
    differences = np.stack([own - other for own, other in pairs])
    return paired_interval(differences[:, 0], differences[:, 1:], *tested)


def counted(progress: Progress, text: str) -> Progress:
    """Let a progress display say another text than the one that it is given."""
    return lambda items, _, total: progress(items, text, total)


def _influence(
    models: Sequence[tuple[Matches, Matches]], differences: NDArray[np.float64], drawn: Weights
) -> list[tuple[int, float]]:
    """Find the images whose absence changes the difference in AP most, the mean over seeds, with that change.

    Resamples in which an image is often differ from those in which it is rare by its influence (the infinitesimal
    jackknife, Efron 2014); the candidates that this names are then left out one by one.
    """
    mean = differences.mean(axis=0)
    centred = drawn - drawn.mean(axis=1, keepdims=True)
    likely = centred @ np.nan_to_num(mean - np.nanmean(mean)).astype(np.float32)  # (I,)
    order = np.argsort(-likely)
    candidates = np.unique(np.concatenate([order[:CANDIDATES], order[-CANDIDATES:]]))
    weights = np.ones((len(likely), len(candidates) + 1), np.float32)  # the last column leaves out none
    weights[candidates, np.arange(len(candidates))] = 0
    without = np.mean([resampled_ap(own, weights) - resampled_ap(other, weights) for own, other in models], axis=0)
    influence = np.nan_to_num(without[-1] - without[:-1])
    best_first = np.argsort(-influence)
    chosen = [i for i in best_first[:MOST_WINS] if influence[i] > 0]
    chosen += [i for i in best_first[::-1][:MOST_WINS] if influence[i] < 0]
    return [(int(candidates[i]), float(influence[i])) for i in chosen]
