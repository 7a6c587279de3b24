"""Ultralytics' exporter, with its messages in order: what a format needs is one error, what misleads is left out."""

from __future__ import annotations

import ast
import logging
import re
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from ultralytics.utils import LOGGER

from ..engine.model import YOLO
from ..errors import ConfigError, DependencyError, one_line, run_failed
from ..guard import replaced


def run_exporter(network: YOLO, beside: Path, format: str, **settings: Any) -> Path:
    """Run Ultralytics' exporter.

    Args:
        network: The model.
        beside: Path of a checkpoint, which need not exist; the export lies beside it under its name.
        format: Format to export to.
        **settings: Ultralytics' export settings.

    Returns:
        The exported file or folder.

    Raises:
        ConfigError: The format needs a GPU, and there is none.
        DependencyError: A package is missing.
        RunError: The exporter failed.
    """
    if format == "engine" and not torch.cuda.is_available():
        raise ConfigError(
            "TensorRT engines are made by the GPU that will run them.",
            given=f"format={format}, and PyTorch sees no GPU",
            expected="a machine with an NVIDIA GPU",
            fix="export format=onnx here; TensorRT reads that on the other machine",
        )
    network.model.pt_path = str(beside)
    if find_spec("onnxslim") is None:
        settings = {"simplify": False, **settings}
    needs: list[str] = []  # packages that Ultralytics would have installed, ready for a shell

    def keep(record: logging.LogRecord) -> bool:
        """Drop lines that name the folder aside or say what our own errors say, and collect what is missing."""
        text = record.getMessage()
        if missing := re.search(r"Ultralytics requirements? (\[.*?'\]) not found", text):
            needs.extend(f"'{package}'" for package in ast.literal_eval(missing[1]))
        return not (missing or beside.parent.name in text or "export failure" in text or "in the cloud" in text)

    try:
        with replaced((LOGGER, "filters", [*LOGGER.filters, keep])), warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*might cause the trace to be incorrect")  # which is proved afterwards
            return Path(network.export(format=format, **settings))
    except ImportError as e:
        raise DependencyError(
            f"The export to {format} needs packages that are not installed.",
            given=one_line(e),
            fix=f"pip install {' '.join(needs)}" if needs else "install what is named",
        ) from e
    except Exception as e:  # every exporter fails in its own way
        raise run_failed(f"The export to {format}", e, beside.parent.parent.absolute()) from e
