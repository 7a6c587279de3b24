"""Proof that an exported model does what the trained one does: outputs at several shapes, and AP on data."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from ultralytics.data.augment import LetterBox
from ultralytics.nn.backends.base import BaseBackend
from ultralytics.utils import ASSETS
from ultralytics.utils.patches import imread

from ..data.dataset import Sample
from ..engine.model import YOLO
from ..engine.progress import with_bar
from ..scoring.val import score
from .agreement import TOLERANCES, Agreement, Tolerance, compare
from .export_settings import Plan
from .runtime import Array, Runtime
from .splits import Splits

DYNAMIC_BATCHES = (1, 3)
DYNAMIC_SIZES = ((320, 320), (480, 640))
ODD_PICTURE = (355, 641)  # height and width that no stride divides; what it is letterboxed to is proved
MOST_AP_LOST = {"fp32": 0.002, "fp16": 0.02, "int8": 0.02}
LEAST_AP = 0.001  # below this AP a model finds next to nothing
LEAST_AP_KEPT = 0.9  # share of the checkpoint's
MOST_CALIBRATION_IMAGES = 200

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
    """Say whether a model keeps its AP; None where there is next to none to keep.

    Args:
        before: AP of the checkpoint.
        after: AP of the exported model.
        precision: Key of `MOST_AP_LOST`.
    """
    if before < LEAST_AP:
        return None
    return before - after <= MOST_AP_LOST[precision] and after >= LEAST_AP_KEPT * before


def load_pictures(samples: list[Sample] | None) -> list[Picture]:
    """Return three pictures, BGR, the last one mirrored.

    Of a dataset, those with the most objects, because boxes of objects are compared; otherwise the two that Ultralytics
    ships.

    Args:
        samples: A split of the dataset, or None.
    """
    fullest = sorted(samples or [], key=lambda sample: len(sample.boxes), reverse=True)
    files = [sample.file for sample in fullest] or [ASSETS / "bus.jpg", ASSETS / "zidane.jpg"]
    first, second, third = (imread(str(files[i % len(files)])) for i in range(3))
    return [first, second, np.ascontiguousarray(third[:, ::-1])]


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
    pixels: Array = boxed[..., ::-1].transpose(2, 0, 1).astype(np.float32) / 255
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
        wide = LetterBox(trained, auto=True, stride=stride)(image=np.zeros((*ODD_PICTURE, 3), np.uint8))
        rounded = [(-(-h // stride) * stride, -(-w // stride) * stride) for h, w in DYNAMIC_SIZES]
        sizes = list(dict.fromkeys([*rounded, (wide.shape[0], wide.shape[1]), trained]))
    return [(batch, *size) for size in sizes for batch in batches]


def prove(file: Path, plan: Plan, pictures: list[Picture], tolerance: Tolerance, *, exact: bool) -> list[Agreement]:
    """Compare an exported model in its runtime with PyTorch, on the CPU; the largest batches show all pictures.

    Args:
        file: The exported model.
        plan: What it was made from, and how.
        pictures: Three pictures, BGR.
        tolerance: How far the two may differ.
        exact: See `Runtime`.

    Raises:
        RunError: The runtime cannot open the file.
    """
    exported = Runtime(file, exact=exact, trust=True)  # it was made just now
    reference = Runtime(_reference(file, plan))
    suppress = plan.suppression
    several = tuple(sorted({1, plan.batch})) if suppress else DYNAMIC_BATCHES  # suppression is traced for so many
    batches = several if plan.dynamic else (plan.batch,)
    where = shapes(plan.size, plan.stride, dynamic=plan.dynamic, batches=batches)
    shown = (_inputs(pictures, plan.channels, *shape, every=shape[0] == max(batches)) for shape in where)
    inputs = with_bar(shown, "comparing with PyTorch", len(where))
    return compare(exported, reference, inputs, tolerance, suppress, suppress.conf if suppress else 0.0)


def _reference(file: Path, plan: Plan) -> Any:
    """Return the PyTorch model with the head's way, without suppression or end to end, that the exporter chose."""
    network = deepcopy(plan.network.model)
    ends = False if plan.suppression else BaseBackend.read_metadata(file).get("end2end")
    if hasattr(network, "end2end") and ends is not None:
        setattr(network, "end2end", str(ends) == "True")  # noqa: B010  (a property, not a module)
    return network


def is_blind(file: Path, plan: Plan, pictures: list[Picture]) -> bool:
    """Say whether a model gives the same for each picture as for a black one, as many do that were never trained.

    What is proved of such a model is that its anchors and its decoding were exported, and little of its layers.

    Args:
        file: The exported model.
        plan: What it was made from, and how.
        pictures: As for `prove`.
    """
    reference, limits = Runtime(_reference(file, plan)), TOLERANCES["fp32"]
    shown = np.concatenate(_inputs(pictures, plan.channels, 1, *plan.size, every=True))
    black, *others = (reference(image[None]) for image in (np.zeros_like(shown[0]), *shown))
    apart = np.max([np.abs(other - black) for other in others], axis=(0, 1))  # (4 + classes, anchors), or (rows, 6)
    boxes, scores = (apart[:, :4], apart[:, 4]) if apart.shape[-1] == 6 else (apart[:4], apart[4:])
    return bool(boxes.max() <= limits.boxes and scores.max() <= limits.scores)


def score_both(checkpoint: str | Path, exported: Path, plan: Plan, splits: Splits, folder: Path) -> Scores:
    """Score the checkpoint and the exported model on the same letterboxed images, with the export's suppression.

    Args:
        checkpoint: The checkpoint.
        exported: The exported model.
        plan: How it was made; its images are square.
        splits: The dataset.
        folder: Where predictions and scores are written.
    """
    samples = splits.to_score(plan.split)
    settings: dict[str, Any] = {"imgsz": plan.size[0], "rect": False, "plots": False, "batch": 1}
    settings["project"] = str(folder)
    if plan.passed.get("device") is not None:
        settings["device"] = plan.passed["device"]
    if plan.suppression:
        settings |= asdict(plan.suppression)
    elif plan.passed.get("nms") is False:  # the head's way without suppression
        settings["nms"] = False
    found = []
    for file, trust in ((checkpoint, plan.network.trust), (exported, True)):  # which was made just now
        network = YOLO(file, trust=trust)
        metrics = score(network, splits.dataset, samples, plan.split, **settings).coco.metrics
        found.append({name: metrics[name] for name in ("AP", "AP50")})
    # AP is taken as OpenVINO runs, which may be in bf16
    judged = "fp16" if plan.format == "openvino" and plan.precision == "fp32" else plan.precision
    ok = keeps(found[0]["AP"], found[1]["AP"], judged)
    return Scores(str(splits.dataset.source), plan.split, plan.size[0], found[0], found[1], ok)


def calibration_images(samples: list[Sample], plan: Plan) -> Iterator[Array]:
    """Yield inputs, each one picture as often as the model takes it, evenly spaced over a split.

    Args:
        samples: The split.
        plan: What is calibrated.
    """
    batch = 1 if plan.dynamic else plan.batch
    count = min(MOST_CALIBRATION_IMAGES, len(samples))
    chosen = [samples[i * len(samples) // count] for i in range(count)]
    for sample in with_bar(chosen, "calibrating", count):
        yield np.repeat(to_input(imread(str(sample.file)), *plan.size, plan.channels)[None], batch, axis=0)


def _inputs(pictures: list[Picture], channels: int, batch: int, height: int, width: int, *, every: bool) -> list[Array]:
    """Return batches of shape (B, channels, H, W): one, or as many as show every picture."""
    count = -(-len(pictures) // batch) if every else 1
    shown = [to_input(picture, height, width, channels) for picture in pictures]
    return [np.stack([shown[(i * batch + j) % len(shown)] for j in range(batch)]) for i in range(count)]
