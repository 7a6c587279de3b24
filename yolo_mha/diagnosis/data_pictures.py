"""Pictures of a dataset: a sheet of images with their labels, and histograms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from ultralytics.utils.plotting import Annotator, colors

from ..data.files import whole_file
from ..data.readers.look import Look
from ..data.readers.record import Record
from ..engine.pictures import read_picture
from ..fonts import legible
from ..text import plotted_short, printable

COLUMNS, ROWS, TILE = 4, 4, 400  # of the sheet; the width and height of a tile in pixels
MOST_CLASSES = 30  # with a bar of their own


def draw_sheet(records: Sequence[Record], names: Sequence[str], path: Path, seed: int) -> Path:
    """Draw images with their labels, those first that add a class which is not on the sheet yet.

    Args:
        records: The images.
        names: Class names.
        path: The picture.
        seed: Seed of the choice.
    """
    order = np.random.default_rng(seed).permutation(len(records))
    shown: dict[int, None] = {}
    seen: set[str] = set()
    for i in order:
        new = {o.name for o in records[i].objects} - seen
        if new and len(shown) < COLUMNS * ROWS:
            shown[int(i)] = None
            seen |= new
    rest = sorted((int(i) for i in order if int(i) not in shown), key=lambda i: not records[i].objects)
    chosen = [*shown, *rest][: COLUMNS * ROWS]
    columns = min(COLUMNS, len(chosen))
    sheet = np.full((-(-len(chosen) // columns) * TILE, columns * TILE, 3), 255, np.uint8)
    index = {name: i for i, name in enumerate(names)}
    for place, i in enumerate(chosen):
        top, left = place // columns * TILE, place % columns * TILE
        tile = _tile(records[i], index)
        sheet[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    with whole_file(path) as temporary:
        cv2.imwrite(str(temporary), sheet)
    return path


def _tile(record: Record, index: Mapping[str, int]) -> np.ndarray:
    image = read_picture(str(record.image))
    if image is None:  # in a format that only some versions of OpenCV read
        return np.full((TILE, TILE, 3), 200, np.uint8)
    scale = (TILE - 4) / max(image.shape[:2])
    height, width = (max(round(side * scale), 1) for side in image.shape[:2])
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    annotator = Annotator(np.ascontiguousarray(small), line_width=1, example="".join(index))
    for o in record.objects:
        x, y, w, h = (v * scale for v in o.bbox)
        annotator.box_label((x, y, x + w, y + h), printable(o.name), color=colors(index[o.name], True))
    drawn: np.ndarray = annotator.result()[: TILE - 2, : TILE - 2]
    return drawn


@legible()
def draw_histograms(records: Sequence[Record], names: Sequence[str], looks: Mapping[Path, Look], path: Path) -> Path:
    """Draw objects by class, objects by image, sizes of boxes and sizes of images.

    Args:
        records: The images.
        names: Class names.
        looks: Sizes of the images.
        path: The picture.
    """
    figure = Figure(figsize=(12, 8))
    figure.subplots_adjust(left=0.17, right=0.97, top=0.95, bottom=0.07, hspace=0.3, wspace=0.2)
    (by_class, by_image), (boxes, images) = figure.subplots(2, 2)
    counts = Counter(o.name for r in records for o in r.objects)
    shown = names if len(names) <= MOST_CLASSES else [name for name, _ in counts.most_common(MOST_CLASSES)]
    by_class.barh(range(len(shown)), [counts[name] for name in shown])
    by_class.set_yticks(range(len(shown)), [plotted_short(name) for name in shown])
    by_class.invert_yaxis()
    by_class.tick_params(axis="y", labelsize=8)
    more = f", the {MOST_CLASSES} most frequent of {len(names)}" if len(names) > len(shown) else ""
    by_class.set(xlabel="objects", title=f"objects by class{more}")
    by_image.hist([len(r.objects) for r in records], bins=30)
    by_image.set(xlabel="objects in an image", ylabel="images", title="objects by image")
    sides = [(o.bbox[2] * o.bbox[3]) ** 0.5 for r in records for o in r.objects if min(o.bbox[2:]) > 0]
    if sides:
        boxes.hist(sides, bins=np.geomspace(min(sides), max(sides) * 1.001, 40))
        boxes.set_xscale("log")
    boxes.set(xlabel="square root of the area, pixels", ylabel="boxes", title="sizes of boxes")
    sizes = Counter((looks[r.image].width, looks[r.image].height) for r in records)
    images.scatter(*zip(*sizes, strict=True), s=[10 + 3 * n**0.5 for n in sizes.values()], alpha=0.5)
    images.set(xlabel="width, pixels", ylabel="height, pixels", title=f"sizes of images, {len(sizes)} different")
    for axes in (by_class.xaxis, by_image.yaxis, boxes.yaxis, images.xaxis):
        axes.set_major_locator(MaxNLocator(integer=True, nbins=6))
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=110)
    return path
