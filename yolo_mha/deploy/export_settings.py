"""Settings of an export that do not go together are refused before the work."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from ultralytics.cfg import get_cfg

from ..errors import ConfigError, DependencyError
from .export_result import PROVED

PRECISIONS = {None: "fp32", 32: "fp32", 16: "fp16", 8: "int8"}
OPSETS = range(17, 21)


def choose_precision(
    passed: Mapping[str, Any], format: str, data: object, *, half: bool, int8: bool, fuse_attention: bool
) -> str:
    """Return the precision of an export, after making sure that its settings go together.

    Args:
        passed: Checked settings of Ultralytics.
        format: Format to export to.
        data: The dataset, or None.
        half: Whether half precision was asked for.
        int8: Whether INT8 was asked for.
        fuse_attention: Whether fused attention was asked for.

    Returns:
        "fp32", "fp16", "int8", or another of Ultralytics' schemes.

    Raises:
        ConfigError: They do not go together.
    """
    for key, value in (("half", half), ("int8", int8), ("fuse_attention", fuse_attention)):
        if not isinstance(value, bool):
            raise ConfigError(f"{key} is a yes or no.", given=f"{key}={value!r}", expected=f"{key}=True or {key}=False")
    quantize = get_cfg(overrides={"quantize": passed.get("quantize")}).quantize  # its aliases have one form there
    if half + int8 + (quantize is not None) > 1:
        raise ConfigError(
            "A model has one precision.",
            given=f"half={half} int8={int8} quantize={passed.get('quantize')}",
            expected="one of half=True, int8=True and quantize=",
        )
    precision = PRECISIONS.get(16 if half else 8 if int8 else quantize, str(quantize))
    if (int8 or fuse_attention) and format != "onnx":
        raise ConfigError(
            "INT8 that leaves attention in floating point, and fused attention, are made for ONNX.",
            given=f"format={format} {'int8' if int8 else 'fuse_attention'}=True",
            expected="format=onnx",
            fix="quantize=8 hands the whole model to Ultralytics' own quantization of that format" if int8 else None,
        )
    if precision == "int8" and data is None:
        raise ConfigError(
            "INT8 needs pictures to measure the ranges of activations with, and to be judged by its AP.",
            given="data is missing",
            expected="data=my.yaml, the dataset that the model was trained on",
        )
    if format == "onnx" and passed.get("opset") is not None and passed["opset"] not in OPSETS:
        raise ConfigError(
            "This opset was not tested.",
            given=f"opset={passed['opset']}",
            expected=f"{OPSETS[0]} to {OPSETS[-1]}, or none for the newest that suits PyTorch",
        )
    return precision


def require_packages(format: str) -> None:
    """Make sure that a format can be made and proved.

    Args:
        format: Format to export to.

    Raises:
        DependencyError: A package is missing.
    """
    missing = [package for package in PROVED.get(format, ()) if find_spec(package) is None]
    if missing:
        extra = "openvino" if format == "openvino" else "export"
        raise DependencyError(
            f"{' and '.join(missing)} not installed.", given=f"format={format}", fix=f"pip install 'yolo-mha[{extra}]'"
        )
