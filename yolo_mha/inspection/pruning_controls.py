"""Controls for a choice of heads: as many heads at random, and those with the smallest weight norm."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from ..data.progress import Progress, silent
from ..nn import CrossScaleMHA
from ..registry import Network
from ..surgery.heads import attentions
from .silenced_scores import Name, Scored, SilencedScores, WithInterval

DRAWS = 5
RANDOM, NORM = "random heads", "heads of least weight norm"


@dataclass(frozen=True)
class Control:
    """What the same number of other heads would have cost.

    Attributes:
        name: "random heads", the mean of five different draws, or of all where there are no more; or "heads of least
            weight norm", see `weight_norms`.
        ap: AP without them, the mean over draws.
        aps: The same of each draw.
        gained: By how much AP without the chosen heads is higher, on the same images. The interval is over images,
            and over draws where these are not all that there are.
        sentence: What follows.
    """

    name: str
    ap: float
    aps: list[float]
    gained: WithInterval
    sentence: str

    @classmethod
    def of(cls, name: str, chosen: Scored, others: list[Scored], every: bool = False) -> Control:
        """Compare the chosen heads with others; ``every`` where there are no more of this kind than these."""
        gains = np.array([chosen.ap - other.ap for other in others])
        replicates = np.stack([chosen.replicates - other.replicates for other in others])
        if every:
            gains, replicates = gains.mean(keepdims=True), replicates.mean(axis=0, keepdims=True)
        gained = WithInterval.over_seeds(gains, replicates, chosen.images, chosen.group_sizes)
        aps = [other.ap for other in others]
        return cls(name, float(np.mean(aps)), aps, gained, _sentence(name, gained))


def controls(
    chosen: Collection[Name], model: Network, score: SilencedScores, progress: Progress = silent
) -> list[Control]:
    """Score as many heads as were chosen, taken in other ways, on the last part of the images.

    Args:
        chosen: The heads.
        model: The model, as it was trained.
        score: Scores it without heads.
        progress: Shows progress.
    """
    norms = weight_norms(model)
    every, count = sorted(norms), len(chosen)
    drawn = draws(every, count)
    sets = [*drawn, sorted(every, key=lambda name: norms[name])[:count]]
    *found, least = [score(names)[-1] for names in progress(sets, "scoring other heads", len(sets))]
    whole, are_all = score(chosen)[-1], math.comb(len(every), count) == len(drawn)
    return [Control.of(RANDOM, whole, found, are_all), Control.of(NORM, whole, [least], every=True)]


def draws(every: Sequence[Name], count: int) -> list[list[Name]]:
    """Return different sets of so many heads, drawn with a fixed seed; all of them where there are few."""
    if math.comb(len(every), count) <= DRAWS:
        return [list(names) for names in combinations(every, count)]
    generator, found = np.random.default_rng(0), list[list[Name]]()
    while len(found) < DRAWS:
        drawn = [every[i] for i in sorted(generator.permutation(len(every))[:count])]
        if drawn not in found:
            found.append(drawn)
    return found


def weight_norms(model: Network) -> dict[Name, float]:
    """Return the norm of each head's weights: the root of the sum of squares in its value and output projections.

    Args:
        model: A model of Ultralytics.
    """
    found: dict[Name, float] = {}
    for block, attention in attentions(model).items():
        projection = attention.kv if isinstance(attention, CrossScaleMHA) else attention.qkv
        heads, output = attention.num_heads, attention.proj.weight.detach().float()  # (C, hd, 1, 1)
        values = projection.weight.detach().float()[-output.shape[1] :]  # (hd, C, 1, 1), behind queries and keys
        squares = values.square().view(heads, -1).sum(1) + output.square().view(len(output), heads, -1).sum((0, 2))
        found |= {(block, head): float(square) ** 0.5 for head, square in enumerate(squares)}
    return found


def _sentence(name: str, gained: WithInterval) -> str:
    if gained.low is None or gained.high is None:
        return f"It is not known whether removing the chosen heads costs less AP than removing {name}: too few images."
    ends = f"AP differs by {gained.value:+.4f}, 95 % interval {gained.low:+.4f} to {gained.high:+.4f}"
    if gained.low > 0:
        return f"Removing the chosen heads costs less AP than removing {name}: {ends}."
    if gained.high < 0:
        return f"Removing the chosen heads costs more AP than removing {name}: {ends}."
    return f"It is not shown that removing the chosen heads costs less AP than removing {name}: {ends}."
