"""INT8 for the convolutions of an ONNX model; attention and the decoding of boxes stay in floating point."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from torch import nn
from ultralytics.nn.modules.block import DFL, AAttn, Attention
from ultralytics.nn.modules.transformer import TransformerLayer

from ..errors import RunError
from ..guard import replaced
from ..nn import ConvBlock
from ..registry import is_block
from .runtime import Array

IN_FLOAT = (Attention, AAttn, TransformerLayer, DFL)  # of Ultralytics, beside all registered blocks but a convolution


def quantize(file: Path, output: Path, network: nn.Module, images: Iterable[Array]) -> tuple[int, int]:
    """Write a model with 8-bit convolutions (static, one scale a channel of weights, quantize-dequantize pairs).

    Ranges of activations are the least and the greatest value over the calibration images (Jacob et al. 2018, section
    3). Weights use 7 bits, so that processors without 8-bit dot products cannot overflow (ONNX Runtime's
    ``reduce_range``).

    Args:
        file: The ONNX model in single precision.
        output: Where the new one goes.
        network: The PyTorch model that it was exported from.
        images: Calibration inputs, each of shape (B, 3, H, W).

    Returns:
        How many convolutions were quantized, and how many were left in floating point.

    Raises:
        RunError: The model's nodes cannot be told apart.
    """
    graph = onnx.load(file).graph
    apart = {name: module for name, module in network.named_modules() if _stays(module)}
    convolutions = [node.name for node in graph.node if node.op_type == "Conv"]
    chosen = [name for name in convolutions if not any(f"{module_of(name)}.".startswith(f"{path}.") for path in apart)]
    if len(chosen) == len(convolutions) and any(isinstance(m, nn.Conv2d) for a in apart.values() for m in a.modules()):
        raise RunError(
            "The convolutions of attention were not found in the ONNX model.",
            given=f"nodes such as {convolutions[0] if convolutions else 'none'}",
            expected="nodes named by their modules",
            fix="export with simplify=False",
        )
    with replaced((logging.root, "filters", [*logging.root.filters, _is_no_advice])):
        quantize_static(
            str(file),
            str(output),
            _Reader({graph.input[0].name: batch} for batch in images),
            quant_format=QuantFormat.QDQ,
            nodes_to_quantize=chosen,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )
    return len(chosen), len(convolutions) - len(chosen)


def _is_no_advice(record: logging.LogRecord) -> bool:
    """Drop ONNX Runtime's advice to simplify a model with its own tool first."""
    return "pre-processing before quantization" not in record.getMessage()


def _stays(module: nn.Module) -> bool:
    return isinstance(module, IN_FLOAT) or (is_block(type(module).__name__) and not isinstance(module, ConvBlock))


def module_of(node: str) -> str:
    """Return the path of the module that a node of an exported graph comes from.

    Args:
        node: Its name, such as ``/model.11/m/m.0/attn/qkv/conv/Conv``: the modules that were called, by their paths
            within the list that holds them.

    Returns:
        A name as in ``named_modules()``: ``model.11.m.0.attn.qkv.conv``.
    """
    scopes = node.strip("/").split("/")[:-1]
    kept = [scope for scope, within in pairwise([*scopes, ""]) if not within.startswith(f"{scope}.")]
    return ".".join(kept)


class _Reader(CalibrationDataReader):
    """Hands calibration inputs to ONNX Runtime one after the other."""

    def __init__(self, inputs: Iterator[dict[str, Array]]) -> None:
        self.inputs = inputs

    def get_next(self) -> dict[str, Array] | None:
        return next(self.inputs, None)
