"""How fast models with fewer heads are, in PyTorch and in ONNX Runtime."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from ..data.progress import Progress, silent
from ..deploy.exporter import run_exporter
from ..deploy.runtime import Runtime
from ..deploy.worker import settle
from ..engine.model import YOLO
from ..engine.progress import without_messages
from ..errors import YoloMHAError, one_line
from ..profiling.cost import Latency, time_side_by_side


def in_pytorch(networks: Mapping[int, Any], imgsz: int) -> dict[int, Latency]:
    """Time models side by side on the CPU.

    Args:
        networks: By number of heads removed; the first is what the others are compared with.
        imgsz: Height and width in pixels.
    """
    return _timed({count: Runtime(network) for count, network in networks.items()}, networks, imgsz)


def in_onnx(
    networks: Mapping[int, Any], network: YOLO, imgsz: int, progress: Progress = silent
) -> tuple[dict[int, Latency], str | None]:
    """Export models to ONNX and time them side by side on the CPU; where that cannot be done, say why.

    Args:
        networks: As for `in_pytorch`.
        network: Has the exporter.
        imgsz: Height and width in pixels.
        progress: Shows progress.
    """
    if missing := [name for name in ("onnx", "onnxruntime") if not find_spec(name)]:
        return {}, f"No latency in ONNX Runtime: pip install 'yolo-mha[export]' brings {' and '.join(missing)}."
    model = network.model
    try:
        with tempfile.TemporaryDirectory(prefix="yolo-mha-prune-") as folder, without_messages():
            ready = {}
            for count in progress(list(networks), "exporting", len(networks)):
                network.model = networks[count]
                file = run_exporter(network, Path(folder) / f"{count}.pt", "onnx", imgsz=imgsz, device="cpu")
                ready[count] = Runtime(str(file))
            return _timed(ready, networks, imgsz), None
    except YoloMHAError as e:
        return {}, f"No latency in ONNX Runtime: {one_line(e)}"
    finally:
        network.model = model


def _timed(ready: Mapping[int, Runtime], networks: Mapping[int, Any], imgsz: int) -> dict[int, Latency]:
    channels = next(iter(networks.values())).yaml.get("channels", 3)
    images = np.random.default_rng(0).random((1, channels, imgsz, imgsz), dtype=np.float32)
    return time_side_by_side(ready, images, settle)
