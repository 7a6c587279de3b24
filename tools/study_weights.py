"""Put a checkpoint of a study into weights/studies/, with its card.

Usage: python tools/study_weights.py STUDY

Of the arms of the study's confirmation the one is taken whose runs ended with the highest mean AP on validation images,
and of it the first seed. Its checkpoint is below .study/, where tools/study.py has trained it.
"""

import json
import sys
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
import yaml
from release_weights import save
from study_tables import difference

from yolo_mha.data.files import write_text

ROOT = Path(__file__).resolve().parents[1]
WEIGHTS, STUDIES, RUNS = ROOT / "weights" / "studies", ROOT / "studies", ROOT / ".study" / "runs"
NAMED = ("AP", "AP50", "APsmall", "APmedium", "APlarge")


def taken(found: dict[str, Any]) -> tuple[dict[str, Any], dict[str, float]]:
    """Return the run whose checkpoint is taken, and the mean AP on validation images by arm.

    Args:
        found: ``compare.json`` of the confirmation.
    """
    ends: dict[str, list[float]] = {}
    for run in found["runs"]:
        ends.setdefault(run["arm"], []).append(run["curve"][-1])
    means = {arm: mean(values) for arm, values in ends.items()}
    best = max(means, key=lambda arm: means[arm])
    return next(run for run in found["runs"] if run["arm"] == best), means


def card(study: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """Return what a card says of a checkpoint, without its file."""
    run, means = taken(found)
    values = [r["metrics"]["AP"] for r in found["runs"] if r["arm"] == run["arm"]]
    primary = found["contrasts"][0]
    return {
        "model": found["arms"][run["arm"]]["model"].replace(f".study/base/{study['data']}.pt", study["base"]["model"]),
        "arm": run["arm"],
        "AP on validation images by arm (Ultralytics' mAP50-95, mean over seeds)": means,
        "data": study["about"],
        "license of the data": study["license"],
        "recipe of the base": study["base"],
        "recipe": found["recipe"]["train"],
        "seed": run["seed"],
        "scored on": f"{primary['effects']['AP']['images']} {found['recipe']['split']} images",
        "metrics": {name: run["metrics"][name] for name in NAMED},
        "AP over seeds": {"mean": mean(values), "sd": stdev(values), "seeds": found["recipe"]["seeds"]},
        "verdict": f"{primary['arm']} less {primary['against']}: {difference(found, primary)}, "
        + primary["verdict"]["word"],
        "environment": found["environment"],
    }


def readme(cards: dict[str, Any]) -> str:
    """Return ``weights/studies/README.md``."""
    parts = []
    for name, known in cards.items():
        rows = "".join(f"| {metric} | {value:.3f} |\n" for metric, value in known["metrics"].items())
        over, size = known["AP over seeds"], known["recipe"]["imgsz"]
        parts.append(
            f"""## {name}

{known["data"]} License of the data: {known["license of the data"]}.

`{known["model"]}`, the arm "{known["arm"]}", seed {known["seed"]} of {", ".join(map(str, over["seeds"]))};
{known["parameters"]:,} parameters, half precision, no optimizer state, trained {known["trained"]}.
SHA-256 `{known["sha256"]}`.

| on {known["scored on"]} | |
|---|---|
{rows}
AP over the seeds is {over["mean"]:.3f} ± {over["sd"]:.3f}. {known["verdict"][0].upper()}{known["verdict"][1:]}.

```bash
yolo-mha predict model=weights/studies/{name} imgsz={size} source=...
```
"""
        )
    return f"""# Weights of the studies

Detectors of the studies in [studies/](../../studies/README.md), trained from scratch on their data alone. Of each
study the arm with the highest mean AP on validation images is here, and of it the first seed. The scores are those of
images that took no part in training or choosing. They are in the repository and not in the package; `cards.json` has
all numbers.

{chr(10).join(parts)}
License of the weights: AGPL-3.0-or-later.
"""


def read_cards() -> dict[str, Any]:
    """Return the cards by file name."""
    file = WEIGHTS / "cards.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def release(name: str, runs: Path) -> None:
    """Write the checkpoint of a study and its card.

    Args:
        name: The study.
        runs: The folder of its confirmation.
    """
    study = yaml.safe_load((STUDIES / name / "study.yaml").read_text(encoding="utf-8"))
    found = json.loads((STUDIES / name / "confirm" / "compare.json").read_text(encoding="utf-8"))
    WEIGHTS.mkdir(parents=True, exist_ok=True)
    checkpoint = torch.load(runs / taken(found)[0]["weights"], weights_only=False)
    cards = {**read_cards(), f"{name}.pt": {**card(study, found), **save(checkpoint, WEIGHTS / f"{name}.pt")}}
    write_text(WEIGHTS / "cards.json", json.dumps(cards, indent=2) + "\n")
    write_text(WEIGHTS / "README.md", readme(cards))


if __name__ == "__main__":
    if len(sys.argv) != 2 or not (STUDIES / sys.argv[1] / "confirm" / "compare.json").is_file():
        sys.exit(f"{__doc__}\nGive a study that was confirmed.")
    release(sys.argv[1], RUNS / sys.argv[1] / "confirm")
