"""What an export is to be; settings that do not go together are refused before the work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from importlib.util import find_spec
from typing import Any

from torch import cuda
from ultralytics.cfg import get_cfg
from ultralytics.engine.exporter import FP16_FORMATS, FP32_UNSUPPORTED_FORMATS
from ultralytics.utils.checks import check_imgsz

from ..engine.model import YOLO
from ..errors import ConfigError, DependencyError
from .agreement import Suppression

# And the packages that they need
PROVED_FORMATS = {"torchscript": (), "onnx": ("onnx", "onnxruntime"), "openvino": ("openvino",)}
PRECISIONS = {None: "fp32", 32: "fp32", 16: "fp16", 8: "int8"}
PROVED_OPSETS = range(17, 21)
SUPPRESSION_SETTINGS = ("conf", "iou", "agnostic_nms")
INT8_ONLY = FP32_UNSUPPORTED_FORMATS - FP16_FORMATS


class Plan:
    """What is exported, and how.

    Args:
        network: The model.
        precision: From `choose_precision`.
        passed: Checked settings of Ultralytics, ``format`` among them.

    Attributes:
        format: Format to export to.
        dynamic: Whether the export takes any size and batch.
        batch: How many images it takes, where it is not dynamic.
        split: The split of the dataset that shows what it does.
        stride: What heights and widths are multiples of.
        channels: Channels of an image.
        size: Height and width in pixels.
        suppression: That of an export with ``nms=True``; None for another.
    """

    def __init__(self, network: YOLO, precision: str, passed: dict[str, Any]) -> None:
        self.network, self.precision, self.passed = network, precision, passed
        self.format, self.dynamic = str(passed["format"]), bool(passed.get("dynamic"))
        self.batch, self.split = int(passed.get("batch") or 1), str(passed.get("split") or "val")
        self.stride = int(network.model.stride.max())
        self.channels = int(network.model.yaml.get("channels", 3))
        height, width = check_imgsz(passed.get("imgsz") or network.model.args["imgsz"], stride=self.stride, min_dim=2)
        self.size = height, width
        given = {field.name: passed[field.name] for field in fields(Suppression) if passed.get(field.name) is not None}
        self.suppression = Suppression(**given) if passed.get("nms") else None


def choose_precision(
    passed: Mapping[str, Any], format: str, data: object, *, half: bool, int8: bool, fuse_attention: bool
) -> str:
    """Return the precision of an export, after making sure that its settings go together and its packages are there.

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
        DependencyError: A package is missing.
    """
    quantize = get_cfg(overrides={"quantize": passed.get("quantize")}).quantize  # its aliases have one form there
    if quantize is None and format in INT8_ONLY:
        quantize = 8  # without data Ultralytics would calibrate with pictures of its own
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
    if format == "torchscript" and precision == "fp16" and (passed.get("device") == "cpu" or not cuda.is_available()):
        raise ConfigError(
            "TorchScript in half precision is made and run by a GPU.",
            given=f"format={format}, half precision, no GPU",
            expected="format=onnx half=True, or a GPU",
        )
    for key, needed in (("split", data), *((key, passed.get("nms")) for key in SUPPRESSION_SETTINGS)):
        if format in PROVED_FORMATS and passed.get(key) is not None and not needed:
            beside = "data=my.yaml" if key == "split" else "nms=True"
            raise ConfigError(f"{key} has no use alone.", given=f"{key}={passed[key]}", expected=f"{beside} beside it")
    if format == "onnx" and passed.get("opset") is not None and passed["opset"] not in PROVED_OPSETS:
        raise ConfigError(
            "This opset was not tested.",
            given=f"opset={passed['opset']}",
            expected=f"{PROVED_OPSETS[0]} to {PROVED_OPSETS[-1]}, or none for the newest that suits PyTorch",
        )
    missing = [package for package in PROVED_FORMATS.get(format, ()) if find_spec(package) is None]
    if missing:
        extra = "openvino" if format == "openvino" else "export"
        raise DependencyError(
            f"{' and '.join(missing)} not installed.", given=f"format={format}", fix=f"pip install 'yolo-mha[{extra}]'"
        )
    return precision
