"""The twelve COCO numbers, by pycocotools."""

from __future__ import annotations

import contextlib
import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ..data.yolo import Sample
from ..engine.validator import Detections
from ..errors import DataError
from ..paths import given_path

METRICS = (
    "AP",
    "AP50",
    "AP75",
    "APsmall",
    "APmedium",
    "APlarge",
    "AR1",
    "AR10",
    "AR100",
    "ARsmall",
    "ARmedium",
    "ARlarge",
)


@dataclass(frozen=True)
class CocoScores:
    """COCO box metrics (https://cocodataset.org/#detection-eval).

    Attributes:
        metrics: The twelve numbers by name, in pycocotools' order; -1 where there is no object of that size.
        per_class: AP and AP50 by class name; -1 for a class without objects.
        images: Number of images.
        objects: Number of ground-truth boxes.
        detections: Number of detections given.
    """

    metrics: dict[str, float]
    per_class: dict[str, dict[str, float]]
    images: int
    objects: int
    detections: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def ground_truth(samples: Sequence[Sample], names: dict[int, str]) -> dict[str, Any]:
    """Return samples as a COCO annotation file; an image's id is its position, a category's id its class index.

    Args:
        samples: From `read_split`.
        names: Class names by class index.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, sample in enumerate(samples):
        images.append({"id": image_id, "file_name": sample.image.name, "width": sample.width, "height": sample.height})
        for category, (x1, y1, x2, y2) in zip(sample.classes.tolist(), sample.boxes.tolist(), strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,  # pycocotools takes a match with id 0 for none
                    "image_id": image_id,
                    "category_id": category,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": 0,
                }
            )
    categories = [{"id": i, "name": name} for i, name in names.items()]
    return {"images": images, "annotations": annotations, "categories": categories}


def detections(samples: Sequence[Sample], records: Sequence[Detections]) -> list[dict[str, Any]]:
    """Return predictions as a COCO results list, with the image ids of `ground_truth`.

    Args:
        samples: The images of the ground truth.
        records: The detections of each of them, in any order.

    Raises:
        DataError: An image was predicted that is not in the ground truth, or the other way round.
    """
    ids = {sample.image.absolute(): i for i, sample in enumerate(samples)}
    files = [record.image.absolute() for record in records]
    if sorted(files) != sorted(ids):
        differing = sorted(map(str, set(files) ^ set(ids)))
        raise DataError(
            "The predicted images are not those of the ground truth.",
            given=f"{len(files)} predicted, {len(ids)} in the ground truth",
            expected=f"the same images; these differ: {', '.join(differing[:5]) or 'some come twice'}",
        )
    results = []
    for file, record in zip(files, records, strict=True):
        for (x1, y1, x2, y2), score, category in zip(
            record.boxes.tolist(), record.scores.tolist(), record.classes.tolist(), strict=True
        ):
            results.append(
                {"image_id": ids[file], "category_id": category, "bbox": [x1, y1, x2 - x1, y2 - y1], "score": score}
            )
    return results


def evaluate(truth: dict[str, Any], results: list[dict[str, Any]]) -> CocoScores:
    """Score detections with pycocotools' default box settings.

    Args:
        truth: A COCO annotation file's content.
        results: A COCO results file's content.

    Raises:
        DataError: Either is malformed, or a detection is on an unknown image.
    """
    truth = _checked_truth(truth)
    results = _checked_results(truth, results)
    coco = COCO()
    coco.dataset = truth
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
        found = coco.loadRes(results) if results else _no_detections(coco)
        evaluation = COCOeval(coco, found, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return CocoScores(
        metrics=dict(zip(METRICS, map(float, evaluation.stats), strict=True)),
        per_class=_per_class(coco, evaluation),
        images=len(truth["images"]),
        objects=sum(not a.get("iscrowd") for a in truth["annotations"]),
        detections=len(results),
    )


def evaluate_files(predictions: str | Path, annotations: str | Path) -> CocoScores:
    """Score a COCO results file against a COCO annotation file.

    Args:
        predictions: JSON list of ``{image_id, category_id, bbox: [x, y, width, height], score}``.
        annotations: COCO instances JSON.

    Raises:
        DataError: A file is missing, no JSON, or malformed.
    """
    truth, results = _read_json(annotations, "annotations"), _read_json(predictions, "predictions")
    if not isinstance(truth, dict):
        raise DataError("The annotations are no COCO file.", given=annotations, expected="a JSON object with images")
    if not isinstance(results, list):
        raise DataError("The predictions are no COCO results file.", given=predictions, expected="a JSON list")
    return evaluate(truth, results)


def _read_json(path: str | Path, key: str) -> Any:
    try:
        return json.loads(given_path(path, key).read_text(encoding="utf-8"))
    except FileNotFoundError as e:
        raise DataError(f"The {key} file is missing.", given=f"{key}={path}", expected="an existing JSON file") from e
    except (ValueError, OSError, RecursionError) as e:
        raise DataError(f"The {key} file is no JSON.", given=f"{path}: {e}", expected="COCO JSON") from e


def _checked_truth(truth: dict[str, Any]) -> dict[str, Any]:
    """Return the annotations with ids that pycocotools can tell from "no match", and with what it needs filled in."""
    for key in ("images", "annotations", "categories"):
        if not isinstance(truth.get(key), list):
            raise DataError("The annotations are no COCO file.", given=f"no list '{key}'", expected="COCO JSON")
    known = {key: _ids(truth, key) for key in ("images", "categories")}
    annotations = []
    for i, a in enumerate(truth["annotations"]):
        if not (
            _has(a, "image_id", "category_id", "bbox")
            and _is_box(a["bbox"])
            and _is_in(a["image_id"], known["images"])
            and _is_in(a["category_id"], known["categories"])
        ):
            raise DataError(
                f"Annotation {i} is unusable.", given=a, expected="bbox of 4 numbers, a known image_id and category_id"
            )
        area = a.get("area", a["bbox"][2] * a["bbox"][3])
        annotations.append({**a, "id": i + 1, "area": area, "iscrowd": int(a.get("iscrowd", 0))})
    return {**truth, "annotations": annotations}


def _checked_results(truth: dict[str, Any], results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Check that every prediction is complete, finite, and on an annotated image."""
    images, categories = _ids(truth, "images"), _ids(truth, "categories")
    unknown: set[str] = set()
    for i, r in enumerate(results):
        if not (_has(r, "image_id", "category_id", "bbox", "score") and _is_box(r["bbox"]) and _is_number(r["score"])):
            raise DataError(
                f"Prediction {i} is unusable.",
                given=r,
                expected="image_id, category_id, bbox of 4 finite numbers and a finite score",
            )
        if not _is_in(r["category_id"], categories):
            raise DataError(
                f"Prediction {i} is of an unknown category.",
                given=f"category_id {r['category_id']}",
                expected=f"one of the {len(categories)} categories of the annotations",
            )
        if not _is_in(r["image_id"], images):
            unknown.add(str(r["image_id"]))
    if unknown:
        raise DataError(
            f"{len(unknown)} image ids of the predictions are not in the annotations.",
            given=", ".join(sorted(unknown)[:5]),
            expected=f"ids of the {len(images)} annotated images",
        )
    return results


def _ids(truth: dict[str, Any], key: str) -> set[Any]:
    """Return the ids of the images or categories, each of which must have its own."""
    ids = [entry["id"] for entry in truth[key] if _has(entry, "id") and isinstance(entry["id"], (int, str))]
    if len(set(ids)) < len(truth[key]):
        raise DataError(f"The {key} of the annotations lack ids, or have some twice.", expected="one id each")
    return set(ids)


def _has(entry: Any, *keys: str) -> bool:
    return isinstance(entry, dict) and set(keys) <= entry.keys()


def _is_in(value: Any, ids: set[Any]) -> bool:
    return isinstance(value, (int, str)) and value in ids


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_box(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 4 and all(map(_is_number, value))


def _no_detections(coco: COCO) -> COCO:
    """Return an empty result, which pycocotools' own `loadRes` refuses."""
    empty = COCO()
    empty.dataset = {**coco.dataset, "annotations": []}
    empty.createIndex()
    return empty


def _per_class(coco: COCO, evaluation: COCOeval) -> dict[str, dict[str, float]]:
    """Read AP and AP50 by class from the precision array (IoU, recall, class, area, max detections)."""
    precision = evaluation.eval["precision"][:, :, :, 0, -1]  # all areas, 100 detections: (T, R, K)
    scores = {}
    for k, category in enumerate(evaluation.params.catIds):
        valid = precision[:, :, k]
        name = str(coco.cats[category].get("name", category))
        if name in scores:
            name = f"{name} ({category})"
        scores[name] = {"AP": _mean(valid), "AP50": _mean(valid[0])}
    return scores


def _mean(precision: Any) -> float:
    valid = precision[precision > -1]
    return float(np.mean(valid)) if valid.size else -1.0
