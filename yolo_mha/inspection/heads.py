"""`heads`: which heads of a model matter, and how alike they are."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from scipy import stats

from ..data.beacons import EMBEDDED
from ..data.dataset import load_dataset, read_dataset
from ..data.files import write_text
from ..engine import settings as config
from ..engine.model import YOLO, require_detection
from ..engine.own_settings import checked
from ..engine.predict import DEMO_MODEL
from ..engine.progress import with_bar
from ..engine.run_folder import run_folder
from ..errors import ConfigError, run_failed
from ..guard import guarded
from ..result import Result
from ..scoring.val import class_order
from ..surgery.heads import check_heads
from .asked import check_settings
from .head_importance import Likeness, Passes, gradient_importance, rank_correlation, silencing_importance
from .head_plot import draw_heads
from .pruned import nothing_to_lose
from .silenced_scores import Scorer, SilencedScores, WithInterval, group_units, parts

SCORING = ("imgsz", "batch", "device")
TAKEN = (*SCORING, "split", "project", "name", "exist_ok")


@dataclass(frozen=True)
class Head:
    """How important a head is.

    Attributes:
        layer: Its block: the row, "10", or "10.1" for the second block of a row that repeats.
        head: Its index.
        gradient: Mean over images of the absolute gradient of the loss by a gate on the head: to first order, what the
            loss of an image changes by without it.
        gradient_rank: Its place by that, 1 for the most important; equal ones share the mean of their places.
        ap_lost: AP with all heads, less AP with this one silenced.
        ap_rank: Its place by that.
    """

    layer: str
    head: int
    gradient: WithInterval
    gradient_rank: float
    ap_lost: WithInterval
    ap_rank: float


@dataclass(frozen=True)
class HeadRanking(Result):
    """Which heads of a model matter, and where it is written.

    Attributes:
        save_dir: The run's folder.
        model: What was examined.
        data: The dataset.
        split: Its part.
        images: Number of images.
        groups: Number of their groups, where ``group`` was given.
        imgsz: Size of the images.
        ap: AP with all heads.
        heads: The heads, those first whose loss costs most AP.
        rank_correlation: Spearman's, of the two measures; None with fewer than three heads, or where all are equal.
        blocks: How alike the maps of each block's heads are.
        outputs: File of each kind of output.
        notes: What the measures cannot tell.
    """

    save_dir: str
    model: str
    data: str
    split: str
    images: int
    groups: int | None
    imgsz: Any
    ap: float
    heads: list[Head]
    rank_correlation: float | None
    blocks: list[Likeness]
    outputs: dict[str, str]
    notes: list[str] = field(default_factory=list)


@checked
@guarded()
def heads(
    model: str | Path = DEMO_MODEL,
    data: str | Path = EMBEDDED,
    *,
    group: str | Path | None = None,
    trust: bool = False,
    **settings: Any,
) -> HeadRanking:
    """Measure how important each head is, by gradients and by silencing it, and how alike the heads are.

    Each head is silenced by itself, which takes a validation for each. Importance of a head by itself says nothing of
    several together: where two do the same, either can go, but not both.

    Args:
        model: Checkpoint with attention blocks.
        data: Dataset, see `load_dataset`.
        group: Images that are not independent and are resampled together, see `read_groups`.
        trust: Read a checkpoint with full pickle, for files that you made yourself.
        **settings: Ultralytics' settings ``split`` ("val" if not given), ``imgsz``, ``batch``, ``device``, ``project``,
            ``name`` and ``exist_ok``.

    Returns:
        The measures, which are also written to the run's folder as ``heads.json`` and ``heads.png``.

    Raises:
        ConfigError: A setting is unknown or unusable, the groups do not fit the images, or the model is an exported one
            or has no heads.
        DataError: The dataset is missing or broken, or has other classes than the model.
        ModelError, CheckpointError: The model cannot be read.
        UnsupportedTaskError: The model is not for box detection.
    """
    passed = check_settings(settings, TAKEN, "heads")
    network = with_heads(model, trust, "heads")
    split = passed.get("split") or "val"
    dataset = load_dataset(data, with_bar)
    order = class_order(network.names, dataset)
    read = read_dataset(dataset, [split], progress=with_bar)
    dataset, samples = read.dataset, read.samples[split]
    units = group_units(group, samples)
    scoring = {key: passed[key] for key in SCORING if key in passed}
    try:
        with run_folder(passed, "heads", "runs/heads") as folder:
            passes = Passes(network, order, **{key: scoring[key] for key in scoring if key != "batch"})
            gradients, blocks = gradient_importance(passes, samples, with_bar, units)
            scorer = Scorer(dataset, samples, split, **scoring)
            score = SilencedScores(network, scorer, parts(scorer, group, halved=False), whole_blocks=False)
            ap, lost = silencing_importance(score, with_bar)
            by_gradient, by_ap = ([found[key].value for key in gradients] for found in (gradients, lost))
            places = zip(*(stats.rankdata([-v for v in values]) for values in (by_gradient, by_ap)), strict=True)
            ranked = [
                Head(*key, gradients[key], float(first), lost[key], float(second))
                for key, (first, second) in zip(gradients, places, strict=True)
            ]
            said = nothing_to_lose(ap)
            notes = [f"{said} AP lost tells nothing about the heads."] if said else []
            result = HeadRanking(
                save_dir=str(folder),
                model=str(network.model_name),
                data=str(dataset.source),
                split=split,
                images=len(samples),
                groups=None if units is None else int(units.max()) + 1,
                imgsz=config.one_number(passes.looker.imgsz),
                ap=ap,
                heads=sorted(ranked, key=lambda head: (head.ap_rank, head.gradient_rank)),
                rank_correlation=rank_correlation(by_gradient, by_ap),
                blocks=blocks,
                outputs={"plot": str(folder / "heads.png"), "numbers": str(folder / "heads.json")},
                notes=notes,
            )
            draw_heads(result.heads, result.blocks, folder / "heads.png")
            write_text(folder / "heads.json", json.dumps(result.as_dict(), indent=2))
            return result
    except Exception as e:  # whatever Ultralytics meets on the way
        raise run_failed("Measuring heads", e) from e


def with_heads(model: str | Path, trust: bool, command: str) -> YOLO:
    """Open a detector that has heads.

    Raises:
        ConfigError: It is exported, or has no heads.
        UnsupportedTaskError: It is not for box detection.
    """
    network = YOLO(model, trust=trust)
    if not isinstance(network.model, torch.nn.Module):
        given = f"model={network.model_name}"
        expected = "the .pt that it was exported from"
        raise ConfigError(f"{command} does not take exported models.", given=given, expected=expected)
    require_detection(network.task, command)
    check_heads(network.model, {})
    return network
