"""The twelve COCO numbers, by pycocotools, or by faster-coco-eval where that is installed."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..data.instances import Annotation, Id, Instances, Prediction, check_instances, check_predictions, is_number
from ..data.labels import MAX_NAMED
from ..data.progress import Progress, silent
from ..errors import ConfigError, DataError, DependencyError, nearest
from .ties import Ties, class_ties, join_ties


def _without_prints(name: str) -> Any:
    """Import a module of pycocotools for this package alone, in which ``print`` does nothing.

    To redirect standard output meanwhile would do so for all threads.
    """
    spec: Any = importlib.util.find_spec(name)
    module = importlib.util.module_from_spec(spec)
    vars(module)["print"] = lambda *_, **__: None
    spec.loader.exec_module(module)
    return module


reference_coco, reference_cocoeval = map(_without_prints, ("pycocotools.coco", "pycocotools.cocoeval"))

METRICS = (
    "AP", "AP50", "AP75", "APsmall", "APmedium", "APlarge", "AR1", "AR10", "AR100", "ARsmall", "ARmedium", "ARlarge",
)  # fmt: skip
RECALLS = reference_cocoeval.Params(iouType="bbox").recThrs  # 0, 0.01, ... 1
BACKENDS = ("pycocotools", "faster-coco-eval")
AREAS = ("all", "small", "medium", "large")  # below 32 x 32 pixels, below 96 x 96, the rest


@dataclass(frozen=True)
class CocoScores:
    """COCO box metrics (https://cocodataset.org/#detection-eval).

    Attributes:
        metrics: The twelve numbers by name, in pycocotools' order; -1 where there is no object of that size.
        per_class: AP, AP50, APsmall, APmedium, APlarge and the number of objects by class name; -1 for a class without
            objects, or without any of that size.
        images: Number of images.
        objects: Number of ground-truth boxes that count: neither crowds nor marked ``ignore``.
        detections: Number of detections given.
        ignored: Number of ground-truth boxes that are crowds or marked ``ignore``.
        backend: What computed the numbers.
        ties: How AP depends on the order of equal scores; None with faster-coco-eval, which does not show its matches.
        precision: Precision at recall 0, 0.01, ... 1 by class name, float64 of shape (10, 101), a row an IoU threshold
            from 0.5 to 0.95; classes with objects only.
    """

    metrics: dict[str, float]
    per_class: dict[str, dict[str, float]]
    images: int
    objects: int
    detections: int
    ignored: int = 0
    backend: str = BACKENDS[0]
    ties: Ties | None = None
    precision: dict[str, NDArray[np.float64]] = field(default_factory=dict, repr=False, compare=False)


class Modules(NamedTuple):
    """What a backend provides: the class of annotations, and that of evaluations."""

    COCO: Any
    COCOeval: Any


def evaluate(
    truth: Instances, results: list[Prediction], *, backend: str = BACKENDS[0], progress: Progress = silent
) -> CocoScores:
    """Score detections with the default box settings of COCO.

    A box marked ``ignore`` in the ground truth counts neither as found nor as missed, and a detection on it is no
    fault, as the COCO API's documentation has it; pycocotools alone overwrites that mark with ``iscrowd``.

    Args:
        truth: A COCO annotation file's content.
        results: A COCO results file's content.
        backend: "pycocotools", the reference, or "faster-coco-eval".
        progress: Shows progress.

    Raises:
        ConfigError: There is no such backend.
        DataError: Either is malformed, or a detection is on an unknown image.
        DependencyError: The backend is not installed.
    """
    modules = load_backend(backend)
    truth = check_truth(truth)
    results = check_results(truth, results)
    parts, ties = [], []
    for evaluation in evaluated_classes(truth, results, modules, progress):
        evaluation.accumulate()
        parts.append((evaluation.eval["precision"], evaluation.eval["recall"]))
        if modules is REFERENCE:
            ties.append(class_ties(evaluation))
    precisions, recalls = zip(*parts, strict=True)
    precision = np.concatenate(precisions, axis=2)  # IoU, recall, class, area, detections
    whole = reference_cocoeval.COCOeval(iouType="bbox")
    whole.eval = {"precision": precision, "recall": np.concatenate(recalls, axis=1)}
    whole.summarize()
    counts = Counter(a["category_id"] for a in truth["annotations"] if not a["ignore"])
    per_class: dict[str, dict[str, float]] = {}
    curves = {}
    for k, (category, name) in enumerate(class_names(truth).items()):
        own = precision[:, :, k, :, -1]  # IoU, recall, area; at 100 detections
        per_class[name] = {
            "AP": mean_precision(own[..., 0]),
            "AP50": mean_precision(own[0, :, 0]),
            **{f"AP{area}": mean_precision(own[..., a]) for a, area in enumerate(AREAS) if a},
            "objects": counts[category],
        }
        if (own[..., 0] > -1).any():
            curves[name] = own[..., 0]
    objects = counts.total()
    return CocoScores(
        metrics=dict(zip(METRICS, map(float, whole.stats), strict=True)),
        per_class=per_class,
        images=len(truth["images"]),
        objects=objects,
        detections=len(results),
        ignored=len(truth["annotations"]) - objects,
        backend=backend,
        ties=join_ties(ties) if ties else None,
        precision=curves,
    )


# Class by class ------------------------------------------------------------------------------------------------------


def evaluated_classes(
    truth: Instances, results: list[Prediction], modules: Modules, progress: Progress = silent
) -> Iterator[Any]:
    """Yield a COCOeval after ``evaluate()`` for every class in the order of category ids.

    COCO scores each class by itself, so this gives the numbers of one evaluation of all classes, in a fraction of its
    memory: 5,000 images x 80 classes x 4 areas are 1.6 million records, most of them of images without the class.
    Images are numbered by `image_ranks`: ids themselves may be texts, or numbers beyond 64 bits.

    Args:
        truth: From `check_truth`.
        results: From `check_results`.
        modules: COCO and COCOeval of a backend.
        progress: See `evaluate`.
    """
    categories = [c["id"] for c in sorted(truth["categories"], key=lambda c: c["id"])]
    boxes: dict[Id, list[Annotation]] = {category: [] for category in categories}
    found: dict[Id, list[Prediction]] = {category: [] for category in categories}
    for annotation in truth["annotations"]:
        boxes[annotation["category_id"]].append(annotation)
    for result in results:
        found[result["category_id"]].append(result)
    ranks = image_ranks(truth)
    for category in progress(categories, "scoring classes", len(categories)):
        # copies, because COCO writes into what it is given
        gts = [{**a, "image_id": ranks[a["image_id"]], "category_id": 1} for a in boxes[category]]
        dts = [
            {"image_id": ranks[r["image_id"]], "category_id": 1, "bbox": r["bbox"], "score": r["score"]}
            for r in found[category]
        ]
        concerned = {ranks[a["image_id"]] for a in boxes[category]} | {ranks[r["image_id"]] for r in found[category]}
        images = [{"id": rank} for rank in sorted(concerned)]
        own = modules.COCO()
        own.dataset = {"info": {}, "images": images, "annotations": gts, "categories": [{"id": 1}]}
        own.createIndex()
        if dts:
            detected = own.loadRes(dts)
        else:  # which loadRes refuses
            detected = modules.COCO()
            detected.dataset = {**own.dataset, "annotations": []}
            detected.createIndex()
        evaluation = modules.COCOeval(own, detected, "bbox")
        evaluation.evaluate()
        yield evaluation


def image_ranks(truth: Instances) -> dict[Id, int]:
    """Return the number of each image in an evaluation, by its id: from 1, in the order of ids, as in pycocotools."""
    return {i: rank for rank, i in enumerate(sorted(image["id"] for image in truth["images"]), 1)}


def _keeping_ignore(stock: Any) -> Any:
    """Return a class of evaluations that leaves ``ignore`` as the ground truth has it."""

    class KeepingIgnore(stock):
        def _prepare(self) -> None:
            ignored = {i for i, a in self.cocoGt.anns.items() if a["ignore"]}
            super()._prepare()
            for i, annotation in self.cocoGt.anns.items():
                annotation["ignore"] = int(i in ignored)
            if hasattr(self, "gt_dataset"):  # faster-coco-eval's, which holds copies
                self.gt_dataset: Any = type(self.gt_dataset)()
                for annotation in self.cocoGt.anns.values():
                    self.gt_dataset.append(annotation["image_id"], annotation["category_id"], annotation)

    return KeepingIgnore


REFERENCE = Modules(reference_coco.COCO, _keeping_ignore(reference_cocoeval.COCOeval))


def load_backend(backend: str) -> Modules:
    """Import what computes the numbers.

    Args:
        backend: See `evaluate`.

    Raises:
        ConfigError: There is no such backend.
        DependencyError: It is not installed.
    """
    if backend == BACKENDS[0]:
        return REFERENCE
    if backend != BACKENDS[1]:
        raise ConfigError("Unknown backend.", given=f"backend={backend}", expected=nearest(backend, BACKENDS))
    try:
        import faster_coco_eval
    except ImportError as e:
        raise DependencyError(
            "faster-coco-eval is not installed.",
            given=f"backend={backend}",
            expected="the extra 'fast'",
            fix="pip install 'yolo-mha[fast]', or leave backend out: pycocotools gives the same numbers",
        ) from e
    return Modules(faster_coco_eval.COCO, _keeping_ignore(faster_coco_eval.COCOeval_faster))


def class_names(truth: Instances) -> dict[Id, str]:
    """Return a name by category id, in the order of ids; a name that comes twice gets its id behind it."""
    names: dict[Id, str] = {}
    for category in sorted(truth["categories"], key=lambda c: c["id"]):
        name = str(category.get("name", category["id"]))
        while name in names.values():
            name = f"{name} ({category['id']})"
        names[category["id"]] = name
    return names


def mean_precision(precision: NDArray[Any]) -> float:
    """Return the mean of the valid entries, -1 where there are none, as pycocotools does."""
    valid = precision[precision > -1]
    return float(np.mean(valid)) if valid.size else -1.0


# What files may hold -------------------------------------------------------------------------------------------------


def check_truth(truth: Instances) -> Instances:
    """Return annotations with ids from 1 (pycocotools takes a match with id 0 for none), ``area`` and ``ignore``.

    Args:
        truth: A COCO annotation file's content.

    Raises:
        DataError: It is malformed, or holds no image.
    """
    check_instances(truth, "the annotations file")
    for ids in _ids(truth):
        if len({type(i) for i in ids}) != 1:
            given = "numbers and texts" if ids else "no image, or no category"
            raise DataError("The annotations cannot be scored.", given=given, expected="ids of one kind for each")
    annotations: list[Annotation] = []
    for i, a in enumerate(truth["annotations"]):
        area = a["area"] if is_number(a.get("area")) else a["bbox"][2] * a["bbox"][3]
        crowd = int(bool(a.get("iscrowd", 0)))
        ignore = int(crowd or bool(a.get("ignore", 0)))
        annotations.append({**a, "id": i + 1, "area": area, "iscrowd": crowd, "ignore": ignore})
    return {**truth, "annotations": annotations}


def check_results(truth: Instances, results: list[Prediction]) -> list[Prediction]:
    """Check that every prediction is complete, finite, and on an annotated image.

    Args:
        truth: From `check_truth`.
        results: A COCO results file's content.

    Raises:
        DataError: One is not.
    """
    check_predictions(results)
    images, categories = _ids(truth)
    for i, r in enumerate(results):
        if r["category_id"] not in categories:
            raise DataError(
                f"Prediction {i} is of an unknown category.",
                given=f"category_id {r['category_id']}",
                expected=f"one of the {len(categories)} categories of the annotations",
            )
    if unknown := {str(r["image_id"]) for r in results if r["image_id"] not in images}:
        raise DataError(
            f"{len(unknown)} image ids of the predictions are not in the annotations.",
            given=", ".join(sorted(unknown)[:MAX_NAMED]),
            expected=f"ids of the {len(images)} annotated images",
            fix="score predictions with the annotations of the images that they were made on",
        )
    return results


def _ids(truth: Instances) -> tuple[set[Id], set[Id]]:
    return {image["id"] for image in truth["images"]}, {category["id"] for category in truth["categories"]}
