"""Which label file belongs to which image: mismatches that training and scoring would silently accept."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from ultralytics.data.utils import img2label_paths

from ..errors import DataError

MAX_NAMED = 5  # files that one message names at most
NOT_LABELS = ("classes.txt", "notes.txt", "README.txt")  # what labelling tools put beside the labels


def refuse_shared_labels(images: Sequence[Path], split: str) -> None:
    """Refuse images of one folder whose names differ by their suffix alone: they have one label file.

    Args:
        images: The images of a split.
        split: Its name, for the message.

    Raises:
        DataError: There are some.
    """
    sharing = defaultdict(list)
    for image, label in zip(images, img2label_paths([str(i) for i in images]), strict=True):
        sharing[label].append(image)
    if shared := [found for found in sharing.values() if len(found) > 1]:
        named = "; ".join(" and ".join(i.name for i in found) for found in shared[:MAX_NAMED])
        raise DataError(
            f"{sum(map(len, shared))} {split} images share {len(shared)} label files, as their stems are the same.",
            given=named,
            expected="one label file for each image",
            fix="rename all but one of each, and their labels, or remove the copies",
        )


def unmatched(images: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Find images without a label file, and label files in the same folders without an image.

    Args:
        images: The images of a split.

    Returns:
        The images, in the order given, and the label files, sorted.
    """
    labels = [Path(p) for p in img2label_paths([str(i) for i in images])]
    missing = [image for image, label in zip(images, labels, strict=True) if not label.is_file()]
    present = {p for folder in {label.parent for label in labels} if folder.is_dir() for p in folder.glob("*.txt")}
    return missing, sorted(p for p in present - set(labels) if p.name not in NOT_LABELS)
