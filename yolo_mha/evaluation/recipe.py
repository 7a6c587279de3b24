"""What a comparison runs: arms, data and one set of training settings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ultralytics.cfg import DEFAULT_CFG_DICT

from ..data.files import read_yaml
from ..engine import settings as config
from ..engine.freeze_base import check_freeze_base
from ..engine.model import YOLO, check_checkpoint, require_detection
from ..errors import ConfigError, nearest
from ..paths import find_cfg, given_path
from ..surgery.insert import BLOCK, block_options, block_row, insert_blocks
from ..surgery.rows import blocks
from ..surgery.transfer import align
from .val import refuse_class_filters

FIELDS = ("name", "data", "arms", "train", "jobs")
PER_RUN = ("model", "data", "project", "name", "exist_ok", "resume", "save_dir")  # set for each arm


@dataclass(frozen=True)
class Recipe:
    """What is compared, and how all of it is trained.

    Attributes:
        name: Name of the folder under ``runs/compare``.
        data: Dataset YAML, or "beacons" for the embedded default dataset.
        arms: What is trained by arm name: ``model``, and where blocks are put in ``at`` and their options, as in
            `train`. The first arm is the baseline.
        train: Ultralytics' training settings, the same for every arm.
        jobs: How many arms are trained at the same time.
    """

    name: str
    data: str
    arms: dict[str, dict[str, Any]]
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
        arms={str(k): v if isinstance(v, dict) else {"model": v} for k, v in content["arms"].items()},
        train={**(content.get("train") or {}), **overrides},
        jobs=jobs,
    )


def recipe_from_settings(settings: Mapping[str, Any]) -> Recipe:
    """Make a recipe of ``model``, ``at`` or ``attention``, ``control``, ``data``, ``jobs``, ``name`` and settings.

    Raises:
        ConfigError: A setting is unknown or missing.
    """
    settings = dict(settings)
    inserted = _insertion_keys(settings.get("block", BLOCK))
    config.check(settings, own=("attention", "control", "jobs", *inserted))
    insertion = {k: settings.pop(k) for k in inserted if k in settings and k not in DEFAULT_CFG_DICT}
    model, attention, control = (settings.pop(k, None) for k in ("model", "attention", "control"))
    example = "model=yolov8n.yaml at=P5 data=data.yaml, model=... attention=yolov8n-mha-p5.yaml, or a recipe YAML"
    if not model:
        raise ConfigError("model is missing.", expected=example)
    if bool(attention) == ("at" in insertion):
        given = f"attention={attention} at={insertion.get('at')}"
        raise ConfigError("Either at or attention says what is compared.", given=given, expected=example)
    arms = {"baseline": {"model": model}, "attention": {"model": attention or model, **insertion}}
    if control:
        arms["control"] = {"model": control}
    data = settings.pop("data", None)
    if data is None:
        raise ConfigError("data is missing.", expected="data=path/to/data.yaml")
    return Recipe(
        name=str(settings.pop("name", "compare")),
        data=str(data),
        arms=arms,
        jobs=settings.pop("jobs", 1),
        train=settings,
    )


def check_recipe(recipe: Recipe) -> None:
    """Check everything that can be checked before the first training starts.

    Raises:
        ConfigError: A setting is unusable, an arm has no usable name, or there are fewer than two.
        ModelError: An arm's model cannot be read, or would not get all of the weights of ``pretrained``.
        UnsupportedTaskError: An arm's model is not for box detection.
    """
    config.check(recipe.train)
    refuse_class_filters(recipe.train, "compare")
    if not isinstance(recipe.train.get("imgsz", 640), int):
        raise ConfigError("compare takes one image size.", given=f"imgsz={recipe.train['imgsz']}", expected="imgsz=640")
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
    for arm in recipe.arms.values():
        _check_arm(arm, recipe.train.get("pretrained"), recipe.train.get("freeze"))


def describe(arm: Mapping[str, Any]) -> str:
    """Say what an arm trains, in the words of the command line."""
    return " ".join([str(arm["model"]), *(f"{k}={v}" for k, v in arm.items() if k != "model")])


def _insertion_keys(block: str) -> list[str]:
    return ["at", "block", "freeze_base", *block_options(block)]


def _check_arm(arm: dict[str, Any], pretrained: object, freeze: object) -> None:
    """Build an arm once, and make sure that it would get all of the pretrained weights."""
    valid = ["model", *_insertion_keys(arm.get("block", BLOCK))]
    for key in arm:
        if key not in valid:
            raise ConfigError(f"Unknown key '{key}' of an arm.", given=describe(arm), expected=nearest(key, valid))
    if not arm.get("model"):
        raise ConfigError("An arm names no model.", given=arm, expected="a model YAML or a checkpoint")
    network = YOLO(arm["model"])
    require_detection(network.task, "compare")
    content: dict[str, Any] = network.model.yaml
    block = arm.get("block", BLOCK)
    options = config.take_block_options(dict(arm), arm.get("at"), block)
    if "at" in arm:
        content = insert_blocks(network.model, arm["at"], block_row(block, options))[0].yaml
    check_freeze_base(arm.get("freeze_base", 0), blocks(content), freeze)
    if isinstance(pretrained, (str, Path)):
        base = check_checkpoint(pretrained)
        align((base.get("ema") or base["model"]).yaml, content)
