"""Proof that an exported model does what the trained one does: outputs at several shapes, and AP on data."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn
from ultralytics.data.augment import LetterBox
from ultralytics.nn.backends.base import BaseBackend
from ultralytics.utils import ASSETS
from ultralytics.utils.patches import imread

from ..data.yolo import Dataset, read_split
from ..engine.progress import track
from ..scoring.val import val
from .agreement import TOLERANCES, Agreement, compare, suppressed
from .runtime import Array, Runtime

BATCHES = (1, 3)
SIZES = ((320, 320), (480, 640))
ODD = (641, 355)  # width and height of a picture that no stride divides; what it is letterboxed to is proved
AP_LOSS = 0.02  # how much AP an INT8 model may lose

Picture = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Scores:
    """AP of the trained and of the exported model on the same images, by pycocotools.

    Attributes:
        data: The dataset.
        split: Its split.
        imgsz: Image size, letterboxed to a square or to the exported height and width.
        trained: AP and AP50 of the checkpoint.
        exported: AP and AP50 of the exported model.
    """

    data: str
    split: str
    imgsz: Any
    trained: dict[str, float]
    exported: dict[str, float]

    @property
    def loss(self) -> float:
        return self.trained["AP"] - self.exported["AP"]


def load_pictures(dataset: Dataset | None, split: str = "val") -> list[Picture]:
    """Return three different pictures, BGR: of a dataset's split, or the two that Ultralytics ships and a mirrored one.

    Args:
        dataset: The dataset, or None.
        split: Its split.
    """
    if dataset is None:
        bus, people = (imread(str(ASSETS / name)) for name in ("bus.jpg", "zidane.jpg"))
        return [bus, people, np.ascontiguousarray(bus[:, ::-1])]
    samples = read_split(dataset, split)
    found = [imread(str(samples[i * len(samples) // 3].image)) for i in range(3)]
    return [*found[:2], np.ascontiguousarray(found[2][:, ::-1])]


def to_input(picture: Picture, height: int, width: int) -> Array:
    """Letterbox a BGR picture to an input of shape (3, height, width), RGB between 0 and 1."""
    boxed = LetterBox((height, width), auto=False)(image=picture)
    pixels: Array = boxed[..., ::-1].transpose(2, 0, 1).astype(np.float32)
    pixels /= 255
    return pixels


def shapes(trained: tuple[int, int], stride: int, *, dynamic: bool, batches: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Return the input shapes to prove a model at: batch, height, width.

    Args:
        trained: Height and width that it was exported for.
        stride: What heights and widths are multiples of; others are rounded up.
        dynamic: Whether it takes any height and width.
        batches: The batches that it takes.
    """
    sizes = [trained]
    if dynamic:
        wide = LetterBox(trained, auto=True, stride=stride)(image=np.zeros((ODD[1], ODD[0], 3), np.uint8))
        rounded = [(_up(h, stride), _up(w, stride)) for h, w in SIZES]
        sizes = list(dict.fromkeys([*rounded, (wide.shape[0], wide.shape[1]), trained]))
    return [(batch, *size) for size in sizes for batch in batches]


def prove(
    file: Path,
    network: nn.Module,
    pictures: list[Picture],
    where: list[tuple[int, ...]],
    precision: str,
    settings: dict[str, Any],
    *,
    exact: bool = False,
) -> list[Agreement]:
    """Compare an exported model in its runtime with PyTorch, on the CPU.

    Args:
        file: The exported model.
        network: The network that it was made from.
        pictures: Three pictures, BGR.
        where: Batch, height and width of each input, from `shapes`.
        precision: Key of `TOLERANCES`.
        settings: The export's ``nms``, ``conf``, ``iou``, ``max_det`` and ``agnostic_nms``.
        exact: See `Runtime`.

    Raises:
        RunError: The runtime cannot open the file.
    """
    exported = Runtime(file, exact=exact)
    ends = BaseBackend.read_metadata(file).get("end2end")
    network = deepcopy(network)
    suppress = None
    if settings.get("nms"):
        conf, iou = settings.get("conf") or 0.25, settings.get("iou") or 0.7
        suppress = suppressed(conf, iou, settings.get("max_det") or 300, bool(settings.get("agnostic_nms")))
        ends = False
    if hasattr(network, "end2end") and ends is not None:  # the exporter chose the head's way without NMS, or the other
        setattr(network, "end2end", str(ends) == "True")  # noqa: B010  (a property, not a module)
    reference = Runtime(network)
    inputs = track((_inputs(pictures, *shape) for shape in where), "comparing with PyTorch", len(where))
    return compare(exported, reference, inputs, TOLERANCES[precision], suppress)


def score(
    model: str | Path,
    exported: Path,
    dataset: Dataset,
    imgsz: tuple[int, int],
    settings: dict[str, Any],
    folder: Path,
    trust: bool,
) -> Scores:
    """Score the checkpoint and the exported model on the same letterboxed images.

    Args:
        model: The checkpoint.
        exported: The exported model.
        dataset: The dataset.
        imgsz: Height and width of the export.
        settings: ``split`` and ``device`` where they are given.
        folder: Where predictions and scores are written.
        trust: Read the checkpoint with full pickle.
    """
    split = settings.get("split") or "val"
    size = imgsz[0] if imgsz[0] == imgsz[1] else list(imgsz)
    wanted: dict[str, Any] = {k: v for k, v in settings.items() if k in ("split", "device") and v is not None}
    wanted |= {"imgsz": size, "rect": False, "plots": False, "batch": 1, "project": str(folder)}
    found = []
    for file in (model, exported):
        result = val(file, dataset.source, trust=trust, **wanted)
        found.append({name: result.coco.metrics[name] for name in ("AP", "AP50")})
    return Scores(str(dataset.source), split, size, *found)


def calibration_images(dataset: Dataset, count: int, height: int, width: int) -> Iterator[Array]:
    """Yield inputs of shape (1, 3, height, width) from a dataset's training images, evenly spaced.

    Args:
        dataset: The dataset.
        count: The most of them.
        height: Height of the input.
        width: Width of the input.
    """
    samples = read_split(dataset, "train", track)
    count = min(count, len(samples))
    chosen = [samples[i * len(samples) // count] for i in range(count)]
    for sample in track(chosen, "calibrating", count):
        yield to_input(imread(str(sample.image)), height, width)[None]


def _up(size: int, stride: int) -> int:
    return -(-size // stride) * stride


def _inputs(pictures: list[Picture], batch: int, height: int, width: int) -> Array:
    """Return a batch of different pictures of shape (B, 3, H, W)."""
    return np.stack([to_input(pictures[i % len(pictures)], height, width) for i in range(batch)])
