"""The gate of a residual branch, and folding BatchNorm into the 1x1 convolution before or behind it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .checks import check_not_negative


def gate(dim: int, gate_init: float) -> nn.BatchNorm2d:
    """Return the gate of a residual branch: a BatchNorm whose weight starts at ``gate_init``.

    A zero-initialised last norm makes the branch start as nothing (Goyal et al. 2017, section 5.1). Being a norm it
    gets no weight decay, and it can be folded into the convolution before it.

    Args:
        dim: Channels of the branch.
        gate_init: Start value, 0 or more.

    Raises:
        ConfigError: ``gate_init`` is something else.
    """
    check_not_negative(gate_init=gate_init)
    norm = nn.BatchNorm2d(dim)
    nn.init.constant_(norm.weight, gate_init)
    return norm


def _affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return the slope and the offset, each (C,), that the norm applies in evaluation mode."""
    if norm.running_mean is None or norm.running_var is None:
        raise TypeError("a BatchNorm2d without running statistics cannot be folded")
    slope = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return slope, norm.bias - norm.running_mean * slope


@torch.no_grad()
def fold_norm_into_next(norm: nn.BatchNorm2d, conv: nn.Conv2d) -> nn.Conv2d:
    """Return a 1x1 convolution equal to ``conv(norm(x))`` in evaluation mode.

    Args:
        norm: Norm of C channels with running statistics.
        conv: 1x1 convolution of those C channels, without padding or groups.
    """
    slope, offset = _affine(norm)
    fused = nn.Conv2d(conv.in_channels, conv.out_channels, 1, device=conv.weight.device, dtype=conv.weight.dtype)
    fused.weight.copy_(conv.weight * slope.view(1, -1, 1, 1))  # (out, C, 1, 1) * (1, C, 1, 1)
    bias = conv.weight.flatten(1) @ offset  # (out,)
    fused.bias.copy_(bias if conv.bias is None else bias + conv.bias)  # type: ignore[union-attr]
    return fused.train(conv.training).requires_grad_(conv.weight.requires_grad)


@torch.no_grad()
def fold_norm_into_previous(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    """Return a convolution equal to ``norm(conv(x))`` in evaluation mode.

    Args:
        conv: Convolution in front of the norm.
        norm: Norm of the convolution's output channels.
    """
    return fuse_conv_bn_eval(conv.eval(), norm.eval())
