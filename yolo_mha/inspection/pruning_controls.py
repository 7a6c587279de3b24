"""Whether heads were chosen well: as many at random, and those with the smallest weights, stand beside them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from ..data.progress import Progress, silent
from ..nn import CrossScaleMHA
from ..registry import Network
from ..surgery.heads import attentions
from .head_importance import Name, Scored, WithInterval
from .pruning_scores import SilencedScores

DRAWS = 5
RANDOM, NORM = "random heads", "heads of least weight norm"


@dataclass(frozen=True)
class Control:
    """What the same number of other heads would have cost.

    Attributes:
        name: "random heads", the mean of five draws, or "heads of least weight norm", see `weight_norms`.
        ap: AP without them, the mean over draws.
        aps: The same of each draw.
        gained: By how much AP without the chosen heads is higher, on the same images. The interval is over images,
            and for random heads over draws too.
        sentence: What follows.
    """

    name: str
    ap: float
    aps: list[float]
    gained: WithInterval
    sentence: str

    @classmethod
    def of(cls, name: str, chosen: Scored, others: list[Scored]) -> Control:
        """Compare the chosen heads with others."""
        gains = np.array([chosen.ap - other.ap for other in others])
        replicates = np.stack([chosen.replicates - other.replicates for other in others])
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
    drawn = [np.random.default_rng(draw).permutation(len(every))[:count] for draw in range(DRAWS)]
    sets = [[every[i] for i in indices] for indices in drawn]
    sets.append(sorted(every, key=lambda name: norms[name])[:count])
    found = [score(names)[-1] for names in progress(sets, "scoring other heads", len(sets))]
    whole = score(chosen)[-1]
    return [Control.of(RANDOM, whole, found[:DRAWS]), Control.of(NORM, whole, found[DRAWS:])]


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
        return f"It is not known whether the chosen heads go better than {name}: too few images for an interval."
    ends = f"AP {gained.value:+.4f}, 95 % interval {gained.low:+.4f} to {gained.high:+.4f}"
    if gained.low > 0:
        return f"The chosen heads go better than {name}: {ends}."
    if gained.high < 0:
        return f"The chosen heads go worse than {name}: {ends}."
    return f"It is not shown that the chosen heads go better than {name}: {ends}."
