"""`insert` and `remove`: a model YAML or a checkpoint in, the same with or without attention blocks out."""

from __future__ import annotations

import re
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from ..data.files import whole_file
from ..errors import CheckpointError, ConfigError, ModelError
from ..paths import given_path, without_scale
from ..registry import Network, build, find_model_yaml, guarded, read_checkpoint, scale_letter
from ..surgery.insert import BLOCK, block_row, insert_blocks, remove_blocks
from ..surgery.places import PROBE, Layer, layers, slug, split
from ..surgery.rows import Plan, Row
from ..surgery.text import dump, edit_text, keep_one_scale
from .model import check_checkpoint, read_model_yaml
from .progress import bar


@dataclass(frozen=True)
class Surgery:
    """What an insertion or a removal made.

    Attributes:
        base: The model that was read.
        yaml: The YAML that was written.
        checkpoint: The checkpoint that was written, where the base was one.
        layers: The new model, row by row.
        new: Indices of the new rows.
        removed: Indices, in the base, of the rows that are gone.
        tensors: Number of the base's tensors; all of them are in the new checkpoint.
        identical: Whether both models gave equal outputs for one random image; None where no checkpoint was read.
    """

    base: str
    yaml: str
    checkpoint: str | None
    layers: list[Layer]
    new: list[int]
    removed: list[int]
    tensors: int
    identical: bool | None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class _Base:
    """A model to work on.

    Attributes:
        name: As the user gave it.
        model: The built model.
        text: Its YAML.
        checkpoint: What the ``.pt`` file holds; None for a YAML.
    """

    name: str
    model: Network
    text: str
    checkpoint: dict[str, Any] | None


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
    """Put attention into a model YAML or a checkpoint.

    Every reference to a layer that gets a block goes to the block, all others shift. From a checkpoint, all of its
    weights are kept, and with the default gate of zero its outputs are the same as before.

    Args:
        model: A model YAML of Ultralytics or your own, by path or bare name; or a checkpoint.
        at: Where: ``P2`` to ``P6`` (behind the last backbone layer at that stride), ``neck`` (behind every layer that
            feeds the head), ``neck:P3`` (one of them), ``after:SPPF``, ``layer:9``; several separated by commas.
        block: Class name of a registered block.
        out: The file to write, ``.yaml`` or ``.pt`` as the model; a checkpoint's YAML goes beside it. By default it is
            named after the model and the places, in the working directory.
        exist_ok: Replace files that exist.
        trust: Read the checkpoint with full pickle, if you made it yourself.
        **options: Arguments of the block, see `SpatialMHABlock`.

    Returns:
        What was written, and the new model row by row.

    Raises:
        ConfigError: A place or an option is unknown or unusable, or the output exists.
        ModelError: The YAML is missing or wrong, or the block does not fit the layer.
        CheckpointError: The checkpoint cannot be read.
    """
    row = block_row(block, options)
    places = split(at)
    with bar() as progress:
        progress.add_task(f"inserting {block}", total=None)
        base = _read(model, trust)
        target = _output(base, out, name_suffix(block, places), exist_ok)
        made, plan = insert_blocks(base.model, places, row)
        return _finish(base, made, plan, row, target)


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
        out: As for `insert`.
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
        base = _read(model, trust)
        target = _output(base, out, None, exist_ok)
        made, plan = remove_blocks(base.model, at)
        return _finish(base, made, plan, None, target)


def name_suffix(block: str, places: list[str]) -> str:
    """Return what a model's name gets for its blocks: -mha-p5."""
    return f"-{'mha' if block == BLOCK else block.lower()}-{slug(places)}"


def model_text(name: str, content: dict[str, Any]) -> str:
    """Return the text of the YAML behind a model.

    Args:
        name: The YAML by path or bare name, or a checkpoint.
        content: The YAML's content, which a checkpoint brings.
    """
    if name.endswith((".yaml", ".yml")):
        return Path(str(find_model_yaml(name))).read_bytes().decode("utf-8-sig")
    return _text_of(content)


def _read(model: str | Path, trust: bool) -> _Base:
    name = str(given_path(model, "model")).strip()
    if name.endswith((".yaml", ".yml")):
        content = read_model_yaml(name)
        content["scale"] = scale_letter(name)
        return _Base(name, build(content), model_text(name, content), None)
    if not name.endswith(".pt"):
        raise ConfigError("This is no model to work on.", given=f"model={name}", expected="a .yaml or a .pt file")
    check_checkpoint(name, trust)
    checkpoint = read_checkpoint(name, trust)
    module = checkpoint.get("ema") or checkpoint["model"]
    rows = getattr(module, "yaml", None)
    if not isinstance(rows, dict) or not rows.get("backbone") or not rows.get("head"):
        raise CheckpointError(
            f"{name} does not say of which rows its model is built.",
            given=f"a {type(module).__name__}",
            expected="a checkpoint of an Ultralytics model with its YAML",
        )
    return _Base(name, module, model_text(name, rows), checkpoint)


def _text_of(content: dict[str, Any]) -> str:
    """Find the YAML that a checkpoint was built from, with its comments; write one where there is none."""
    scale, scales = content.get("scale"), content.get("scales") or {}
    kept = {scale: scales[scale]} if scale in scales else scales
    ignored = ("nc", "scale", "channels", "yaml_file")
    if path := find_model_yaml(Path(str(content.get("yaml_file", ""))).name):
        text = path.read_bytes().decode("utf-8-sig")
        found = yaml.safe_load(text)
        if all(found.get(k) == content.get(k) for k in {*found, *content} - {*ignored}):
            text = keep_one_scale(text, str(scale), content["nc"])
            if yaml.safe_load(text).get("scales") in (kept, None):
                return text
    return dump({**content, "scales": kept})


def _output(base: _Base, out: str | Path | None, suffix: str | None, exist_ok: bool) -> Path:
    """Decide on the file to write, and make sure that nothing is lost."""
    name = Path(base.name)
    stem = name.stem if base.checkpoint else without_scale(name.stem)
    if out is not None:
        path = given_path(out, "out")
        if path.suffix != (".pt" if base.checkpoint else ".yaml"):
            raise ConfigError(
                "The output is a file of another kind than the model.",
                given=f"model={base.name} out={out}",
                expected=f"out=....{'pt' if base.checkpoint else 'yaml'}",
            )
    else:
        stem = f"{stem}{suffix}" if suffix else re.sub(r"-mha.*", "", stem)
        path = Path.cwd() / f"{stem}{'.pt' if base.checkpoint else '.yaml'}"
    letter = scale_letter(path.name)
    scales = (yaml.safe_load(base.text).get("scales") or {}) if base.checkpoint else {}
    if letter and scales and letter not in scales:
        raise ConfigError(
            "The output's name has the letter of another scale.",
            given=f"out={path.name}, scale {letter}",
            expected=f"scale {', '.join(scales)}, or a name without a letter",
        )
    for written in {path, path.with_suffix(".yaml")}:
        if written.exists() and (not exist_ok or (name.exists() and written.samefile(name))):
            raise ConfigError(
                f"{written.name} exists already.",
                given=str(written),
                expected="a new file",
                fix="name another with out=, or pass exist_ok=True; a model is never replaced by its own copy",
            )
    return path


def _finish(base: _Base, made: Network, plan: Plan, row: Row | None, path: Path) -> Surgery:
    """Check the new model, and write its files."""
    text = edit_text(base.text, plan, row)
    content, file = made.yaml, path.with_suffix(".yaml")
    written = yaml.safe_load(text)
    if any(written[k] != content[k] for k in ("backbone", "head")):
        raise ModelError(f"The text of {base.name} does not say the same as its rows; this is a fault of yolo-mha.")
    content["yaml_file"] = file.name
    identical = None
    if base.checkpoint is not None:
        identical = _same_outputs(base.model, made)
        fresh = {"ema": None, "optimizer": None, "scaler": None, "updates": None, "epoch": -1, "best_fitness": None}
        with whole_file(path) as weights, whole_file(file) as beside:
            torch.save({**base.checkpoint, **fresh, "model": made}, weights)
            beside.write_text(text, encoding="utf-8", newline="")
    else:
        with whole_file(file) as beside:
            beside.write_text(text, encoding="utf-8", newline="")
    return Surgery(
        base=base.name,
        yaml=str(file),
        checkpoint=str(path) if base.checkpoint is not None else None,
        layers=layers(made),
        new=[plan.output[host] for host in plan.hosts],
        removed=[i for i, place in enumerate(plan.place) if place is None],
        tensors=len(base.model.state_dict()),
        identical=identical,
    )


@torch.no_grad()
def _same_outputs(base: Network, made: Network) -> bool:
    image = torch.rand(1, made.yaml.get("channels", 3), PROBE, PROBE)
    outputs = [_flat(deepcopy(model).float().cpu().eval()(image)) for model in (base, made)]
    return len(outputs[0]) == len(outputs[1]) and all(map(torch.equal, *outputs))


def _flat(output: Any) -> list[torch.Tensor]:
    if isinstance(output, torch.Tensor):
        return [output]
    values = output.values() if isinstance(output, dict) else output if isinstance(output, (list, tuple)) else ()
    return [tensor for value in values for tensor in _flat(value)]
