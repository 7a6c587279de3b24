"""Measure time and peak memory of scoring and of resampling at the size of COCO's validation set.

Made-up data: 5,000 images, 80 classes as unevenly frequent as COCO's, 7 boxes an image, 100 detections an image. Each
part runs in a process of its own: scoring by either backend, matching, and 1,000 resamples of AP for a pair of models.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from yolo_mha.scoring.coco import BACKENDS, evaluate
from yolo_mha.scoring.matches import match_detections
from yolo_mha.scoring.resample import bootstrap_weights, resampled_scores

EXAMPLES = """examples:
  python benchmarks/evidence.py                  5,000 images; about five minutes
  python benchmarks/evidence.py --images 500     a look
"""
PARTS = (*(f"evaluate, {backend}" for backend in BACKENDS), "match", "resample a pair")
CLASSES, BOXES, KEPT = 80, 7, 100
PROCESS = {"linux": 2**10, "darwin": 2**20}.get(sys.platform, 2**10)  # ru_maxrss units in a MiB


def made_up(images: int, seed: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Draw a ground truth, the same for every seed, and the detections of one model."""
    rng = np.random.default_rng(0)
    frequency = 1 / np.arange(1, CLASSES + 1)
    frequency /= frequency.sum()
    counts = rng.poisson(BOXES, images)
    of = np.repeat(np.arange(images), counts)
    kinds = rng.choice(CLASSES, len(of), p=frequency)
    boxes = np.column_stack([rng.uniform(0, 400, (len(of), 2)), np.exp(rng.uniform(2, 5.3, (len(of), 2)))])
    truth = {
        "images": [{"id": i, "width": 640, "height": 640} for i in range(images)],
        "categories": [{"id": k, "name": f"class {k}"} for k in range(CLASSES)],
        "annotations": [
            {"id": n + 1, "image_id": int(i), "category_id": int(k), "bbox": b, "area": b[2] * b[3], "iscrowd": 0}
            for n, (i, k, b) in enumerate(zip(of, kinds, boxes.tolist(), strict=True))
        ],
    }
    rng = np.random.default_rng(1 + seed)
    near = boxes + rng.normal(0, 0.12, boxes.shape) * boxes[:, [2, 3, 2, 3]]
    others = np.repeat(np.arange(images), np.maximum(KEPT - counts, 0))
    far = np.column_stack([rng.uniform(0, 500, (len(others), 2)), np.exp(rng.uniform(2, 5.3, (len(others), 2)))])
    image = np.concatenate([of, others])
    kind = np.concatenate([kinds, rng.choice(CLASSES, len(others), p=frequency)])
    box = np.maximum(np.concatenate([near, far]), 0.5).tolist()
    score = np.concatenate([rng.beta(4, 3, len(of)), rng.beta(1, 12, len(others))]).tolist()
    results = [
        {"image_id": int(i), "category_id": int(k), "bbox": b, "score": s}
        for i, k, b, s in zip(image, kind, box, score, strict=True)
    ]
    return truth, results


def run(part: str, images: int, resamples: int) -> dict[str, float]:
    """Run one part in this process: seconds of the work itself, and the process's peak memory in MiB."""
    if part.startswith("evaluate"):
        truth, results = made_up(images, 0)
        start = time.perf_counter()
        evaluate(truth, results, backend=part.removeprefix("evaluate, "))
    elif part == "match":
        truth, results = made_up(images, 0)
        start = time.perf_counter()
        match_detections(truth, results)
    else:
        pair = [match_detections(*made_up(images, seed)) for seed in range(2)]
        start = time.perf_counter()
        weights = bootstrap_weights(images, resamples)
        first, second = (resampled_scores(matches, weights) for matches in pair)
        print(f"sd of the difference in AP: {np.std(second['AP'] - first['AP']):.5f}", file=sys.stderr)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / PROCESS}


def main(arguments: list[str] | None = None) -> int:
    """Run every part and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    settings = parser.parse_args(arguments)
    if settings.images < 2 or settings.resamples < 1:
        parser.error("--images must be 2 or more, --resamples 1 or more")
    if settings.part:
        print(json.dumps(run(settings.part, settings.images, settings.resamples)))
        return 0
    found, console = {}, Console(stderr=True)
    sizes = ["--images", str(settings.images), "--resamples", str(settings.resamples)]
    for part in PARTS:
        with console.status(part):
            done = subprocess.run(
                [sys.executable, __file__, "--part", part, *sizes], stdout=subprocess.PIPE, text=True, check=True
            )
        found[part] = json.loads(done.stdout.splitlines()[-1])
    if settings.json:
        print(json.dumps(found, indent=1))
        return 0
    table = Table("", "time", "peak of the process", title=f"{settings.images:,} images x {KEPT} detections")
    for part, values in found.items():
        table.add_row(part, f"{values['seconds']:.1f} s", f"{values['peak_mib']:,.0f} MiB")
    Console().print(table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
