"""Checks of the model alone: registration, heads, image sizes, export."""

from __future__ import annotations

import tempfile
from copy import deepcopy
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from packaging.version import Version
from ultralytics.data.augment import LetterBox

from ..deploy.export import export
from ..engine.checkpoint import check_checkpoint
from ..engine.model import YOLO
from ..errors import DependencyError, YoloMHAError, one_line
from ..nn import CrossScaleMHA, SpatialMHA
from ..profiling.blocks import tensors
from ..registry import ULTRALYTICS_TESTED, Network, block_class
from ..surgery.rows import blocks
from .check import Check, failed
from .step import Watch, located

MANY_PAIRS = 6400**2  # among all 80 x 80 positions: P3 of a 640-pixel image
ODD = (355, 641)  # height and width of an image that nothing divides
EXPORT_SIZE = 320


def check_registration(network: YOLO, trust: bool = False) -> Check:
    """Say which rows are blocks and where their classes come from, and open a checkpoint in restricted mode.

    Args:
        network: The model.
        trust: Whether its author opens checkpoints with full pickle, and so needs no restricted mode.
    """
    content = network.model.yaml
    rows = {i: str((content["backbone"] + content["head"])[i][2]) for i in blocks(content)}
    classes = {name: block_class(name) for name in rows.values()}
    details = {"rows": {i: f"{classes[n].__module__}.{n}" for i, n in rows.items()}}
    script = [name for name, c in classes.items() if c.__module__ == "__main__"]
    if script:
        message = f"{', '.join(script)} is defined in the script that runs, so checkpoints open in that script only."
        return Check("registration", "failed", message, "move the class into a module and import that", details)
    with tempfile.TemporaryDirectory(prefix="yolo-mha-doctor-") as folder:
        file = Path(folder) / "model.pt"
        network.save(file)
        try:
            check_checkpoint(file)
        except YoloMHAError as e:
            message = f"A checkpoint of this model will not open in restricted mode: {e.given}."
            fix = "register every class of the block: yolo_mha.register(MyBlock, parts=[...]), or pass trust=True"
            return Check("registration", "warning" if trust else "failed", message, fix, details)
    version = metadata.version("ultralytics")
    if Version(version) > Version(ULTRALYTICS_TESTED):
        message = f"Ultralytics {version} is newer than {ULTRALYTICS_TESTED}, the last version tested."
        fix = f"pip install 'ultralytics=={ULTRALYTICS_TESTED}' if anything looks odd"
        return Check("registration", "warning", message, fix, details)
    if not rows:
        message = "No attention block is in this model."
        return Check("registration", "warning", message, "name a model with blocks, unless you meant this one", details)
    named = ", ".join(f"{name} at row {i}" for i, name in rows.items())
    return Check("registration", "ok", f"{named}; checkpoints open in restricted mode.", None, details)


def check_heads(model: Network, imgsz: int) -> Check:
    """Say how many tokens, channels and heads each block has at this image size.

    Args:
        model: The model.
        imgsz: Height and width in pixels.
    """
    found = []
    for row, shapes in block_shapes(model, imgsz).items():
        _, channels, height, width = shapes[0]
        described = {"row": row, "stride": imgsz // height, "tokens": height * width, "channels": channels}
        for part in model.model[row].modules():
            if isinstance(part, (SpatialMHA, CrossScaleMHA)):
                pairs = part.pairs(*(size for shape in shapes for size in shape[2:]))
                described |= {"heads": part.num_heads, "head_dim": part.head_dim, "pairs": pairs}
        found.append(described)
    if not found:
        return Check("channels and heads", "skipped", "No attention block is in this model.")
    said = "; ".join(
        f"row {f['row']}: {f['channels']} channels"
        + (f" in {f['heads']} heads of {f['head_dim']}" if "heads" in f else "")
        + f", {f['tokens']} tokens at stride {f['stride']}"
        for f in found
    )
    worst = max(found, key=lambda f: f.get("pairs", 0))
    if worst.get("pairs", 0) >= MANY_PAIRS:
        message = (
            f"{said}; the {worst['tokens']} tokens of row {worst['row']} are in "
            f"{worst['pairs'] / 1e6:.0f} million pairs in every head."
        )
        fix = "give the block scope=window or kv_stride=4, put it at a larger stride, or lower imgsz"
        return Check("channels and heads", "warning", message, fix, {"blocks": found})
    return Check("channels and heads", "ok", f"{said}.", None, {"blocks": found})


def block_shapes(model: Network, imgsz: int) -> dict[int, list[torch.Size]]:
    """Return the shapes (1, C, H, W) of the maps that each block row reads, by row."""
    read: dict[int, Any] = {}
    model = deepcopy(model).float().eval()
    for row in blocks(model.yaml):
        model.model[row].register_forward_pre_hook(lambda _, inputs, row=row: read.update({row: inputs}))
    with torch.no_grad():
        model(_zeros(model, (imgsz, imgsz)))
    return {row: [t.shape for t in tensors(inputs)] for row, inputs in read.items()}


def check_sizes(model: Network, imgsz: int) -> Check:
    """Run square, rectangular and odd sizes, and test-time augmentation.

    Args:
        model: The model.
        imgsz: The longer side in pixels, a multiple of the model's stride.
    """
    model = deepcopy(model).float().eval()
    stride = int(model.stride.max())
    shorter = max(round(0.6 * imgsz / stride), 1) * stride
    letterboxed = LetterBox((imgsz, imgsz), auto=True, stride=stride)(image=np.zeros((*ODD, 3), np.uint8)).shape[:2]
    runs = {
        f"{imgsz}x{imgsz}": ((imgsz, imgsz), False),
        f"{shorter}x{imgsz} (rect)": ((shorter, imgsz), False),
        f"{imgsz}x{shorter} (rect)": ((imgsz, shorter), False),
        f"{letterboxed[0]}x{letterboxed[1]} (from {ODD[0]}x{ODD[1]})": (letterboxed, False),
        f"{imgsz}x{imgsz} with augment=True": ((imgsz, imgsz), True),
    }
    for said, (size, augment) in runs.items():
        watch = Watch(model)
        try:
            with watch, torch.no_grad():
                output = model(_zeros(model, size) + 0.5, augment=augment)
        except Exception as e:  # a block may fail in its own way at a size that it was not written for
            place = located(model, watch.inside[-1]) if watch.inside else "the model"
            message = f"Size {said} stops in {place}: {one_line(e)}."
            fix = "make the block take any height and width, or use rect=False and one imgsz throughout"
            return Check("image sizes", "failed", message, fix, {"size": said})
        if watch.fault:
            message = f"Size {said} turns to NaN or infinity in {watch.fault}."
            return Check("image sizes", "failed", message, "take weights without NaN", {"size": said})
        given = (output[0] if isinstance(output, (list, tuple)) else output).shape
        head: Any = model.model[-1]
        expected = (1, 4 + head.nc, sum(size[0] // int(s) * (size[1] // int(s)) for s in model.stride))  # with anchors
        if not augment and not getattr(head, "end2end", False) and tuple(given) != expected:
            message = f"Size {said} gives an output of shape {tuple(given)} instead of {expected}."
            return Check("image sizes", "failed", message, "make the block keep height and width", {"size": said})
    return Check("image sizes", "ok", f"Finite at {', '.join(runs)}.", None, {"sizes": list(runs)})


def check_export(network: YOLO, imgsz: int, trust: bool) -> Check:
    """Export to ONNX into a temporary folder and compare with PyTorch.

    Args:
        network: The model.
        imgsz: Height and width in pixels; at most `EXPORT_SIZE` is used.
        trust: See `YOLO`.
    """
    with tempfile.TemporaryDirectory(prefix="yolo-mha-doctor-") as folder:
        file = Path(folder) / "model.pt"
        network.save(file)
        try:
            result = export(file, "onnx", trust=trust, imgsz=min(imgsz, EXPORT_SIZE), device="cpu", verbose=False)
        except DependencyError as e:
            return Check("export", "skipped", e.problem, e.fix)
        except YoloMHAError as e:
            return failed("export", e)
    compared = result.agreement[0]
    details = {"boxes_px": compared.boxes, "scores": compared.scores, "imgsz": compared.height}
    if not result.ok:
        message = (
            f"ONNX Runtime differs from PyTorch by {_said(compared.boxes)} px and {_said(compared.scores)} in scores."
        )
        fix = "see which row differs: export with simplify=False, and write the block with traceable operations only"
        return Check("export", "failed", message, fix, details)
    return Check("export", "ok", f"ONNX agrees with PyTorch within {_said(compared.boxes)} px.", None, details)


def _said(value: float | None) -> str:
    return "another shape" if value is None else f"{value:.1g}"


def _zeros(model: Network, size: tuple[int, int]) -> torch.Tensor:
    return torch.zeros(1, model.yaml.get("channels", 3), *size, device=next(model.parameters()).device)
