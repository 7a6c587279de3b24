"""Multi-head attention over the H x W positions of a feature map."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError, nearest
from .heads import resolve_heads

POSITIONS = ("none", "dwconv")


def match_memory_format(out: Tensor, like: Tensor) -> Tensor:
    """Return ``out`` in the memory format of ``like`` (NCHW where both formats describe ``like``).

    A 3x3 convolution gives slightly different sums for the two formats, so a block must not change the format that
    the layers behind it see.
    """
    channels_last = like.is_contiguous(memory_format=torch.channels_last) and not like.is_contiguous()
    return out.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


class SpatialMHA(nn.Module):
    """Scaled dot-product self-attention among all positions of an NCHW feature map (Vaswani et al. 2017, eq. 1).

    The map is flattened to a sequence of ``N = H * W`` tokens, attended with ``softmax(q k^T / sqrt(head_dim)) v``, and
    reshaped back. Query, key and value come from one 1x1 convolution that runs in channels_last, so that they are
    views with unit last stride: what PyTorch's fused kernels need in order not to build the N x N matrix. With
    ``attn_drop > 0`` a CPU has no fused kernel and does build it.

    Args:
        dim: Channels of the input and of the output.
        num_heads: Number of heads; None takes heads of 32 channels.
        head_dim: Channels of one head; with ``num_heads`` it sets the inner width freely.
        qkv_bias: Whether the query, key and value projection has a bias.
        attn_drop: Dropout probability on the attention weights.
        proj_drop: Dropout probability on the output.
        position: "none", or "dwconv": a 3x3 depthwise convolution of the values, added to the attended values (locally
            enhanced positional encoding, Dong et al. 2022, CSWin Transformer, eq. 7).

    Raises:
        ConfigError: The heads do not divide ``dim``, or the position is unknown.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int | None = None,
        *,
        head_dim: int | None = None,
        qkv_bias: bool = True,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
        position: str = "none",
    ) -> None:
        super().__init__()
        self.num_heads, self.head_dim = resolve_heads(dim, num_heads, head_dim)
        if position not in POSITIONS:
            raise ConfigError(
                "Unknown position.", given=f"position={position!r}", expected=nearest(position, POSITIONS)
            )
        if not isinstance(qkv_bias, bool):
            raise ConfigError("qkv_bias is a yes or no.", given=f"qkv_bias={qkv_bias!r}", expected="True or False")
        for name, p in (("attn_drop", attn_drop), ("proj_drop", proj_drop)):
            if isinstance(p, bool) or not isinstance(p, (int, float)) or not 0 <= p < 1:
                raise ConfigError(f"{name} must be a probability.", given=f"{name}={p!r}", expected="0 <= p < 1")
        inner = self.num_heads * self.head_dim
        self.scale = self.head_dim**-0.5
        self.qkv = nn.Conv2d(dim, 3 * inner, 1, bias=qkv_bias)
        self.pe = nn.Conv2d(inner, inner, 3, padding=1, groups=inner) if position == "dwconv" else None
        self.proj = nn.Conv2d(inner, dim, 1)
        self.attn_drop = nn.Dropout(attn_drop)
        self.proj_drop = nn.Dropout(proj_drop)

    def forward(self, x: Tensor) -> Tensor:
        """Attend among all positions.

        Args:
            x: Feature map of shape (B, C, H, W), any H and W.

        Returns:
            Feature map of shape (B, C, H, W) in the memory format of ``x``.
        """
        B, _, H, W = x.shape
        h, d = self.num_heads, self.head_dim
        qkv = self.qkv(x.contiguous(memory_format=torch.channels_last))  # (B, 3hd, H, W)
        tokens = qkv.permute(0, 2, 3, 1).contiguous()  # (B, H, W, 3hd); a view, the memory is NHWC already
        q, k, v = tokens.view(B, -1, 3, h, d).permute(2, 0, 3, 1, 4).unbind(0)  # each (B, h, N, d)
        p = self.attn_drop.p if self.training else 0.0
        out = F.scaled_dot_product_attention(q, k, v, dropout_p=p, scale=self.scale)  # (B, h, N, d)
        out = out.transpose(1, 2).reshape(B, H, W, h * d).permute(0, 3, 1, 2)  # (B, hd, H, W), NHWC in memory
        if self.pe is not None:
            out = out + self.pe(qkv[:, 2 * h * d :])
        return match_memory_format(self.proj_drop(self.proj(out)), x)
