"""The twelve COCO numbers, by pycocotools."""

from __future__ import annotations

import contextlib
import io
import json
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
    ids = {sample.image.resolve(): i for i, sample in enumerate(samples)}
    files = [record.image.resolve() for record in records]
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
    _check(truth, results)
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
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as e:
        raise DataError(f"The {key} file is missing.", given=f"{key}={path}", expected="an existing JSON file") from e
    except (ValueError, OSError) as e:
        raise DataError(f"The {key} file is no JSON.", given=f"{path}: {e}", expected="COCO JSON") from e


def _check(truth: dict[str, Any], results: list[dict[str, Any]]) -> None:
    for key in ("images", "annotations", "categories"):
        if not isinstance(truth.get(key), list):
            raise DataError(
                "The annotations are no COCO file.", given=f"no list '{key}'", expected="COCO instances JSON"
            )
    keys = {"image_id", "category_id", "bbox", "score"}
    for i, result in enumerate(results):
        if not isinstance(result, dict) or not keys <= result.keys():
            raise DataError(f"Prediction {i} is incomplete.", given=result, expected=f"an object with {sorted(keys)}")
    known = {image["id"] for image in truth["images"]}
    unknown = sorted({r["image_id"] for r in results} - known, key=str)
    if unknown:
        raise DataError(
            f"{len(unknown)} image ids of the predictions are not in the annotations.",
            given=", ".join(map(str, unknown[:5])),
            expected=f"ids of the {len(known)} annotated images",
        )


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
        scores[name] = {"AP": _mean(valid), "AP50": _mean(valid[0])}
    return scores


def _mean(precision: Any) -> float:
    valid = precision[precision > -1]
    return float(np.mean(valid)) if valid.size else -1.0
