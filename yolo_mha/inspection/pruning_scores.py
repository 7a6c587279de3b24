"""AP of a model with heads silenced, on all images of a split or on two halves of them."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..data.groups import read_groups
from ..engine.model import YOLO
from ..errors import ConfigError
from ..scoring.matches import Matches
from ..scoring.resample import RESAMPLES, bootstrap_weights, resampled_ap
from .head_importance import Name, Scored, Scorer
from .silencing import silenced


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


def parts(scorer: Scorer, group: str | Path | None, *, halved: bool) -> list[Part]:
    """Return all images of a split as one part, or two halves of them; a group stays together.

    Args:
        scorer: What scores the split.
        group: Which images belong together, see `read_groups`.
        halved: Whether there are two: one to choose on, and one to report.

    Raises:
        ConfigError: The groups do not fit the images, or there is one image.
    """
    images = [sample.image for sample in scorer.truth.scored(scorer.samples)]
    names = read_groups(group, images)
    units = np.arange(len(images)) if names is None else np.unique(names, return_inverse=True)[1]
    if not halved:
        return [Part(units, np.ones(len(units), np.bool_))]
    if not units.max(initial=0):
        raise ConfigError("heads=auto needs more images.", given=f"images: {len(images)}", expected="20 or more")
    shuffled = np.random.default_rng(0).permutation(units.max() + 1)
    first = np.isin(units, shuffled[: len(shuffled) // 2])
    return [Part(units, first), Part(units, ~first)]


class SilencedScores:
    """Scores a model without some of its heads; the same heads are scored once.

    Args:
        network: The model.
        scorer: What scores it.
        parts: The images that it is scored on.
    """

    def __init__(self, network: YOLO, scorer: Scorer, parts: list[Part]) -> None:
        self.network, self.scorer, self.parts = network, scorer, parts
        self._known: dict[frozenset[Name], list[Scored]] = {}

    def __call__(self, gone: Collection[Name]) -> list[Scored]:
        """Return the scores on each part with these heads silenced."""
        key = frozenset(gone)
        if key not in self._known:
            with silenced(self.network.model, by_block(key)):
                self._known[key] = self.of(self.network)
        return self._known[key]

    def of(self, network: YOLO) -> list[Scored]:
        """Return the scores of another model on each part."""
        _, matches = self.scorer.matches(network)
        return [part(matches) for part in self.parts]


def by_block(names: Collection[Name]) -> dict[str, list[int]]:
    """Return the heads of each block."""
    found: dict[str, list[int]] = {}
    for block, head in sorted(names):
        found.setdefault(block, []).append(head)
    return found
