"""Attention from one pyramid level to another."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from ..errors import ConfigError, check_flag
from .attend import HeadNorm, attend, heads_of
from .checks import check_map, check_positive, check_probability
from .fold import Gate, fold
from .heads import resolve_heads
from .positions import add_sincos, check_position, grid, grid_within, rotate
from .scopes import attend_globally, is_fixed
from .spatial import match_memory_format

POSITIONS = ("none", "sincos", "rope")


class CrossScaleMHA(nn.Module):
    """Residual cross-attention: ``x + gate(attn(norm(x), norm(context)))``, Vaswani et al. 2017, eq. 1.

    Queries come from one feature map, keys and values from another of any size and width, as a row of a model YAML
    with two inputs: ``[[-1, 4], 1, CrossScaleMHA, []]``. With ``gate_init=0.0`` the block is the identity on its first
    input until the first optimizer step. Positions of both maps are counted in those of the first.

    Args:
        dim: Channels of the first input and of the output; filled in from the layer in a model YAML.
        context_dim: Channels of the second input; filled in likewise.
        num_heads: Number of heads; None takes heads of 32 channels.
        gate_init: Start value of the gate.
        head_dim: Channels of one head; with ``num_heads`` it sets the inner width freely.
        qkv_bias: Whether the query, key and value projections have biases.
        qk_norm: Whether queries and keys are normed, see `HeadNorm`.
        attn_drop: Dropout probability on the attention weights.
        proj_drop: Dropout probability on the output of the attention.
        position: "none", "sincos" or "rope", see `SpatialMHA`.

    Raises:
        ConfigError: The heads do not divide ``dim``, or an argument is out of range.
    """

    inputs = 2

    def __init__(
        self,
        dim: int,
        context_dim: int,
        num_heads: int | None = None,
        *,
        gate_init: float = 0.0,
        head_dim: int | None = None,
        qkv_bias: bool = True,
        qk_norm: bool = False,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
        position: str = "none",
    ) -> None:
        super().__init__()
        check_positive(context_dim=context_dim)
        self.num_heads, self.head_dim = resolve_heads(dim, num_heads, head_dim)
        check_flag("qkv_bias", qkv_bias)
        check_flag("qk_norm", qk_norm)
        check_probability(attn_drop=attn_drop, proj_drop=proj_drop)
        check_position(position, POSITIONS, [dim, context_dim], self.head_dim)
        self.position = position
        inner = self.num_heads * self.head_dim
        self.scale = self.head_dim**-0.5
        self.norm, self.context_norm = nn.BatchNorm2d(dim), nn.BatchNorm2d(context_dim)
        self.q = nn.Conv2d(dim, inner, 1, bias=qkv_bias)
        self.kv = nn.Conv2d(context_dim, 2 * inner, 1, bias=qkv_bias)
        self.q_norm, self.k_norm = (HeadNorm(self.head_dim) if qk_norm else nn.Identity() for _ in range(2))
        self.proj = nn.Conv2d(inner, dim, 1)
        self.attn_drop = nn.Dropout(attn_drop)
        self.proj_drop = nn.Dropout(proj_drop)
        self.gate = Gate(dim, gate_init)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Add to the first map what its positions find in the second.

        Args:
            maps: ``[x, context]`` of shapes (B, C, H, W) and (B, Cc, Hc, Wc).

        Returns:
            Feature map of shape (B, C, H, W) in the memory format of ``x``.

        Raises:
            ConfigError: They are something else.
        """
        if not isinstance(maps, (list, tuple)) or len(maps) != 2:
            given = type(maps).__name__ if isinstance(maps, Tensor) else f"{len(maps)} maps"
            raise ConfigError("Cross-scale attention needs two feature maps.", given=given, expected="[x, context]")
        x, context = maps
        check_map(x, self.q.in_channels)
        check_map(context, self.kv.in_channels, "context")
        counts = (x.shape[0], context.shape[0])
        if is_fixed(*counts) and counts[0] != counts[1]:
            raise ConfigError(
                "The two maps have different batch sizes.", given=f"batches {counts}", expected="the same images"
            )
        q, k, v = self.heads(x, context)
        core = partial(attend, scale=self.scale, dropout=self.attn_drop.p if self.training else 0.0)
        out = attend_globally(q, k, v, core).permute(0, 3, 1, 2)  # (B, hd, H, W), NHWC in memory
        return x + self.gate(match_memory_format(self.proj_drop(self.proj(out)), x))  # type: ignore[no-any-return]

    def heads(self, x: Tensor, context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries (B, H, W, h, d), and keys and values (B, Hc, Wc, h, d), as they are attended."""
        y, z = self.norm(x), self.context_norm(context)
        if self.position == "sincos":
            y, z = add_sincos(y, *grid(x.shape[2:], x)), add_sincos(z, *grid_within(x, context))
        (q,) = heads_of(self.q(y.contiguous(memory_format=torch.channels_last)), 1, self.num_heads)
        k, v = heads_of(self.kv(z.contiguous(memory_format=torch.channels_last)), 2, self.num_heads)
        q, k = self.q_norm(q), self.k_norm(k)  # each (B, H, W, h, d)
        if self.position == "rope":
            q, k = rotate(q, *grid(x.shape[2:], x)), rotate(k, *grid_within(x, context))
        return q, k, v

    def pairs(self, height: int, width: int, context_height: int, context_width: int) -> int:
        """Return how many pairs of a query and a key each head scores on maps of these sizes."""
        return height * width * context_height * context_width

    def fuse(self) -> None:
        """Fold norms and gate into the convolutions next to them, for inference; a second call does nothing.

        With ``position="sincos"`` the codes stand between the first norms and their convolutions, so those stay.
        """
        fold(self, {} if self.position == "sincos" else {"norm": "q", "context_norm": "kv"}, {"gate": "proj"})
