"""Write the models of cfg/models anew with `insert`: python tools/make_models.py."""

from pathlib import Path

import yolo_mha

FAMILIES = ("yolov8", "yolo11", "yolo12", "yolo26")
PLACES = ("P5", "P4,P5")
FOLDER = Path(__file__).parents[1] / "cfg" / "models"

if __name__ == "__main__":
    for family in FAMILIES:
        for at in PLACES:
            out = FOLDER / f"{family}-mha-{at.replace(',', '').lower()}.yaml"
            print(yolo_mha.insert(f"{family}n.yaml", at, out=out, exist_ok=True).yaml)
