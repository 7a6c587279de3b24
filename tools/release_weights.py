"""Put the checkpoints of a comparison into weights/, stripped of local paths, with their cards.

Usage: python tools/release_weights.py runs/compare/demo
"""

import hashlib
import json
import sys
from pathlib import Path

import torch

import yolo_mha
from yolo_mha.data.files import whole_file, write_text

WEIGHTS = Path(__file__).resolve().parents[1] / "weights"
LOCAL = ("data", "project", "save_dir", "name")  # settings that hold a path of the machine


def release(folder: Path) -> None:
    """Write the checkpoints of a comparison with one seed, half precision and without optimizer, and their cards."""
    comparison = json.loads((folder / "compare.json").read_text())
    cards = {}
    for run in comparison["runs"]:
        arm = comparison["arms"][run["arm"]]
        name = Path(arm["model"]).with_suffix(".pt").name
        checkpoint = torch.load(folder / run["weights"], weights_only=False)
        arguments = {k: v for k, v in checkpoint["train_args"].items() if k not in LOCAL}
        checkpoint.pop("git", None)
        checkpoint["train_args"] = checkpoint["model"].half().args = arguments
        with whole_file(WEIGHTS / name) as temporary:
            torch.save(checkpoint, temporary)
        cards[name] = {
            "model": arm["model"],
            "data": f"{comparison['recipe']['data']}, seed 0: 600 training and 200 validation images of 192 px",
            "recipe": comparison["recipe"]["train"],
            "seed": run["seed"],
            "metrics": run["metrics"],
            "environment": comparison["environment"],
            "sha256": hashlib.sha256((WEIGHTS / name).read_bytes()).hexdigest(),
        }
    write_text(WEIGHTS / "cards.json", json.dumps(cards, indent=2) + "\n")
    rows = "".join(
        f"| `{name}` | {card['metrics']['AP']:.3f} | {card['metrics']['AP50']:.3f} | {card['sha256']} |\n"
        for name, card in cards.items()
    )
    card = next(iter(cards.values()))
    recipe = ", ".join(f"{k}={v}" for k, v in card["recipe"].items())
    write_text(
        WEIGHTS / "README.md",
        f"""# Weights of the demo

Trained by `make demo` on the embedded dataset ({card["data"]}),
whose classes cannot be told apart by convolution with a small receptive field.
**They are of no use on natural images.** One seed, half precision, no optimizer state.

| file | AP | AP50 | sha256 |
|---|---|---|---|
{rows}
Recipe: {recipe}. Scores by pycocotools on the 200 validation images, last checkpoint. `cards.json` has all
numbers and versions. License: AGPL-3.0-or-later.
""",
    )


if __name__ == "__main__":
    if len(sys.argv) != 2 or not Path(sys.argv[1], "compare.json").is_file():
        sys.exit(f"{__doc__}\nyolo-mha {yolo_mha.__version__}: give the folder of a finished comparison")
    release(Path(sys.argv[1]))
