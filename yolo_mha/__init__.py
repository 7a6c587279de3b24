"""Spatial multi-head attention for Ultralytics YOLO: insert safely, train, compare, ship.

Importing the package registers its blocks, so that model YAMLs may name them and checkpoints that hold them open.
"""

from __future__ import annotations

from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

from .nn import ConvBlock, CrossScaleMHA, MultiHeadAttention, S2Attention, SpatialMHA, SpatialMHABlock
from .registry import register
from .surgery import Transfer

if TYPE_CHECKING:
    from .deploy.benchmark import benchmark
    from .deploy.export import export
    from .diagnosis.doctor import doctor
    from .engine.insert import insert, remove
    from .engine.model import YOLO
    from .engine.predict import predict, track
    from .engine.train import train
    from .evaluation.compare import compare, estimate, run_recipe
    from .scoring.val import val

__version__ = metadata.version("yolo-mha")
__all__ = [
    "YOLO",
    "ConvBlock",
    "CrossScaleMHA",
    "MultiHeadAttention",
    "S2Attention",
    "SpatialMHA",
    "SpatialMHABlock",
    "Transfer",
    "__version__",
    "benchmark",
    "compare",
    "doctor",
    "estimate",
    "export",
    "insert",
    "predict",
    "register",
    "remove",
    "run_recipe",
    "track",
    "train",
    "val",
]

# Loaded when first used: unpickling a checkpoint imports this package and needs the blocks only.
_LAZY = {
    "YOLO": "engine.model",
    "insert": "engine.insert",
    "remove": "engine.insert",
    "train": "engine.train",
    "val": "scoring.val",
    "predict": "engine.predict",
    "track": "engine.predict",
    "export": "deploy.export",
    "benchmark": "deploy.benchmark",
    "compare": "evaluation.compare",
    "run_recipe": "evaluation.compare",
    "estimate": "evaluation.compare",
    "doctor": "diagnosis.doctor",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_LAZY[name]}", __name__), name)
    globals()[name] = value
    return value
