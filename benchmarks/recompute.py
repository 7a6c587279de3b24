"""Compute the result of a comparison again without any code of this project: numpy, scipy and pycocotools alone.

Usage: python benchmarks/recompute.py runs/compare/NAME [RESAMPLES]

From ``compare.json`` and the files that it names, each checked by its SHA-256, it computes AP of every run; AP of every
run of the primary contrast on the first RESAMPLES (20) resamples of the images, one by one; and the interval and the
verdict from all resamples as they are written there. It exits with 1 where anything differs by more than 1e-9.

It does so for a comparison of three seeds or more whose primary contrast is about AP, without looks and failed runs.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from scipy import stats

TOLERANCE = 1e-9


def average_precision(truth: dict[str, Any], found: list[dict[str, Any]], counts: Any) -> float:
    """Return AP of pycocotools where each image is there as often as ``counts`` says, as images of their own."""
    images, annotations, results = [], [], []
    of_image: dict[Any, tuple[list[Any], list[Any]]] = {image["id"]: ([], []) for image in truth["images"]}
    for annotation in truth["annotations"]:
        of_image[annotation["image_id"]][0].append(annotation)
    for result in found:
        of_image[result["image_id"]][1].append(result)
    for image, count in zip(truth["images"], counts, strict=True):
        for _ in range(int(count)):
            number = len(images) + 1
            images.append({**image, "id": number})
            own, own_results = of_image[image["id"]]
            annotations += [{**a, "image_id": number, "id": len(annotations) + i + 1} for i, a in enumerate(own)]
            results += [{**r, "image_id": number} for r in own_results]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {"images": images, "annotations": annotations, "categories": truth["categories"]}
        coco.createIndex()
        if not results:
            return 0.0
        evaluation = COCOeval(coco, coco.loadRes(copy.deepcopy(results)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0])


def effective_units(sizes: Any) -> float:
    """Return to how many groups of equal size groups of these sizes amount."""
    squares = np.asarray(sizes, float) ** 2
    return float(squares.sum() ** 2 / (squares**2).sum())


def interval(deltas: Any, replicates: Any, units: int, df: float) -> tuple[float, float, float]:
    """Return a difference with its 95 % interval, from seeds of shape (S,) and resamples of shape (S, R)."""
    seeds = len(deltas)
    correction = units / (units - 1)
    of_mean = replicates.mean(axis=0).var(ddof=1) * correction
    of_one = replicates.var(axis=1, ddof=1).mean() * correction
    shared = max((seeds * of_mean - of_one) / (seeds - 1), 0.0)
    by_seed = stats.t.ppf(0.975, seeds - 1) * deltas.std(ddof=1) / np.sqrt(seeds)
    half = np.hypot(by_seed, stats.t.ppf(0.975, df) * np.sqrt(shared))
    return float(deltas.mean()), float(deltas.mean() - half), float(deltas.mean() + half)


def verdict(low: float, high: float, margin: float) -> str:
    """Return the word that an interval allows."""
    if low > 0:
        return "helps"
    if high < 0:
        return "hurts"
    return "no difference that matters" if max(-low, high) <= margin else "inconclusive"


def main(folder: Path, resamples: int) -> int:
    """Compute, print each difference from what is written, and return 1 where one is too large."""
    written = json.loads((folder / "compare.json").read_text(encoding="utf-8"))
    for name, digest in written["evidence"].items():
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != digest:
            sys.exit(f"{name} is not the file that compare.json was made from")
    recipe, primary = written["recipe"], written["contrasts"][0]
    if recipe["metric"] != "AP" or recipe["looks"] or primary["with_failures"] or len(primary["seeds"]) < 3:
        sys.exit(__doc__)
    known = json.loads((folder / "resamples.json").read_text(encoding="utf-8"))

    def read(run: str, name: str) -> Any:
        return json.loads((folder / recipe["split"] / run / f"{name}.json").read_text(encoding="utf-8"))

    names = [f"{arm}/seed{seed}" for arm in (primary["arm"], primary["against"]) for seed in primary["seeds"]]
    truth = {run: read(run, "annotations") for run in known["metric"]}
    found = {run: read(run, "predictions") for run in known["metric"]}
    images = [image["id"] for image in truth[names[0]]["images"]]
    held = {a["image_id"] for a in truth[names[0]]["annotations"] if not a.get("iscrowd") and not a.get("ignore")}
    groups = known["groups"] or [str(i) for i in range(len(images))]
    kinds, group = np.unique(groups, return_inverse=True)
    if not known["groups"]:
        kinds, group = np.arange(len(images)), np.arange(len(images))
    draws = np.random.default_rng(0).multinomial(len(kinds), np.full(len(kinds), 1 / len(kinds)), size=1000)
    worst = 0.0

    def differs(what: str, mine: float, theirs: float) -> None:
        nonlocal worst
        worst = max(worst, abs(mine - theirs))
        print(f"{what}: {mine:.12f}, written {theirs:.12f}, differs by {abs(mine - theirs):.1e}")

    whole = {run: average_precision(truth[run], found[run], np.ones(len(images))) for run in known["metric"]}
    for run in written["runs"]:
        if run["metrics"]:
            differs(
                f"AP of {run['arm']}, seed {run['seed']}",
                whole[f"{run['arm']}/seed{run['seed']}"],
                run["metrics"]["AP"],
            )
    for number, draw in enumerate(draws[:resamples]):
        for run in names:
            mine = average_precision(truth[run], found[run], draw[group])
            differs(f"resample {number}, AP of {run}", mine, known["metric"][run][number])
    arm, against = (
        np.array([whole[f"{a}/seed{s}"] for s in primary["seeds"]]) for a in (primary["arm"], primary["against"])
    )
    of_arm, of_other = (
        np.array([known["metric"][f"{a}/seed{s}"] for s in primary["seeds"]], float)
        for a in (primary["arm"], primary["against"])
    )
    replicates = of_arm - of_other
    replicates = replicates[:, ~np.isnan(replicates).any(axis=0)]
    sizes = np.bincount([group[i] for i, image in enumerate(images) if image in held])
    sizes = sizes[sizes > 0]
    df = max((effective_units(sizes) if known["groups"] else len(sizes)) - 1, 1)
    mine = interval(arm - against, replicates, len(sizes), df)
    theirs = primary["effects"]["AP"]
    for what, value, key in zip(("difference", "lower end", "upper end"), mine, ("delta", "low", "high"), strict=True):
        differs(what, value, theirs[key])
    word = verdict(mine[1], mine[2], recipe["margin"])
    print(f"verdict: {word}, written {primary['verdict']['word']}")
    print(f"largest difference {worst:.1e}")
    return int(worst > TOLERANCE or word != primary["verdict"]["word"])


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) == 3 else 20))
