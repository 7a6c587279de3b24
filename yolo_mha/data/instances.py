"""What COCO's JSON files hold (https://cocodataset.org/#format-data); keys that are not named here are kept."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypedDict, final

from ..errors import DataError

if TYPE_CHECKING:
    from typing_extensions import NotRequired

Id = int | str


class Image(TypedDict):
    """An image; ``file_name`` is there in files of a dataset, ``mirror_name`` in those of a mirror."""

    id: Id
    file_name: NotRequired[str]
    width: NotRequired[int]
    height: NotRequired[int]
    mirror_name: NotRequired[str]


@final
class Annotation(TypedDict):
    """An object; ``bbox`` is x, y, width, height in pixels. After `check_truth` all keys are there."""

    id: NotRequired[int]
    image_id: Id
    category_id: Id
    bbox: list[float]
    area: NotRequired[float]
    iscrowd: NotRequired[int]
    ignore: NotRequired[int]


class Category(TypedDict):
    """A class."""

    id: Id
    name: str
    supercategory: NotRequired[str]


class Instances(TypedDict):
    """An instances file: the ground truth; ``info["yolo_mha"]`` of a mirror's file holds attributes of its `Audit`."""

    info: NotRequired[dict[str, object]]
    images: list[Image]
    annotations: list[Annotation]
    categories: list[Category]


@final
class Prediction(TypedDict):
    """An entry of a results file; optional names beside the ids say which image and class the ids mean."""

    image_id: Id
    category_id: Id
    bbox: list[float]
    score: float
    file_name: NotRequired[str]
    category_name: NotRequired[str]


def numbered(
    images: Iterable[tuple[str, int, int]], boxes: Iterable[tuple[int, int, list[float], int]], names: Iterable[str]
) -> Instances:
    """Return COCO instances; an image's id is its position, a category's id its class index.

    Args:
        images: File name, width and height of each image, in pixels.
        boxes: Position of the image, class index, box (x, y, width, height in pixels) and ``ignore`` of each object.
        names: Class names in the order of their indices.
    """
    return {
        "images": [{"id": i, "file_name": name, "width": w, "height": h} for i, (name, w, h) in enumerate(images)],
        "annotations": [
            Annotation(id=number, image_id=i, category_id=c, bbox=b, area=b[2] * b[3], iscrowd=0, ignore=mark)
            for number, (i, c, b, mark) in enumerate(boxes, 1)  # pycocotools takes a match with id 0 for none
        ],
        "categories": [{"id": i, "name": name} for i, name in enumerate(names)],
    }


def check_instances(content: Any, file: object) -> Instances:
    """Make sure that something is an instances file's content, with ids that are unique and known.

    Args:
        content: What was read.
        file: What it is called in the message.

    Raises:
        DataError: It is not; the message names the first fault.
    """
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise DataError(
                f"{file} is not a COCO instances file.",
                given=f"no list '{key}'",
                expected="a JSON object with the lists images, annotations and categories",
            )
    images, categories = _ids("Image", content["images"], file), _ids("Category", content["categories"], file)
    for i, a in enumerate(content["annotations"]):
        if fault := _fault(a, images, categories):
            raise unusable(f"Annotation {i}", file, fault, a, "image_id and category_id that are known, and bbox")
    return content  # type: ignore[no-any-return]


def unusable(entry: str, file: object, fault: str, given: object, expected: str) -> DataError:
    """Name an entry of a file that cannot be used, and why."""
    return DataError(f"{entry} of {file} is unusable: {fault}.", given=str(given)[:200], expected=expected)


def _ids(kind: str, entries: list[object], file: object) -> set[Id]:
    """Return the ids of images or categories, each of which must have its own."""
    ids: set[Id] = set()
    for i, entry in enumerate(entries):
        if not isinstance(entry, dict) or not isinstance(entry.get("id"), (int, str)):
            raise unusable(f"{kind} {i}", file, "it has no id", entry, "id: a number or a text")
        if entry["id"] in ids:
            raise unusable(f"{kind} {i}", file, "two have one id", entry, "an id for each")
        ids.add(entry["id"])
    return ids


def _fault(entry: object, images: set[Id], categories: set[Id]) -> str | None:
    if not isinstance(entry, dict):
        return f"{type(entry).__name__} in place of an object"
    for key, known in (("image_id", images), ("category_id", categories)):
        if not isinstance(entry.get(key), (int, str)) or entry[key] not in known:
            return f"{key} {entry.get(key)!r} is unknown"
    return None if _is_box(entry.get("bbox")) else "bbox is not four finite numbers"


def check_predictions(results: Any) -> list[Prediction]:
    """Make sure that something is a results file's content; whether its ids are known is another question.

    Args:
        results: What was read.

    Raises:
        DataError: It is no list, or an entry is not complete and finite.
    """
    if not isinstance(results, list):
        raise DataError(
            "The predictions file is not in COCO results format.",
            given=f"JSON {type(results).__name__}",
            expected="a list of {image_id, category_id, bbox: [x, y, width, height], score}",
        )
    for i, r in enumerate(results):
        has_ids = isinstance(r, dict) and all(isinstance(r.get(k), (int, str)) for k in ("image_id", "category_id"))
        if not has_ids or not _is_box(r.get("bbox")) or not is_number(r.get("score")):
            expected = "image_id, category_id, bbox of 4 finite numbers and a finite score"
            raise DataError(f"Prediction {i} is unusable.", given=str(r)[:200], expected=expected)
    return results


def is_number(value: object) -> bool:
    """Say whether something is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _is_box(value: object) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 4 and all(map(is_number, value))
