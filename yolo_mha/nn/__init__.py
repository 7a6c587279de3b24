"""Attention for feature maps in plain PyTorch; nothing here knows of YOLO."""

from .block import PositionwiseMLP, SpatialMHABlock
from .spatial import SpatialMHA

__all__ = ["PositionwiseMLP", "SpatialMHA", "SpatialMHABlock"]
