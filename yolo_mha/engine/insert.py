"""`insert` and `remove`: a model YAML or a checkpoint in, the same with or without attention blocks out."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from ..data.files import clear_unfinished, whole_file
from ..errors import CheckpointError, ConfigError, YoloMHAError, disk_is_full, one_line
from ..guard import guarded
from ..paths import given_path, without_scale
from ..registry import Network, build, find_model_yaml, scale_letter
from ..result import Result
from ..surgery.graft import renamed, same_values
from ..surgery.insertion import BLOCK, Insertion, remove_blocks
from ..surgery.places import PROBE_SIDE, Layer, layers
from ..surgery.rows import RowPlan
from ..surgery.text import edit_text, keep_one_scale, model_text
from .checkpoint import Checkpoint, check_checkpoint
from .model import existing, read_model_yaml
from .own_settings import checked
from .progress import bar

# What else training writes into a checkpoint, which stays in it
RECORDS = ("train_args", "train_metrics", "train_results", "date", "version", "git", "license", "docs")
CARRIES_LETTER = r"yolo(e-)?v?\d+"  # the part of a file name behind which Ultralytics looks for the scale letter


@dataclass(frozen=True)
class Surgery(Result):
    """What an insertion or a removal made.

    Attributes:
        base: The model that was read.
        yaml: The YAML that was written.
        checkpoint: The checkpoint that was written, where the base was one.
        open_as: The file name with which Ultralytics opens the YAML at the base's scale.
        layers: The new model, row by row.
        new: Indices of the new rows.
        removed: Indices, in the base, of the rows that are gone.
        tensors: Number of tensors of the base, without those of removed rows.
        kept: How many of these are unchanged in the new model.
        identical: Whether both models gave equal outputs for one random image; None if no checkpoint was read.
    """

    base: str
    yaml: str
    checkpoint: str | None
    open_as: str
    layers: list[Layer]
    new: list[int]
    removed: list[int]
    tensors: int
    kept: int
    identical: bool | None


@dataclass(frozen=True)
class Base:
    """A model to work on.

    Attributes:
        name: As the user gave it.
        source: The file.
        model: The model.
        text: Its YAML.
        checkpoint: What the ``.pt`` file holds; None for a YAML.
    """

    name: str
    source: Path
    model: Network
    text: str
    checkpoint: Checkpoint | None


@checked
@guarded()
def insert(
    model: str | Path,
    at: str | Iterable[str],
    *,
    block: str = BLOCK,
    out: str | Path | None = None,
    exist_ok: bool = False,
    trust: bool = False,
    **options: Any,
) -> Surgery:
    """Insert attention into a model YAML or a checkpoint.

    Layers that read a layer with a new block read the block instead, and all other indices are shifted. All weights
    of a checkpoint are kept. With the default gate of zero its outputs do not change.

    Args:
        model: A model YAML of Ultralytics or your own, by path or bare name; or a checkpoint.
        at: Where: ``P2`` to ``P6`` (after the last backbone layer of that stride), ``neck`` (after every layer that
            feeds the head), ``neck:P3`` (one of these), ``after:SPPF``, ``layer:9``; several separated by commas.
        block: Class name of a registered block.
        out: The file to write, ``.yaml`` or ``.pt`` like the model; the YAML of a checkpoint is written beside it. By
            default the file is named after the model and the places, and is in the working directory.
        exist_ok: Overwrite existing files.
        trust: Unpickle the checkpoint without restrictions. Only for files that you made yourself.
        **options: Arguments of the block, see `SpatialMHABlock`; for `CrossScaleMHA` also ``context``, the place of
            the layer that keys and values come from.

    Returns:
        What was written, and the new model row by row.

    Raises:
        ConfigError: A place or an option is unknown or unusable, or the output exists.
        ModelError: The YAML is missing or wrong, or the block does not fit the layer.
        CheckpointError: The checkpoint cannot be read.
    """
    insertion = Insertion(at, block, options)
    with bar() as progress:
        progress.add_task(f"inserting {block}", total=None)
        base = read_base(model, trust)
        target = output_file(base, out, insertion.suffix, exist_ok)
        return write_model(base, *insertion.apply(base.model), target)


@checked
@guarded()
def remove(
    model: str | Path,
    at: str | Iterable[str] | None = None,
    *,
    out: str | Path | None = None,
    exist_ok: bool = False,
    trust: bool = False,
) -> Surgery:
    """Take attention blocks out of a model YAML or a checkpoint: the inverse of `insert`.

    Args:
        model: A model YAML or a checkpoint.
        at: Where the blocks are that go, named as for `insert`, or ``layer:10`` with a block's own index; all if None.
        out: As for `insert`; needed where some blocks stay.
        exist_ok: Replace files that exist.
        trust: Read the checkpoint with full pickle, if you made it yourself.

    Returns:
        What was written, and the new model row by row.

    Raises:
        ConfigError: There is no block at a place, or the output exists.
        ModelError: The YAML is missing or wrong.
        CheckpointError: The checkpoint cannot be read.
    """
    with bar() as progress:
        progress.add_task("removing blocks", total=None)
        base = read_base(model, trust)
        if out is None and at is not None:
            raise ConfigError(
                "out is missing: only some blocks are removed, so there is no default name.",
                given=f"at={at}",
                expected="out=new.yaml or out=new.pt",
            )
        target = output_file(base, out, "-plain", exist_ok)
        return write_model(base, *remove_blocks(base.model, at), target)


def read_base(model: str | Path, trust: bool) -> Base:
    """Read a model YAML or a checkpoint to work on.

    Args:
        model: The file.
        trust: Read a checkpoint with full pickle.

    Raises:
        ConfigError: It is neither.
        ModelError, CheckpointError: It cannot be read.
    """
    name = str(given_path(model, "model")).strip()
    if name.endswith((".yaml", ".yml")):
        rows = read_model_yaml(existing(name))
        return Base(name, Path(str(find_model_yaml(name))), build(rows), model_text(name, rows), None)
    if not name.endswith(".pt"):
        raise ConfigError("This file is not a model.", given=f"model={name}", expected="a .yaml or a .pt file")
    source = Path(existing(name))
    checkpoint = check_checkpoint(source, trust)
    module = checkpoint.get("ema") or checkpoint["model"]
    content = getattr(module, "yaml", None)
    if not isinstance(content, dict) or not content.get("backbone") or not content.get("head"):
        raise CheckpointError(
            f"{name} does not contain the YAML of its model.",
            given=f"a {type(module).__name__}",
            expected="a checkpoint of an Ultralytics model with its YAML",
        )
    return Base(name, source, module, model_text(name, module.yaml), checkpoint)


def output_file(base: Base, out: str | Path | None, suffix: str, exist_ok: bool, beside: str | None = None) -> Path:
    """Decide on the file to write, and make sure that nothing is lost.

    Args:
        base: The model.
        out: What the user named; None for a name made of the model's.
        suffix: What that name ends with.
        exist_ok: Whether files that exist may be replaced.
        beside: What the name of another file beside it ends with, in place of the output's suffix.

    Raises:
        ConfigError: It cannot be written, exists, or is of another kind than the model.
    """
    kind = ".pt" if base.checkpoint else ".yaml"
    if out is not None:
        path = given_path(out, "out")
        if path.suffix != kind:
            raise ConfigError(
                "The output must have the same file type as the model.",
                given=f"model={base.name} out={out}",
                expected=f"out=...{kind}",
            )
    else:
        stem = Path(base.name).stem
        lettered = base.checkpoint is None and scale_letter(base.name)
        path = Path.cwd() / f"{without_scale(stem) if lettered else stem}{suffix}{kind}"
    letter = scale_letter(path.name)
    scales = (yaml.safe_load(base.text).get("scales") or {}) if base.checkpoint else {}
    if letter and scales and letter not in scales:
        raise ConfigError(
            "The output's name ends in the letter of another scale.",
            given=f"out={path.name}, scale {letter}",
            expected=f"scale {', '.join(scales)}, or a name without a letter",
        )
    with _writable(path):
        for written in {path, path.with_suffix(".yaml"), path.with_name(path.stem + beside) if beside else path}:
            if written.is_dir():
                raise ConfigError(f"{written} is a folder.", given=f"out={written}", expected="a file")
            if written.exists() and (not exist_ok or written.samefile(base.source)):
                raise ConfigError(
                    f"{written.name} exists already.",
                    given=str(written),
                    expected="a new file",
                    fix="choose another file with out=, or pass exist_ok=True; the input model is never overwritten",
                )
    return path


@contextlib.contextmanager
def _writable(path: Path) -> Iterator[None]:
    """Turn an OSError about a path or a disk into an error of this package."""
    try:
        yield
    except (OSError, ValueError, RuntimeError) as e:
        if isinstance(e, YoloMHAError) or disk_is_full(e):
            raise
        given = f"{str(path)[:200]}: {one_line(e)}"
        raise ConfigError("The output cannot be written.", given=given, fix="out=...") from e


def write_model(base: Base, made: Network, plan: RowPlan, path: Path) -> Surgery:
    """Describe the new model, and write its files.

    Args:
        base: The model before.
        made: The model after a plan.
        plan: The plan.
        path: See `output_file`.
    """
    file = path.with_suffix(".yaml")
    text = edit_text(base.text, plan)
    letter = made.yaml.get("scale") or ""
    if base.checkpoint is None and letter and not re.search(CARRIES_LETTER, path.stem):
        text = keep_one_scale(text, letter, made.yaml["nc"])  # nobody could ask for the scale by name
    made.yaml["yaml_file"] = open_as = file.name
    if base.checkpoint is None and letter and not scale_letter(open_as):
        open_as = re.sub(CARRIES_LETTER, rf"\g<0>{letter}", open_as, count=1)
    old, new = base.model.state_dict(), made.state_dict()
    names = {name: renamed(name, plan.place) for name in old}
    result = Surgery(
        base=base.name,
        yaml=str(file),
        checkpoint=str(path) if base.checkpoint is not None else None,
        open_as=open_as,
        layers=layers(made),
        new=[plan.output[host] for host in plan.hosts],
        removed=[i for i, place in enumerate(plan.place) if place is None],
        tensors=sum(name is not None for name in names.values()),
        kept=sum(b is not None and same_values(old[a], new[b]) for a, b in names.items()),
        identical=_same_outputs(base.model, made) if base.checkpoint is not None else None,
    )
    with _writable(path), contextlib.ExitStack() as files:
        clear_unfinished(path.parent)
        if base.checkpoint is not None:
            fresh = {"ema": None, "optimizer": None, "scaler": None, "updates": None, "epoch": -1, "best_fitness": None}
            kept = {key: value for key, value in base.checkpoint.items() if key in RECORDS and _is_plain(value)}
            torch.save({**kept, **fresh, "model": made}, files.enter_context(whole_file(path)))
        files.enter_context(whole_file(file)).write_text(text, encoding="utf-8", newline="")
    return result


def _is_plain(value: object) -> bool:
    """Say whether a value is made of numbers, texts, lists and dictionaries alone."""
    if type(value) in (dict, list, tuple):
        return all(map(_is_plain, [*value.keys(), *value.values()] if isinstance(value, dict) else value))  # type: ignore[call-overload]
    return value is None or isinstance(value, (bool, int, float, str))


@torch.no_grad()
def _same_outputs(base: Network, made: Network) -> bool:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, made.yaml.get("channels", 3), PROBE_SIDE, PROBE_SIDE, generator=generator)
    outputs = [_flat(deepcopy(model).float().cpu().eval()(image)) for model in (base, made)]
    return len(outputs[0]) == len(outputs[1]) and all(map(same_values, *outputs))


def _flat(output: Any) -> list[torch.Tensor]:
    if isinstance(output, torch.Tensor):
        return [output]
    values = output.values() if isinstance(output, dict) else output if isinstance(output, (list, tuple)) else ()
    return [tensor for value in values for tensor in _flat(value)]
