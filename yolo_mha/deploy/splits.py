"""A dataset whose splits are read and verified once, however many steps of a command need them."""

from __future__ import annotations

from pathlib import Path

from ..data.dataset import Sample, image_files, load_dataset, read_dataset
from ..data.labels import refuse_shared_labels
from ..engine.model import YOLO
from ..engine.progress import with_bar
from ..scoring.val import class_order


class Splits:
    """A dataset and the samples of its splits.

    Args:
        data: The dataset, see `load_dataset`.
        *networks: Models that have to know its classes.

    Attributes:
        dataset: The dataset, with a mirror of the splits that were read.

    Raises:
        DataError: It is missing, in no known format, or has other classes.
    """

    def __init__(self, data: str | Path, *networks: YOLO) -> None:
        self.dataset = load_dataset(data, with_bar)
        for network in networks:
            class_order(network.names, self.dataset)
        self._read: dict[str, list[Sample]] = {}

    def read(self, split: str) -> list[Sample]:
        """Return the samples of a split, see `read_dataset`; every image is verified the first time."""
        if split not in self._read:
            read = read_dataset(self.dataset, [split], progress=with_bar)
            self.dataset, self._read[split] = read.dataset, read.samples[split]
        return self._read[split]

    def to_score(self, split: str) -> list[Sample]:
        """Return the samples of a split, after making sure that it can be scored.

        Raises:
            DataError: Images share label files, or see `read_dataset`.
        """
        if split not in self.dataset.annotations:
            refuse_shared_labels(image_files(self.dataset, split), split)
        return self.read(split)
