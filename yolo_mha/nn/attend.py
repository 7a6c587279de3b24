"""Scaled dot-product attention on heads, and what is done to heads before it."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def attend(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, *, scale: float, dropout: float = 0.0
) -> Tensor:
    """Return ``softmax(scale * q k^T + mask) v`` (Vaswani et al. 2017, eq. 1).

    PyTorch's fused kernels, which never build the Nq x Nk matrix, need a last stride of 1, equal head widths, no
    dropout on a CPU, and a mask without gradient; else they fall back in silence.

    Args:
        q: Queries of shape (B, h, Nq, d).
        k: Keys of shape (B, h, Nk, d).
        v: Values of shape (B, h, Nk, d).
        mask: True where a key may be attended, or a number to add to the score; broadcastable to (B, h, Nq, Nk).
        scale: Factor on the scores.
        dropout: Probability with which a weight is dropped.

    Returns:
        Attended values of shape (B, h, Nq, d); in eager mode a query without any key gives zero.
    """
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, scale=scale)


def heads_of(maps: Tensor, count: int, num_heads: int) -> tuple[Tensor, ...]:
    """Split a channels_last feature map into grids of heads, as views with unit last stride.

    Args:
        maps: Queries, keys or values one behind the other, of shape (B, count * h * d, H, W).
        count: How many they are.
        num_heads: Number of heads h.

    Returns:
        ``count`` grids of shape (B, H, W, h, d).
    """
    B, _, H, W = maps.shape
    tokens = maps.permute(0, 2, 3, 1).contiguous()  # (B, H, W, count * h * d); a view, the memory is NHWC already
    return tokens.view(B, H, W, count, num_heads, -1).unbind(3)


class HeadNorm(nn.RMSNorm):
    """Root-mean-square norm of each head (Zhang and Sennrich 2019, eq. 4), for queries and keys.

    With it scores stay within ``d * max(weight)^2 * scale``, whatever the size of the input (query-key norm: Henry et
    al. 2020; Dehghani et al. 2023, section 2). The head is first divided by its largest entry, which cancels, so that
    the squares cannot overflow in any precision.

    Args:
        head_dim: Channels of one head.
        eps: Added to the mean square of the scaled head.
    """

    eps: float
    weight: nn.Parameter

    def __init__(self, head_dim: int, eps: float = 1e-6) -> None:
        super().__init__(head_dim, eps)

    def forward(self, x: Tensor) -> Tensor:
        """Norm the last axis of (..., d)."""
        largest = x.detach().abs().amax(-1, keepdim=True).clamp_min(math.ldexp(1, -14))  # fp16's smallest normal number
        y = x / largest
        y = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + self.eps)
        return (y * self.weight).to(x.dtype)
