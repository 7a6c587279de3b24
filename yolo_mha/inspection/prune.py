"""`prune`: a smaller checkpoint, without some of its heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ..data.dataset import load_dataset, read_dataset
from ..engine import settings as config
from ..engine.insert import output_file, read_base, write_model
from ..engine.model import YOLO
from ..engine.own_settings import checked
from ..engine.progress import with_bar
from ..engine.train import train
from ..errors import ConfigError
from ..guard import guarded
from ..profiling.blocks import tensors
from ..registry import Network
from ..scoring.val import class_order
from ..surgery.heads import Heads, attentions, check_heads, check_some_stay, prune_heads
from ..surgery.places import PROBE_SIDE
from .asked import check_settings
from .heads import SCORING, with_heads
from .pruned import Pruned, Scores, Tuned, nothing_to_lose, within
from .pruning_auto import describe, most_within, numbers_between
from .pruning_choice import AUTO, count_of, least_first, read_heads
from .pruning_controls import controls
from .pruning_curve import Point, draw_curve, measure_curve
from .silenced_scores import Name, Scorer, SilencedScores, by_block, parts
from .silencing import silenced

TAKEN = (*SCORING, "split")
CURVE = "-curve.png"
MARGIN = 0.005


@dataclass(frozen=True)
class _Choice:
    """The heads that go, and how they were chosen."""

    gone: Sequence[Name]
    curve: Sequence[Point] = ()
    notes: Sequence[str] = ()


@checked
@guarded()
def prune(
    model: str | Path,
    heads: float | str,
    data: str | Path | None = None,
    *,
    margin: float = MARGIN,
    group: str | Path | None = None,
    epochs: int = 0,
    out: str | Path | None = None,
    exist_ok: bool = False,
    trust: bool = False,
    **settings: Any,
) -> Pruned:
    """Cut heads out of a checkpoint; what is written trains on, resumes and exports as any other.

    Before any more training it gives what the model gives with these heads silenced. A block whose heads all go is
    removed, with its MLP where it has one.

    A share and "auto" take out the heads with the least gradient of the loss by their gates on the training images of
    ``data``, see `yolo_mha.heads`. Five draws of as many heads at random, and those of least weight norm, are scored
    beside them, and AP and latency are measured against the number of heads removed.

    Args:
        model: Checkpoint with attention blocks.
        heads: The share of all heads that goes, between 0 and 1; which ones, as "10:0,10:3", row and head; or "auto"
            for as many as keep AP within ``margin`` on one half of the validation images, drawn at random. AP is then
            reported on the other half. None goes where the whole model's AP is no larger than ``margin``, or next to 0.
        data: Dataset, see `load_dataset`; needed for a share and for "auto". AP before and after is taken on its
            validation images.
        margin: How much AP may be lost.
        group: Which validation images belong together, see `read_groups`: they stay in one half, and are resampled
            together.
        epochs: For how long the pruned model is trained on ``data`` afterwards, see `train`; 0 for not at all.
        out: The checkpoint to write, its YAML and the picture of the curve beside it; named after the model if not
            given.
        exist_ok: Replace files that exist.
        trust: Read a checkpoint with full pickle, for files that you made yourself.
        **settings: Ultralytics' settings ``split`` ("val" if not given), ``imgsz``, ``batch`` and ``device``; with
            ``epochs`` its training settings too.

    Returns:
        What is gone and what that costs. Where "auto" finds no head that can go, nothing is written.

    Raises:
        ConfigError: There are no such heads, none would be left, or the output exists.
        CheckpointError: The checkpoint cannot be read.
        DataError: The dataset is missing or broken, or has other classes than the model.
        UnsupportedTaskError: The model is not for box detection.
        RunError: Training stopped with an error; the pruned checkpoint is there.
    """
    trains_with = settings.keys() - {"resume"} if epochs else ()
    passed = check_settings(settings, (*TAKEN, *trains_with), "prune")
    asked, split = read_heads(heads), passed.pop("split", None) or "val"
    named = asked if isinstance(asked, list) else []
    _check(heads, not named, {"data": data, "split": split, "margin": margin, "group": group, "epochs": epochs})
    base = read_base(model, trust)
    if base.checkpoint is None:
        raise ConfigError("prune needs a checkpoint.", given=f"model={model}", expected="a .pt file")
    path = output_file(base, out, "-pruned", exist_ok, None if named else CURVE)
    network = with_heads(model, trust, "prune")
    check_heads(network.model, by_block(named))
    check_some_stay(network.model, by_block(named))
    number = count_of(asked, network) if isinstance(asked, float) else None
    if epochs:
        config.check_trains_on(passed)
    scoring = {key: passed[key] for key in SCORING if key in passed}
    choice, score = _Choice(named), None
    if data is not None:
        dataset = load_dataset(data, with_bar)
        order = class_order(network.names, dataset)
        needed = [split, *(["train"] if epochs or not named else []), *(["val"] if epochs else [])]
        read = read_dataset(dataset, list(dict.fromkeys(needed)), progress=with_bar)
        scorer = Scorer(read.dataset, read.samples[split], split, **scoring)
        score = SilencedScores(network, scorer, parts(scorer, group, halved=asked == AUTO))
        if not named:
            unfused = deepcopy(network.model)
            ranked, imgsz = least_first(network, read.samples["train"], order, scoring)
            choice = _choose(unfused, ranked, number, score, imgsz, margin)
    gone = by_block(choice.gone)
    made, plan = prune_heads(base.model, gone)
    written = write_model(base, made, plan, path) if gone else None  # before hours of scoring
    scores = _scores(choice, base.model, score, margin) if gone and score else None
    whole = {name: attention.num_heads for name, attention in attentions(base.model).items()}
    before, after = (sum(p.numel() for p in m.parameters()) for m in (base.model, made))
    result = Pruned(
        model=base.name,
        heads=gone,
        left={name: count - len(gone.get(name, ())) for name, count in whole.items()},
        parameters=before,
        parameters_left=after,
        difference=_difference(base.model, made, gone),
        scores=scores,
        curve=list(choice.curve),
        notes=list(choice.notes),
    )
    if written is None:
        return result
    result = replace(result, checkpoint=str(written.checkpoint), yaml=written.yaml)
    if choice.curve and scores:
        picture = path.with_name(path.stem + CURVE)
        draw_curve(choice.curve, len(choice.gone), scores.controls, picture)
        result = replace(result, picture=str(picture))
    if epochs and score:
        trained = train(path, data, epochs=epochs, trust=trust, **passed)
        first, now = score([])[-1], score.of(YOLO(trained.last, trust=trust))[-1]
        result = replace(result, tuned=Tuned(trained.last, trained.epochs, now.ap, first.lost(now)))
    return result


def _check(heads: object, chosen: bool, given: Mapping[str, Any]) -> None:
    """Refuse settings that do not go together, or mean nothing.

    Args:
        heads: What was asked for.
        chosen: Whether heads are chosen, not named.
        given: The settings.

    Raises:
        ConfigError: There are such.
    """
    if chosen and given["data"] is None:
        raise ConfigError(
            f"heads={heads} needs data, to choose heads on its training images.",
            given=f"heads={heads} without data",
            expected="data=my.yaml too, or the heads themselves, such as heads=10:0,10:3",
        )
    if chosen and given["split"] == "train":
        raise ConfigError(
            "AP cannot be measured on the training images, because heads are chosen on them.",
            given="split=train",
            expected="val or test",
        )
    for key in ("group", "epochs"):
        if given[key] and given["data"] is None:
            text = f"{key}={given[key]} without data"
            raise ConfigError(f"{key} needs data.", given=text, expected=f"data=my.yaml {key}={given[key]}")
    margin = given["margin"]
    if type(margin) not in (int, float) or not 0 < margin < 1:
        expected = f"above 0 and below 1, for example margin={MARGIN}"
        raise ConfigError(
            "margin, the AP that may be lost, is out of range.", given=f"margin={margin}", expected=expected
        )


def _choose(
    model: Network, ranked: Sequence[Name], number: int | None, score: SilencedScores, imgsz: int, margin: float
) -> _Choice:
    """Take so many heads out of a ranking, or as many as AP allows.

    Args:
        model: The model as `YOLO` opens it, not fused.
        ranked: All heads, in the order in which they go.
        number: How many; None for as many as lose no more than ``margin`` on the first part of the images.
        score: Scores the model without heads.
        imgsz: Height and width of the image that is timed.
        margin: See there.
    """
    if number is None and (said := nothing_to_lose(min(part.ap for part in score([])), margin)):
        return _Choice((), notes=[f"{said} No head is chosen, and nothing is written."])
    others = numbers_between(ranked, score, margin) if number is None else ()
    curve, notes = measure_curve(model, ranked, number or 0, score, imgsz, others)
    if number is None:
        number = most_within(curve, len(ranked), margin)
        notes = [*describe(curve, ranked, number, score, margin), *notes]
    return _Choice(ranked[:number], curve=curve, notes=notes)


def _scores(choice: _Choice, model: Network, score: SilencedScores, margin: float) -> Scores:
    """Score a model before and after, and where heads were chosen as many others beside them."""
    whole, left = score([])[-1], score(choice.gone)[-1]
    lost = whole.lost(left)
    return Scores(
        data=str(score.scorer.dataset.source),
        split=score.scorer.split,
        images=score.parts[-1].images,
        ap=whole.ap,
        ap_left=left.ap,
        lost=lost,
        sentence=within(lost, margin, whole.ap),
        controls=controls(choice.gone, model, score, with_bar) if choice.curve else [],
    )


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
