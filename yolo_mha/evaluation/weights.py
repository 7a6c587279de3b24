"""The weights that all arms of a seed begin with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..data.dataset import Dataset
from ..data.files import whole_file
from ..engine.model import YOLO, check_checkpoint
from ..registry import Network, build
from .recipe import Recipe


def classes(plan: Recipe, dataset: Dataset) -> dict[int, str]:
    """Return the class names that are trained for."""
    return dict(dataset.names)


def for_classes(network: Network, names: Mapping[int, str], seed: int) -> Network:
    """Build a network anew for a dataset's classes, with weights that follow from a seed.

    Args:
        network: One of the same rows.
        names: Class names by index.
        seed: For the weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = build({**network.yaml, "nc": len(names)})
    made.nc = len(names)
    return made


def write_start(plan: Recipe, baseline: Network, names: Mapping[int, str], seed: int, file: Path) -> None:
    """Write the checkpoint that all arms of a seed begin with.

    It is the baseline for the dataset's classes, with weights drawn from the seed, over which those of ``pretrained=``
    or of the baseline's own checkpoint are laid as Ultralytics lays them: classes are matched by name, and class layers
    without a match stay as drawn.

    Args:
        plan: The recipe.
        baseline: The baseline's network.
        names: Class names by index.
        seed: The seed.
        file: The checkpoint.
    """
    made = for_classes(baseline, names, seed)
    if plan.train.get("cls_remap", True):
        made.names = dict(names)
    if (source := _weights(plan, next(iter(plan.arms.values())))) is not None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)  # a class layer of another width is drawn anew
            made.load(source, verbose=False)
    made.names = dict(names)
    with whole_file(file) as temporary:
        torch.save({"epoch": -1, "best_fitness": None, "model": made, "ema": None, "optimizer": None}, temporary)


def _weights(plan: Recipe, arm: Mapping[str, Any]) -> Network | None:
    """Return the network whose weights an arm would begin with if it were trained alone, or None."""
    pretrained = plan.train.get("pretrained", True)
    if isinstance(pretrained, str):
        content = check_checkpoint(pretrained)
        return (content.get("ema") or content["model"]).float()
    if pretrained is False or not str(arm["model"]).endswith(".pt"):
        return None
    network: Network = YOLO(arm["model"]).model
    return network


def class_notes(plan: Recipe, dataset: Dataset) -> list[str]:
    """Say of each checkpoint that arms begin with what becomes of its class layers.

    Args:
        plan: The recipe.
        dataset: What it is trained on.
    """
    own, notes = classes(plan, dataset), {}
    for arm in plan.arms.values():
        if "match" in arm or (source := _weights(plan, arm)) is None:
            continue
        names = getattr(source, "names", None) or {}
        if list(names.values()) != list(own.values()):
            shared = {n.strip().lower() for n in names.values()} & {n.strip().lower() for n in own.values()}
            given = plan.train.get("pretrained")
            file = given if isinstance(given, str) else str(arm["model"])
            notes[file] = (
                f"{Path(file).name} knows {len(names)} classes and the dataset has {len(own)}: the last layers of the "
                f"head begin anew, apart from {len(shared)} classes of the same name."
            )
    return list(notes.values())
