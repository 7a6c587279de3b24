"""Pictures of where a detection looked: a sheet of all heads, and an overlay of the whole."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from ..engine.video import Image
from ..text import printable
from .explanation import Explained, Where
from .looking import Look, Placement
from .maps import DetectionMaps

COLUMNS = 8  # panels in a row
PANEL = 1.9  # width of a panel in inches
SPACE = (0.5, 0.5)  # between panels, to the side and below
MARGINS = (0.75, 0.4, 0.6)  # left, right, top
SHOWN_SIDE = 320  # pixels of the picture in a panel, at most
OPACITY = (0.3, 0.9)  # of a map, from its least to its greatest value
COLOURS = "inferno"
OWN, OTHER = "deepskyblue", "0.6"  # colours of the boxes
FAINTNESS = 0.6  # of the picture below a map, so that a white one does not hide the colours


def draw_sheet(picture: Image, look: Look, detection: int, maps: DetectionMaps, explained: Explained) -> bytes:
    """Draw where a detection looked: the picture, all heads together, then every head of every block.

    Args:
        picture: BGR, of shape (H, W, 3).
        look: The pass.
        detection: Index of the detection.
        maps: Where it looked.
        explained: The numbers that stand above the panels.

    Returns:
        A PNG file.
    """
    whole = [_if_any(maps.effect, explained.together), maps.attention]
    rows = [
        _Row("", [_title("all heads", explained.together), "all heads: attention"], whole, "", [*map(_most, whole)])
    ]
    for block, numbers in zip(maps.blocks, explained.layers, strict=True):
        if block.maps is None:
            continue
        effects = [_if_any(effect, head) for effect, head in zip(block.maps.effect, numbers.heads, strict=True)]
        for first in range(0, len(numbers.heads), COLUMNS):
            part = slice(first, first + COLUMNS)
            titles = [_title(f"head {head.head}", head) for head in numbers.heads[part]]
            scales = [max(map(_most, effects))] * len(titles)
            rows.append(_Row(f"row {numbers.layer}, effect", titles, effects[part], "effect, logits", scales))
            titles, attention = [f"head {head}" for head in block.heads[part]], list(block.maps.attention[part])
            scales = [_most(block.maps.attention)] * len(titles)
            rows.append(_Row(f"row {numbers.layer}, attention", titles, attention, "attention", scales))
    sheet = _Sheet(picture, look.placement, columns=max(3, *(len(row.titles) for row in rows)), rows=len(rows))
    title = f"where {printable(explained.name)} {explained.score:.2f} looked: {printable(Path(explained.source).name)}"
    sheet.figure.text(0.01, 1 - 0.06 / sheet.height, title, va="top", fontsize=10, parse_math=False)
    sheet.show_boxes(look.corners.tolist(), detection)
    for number, row in enumerate(rows):
        sheet.show(number, row)
    return sheet.png()


@dataclass(frozen=True)
class _Row:
    """Maps beside each other; a colour bar stands behind the last one of each scale."""

    label: str
    titles: list[str]
    maps: list[Tensor]
    unit: str
    scales: list[float]  # the greatest value of each colour scale


class _Sheet:
    """Panels in rows, all with the picture below their map; places are computed, which is quicker than a layout."""

    def __init__(self, picture: Image, placement: Placement, columns: int, rows: int) -> None:
        self.placement = placement
        self.panel = PANEL, PANEL * min(max(placement.height / placement.width, 0.4), 2.0)
        left, right, top = MARGINS
        self.width = left + columns * (self.panel[0] + SPACE[0]) + right
        self.height = top + rows * (self.panel[1] + SPACE[1])
        self.figure = Figure(figsize=(self.width, self.height))
        FigureCanvasAgg(self.figure)
        shown = rgb(picture)
        scale = min(SHOWN_SIDE / max(shown.shape[:2]), 1.0)
        height, width = (max(round(side * scale), 1) for side in shown.shape[:2])
        self.picture = cv2.resize(shown, (width, height), interpolation=cv2.INTER_AREA) if scale < 1 else shown
        grey = cv2.cvtColor(self.picture, cv2.COLOR_RGB2GRAY)[..., None]
        self.faint = (grey * FAINTNESS).astype(np.uint8).repeat(3, 2)

    def show_boxes(self, boxes: list[list[float]], detection: int) -> None:
        """Draw the picture with the detection in the first panel, and the other detections."""
        axes = self._panel(0, 0, "the detection (blue), others (grey)")
        axes.imshow(self.picture, extent=(0, self.placement.width, self.placement.height, 0))
        for i, (x1, y1, x2, y2) in enumerate(boxes):
            own = i == detection
            axes.add_patch(
                Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, color=OWN if own else OTHER, lw=1.8 if own else 0.7)
            )
        axes.set_xlabel("x, pixels", fontsize=7)
        axes.set_ylabel("y, pixels", fontsize=7)
        self.box = boxes[detection]

    def show(self, number: int, row: _Row) -> None:
        """Draw maps over the faint picture; in the first row, behind the picture itself."""
        left, top, right, bottom = self.placement.extent
        x1, y1, x2, y2 = self.box
        for i, (title, heat, scale) in enumerate(zip(row.titles, row.maps, row.scales, strict=True)):
            column = i + (number == 0)
            axes = self._panel(number, column, title)
            if column == 0:
                axes.set_ylabel(row.label, fontsize=8)
            axes.imshow(self.faint, extent=(0, self.placement.width, self.placement.height, 0))
            norm, values = Normalize(0, scale or 1.0), heat.cpu().numpy()
            alpha = np.interp(norm(values), (0, 1), OPACITY)
            axes.imshow(values, COLOURS, norm, alpha=alpha, extent=(left, right, bottom, top), interpolation="nearest")
            axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, color=OWN, lw=0.8))
            axes.set(xlim=(0, self.placement.width), ylim=(self.placement.height, 0))
            if row.scales[i + 1 : i + 2] != [scale]:
                self._colour_bar(number, column, norm, row.unit)

    def png(self) -> bytes:
        """Return the sheet as a PNG file."""
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format="png", dpi=100)
        return buffer.getvalue()

    def _panel(self, row: int, column: int, title: str) -> Any:
        axes = self.figure.add_axes(self._place(row, column))
        axes.set_title(title, fontsize=8, pad=3)
        axes.tick_params(labelsize=6, length=2, pad=1)
        axes.locator_params(nbins=4)
        if column and row:
            axes.set_yticklabels([])
        axes.set(xlim=(0, self.placement.width), ylim=(self.placement.height, 0))
        return axes

    def _place(self, row: int, column: int) -> tuple[float, float, float, float]:
        x = MARGINS[0] + column * (self.panel[0] + SPACE[0])
        y = self.height - MARGINS[2] - (row + 1) * self.panel[1] - row * SPACE[1]
        return x / self.width, y / self.height, self.panel[0] / self.width, self.panel[1] / self.height

    def _colour_bar(self, row: int, column: int, norm: Normalize, label: str) -> None:
        x, y, _, height = self._place(row, column)
        beside = self.figure.add_axes((x + (self.panel[0] + 0.06) / self.width, y, 0.07 / self.width, height))
        bar = self.figure.colorbar(ScalarMappable(norm, COLOURS), cax=beside)
        bar.ax.tick_params(labelsize=5, length=1.5, pad=1)
        bar.ax.ticklabel_format(axis="y", scilimits=(-2, 3))
        bar.ax.yaxis.offsetText.set_fontsize(5)
        bar.set_label(label, fontsize=7)


def overlay(picture: Image, placement: Placement, effect: Tensor) -> Image:
    """Lay a map over a picture, stronger where there is more of it.

    Args:
        picture: BGR, of shape (H, W, 3).
        placement: Where the picture is in the map.
        effect: Map over the network's input, of shape (H, W).

    Returns:
        BGR, of the size of the picture.
    """
    heat = effect.cpu().numpy().astype(np.float32)
    heat /= heat.max() or 1.0
    left, top, right, bottom = (int(v) for v in placement.content)
    heat = cv2.resize(heat, placement.size[::-1], interpolation=cv2.INTER_LINEAR)[top:bottom, left:right]
    heat = cv2.resize(heat, (placement.width, placement.height), interpolation=cv2.INTER_LINEAR)[..., None]
    colours = matplotlib.colormaps[COLOURS](heat[..., 0], bytes=True)[..., 2::-1].astype(np.float32)
    share = OPACITY[1] * np.sqrt(heat)
    mixed: Image = (rgb(picture)[..., ::-1] * (1 - share) + colours * share).astype(np.uint8)
    return mixed


def rgb(picture: Image) -> Image:
    """Return a picture of any number of channels as RGB: of more than three the first, grey of fewer."""
    picture = picture[..., None] if picture.ndim == 2 else picture
    shown = picture[..., 2::-1] if picture.shape[2] >= 3 else picture[..., :1].repeat(3, 2)
    copied: Image = shown.copy()  # with positive strides, which OpenCV needs
    return copied


def _most(heat: Tensor) -> float:
    return float(heat.max())


def _title(name: str, where: Where) -> str:
    return f"{name}: no effect" if where.no_effect else f"{name}: effect {where.effect:.2f}"


def _if_any(effect: Tensor, where: Where) -> Tensor:
    """Return a map of effects, empty where there is as good as none, because colours would make much of nothing."""
    return torch.zeros_like(effect) if where.no_effect else effect
