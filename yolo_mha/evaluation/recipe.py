"""What a comparison runs: arms, data and one set of training settings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..data.files import read_yaml
from ..engine import settings as config
from ..engine.model import YOLO, require_detection
from ..errors import ConfigError, nearest
from ..paths import find_cfg, given_path
from .val import refuse_class_filters

FIELDS = ("name", "data", "arms", "train", "jobs")
PER_RUN = ("model", "data", "project", "name", "exist_ok", "resume", "save_dir")  # set for each arm


@dataclass(frozen=True)
class Recipe:
    """What is compared, and how all of it is trained.

    Attributes:
        name: Name of the folder under ``runs/compare``.
        data: Dataset YAML, or "beacons" for the embedded default dataset.
        arms: Model YAML by arm name; the first arm is the baseline.
        train: Ultralytics' training settings, the same for every arm.
        jobs: How many arms are trained at the same time.
    """

    name: str
    data: str
    arms: dict[str, str]
    train: dict[str, Any] = field(default_factory=dict)
    jobs: int = 1


def read_recipe(recipe: str | Path, overrides: Mapping[str, Any]) -> Recipe:
    """Read a recipe YAML.

    Args:
        recipe: Path, or the name of a shipped one.
        overrides: ``name``, ``data``, ``jobs`` or training settings that replace those of the file.

    Raises:
        ConfigError: The file is missing, no YAML, or has unknown or missing keys.
    """
    path = given_path(recipe, "recipe")
    if not path.is_file():
        found = find_cfg("compare", path.name) if path.name == str(recipe) else None
        if found is None:
            raise ConfigError("Recipe not found.", given=recipe, expected="an existing recipe YAML, or demo.yaml")
        path = found
    content = read_yaml(path, ConfigError, expected=", ".join(FIELDS))
    for key in content:
        if key not in FIELDS:
            raise ConfigError(f"Unknown key '{key}' in {path}.", given=key, expected=nearest(key, FIELDS))
    for key, kind in (("data", str), ("arms", dict)):
        if not isinstance(content.get(key), kind):
            raise ConfigError(
                f"{path} lacks '{key}'.", given=f"{key}: {content.get(key)!r}", expected=f"a {kind.__name__}"
            )
    if not isinstance(content.get("train") or {}, dict):
        raise ConfigError(f"'train' of {path} holds no settings.", given=content["train"], expected="key: value lines")
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


def recipe_from_settings(settings: Mapping[str, Any]) -> Recipe:
    """Make a recipe of ``model``, ``attention``, ``control``, ``data``, ``jobs``, ``name`` and training settings.

    Raises:
        ConfigError: A setting is unknown or missing.
    """
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


def check_recipe(recipe: Recipe) -> None:
    """Check everything that can be checked before the first training starts.

    Raises:
        ConfigError: A setting is unusable, an arm has no usable name, or there are fewer than two.
        ModelError: An arm's model cannot be read.
        UnsupportedTaskError: An arm's model is not for box detection.
    """
    config.check(recipe.train)
    refuse_class_filters(recipe.train, "compare")
    if not isinstance(recipe.train.get("imgsz", 640), int):
        raise ConfigError("compare takes one image size.", given=f"imgsz={recipe.train['imgsz']}", expected="imgsz=640")
    if isinstance(recipe.train.get("pretrained"), (str, Path)):
        raise ConfigError(
            "compare trains from scratch: loading by name would give the baseline more of the weights than the others.",
            given=f"pretrained={recipe.train['pretrained']}",
            expected="no pretrained checkpoint",
        )
    for key in PER_RUN:
        if key in recipe.train:
            raise ConfigError(f"'{key}' is set for each arm, so it is no training setting here.", given=f"train: {key}")
    if isinstance(recipe.jobs, bool) or not isinstance(recipe.jobs, int) or recipe.jobs < 1:
        raise ConfigError("jobs must be a positive integer.", given=f"jobs={recipe.jobs}", expected="1, 2, ...")
    for name in (recipe.name, *recipe.arms):
        if not re.fullmatch(r"\w[\w.-]*", name):
            raise ConfigError("This name cannot be a folder.", given=repr(name), expected="letters, digits, - and _")
    if len(recipe.arms) < 2:
        raise ConfigError("There is nothing to compare.", given=f"arms {list(recipe.arms)}", expected="two or more")
    for model in recipe.arms.values():
        if not model.endswith((".yaml", ".yml")):
            raise ConfigError("Every arm starts from a model YAML.", given=model, expected="for example yolov8n.yaml")
        require_detection(YOLO(model).task, "compare")
