"""`compare`: the same training with and without attention, scored and reported side by side.

One seed shows that everything runs and roughly what to expect; it is no evidence that attention helps.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml
from ultralytics.utils.files import increment_path

from ..data.beacons import generate
from ..data.files import write_text
from ..data.yolo import load_dataset, read_split
from ..engine import settings as config
from ..engine.model import YOLO, read_model_yaml, require_detection
from ..engine.progress import bar, track
from ..engine.train import check_dataset
from ..errors import ConfigError, RunError, nearest
from ..paths import find_cfg
from .cost import Cost, measure
from .val import score

EMBEDDED = "beacons"
ONE_SEED = "One seed is a demonstration, not evidence: another seed can turn the sign of a small difference."
MADE_TASK = " The beacons task is made so that convolution cannot solve it; it says nothing about natural images."
FIELDS = ("name", "data", "arms", "train", "jobs")


@dataclass(frozen=True)
class Recipe:
    """What is compared, and how all of it is trained.

    Attributes:
        name: Name of the folder under ``runs/compare``.
        data: Dataset YAML, or "beacons" for the embedded default dataset.
        arms: Model YAML or checkpoint by arm name; the first arm is the baseline.
        train: Ultralytics' training settings, the same for every arm.
        jobs: How many arms are trained at the same time.
    """

    name: str
    data: str
    arms: dict[str, str]
    train: dict[str, Any] = field(default_factory=dict)
    jobs: int = 1


@dataclass(frozen=True)
class ArmResult:
    """One arm, trained and scored.

    Attributes:
        model: What was trained.
        weights: The scored checkpoint: the last one, so that none was chosen on the images it is scored on.
        metrics: The twelve COCO numbers.
        per_class: AP and AP50 by class.
        delta: Metric differences to the baseline.
        cost: Parameters, operations and latency.
        train_seconds: Wall-clock time of the training process.
        curve: Ultralytics' mAP50-95 on the validation images after each epoch.
    """

    model: str
    weights: str
    metrics: dict[str, float]
    per_class: dict[str, dict[str, float]]
    delta: dict[str, float]
    cost: Cost
    train_seconds: float
    curve: list[float]


@dataclass(frozen=True)
class Comparison:
    """All arms of a comparison.

    Attributes:
        recipe: What was run.
        arms: Results by arm name, the baseline first.
        settings: Evaluation settings that the numbers depend on.
        note: What may and may not be concluded.
        environment: Versions.
        save_dir: Folder of the comparison: ``compare.json``, ``report.html``, ``detections.png``, ``arms/``.
    """

    recipe: Recipe
    arms: dict[str, ArmResult]
    settings: dict[str, Any]
    note: str
    environment: dict[str, str]
    save_dir: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def compare(recipe: str | Path | None = None, **settings: Any) -> Comparison:
    """Train a baseline and its variants under one recipe and one seed, score them with pycocotools, and report.

    Args:
        recipe: A recipe YAML with ``data``, ``arms`` and ``train``, or the name of a shipped one ("demo.yaml").
        **settings: In place of a recipe ``model`` (the baseline), ``attention``, optionally ``control``, ``data`` and
            training settings; beside a recipe, training settings that override it. ``jobs`` trains arms in parallel.

    Returns:
        The comparison, also written as JSON and HTML.

    Raises:
        ConfigError: The recipe or a setting is unusable.
        ModelError, CheckpointError, DataError: A model or the dataset cannot be read.
        UnsupportedTaskError: A model is not for box detection.
        RunError: A training failed; the message says where its log is.
    """
    from .report import draw_detections, write_report

    plan = _read_recipe(recipe, settings) if recipe is not None else _recipe_from_settings(settings)
    _check_plan(plan)
    data = generate(Path.cwd() / "runs" / EMBEDDED) if plan.data == EMBEDDED else Path(plan.data)
    check_dataset(data)
    save_dir = Path(increment_path(Path.cwd() / "runs" / "compare" / plan.name, mkdir=True))
    write_text(save_dir / "recipe.yaml", yaml.safe_dump(asdict(plan), sort_keys=False))
    seconds = _train_arms(plan, data, save_dir / "arms")

    dataset = load_dataset(data)
    samples = read_split(dataset, "val", track)
    imgsz = int(plan.train.get("imgsz", 640))
    weights = {arm: save_dir / "arms" / arm / "weights" / "last.pt" for arm in plan.arms}
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
            model=plan.arms[arm],
            weights=str(weights[arm].relative_to(save_dir)),
            metrics=result.coco.metrics,
            per_class=result.coco.per_class,
            delta={k: v - base[k] for k, v in result.coco.metrics.items()},
            cost=costs[arm],
            train_seconds=round(seconds[arm], 1),
            curve=_curve(save_dir / "arms" / arm / "results.csv"),
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


def _read_recipe(recipe: str | Path, overrides: Mapping[str, Any]) -> Recipe:
    path = Path(recipe)
    if not path.is_file():
        found = find_cfg("compare", path.name) if path.name == str(recipe) else None
        if found is None:
            raise ConfigError("Recipe not found.", given=recipe, expected="an existing recipe YAML, or demo.yaml")
        path = found
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as e:
        raise ConfigError(f"{path} is not readable as YAML.", given=" ".join(str(e).split())) from e
    if not isinstance(content, dict):
        raise ConfigError(f"{path} is no recipe.", given=type(content).__name__, expected=", ".join(FIELDS))
    for key in content:
        if key not in FIELDS:
            raise ConfigError(f"Unknown key '{key}' in {path}.", given=key, expected=nearest(key, FIELDS))
    for key, kind in (("data", str), ("arms", dict)):
        if not isinstance(content.get(key), kind):
            raise ConfigError(
                f"{path} lacks '{key}'.", given=f"{key}: {content.get(key)!r}", expected=f"a {kind.__name__}"
            )
    overrides = dict(overrides)
    jobs, name, data = (
        overrides.pop(k, content.get(k, d)) for k, d in (("jobs", 1), ("name", path.stem), ("data", ""))
    )
    return Recipe(
        name=str(name),
        data=str(data),
        arms={str(k): str(v) for k, v in content["arms"].items()},
        train={**(content.get("train") or {}), **overrides},
        jobs=jobs,
    )


def _recipe_from_settings(settings: Mapping[str, Any]) -> Recipe:
    settings = dict(settings)
    config.check(settings, own=("attention", "control", "jobs"))
    arms = {"baseline": settings.pop("model", None), "attention": settings.pop("attention", None)}
    for arm, key in (("baseline", "model"), ("attention", "attention")):
        if not arms[arm]:
            raise ConfigError(
                f"{key} is missing.",
                expected="model=yolov8n.yaml attention=yolov8n-mha-p5.yaml data=data.yaml, or a recipe YAML",
            )
    if control := settings.pop("control", None):
        arms["control"] = control
    data = settings.pop("data", None)
    if data is None:
        raise ConfigError("data is missing.", expected="data=path/to/data.yaml")
    return Recipe(
        name=str(settings.pop("name", "compare")),
        data=str(data),
        arms={k: str(v) for k, v in arms.items()},
        jobs=settings.pop("jobs", 1),
        train=settings,
    )


def _check_plan(plan: Recipe) -> None:
    """Check everything that can be checked before the first training starts."""
    config.check(plan.train)
    for key in ("model", "project", "resume", "save_dir"):
        if key in plan.train:
            raise ConfigError(f"'{key}' is not a training setting of a comparison.", given=f"{key}={plan.train[key]}")
    if isinstance(plan.jobs, bool) or not isinstance(plan.jobs, int) or plan.jobs < 1:
        raise ConfigError("jobs must be a positive integer.", given=f"jobs={plan.jobs}", expected="1, 2, ...")
    if len(plan.arms) < 2:
        raise ConfigError("There is nothing to compare.", given=f"arms {list(plan.arms)}", expected="two arms or more")
    for model in plan.arms.values():
        if model.endswith((".yaml", ".yml")):
            read_model_yaml(model)
        require_detection(YOLO(model).task, "compare")


def _train_arms(plan: Recipe, data: Path, folder: Path) -> dict[str, float]:
    """Train every arm in a process of its own, ``jobs`` at a time, and return their wall-clock seconds.

    Raises:
        RunError: An arm failed; the others are stopped.
    """
    epochs = int(plan.train.get("epochs", 100))
    waiting = list(plan.arms)
    running: dict[str, tuple[subprocess.Popen[bytes], float]] = {}
    seconds: dict[str, float] = {}
    folder.mkdir(parents=True)
    with bar() as progress:
        tasks = {arm: progress.add_task(f"training {arm}", total=epochs, start=False) for arm in plan.arms}
        try:
            while waiting or running:
                while waiting and len(running) < plan.jobs:
                    arm = waiting.pop(0)
                    running[arm] = (_start(plan, arm, data, folder), time.monotonic())
                    progress.start_task(tasks[arm])
                time.sleep(0.5)
                for arm, (process, started) in list(running.items()):
                    progress.update(tasks[arm], completed=len(_curve(folder / arm / "results.csv")))
                    if process.poll() is None:
                        continue
                    del running[arm]
                    if process.returncode:
                        raise RunError(
                            f"The training of '{arm}' failed.",
                            given=_error_line(folder / f"{arm}.log"),
                            fix=f"the whole output is in {folder / f'{arm}.log'}",
                        )
                    seconds[arm] = time.monotonic() - started
        finally:
            for process, _ in running.values():
                process.terminate()
    return seconds


def _start(plan: Recipe, arm: str, data: Path, folder: Path) -> subprocess.Popen[bytes]:
    words = {**plan.train, "model": plan.arms[arm], "data": data.resolve(), "project": folder, "name": arm}
    with (folder / f"{arm}.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "yolo_mha", "train", *(f"{k}={v}" for k, v in words.items()), "exist_ok=True"],
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )


def _error_line(log: Path) -> str:
    """Return the line of a training's output that says what went wrong, or else its last line."""
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if "error: " in line]
    return (errors or lines or ["no output"])[-1].strip()


def _curve(results: Path) -> list[float]:
    """Read mAP50-95 after each finished epoch from Ultralytics' ``results.csv``."""
    if not results.exists():
        return []
    header, *rows = [line.split(",") for line in results.read_text(encoding="utf-8").splitlines()] or [[]]
    names = [h.strip() for h in header]
    column = names.index("metrics/mAP50-95(B)") if "metrics/mAP50-95(B)" in names else None
    return [float(row[column]) for row in rows if len(row) == len(names)] if column is not None else []
