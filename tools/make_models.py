"""Write the models of cfg/models anew with `insert`: python tools/make_models.py."""

import shutil
from pathlib import Path

import yolo_mha

FAMILIES = ("yolov8", "yolo11", "yolo12", "yolo26")
# name of the placement: the insertions that make it, one after the other
PLACEMENTS: dict[str, list[dict]] = {
    "p5": [{"at": "P5"}],
    "p4p5": [{"at": "P4,P5"}],
    "p4kv-p5": [{"at": "P5"}, {"at": "P4", "kv_stride": 2}],
    "p3": [{"at": "P3", "scope": "window", "window": 10}],
    "cross": [{"at": "neck:P3", "block": "CrossScaleMHA", "context": "P5"}],
}
PROJECT = Path(__file__).parents[1]
FOLDER, SCRATCH = PROJECT / "cfg" / "models", PROJECT / "build" / "models"


def make(family: str, placement: str) -> Path:
    """Write one model.

    Args:
        family: Name of Ultralytics' YAML without its ending.
        placement: A key of `PLACEMENTS`.
    """
    name, lettered = (f"{family}{letter}-mha-{placement}.yaml" for letter in ("", "n"))
    made = f"{family}n.yaml"
    for i, step in enumerate(PLACEMENTS[placement]):
        folder = SCRATCH / str(i)  # a model is never replaced by its own copy
        folder.mkdir(parents=True, exist_ok=True)
        yolo_mha.insert(made, out=folder / name, exist_ok=True, **step)
        made = str(folder / lettered)
    return Path(shutil.copy(folder / name, FOLDER))


if __name__ == "__main__":
    for family in FAMILIES:
        for placement in PLACEMENTS:
            print(make(family, placement))
