"""What a recipe comes to: data, networks and start weights, checked and built once, before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ultralytics.utils import LOGGER

from ..data.beacons import EMBEDDED
from ..data.data_check import DataCheck
from ..data.dataset import Dataset, Sample, load_dataset, read_dataset
from ..data.groups import IMAGE, frames_note, read_groups
from ..diagnosis.data import leaks
from ..engine.block_modules import block_sources, own_modules
from ..engine.checkpoint import check_checkpoint
from ..engine.freeze_base import check_freeze_base
from ..engine.model import YOLO, existing, require_detection
from ..engine.progress import with_bar
from ..errors import ConfigError, ModelError
from ..registry import Network, build, is_block
from ..scoring.intervals import LEAST_UNITS, sample
from ..scoring.metric import classes_of, require_metric
from ..surgery.graft import renamed, same_values
from ..surgery.rows import blocks
from ..surgery.transfer import align
from .control import Substitute, matched_control
from .recipe import Arm, Control, Recipe, located
from .verdict import on_few


@dataclass(frozen=True)
class PlannedArm:
    """What an arm trains.

    Attributes:
        described: In the words of the command line.
        network: The network, with the class count of its file.
        extends: Whether it is the baseline with or without blocks, so that it can begin with the baseline's weights.
        source: The network whose weights it would begin with if it were trained alone; None where they are drawn.
        substitutes: Its convolutions, where it is the control of another arm.
        sources: SHA-256 of the source of each of its blocks, see `block_sources`.
    """

    described: str
    network: Network
    extends: bool
    source: Network | None = None
    substitutes: list[Substitute] = field(default_factory=list)
    sources: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """A recipe with all that is decided before the first training.

    Attributes:
        recipe: The recipe, its dataset and the modules of its blocks by full path.
        arms: By name, the baseline first; none of given predictions, which have no network.
        dataset: What is trained on.
        samples: Images and labels of ``train``, ``val`` and the split that is scored; of the last alone for given runs.
        data_check: Faults of the images and labels, and what was done about them.
        groups: The group of each image that is scored; None where each is by itself.
        data_notes: What to consider about groups, and about images that are in two splits.
        origin_notes: Where the runs are given, what is known of how they came about.
    """

    recipe: Recipe
    arms: dict[str, PlannedArm]
    dataset: Dataset
    samples: dict[str, list[Sample]]
    data_check: DataCheck
    groups: dict[Path, str] | None = None
    data_notes: list[str] = field(default_factory=list)
    origin_notes: list[str] = field(default_factory=list)

    @property
    def start(self) -> PlannedArm:
        """The arm whose weights all others begin with: the baseline."""
        return self.arms[self.recipe.baseline]


def prepare(recipe: Recipe) -> Plan:
    """Build and check everything that can be before the first training starts.

    Args:
        recipe: From `read_recipe` or `recipe_from_settings`.

    Raises:
        ConfigError: An arm would begin with other weights than the baseline, a control cannot be matched, or ``group``
            does not fit the images.
        ModelError, CheckpointError: A model cannot be read, or would not get all of the weights of ``pretrained``.
        DataError: The dataset is missing or broken.
        UnsupportedTaskError: A model is not for box detection.
    """
    arms = build_arms(recipe)
    return with_data(located(recipe), arms, ("train", "val", recipe.split))


def with_data(recipe: Recipe, arms: dict[str, PlannedArm], splits: Sequence[str]) -> Plan:
    """Read the dataset of a recipe; see `prepare`.

    Args:
        recipe: The recipe.
        arms: What its arms are.
        splits: What is read.
    """
    dataset = load_dataset(recipe.data, with_bar)
    for named in recipe.named():
        require_metric(named.metric, dataset.names.values())
    if recipe.data != EMBEDDED:  # so that the saved recipe runs from any folder
        data = Path(recipe.data)
        recipe = replace(recipe, data=str(data.resolve() if data.exists() else dataset.yaml))
    read = read_dataset(dataset, splits, recipe.bad, with_bar)
    dataset, samples = read.dataset, read.samples
    scored = [sample.image for sample in samples[recipe.split]]
    groups = read_groups(recipe.group, scored)
    held: dict[str, set[str | Path]] = {}  # the images of each class, or their groups
    units: Sequence[str | Path] = groups or scored
    for labelled, unit in zip(samples[recipe.split], units, strict=True):
        for index in set(labelled.classes.tolist()):
            held.setdefault(dataset.names[int(index)], set()).add(unit)
    for named in recipe.named():
        if missing := [name for name in classes_of(named.metric) if name not in held]:
            raise ConfigError(
                f"The {recipe.split} images hold no object of {', '.join(missing)}.",
                given=named.metric,
                expected=f"classes with objects there: {', '.join(sorted(held))}",
            )
    recipe = replace(recipe, blocks=own_modules(arm.network for arm in arms.values()))
    notes = _data_notes(recipe.group, groups, scored)
    rare = [name for name in classes_of(recipe.metric) or held if len(held[name]) < LEAST_UNITS]
    if rare and len(set(units)) >= LEAST_UNITS:
        few = on_few(rare, f"{recipe.split} images" if groups is None else "groups")
        notes.append(f"{few}. An answer that changes when these classes are left out will be called inconclusive.")
    check = leaks({split: own for split, own in samples.items() if split in ("train", recipe.split)})
    notes += [check.message] if check.status == "warning" else []
    for note in (*notes, *read.check.sentences()):
        LOGGER.warning(note)
    by_image = None if groups is None else dict(zip(scored, groups, strict=True))
    return Plan(recipe, arms, dataset, samples, read.check, by_image, notes)


def _data_notes(group: str | None, groups: list[str] | None, images: list[Path]) -> list[str]:
    """Say what to consider about images that belong together."""
    if groups is None:
        note = None if group == IMAGE else frames_note(images)
        return [note] if note else []
    if (found := len(set(groups))) < LEAST_UNITS:
        size = sample(len(images), found)
        return [f"{size} are too few for an interval, so there is no verdict; {LEAST_UNITS} groups or more are needed."]
    return []


def build_arms(recipe: Recipe) -> dict[str, PlannedArm]:
    """Build and check every arm once; see `prepare`."""
    pretrained = recipe.train.get("pretrained", True)
    given = check_checkpoint(existing(pretrained, "pretrained")) if isinstance(pretrained, (str, Path)) else None
    source = (given.get("ema") or given["model"]).float() if given else None
    opened: dict[str, YOLO] = {}
    own: dict[str, Network] = {}
    for name, arm in recipe.arms.items():
        if isinstance(arm, Arm):
            opened[name] = YOLO(arm.model)
            require_detection(opened[name].task, "compare")
            own[name] = arm.insertion.apply(opened[name].model)[0] if arm.insertion else opened[name].model
    baseline = own[recipe.baseline]
    arms = {}
    for name, arm in recipe.arms.items():
        if isinstance(arm, Control):
            content, substitutes = matched_control(baseline, own[arm.match], arm.match)
            arms[name] = PlannedArm(str(arm), build(content), True, source, substitutes)
        else:
            begins = source or (opened[name].model if opened[name].ckpt and pretrained is not False else None)
            arms[name] = PlannedArm(str(arm), own[name], _extends(own[name], baseline), begins)
    for name, planned in arms.items():
        _check(name, planned, arms[recipe.baseline], recipe)
        if source is not None:
            align(source.yaml, planned.network.yaml)
        arms[name] = replace(planned, sources=block_sources(planned.network))
    return arms


def _extends(network: Network, baseline: Network) -> bool:
    """Say whether a network has the baseline's layers; some families have rows that look the same and other widths."""
    try:
        places = align(baseline.yaml, network.yaml)
    except ModelError:
        return False
    state, head = network.state_dict(), f"model.{len(baseline.model) - 1}."
    tensors = {renamed(k, places): v.shape for k, v in baseline.state_dict().items() if not k.startswith(head)}
    same = [state[k].shape == shape for k, shape in tensors.items() if k in state]
    return bool(sum(same) > len(same) / 2)


def _check(name: str, planned: PlannedArm, baseline: PlannedArm, recipe: Recipe) -> None:
    """Refuse an arm with a block that other processes cannot import, nothing to freeze, or another start."""
    kinds = {type(module) for module in planned.network.modules()}
    script = {kind.__name__ for kind in kinds if is_block(kind.__name__) and kind.__module__ == "__main__"}
    if script:
        raise ConfigError(
            "A block is defined in the calling script, where the training processes cannot import it.",
            given=f"{name}: {', '.join(sorted(script))}",
            expected="blocks in a module of their own",
            fix="move the class into a module, and import that (on the command line: blocks=my_module)",
        )
    arm = recipe.origin(name)
    check_freeze_base(arm.freeze_base, blocks(planned.network.yaml), recipe.train.get("freeze"))
    if planned.substitutes and arm.freeze_base and arm.insertion and (rows := blocks(baseline.network.yaml)):
        raise ConfigError(
            f"Arm '{name}' would train other rows at first than the arm whose control it is.",
            given=f"freeze_base={arm.freeze_base}, and a baseline with blocks of its own (rows {rows})",
            expected="freeze_base with a baseline that has no blocks",
            fix="leave freeze_base out; or control=False, in a recipe no matched arm",
        )
    begins = planned.source
    if not planned.extends or planned.substitutes or begins is None or begins is baseline.source:
        return
    first = recipe.origin(recipe.baseline)
    if arm.model == first.model:
        return
    places, state = align(baseline.network.yaml, planned.network.yaml), planned.network.state_dict()
    tensors = {renamed(k, places): v for k, v in baseline.network.state_dict().items()}
    same = sum(k in state and state[k].shape == v.shape and same_values(state[k], v) for k, v in tensors.items())
    if same < len(tensors):
        raise ConfigError(
            f"Arm '{name}' starts from other weights than the baseline, which alone could make a difference.",
            given=f"{arm.model}: {same} of {len(tensors)} tensors equal those of {first.model}",
            expected="the same initial weights for all arms",
            fix="give the arm a model YAML or at=, and the weights as pretrained= or as the baseline's model",
        )
