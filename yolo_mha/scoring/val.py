"""`val`: COCO evaluation of a model on a dataset, or of a predictions file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.audit import Audit, count
from ..data.dataset import Dataset, Sample, image_files, load_dataset, read_split
from ..data.files import read_json, write_text
from ..data.labels import refuse_shared_labels
from ..engine import settings as config
from ..engine.model import YOLO, require_detection
from ..engine.own_settings import checked
from ..engine.progress import with_bar
from ..engine.run_folder import run_folder, taken
from ..engine.validator import Validator
from ..errors import ConfigError, DataError, run_failed
from ..guard import guarded
from ..result import Result
from .coco import BACKENDS, CocoScores, check_truth, evaluate, evaluate_files, load_backend
from .curves import draw_pr_curves
from .truth import Truth, detections, read_results, read_truth

FOR_FILES = ("split", "plots", "project", "name", "exist_ok")  # settings that mean something without a model
FAINT = 0.01  # a lowest score from which predictions were cut off; Ultralytics' validation keeps 0.001 and more


@dataclass(frozen=True)
class ValResult(Result):
    """Scores, the settings that they depend on, and what was scored.

    Attributes:
        coco: The COCO scores.
        ultralytics: Ultralytics' own mAP50-95 and mAP50 of the same detections; None for a predictions file.
        settings: Model, data, split, image size, letterbox, confidence and NMS thresholds, and the scoring backend.
        predictions: Path of the COCO results file.
        annotations: Path of the ground truth as a COCO file with the same ids. Those of a dataset with COCO annotations
            are its own; otherwise an image's id is its position among the split's sorted images, a category's id its
            class index.
        audit: Which images and objects were scored, and what is unusual about them.
        curves: Path of the precision-recall curves, where they were drawn.
    """

    coco: CocoScores
    ultralytics: dict[str, float] | None
    settings: dict[str, Any]
    predictions: str
    annotations: str
    audit: Audit
    curves: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return {
            **self.coco.as_dict(),
            "ultralytics": self.ultralytics,
            "settings": self.settings,
            "audit": self.audit.as_dict(),
            "predictions": self.predictions,
            "annotations": self.annotations,
            "curves": self.curves,
        }


@checked
@guarded()
def val(
    model: str | Path | None = None,
    data: str | Path | None = None,
    *,
    predictions: str | Path | None = None,
    annotations: str | Path | None = None,
    backend: str = BACKENDS[0],
    trust: bool = False,
    **settings: Any,
) -> ValResult:
    """Score box detection as COCO does.

    Args:
        model: Checkpoint or exported model; with ``data``.
        data: Dataset in YOLO, COCO or Pascal VOC format, see `load_dataset`.
        predictions: COCO results JSON in place of a model; with ``data`` or ``annotations``.
        annotations: COCO instances JSON; with ``predictions`` in place of ``data``.
        backend: Which implementation counts: "pycocotools" or "faster-coco-eval".
        trust: Read the checkpoint with full pickle, for files that you made yourself.
        **settings: Ultralytics' validation settings: ``split``, ``imgsz``, ``batch``, ``conf``, ``iou``, ... With
            ``plots=False`` no curves are drawn.

    Returns:
        The scores. ``predictions.json``, ``annotations.json``, ``scores.json`` and ``pr_curves.png`` are written to the
        run's folder.

    Raises:
        ConfigError: A setting is unknown, unusable or missing.
        CheckpointError: The checkpoint is missing, broken, or may not be loaded.
        DataError: The dataset or a file is missing or broken, or has other classes or images than the predictions.
        UnsupportedTaskError: The model is not for box detection.
    """
    passed = config.check(settings)
    refuse_class_filters(passed, "val")
    load_backend(backend)  # so that a missing package is reported before the work
    _check_sources(model, data, predictions, annotations, passed)
    if annotations is not None:
        return _score_files(predictions, annotations, backend, passed)  # type: ignore[arg-type]
    network = None if model is None else YOLO(model, trust=trust)
    if network:
        require_detection(network.task, "val")
    dataset = load_dataset(data, with_bar)  # type: ignore[arg-type]
    split = passed["split"] = passed.get("split") or "val"
    if split not in dataset.annotations:
        refuse_shared_labels(image_files(dataset, split), split)
    samples = read_split(dataset, split, with_bar)
    if network:
        return score(network, dataset, samples, {**passed, "backend": backend})
    truth = read_truth(dataset, split, samples)
    results = read_results(read_json(predictions, "predictions"), truth, samples)  # type: ignore[arg-type]
    stated = {"predictions": str(predictions), "data": str(dataset.source), "split": split}
    with run_folder(passed, "val") as folder:
        return _scored(truth, results, folder, stated, backend, passed.get("plots", True))


def score(network: YOLO, dataset: Dataset, samples: list[Sample], settings: dict[str, Any]) -> ValResult:
    """Run a model over a split and score it; see `val`.

    Args:
        network: The model.
        dataset: The dataset.
        samples: The split, from `read_split`.
        settings: Checked settings, with ``split``, and ``backend`` where it is not pycocotools.
    """
    settings = dict(settings)
    backend = settings.pop("backend", BACKENDS[0])
    order = class_order(network.names, dataset)
    truth = read_truth(dataset, settings["split"], samples)
    with run_folder(settings, "val") as folder:
        arguments = {"plots": False, **settings, **taken(folder), "data": str(dataset.yaml)}
        validator, own = _run(network, order, arguments)
        args = validator.args
        if order:
            truth.audit.notes.append("The model has the dataset's classes in another order; they were matched by name.")
        imgsz = config.one_number(args.imgsz)
        truth.audit.notes += config.imgsz_notes(settings.get("imgsz"), imgsz)
        stated = {
            "model": str(network.model_name),
            "data": str(dataset.source),
            "split": settings["split"],
            "imgsz": imgsz,
            "letterbox": "rectangular batches" if args.rect else "square",
            "conf": args.conf,
            "nms_iou": args.iou,
            "max_det": args.max_det,
            "device": str(validator.device),
        }
        results = detections(samples, validator.records, truth)
        return _scored(truth, results, folder, stated, backend, settings.get("plots", True), own)


def _run(network: YOLO, order: list[int] | None, arguments: dict[str, Any]) -> tuple[Validator, dict[str, float]]:
    """Let Ultralytics validate, and return what did it, with its own metrics."""
    kept: list[Validator] = []

    def validator(**kwargs: Any) -> Validator:
        kept.append(_Renumbered(order, **kwargs) if order else Validator(**kwargs))
        return kept[0]

    try:
        metrics = network.val(validator, **arguments)
    except Exception as e:  # whatever Ultralytics meets on the way
        raise run_failed("Validation", e) from e
    return kept[0], {"mAP50-95": float(metrics.box.map), "mAP50": float(metrics.box.map50)}


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


class _Renumbered(Validator):
    """Validate a model whose classes come in another order than the dataset's: its numbers become the dataset's."""

    def __init__(self, order: list[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.order = order

    def init_metrics(self, model: Any) -> None:
        super().init_metrics(model)
        self.names = self.metrics.names = self.confusion_matrix.names = self.data["names"]

    def postprocess(self, preds: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = super().postprocess(preds)
        for image in found:
            image["cls"] = image["cls"].new_tensor(self.order)[image["cls"].long()]
        return found


def _check_sources(
    model: object, data: object, predictions: object, annotations: object, passed: dict[str, Any]
) -> None:
    """Make sure that there is one thing to score and one to score it against."""
    given = {"model": model, "data": data, "predictions": predictions, "annotations": annotations}
    keys = {key for key, value in given.items() if value is not None}
    if keys not in ({"model", "data"}, {"predictions", "data"}, {"predictions", "annotations"}):
        raise ConfigError(
            "val needs something to score, and something to score it against.",
            given=" ".join(f"{key}={given[key]}" for key in given if key in keys) or "neither",
            expected="model=best.pt data=data.yaml, predictions=p.json data=data.yaml, or predictions=p.json "
            "annotations=instances.json",
        )
    idle = [key for key in passed if key not in FOR_FILES]
    if model is None and idle:
        raise ConfigError(
            "A predictions file is scored as it is.",
            given=" ".join(f"{key}={passed[key]}" for key in idle),
            expected=f"none but {', '.join(FOR_FILES)}",
            fix="leave them out, or name a model",
        )


def _score_files(predictions: str | Path, annotations: str | Path, backend: str, passed: dict[str, Any]) -> ValResult:
    """Score a COCO results file against a COCO instances file, whose ids it has."""
    if "split" in passed:
        raise ConfigError("annotations is one split already.", given=f"split={passed['split']}", expected="no split")
    with run_folder(passed, "val") as folder:
        scores = evaluate_files(predictions, annotations, backend=backend, progress=with_bar)
        curves = draw_pr_curves(scores, folder / "pr_curves.png") if passed.get("plots", True) else None
        audit = count(check_truth(read_json(annotations, "annotations")))
        audit.prediction_ids = "those of the annotations"
        audit.notes += _cut_off(read_json(predictions, "predictions"))
        stated = {"predictions": str(predictions), "annotations": str(annotations), "backend": backend}
        drawn = str(curves) if curves else None
        result = ValResult(scores, None, stated, str(predictions), str(annotations), audit, drawn)
        write_text(folder / "scores.json", json.dumps(result.as_dict(), indent=2))
        return result


def _cut_off(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say so where a predictions file lacks the faint detections that `val` scores of a model."""
    lowest = min((result["score"] for result in results), default=0.0)
    if lowest < FAINT:
        return []
    return [
        f"No prediction scores below {lowest:.3g}: where fainter ones were cut off, AP is too low. For numbers like "
        "those of val model= use predict conf=0.001 (val model= also keeps several classes a box, predict one)."
    ]


def _scored(
    truth: Truth,
    results: list[dict[str, Any]],
    save_dir: Path,
    stated: dict[str, Any],
    backend: str,
    plots: bool,
    ultralytics: dict[str, float] | None = None,
) -> ValResult:
    """Score predictions and write everything down."""
    predictions = write_text(save_dir / "predictions.json", json.dumps(results))
    annotations = write_text(save_dir / "annotations.json", json.dumps(check_truth(truth.coco)))
    scores = evaluate(truth.coco, results, backend=backend, progress=with_bar)
    if ultralytics is None:
        truth.audit.notes += _cut_off(results)
    curves = draw_pr_curves(scores, save_dir / "pr_curves.png") if plots else None
    result = ValResult(
        coco=scores,
        ultralytics=ultralytics,
        settings={**stated, "backend": backend},
        predictions=str(predictions),
        annotations=str(annotations),
        audit=truth.audit,
        curves=str(curves) if curves else None,
    )
    write_text(save_dir / "scores.json", json.dumps(result.as_dict(), indent=2))
    return result


def class_order(names: dict[int, str], dataset: Dataset) -> list[int] | None:
    """Return the dataset's class index for each of the model's, or None where the two are the same.

    Args:
        names: The model's classes.
        dataset: The dataset.

    Raises:
        DataError: The model has other classes, so its scores would mean nothing.
    """
    own, theirs = list(names.values()), list(dataset.names.values())
    if own == theirs:
        return None
    if sorted(own) != sorted(theirs) or len(set(own)) < len(own):
        raise DataError(
            "The model's classes are not the dataset's.",
            given=f"model: {', '.join(own)}",
            expected=f"dataset: {', '.join(theirs)}",
            fix="use a model that was trained on these classes",
        )
    return [theirs.index(name) for name in own]
