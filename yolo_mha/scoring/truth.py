"""Ground truth and predictions with common ids: which image and which class an id means."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

import numpy as np

from ..data.audit import Audit, audit_instances, audit_labels
from ..data.coco_json import read_coco
from ..data.dataset import Dataset, Sample
from ..data.instances import Id, Image, Instances, Prediction, check_predictions, numbered
from ..data.labels import MAX_NAMED
from ..engine.validator import Detections
from ..errors import DataError
from .coco import check_truth

MANY = 0.1  # of the images, without a prediction: a detector finds something at a low threshold nearly everywhere


@dataclass(frozen=True)
class Truth:
    """The ground truth of a split.

    Attributes:
        coco: COCO instances of the split's images.
        image_ids: The id of each sample; None for an image that the annotations do not know, which is not scored.
        category_ids: The id of each class, by class index.
        given: Whether the ids are those of a COCO file that others know; otherwise an image's id is its position among
            the samples and a category's id its class index.
        elsewhere: Ids of images that the COCO file also has, outside the split.
        audit: Counts and remarks.
    """

    coco: Instances
    image_ids: list[Id | None]
    category_ids: list[Id]
    given: bool
    elsewhere: frozenset[Id]
    audit: Audit

    def scored(self, samples: Sequence[Sample]) -> list[Sample]:
        """Return the samples that are scored, those that the annotations know, in the order of the COCO instances."""
        by_id = dict(zip(self.image_ids, samples, strict=True))
        return [by_id[image["id"]] for image in self.coco["images"]]


def read_truth(dataset: Dataset, split: str, samples: Sequence[Sample]) -> Truth:
    """Return what a split is scored against: its COCO file, or its labels where it has none.

    Args:
        dataset: From `load_dataset`.
        split: The split's name.
        samples: The split, from `read_split`.

    Raises:
        DataError: The COCO file is broken, has other classes, or knows none of the images.
    """
    names = list(dataset.names.values())
    if split not in dataset.annotations:
        labels = ground_truth(samples, dataset.names)
        audit = audit_labels(labels, [s.image for s in samples])
        return Truth(labels, list(range(len(samples))), list(range(len(names))), False, frozenset(), audit)
    path = dataset.annotations[split]
    content = read_coco(path)
    entries = _entries(content["images"], samples, path)
    ids = [None if entry is None else entry["id"] for entry in entries]
    known = {i for i in ids if i is not None}
    coco: Instances = {
        **content,
        "images": [entry for entry in entries if entry is not None],
        "annotations": [a for a in content["annotations"] if a["image_id"] in known],
    }
    check_truth(coco)
    audit = audit_instances(coco)
    elsewhere = frozenset(image["id"] for image in content["images"]) - known
    if elsewhere:
        audit.truth_without_image += len(elsewhere)
        audit.notes.append(f"{len(elsewhere)} images of {path.name} are not among the {split} images; not scored.")
    if unknown := [s.image.name for s, i in zip(samples, ids, strict=True) if i is None]:
        audit.images_without_truth += len(unknown)
        audit.notes.append(f"{len(unknown)} {split} images are not in {path.name}, such as {unknown[0]}; not scored.")
    others = [
        f"{s.image.name} (said {entry['width']}x{entry['height']}, is {s.width}x{s.height})"
        for s, entry in zip(samples, entries, strict=True)
        if entry and {"width", "height"} <= entry.keys() and (entry["width"], entry["height"]) != (s.width, s.height)
    ]
    if others:
        audit.other_sizes += len(others)
        audit.notes.append(f"{len(others)} images have another size than {path.name} says, such as {others[0]}.")
    given = audit.format != "Pascal VOC"  # whose ids were made up for the mirror
    return Truth(coco, ids, _category_ids(coco, names, path), given, elsewhere, audit)


def ground_truth(samples: Sequence[Sample], names: Mapping[int, str]) -> Instances:
    """Return samples as a COCO annotation file; an image's id is its position, a category's id its class index.

    Args:
        samples: From `read_split`.
        names: Class names by class index.
    """
    boxes = [
        (i, index, [x1, y1, x2 - x1, y2 - y1], 0)
        for i, sample in enumerate(samples)
        for index, (x1, y1, x2, y2) in zip(sample.classes.tolist(), sample.boxes.tolist(), strict=True)
    ]
    return numbered([(s.image.name, s.width, s.height) for s in samples], boxes, names.values())


def detections(samples: Sequence[Sample], records: Sequence[Detections], truth: Truth) -> list[Prediction]:
    """Return predictions as a COCO results list; generated ids come with names.

    Args:
        samples: The images of the ground truth.
        records: The detections of each of them, in any order.
        truth: Says the ids, and which images are left out.

    Raises:
        DataError: An image was predicted that is not in the ground truth, or the other way round.
    """
    positions = {sample.file.absolute(): i for i, sample in enumerate(samples)}
    files = [record.image.absolute() for record in records]
    if sorted(files) != sorted(positions):
        differing = sorted(map(str, set(files) ^ set(positions)))
        raise DataError(
            "The predicted images are not those of the ground truth.",
            given=f"{len(files)} predicted, {len(positions)} in the ground truth",
            expected=f"the same images; these differ: {', '.join(differing[:MAX_NAMED]) or 'some come twice'}",
        )
    names = {c["id"]: c["name"] for c in truth.coco["categories"]}
    results: list[Prediction] = []
    for file, record in zip(files, records, strict=True):
        sample, image_id = samples[positions[file]], truth.image_ids[positions[file]]
        if image_id is None:
            continue
        boxes = record.boxes
        if record.size and record.size != (sample.width, sample.height):  # a copy that was reduced
            boxes = boxes * np.tile(np.divide((sample.width, sample.height), record.size), 2)
        for (x1, y1, x2, y2), score, index in zip(
            boxes.tolist(), record.scores.tolist(), record.classes.tolist(), strict=True
        ):
            category = truth.category_ids[index]
            box = [x1, y1, x2 - x1, y2 - y1]
            result = Prediction(image_id=image_id, category_id=category, bbox=box, score=score)
            if not truth.given:
                result |= {"file_name": sample.image.name, "category_name": names[category]}
            results.append(result)
    return results


def read_results(results: list[Prediction], truth: Truth, samples: Sequence[Sample]) -> list[Prediction]:
    """Bring the ids of a predictions file to those of the truth, and enter into its audit how they were read.

    Image ids may be those of the annotations, file names, their stems, or stems that are numbers; where each
    prediction has a ``file_name``, that decides. Category ids may be those of the annotations, class indices, or class
    indices counted from 1, as Ultralytics writes them; where each prediction has a ``category_name``, that decides.

    Args:
        results: The content of a COCO results file.
        truth: From `read_truth`.
        samples: The split.

    Returns:
        The predictions on images that are scored, with the ids of the truth.

    Raises:
        DataError: It is no list of predictions; ids are unknown, or fit more than one reading.
    """
    check_predictions(results)
    images, categories = _read_image_ids(results, truth, samples), _read_category_ids(results, truth)
    kept: list[Prediction] = []
    for r in results:
        image_id, category_id = images.ids[r[images.key]], categories.ids[r[categories.key]]
        if image_id is not None and category_id is not None:
            kept.append({**r, "image_id": image_id, "category_id": category_id})
    truth.audit.prediction_ids = f"images by {images.name}, categories by {categories.name}"
    if len(kept) < len(results):
        truth.audit.notes.append(f"{len(results) - len(kept)} predictions are on images that are not scored.")
    missing, scored = without_prediction(kept, truth), len(truth.coco["images"])
    if missing > MANY * scored:
        truth.audit.notes.append(f"{missing} of {scored} images have no prediction: was the model run on all of them?")
    return kept


def without_prediction(results: list[Prediction], truth: Truth) -> int:
    """Return the number of scored images for which there is no prediction, see `read_results`."""
    return len(truth.coco["images"]) - len({r["image_id"] for r in results})


def _entries(images: list[Image], samples: Sequence[Sample], path: Path) -> list[Image | None]:
    """Find the entry of each sample by its file name; where several have the name, by the folders before it too."""
    mirrored = {image["mirror_name"]: image for image in images if "mirror_name" in image}
    by_name = defaultdict(list)
    for image in images:
        by_name[PurePosixPath(image["file_name"]).name].append(image)
    entries = []
    for sample in samples:
        found = [mirrored[sample.image.name]] if sample.image.name in mirrored else by_name[sample.image.name]
        if len(found) > 1:
            ends = [(image, PurePosixPath(image["file_name"]).parts) for image in found]
            found = [image for image, parts in ends if sample.image.parts[-len(parts) :] == parts]
            if len(found) != 1:
                raise DataError(
                    f"{path} has several images of one name.",
                    given=", ".join(str(image["file_name"]) for image, _ in ends[:MAX_NAMED]),
                    expected=f"one that is {sample.image}",
                )
        entries.append(found[0] if found else None)
    taken = Counter(entry["id"] for entry in entries if entry is not None)
    shared = [s.image for s, entry in zip(samples, entries, strict=True) if entry and taken[entry["id"]] > 1]
    if shared or not taken:
        raise DataError(
            f"{path} has no unique file name for each image." if shared else f"{path} has none of the images.",
            given=", ".join(str(image) for image in shared[:MAX_NAMED] or [s.image for s in samples[:MAX_NAMED]]),
            expected=f"file_name of each, such as {images[0]['file_name'] if images else 'image.jpg'}",
        )
    return entries


def _category_ids(coco: Instances, names: list[str], path: Path) -> list[Id]:
    """Return the category id of each class, by name."""
    ids = {c["name"]: c["id"] for c in coco["categories"]}
    used = {a["category_id"] for a in coco["annotations"]}
    lacking = [n for n in names if n not in ids]
    unknown = [n for n, i in ids.items() if n not in names and i in used]
    if lacking or unknown:
        raise DataError(
            f"The categories of {path} are not the dataset's classes.",
            given=f"only in names: {', '.join(lacking[:MAX_NAMED]) or 'none'}; only in the COCO file: "
            f"{', '.join(unknown[:MAX_NAMED]) or 'none'}",
            expected="the same names",
        )
    return [ids[n] for n in names]


Ids = dict[Id, Id | None]  # the id of the truth by its id in the predictions; None for an image that is not scored


class Reading(NamedTuple):
    """How the ids of a predictions file are read: the key of an entry that has them, and what they mean."""

    key: Literal["image_id", "file_name", "category_id", "category_name"]
    name: str
    ids: Ids


def _read_image_ids(results: list[Prediction], truth: Truth, samples: Sequence[Sample]) -> Reading:
    """Find out how the images are named."""
    own: Ids = {i: i for i in truth.image_ids if i is not None} | dict.fromkeys(truth.elsewhere)
    names = [(s.image.name, i) for s, i in zip(samples, truth.image_ids, strict=True)]
    names += [(image["file_name"], image["id"]) for image in truth.coco["images"]]
    by_name = _unique(names)
    values = {r["image_id"] for r in results}
    if results and all(isinstance(r.get("file_name"), str) and r["file_name"] in by_name for r in results):
        return Reading("file_name", "file_name", by_name)
    stems = [(_stem(name), i) for name, i in names]
    known = set(stems)
    named = dict.fromkeys((r["image_id"], r["file_name"]) for r in results if isinstance(r.get("file_name"), str))

    def wrong(ids: Ids) -> tuple[Id, str] | None:
        """Return the first id and file name that are not of one image; of one that is not scored nothing is known."""
        return next(((v, n) for v, n in named if ids[v] is not None and (_stem(n), ids[v]) not in known), None)

    if truth.given and values <= own.keys() and not wrong(own):
        return Reading("image_id", "id of the annotations", own)
    readings = {
        "id of the annotations" if truth.given else "position": own,
        "file name": by_name,
        "stem": _unique(stems),
        "stem as a number": _unique((int(stem), i) for stem, i in stems if stem.isdecimal() and stem.isascii()),
    }
    fitting = {reading: ids for reading, ids in readings.items() if values <= ids.keys()}
    if not fitting:
        fix = "name the split or the dataset that was predicted, or give each prediction its file_name"
        raise _unknown("image", values, readings, f"{len(samples)} images of the split", fix)
    contradicted = {reading: found for reading, ids in fitting.items() if (found := wrong(ids))}
    fitting = {reading: ids for reading, ids in fitting.items() if reading not in contradicted}
    if not fitting:
        raise DataError(
            "The predictions have file names of other images than their image ids.",
            given="; ".join(
                f"image_id {v!r} as {reading}: file_name {n!r}" for reading, (v, n) in contradicted.items()
            ),
            expected="file names of this split, or none",
            fix="name the split or the dataset that was predicted; if the ids are right, remove file_name",
        )
    (reading, ids), *others = fitting.items()
    if differing := [other for other, also in others if any(also[v] != ids[v] for v in values)]:
        value = next(v for v in values if any(fitting[other][v] != ids[v] for other in differing))
        raise DataError(
            "The image ids of the predictions are ambiguous.",
            given=f"image_id {value!r}, as {reading} or as {' or '.join(differing)}",
            expected="ids that fit one reading",
            fix="give each prediction its file_name beside image_id",
        )
    return Reading("image_id", reading, ids)


def _read_category_ids(results: list[Prediction], truth: Truth) -> Reading:
    """Find out how the classes are named."""
    values = {r["category_id"] for r in results}
    own: Ids = {c["id"]: c["id"] for c in truth.coco["categories"]}
    by_name = _unique((c["name"], c["id"]) for c in truth.coco["categories"])
    if results and all(isinstance(r.get("category_name"), str) and r["category_name"] in by_name for r in results):
        return Reading("category_name", "category_name", by_name)
    index: Ids = dict(enumerate(truth.category_ids))
    from_one: Ids = dict(enumerate(truth.category_ids, 1))
    if truth.given and values <= own.keys():
        written = values <= from_one.keys() and all(map(_is_ultralytics, results))
        if written and any(own[value] != from_one[value] for value in values):
            raise DataError(
                "The category ids of the predictions are ambiguous.",
                given=f"ids {', '.join(map(repr, sorted(values)[:MAX_NAMED]))}, as ids of the annotations or as class "
                "index counted from 1, as Ultralytics writes it",
                expected="ids that fit one reading",
                fix="give each prediction its category_name beside category_id",
            )
        return Reading("category_id", "id of the annotations", own)
    readings = {"class index": index, "class index counted from 1": from_one}
    fitting = [reading for reading, ids in readings.items() if values <= ids.keys()]
    if len(fitting) == 1 or not results:
        return Reading("category_id", fitting[0], readings[fitting[0]])
    if fitting and all(_is_ultralytics(r) for r in results):
        return Reading("category_id", "class index counted from 1, as Ultralytics writes it", from_one)
    if fitting:
        raise DataError(
            "The category ids of the predictions are ambiguous: they could be counted from 0 or from 1.",
            given=f"ids {min(values)} to {max(values)}, for {len(index)} classes",
            expected="at least one prediction of the first or the last class, which decides between the two",
            fix="give each prediction its category_name beside category_id",
        )
    known = {"id of the annotations": own, **readings} if truth.given else readings
    fix = "name the dataset whose classes were predicted, or give each prediction its category_name"
    raise _unknown("category", values, known, f"{len(index)} classes", fix)


def _unknown(kind: str, values: set[Id], readings: Mapping[str, Ids], of: str, fix: str) -> DataError:
    """Say that ids fit no reading, and which they are in the one that fits best."""
    best = max(readings.values(), key=lambda ids: len(values & ids.keys()))
    unknown = sorted(values - best.keys(), key=str)
    tried = ", ".join(f"{reading} ({next(iter(ids))!r}, ...)" for reading, ids in readings.items() if ids)
    return DataError(
        f"{len(unknown)} of {len(values)} {kind} ids of the predictions are unknown.",
        given=", ".join(map(repr, unknown[:MAX_NAMED])),
        expected=f"ids of the {of}; tried: {tried}",
        fix=fix,
    )


def _is_ultralytics(result: Prediction) -> bool:
    """Say whether a prediction looks as ``save_json`` writes it: its id is the stem of the file name beside it."""
    stem = PurePosixPath(str(result.get("file_name"))).stem
    return "file_name" in result and str(result["image_id"]) in (stem, stem.lstrip("0") or "0")


def _stem(name: str) -> str:
    return PurePosixPath(name.replace("\\", "/")).stem


def _unique(pairs: Iterable[tuple[Id, Id | None]]) -> Ids:
    """Return a mapping without the keys that belong to two different ids."""
    values = defaultdict(set)
    for key, value in pairs:
        values[key].add(value)
    return {key: ids.pop() for key, ids in values.items() if len(ids) == 1}
