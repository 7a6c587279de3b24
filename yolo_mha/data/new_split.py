"""A split into train, val and test in which every class has its share everywhere."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, DataError

PARTS = ("train", "val", "test")


def check_ratios(ratios: object) -> tuple[float, ...]:
    """Return the shares of train, val and test, which together are 1.

    Args:
        ratios: Two or three numbers.

    Raises:
        ConfigError: They are anything else, or train or val gets nothing.
    """
    shares = tuple(ratios) if isinstance(ratios, (list, tuple)) else ()
    numbers = all(type(share) in (int, float) and 0 <= share < 1 for share in shares)
    if len(shares) not in (2, 3) or not numbers or abs(sum(shares) - 1) > 1e-6 or not min(shares[:2]) > 0:
        raise ConfigError(
            "ratios has an unusable value.",
            given=f"ratios={ratios}",
            expected="the shares of train, val and test, which sum to 1, such as 0.8,0.1,0.1 or 0.8,0.2",
        )
    return shares


def stratified(
    classes: Sequence[set[str]], groups: Sequence[Hashable], shares: Sequence[float], seed: int
) -> NDArray[np.int64]:
    """Deal images out to parts, so that each part gets its share of the images of every class.

    The method is iterative stratification (Sechidis, Tsoumakas and Vlahavas, On the Stratification of Multi-Label Data,
    2011): the images of the rarest class first, each to the part that lacks that class most. Images of one group stay
    together and are dealt out at once, larger groups before smaller ones. Background counts as a class.

    Args:
        classes: The classes of each image.
        groups: The group of each image.
        shares: The share of each part, all above 0.
        seed: Seed of the order among equals.

    Returns:
        The position of each image's part.

    Raises:
        DataError: There are fewer groups than parts.
    """
    units = {group: i for i, group in enumerate(dict.fromkeys(groups))}
    unit_of = np.array([units[group] for group in groups])
    if len(units) < len(shares):
        raise DataError(
            "There are too few images to split.",
            given=f"{len(classes)} images in {len(units)} groups that must stay together",
            expected=f"{len(shares)} groups or more",
            fix="add images, or give them a split yourself: folders train and val",
        )
    columns = {name: i for i, name in enumerate(sorted(set().union(*classes)))}
    counts = np.zeros((len(units), len(columns) + 2))  # the images of a unit: by class, of background, all
    for unit, names in zip(unit_of, classes, strict=True):
        counts[unit, [columns[name] for name in names] or [-2]] += 1
        counts[unit, -1] += 1
    wanted = np.outer(shares, counts.sum(axis=0))  # (parts, classes + 2)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(units))
    part_of = np.full(len(units), -1)
    while (part_of < 0).any():
        remaining = counts[part_of < 0, :-1].sum(axis=0)
        rarest = int(np.where(remaining > 0, remaining, np.inf).argmin())
        members = [u for u in order if part_of[u] < 0 and counts[u, rarest]]
        for unit in sorted(members, key=lambda u: -counts[u, -1]):
            lacking = zip(wanted[:, rarest], wanted[:, -1], rng.random(len(shares)), range(len(shares)), strict=True)
            part_of[unit] = max(lacking)[-1]
            wanted[part_of[unit]] -= counts[unit]
    for part in range(len(shares)):  # of few images a small share may be none
        if not (part_of == part).any():
            fullest = np.bincount(part_of, minlength=len(shares)).argmax()
            part_of[min(np.flatnonzero(part_of == fullest), key=lambda u: counts[u, -1])] = part
    result: NDArray[np.int64] = part_of[unit_of]
    return result
