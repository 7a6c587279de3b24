"""Spatial-shift attention of S²-MLPv2: three maps, two of them shifted, and a softmax over the three."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError
from .fold import Gate, GatedBlock
from .spatial import match_memory_format


def _shift(x: Tensor, axes: tuple[int, int]) -> Tensor:
    """Shift the quarters of the channels by one pixel: forth and back along the first axis, then along the second.

    The pixels at the border that a quarter moves away from keep their values.
    """
    c, quarters = x.shape[1], []
    for i, axis in enumerate((axes[0], axes[0], axes[1], axes[1])):
        quarter, n = x[:, i * c // 4 : (i + 1) * c // 4], x.shape[axis]
        if i % 2:  # pixel i to i - 1; the last stays as well
            moved = torch.cat((quarter, quarter.narrow(axis, n - 1, 1)), axis).narrow(axis, 1, n)
        else:  # pixel i to i + 1; the first stays as well
            moved = torch.cat((quarter.narrow(axis, 0, 1), quarter), axis).narrow(axis, 0, n)
        quarters.append(moved)
    return torch.cat(quarters, 1)


def shift_first(x: Tensor) -> Tensor:
    """Shift the four quarters of the channels down, up, right and left (Yu et al. 2021, S²-MLPv2, Algorithm 1).

    Args:
        x: Feature map of shape (B, C, H, W); it is not modified.

    Returns:
        New feature map of shape (B, C, H, W).
    """
    return _shift(x, (2, 3))


def shift_second(x: Tensor) -> Tensor:
    """Shift the four quarters of the channels right, left, down and up (Yu et al. 2021, S²-MLPv2, Algorithm 1).

    Args:
        x: Feature map of shape (B, C, H, W); it is not modified.

    Returns:
        New feature map of shape (B, C, H, W).
    """
    return _shift(x, (3, 2))


class SplitAttention(nn.Module):
    """Sum of three maps, weighted per channel by a softmax over them: split attention (Yu et al. 2021, S²-MLPv2).

    The weights come from the maps' sum over all positions through ``Linear, GELU, Linear`` without bias. As in the
    paper it is a sum and no mean, so the weights become harder as the map becomes larger; half precision would
    overflow, so they are computed in single precision at least.

    Args:
        dim: Channels of each map.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mlp1 = nn.Linear(dim, dim, bias=False)
        self.act = nn.GELU()
        self.mlp2 = nn.Linear(dim, 3 * dim, bias=False)

    def forward(self, first: Tensor, second: Tensor, third: Tensor) -> Tensor:
        """Weigh and add three maps of shape (B, C, H, W)."""
        dtype = torch.promote_types(first.dtype, torch.float32)
        total = (first + second + third).sum((2, 3), dtype=dtype)  # (B, C)
        with torch.autocast(total.device.type, enabled=False):
            hidden = self.act(F.linear(total, self.mlp1.weight.to(dtype)))
            scores = F.linear(hidden, self.mlp2.weight.to(dtype)).view(total.shape[0], 3, -1)  # (B, 3C) -> (B, 3, C)
        weights = scores.softmax(1).to(first.dtype)
        a, b, c = weights[..., None, None].unbind(1)  # each (B, C, 1, 1)
        return a * first + b * second + c * third


class ShiftAttention(nn.Module):
    """Spatial-shift attention (Yu et al. 2021, S²-MLPv2, arXiv 2108.01072, eq. 4-10 and Algorithm 1).

    A 1x1 convolution widens the map to three; the first two are shifted, each quarter of their channels by one pixel
    in another direction; split attention adds the three; a 1x1 convolution ends it.

    Args:
        dim: Channels of the input and of the output, 4 or more.

    Raises:
        ConfigError: ``dim`` is no integer of 4 or more.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        if isinstance(dim, bool) or not isinstance(dim, int) or dim < 4:
            raise ConfigError(
                "Shifting in four directions needs at least four channels.", given=f"dim={dim!r}", expected="4, 5, ..."
            )
        self.mlp1 = nn.Conv2d(dim, 3 * dim, 1)
        self.split = SplitAttention(dim)
        self.mlp2 = nn.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Exchange features between neighbouring pixels.

        Args:
            x: Feature map of shape (B, C, H, W), any H and W.

        Returns:
            Feature map of shape (B, C, H, W) in the memory format of ``x``.
        """
        first, second, third = self.mlp1(x).chunk(3, 1)  # each (B, C, H, W)
        out = self.mlp2(self.split(shift_first(first), shift_second(second), third))
        return match_memory_format(out, x)


class S2Attention(GatedBlock):
    """Residual spatial-shift attention: ``x + gate(attn(norm(x)))`` with `ShiftAttention` (Yu et al. 2021, S²-MLPv2).

    It exchanges features between neighbours and weighs whole maps, in linear time; it has no heads and no softmax over
    positions. With ``gate_init=0.0`` the block is the identity until the first optimizer step.

    Args:
        dim: Channels of the input and of the output, 4 or more; in a model YAML it is filled in from the layer.
        gate_init: Start value of the gate.

    Raises:
        ConfigError: An argument is out of range.
    """

    ends = ("attn.mlp1", "attn.mlp2")

    def __init__(self, dim: int, *, gate_init: float = 0.0) -> None:
        super().__init__()
        self.attn = ShiftAttention(dim)
        self.norm = nn.BatchNorm2d(dim)
        self.gate = Gate(dim, gate_init)
