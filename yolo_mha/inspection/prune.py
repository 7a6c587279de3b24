"""`prune`: a smaller checkpoint, without some of its heads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..data.dataset import load_dataset, read_dataset
from ..engine.insert import output_file, read_base, write_model
from ..engine.model import YOLO
from ..engine.own_settings import checked
from ..engine.progress import with_bar
from ..errors import ConfigError, run_failed
from ..guard import guarded
from ..profiling.blocks import tensors
from ..registry import Network
from ..result import Result
from ..scoring.val import class_order
from ..surgery.heads import Heads, attentions, prune_heads
from ..surgery.places import PROBE_SIDE
from .head_importance import Passes, gradient_importance
from .heads import taken, with_heads
from .silencing import silenced

TAKEN = ("imgsz", "device")
FORMS = "a share between 0 and 1, such as 0.5, or row:head, such as 10:0,10:3"


@dataclass(frozen=True)
class Pruned(Result):
    """A model without some of its heads.

    Attributes:
        model: What was pruned.
        data: The dataset on whose training images the heads were chosen; None where they were named.
        heads: The heads that are gone, by block.
        left: How many heads each block has left; a block with none is removed.
        parameters: Number of parameters before.
        parameters_left: The same after.
        difference: Largest difference, for a random image, of the maps that the detection head reads to those of the
            model with these heads silenced; relative where a value is larger than 1.
        checkpoint: The checkpoint that was written.
        yaml: Its model YAML.
    """

    model: str
    data: str | None
    heads: dict[str, list[int]]
    left: dict[str, int]
    parameters: int
    parameters_left: int
    difference: float
    checkpoint: str
    yaml: str


@checked
@guarded()
def prune(
    model: str | Path,
    heads: float | str,
    data: str | Path | None = None,
    *,
    out: str | Path | None = None,
    exist_ok: bool = False,
    trust: bool = False,
    **settings: Any,
) -> Pruned:
    """Cut heads out of a checkpoint; what is written trains on, resumes and exports as any other.

    Before any more training it gives what the model gives with these heads silenced. A block whose heads all go is
    removed, with its MLP where it has one.

    Args:
        model: Checkpoint with attention blocks.
        heads: The share of all heads that goes, between 0 and 1: those with the least gradient of the loss by their
            gates on the training images of ``data``, see `yolo_mha.heads`. Or which ones, as "10:0,10:3": row and head.
        data: Dataset, see `load_dataset`; for a share alone.
        out: The checkpoint to write, its YAML beside it; named after the model if not given.
        exist_ok: Replace files that exist.
        trust: Read a checkpoint with full pickle, for files that you made yourself.
        **settings: Ultralytics' settings ``imgsz`` and ``device``, for a share.

    Raises:
        ConfigError: There are no such heads, none would be left, or the output exists.
        CheckpointError: The checkpoint cannot be read.
        DataError: The dataset is missing or broken, or has other classes than the model.
        UnsupportedTaskError: The model is not for box detection.
    """
    passed = taken(settings, "prune", TAKEN)
    share, named = _asked(heads)
    if (share is None) != (data is None):
        given = f"heads={heads}" + ("" if data is None else f" data={data}")
        raise ConfigError(
            "A share of the heads is chosen on data; heads that are named need none.",
            given=given,
            expected="heads=0.5 data=my.yaml, or heads=10:0,10:3 alone",
        )
    base = read_base(model, trust)
    if base.checkpoint is None:
        raise ConfigError("Heads are cut out of a checkpoint.", given=f"model={model}", expected="a .pt file")
    path = output_file(base, out, "-pruned", exist_ok)
    network = with_heads(model, trust, "prune")
    gone = named if share is None else _chosen(network, share, str(data), passed)
    made, plan = prune_heads(base.model, gone)
    whole = {name: attention.num_heads for name, attention in attentions(base.model).items()}
    counts = [sum(p.numel() for p in m.parameters()) for m in (base.model, made)]
    difference = _difference(base.model, made, gone)
    written = write_model(base, made, plan, path)
    return Pruned(
        model=base.name,
        data=None if data is None else str(data),
        heads={name: sorted(indices) for name, indices in gone.items() if indices},
        left={name: count - len(set(gone.get(name, ()))) for name, count in whole.items()},
        parameters=counts[0],
        parameters_left=counts[1],
        difference=difference,
        checkpoint=str(written.checkpoint),
        yaml=written.yaml,
    )


def _asked(heads: object) -> tuple[float | None, dict[str, list[int]]]:
    """Return the share that is asked for, or the heads that are named.

    Raises:
        ConfigError: It is neither.
    """
    if isinstance(heads, (int, float)) and not isinstance(heads, bool) and 0 < heads < 1:
        return float(heads), {}
    named: dict[str, list[int]] = {}
    for word in str(heads).split(",") if isinstance(heads, str) else [""]:
        match = re.fullmatch(r"\s*(\d{1,4}(?:\.\d{1,4})?):(\d{1,4})\s*", word, re.ASCII)
        if not match:
            raise ConfigError("heads has an unusable value.", given=f"heads={heads}", expected=FORMS)
        if int(match[2]) in named.setdefault(match[1], []):
            raise ConfigError("A head is named twice.", given=f"heads={heads}", expected="each head once")
        named[match[1]].append(int(match[2]))
    return None, named


def _chosen(network: YOLO, share: float, data: str, settings: Mapping[str, Any]) -> Heads:
    """Return the share of all heads whose gates have the least gradient on the training images."""
    count = sum(attention.num_heads for attention in attentions(network.model).values())
    number = round(share * count)
    if not 0 < number < count:
        raise ConfigError(
            f"This is {'no' if number == 0 else 'every'} head of {count}.",
            given=f"heads={share}",
            expected=f"a share from {1 / count:.3g} to {1 - 1 / count:.3g}",
        )
    dataset = load_dataset(data, with_bar)
    order = class_order(network.names, dataset)
    samples = read_dataset(dataset, ["train"], progress=with_bar).samples["train"]
    try:
        found, _ = gradient_importance(Passes(network, order, **settings), samples, with_bar)
    except Exception as e:  # whatever Ultralytics meets on the way
        raise run_failed("Measuring heads", e) from e
    gone: dict[str, list[int]] = {}
    for name, head in sorted(found, key=lambda key: found[key].value)[:number]:
        gone.setdefault(name, []).append(head)
    return gone


def _difference(base: Network, made: Network, gone: Heads) -> float:
    """Return the largest difference of what both heads of detection read, the attention heads of the first silenced."""
    one, other = (deepcopy(model).float().cpu().eval() for model in (base, made))
    with silenced(one, gone):
        pairs = zip(_read_by_head(one), _read_by_head(other), strict=True)
        return max(float(((a - b).abs() / a.abs().clamp_min(1)).max()) for a, b in pairs)


@torch.no_grad()
def _read_by_head(model: Network) -> list[torch.Tensor]:
    """Return the maps that the last layer reads for a random image; what it gives is sorted, so it may swap places."""
    generator = torch.Generator().manual_seed(0)
    found: list[torch.Tensor] = []
    model.model[-1].register_forward_pre_hook(lambda _, given: found.extend(tensors(given)))
    model(torch.rand(1, model.yaml.get("channels", 3), PROBE_SIDE, PROBE_SIDE, generator=generator))
    return found
