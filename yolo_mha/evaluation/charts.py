"""The charts of a comparison's report, as SVG."""

from __future__ import annotations

import io
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from ..fonts import legible
from ..text import plotted_lines
from .comparison import Comparison
from .figures import heading

PALETTE = ("#4b5563", "#d1495b", "#2e86ab", "#edae49", "#5f9e6e", "#8a5a9e")  # the baseline is grey


def _colour(comparison: Comparison, arm: str) -> str:
    return PALETTE[list(comparison.arms).index(arm) % len(PALETTE)]


@legible()
def effects_chart(comparison: Comparison) -> bytes:
    """Draw the difference of every contrast with its interval, and that of every seed as a dot."""
    shown = [(c, interval) for c in comparison.contrasts if (interval := c.interval)]
    labels = [plotted_lines(str(c)) + ("" if c.role == "exploratory" else f" ({c.role})") for c, _ in reversed(shown)]
    lines = sum(max(1.0, 0.33 * (label.count("\n") + 1)) for label in labels)
    axes = _axes(height=1.1 + 0.55 * max(lines, 1))
    axes.axvspan(-comparison.recipe.margin, comparison.recipe.margin, color="0.93", zorder=0)
    axes.axvline(0, color="0.3", lw=1)
    for row, (contrast, interval) in enumerate(reversed(shown)):
        colour = _colour(comparison, contrast.arm)
        axes.plot([interval.low, interval.high], [row, row], color=colour, lw=3, solid_capstyle="round")
        axes.plot(interval.delta, row, "D", color=colour, markersize=7, markeredgecolor="white")
        dots = contrast.deltas
        axes.plot(dots, np.full(len(dots), row + 0.22), "o", color=colour, markersize=4, alpha=0.7)
    axes.set_yticks(range(len(shown)), labels)
    axes.set_ylim(-0.6, len(shown) - 0.4)
    line = heading(interval for _, interval in shown)
    axes.set_xlabel(f"difference; line: {line}\ndots: seeds; band: ± {comparison.recipe.margin:g}")
    axes.set_title("\u2190 the second arm is better", loc="left", fontsize=9, color="0.35")
    axes.set_title("the first arm is better \u2192", loc="right", fontsize=9, color="0.35")
    axes.locator_params(axis="x", nbins=7)
    axes.grid(axis="x", alpha=0.3)
    return _svg(axes)


@legible()
def curves_chart(comparison: Comparison) -> bytes:
    """Draw mAP over epochs: a thin line for every seed, a thick one for their mean."""
    axes = _axes()
    for arm in comparison.arms:
        curves = [run.curve for run in comparison.runs if run.arm == arm and run.curve]
        colour = _colour(comparison, arm)
        for curve in curves:
            axes.plot(range(1, len(curve) + 1), curve, color=colour, lw=0.8, alpha=0.45)
        if curves:
            length = min(map(len, curves))
            mean = np.mean([curve[:length] for curve in curves], axis=0)
            dots = "o" if length == 1 else ""
            axes.plot(range(1, length + 1), mean, color=colour, lw=2.2, marker=dots, label=plotted_lines(arm))
    axes.set(xlabel="epoch", ylabel="mAP50-95 (Ultralytics, during training)", ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return _svg(axes)


@legible()
def cost_chart(comparison: Comparison) -> bytes:
    """Draw AP of every arm, its seeds as small dots, against the latency of one image."""
    axes = _axes()
    for arm, result in comparison.arms.items():
        if result.cost is None:
            continue
        values = [run.metrics["AP"] for run in comparison.runs if run.arm == arm and run.metrics]
        x, colour = result.cost.latency_ms, _colour(comparison, arm)
        axes.plot(np.full(len(values), x), values, "o", color=colour, markersize=4, alpha=0.5)
        style = {"markersize": 9, "markeredgecolor": "white", "label": plotted_lines(arm)}
        axes.plot(x, result.metrics["AP"], "D", color=colour, **style)
    axes.set(xlabel="CPU latency, ms an image", ylabel="AP")
    axes.margins(0.15)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return _svg(axes)


def _axes(height: float = 3.6) -> Any:
    return Figure(figsize=(7, height), layout="constrained").subplots()


def _svg(axes: Any) -> bytes:
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "yolo-mha"}):  # the same chart is the same file
        axes.figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    return buffer.getvalue()
