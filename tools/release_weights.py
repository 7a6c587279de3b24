"""Put checkpoints of a comparison into weights/, stripped of local paths, with their cards.

Usage: python tools/release_weights.py runs/compare/demo [arm ...]

Without arms all of them are taken; the files of the others, and their cards, stay as they are.
"""

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import torch

import yolo_mha
from yolo_mha.data.files import whole_file, write_text

WEIGHTS = Path(__file__).resolve().parents[1] / "weights"
FILES = {"baseline": "demo-baseline.pt", "attention": "demo-mha.pt", "convolution": "demo-conv.pt"}


def save(checkpoint: dict[str, Any], target: Path) -> dict[str, Any]:
    """Write a checkpoint in half precision and without paths of the machine; return what its card says of the file."""
    model = checkpoint["model"].half()
    checkpoint.pop("git", None)
    vars(model).pop("pt_path", None)  # where Ultralytics has read the weights that the model began with
    checkpoint["train_args"] = model.args = {
        k: v for k, v in checkpoint["train_args"].items() if not os.path.isabs(str(v))
    }
    model.yaml["yaml_file"] = Path(model.yaml["yaml_file"]).name
    with whole_file(target) as temporary, temporary.open("wb") as file:  # torch.save would keep a file's name
        torch.save(checkpoint, file)
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "trained": checkpoint["date"][:10],
        "sha256": hashlib.sha256(target.read_bytes()).hexdigest(),
    }


def release(folder: Path, arms: list[str]) -> None:
    """Write the checkpoints of a comparison with one seed, and their cards."""
    comparison = json.loads((folder / "compare.json").read_text(encoding="utf-8"))
    cards = read_cards()
    for run in comparison["runs"]:
        if arms and run["arm"] not in arms:
            continue
        name = FILES[run["arm"]]
        cards[name] = {
            "model": comparison["arms"][run["arm"]]["model"],
            "data": f"{comparison['recipe']['data']}, seed 0: 600 training and 200 validation images of 192 px",
            "recipe": comparison["recipe"]["train"],
            "seed": run["seed"],
            "metrics": run["metrics"],
            "environment": comparison["environment"],
            **save(torch.load(folder / run["weights"], weights_only=False), WEIGHTS / name),
        }
    write_cards(cards)


def read_cards() -> dict[str, Any]:
    """Return the cards by file name."""
    return json.loads((WEIGHTS / "cards.json").read_text(encoding="utf-8"))


def write_cards(cards: dict[str, Any]) -> None:
    """Write ``cards.json``, and what people read of it."""
    write_text(WEIGHTS / "cards.json", json.dumps(cards, indent=2) + "\n")
    write_text(WEIGHTS / "README.md", readme(cards))


def readme(cards: dict[str, Any]) -> str:
    """Return ``weights/README.md``."""
    rows = "".join(
        f"| `{name}` | {card['model']} | {card['parameters']:,} | {card['metrics']['AP']:.3f} | "
        f"{card['metrics']['AP50']:.3f} | {card['trained']} | {card['sha256']} |\n"
        for name, card in cards.items()
    )
    card = next(iter(cards.values()))
    recipe = ", ".join(f"{k}={v}" for k, v in card["recipe"].items())
    return f"""# Weights of the demo

Trained by `make demo` on the embedded dataset ({card["data"]}),
whose classes cannot be told apart by convolution with a small receptive field.
**They are of no use on natural images.** One seed, half precision, no optimizer state.

| file | model | parameters | AP | AP50 | trained | sha256 |
|---|---|---|---|---|---|---|
{rows}
Files with different dates are from different comparisons, whose arms did not begin with the same weights. To compare
the three, run `make demo`.

Recipe: {recipe}.
Scores by pycocotools on the 200 validation images, last checkpoint. `cards.json` has all numbers and versions.
License: AGPL-3.0-or-later.

Detectors of real pictures, from the studies, are in the folder `weights/studies` of the repository.
"""


if __name__ == "__main__":
    if len(sys.argv) < 2 or not Path(sys.argv[1], "compare.json").is_file() or not set(sys.argv[2:]) <= set(FILES):
        sys.exit(f"{__doc__}\nyolo-mha {yolo_mha.__version__}: give the folder of a finished comparison, and its arms")
    release(Path(sys.argv[1]), sys.argv[2:])
