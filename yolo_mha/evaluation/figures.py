"""Format the numbers of a comparison with enough decimals for the statements about them to be true."""

from __future__ import annotations

from collections.abc import Iterable

from ..profiling.cost import Cost
from ..scoring.intervals import ROUNDING, Interval, no_spread

DECIMALS, MOST_DECIMALS = 3, 12


def figure(value: float, margin: float = 0.0) -> str:
    """Write a difference with its sign, rounded to three decimals or as many as it takes.

    A rounded value must lie on the same side of zero, and of the margin on either side, as the value itself.

    Args:
        value: The difference.
        margin: The smallest difference that matters; 0 where none was chosen.
    """
    for decimals in range(DECIMALS, MOST_DECIMALS + 1):
        rounded = round(value, decimals)
        if all(_side(rounded, edge) == _side(value, edge) for edge in (-margin, 0.0, margin)):
            break
    return f"{rounded:+.{decimals}f}" if rounded else f"{0:.{decimals}f}"


def size(value: float, margin: float = 0.0) -> str:
    """Write a value without a sign, such as a standard deviation, likewise."""
    return figure(value, margin).lstrip("+")


def figures(interval: Interval, margin: float) -> tuple[str, str]:
    """Write a difference, and the ends of its interval."""
    delta, low, high = (figure(value, margin) for value in (interval.delta, interval.low, interval.high))
    return delta, "no interval" if no_spread(interval) else f"{low} to {high}"


def heading(intervals: Iterable[Interval | None]) -> str:
    """Return the heading of intervals: over images, or over seeds and images."""
    scopes = {interval.scope for interval in intervals if interval}
    if scopes == {"images"}:
        return "95 % interval, images only"
    return "95 % interval" + (", images only below 3 seeds" if "images" in scopes else "")


def ratio(cost: Cost) -> str:
    """Write how much slower than the baseline an arm is, with the range of that."""
    return f"{cost.latency_ratio:.2f}, {cost.ratio_range[0]:.2f} to {cost.ratio_range[1]:.2f}"


def _side(value: float, edge: float) -> int:
    return (value > edge + ROUNDING) - (value < edge - ROUNDING)
