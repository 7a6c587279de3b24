"""Proof that an exported model does what the trained one does: outputs at several shapes, and AP on data."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from torch import nn
from ultralytics.data.augment import LetterBox
from ultralytics.nn.backends.base import BaseBackend
from ultralytics.utils import ASSETS
from ultralytics.utils.patches import imread

from ..data.dataset import Dataset, Sample, read_split
from ..engine.progress import with_bar
from ..scoring.val import val
from .agreement import TOLERANCES, Agreement, compare, suppressed
from .runtime import Array, Runtime

BATCHES = (1, 3)
SIZES = ((320, 320), (480, 640))
ODD = (641, 355)  # width and height of a picture that no stride divides; what it is letterboxed to is proved
AP_LOSS = {"fp32": 0.002, "fp16": 0.02, "int8": 0.02}  # how much AP a model may lose
CALIBRATION = 200  # images
LEAST_SHARE = 0.9  # of its AP that it has to keep

Picture = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Scores:
    """AP of the trained and of the exported model on the same images, by pycocotools.

    Attributes:
        data: The dataset.
        split: Its split.
        imgsz: Height and width that all images were letterboxed to.
        trained: AP and AP50 of the checkpoint.
        exported: AP and AP50 of the exported model.
        ok: Whether the exported model keeps its AP; None where the checkpoint has none to keep.
    """

    data: str
    split: str
    imgsz: int
    trained: dict[str, float]
    exported: dict[str, float]
    ok: bool | None


def keeps(before: float, after: float, precision: str) -> bool | None:
    """Say whether a model keeps its AP; None where there is none to keep.

    Args:
        before: AP of the checkpoint.
        after: AP of the exported model.
        precision: Key of `AP_LOSS`.
    """
    if before <= 0:
        return None
    return before - after <= AP_LOSS[precision] and after >= LEAST_SHARE * before


def load_pictures(dataset: Dataset | None, split: str = "val") -> list[Picture]:
    """Return three pictures, BGR, the last one mirrored.

    Of a dataset, those with the most objects, because boxes of objects are compared; otherwise the two that Ultralytics
    ships.

    Args:
        dataset: The dataset, or None.
        split: Its split.
    """
    if dataset is None:
        bus, people = (imread(str(ASSETS / name)) for name in ("bus.jpg", "zidane.jpg"))
        return [bus, people, np.ascontiguousarray(bus[:, ::-1])]
    samples = sorted(read_split(dataset, split), key=lambda sample: len(sample.boxes), reverse=True)
    found = [imread(str(samples[i % len(samples)].image)) for i in range(3)]
    return [*found[:2], np.ascontiguousarray(found[2][:, ::-1])]


def to_input(picture: Picture, height: int, width: int, channels: int = 3) -> Array:
    """Letterbox a BGR picture to an input of shape (channels, height, width), RGB between 0 and 1.

    Args:
        picture: Of shape (H, W, 3).
        height: Height of the input.
        width: Width of the input.
        channels: 3; 1 for gray; a model of more bands gets these three again and again.
    """
    boxed = LetterBox((height, width), auto=False)(image=picture)
    if channels == 1:
        boxed = cv2.cvtColor(boxed, cv2.COLOR_BGR2GRAY)[..., None]
    elif channels != 3:
        boxed = boxed[..., [i % 3 for i in range(channels)]]
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
    """Compare an exported model in its runtime with PyTorch, on the CPU; the largest batches show all pictures.

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
    conf = 0.0
    if settings.get("nms"):
        inside = suppression(settings)
        conf, suppress, ends = inside["conf"], suppressed(**inside), False
    if hasattr(network, "end2end") and ends is not None:  # the exporter chose the head's way without NMS, or the other
        setattr(network, "end2end", str(ends) == "True")  # noqa: B010  (a property, not a module)
    reference = Runtime(network)
    channels = int(getattr(network, "yaml", {}).get("channels", 3))
    most = max(batch for batch, *_ in where)
    batches = (_inputs(pictures, channels, *shape, every=shape[0] == most) for shape in where)
    inputs = with_bar(batches, "comparing with PyTorch", len(where))
    return compare(exported, reference, inputs, TOLERANCES[precision], suppress, conf)


def suppression(settings: dict[str, Any]) -> dict[str, Any]:
    """Return what an export with ``nms=True`` suppresses with; Ultralytics' defaults where nothing is given."""
    given = {"conf": 0.25, "iou": 0.7, "max_det": 300}
    given = {key: default if settings.get(key) is None else settings[key] for key, default in given.items()}
    return {**given, "agnostic_nms": bool(settings.get("agnostic_nms"))}


def score(
    model: str | Path,
    exported: Path,
    dataset: Dataset,
    imgsz: int,
    settings: dict[str, Any],
    precision: str,
    folder: Path,
    trust: bool,
) -> Scores:
    """Score the checkpoint and the exported model on the same letterboxed images, with the export's suppression.

    Args:
        model: The checkpoint.
        exported: The exported model.
        dataset: The dataset.
        imgsz: Height and width of the images.
        settings: The export's.
        precision: Key of `AP_LOSS`.
        folder: Where predictions and scores are written.
        trust: Read the checkpoint with full pickle.
    """
    wanted: dict[str, Any] = {key: settings[key] for key in ("split", "device") if settings.get(key) is not None}
    wanted |= {"imgsz": imgsz, "rect": False, "plots": False, "batch": 1, "project": str(folder)}
    if settings.get("nms"):
        wanted |= suppression(settings)
    elif settings.get("nms") is False:  # the head's way without suppression
        wanted["nms"] = False
    found = []
    for file in (model, exported):
        result = val(file, dataset.source, trust=trust, **wanted)
        found.append({name: result.coco.metrics[name] for name in ("AP", "AP50")})
    trained, made = found
    ok = keeps(trained["AP"], made["AP"], precision)
    return Scores(str(dataset.source), wanted.get("split", "val"), imgsz, trained, made, ok)


def calibration_images(samples: list[Sample], height: int, width: int, channels: int, batch: int) -> Iterator[Array]:
    """Yield inputs of shape (batch, channels, height, width), each one picture, evenly spaced over a split.

    Args:
        samples: The split.
        height: Height of the input.
        width: Width of the input.
        channels: 3, or 1 for gray.
        batch: How often a picture is repeated, for a model that takes so many.
    """
    count = min(CALIBRATION, len(samples))
    chosen = [samples[i * len(samples) // count] for i in range(count)]
    for sample in with_bar(chosen, "calibrating", count):
        yield np.repeat(to_input(imread(str(sample.image)), height, width, channels)[None], batch, axis=0)


def _up(size: int, stride: int) -> int:
    return -(-size // stride) * stride


def _inputs(pictures: list[Picture], channels: int, batch: int, height: int, width: int, *, every: bool) -> list[Array]:
    """Return batches of shape (B, channels, H, W): one, or as many as show every picture."""
    count = -(-len(pictures) // batch) if every else 1
    shown = [to_input(picture, height, width, channels) for picture in pictures]
    return [np.stack([shown[(i * batch + j) % len(shown)] for j in range(batch)]) for i in range(count)]
