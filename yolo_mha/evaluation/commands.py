"""Commands that a report names: for the same comparison, and for the scores of one model."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from .recipe import Recipe
from .score_runs import SCORING


def commands_again(recipe: Recipe, folder: Path, first: Mapping[str, Path]) -> list[str]:
    """Return what gives the same comparison again, and what scores the first finished model of each arm by itself."""
    own = {"blocks": ",".join(recipe.blocks)} if recipe.blocks else {}
    commands = [("compare", {"recipe": folder / "recipe.yaml", "project": folder.parent, **own})]
    for arm in recipe.arms:
        if arm in first:
            words = {
                "model": first[arm],
                "data": recipe.data,
                "split": recipe.split,
                "imgsz": recipe.train.get("imgsz", 640),
            }
            words |= {key: recipe.train[key] for key in SCORING if key in recipe.train}
            commands.append(("val", {**words, **own}))
    return [" ".join(["yolo-mha", c, *(shlex.quote(f"{k}={v}") for k, v in words.items())]) for c, words in commands]
