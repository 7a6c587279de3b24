"""`prune`: a smaller checkpoint, without some of its heads."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..data.dataset import Sample, load_dataset, read_dataset
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
from ..surgery.heads import Heads, attentions, check_heads, prune_heads
from ..surgery.places import PROBE_SIDE
from .asked import check_settings
from .head_importance import Passes, Scorer, WithInterval, gradient_importance
from .heads import SCORING, with_heads
from .silencing import silenced

TAKEN = (*SCORING, "split")
FORMS = "a share between 0 and 1, such as 0.5, or row:head, such as 10:0,10:3"


@dataclass(frozen=True)
class Scores:
    """AP before and after, on images on which no head was chosen.

    Attributes:
        data: The dataset.
        split: Its part.
        ap: AP with all heads.
        ap_left: AP without those that are gone.
        lost: The difference of the two.
    """

    data: str
    split: str
    ap: float
    ap_left: float
    lost: WithInterval


@dataclass(frozen=True)
class Pruned(Result):
    """A model without some of its heads.

    Attributes:
        model: What was pruned.
        heads: The heads that are gone, by block.
        left: How many heads each block has left; a block with none is removed.
        parameters: Number of parameters before.
        parameters_left: The same after.
        difference: Largest difference, for a random image, of the maps that the detection head reads to those of the
            model with these heads silenced; relative where a value is larger than 1.
        scores: AP before and after; None without a dataset.
        checkpoint: The checkpoint that was written.
        yaml: Its model YAML.
    """

    model: str
    heads: dict[str, list[int]]
    left: dict[str, int]
    parameters: int
    parameters_left: int
    difference: float
    scores: Scores | None
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
        data: Dataset, see `load_dataset`; needed for a share. AP before and after is taken on its validation images.
        out: The checkpoint to write, its YAML beside it; named after the model if not given.
        exist_ok: Replace files that exist.
        trust: Read a checkpoint with full pickle, for files that you made yourself.
        **settings: Ultralytics' settings ``split`` ("val" if not given), ``imgsz``, ``batch`` and ``device``.

    Raises:
        ConfigError: There are no such heads, none would be left, or the output exists.
        CheckpointError: The checkpoint cannot be read.
        DataError: The dataset is missing or broken, or has other classes than the model.
        UnsupportedTaskError: The model is not for box detection.
    """
    passed = check_settings(settings, TAKEN, "prune")
    share, named = _asked(heads)
    if share is not None and data is None:
        raise ConfigError(
            "A share of the heads is chosen on training images.",
            given=f"heads={heads} without data",
            expected="data=my.yaml beside it, or heads by name, such as heads=10:0,10:3",
        )
    split = passed.pop("split", None) or "val"
    if share is not None and split == "train":
        raise ConfigError(
            "Heads are chosen on the training images, and scored on others.",
            given="split=train",
            expected="val or test",
        )
    base = read_base(model, trust)
    if base.checkpoint is None:
        raise ConfigError("Heads are cut out of a checkpoint.", given=f"model={model}", expected="a .pt file")
    path = output_file(base, out, "-pruned", exist_ok)
    network = with_heads(model, trust, "prune")
    check_heads(network.model, named)
    number = 0 if share is None else _count(network, share)
    gone: Heads = named
    scorer = None
    if data is not None:
        dataset = load_dataset(data, with_bar)
        order = class_order(network.names, dataset)
        read = read_dataset(dataset, [split, "train"] if number else [split], progress=with_bar)
        scorer = Scorer(read.dataset, read.samples[split], split, **passed)
        if number:
            gone = _least(network, number, read.samples["train"], order, passed)
    made, plan = prune_heads(base.model, gone)
    scores = None if scorer is None else _scores(network, made, scorer)
    whole = {name: attention.num_heads for name, attention in attentions(base.model).items()}
    counts = [sum(p.numel() for p in m.parameters()) for m in (base.model, made)]
    difference = _difference(base.model, made, gone)
    written = write_model(base, made, plan, path)
    return Pruned(
        model=base.name,
        heads={name: sorted(indices) for name, indices in gone.items() if indices},
        left={name: count - len(set(gone.get(name, ()))) for name, count in whole.items()},
        parameters=counts[0],
        parameters_left=counts[1],
        difference=difference,
        scores=scores,
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


def _count(network: YOLO, share: float) -> int:
    """Return how many heads a share is.

    Raises:
        ConfigError: It is none, or all.
    """
    count = sum(attention.num_heads for attention in attentions(network.model).values())
    number = round(share * count)
    if not 0 < number < count:
        raise ConfigError(
            f"This is {'no' if number == 0 else 'every'} head of {count}.",
            given=f"heads={share}",
            expected=f"a share from {1 / count:.3g} to {1 - 1 / count:.3g}",
        )
    return number


def _least(
    network: YOLO, number: int, samples: Sequence[Sample], order: list[int] | None, settings: Mapping[str, Any]
) -> Heads:
    """Return so many heads whose gates have the least gradient."""
    try:
        passes = Passes(network, order, **{key: settings[key] for key in settings if key != "batch"})
        found, _ = gradient_importance(passes, samples, with_bar)
    except Exception as e:  # whatever Ultralytics meets on the way
        raise run_failed("Measuring heads", e) from e
    gone: dict[str, list[int]] = {}
    for name, head in sorted(found, key=lambda key: found[key].value)[:number]:
        gone.setdefault(name, []).append(head)
    return gone


def _scores(network: YOLO, made: Network, scorer: Scorer) -> Scores:
    """Score a model before and after."""
    before = scorer(network)
    network.model = deepcopy(made).float()
    after = scorer(network)
    return Scores(str(scorer.dataset.source), scorer.split, before.ap, after.ap, before.lost(after))


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
