"""A picture of how important the heads of a model are, and how alike."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from ..data.files import whole_file
from .head_importance import Likeness
from .silenced_scores import WithInterval

if TYPE_CHECKING:
    from .heads import Head

BAR = 0.25  # height of a head's bar in inches
MATRIX = 2.6  # side of a block's matrix in inches
COLOURS = "RdBu_r"


def draw_heads(heads: Sequence[Head], blocks: Sequence[Likeness], path: Path) -> None:
    """Draw both measures of each head with their intervals, and the correlations of each block's maps.

    Args:
        heads: From the top to the bottom.
        blocks: Those with several heads get a matrix.
        path: The picture.
    """
    several = [block for block in blocks if len(block.correlation) > 1]
    bars = max(BAR * len(heads), 1.0) + 1.2
    columns = max(len(several), 2)
    figure = Figure(figsize=(max(MATRIX * columns, 9.0), bars + (MATRIX + 0.6) * bool(several)), layout="constrained")
    heights = [bars, MATRIX + 0.6][: 1 + bool(several)]
    parts: Any = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)
    left, right = parts[0, 0].subplots(1, 2, sharey=True)
    names = [f"{head.layer}:{head.head}" for head in heads]
    _bars(left, names, [head.ap_lost for head in heads], "AP lost when silenced")
    _bars(right, names, [head.gradient for head in heads], "gradient of the loss by its gate")
    left.set_ylabel("row:head")
    if several:
        every = parts[1, 0].subplots(1, len(several), squeeze=False)[0]
        for axes, block in zip(every, several, strict=True):
            axes.set_title(f"row {block.layer}: correlation of maps", fontsize=9)
            shown = axes.imshow(block.correlation, COLOURS, vmin=-1, vmax=1)
            axes.set(xticks=range(len(block.correlation)), yticks=range(len(block.correlation)))
            axes.set_xlabel("head")
        parts[1, 0].colorbar(shown, ax=list(every))
    with whole_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)


def _bars(axes: Any, names: list[str], values: Sequence[WithInterval], label: str) -> None:
    axes.barh(names, [v.value for v in values], color="steelblue")
    for i, v in enumerate(values):
        if v.low is not None:
            axes.plot([v.low, v.high], [i, i], color="black", lw=1)
    axes.axvline(0, color="0.3", lw=0.8)
    interval = ", 95 % interval over images" if values[0].low is not None else ""
    axes.set_xlabel(f"{label}{interval}", fontsize=9)
    if not axes.yaxis_inverted():
        axes.invert_yaxis()
