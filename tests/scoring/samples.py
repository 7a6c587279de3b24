"""Three images with boxes, their ground truth, and detections that are right."""

from pathlib import Path

import numpy as np

from yolo_mha.data.dataset import Dataset, Sample
from yolo_mha.engine.validator import Detections
from yolo_mha.scoring.truth import Truth, read_truth


def sample(name: str, boxes, classes) -> Sample:
    boxes = np.array(boxes, float).reshape(-1, 4)
    return Sample(Path(f"/x/{name}.png"), 200, 100, np.array(classes, np.int64), boxes)


def perfect(samples: list[Sample]) -> list[Detections]:
    return [Detections(s.file, s.boxes, np.ones(len(s.classes)), s.classes) for s in samples]


SAMPLES = [
    sample("7", [[0, 0, 50, 50], [60, 0, 160, 100]], [0, 1]),
    sample("8", [], []),
    sample("9", [[5, 5, 20, 20]], [0]),
]
NAMES = {0: "cat", 1: "dog"}


def truth_of(samples: list[Sample], names: dict[int, str] = NAMES) -> Truth:
    return read_truth(Dataset(Path("d.yaml"), names, {}), "val", samples)
