"""`compare`: the same training with and without attention, scored and reported side by side.

One seed shows that everything runs and roughly what to expect; it is no evidence that attention helps.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml
from ultralytics.utils.checks import check_imgsz
from ultralytics.utils.files import increment_path

from ..data.beacons import EMBEDDED
from ..data.files import write_text
from ..data.yolo import read_split
from ..engine.model import YOLO
from ..engine.progress import track
from ..engine.train import check_dataset
from ..registry import guarded
from .arms import curve, train_arms
from .comparison import ArmResult, Comparison
from .cost import measure
from .recipe import check_recipe, describe, read_recipe, recipe_from_settings
from .report import draw_detections, write_report
from .val import score

ONE_SEED = "One seed is a demonstration, not evidence: another seed can turn the sign of a small difference."
MADE_TASK = " The beacons task is made so that convolution cannot solve it; it says nothing about natural images."


@guarded()
def compare(recipe: str | Path | None = None, **settings: Any) -> Comparison:
    """Train a baseline and its variants under one recipe and one seed, score them with pycocotools, and report.

    Args:
        recipe: A recipe YAML with ``data``, ``arms`` and ``train``, or the name of a shipped one ("demo.yaml").
        **settings: In place of a recipe ``model`` (the baseline), ``at`` with options of the block (see `insert`) or
            ``attention`` (another model), optionally ``control``, ``data`` and training settings; beside a recipe,
            training settings that override it. ``jobs`` trains arms in parallel.

    Returns:
        The comparison, also written as JSON and HTML.

    Raises:
        ConfigError: The recipe or a setting is unusable.
        ModelError, DataError: A model or the dataset cannot be read.
        UnsupportedTaskError: A model is not for box detection.
        RunError: A training failed; the message says where its log is.
    """
    plan = read_recipe(recipe, settings) if recipe is not None else recipe_from_settings(settings)
    check_recipe(plan)
    dataset = check_dataset(plan.data)
    if plan.data != EMBEDDED:  # so that the saved recipe runs from any folder
        plan = replace(plan, data=str(dataset.yaml))
    save_dir = Path(increment_path(Path.cwd() / "runs" / "compare" / plan.name, mkdir=True))
    write_text(save_dir / "recipe.yaml", yaml.safe_dump(asdict(plan), sort_keys=False))
    seconds = train_arms(plan, dataset.yaml, save_dir / "arms")

    samples = read_split(dataset, "val", track)
    weights = {arm: save_dir / "arms" / arm / "weights" / "last.pt" for arm in plan.arms}
    stride = max(int(YOLO(file).model.stride.max()) for file in weights.values())
    imgsz = check_imgsz(plan.train.get("imgsz", 640), stride=stride)
    scores = {}
    for arm, file in weights.items():
        passed = {"split": "val", "imgsz": imgsz, "project": str(save_dir / "val"), "name": arm, "verbose": False}
        if "device" in plan.train:
            passed["device"] = plan.train["device"]
        scores[arm] = score(YOLO(file), dataset, samples, passed)
    draw_detections(weights, samples, dataset.names, save_dir / "detections.png", imgsz)
    costs = measure({arm: YOLO(file).model for arm, file in weights.items()}, imgsz)

    base = scores[next(iter(plan.arms))].coco.metrics
    arms = {
        arm: ArmResult(
            model=describe(plan.arms[arm]),
            weights=str(weights[arm].relative_to(save_dir)),
            metrics=result.coco.metrics,
            per_class=result.coco.per_class,
            delta={k: v - base[k] for k, v in result.coco.metrics.items()},
            cost=costs[arm],
            train_seconds=round(seconds[arm], 1),
            curve=curve(save_dir / "arms" / arm / "results.csv"),
        )
        for arm, result in scores.items()
    }
    comparison = Comparison(
        recipe=plan,
        arms=arms,
        settings={k: v for k, v in scores[next(iter(arms))].settings.items() if k not in ("model", "data")},
        note=ONE_SEED + (MADE_TASK if plan.data == EMBEDDED else ""),
        environment={p: metadata.version(p) for p in ("yolo-mha", "ultralytics", "torch", "pycocotools")},
        save_dir=str(save_dir),
    )
    write_text(save_dir / "compare.json", json.dumps(comparison.as_dict(), indent=2))
    write_report(comparison, save_dir / "report.html")
    return comparison
