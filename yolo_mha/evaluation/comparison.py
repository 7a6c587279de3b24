"""What a comparison found."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from .cost import Cost
from .recipe import Recipe


@dataclass(frozen=True)
class ArmResult:
    """One arm, trained and scored.

    Attributes:
        model: What was trained.
        weights: The scored checkpoint: the last one, so that none was chosen on the images it is scored on.
        metrics: The twelve COCO numbers.
        per_class: AP and AP50 by class.
        delta: Metric differences to the baseline.
        cost: Parameters, operations and latency.
        train_seconds: Wall-clock time of the training process.
        curve: Ultralytics' mAP50-95 on the validation images after each epoch.
    """

    model: str
    weights: str
    metrics: dict[str, float]
    per_class: dict[str, dict[str, float]]
    delta: dict[str, float]
    cost: Cost
    train_seconds: float
    curve: list[float]


@dataclass(frozen=True)
class Comparison:
    """All arms of a comparison.

    Attributes:
        recipe: What was run.
        arms: Results by arm name, the baseline first.
        settings: Evaluation settings that the numbers depend on.
        note: What may and may not be concluded.
        environment: Versions.
        save_dir: Folder of the comparison: ``compare.json``, ``report.html``, ``detections.png``, ``arms/``.
    """

    recipe: Recipe
    arms: dict[str, ArmResult]
    settings: dict[str, Any]
    note: str
    environment: dict[str, str]
    save_dir: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)
