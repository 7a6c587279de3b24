"""What `prune` answers."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..evaluation.verdict import LEARNED
from ..result import Result
from .pruning_controls import Control
from .pruning_curve import Point
from .silenced_scores import WithInterval


@dataclass(frozen=True)
class Scores:
    """AP before and after, on images on which no head was chosen.

    Attributes:
        data: The dataset.
        split: Its part.
        images: Number of images; with ``heads=auto`` those of the half on which nothing was chosen.
        ap: AP with all heads.
        ap_left: AP with those silenced that are gone.
        lost: The difference of the two.
        sentence: Whether that is within the margin, or that there was no AP to lose.
        controls: What as many other heads would have cost; none where the heads were named.
    """

    data: str
    split: str
    images: int
    ap: float
    ap_left: float
    lost: WithInterval
    sentence: str
    controls: list[Control] = field(default_factory=list)


@dataclass(frozen=True)
class Tuned:
    """The pruned model after more training.

    Attributes:
        checkpoint: Of the last epoch; the best epoch is chosen by scores on the validation images.
        epochs: Number of epochs.
        ap: AP on the images of `Scores`.
        lost: How much less that is than what the whole model had, which was not trained further.
    """

    checkpoint: str
    epochs: int
    ap: float
    lost: WithInterval


@dataclass(frozen=True)
class Pruned(Result):
    """A model without some of its heads.

    Attributes:
        model: What was pruned.
        heads: The heads that are gone, by block.
        left: How many heads each block has left; a block with none is removed.
        parameters: Number of parameters before.
        parameters_left: The same after.
        difference: Largest difference, for a random image, of the maps that the detection head reads to those of the
            model with these heads silenced; relative where a value is larger than 1.
        scores: AP before and after; None without a dataset, and where no head is gone.
        curve: AP and latency against the number of heads removed; empty where the heads were named, and where
            ``heads=auto`` chose none because there was no AP to lose.
        checkpoint: The checkpoint that was written; None where ``heads=auto`` found no head that can go.
        yaml: Its model YAML.
        picture: The curve as a picture.
        tuned: What more training made of it; None without ``epochs``.
        notes: How the heads were chosen, and what could not be measured.
    """

    model: str
    heads: dict[str, list[int]]
    left: dict[str, int]
    parameters: int
    parameters_left: int
    difference: float
    scores: Scores | None
    curve: list[Point]
    checkpoint: str | None = None
    yaml: str | None = None
    picture: str | None = None
    tuned: Tuned | None = None
    notes: list[str] = field(default_factory=list)


def nothing_to_lose(ap: float, margin: float = LEARNED) -> str | None:
    """Say that a model has no AP to lose, so that what it scores without some heads tells nothing about them.

    Args:
        ap: AP of the whole model.
        margin: How much AP may be lost.

    Returns:
        A sentence; None where there is AP to lose.
    """
    if ap > margin and ap >= LEARNED:
        return None
    return f"The model scores AP {ap:.3f} here, so nothing could be lost that matters."


def within(lost: WithInterval, margin: float, ap: float) -> str:
    """Say whether so little AP is lost as a margin allows, where the whole model has AP to lose."""
    if said := nothing_to_lose(ap, margin):
        return said
    if lost.low is None or lost.high is None:
        return f"It is not known whether AP lost is within margin={margin:g}: too few images for an interval."
    if lost.high <= margin:
        return f"AP lost is within margin={margin:g}: its interval ends at {lost.high:.4f}."
    if lost.low > margin:
        return f"AP lost is more than margin={margin:g}: its interval begins at {lost.low:.4f}."
    return f"It is not shown that AP lost is within margin={margin:g}: its interval ends at {lost.high:.4f}."
