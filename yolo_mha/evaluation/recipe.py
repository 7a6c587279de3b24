"""What a comparison runs: arms, seeds, data and one set of training settings."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from ultralytics.cfg import DEFAULT_CFG_DICT, smart_value

from ..data.files import read_yaml
from ..engine import settings as config
from ..engine.freeze_base import check_freeze_base
from ..engine.model import check_checkpoint
from ..errors import ConfigError, nearest
from ..paths import find_cfg, given_path
from ..registry import Network, is_block
from ..scoring.val import refuse_class_filters
from ..surgery.graft import renamed, same_values
from ..surgery.insertion import BLOCK, block_options
from ..surgery.rows import blocks
from ..surgery.transfer import align
from .networks import ArmNetwork, build_arms

OWN = ("name", "data", "seeds", "jobs", "primary", "margin")
FIELDS = (*OWN, "arms", "train")
PER_RUN = ("model", "data", "project", "name", "exist_ok", "resume", "save_dir")  # set for each run
SEEDS, JOBS, MARGIN = (0, 1, 2), 1, 0.01
LARGEST_SEED = 2**31


@dataclass(frozen=True)
class Recipe:
    """What is compared, and how all of it is trained.

    Attributes:
        name: Name of the folder under ``runs/compare``.
        data: Dataset YAML, or "beacons" for the embedded default dataset.
        arms: What is trained by arm name: ``model``, and where blocks are put in ``at`` and their options, as in
            `train`. ``match`` with the name of another arm, in place of all these, makes its control: a convolution of
            as many parameters for each of its blocks. The first arm is the baseline.
        train: Ultralytics' training settings, the same for every run.
        seeds: Every arm is trained with each of them.
        jobs: How many runs are trained at the same time.
        primary: The arm of the one contrast, with the baseline and in AP, that the comparison is made for; the second
            arm unless another is named.
        margin: The smallest difference in AP that matters.
    """

    name: str
    data: str
    arms: dict[str, dict[str, Any]]
    train: dict[str, Any] = field(default_factory=dict)
    seeds: tuple[int, ...] = SEEDS
    jobs: int = JOBS
    primary: str = ""
    margin: float = MARGIN

    def __post_init__(self) -> None:
        if not self.primary:
            object.__setattr__(self, "primary", list(self.arms)[1] if len(self.arms) > 1 else "")


def read_recipe(recipe: str | Path, overrides: Mapping[str, Any]) -> Recipe:
    """Read a recipe YAML.

    Args:
        recipe: Path, or the name of a shipped one.
        overrides: Settings that replace those of the file: its own but ``arms``, and those for training.

    Raises:
        ConfigError: The file is missing, no YAML, or has unknown, missing or repeated keys.
    """
    path = given_path(recipe, "recipe")
    if not path.is_file():
        found = find_cfg("compare", path.name) if path.name == str(recipe) else None
        if found is None:
            raise ConfigError("Recipe not found.", given=recipe, expected="an existing recipe YAML, or demo.yaml")
        path = found
    content = read_yaml(path, ConfigError, expected=", ".join(FIELDS))
    _refuse_repeated_keys(path)
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
    arms = {str(name): arm if isinstance(arm, dict) else {"model": arm} for name, arm in content["arms"].items()}
    own = {"name": path.stem, **{key: value for key, value in content.items() if key in OWN}}
    return _recipe(arms, {**(content.get("train") or {}), **own, **overrides})


def recipe_from_settings(settings: Mapping[str, Any]) -> Recipe:
    """Make a recipe of ``model``, ``at`` or ``attention``, ``control`` and settings.

    With ``at`` there is a control matched to the attention unless ``control=False``; with ``attention``, a model of its
    own, there is one if ``control=True``. ``control`` may also name a model.

    Raises:
        ConfigError: A setting is unknown or missing.
    """
    settings = dict(settings)
    inserted = _insertion_keys(settings.get("block", BLOCK))
    config.check(settings, own=("attention", "control", *OWN, *inserted))
    insertion = {k: settings.pop(k) for k in inserted if k in settings and k not in DEFAULT_CFG_DICT}
    model, attention, control = (settings.pop(k, None) for k in ("model", "attention", "control"))
    example = "model=yolov8n.yaml at=P5 data=data.yaml, model=... attention=yolov8n-mha-p5.yaml, or a recipe YAML"
    if not model:
        raise ConfigError("model is missing.", expected=example)
    if bool(attention) == ("at" in insertion):
        given = f"attention={attention} at={insertion.get('at')}"
        raise ConfigError("Either at or attention says what is compared.", given=given, expected=example)
    arms = {"baseline": {"model": model}, "attention": {"model": attention or model, **insertion}}
    if control is True or (control is None and "at" in insertion):
        arms["control"] = {"match": "attention"}
    elif control:
        arms["control"] = {"model": control}
    if settings.get("data") is None:
        raise ConfigError("data is missing.", expected="data=path/to/data.yaml")
    return _recipe(arms, {"name": "compare", **settings})


def check_recipe(recipe: Recipe) -> None:
    """Check everything that can be checked before the first training starts.

    Raises:
        ConfigError: A setting is unusable, an arm has no usable name, there are fewer than two, or an arm would begin
            with other weights than the baseline.
        ModelError: An arm's model cannot be read, or would not get all of the weights of ``pretrained``.
        UnsupportedTaskError: An arm's model is not for box detection.
    """
    _check_own(recipe)
    _check_train(recipe.train)
    for name, arm in recipe.arms.items():
        _check_keys(recipe, name, arm)
    built = build_arms(recipe.arms)
    pretrained = recipe.train.get("pretrained", True)
    baseline = next(iter(built))
    for name, arm in recipe.arms.items():
        content = built[name].network.yaml
        _refuse_script_blocks(name, built[name].network)
        trained = recipe.arms[arm["match"]] if "match" in arm else arm
        check_freeze_base(trained.get("freeze_base", 0), blocks(content), recipe.train.get("freeze"))
        if isinstance(pretrained, (str, Path)):
            base = check_checkpoint(pretrained)
            align((base.get("ema") or base["model"]).yaml, content)
        elif pretrained is not False and "match" not in arm:
            _check_weights(name, arm, built[name], recipe.arms[baseline], built[baseline].network)


def _refuse_script_blocks(name: str, network: Network) -> None:
    """Refuse blocks that the process of a run could not import."""
    found = {
        type(m).__name__ for m in network.modules() if is_block(type(m).__name__) and type(m).__module__ == "__main__"
    }
    if found:
        raise ConfigError(
            "A block of the calling script is unknown in the processes that train.",
            given=f"{name}: {', '.join(sorted(found))}",
            expected="blocks in a module of their own",
            fix="move the class into a module, and import that (on the command line: blocks=my_module)",
        )


def describe(arm: Mapping[str, Any]) -> str:
    """Say what an arm trains, in the words of the command line."""
    if "match" in arm:
        return f"convolution with the parameters of {arm['match']}"
    return " ".join([str(arm["model"]), *(f"{k}={v}" for k, v in arm.items() if k != "model")])


def _recipe(arms: Mapping[str, Mapping[str, Any]], settings: Mapping[str, Any]) -> Recipe:
    """Make a recipe of its arms, its own settings and those for training."""
    own = {key: value for key, value in settings.items() if key in OWN}
    return Recipe(
        name=str(own["name"]),
        data=str(own["data"]),
        arms={name: {k: _plain(v, path=k == "model") for k, v in arm.items()} for name, arm in arms.items()},
        train={k: _plain(v, path=k == "pretrained") for k, v in settings.items() if k not in OWN and v is not None},
        seeds=_seeds(own.get("seeds", SEEDS)),
        jobs=own.get("jobs", JOBS),
        primary=str(own.get("primary") or ""),
        margin=own.get("margin", MARGIN),
    )


def _plain(value: Any, path: bool) -> Any:
    """Return a value as YAML holds it, with the path of a file from anywhere, so that a saved recipe runs anywhere."""
    if path and isinstance(value, (str, Path)) and os.path.isfile(value):
        return str(Path(value).resolve())
    return list(value) if isinstance(value, tuple) else str(value) if isinstance(value, Path) else value


def _seeds(value: object) -> tuple[int, ...]:
    value = smart_value(value) if isinstance(value, str) else value  # 0,1,2 is text in YAML
    seeds = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    whole = all(type(seed) is int and 0 <= seed < LARGEST_SEED for seed in seeds)
    if not whole or not seeds or len(set(seeds)) < len(seeds):
        raise ConfigError(
            "Seeds are different whole numbers.",
            given=f"seeds={value}",
            expected="seeds=0,1,2, each one once, 0 or more",
        )
    return seeds


def _insertion_keys(block: str) -> list[str]:
    return ["at", "block", "freeze_base", *block_options(block)]


def _refuse_repeated_keys(path: Path) -> None:
    """Refuse a key that comes twice in one place: the YAML reader would keep the last in silence.

    Raises:
        ConfigError: There is one.
    """
    waiting, seen = [yaml.compose(path.read_text(encoding="utf-8-sig"))], set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen or not isinstance(node, yaml.CollectionNode):
            continue
        seen.add(id(node))  # an alias may lead back
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
            continue
        lines: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.value in lines and isinstance(key, yaml.ScalarNode):
                raise ConfigError(
                    f"'{key.value}' comes twice in {path}.",
                    given=f"lines {lines[key.value]} and {line}",
                    expected="every name once",
                )
            if isinstance(key, yaml.ScalarNode):
                lines[key.value] = line
            waiting.append(value)


def _check_own(recipe: Recipe) -> None:
    if isinstance(recipe.jobs, bool) or not isinstance(recipe.jobs, int) or recipe.jobs < 1:
        raise ConfigError("jobs must be a positive integer.", given=f"jobs={recipe.jobs}", expected="1, 2, ...")
    for name in (recipe.name, *recipe.arms):
        if not re.fullmatch(r"\w[\w.-]*", name):
            raise ConfigError("This name cannot be a folder.", given=repr(name), expected="letters, digits, - and _")
    if len(recipe.arms) < 2:
        raise ConfigError("There is nothing to compare.", given=f"arms {list(recipe.arms)}", expected="two or more")
    baseline, *others = recipe.arms
    if recipe.primary not in others:
        raise ConfigError(
            "primary names the arm that is compared with the baseline first of all.",
            given=f"primary={recipe.primary}, baseline {baseline}",
            expected=nearest(recipe.primary, others),
        )
    if type(recipe.margin) not in (int, float) or not 0 < recipe.margin < 1:
        raise ConfigError(
            "margin is the smallest difference in AP that matters.",
            given=f"margin={recipe.margin}",
            expected="above 0 and below 1, for example margin=0.01",
        )


def _check_train(train: Mapping[str, Any]) -> None:
    """Check training settings, and refuse those that would not be the same for all runs."""
    if "seed" in train:
        raise ConfigError("compare takes several seeds.", given=f"seed={train['seed']}", expected="seeds=0,1,2")
    for key in PER_RUN:
        if key in train:
            raise ConfigError(f"'{key}' is set for each run, so it is no training setting here.", given=f"train: {key}")
    config.check(train)
    refuse_class_filters(train, "compare")
    if not isinstance(train.get("imgsz", 640), int):
        raise ConfigError("compare takes one image size.", given=f"imgsz={train['imgsz']}", expected="imgsz=640")
    if type(train.get("batch", 16)) is not int or train.get("batch", 16) < 1:
        raise ConfigError(
            "compare takes one batch size; Ultralytics would choose another for each arm.",
            given=f"batch={train['batch']}",
            expected="batch=16",
        )
    for key in ("time", "patience"):
        if key in train:
            raise ConfigError(
                "compare trains all arms for the same number of epochs.",
                given=f"{key}={train[key]}",
                expected="epochs=50",
            )


def _check_keys(recipe: Recipe, name: str, arm: Mapping[str, Any]) -> None:
    if "match" in arm:
        others = [other for other in list(recipe.arms)[1:] if "match" not in recipe.arms[other]]
        if set(arm) != {"match"} or name == next(iter(recipe.arms)) or arm["match"] not in others:
            raise ConfigError(
                "match makes the control of another arm.",
                given=f"{name}: {dict(arm)}",
                expected=f"match: and the name of an arm with blocks, {nearest(arm['match'], others)}",
            )
        return
    valid = ["model", *_insertion_keys(arm.get("block", BLOCK))]
    for key in arm:
        if key not in valid:
            raise ConfigError(
                f"Unknown key '{key}' of an arm.",
                given=f"{name}: {dict(arm)}",
                expected=nearest(key, [*valid, "match"]),
            )
    if not arm.get("model"):
        raise ConfigError(
            "An arm names no model.", given=f"{name}: {dict(arm)}", expected="a model YAML or a checkpoint"
        )


def _check_weights(
    name: str, arm: Mapping[str, Any], built: ArmNetwork, first: Mapping[str, Any], baseline: Network
) -> None:
    """Refuse a checkpoint whose weights would give its arm another start than the baseline has."""
    if not built.extends or arm["model"] == first["model"] or not str(arm["model"]).endswith(".pt"):
        return
    places, state = align(baseline.yaml, built.network.yaml), built.network.state_dict()
    tensors = {renamed(k, places): v for k, v in baseline.state_dict().items()}
    same = sum(k in state and state[k].shape == v.shape and same_values(state[k], v) for k, v in tensors.items())
    if same < len(tensors):
        raise ConfigError(
            f"'{name}' brings weights that the baseline does not have, so a difference would not be the block's.",
            given=f"{arm['model']}: {same} of {len(tensors)} tensors are those of {first['model']}",
            expected="one start for all arms",
            fix="name the arm's model YAML, or at=, and the weights in pretrained= or in the baseline's model",
        )
