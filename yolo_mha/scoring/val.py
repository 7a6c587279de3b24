"""`val`: COCO evaluation of a model on a dataset, or of a predictions file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from ..data.audit import Audit, audit_instances
from ..data.data_check import STOP, DataCheck, check_bad
from ..data.dataset import Dataset, Sample, image_files, load_dataset, read_dataset
from ..data.files import read_json, sha256, write_text
from ..data.groups import read_groups
from ..data.instances import Image, Instances, Prediction
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
from .coco import BACKENDS, CocoScores, check_truth, evaluate, load_backend
from .curves import draw_pr_curves
from .intervals import ScoreInterval, score_interval
from .matches import match_detections
from .resample import RESAMPLES, bootstrap_weights, resampled_scores, supports
from .ties import Ties
from .truth import Truth, detections, read_results, read_truth

SETTINGS_FOR_FILES = ("split", "plots", "project", "name", "exist_ok")  # those that mean something without a model
CUT_OFF_CONF = 0.01  # predictions whose lowest score is not below were cut off; Ultralytics' validation keeps 0.001
SCORES = "scores.json"
HASH = "predictions_sha256"  # in that file


class ScoreSettings(TypedDict, total=False):
    """What scores depend on: a model with its data and thresholds, or a predictions file and what it is scored on."""

    model: str
    predictions: str
    annotations: str
    data: str
    split: str
    imgsz: int | list[int]
    letterbox: str
    conf: float
    nms_iou: float
    max_det: int
    device: str
    backend: str


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
        intervals: AP and AP50 with their 95 % intervals, where ``group`` was given: what these very weights would score
            on other images of this kind.
        data_check: Faults of the images and labels, and what was done about them, where `val` read a dataset.
    """

    coco: CocoScores
    ultralytics: dict[str, float] | None
    settings: ScoreSettings
    predictions: str
    annotations: str
    audit: Audit
    curves: str | None = None
    intervals: dict[str, ScoreInterval] | None = None
    data_check: DataCheck | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the result without the points of the curves, which are in ``pr_curves.csv``."""
        content = super().as_dict()
        scores = content.pop("coco")
        del scores["precision"]
        return {**scores, **content}


def read_scores(folder: Path) -> ValResult | None:
    """Read the result of `score` from its folder, without the points of the curves.

    Args:
        folder: The folder, which may have been moved.

    Returns:
        The result; None where the folder is not whole, or its predictions are others than those that were scored.
    """
    files = {name: str(folder / f"{name}.json") for name in ("predictions", "annotations")}
    try:
        content = json.loads((folder / SCORES).read_text(encoding="utf-8"))  # written last, so everything is there
        if content.pop(HASH, None) not in (None, sha256(files["predictions"])):  # none in files of before
            return None
        coco = CocoScores(**{f.name: content.pop(f.name) for f in fields(CocoScores) if f.name in content})
        coco = coco if coco.ties is None else replace(coco, ties=Ties(**coco.ties))  # type: ignore[arg-type]
        return ValResult(**{**content, **files, "coco": coco, "audit": Audit(**content["audit"])})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


@checked
@guarded()
def val(
    model: str | Path | None = None,
    data: str | Path | None = None,
    *,
    predictions: str | Path | None = None,
    annotations: str | Path | None = None,
    backend: str = BACKENDS[0],
    group: str | Path | None = None,
    bad: str = STOP,
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
        group: Gives AP a 95 % interval: what is resampled, see `read_groups`; "image" where images are independent.
        bad: What is done about damaged images and labels of ``data``, see `read_dataset`.
        trust: Open also what could run code, for files that you made yourself, see `YOLO`.
        **settings: Ultralytics' validation settings: ``split``, ``imgsz``, ``batch``, ``conf``, ``iou``, ... With
            ``plots=False`` no curves are drawn.

    Returns:
        The scores. ``predictions.json``, ``annotations.json``, ``scores.json`` and ``pr_curves.png`` are written to the
        run's folder.

    Raises:
        ConfigError: A setting is unknown, unusable or missing, or ``group`` does not fit the images.
        CheckpointError: The checkpoint is missing, broken, or may not be loaded.
        DataError: The dataset or a file is missing or broken, or has other classes or images than the predictions.
        UnsupportedTaskError: The model is not for box detection.
    """
    passed = config.check(settings)
    refuse_class_filters(passed, "val")
    check_bad(bad)
    load_backend(backend)  # so that a missing package is reported before the work
    _check_sources(model, data, predictions, annotations, **passed)
    plots = passed.get("plots", True)
    if annotations is not None:
        with run_folder(passed, "val") as folder:
            return _score_files(str(predictions), str(annotations), folder, backend, plots, group)
    network = None if model is None else YOLO(model, trust=trust)
    if network:
        require_detection(network.task, "val")
    dataset = load_dataset(data, with_bar)  # type: ignore[arg-type]
    split = passed["split"] = passed.get("split") or "val"
    if split not in dataset.annotations:
        refuse_shared_labels(image_files(dataset, split), split)
    read = read_dataset(dataset, [split], bad, with_bar)
    dataset, samples = read.dataset, read.samples[split]
    if network:
        return score(network, dataset, samples, backend=backend, group=group, data_check=read.check, **passed)
    file = Path(predictions)  # type: ignore[arg-type]
    return score_predictions(file, dataset, samples, backend=backend, group=group, data_check=read.check, **passed)


def score_predictions(
    predictions: Path,
    dataset: Dataset,
    samples: Sequence[Sample],
    split: str,
    backend: str = BACKENDS[0],
    group: str | Path | None = None,
    data_check: DataCheck | None = None,
    **settings: Any,
) -> ValResult:
    """Score a COCO results file; see `val`.

    Args:
        predictions: The file.
        dataset: The dataset, from `read_dataset`.
        samples: The split, from there too.
        split: Its name.
        backend: See `val`.
        group: See `val`.
        data_check: What was found when the dataset was read.
        **settings: ``plots``, and the folder's.
    """
    truth = read_truth(dataset, split, samples)
    units = _resampled(group, [sample.image for sample in truth.scored(samples)])
    results = read_results(read_json(predictions, "predictions"), truth, samples)
    truth.audit.notes += _cut_off(results)
    stated = ScoreSettings(predictions=str(predictions), data=str(dataset.source), split=split, backend=backend)
    with run_folder(settings, "val") as folder:
        return _scored(truth, results, folder, stated, units, settings.get("plots", True), data_check=data_check)


def score(
    network: YOLO,
    dataset: Dataset,
    samples: Sequence[Sample],
    split: str,
    backend: str = BACKENDS[0],
    group: str | Path | None = None,
    data_check: DataCheck | None = None,
    **settings: Any,
) -> ValResult:
    """Run a model over a split and score it; see `val`.

    Args:
        network: The model.
        dataset: The dataset, from `read_dataset`.
        samples: The split, from there too.
        split: Its name.
        backend: See `val`.
        group: See `val`.
        data_check: What was found when the dataset was read.
        **settings: Ultralytics' validation settings, checked.
    """
    order = class_order(network.names, dataset)
    truth = read_truth(dataset, split, samples)
    units = _resampled(group, [sample.image for sample in truth.scored(samples)])
    with run_folder(settings, "val") as folder:
        arguments = {"plots": False, **settings, **taken(folder), "data": str(dataset.yaml), "split": split}
        made: list[Validator] = []  # by Ultralytics

        def validator(**kwargs: Any) -> Validator:
            made.append(Validator(order, **kwargs))
            return made[0]

        try:
            own = network.val(validator, **arguments).box
        except Exception as e:  # whatever Ultralytics meets on the way
            raise run_failed("Validation", e) from e
        args = made[0].args
        if order:
            truth.audit.notes.append("The model has the dataset's classes in another order; they were matched by name.")
        imgsz = config.one_number(args.imgsz)
        truth.audit.notes += config.imgsz_notes(settings.get("imgsz"), imgsz)
        truth.audit.notes += config.own_nms_notes(network.own_nms)
        stated = ScoreSettings(
            model=str(network.model_name),
            data=str(dataset.source),
            split=split,
            imgsz=imgsz,
            letterbox="rectangular batches" if args.rect else "square",
            conf=args.conf,
            nms_iou=args.iou,
            max_det=args.max_det,
            device=str(made[0].device),
            backend=backend,
        )
        results = detections(samples, made[0].records, truth)
        metrics = {"mAP50-95": float(own.map), "mAP50": float(own.map50)}
        plots = settings.get("plots", True)
        return _scored(truth, results, folder, stated, units, plots, metrics, data_check)


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


def _check_sources(model: object, data: object, predictions: object, annotations: object, **passed: Any) -> None:
    """Make sure that there is one thing to score and one to score it against."""
    given = {"model": model, "data": data, "predictions": predictions, "annotations": annotations}
    keys = {key for key, value in given.items() if value is not None}
    if keys not in ({"model", "data"}, {"predictions", "data"}, {"predictions", "annotations"}):
        raise ConfigError(
            "val needs one input to score and one ground truth.",
            given=" ".join(f"{key}={given[key]}" for key in given if key in keys) or "neither",
            expected="model=best.pt data=data.yaml, predictions=p.json data=data.yaml, or predictions=p.json "
            "annotations=instances.json",
        )
    if annotations is not None and "split" in passed:
        split = f"split={passed['split']}"
        raise ConfigError("split cannot be combined with annotations.", given=split, expected="no split")
    idle = [key for key in passed if key not in SETTINGS_FOR_FILES]
    if model is None and idle:
        raise ConfigError(
            "These settings have no effect on a predictions file.",
            given=" ".join(f"{key}={passed[key]}" for key in idle),
            expected=f"only {', '.join(SETTINGS_FOR_FILES)}",
            fix="leave them out, or give a model",
        )


def _score_files(
    predictions: str, annotations: str, folder: Path, backend: str, plots: bool, group: str | Path | None
) -> ValResult:
    """Score a COCO results file against a COCO instances file, whose ids it has."""
    truth, results = check_truth(read_json(annotations, "annotations")), read_json(predictions, "predictions")
    units = _resampled(group, [_file_of(image, annotations) for image in truth["images"]] if group else [])
    scores = evaluate(truth, results, backend=backend, progress=with_bar)
    audit = audit_instances(truth)
    audit.prediction_ids = "those of the annotations"
    audit.notes += _cut_off(results)
    stated = ScoreSettings(predictions=predictions, annotations=annotations, backend=backend)
    intervals = _intervals(truth, results, scores, units)
    result = ValResult(scores, None, stated, predictions, annotations, audit, intervals=intervals)
    return _written(result, folder, plots)


def _file_of(image: Image, annotations: str) -> Path:
    """Return the file that annotations name for an image, by which groups are read."""
    if not isinstance(image.get("file_name"), str):
        raise DataError(
            "group needs a file name for each image.",
            given=f"{annotations}: {str(image)[:200]}",
            expected="file_name of each image",
        )
    return Path(image["file_name"])


def _resampled(group: str | Path | None, images: Sequence[Path]) -> NDArray[np.intp] | None:
    """Return the number of the group of each image, a group an image for ``group=image``; None without ``group``."""
    if group is None:
        return None
    groups = read_groups(group, images)
    return np.arange(len(images)) if groups is None else np.unique(groups, return_inverse=True)[1]


def _intervals(
    truth: Instances, results: list[Prediction], scores: CocoScores, units: NDArray[np.intp] | None
) -> dict[str, ScoreInterval] | None:
    """Return the intervals of AP and AP50."""
    if units is None:
        return None
    matches = match_detections(truth, results, with_bar)
    drawn = resampled_scores(matches, bootstrap_weights(matches.images, RESAMPLES, groups=units), with_bar)
    tested = supports(matches, units)
    return {name: score_interval(scores.metrics[name], drawn[name], *tested[name]) for name in ("AP", "AP50")}


def _cut_off(results: Sequence[Prediction]) -> list[str]:
    """Say so where a predictions file lacks the faint detections that `val` scores of a model."""
    lowest = min((result["score"] for result in results), default=0.0)
    if lowest < CUT_OFF_CONF:
        return []
    return [
        f"No prediction scores below {lowest:.3g}: where fainter ones were cut off, AP is too low. For numbers like "
        "those of val model= use predict conf=0.001 (val model= also keeps several classes a box, predict one)."
    ]


def tie_notes(scores: CocoScores) -> list[str]:
    """Say so where AP depends on the order of equal scores."""
    if scores.ties is None or not scores.ties.matter:
        return []
    return [
        f"AP is {scores.metrics['AP']:.3f} in this order of the images, and {scores.ties} in other orders of equal "
        f"scores: {scores.ties.detections:,} detections share their score with one that is judged the other way. Few "
        "epochs, half precision and rounding make scores equal: train longer, or write scores in full precision."
    ]


def _scored(
    truth: Truth,
    results: list[Prediction],
    folder: Path,
    stated: ScoreSettings,
    units: NDArray[np.intp] | None,
    plots: bool,
    ultralytics: dict[str, float] | None = None,
    data_check: DataCheck | None = None,
) -> ValResult:
    """Score predictions and write everything down."""
    predictions = write_text(folder / "predictions.json", json.dumps(results))
    annotations = write_text(folder / "annotations.json", json.dumps(check_truth(truth.coco)))
    scores = evaluate(truth.coco, results, backend=stated["backend"], progress=with_bar)
    intervals = _intervals(truth.coco, results, scores, units)
    result = ValResult(
        scores,
        ultralytics,
        stated,
        str(predictions),
        str(annotations),
        truth.audit,
        intervals=intervals,
        data_check=data_check,
    )
    return _written(result, folder, plots)


def _written(result: ValResult, folder: Path, plots: bool) -> ValResult:
    """Note what ties do to AP, draw the curves if wanted, and write the scores, last of all files."""
    result.audit.notes.extend(tie_notes(result.coco))
    if plots:
        result = replace(result, curves=str(draw_pr_curves(result.coco, folder / "pr_curves.png")))
    write_text(folder / SCORES, json.dumps({**result.as_dict(), HASH: sha256(result.predictions)}, indent=2))
    return result


def class_order(names: dict[int, str], dataset: Dataset) -> list[int] | None:
    """Return the dataset's class index for each of the model's, or None where the two are the same.

    Args:
        names: The model's classes.
        dataset: The dataset.

    Raises:
        DataError: The model has other classes, so its scores would mean nothing.
    """
    own, theirs = ([n[i] for i in sorted(n)] for n in (names, dataset.names))
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
