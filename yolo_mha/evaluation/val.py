"""`val`: COCO evaluation of a model on a dataset, or of a predictions file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.files import write_text
from ..data.yolo import Dataset, Sample, load_dataset, read_split
from ..engine import settings as config
from ..engine.model import YOLO, require_detection
from ..engine.progress import track
from ..engine.validator import Validator
from ..errors import ConfigError, DataError, run_failed
from ..registry import guarded
from .coco import CocoScores, detections, evaluate, evaluate_files, ground_truth


@dataclass(frozen=True)
class ValResult:
    """Scores and the settings that they depend on.

    Attributes:
        coco: The COCO scores.
        ultralytics: Ultralytics' own mAP50-95 and mAP50 of the same detections; None for a predictions file.
        settings: Model, data, split, image size, confidence and NMS thresholds.
        predictions: Path of the COCO results file; image ids are positions in the sorted list of images, category ids
            class indices.
        annotations: Path of the ground truth as a COCO file with the same ids.
    """

    coco: CocoScores
    ultralytics: dict[str, float] | None
    settings: dict[str, Any]
    predictions: str
    annotations: str

    def as_dict(self) -> dict[str, Any]:
        return {
            **self.coco.as_dict(),
            "ultralytics": self.ultralytics,
            "settings": self.settings,
            "predictions": self.predictions,
            "annotations": self.annotations,
        }


@guarded()
def val(
    model: str | Path | None = None,
    data: str | Path | None = None,
    *,
    predictions: str | Path | None = None,
    annotations: str | Path | None = None,
    trust: bool = False,
    **settings: Any,
) -> ValResult:
    """Score box detection with pycocotools.

    Args:
        model: Checkpoint or exported model; with ``data``.
        data: Dataset YAML in YOLO format.
        predictions: COCO results JSON; with ``annotations``, in place of model and data.
        annotations: COCO instances JSON.
        trust: Read the checkpoint with full pickle, for files that you made yourself.
        **settings: Ultralytics' validation settings: ``split``, ``imgsz``, ``batch``, ``conf``, ``iou``, ...

    Returns:
        The scores. ``predictions.json``, ``annotations.json`` and ``scores.json`` are written to the run's folder.

    Raises:
        ConfigError: A setting is unknown, unusable or missing.
        DataError: A file or the dataset is missing or broken.
        ModelError, CheckpointError: The model cannot be read.
        UnsupportedTaskError: The model is not for box detection.
    """
    passed = config.check(settings)
    refuse_class_filters(passed, "val")
    if predictions is not None or annotations is not None:
        if predictions is None or annotations is None or model is not None or data is not None:
            raise ConfigError(
                "Give either a model and a dataset, or a predictions file and an annotations file.",
                given=f"model={model} data={data} predictions={predictions} annotations={annotations}",
                expected="model=... data=..., or predictions=... annotations=...",
            )
        scores = evaluate_files(predictions, annotations)
        return ValResult(scores, None, {}, str(predictions), str(annotations))
    for key, value, example in (("model", model, "best.pt"), ("data", data, "data.yaml")):
        if value is None:
            raise ConfigError(f"{key} is missing.", expected=f"{key}=path/to/{example}", fix="see --help")
    network = YOLO(model, trust=trust)  # type: ignore[arg-type]
    require_detection(network.task, "val")
    dataset = load_dataset(data)  # type: ignore[arg-type]
    split = passed.get("split", "val")
    samples = read_split(dataset, split, track)
    return score(network, dataset, samples, {**passed, "split": split})


def score(network: YOLO, dataset: Dataset, samples: list[Sample], settings: dict[str, Any]) -> ValResult:
    """Run a model over a split and score it; see `val`.

    Args:
        network: The model.
        dataset: The dataset.
        samples: The split, from `read_split`.
        settings: Checked settings, with ``split``.
    """
    kept: list[Validator] = []

    def validator(**kwargs: Any) -> Validator:
        kept.append(Validator(**kwargs))
        return kept[0]

    arguments = {"plots": False, **config.in_working_directory(settings), "data": str(dataset.yaml)}
    _same_classes(network.names, dataset)
    try:
        metrics = network.val(validator, **arguments)
    except Exception as e:  # whatever Ultralytics meets on the way
        raise run_failed("Validation", e) from e
    args, save_dir = kept[0].args, Path(kept[0].save_dir)
    results = detections(samples, kept[0].records)
    predictions = write_text(save_dir / "predictions.json", json.dumps(results))
    truth = ground_truth(samples, dataset.names)
    annotations = write_text(save_dir / "annotations.json", json.dumps(truth))
    result = ValResult(
        coco=evaluate(truth, results),
        ultralytics={"mAP50-95": float(metrics.box.map), "mAP50": float(metrics.box.map50)},
        settings={
            "model": str(network.model_name),
            "data": str(dataset.yaml),
            "split": settings["split"],
            "imgsz": args.imgsz,
            "letterbox": "rectangular batches" if args.rect else "square",
            "conf": args.conf,
            "nms_iou": args.iou,
            "max_det": args.max_det,
            "device": str(kept[0].device),
        },
        predictions=str(predictions),
        annotations=str(annotations),
    )
    write_text(save_dir / "scores.json", json.dumps(result.as_dict(), indent=2))
    return result


def refuse_class_filters(settings: Mapping[str, Any], command: str) -> None:
    """Refuse settings that would score other classes than the dataset's.

    Raises:
        ConfigError: ``classes`` or ``single_cls`` is set.
    """
    for key in ("classes", "single_cls"):
        if settings.get(key) not in (None, False):
            raise ConfigError(
                f"{command} scores all classes of the dataset.",
                given=f"{key}={settings[key]}",
                expected=f"no {key}",
                fix="scores by class are in the answer",
            )


def _same_classes(names: dict[int, str], dataset: Dataset) -> None:
    """Refuse a model whose classes are not the dataset's: its scores would mean nothing."""
    if list(names.values()) != list(dataset.names.values()):
        raise DataError(
            "The model's classes are not the dataset's.",
            given=f"model: {', '.join(names.values())}",
            expected=f"dataset: {', '.join(dataset.names.values())}",
            fix="use a model that was trained on these classes, in this order",
        )
