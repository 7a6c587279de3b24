"""Commands that a report names: for the same comparison, and for the scores of one model."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

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
