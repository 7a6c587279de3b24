"""Export to other runtimes, followed by a comparison with PyTorch."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import nn
from ultralytics.utils import LOGGER
from ultralytics.utils.checks import check_imgsz

from ..engine import settings as config
from ..engine.model import YOLO
from ..errors import ConfigError, DependencyError, run_failed
from ..registry import guarded
from .agreement import Agreement, compare_onnx

DYNAMIC_SHAPES = [(1, 320, 320), (1, 480, 640), (3, 320, 320)]


@dataclass(frozen=True)
class ExportResult:
    """An exported model and how far it was compared with PyTorch.

    Attributes:
        file: The exported model.
        format: Its format.
        agreement: Differences by input shape; empty where this format was not compared.
    """

    file: str
    format: str
    agreement: list[Agreement]

    @property
    def ok(self) -> bool:
        return all(a.ok for a in self.agreement)

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "ok": self.ok}


@guarded()
def export(
    model: str | Path | None = None,
    format: str = "onnx",
    *,
    trust: bool = False,
    **settings: Any,
) -> ExportResult:
    """Export a trained model, whole or not at all, beside its checkpoint; otherwise into the working directory.

    ONNX models in single precision are then run in ONNX Runtime and compared with PyTorch: with ``dynamic=True`` at
    320x320, 480x640 and a batch of 3, otherwise at the exported shape.

    Args:
        model: Checkpoint, or model YAML for an untrained one.
        format: Any format of Ultralytics: "onnx", "torchscript", "openvino", ...
        trust: Read the checkpoint with full pickle, for files that you made yourself.
        **settings: Ultralytics' export settings: ``imgsz``, ``dynamic``, ``opset``, ``simplify``, ``quantize``, ...

    Returns:
        The file and the differences.

    Raises:
        ConfigError: A setting is unknown or unusable.
        ModelError, CheckpointError: The model cannot be read.
        DependencyError: The runtime's package is missing.
        RunError: The export failed.
    """
    format = str(format).lower()
    passed = config.check({**settings, "format": format})
    if model is None:
        raise ConfigError("model is missing.", expected="model=path/to/best.pt", fix="see --help")
    network = YOLO(model, trust=trust)
    if not isinstance(network.model, nn.Module):
        raise ConfigError(
            "Only a PyTorch model can be exported.", given=f"model={model}", expected="a .pt or .yaml file"
        )
    if format == "onnx":
        missing = [p for p in ("onnx", "onnxruntime") if find_spec(p) is None]
        if missing:
            raise DependencyError(
                f"{' and '.join(missing)} not installed.", given="format=onnx", fix="pip install 'yolo-mha[export]'"
            )
    if find_spec("onnxslim") is None:
        passed.setdefault("simplify", False)
    checkpoint = Path(str(model))
    folder = checkpoint.parent if checkpoint.is_file() and checkpoint.suffix == ".pt" else Path.cwd()
    with tempfile.TemporaryDirectory(dir=folder, prefix=".export-") as aside:
        beside = str(Path(aside) / f"{checkpoint.stem}.pt")  # exporters write beside this path
        network.model.pt_path = beside  # type: ignore[assignment]
        try:
            with _without_hints(Path(aside).name):
                made = Path(network.export(**passed))
        except Exception as e:  # every exporter fails in its own way
            raise run_failed(f"The export to {format}", e) from e
        plain = format == "onnx" and not passed.get("nms") and passed.get("quantize") in (None, 32, "fp32")
        compared = plain and network.task == "detect"
        agreement = compare_onnx(made, network.model, _shapes(network, passed)) if compared else []
        file = folder / made.name
        if file.is_dir():
            shutil.rmtree(file)
        os.replace(made, file)
    return ExportResult(str(file), format, agreement)


@contextlib.contextmanager
def _without_hints(folder: str) -> Iterator[None]:
    """Drop Ultralytics' closing lines, which name the folder aside."""

    def keep(record: logging.LogRecord) -> bool:
        return folder not in record.getMessage()

    LOGGER.addFilter(keep)
    try:
        yield
    finally:
        LOGGER.removeFilter(keep)


def _shapes(network: YOLO, settings: dict[str, Any]) -> list[tuple[int, int, int]]:
    """Return the input shapes at which to compare: batch, height, width, rounded up to the model's stride."""
    size, stride = settings.get("imgsz") or network.model.args["imgsz"], int(network.model.stride.max())
    if not settings.get("dynamic"):
        height, width = check_imgsz(size, stride=stride, min_dim=2)
        return [(int(settings.get("batch", 1)), height, width)]
    return [(b, -(-h // stride) * stride, -(-w // stride) * stride) for b, h, w in DYNAMIC_SHAPES]
