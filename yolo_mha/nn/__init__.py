"""Attention for feature maps and sequences in plain PyTorch; nothing here knows of YOLO."""

from .attend import HeadNorm
from .block import PositionwiseMLP, SpatialMHABlock
from .conv_block import ConvBlock
from .cross_scale import CrossScaleMHA
from .fold import Gate
from .positions import RelativeBias
from .s2 import S2Attention, ShiftAttention, SplitAttention
from .sequence import MultiHeadAttention
from .shared_heads import SharedHeadAttention
from .spatial import SpatialMHA

__all__ = [
    "ConvBlock",
    "CrossScaleMHA",
    "Gate",
    "HeadNorm",
    "MultiHeadAttention",
    "PositionwiseMLP",
    "RelativeBias",
    "S2Attention",
    "SharedHeadAttention",
    "ShiftAttention",
    "SpatialMHA",
    "SpatialMHABlock",
    "SplitAttention",
]
