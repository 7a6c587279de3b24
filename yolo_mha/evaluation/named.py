"""The contrasts that a recipe names beside the primary one.

They are tested only where the primary contrast leaves zero out, and then together, by Holm (1979): with m of them the
clearest one has the probability of error 0.05 / m, the next one 0.05 / (m - 1), and so on until one does not leave zero
out. So a wrong "helps" or "hurts" among all of them has a probability of 0.05 at most; of "no difference that matters"
no more is said than that each was judged by the same, wider interval.

Source:
    Holm, S. (1979). A simple sequentially rejective multiple test procedure. Scandinavian Journal of Statistics 6,
    65-70.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import ConfigError, nearest
from ..scoring.metric import require_metric


@dataclass(frozen=True)
class Named:
    """A contrast.

    Attributes:
        arm: The one arm.
        against: The other, which is subtracted.
        metric: What is compared.
    """

    arm: str
    against: str
    metric: str = "AP"

    def __str__(self) -> str:
        return f"{self.arm} vs {self.against}" + (f": {self.metric}" if self.metric != "AP" else "")


def read_contrast(text: str, arms: Sequence[str]) -> Named:
    """Read a contrast as people write it, such as "attention vs control: AP[pool,lane]".

    Args:
        text: An arm, or two with "vs" between them, and maybe a colon and a metric; without "vs" it is against the
            baseline.
        arms: The arms, the baseline first.

    Raises:
        ConfigError: An arm or a metric has no such name.
    """
    pair, _, metric = text.partition(":")
    arm, _, against = (part.strip() for part in pair.partition(" vs "))
    found = Named(arm, against or arms[0], metric.strip() or "AP")
    for name in (found.arm, found.against):
        if name not in arms:
            raise ConfigError(f"No arm '{name}'.", given=f"contrasts: {text}", expected=nearest(name, arms))
    if found.arm == found.against:
        raise ConfigError("A contrast needs two arms.", given=f"contrasts: {text}", expected="attention vs control")
    require_metric(found.metric)
    return found


def holm(needed: Sequence[float]) -> list[float]:
    """Return the share of the probability of error with which each contrast is judged.

    Args:
        needed: The share that each would need to leave zero out, see `share_needed`.
    """
    order, shares, count = np.argsort(needed, kind="stable"), [0.0] * len(needed), len(needed)
    share = 1.0 / max(count, 1)
    for i, which in enumerate(order):
        if all(needed[other] <= shares[other] for other in order[:i]):
            share = 1.0 / (count - i)
        shares[which] = share
    return shares
