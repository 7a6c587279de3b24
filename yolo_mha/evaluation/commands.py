"""Commands that a report names: for the same comparison, for the scores of one model, and for another comparison."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..scoring.intervals import LEAST_SEEDS
from .comparison import Contrast
from .given import PREDICTIONS
from .recipe import SCORING, Recipe


def commands_again(recipe: Recipe, folder: Path, first: Mapping[str, Path]) -> list[str]:
    """Return what gives the same comparison again, and what scores the first finished model of each arm by itself."""
    own = {"blocks": ",".join(recipe.blocks)} if recipe.blocks else {}
    commands = [("compare", {"recipe": folder / "recipe.yaml", "project": folder.parent, **own})]
    for arm in recipe.arms:
        if arm in first:
            kind = "predictions" if recipe.given == PREDICTIONS else "model"
            words = {kind: first[arm], "data": recipe.data, "split": recipe.split}
            words |= {"imgsz": recipe.train.get("imgsz", 640)} if kind == "model" else {}
            words |= {key: recipe.train[key] for key in SCORING if key in recipe.train}
            commands.append(("val", {**words, **own}))
    return [" ".join(["yolo-mha", c, *(shlex.quote(f"{k}={v}") for k, v in words.items())]) for c, words in commands]


def seeds_wanted(recipe: Recipe, primary: Contrast, objections: Sequence[str]) -> int | None:
    """Return the number of fresh seeds that another comparison should have; None where this one has its answer."""
    if recipe.given:  # a command cannot train them
        return None
    if objections or len(recipe.seeds) < LEAST_SEEDS:
        return max(len(recipe.seeds), LEAST_SEEDS)
    return primary.verdict.seeds_needed


def advice(recipe: Recipe, seeds: Sequence[int], command: str) -> str:
    """Say how to go on."""
    name = f"{re.sub(r'-seed[0-9]+$', '', recipe.name)}-seed{seeds[0]}"
    return (
        "To find out more, plan another comparison with seeds that are not used yet: "
        f"{command} name={name} seeds={','.join(map(str, seeds))}. Seeds that are added to this one would leave it "
        "without a verdict: adding seeds until an answer comes out makes errors more frequent."
    )
