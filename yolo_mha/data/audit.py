"""What scores silently depend on: which images and objects count, and how names and ids were matched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .instances import Instances
from .labels import unmatched


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


def audit_instances(truth: Instances) -> Audit:
    """Count what a COCO instances file holds, and take over what was found while it was made.

    Args:
        truth: Its content.
    """
    info = truth.get("info")
    found = info.get("yolo_mha") if isinstance(info, dict) else None
    remarks = found if isinstance(found, dict) else {}
    crowd = sum(bool(a.get("iscrowd")) for a in truth["annotations"])
    ignored = sum(bool(a.get("ignore")) and not a.get("iscrowd") for a in truth["annotations"])
    audit = Audit(
        format=remarks.get("format", "COCO JSON"),
        images=len(truth["images"]),
        objects=len(truth["annotations"]) - crowd - ignored,
        crowd=crowd,
        ignored=ignored,
        images_without_truth=remarks.get("images_without_truth", 0),
        truth_without_image=remarks.get("truth_without_image", 0),
        other_sizes=remarks.get("other_sizes", 0),
        notes=list(remarks.get("notes", [])),
    )
    if audit.images_without_truth:
        audit.notes.append(f"{audit.images_without_truth} images have no annotation file and are scored as background.")
    return audit


def audit_labels(truth: Instances, images: Sequence[Path]) -> Audit:
    """Count what YOLO label files hold.

    Args:
        truth: The labels as COCO instances.
        images: The images of the split.
    """
    audit = audit_instances(truth)
    missing, orphans = unmatched(images)
    audit.format = "YOLO"
    audit.images_without_truth, audit.truth_without_image = len(missing), len(orphans)
    if missing:
        audit.notes.append(
            f"{len(missing)} images have no label file and are scored as background, such as {missing[0].name}."
        )
    if orphans:
        audit.notes.append(f"{len(orphans)} label files have no image, such as {orphans[0].name}.")
    return audit
