"""The frame of a residual branch: a norm, a gate, and folding both into the 1x1 convolutions next to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .checks import check_map, check_not_negative


class Gate(nn.BatchNorm2d):
    """The gate of a residual branch: a BatchNorm whose weight starts at ``gate_init``.

    A zero-initialised last norm makes the branch start as nothing (Goyal et al. 2017, section 5.1). Being a norm it
    gets no weight decay, and it can be folded into the convolution before it.

    Args:
        dim: Channels of the branch.
        gate_init: Start value, 0 or more.

    Raises:
        ConfigError: ``gate_init`` is something else.
    """

    def __init__(self, dim: int, gate_init: float) -> None:
        check_not_negative(gate_init=gate_init)
        self.gate_init = gate_init
        super().__init__(dim, eps=1e-3, momentum=0.03)  # those of the norms in YOLO networks

    def reset_parameters(self) -> None:
        """Begin anew, as classifiers do where Ultralytics trains them with ``pretrained=False``."""
        super().reset_parameters()
        nn.init.constant_(self.weight, self.gate_init)


def affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
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
    slope, offset = affine(norm)
    fused = nn.Conv2d(conv.in_channels, conv.out_channels, 1, device=conv.weight.device, dtype=conv.weight.dtype)
    fused.weight.copy_(conv.weight * slope.view(1, -1, 1, 1))  # (out, C, 1, 1) * (1, C, 1, 1)
    bias = conv.weight.flatten(1) @ offset  # (out,)
    fused.bias.copy_(bias if conv.bias is None else bias + conv.bias)  # type: ignore[union-attr]
    return fused.train(conv.training).requires_grad_(conv.weight.requires_grad)


@torch.no_grad()
def fold_norm_into_previous(norm: nn.BatchNorm2d, conv: nn.Conv2d) -> nn.Conv2d:
    """Return a convolution equal to ``norm(conv(x))`` in evaluation mode.

    Args:
        norm: Norm of the convolution's output channels.
        conv: Convolution in front of the norm.
    """
    return fuse_conv_bn_eval(conv.eval(), norm.eval())


def fold(block: nn.Module, norms: Mapping[str, str], gates: Mapping[str, str]) -> None:
    """Fold norms and gates into the convolutions next to them, for inference; a second call does nothing.

    Args:
        block: Their module.
        norms: Name of the convolution behind each norm, by the norm's name.
        gates: Name of the convolution in front of each gate, by the gate's name.
    """
    for names, into in ((norms, fold_norm_into_next), (gates, fold_norm_into_previous)):
        for name, neighbour in names.items():
            norm, conv = block.get_submodule(name), block.get_submodule(neighbour)
            if isinstance(norm, nn.BatchNorm2d) and isinstance(conv, nn.Conv2d):
                block.set_submodule(neighbour, into(norm, conv))
                block.set_submodule(name, nn.Identity())


class GatedBlock(nn.Module):
    """Residual branch on one feature map: ``x + gate(attn(norm(x)))``."""

    inputs = 1
    ends: ClassVar[tuple[str, str]]  # names of the branch's first and last convolution
    norm: nn.Module
    attn: Any
    gate: nn.Module

    def branch(self, x: Tensor) -> Tensor:
        """Return what is gated, in the memory format of ``x``."""
        return self.attn(x)  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        """Add the gated branch to the input.

        Args:
            x: Feature map of shape (B, C, H, W), any H and W.

        Returns:
            Feature map of shape (B, C, H, W) in the memory format of ``x``.

        Raises:
            ConfigError: ``x`` is something else.
        """
        first: Any = self.get_submodule(self.ends[0])
        check_map(x, first.in_channels)
        return x + self.gate(self.branch(self.norm(x)))  # type: ignore[no-any-return]

    def fuse(self) -> None:
        """Fold norm and gate into the convolutions next to them, for inference; a second call does nothing."""
        fold(self, {"norm": self.ends[0]}, {"gate": self.ends[1]})
