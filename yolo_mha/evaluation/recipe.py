"""What a comparison runs: arms, seeds, data and one set of training settings, as its author wrote them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from ultralytics.cfg import smart_value

from ..data.data_check import STOP, check_bad
from ..data.groups import is_table
from ..engine import settings as config
from ..engine.block_modules import require_imported
from ..errors import ConfigError, nearest
from ..paths import find_cfg, given_path
from ..scoring.metric import require_metric
from ..scoring.power import LEAST_SEEDS
from ..scoring.val import refuse_class_filters
from ..surgery.insertion import BLOCK, Insertion, block_options
from ..yaml_files import read_yaml
from .given import KINDS, MODELS, Given, chosen_baseline, read_given, read_runs
from .named import Named, read_contrast

BETWEEN = r";(?![^\[]*\])"  # semicolons, but not those within brackets, in the name of a class
OWN = (
    "name", "data", "seeds", "looks", "jobs", "primary", "metric", "contrasts", "margin", "split", "group", "keep_best",
    "bad",
)  # fmt: skip
FIELDS = (*OWN, "arms", "train", "blocks")
PER_RUN = ("model", "data", "project", "name", "exist_ok", "resume", "save_dir")  # set for each run
SEEDS, JOBS, MARGIN = (0, 1, 2), 1, 0.01
SCORED = ("val", "test")  # what may be scored
# settings of a recipe that also decide how its models are scored, and with the size of the images all that do
SCORING = ("device", "batch", "half", "conf", "iou", "max_det", "agnostic_nms", "augment")
OF_GIVEN = ("name", "data", "primary", "metric", "contrasts", "margin", "split", "group", "bad")  # for given runs
LARGEST_SEED = 2**31
ATTENTION = ("SpatialMHABlock", "CrossScaleMHA", "S2Attention")  # the arm of any other block has that block's name
ONE_BATCH = "takes one batch size; Ultralytics would choose another for each arm"
SAME_EPOCHS = "trains all arms for the same number of epochs"


@dataclass(frozen=True)
class Arm:
    """What an arm trains.

    Attributes:
        model: Model YAML or checkpoint.
        insertion: The block that is put into it first.
        freeze_base: Number of first epochs in which the new blocks train alone.
    """

    model: str
    insertion: Insertion | None = None
    freeze_base: int = 0

    def settings(self) -> dict[str, Any]:
        """Return what `train` is called with for this arm alone."""
        inserted = self.insertion.settings() if self.insertion else {}
        return {"model": self.model, **inserted, **({"freeze_base": self.freeze_base} if self.freeze_base else {})}

    def __str__(self) -> str:
        return " ".join([self.model, *(f"{k}={v}" for k, v in self.settings().items() if k != "model")])


@dataclass(frozen=True)
class Control:
    """The control of another arm: a convolution of as many parameters in the place of each of its blocks.

    Attributes:
        match: Name of that arm.
    """

    match: str

    def settings(self) -> dict[str, Any]:
        """Return its entry in a recipe."""
        return {"match": self.match}

    def __str__(self) -> str:
        return f"convolution with the parameters of {self.match}"


@dataclass(frozen=True)
class Recipe:
    """What a comparison compares, and how its arms are trained.

    Attributes:
        name: Name of the folder under ``runs/compare``.
        data: Dataset YAML, or "beacons" for the embedded default dataset.
        arms: What is trained by arm name; the first arm is the baseline. In a YAML an arm has ``model`` and, as in
            `train`, ``at`` with a block's options and ``freeze_base``; or ``match`` alone. Where no arm is trained,
            each has ``models`` or ``predictions`` alone, see `Given`.
        train: Ultralytics' training settings, the same for every run; of given models those that they are scored with.
        seeds: Every arm is trained with each of them; of given runs all that there are.
        looks: After how many seeds the primary contrast is judged before all are trained, see `interim`.
        jobs: How many runs are trained at the same time.
        primary: The arm of the one contrast, with the baseline, that the comparison is made for; unless one is named,
            the first arm after the baseline that is no matched control.
        metric: What the primary contrast compares, see `require_metric`.
        contrasts: Others that are named before the run, see `read_contrast`.
        margin: The smallest difference that matters, in AP or the metric.
        split: The images that are scored in the end, "val" or "test"; training validates on "val" in any case.
        group: Which images of the scored split belong together, see `read_groups`; a CSV file by full path.
        keep_best: Whether the best checkpoint of each run is kept beside the last, which is the one that is scored.
        bad: What is done about damaged images and labels, the same for all arms, see `read_dataset`.
        blocks: The modules of the user's blocks, see `import_blocks`; a recipe says what it needs and imports nothing.
    """

    name: str
    data: str
    arms: dict[str, Arm | Control | Given]
    train: dict[str, Any] = field(default_factory=dict)
    seeds: tuple[int, ...] = SEEDS
    looks: tuple[int, ...] = ()
    jobs: int = JOBS
    primary: str = ""
    metric: str = "AP"
    contrasts: tuple[str, ...] = ()
    margin: float = MARGIN
    split: str = SCORED[0]
    group: str | None = None
    keep_best: bool = False
    bad: str = STOP
    blocks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.primary:
            others = list(self.arms)[1:]
            own = [name for name in others if isinstance(self.arms[name], Arm)]
            object.__setattr__(self, "primary", next(iter([*own, *others]), ""))

    @property
    def baseline(self) -> str:
        return next(iter(self.arms))

    @property
    def given(self) -> str:
        """What the runs are where they are not trained here, "models" or "predictions"; empty where they are."""
        first = self.arms[self.baseline]
        return first.kind if isinstance(first, Given) else ""

    def as_dict(self) -> dict[str, Any]:
        """Return what a recipe YAML holds."""
        arms = {name: arm.settings() for name, arm in self.arms.items()}
        lists = {key: list(getattr(self, key)) for key in ("seeds", "looks", "contrasts", "blocks")}
        return {**vars(self), "arms": arms, **lists}

    def named(self) -> list[Named]:
        """Return the primary contrast and those that are named beside it."""
        own = [read_contrast(text, list(self.arms)) for text in self.contrasts]
        return [Named(self.primary, self.baseline, self.metric), *own]

    def origin(self, name: str) -> Arm:
        """Return an arm that is trained, or the one whose control it is."""
        arm = self.arms[name]
        return self.origin(arm.match) if isinstance(arm, Control) else cast(Arm, arm)

    def is_control(self, name: str, of: str) -> bool:
        """Say whether an arm is the matched control of another."""
        return self.arms[name] == Control(of)


def read_arm(name: str, words: object) -> Arm | Control | Given:
    """Read an arm of a recipe.

    Args:
        name: Its name, for messages.
        words: Settings of `train` that are its own, ``match``, ``models`` or ``predictions``; or its model alone.

    Raises:
        ConfigError: A key is unknown, or the model is missing.
        ModelError: No block has the name that ``block`` gives.
    """
    given: dict[str, Any] = dict(words) if isinstance(words, Mapping) else {"model": words}
    if set(given) == {"match"}:
        return Control(str(given["match"]))
    if len(given) == 1 and (kind := next(iter(given))) in KINDS:
        return read_given(name, kind, given[kind])
    insertion, rest = Insertion.from_settings({k: _plain(v) for k, v in given.items() if k != "model"})
    if unknown := [key for key in rest if key != "freeze_base"]:
        valid = ["model", "freeze_base", "match", *insertion_keys(given.get("block", BLOCK))]
        raise ConfigError(
            f"Unknown key '{unknown[0]}' in arm '{name}'.",
            given=f"{name}: {given}",
            expected=nearest(unknown[0], valid) if unknown[0] != "match" else "match: as the only key",
        )
    if not given.get("model"):
        expected = "model: and a model YAML or a checkpoint"
        raise ConfigError(f"Arm '{name}' has no model.", given=f"{name}: {given}", expected=expected)
    return Arm(str(_plain(given["model"], path=True)), insertion, rest.get("freeze_base", 0))


def read_recipe(recipe: str | Path, overrides: Mapping[str, Any]) -> Recipe:
    """Read a recipe YAML.

    Args:
        recipe: Path, or the name of a shipped one.
        overrides: Settings that replace those of the file: its own but ``arms``, and those for training.

    Raises:
        ConfigError: The file is missing, no YAML, or has unknown, missing or repeated keys; or it needs blocks whose
            modules are not imported.
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
        raise ConfigError(f"'train' in {path} is not a mapping.", given=content["train"], expected="key: value lines")
    for key in content.get("train") or {}:
        if key in FIELDS:
            expected = f"{key}: at the top level of the recipe"
            raise ConfigError(f"'{key}' is not a training setting.", given=f"{path}, train: {key}", expected=expected)
    blocks = _blocks(content.get("blocks") or [])
    require_imported(blocks, path)
    arms = {str(name): read_arm(str(name), words) for name, words in content["arms"].items()}
    own = {"name": path.stem, **{key: value for key, value in content.items() if key in OWN}}
    return replace(_recipe(arms, {**(content.get("train") or {}), **own, **_given(overrides)}), blocks=blocks)


def recipe_from_settings(settings: Mapping[str, Any]) -> Recipe:
    """Make a recipe of ``model``, ``at`` or ``attention``, ``control`` and settings.

    With ``at`` there is a control matched to the block unless ``control=False``; with ``attention``, a model of its
    own, there is one if ``control=True``. ``control`` may also name a model. The arm with a block that is no attention
    has that block's name.

    Raises:
        ConfigError: A setting is unknown or missing.
    """
    settings = _given(settings)
    own = ("attention", "control", "freeze_base", *OWN, *insertion_keys(settings.get("block", BLOCK)))
    config.check(settings, own=own)
    insertion, rest = Insertion.from_settings(settings)
    model, attention, control, freeze_base = (
        rest.pop(k, None) for k in ("model", "attention", "control", "freeze_base")
    )
    example = "model=yolov8n.yaml at=P5 data=data.yaml, model=... attention=yolov8n-mha-p5.yaml, or a recipe YAML"
    if not model:
        raise ConfigError("model is missing.", expected=example)
    if bool(attention) == (insertion is not None):
        given = f"attention={attention} at={settings.get('at')}"
        problem = "at and attention cannot be combined." if attention else "at or attention is missing."
        raise ConfigError(problem, given=given, expected=example)
    if rest.get("data") is None:
        raise ConfigError("data is missing.", expected="data=path/to/data.yaml")
    inserted = insertion.settings() if insertion else {}
    arm = insertion.block if insertion and insertion.block not in ATTENTION else "attention"
    arms: dict[str, Arm | Control | Given] = {
        "baseline": read_arm("baseline", model),
        arm: read_arm(arm, {"model": attention or model, **inserted, "freeze_base": freeze_base or 0}),
    }
    if control is True or (control is None and insertion):
        arms["control"] = Control(arm)
    elif control:
        arms["control"] = read_arm("control", control)
    return _recipe(arms, {"name": "compare", **rest})


def recipe_of_given(settings: Mapping[str, Any]) -> Recipe:
    """Make a recipe of ``models`` or ``predictions``, see `read_runs`, and settings.

    Raises:
        ConfigError: A setting is one of training, missing or unusable, or the runs are.
    """
    settings = {key: value for key, value in settings.items() if value is not None}
    kinds = ("model", "recipe", *KINDS)
    if len(found := [key for key in kinds if key in settings]) != 1 or found[0] not in KINDS:
        raise ConfigError(
            "A comparison needs exactly one of these settings.",
            given=" ".join(f"{key}=..." for key in (*found, "baseline") if key in settings),
            expected=f"one of {', '.join(kinds)}; baseline only with models or predictions",
        )
    kind = found[0]
    value, baseline = settings.pop(kind), settings.pop("baseline", None)
    _refuse_training(kind, {key: value for key, value in settings.items() if key not in OF_GIVEN})
    if "data" not in settings:
        raise ConfigError("data is missing.", expected="data=path/to/data.yaml, the dataset to score on")
    runs = read_runs(kind, value)
    baseline = chosen_baseline(runs, baseline, settings.get("primary"))
    return _recipe({baseline: runs[baseline], **runs}, {"name": "compare", **settings})


def _refuse_training(kind: str, settings: Mapping[str, Any]) -> None:
    """Refuse settings that have no meaning for given runs."""
    taken = ("imgsz", *SCORING) if kind == MODELS else ()
    if refused := [key for key in settings if key not in taken]:
        raise ConfigError(
            f"compare {kind}= does not take {refused[0]}.",
            given=f"{refused[0]}={settings[refused[0]]}",
            expected=", ".join(("baseline", "project", *OF_GIVEN, *taken)),
            fix="leave it out; these runs are scored as they are, and nothing is trained",
        )


def _given(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out settings of `compare` that are None, as if they were not given."""
    return {key: v for key, v in settings.items() if v is not None or key not in ("at", "attention", "control", *OWN)}


def insertion_keys(block: str) -> list[str]:
    """Name the settings that say which block goes where."""
    return ["at", "block", *block_options(block)]


def _recipe(arms: dict[str, Arm | Control | Given], settings: Mapping[str, Any]) -> Recipe:
    """Make a recipe of its arms, its own settings and those for training, and check it."""
    own = {key: value for key, value in settings.items() if key in OWN}
    own |= {"name": str(own["name"]), "data": str(own["data"]), "primary": str(own.get("primary") or "")}
    given = sorted({seed for arm in arms.values() if isinstance(arm, Given) for seed in arm.files})
    own["seeds"] = _numbers("seeds", own.get("seeds", given or SEEDS), 0, LARGEST_SEED)
    own["looks"] = _numbers("looks", own.get("looks") or (), LEAST_SEEDS, len(own["seeds"]))
    own["metric"] = str(own.get("metric") or "AP")
    own["contrasts"] = _contrasts(own.get("contrasts") or ())
    own["group"] = _plain(own.get("group"), path=is_table(own.get("group")))
    train = {k: _plain(v, path=k == "pretrained") for k, v in settings.items() if k not in OWN and v is not None}
    recipe = Recipe(arms=arms, train=train, **own)
    _check_own(recipe)
    if given:
        _check_given(recipe, tuple(given))
    _check_train(recipe.train)
    return recipe


def located(recipe: Recipe) -> Recipe:
    """Return a recipe with the paths of the files that were downloaded since it was read."""
    arms = {
        name: replace(arm, model=_plain(arm.model, path=True)) if isinstance(arm, Arm) else arm
        for name, arm in recipe.arms.items()
    }
    return replace(recipe, arms=arms, train={k: _plain(v, path=k == "pretrained") for k, v in recipe.train.items()})


def _plain(value: Any, path: bool = False) -> Any:
    """Return a value as YAML holds it, with the path of a file from anywhere, so that a saved recipe runs anywhere."""
    if path and isinstance(value, (str, Path)) and os.path.isfile(value):
        return str(Path(value).resolve())
    return list(value) if isinstance(value, tuple) else str(value) if isinstance(value, Path) else value


def _blocks(value: object) -> tuple[str, ...]:
    words = [value] if isinstance(value, str) else value
    if not isinstance(words, list) or not all(isinstance(word, str) and word for word in words):
        expected = "a list of modules that register blocks, by name or file"
        raise ConfigError("blocks has an unusable value.", given=f"blocks: {value}", expected=expected)
    return tuple(words)


def _contrasts(value: object) -> tuple[str, ...]:
    texts = re.split(BETWEEN, value) if isinstance(value, str) else value
    if not isinstance(texts, (list, tuple)) or not all(isinstance(text, str) and text.strip() for text in texts):
        expected = "'attention vs control; attention: APsmall', or a list of such texts"
        raise ConfigError("contrasts has an unusable value.", given=f"contrasts={value}", expected=expected)
    return tuple(text.strip() for text in texts)


def _numbers(name: str, value: object, least: int, end: int) -> tuple[int, ...]:
    """Read different whole numbers from ``least`` up to but not ``end``."""
    value = smart_value(value) if isinstance(value, str) else value  # 0,1,2 is text in YAML
    numbers = tuple(value) if isinstance(value, (list, tuple, range)) else (value,)
    whole = all(type(number) is int and least <= number < end for number in numbers)
    if name == "looks" and (not whole or list(numbers) != sorted(set(numbers))):
        raise ConfigError(
            "looks has an unusable value.",
            given=f"looks={value} with {end} seeds",
            expected=f"ascending numbers of seeds, from {least} to below the total, such as looks=3,6 with 10 seeds",
        )
    if name == "seeds" and (not whole or not numbers or len(set(numbers)) < len(numbers)):
        expected = "different whole numbers, 0 or more, such as seeds=0,1,2"
        raise ConfigError("seeds has an unusable value.", given=f"seeds={value}", expected=expected)
    return numbers


def _check_own(recipe: Recipe) -> None:
    if type(recipe.jobs) is not int or recipe.jobs < 1:
        raise ConfigError("jobs must be a positive integer.", given=f"jobs={recipe.jobs}", expected="1, 2, ...")
    if type(recipe.keep_best) is not bool:
        given = f"keep_best={recipe.keep_best}"
        raise ConfigError("keep_best must be True or False.", given=given, expected="True or False")
    for name in (recipe.name, *recipe.arms):
        if not re.fullmatch(r"\w[\w.-]*", name):
            raise ConfigError("This name cannot be a folder.", given=repr(name), expected="letters, digits, - and _")
    if len(recipe.arms) < 2:
        given = f"arms: {', '.join(recipe.arms)}"
        raise ConfigError("A comparison needs at least two arms.", given=given, expected="two or more arms")
    baseline, *others = recipe.arms
    if recipe.primary not in others:
        raise ConfigError(
            "primary is not one of the arms compared with the baseline.",
            given=f"primary={recipe.primary}, baseline: {baseline}",
            expected=nearest(recipe.primary, others),
        )
    require_metric(recipe.metric)
    repeated = [named for named in recipe.named()[1:] if recipe.named().count(named) > 1]
    if repeated:
        expected = "each contrast once; that of primary is always included"
        raise ConfigError("A contrast is named twice.", given=str(repeated[0]), expected=expected)
    if type(recipe.margin) not in (int, float) or not 0 < recipe.margin < 1:
        raise ConfigError(
            "margin, the smallest difference in AP that matters, is out of range.",
            given=f"margin={recipe.margin}",
            expected="above 0 and below 1, for example margin=0.01",
        )
    check_bad(recipe.bad)
    if recipe.split not in SCORED:
        raise ConfigError(
            "Runs cannot be scored on this split.",
            given=f"split={recipe.split}",
            expected=" or ".join(SCORED),
        )
    controlled = [name for name in others if isinstance(recipe.arms[name], Arm)]
    for name, arm in recipe.arms.items():
        if isinstance(arm, Control) and (name == baseline or arm.match not in controlled):
            raise ConfigError(
                "match does not name an arm that can have a control.",
                given=f"{name}: {arm.settings()}",
                expected=f"match: and the name of another arm with blocks, {nearest(arm.match, controlled)}",
            )


def _check_given(recipe: Recipe, seeds: tuple[int, ...]) -> None:
    """Refuse other seeds than those of the given runs, what has a meaning for training alone, and mixed arms."""
    if len({arm.kind if isinstance(arm, Given) else "trained" for arm in recipe.arms.values()}) > 1:
        words = "; ".join(f"{name}: {arm}" for name, arm in recipe.arms.items())
        expected = "only models, only predictions, or only arms to train"
        raise ConfigError("The arms are of different kinds.", given=words, expected=expected)
    usual = {"seeds": seeds, "looks": (), "jobs": JOBS, "keep_best": False}
    other = {key: getattr(recipe, key) for key, value in usual.items() if getattr(recipe, key) != value}
    _refuse_training(recipe.given, {**other, **recipe.train})


def _check_train(train: Mapping[str, Any]) -> None:
    """Check training settings, and refuse those that would not be the same for all runs."""
    if "seed" in train:
        raise ConfigError("compare has seeds, not seed.", given=f"seed={train['seed']}", expected="seeds=0,1,2")
    for key in PER_RUN:
        if key in train:
            raise ConfigError(
                f"compare sets '{key}' itself, for each run.",
                given=f"{key}={train[key]}",
                expected=f"a comparison without {key}",
            )
    config.check(train)
    config.check_trains_on(train)
    refuse_class_filters(train, "compare")
    imgsz, batch = train.get("imgsz", 640), train.get("batch", 16)
    for key, wrong, takes, expected in (
        ("imgsz", not isinstance(imgsz, int), "takes one image size", "imgsz=640"),
        ("batch", type(batch) is not int or batch < 1, ONE_BATCH, "batch=16"),
        ("time", "time" in train, SAME_EPOCHS, "epochs=50"),
        ("patience", "patience" in train, SAME_EPOCHS, "epochs=50"),
    ):
        if wrong:
            raise ConfigError(f"compare {takes}.", given=f"{key}={train[key]}", expected=expected)
