"""AP of a model with heads silenced, on all images of a split or on two halves of them, with intervals."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.dataset import Dataset, Sample
from ..data.files import read_json
from ..data.groups import read_groups
from ..engine.model import YOLO
from ..engine.progress import without_messages
from ..errors import ConfigError
from ..scoring.intervals import paired_interval
from ..scoring.matches import Matches, match_detections
from ..scoring.resample import RESAMPLES, bootstrap_weights, resampled_ap
from ..scoring.truth import read_truth
from ..scoring.val import score
from .silencing import silenced

Name = tuple[str, int]  # an attention, as `attentions` calls it, and the index of a head in it


@dataclass(frozen=True)
class WithInterval:
    """A value with its 95 % interval over the choice of images.

    Attributes:
        value: The value on all images.
        low: Lower end; None with fewer than ten images or groups.
        high: Upper end.
    """

    value: float
    low: float | None
    high: float | None

    @classmethod
    def of(
        cls,
        value: float,
        replicates: NDArray[np.float64],
        images: int,
        group_sizes: NDArray[np.int64] | None = None,
    ) -> WithInterval:
        """Return a value with its interval, from what each resample of the images gives; see `paired_interval`."""
        return cls.over_seeds(np.array([value]), replicates[None], images, group_sizes)

    @classmethod
    def over_seeds(
        cls,
        values: NDArray[np.float64],
        replicates: NDArray[np.float64],
        images: int,
        group_sizes: NDArray[np.int64] | None = None,
    ) -> WithInterval:
        """Return the mean over seeds, or draws, with its interval over them and images; see `paired_interval`."""
        found, value = paired_interval(values, replicates, images, group_sizes), float(values.mean())
        return cls(value, None, None) if found is None else cls(value, found.low, found.high)


@dataclass(frozen=True)
class Scored:
    """AP of a model.

    Attributes:
        ap: AP.
        replicates: The same on each resample of the images, the same resamples for all models.
        images: Number of images with an object.
        group_sizes: How many of them are in each group, where groups are resampled.
    """

    ap: float
    replicates: NDArray[np.float64]
    images: int
    group_sizes: NDArray[np.int64] | None = None

    def lost(self, other: Scored) -> WithInterval:
        """Return how much less AP another model has."""
        return WithInterval.of(self.ap - other.ap, self.replicates - other.replicates, self.images, self.group_sizes)


class Scorer:
    """Matches the detections of models to the ground truth of a split.

    Args:
        dataset: The dataset, from `read_dataset`.
        samples: The split, from there too.
        split: Its name.
        **settings: Ultralytics' validation settings, checked.
    """

    def __init__(self, dataset: Dataset, samples: Sequence[Sample], split: str, **settings: Any) -> None:
        self.dataset, self.samples, self.split, self.settings = dataset, samples, split, settings
        self.truth = read_truth(dataset, split, samples)

    def matches(self, network: YOLO) -> Matches:
        """Return a model's detections, matched to the ground truth."""
        with tempfile.TemporaryDirectory(prefix="yolo-mha-heads-") as folder, without_messages():
            given = {**self.settings, "project": folder, "plots": False, "verbose": False}
            result = score(network, self.dataset, self.samples, self.split, **given)
            return match_detections(self.truth.coco, read_json(result.predictions, "predictions"))


class Part:
    """Some of the images of a split, on which AP and its resamples are taken.

    Args:
        units: The group of each image of the split, 0, 1, ...; an image by itself is a group of one.
        inside: Which images it holds.

    Attributes:
        images: Number of its images.
    """

    def __init__(self, units: NDArray[np.intp], inside: NDArray[np.bool_]) -> None:
        own = np.unique(units[inside], return_inverse=True)[1]
        self._units, self._inside, self.images = units, inside, len(own)
        self._weights = np.zeros((len(units), 1 + RESAMPLES), np.float32)  # the first column counts each image once
        self._weights[inside, 0] = 1
        self._weights[inside, 1:] = bootstrap_weights(len(own), RESAMPLES, groups=own)

    def __call__(self, matches: Matches) -> Scored:
        """Return AP on these images."""
        ap, *replicates = resampled_ap(matches, self._weights)
        objects = np.sum([tables[0].objects for tables in matches.classes.values()], axis=0)
        held = np.flatnonzero((objects > 0) & self._inside)
        sizes = np.bincount(self._units[held])
        grouped = self._units.max() + 1 < len(self._units)
        return Scored(float(ap), np.array(replicates), len(held), sizes[sizes > 0] if grouped else None)


def group_units(group: str | Path | None, samples: Sequence[Sample]) -> NDArray[np.intp] | None:
    """Return the number of each image's group, 0, 1, ...; None where each image is by itself.

    Args:
        group: Which images belong together, see `read_groups`.
        samples: The images.

    Raises:
        ConfigError: The groups do not fit the images.
    """
    names = read_groups(group, [sample.image for sample in samples])
    return None if names is None else np.unique(names, return_inverse=True)[1]


def parts(scorer: Scorer, group: str | Path | None, *, halved: bool) -> list[Part]:
    """Return all images of a split as one part, or two halves of them; a group stays together.

    Args:
        scorer: What scores the split.
        group: Which images belong together, see `read_groups`.
        halved: Whether there are two: one to choose on, and one to report.

    Raises:
        ConfigError: The groups do not fit the images, or there is one image.
    """
    scored = scorer.truth.scored(scorer.samples)
    units = group_units(group, scored)
    units = np.arange(len(scored)) if units is None else units
    if not halved:
        return [Part(units, np.ones(len(units), np.bool_))]
    if not units.max(initial=0):
        raise ConfigError("heads=auto needs more images.", given=f"images: {len(scored)}", expected="20 or more")
    shuffled = np.random.default_rng(0).permutation(units.max() + 1)
    first = np.isin(units, shuffled[: len(shuffled) // 2])
    return [Part(units, first), Part(units, ~first)]


class SilencedScores:
    """Scores a model without some of its heads; the same heads are scored once.

    Args:
        network: The model.
        scorer: What scores it.
        parts: The images that it is scored on.
        whole_blocks: Whether a block goes with its last head, see `silenced`.
    """

    def __init__(self, network: YOLO, scorer: Scorer, parts: list[Part], *, whole_blocks: bool = True) -> None:
        self.network, self.scorer, self.parts, self.whole_blocks = network, scorer, parts, whole_blocks
        self._known: dict[frozenset[Name], list[Scored]] = {}

    def __call__(self, gone: Collection[Name]) -> list[Scored]:
        """Return the scores on each part with these heads silenced."""
        key = frozenset(gone)
        if key not in self._known:
            with silenced(self.network.model, by_block(key), whole_blocks=self.whole_blocks):
                self._known[key] = self.of(self.network)
        return self._known[key]

    def of(self, network: YOLO) -> list[Scored]:
        """Return the scores of another model on each part."""
        matches = self.scorer.matches(network)
        return [part(matches) for part in self.parts]


def by_block(names: Collection[Name]) -> dict[str, list[int]]:
    """Return the heads of each block."""
    found: dict[str, list[int]] = {}
    for block, head in sorted(names):
        found.setdefault(block, []).append(head)
    return found
