"""The weights that all arms of a seed begin with."""

from __future__ import annotations

from pathlib import Path

import torch

from ..data.files import whole_file
from ..diagnosis.data import class_layers
from ..registry import build
from .plan import Plan
from .recipe import Arm


def write_start(plan: Plan, seed: int, file: Path) -> None:
    """Write the checkpoint that all arms of a seed begin with.

    It is the baseline for the dataset's classes, with weights drawn from the seed, over which those of ``pretrained=``
    or of the baseline's own checkpoint are laid as Ultralytics lays them: see `class_layers`.

    Args:
        plan: The plan.
        seed: The seed.
        file: The checkpoint.
    """
    names, source = plan.dataset.names, plan.start.source
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = build({**plan.start.network.yaml, "nc": len(names)})
        made.nc = len(names)
        if plan.recipe.train.get("cls_remap", True):
            made.names = dict(names)
        if source is not None:
            torch.manual_seed(seed)  # a class layer of another width is drawn anew
            made.load(source, verbose=False)
    made.names = dict(names)
    with whole_file(file) as temporary:
        torch.save({"epoch": -1, "best_fitness": None, "model": made, "ema": None, "optimizer": None}, temporary)


def class_notes(plan: Plan) -> list[str]:
    """Say of each checkpoint that arms begin with what becomes of its class layers."""
    own, notes = plan.dataset.names, {}
    for name, arm in plan.recipe.arms.items():
        if not isinstance(arm, Arm) or (source := plan.arms[name].source) is None:
            continue
        known = getattr(source, "names", None) or {}
        if said := class_layers(known, own, plan.recipe.train.get("cls_remap", True)):
            given = plan.recipe.train.get("pretrained")
            file = given if isinstance(given, str) else arm.model
            notes[file] = f"{Path(file).name} knows {len(known)} classes and the dataset has {len(own)}: {said}."
    return list(notes.values())
