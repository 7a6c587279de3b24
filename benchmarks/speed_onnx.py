"""Blocks and networks in ONNX Runtime, for `benchmark.py`."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from speed_peers import BASELINE, MAPS, Map, Run

import yolo_mha

DECOMPOSED, FUSED = "as exported", "fuse_attention"
FUSED_P4 = "mha-p4p5, fuse_attention"
BLOCK_MAPS = tuple(m for m in MAPS if m.tokens <= 6400)


def missing() -> str:
    """Say why nothing can run in ONNX Runtime, or return nothing."""
    try:
        import onnx
        import onnxruntime

        del onnx, onnxruntime
    except ImportError as e:
        return f"skipped: {e.name} is not installed"
    return ""


def runner(model: bytes | str, image: np.ndarray, threads: int) -> Run:
    """Open a model, and return its pass over one input.

    Args:
        model: The ONNX model or its file.
        image: The input of shape (B, C, H, W).
        threads: Of ONNX Runtime.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.force_spinning_stop", "1")  # or idle sessions take the others' cores
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda: session.run(None, {name: image})


def block(m: Map) -> tuple[bytes, bytes]:
    """Return the block of the shipped models on a map as an ONNX model, as exported and with fused attention."""
    import onnx

    from yolo_mha.deploy.fuse_attention import fuse_attention

    network = yolo_mha.SpatialMHABlock(m.channels, m.heads).eval()
    network.fuse()
    written = io.BytesIO()
    torch.onnx.export(
        network,
        (m.tensor(1, "cpu"),),
        written,
        dynamo=False,
        opset_version=18,
        input_names=["x"],
        dynamic_axes={"x": {0: "batch", 2: "height", 3: "width"}},
    )
    fused = onnx.load_from_string(written.getvalue())
    fuse_attention(fused, m.side, m.side)
    return written.getvalue(), fused.SerializeToString()


def networks(family: str, variants: tuple[str, ...], imgsz: int, threads: int) -> dict[str, Run | str]:
    """Export the networks of a family for any size, and return their passes at one; the baseline's twice, first.

    Args:
        family: Ultralytics' own model with its scale letter.
        variants: Names of the shipped models with attention, behind the family's.
        imgsz: Height and width in pixels.
        threads: Of ONNX Runtime.
    """
    image = np.random.default_rng(0).random((1, 3, imgsz, imgsz), np.float32)
    yamls = {BASELINE: family, f"{BASELINE} again (A/A)": family, **{v: f"{family}-{v}" for v in variants}}
    passes: dict[str, Run | str] = {}
    with tempfile.TemporaryDirectory() as folder, _silent():
        for name, yaml in yamls.items():
            checkpoint = Path(folder) / "network.pt"
            yolo_mha.YOLO(f"{yaml}.yaml").save(checkpoint)
            passes[name] = runner(yolo_mha.export(checkpoint, dynamic=True).file, image, threads)
            if name == "mha-p4p5":
                fused = yolo_mha.export(checkpoint, dynamic=True, fuse_attention=True).file
                passes[FUSED_P4] = runner(fused, image, threads)
    return passes


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keep the exporter's lines and bars off the screen."""
    from ultralytics.utils import LOGGER

    from yolo_mha.engine.progress import console

    level, quiet = LOGGER.level, console.quiet
    LOGGER.setLevel("ERROR")
    console.quiet = True
    try:
        with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
            yield
    finally:
        LOGGER.setLevel(level)
        console.quiet = quiet
