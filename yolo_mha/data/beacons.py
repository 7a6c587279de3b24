"""The embedded default dataset: shapes whose class is written somewhere else in the image.

Every image holds one coloured beacon and a few gray shapes. An amber beacon makes every shape of that image *day*, a
blue one makes it *night*; the shapes themselves look the same in both. The beacon is more than `MIN_DISTANCE` pixels
away from every shape, horizontally or vertically.

Why convolution fails here: a convolutional layer's output depends on the pixels of its receptive field alone. That of
the demo's detector is 111 pixels wide (127 with the control's convolution), 63 pixels to a side at most, so from a cell
inside a shape the beacon is out of sight whatever the weights are: the boxes can be found, the two classes only
guessed. One attention block relates every cell to every other and so carries the colour across. The task shows what
global context is for. It says nothing about natural images, where a backbone with stride 32 sees most of the image
already.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from .files import write_text

NAMES = ("day", "night", "beacon")
COLOURS = ((40, 170, 245), (235, 130, 40))  # BGR: amber for day, blue for night
EMBEDDED = "beacons"  # the name of this dataset in data=...
MIN_DISTANCE = 90
BEACON_RADIUS = 8


def draw(seed: int, index: int, size: int = 192) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Draw one image.

    Args:
        seed: Seed of the dataset.
        index: Number of the image; the same seed and index give the same image.
        size: Width and height in pixels, at least 160.

    Returns:
        The image, BGR of shape (size, size, 3), and its labels of shape (objects, 5): class, then the box's centre x,
        centre y, width and height as fractions of the size.
    """
    rng = np.random.default_rng([seed, index])
    coarse = rng.integers(70, 150, size=(6, 6), dtype=np.uint8)  # a background that says nothing about the class
    gray = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
    image = np.repeat(gray[:, :, None], 3, axis=2)
    day_or_night = int(rng.integers(2))
    beacon = np.array([_near_border(rng, size), _near_border(rng, size)])
    cv2.circle(image, beacon.tolist(), BEACON_RADIUS, COLOURS[day_or_night], -1, cv2.LINE_AA)
    boxes = [(2, *beacon, BEACON_RADIUS)]
    wanted = int(rng.integers(3, 8))
    for _ in range(200):
        if len(boxes) > wanted:
            break
        radius = int(rng.integers(6, 10))
        centre = rng.integers(radius + 2, size - radius - 2, size=2)
        far_from_beacon = np.abs(centre - beacon).max() > MIN_DISTANCE
        apart = all(np.abs(centre - np.array(b[1:3])).max() > radius + b[3] + 2 for b in boxes)
        if far_from_beacon and apart:
            _shape(rng, image, centre, radius)
            boxes.append((day_or_night, *centre, radius))
    labels = [(c, (x + 0.5) / size, (y + 0.5) / size, (2 * r + 1) / size, (2 * r + 1) / size) for c, x, y, r in boxes]
    return image, np.array(labels, dtype=np.float64)


def _near_border(rng: np.random.Generator, size: int) -> int:
    """Return a coordinate within 40 pixels of either border, so that there is space for shapes far from the beacon."""
    offset = int(rng.integers(BEACON_RADIUS + 2, 41))
    return offset if rng.integers(2) else size - 1 - offset


def _shape(rng: np.random.Generator, image: NDArray[np.uint8], centre: NDArray[np.int64], radius: int) -> None:
    """Draw a disc, a square or a triangle in a shade of gray that stands out."""
    shade = int(rng.choice([rng.integers(0, 40), rng.integers(190, 256)]))
    kind = int(rng.integers(3))
    x, y = int(centre[0]), int(centre[1])
    if kind == 0:
        cv2.circle(image, (x, y), radius, (shade,) * 3, -1, cv2.LINE_AA)
    elif kind == 1:
        cv2.rectangle(image, (x - radius, y - radius), (x + radius, y + radius), (shade,) * 3, -1)
    else:
        corners = np.array([(x - radius, y + radius), (x + radius, y + radius), (x, y - radius)], dtype=np.int32)
        cv2.fillPoly(image, [corners], (shade,) * 3, cv2.LINE_AA)


def generate(folder: str | Path, train: int = 600, val: int = 200, size: int = 192, seed: int = 0) -> Path:
    """Write the dataset in YOLO layout; a finished one of the same settings is left alone.

    Args:
        folder: Where it goes: ``images/{train,val}``, ``labels/{train,val}`` and ``data.yaml``.
        train: Number of training images.
        val: Number of validation images.
        size: Width and height of the images in pixels.
        seed: The same seed gives the same files.

    Returns:
        The path of ``data.yaml``, which is written last.
    """
    folder = Path(folder)
    settings = f"# beacons: train={train} val={val} size={size} seed={seed}\n"
    data_yaml = folder / "data.yaml"
    if data_yaml.is_file() and data_yaml.read_text(encoding="utf-8").startswith(settings):
        return data_yaml
    data_yaml.unlink(missing_ok=True)  # until all files are there again
    for split, first, count in (("train", 0, train), ("val", train, val)):
        images, labels = folder / "images" / split, folder / "labels" / split
        images.mkdir(parents=True, exist_ok=True)
        labels.mkdir(parents=True, exist_ok=True)
        for stale in (*images.glob("*.png"), *labels.glob("*.txt")):
            stale.unlink()
        digits = max(4, len(str(count)))
        for i in range(count):
            image, rows = draw(seed, first + i, size)
            cv2.imwrite(str(images / f"{i:0{digits}d}.png"), image)
            lines = [f"{int(c)} {x:.6f} {y:.6f} {w:.6f} {h:.6f}\n" for c, x, y, w, h in rows]
            (labels / f"{i:0{digits}d}.txt").write_text("".join(lines), encoding="utf-8")
    names = "".join(f"  {i}: {name}\n" for i, name in enumerate(NAMES))
    return write_text(data_yaml, f"{settings}train: images/train\nval: images/val\nnames:\n{names}")
