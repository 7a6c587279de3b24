"""A model in the runtime of its format, called with arrays."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from ultralytics.nn.autobackend import AutoBackend

from ..engine.model import YOLO, existing
from ..errors import run_failed
from ..guard import guarded, replaced

Array = NDArray[np.float32]


class Runtime:
    """A network, a checkpoint or an exported model, opened as Ultralytics opens it for prediction.

    Args:
        model: A PyTorch network, or the path of a checkpoint or an exported model.
        device: "cpu", or a GPU as Ultralytics names it ("0").
        exact: Compute in single precision also where OpenVINO would by itself take bf16, on processors that have it.
        trust: Read a checkpoint with full pickle.

    Attributes:
        device: Where it runs: the CPU, where the runtime has no GPU.

    Raises:
        CheckpointError: The file is missing or broken.
        DependencyError, RunError: The runtime is not installed, or cannot open the file.
    """

    def __init__(
        self, model: str | Path | nn.Module, device: str = "cpu", *, exact: bool = False, trust: bool = False
    ) -> None:
        if not isinstance(model, nn.Module):
            opened = YOLO(existing(model), trust=trust).model
            model = opened if isinstance(opened, nn.Module) else str(model)
        self._device = torch.device(device if device == "cpu" else f"cuda:{device}")
        with guarded(trust), _openvino_in_f32() if exact else nullcontext():
            try:
                # a copy, because it is fused
                self._backend = AutoBackend(deepcopy(model), device=self._device, fuse=True, verbose=False).eval()
            except Exception as e:  # every runtime fails in its own way
                raise run_failed(f"Opening {model if isinstance(model, str) else 'the network'}", e) from e
        self.device = str(self._backend.device)

    def __call__(self, images: Array) -> Array:
        """Run the network.

        Args:
            images: RGB images between 0 and 1, of shape (B, 3, H, W).

        Returns:
            Its raw first output: (B, 4 + classes, anchors), or (B, detections, 6) where the model chooses them itself.
        """
        with torch.inference_mode():
            out = self._backend(torch.from_numpy(images).to(self._device))
        first = out[0] if isinstance(out, (list, tuple)) else out
        return np.asarray(first.cpu() if isinstance(first, torch.Tensor) else first)


@contextmanager
def _openvino_in_f32() -> Iterator[None]:
    """Let OpenVINO compile models for single precision."""
    from openvino import Core

    stock = Core.compile_model

    def compile_model(self: Any, model: Any, device_name: Any = None, config: Any = None, **kwargs: Any) -> Any:
        return stock(self, model, device_name, {**(config or {}), "INFERENCE_PRECISION_HINT": "f32"}, **kwargs)

    with replaced((Core, "compile_model", compile_model)):
        yield
