"""What scores silently depend on: which images and objects count, and how names and ids were matched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .labels import unmatched
from .mirror import ABOUT


@dataclass
class Audit:
    """Counts, and in sentences what a reader of the scores should know.

    Attributes:
        format: Format of the ground truth: "YOLO", "COCO JSON" or "Pascal VOC".
        images: Number of images that are scored.
        objects: Number of objects on them that count.
        crowd: Number of crowd regions, within which detections count neither way.
        ignored: Number of objects that count neither way, such as VOC's difficult ones.
        images_without_truth: Images that no ground truth is known for.
        truth_without_image: Ground truth, files or entries, whose image is not in the split.
        other_sizes: Images whose size is not what the annotations say.
        prediction_ids: How the ids of a predictions file were read.
        notes: What is unusual.
    """

    format: str
    images: int
    objects: int
    crowd: int
    ignored: int
    images_without_truth: int = 0
    truth_without_image: int = 0
    other_sizes: int = 0
    prediction_ids: str | None = None
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def count(truth: dict[str, Any]) -> Audit:
    """Count what a COCO instances file holds, and take over what was found while it was made.

    Args:
        truth: Its content.
    """
    info = truth.get("info")
    about = info.get(ABOUT) if isinstance(info, dict) else None
    about = about if isinstance(about, dict) else {}
    annotations = [a for a in truth["annotations"] if isinstance(a, dict)]
    crowd = sum(bool(a.get("iscrowd")) for a in annotations)
    ignored = sum(bool(a.get("ignore")) and not a.get("iscrowd") for a in annotations)
    found = Audit(
        format=about.get("format", "COCO JSON"),
        images=len(truth["images"]),
        objects=len(annotations) - crowd - ignored,
        crowd=crowd,
        ignored=ignored,
        images_without_truth=about.get("images_without_truth", 0),
        truth_without_image=about.get("truth_without_image", 0),
        other_sizes=about.get("other_sizes", 0),
        notes=list(about.get("notes", [])),
    )
    if found.images_without_truth:
        found.notes.append(f"{found.images_without_truth} images have no annotation file and are scored as background.")
    return found


def count_labels(truth: dict[str, Any], images: Sequence[Path]) -> Audit:
    """Count what YOLO label files hold.

    Args:
        truth: The labels as COCO instances.
        images: The images of the split.
    """
    found = count(truth)
    missing, orphans = unmatched(images)
    found.format = "YOLO"
    found.images_without_truth, found.truth_without_image = len(missing), len(orphans)
    if missing:
        found.notes.append(
            f"{len(missing)} images have no label file and are scored as background, such as {missing[0].name}."
        )
    if orphans:
        found.notes.append(f"{len(orphans)} label files have no image, such as {orphans[0].name}.")
    return found
