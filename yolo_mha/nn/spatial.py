"""Multi-head attention over the H x W positions of a feature map."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError, check_flag, nearest
from .attend import HeadNorm, attend, heads_of
from .checks import check_map, check_positive, check_probability
from .heads import resolve_heads
from .positions import RelativeBias, add_sincos, check_position, coordinates, grid, rotate
from .scopes import (
    DEFAULT_WINDOW,
    attend_along_axes,
    attend_globally,
    cells,
    count_pairs,
    from_windows,
    inside_map,
    is_fixed,
    to_windows,
)

SCOPES = ("global", "window", "axial")
POSITIONS = ("none", "dwconv", "sincos", "rope", "relative")
LARGEST_WINDOW = 64  # the bias of a window grows with its fourth power


def match_memory_format(out: Tensor, like: Tensor) -> Tensor:
    """Return ``out`` in the memory format of ``like`` (NCHW where both formats describe ``like``).

    A 3x3 convolution gives slightly different sums for the two formats, so a block must not change the format that
    the layers behind it see.
    """
    channels_last = like.is_contiguous(memory_format=torch.channels_last) and not like.is_contiguous()
    return out.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def pool(x: Tensor, stride: int) -> Tensor:
    """Return the mean of each stride x stride cell of (B, C, H, W); cells at the right and bottom edge may be smaller.

    Args:
        x: Feature map.
        stride: Height and width of a cell.
    """
    H, W = x.shape[2:]
    down, right = (cells(size, stride) * stride - size for size in (H, W))
    if is_fixed(H, W) and not down and not right:
        return F.avg_pool2d(x, stride)
    pooled = F.avg_pool2d(F.pad(x, (0, right, 0, down)), stride)
    height, width = (
        (size - stride * coordinates(cells(size, stride), x)).clamp(max=stride) / stride for size in (H, W)
    )
    return pooled / (height[:, None] * width).to(x.dtype)


class SpatialMHA(nn.Module):
    """Scaled dot-product self-attention among positions of an NCHW feature map (Vaswani et al. 2017, eq. 1).

    The map is flattened to a sequence of ``N = H * W`` tokens, attended with ``softmax(q k^T / sqrt(head_dim)) v``, and
    reshaped back. Query, key and value come from one 1x1 convolution that runs in channels_last, so that they are
    views with unit last stride: what PyTorch's fused kernels need in order not to build the N x N matrix. There is no
    fused kernel, and that matrix is built within the scope, for ``attn_drop > 0`` on a CPU, and for
    ``position="relative"`` while its bias gets a gradient.

    Args:
        dim: Channels of the input and of the output.
        num_heads: Number of heads; None takes heads of 32 channels.
        head_dim: Channels of one head; with ``num_heads`` it sets the inner width freely.
        qkv_bias: Whether the query, key and value projection has a bias.
        qk_norm: Whether queries and keys are normed, see `HeadNorm`.
        attn_drop: Dropout probability on the attention weights.
        proj_drop: Dropout probability on the output.
        position: "none"; "dwconv": a 3x3 depthwise convolution of the values over the whole map, added to the attended
            values (locally enhanced positional encoding, Dong et al. 2022, CSWin, eq. 7); "sincos": fixed codes added
            to the input (see `sincos`); "rope": queries and keys turned by row and column (see `rotate`); "relative": a
            learned bias per distance, inside windows only (see `RelativeBias`).
        scope: "global": all positions; "window": those of the same window, which never shifts; "axial": along the
            columns, then along the rows.
        window: Height and width of a window in positions, up to 64, 10 if None; for ``scope="window"`` only.
        kv_stride: Keys and values are means of cells of this height and width (the spatial reduction of PVT, Wang et
            al. 2021, with a mean as in PVT v2); for ``scope="global"`` only.

    Raises:
        ConfigError: The heads do not divide ``dim``, an argument is out of range, or two do not go together.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int | None = None,
        *,
        head_dim: int | None = None,
        qkv_bias: bool = True,
        qk_norm: bool = False,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
        position: str = "none",
        scope: str = "global",
        window: int | None = None,
        kv_stride: int = 1,
    ) -> None:
        super().__init__()
        self.num_heads, self.head_dim = resolve_heads(dim, num_heads, head_dim)
        check_flag("qkv_bias", qkv_bias)
        check_flag("qk_norm", qk_norm)
        check_probability(attn_drop=attn_drop, proj_drop=proj_drop)
        self.scope, self.window, self.kv_stride = _check_scope(scope, window, kv_stride)
        check_position(position, POSITIONS, [dim], self.head_dim)
        if position == "relative" and scope != "window":
            raise ConfigError(
                "position=relative needs scope=window: without windows its table would fix the size of the map.",
                given=f"scope={scope}, position=relative",
                expected="position=rope, which encodes distances at any size, or scope=window with position=relative",
            )
        self.position = position
        inner = self.num_heads * self.head_dim
        self.scale = self.head_dim**-0.5
        self.qkv = nn.Conv2d(dim, 3 * inner, 1, bias=qkv_bias)
        self.q_norm, self.k_norm = (HeadNorm(self.head_dim) if qk_norm else nn.Identity() for _ in range(2))
        self.pe = nn.Conv2d(inner, inner, 3, padding=1, groups=inner) if position == "dwconv" else None
        self.bias = RelativeBias(self.window, self.num_heads) if position == "relative" else None
        self.proj = nn.Conv2d(inner, dim, 1)
        self.attn_drop = nn.Dropout(attn_drop)
        self.proj_drop = nn.Dropout(proj_drop)

    def forward(self, x: Tensor) -> Tensor:
        """Attend among positions.

        Args:
            x: Feature map of shape (B, C, H, W), any H and W.

        Returns:
            Feature map of shape (B, C, H, W) in the memory format of ``x``.

        Raises:
            ConfigError: ``x`` is something else.
        """
        check_map(x, self.qkv.in_channels)
        out = self.proj_drop(self.proj(self._attend(x)))
        if self.scope == "window":
            out = from_windows(out, x.shape[2:], self.window)
        return match_memory_format(out, x)

    def pairs(self, height: int, width: int) -> int:
        """Return how many pairs of a query and a key each head scores on a map of this size."""
        return count_pairs(height, width, self.scope, self.window, self.kv_stride)

    def heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values as they are attended, each (B, H, W, h, d).

        Keys and values are of pooled height and width with ``kv_stride``; with ``scope="window"`` all three are those
        of each window along the batch, see `to_windows`.
        """
        q, k, v = self._heads(self._tokens(x))
        if self.position == "rope":
            size = q.shape[1:3]
            q, k = rotate(q, *grid(size, q)), rotate(k, *grid(size, q, self.kv_stride))
        return q, k, v

    def _attend(self, x: Tensor) -> Tensor:
        """Return the attended values (B, hd, H, W) in channels_last, or those of each window along the batch."""
        core = partial(attend, scale=self.scale, dropout=self.attn_drop.p if self.training else 0.0)
        q, k, v = self.heads(x)
        if self.scope == "axial":
            out = attend_along_axes(q, k, v, core)
        else:
            out = attend_globally(q, k, v, core, self.mask(x) if self.scope == "window" else None)
        out = out.permute(0, 3, 1, 2)  # (B, hd, H, W), NHWC in memory
        return out if self.pe is None else out + self._local(self.pe, v, x)

    def _tokens(self, x: Tensor) -> Tensor:
        """Return what is projected: the map, or its windows along the batch, in channels_last."""
        y = add_sincos(x, *grid(x.shape[2:], x)) if self.position == "sincos" else x
        return to_windows(y, self.window) if self.scope == "window" else y.contiguous(memory_format=torch.channels_last)

    def _heads(self, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Project (B, C, H, W) to queries (B, H, W, h, d), and to keys and values of pooled height and width."""
        if self.kv_stride == 1:
            q, k, v = heads_of(self.qkv(y), 3, self.num_heads)
        else:  # pooled before the projection: the mean of what a cell would give, for less
            (q,) = heads_of(self._project(y, "q"), 1, self.num_heads)
            k, v = heads_of(self._project(pool(y, self.kv_stride), "kv"), 2, self.num_heads)
        return self.q_norm(q), self.k_norm(k), v

    def _project(self, y: Tensor, parts: str) -> Tensor:
        """Apply a part of the query, key and value projection: (B, C, H, W) to (B, len(parts) * hd, H, W)."""
        inner, first = self.num_heads * self.head_dim, "qkv".index(parts)
        rows = slice(first * inner, (first + len(parts)) * inner)
        return F.conv2d(y, self.qkv.weight[rows], None if self.qkv.bias is None else self.qkv.bias[rows])

    def mask(self, x: Tensor) -> Tensor | None:
        """Return what is added to the scores of each window: the bias per distance, -inf where there is no map."""
        inside = inside_map(x, self.window)
        bias = None if self.bias is None else self.bias().to(x.dtype)[None]  # (1, h, window^2, window^2)
        if inside is None:
            return bias
        # Numbers, because booleans are exported with a search for queries without any key, slower than the attention.
        outside = x.new_zeros(()).masked_fill(~inside, float("-inf"))
        return outside if bias is None else bias + outside

    def _local(self, pe: nn.Module, v: Tensor, x: Tensor) -> Tensor:
        """Convolve the values over the whole map, whatever the scope: position="dwconv"."""
        values = v.flatten(3).permute(0, 3, 1, 2) if self.kv_stride == 1 else self._project(self._tokens(x), "v")
        if self.scope != "window":
            return pe(values)  # type: ignore[no-any-return]
        return to_windows(pe(from_windows(values, x.shape[2:], self.window)), self.window)


def _check_scope(scope: str, window: int | None, kv_stride: int) -> tuple[str, int, int]:
    """Return scope, window and kv_stride where they go together."""
    if scope not in SCOPES:
        raise ConfigError("Unknown scope.", given=f"scope={scope!r}", expected=nearest(scope, SCOPES))
    check_positive(kv_stride=kv_stride, window=DEFAULT_WINDOW if window is None else window)
    if window is not None and window > LARGEST_WINDOW:
        raise ConfigError(
            "window is out of range.",
            given=f"window={window}",
            expected=f"1 to {LARGEST_WINDOW}, or scope=global for all positions",
        )
    if window is not None and scope != "window":
        raise ConfigError(
            "window needs scope=window.", given=f"scope={scope}, window={window}", expected="scope=window"
        )
    if kv_stride > 1 and scope != "global":
        raise ConfigError(
            "kv_stride needs scope=global.",
            given=f"scope={scope}, kv_stride={kv_stride}",
            expected=f"scope=global with kv_stride={kv_stride}, or scope={scope} alone",
        )
    return scope, window or DEFAULT_WINDOW, kv_stride
