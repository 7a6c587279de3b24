"""Precision-recall curves, as a picture and as a table."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ..data.files import whole_file
from ..fonts import legible
from ..text import cell, plotted_short
from .coco import RECALLS, CocoScores

MAX_NAMED_CLASSES = 10  # classes with a line and a name of their own
IOUS = np.linspace(0.5, 0.95, 10)


@legible()
def draw_pr_curves(scores: CocoScores, path: Path) -> Path:
    """Draw precision over recall for each class, and write all points as CSV beside the picture.

    The left panel is at IoU 0.5, the right one the mean over IoU 0.5 to 0.95; the area below a line of the right panel
    is the class's AP. With more than ten classes the lowest and the highest AP have names.

    Args:
        scores: From `coco.evaluate`.
        path: The picture; the table gets the same name with ``.csv``.
    """
    ranked = sorted(scores.precision, key=lambda name: -scores.per_class[name]["AP"])
    half = MAX_NAMED_CLASSES // 2
    named = set(ranked if len(ranked) <= MAX_NAMED_CLASSES else ranked[:half] + ranked[-half:])
    figure = Figure(figsize=(14, 4.2), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, title, metric in zip(panels, ("IoU 0.50", "mean over IoU 0.50 to 0.95"), ("AP50", "AP"), strict=True):
        for name in ranked:
            precision = scores.precision[name]
            line = precision[0] if metric == "AP50" else precision.mean(axis=0)
            value = f"{plotted_short(name)}  {scores.per_class[name][metric]:.3f}"
            style = {"label": value, "lw": 1.6} if name in named else {"color": "0.8", "lw": 0.8, "zorder": 1}
            axes.plot(RECALLS, line, **style)
        if ranked:
            mean = np.mean([scores.precision[n] for n in ranked], axis=0)  # (10, 101)
            line = mean[0] if metric == "AP50" else mean.mean(axis=0)
            axes.plot(RECALLS, line, color="black", lw=2.4, label=f"all  {scores.metrics[metric]:.3f}")
            axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
        axes.set(title=title, xlabel="recall", xlim=(0, 1), ylim=(0, 1.02))
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("precision")
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=130)
    with whole_file(path.with_suffix(".csv")) as temporary, temporary.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(["class", "iou", "recall", "precision"])
        for name, precision in scores.precision.items():
            for iou, row in zip(IOUS, precision, strict=True):
                writer.writerows(
                    [cell(name), f"{iou:.2f}", f"{r:.2f}", f"{p:.6f}"] for r, p in zip(RECALLS, row, strict=True)
                )
    return path
