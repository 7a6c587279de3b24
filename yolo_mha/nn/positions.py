"""Where a position is: what attention is told about the place of a query and of a key."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError, nearest
from .scopes import cells

SINCOS_BASE = 10000.0  # Vaswani et al. 2017, section 3.5
ROPE_BASE = 100.0  # Heo et al. 2024, section 3.2: maps are far shorter than texts


def check_position(position: str, known: Sequence[str], dims: Sequence[int], head_dim: int) -> None:
    """Refuse a position that is unknown, or whose two axes of sine and cosine pairs do not fit the widths.

    Args:
        position: What the user gave.
        known: The ones that the module has.
        dims: Channels of each input.
        head_dim: Channels of one head.

    Raises:
        ConfigError: It is none of these, or a width is no multiple of 4.
    """
    if position not in known:
        raise ConfigError("Unknown position.", given=f"position={position!r}", expected=nearest(position, known))
    widths = {"sincos": ("dim", dims), "rope": ("head_dim", [head_dim])}
    what, values = widths.get(position, ("", []))
    for value in values:
        if value % 4:
            raise ConfigError(
                f"position={position} needs a {what} that is a multiple of 4: two axes, a pair of channels each.",
                given=f"{what}={value}",
                expected=f"{what} 4, 8, 12, ...",
            )


def coordinates(size: int, like: Tensor) -> Tensor:
    """Return 0, 1, ..., size - 1 in float32, of shape (size,), on the device of ``like``."""
    return torch.arange(size, device=like.device, dtype=torch.float32)


def grid(size: Sequence[int], like: Tensor, stride: int = 1) -> tuple[Tensor, Tensor]:
    """Return the rows and the columns at which the positions of a feature map are.

    Args:
        size: Height H and width W of the map.
        like: Tensor whose device is used.
        stride: Height and width of the cells that the map is pooled to; a cell is at the mean of its positions, and
            the last one may be smaller than the others.

    Returns:
        Coordinates of shapes (ceil(H / stride),) and (ceil(W / stride),), in positions of the map.
    """
    firsts = [coordinates(cells(length, stride), like) * stride for length in size]
    rows, columns = (
        (first + (first + (stride - 1)).clamp(max=length - 1)) / 2 for first, length in zip(firsts, size, strict=True)
    )
    return rows, columns


def grid_within(x: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
    """Return where the positions of another map of the same image are, in positions of ``x``.

    Args:
        x: Feature map of shape (B, C, H, W).
        context: Feature map of shape (B, Cc, Hc, Wc).

    Returns:
        Coordinates of shapes (Hc,) and (Wc,).
    """
    rows, columns = (
        (coordinates(theirs, x) + 0.5) * (ours / theirs) - 0.5
        for ours, theirs in zip(x.shape[2:], context.shape[2:], strict=True)
    )
    return rows, columns


def _angles(at: Tensor, count: int, base: float) -> Tensor:
    """Return coordinate times frequency ``base ** (-i / count)``, of shape (len(at), count)."""
    exponents = torch.arange(count, device=at.device, dtype=torch.float32) / count
    return at[:, None] * base**-exponents


def sincos(dim: int, rows: Tensor, columns: Tensor) -> Tensor:
    """Return fixed sine and cosine codes of a grid (Vaswani et al. 2017, section 3.5; Chen et al. 2021 in 2-D).

    Args:
        dim: Channels, a multiple of 4: sine and cosine of the row, then of the column.
        rows: Row coordinates of shape (H,).
        columns: Column coordinates of shape (W,).

    Returns:
        Codes of shape (1, dim, H, W).
    """
    y, x = (_angles(at, dim // 4, SINCOS_BASE) for at in (rows, columns))  # (H, dim / 4), (W, dim / 4)
    y = torch.cat([y.sin(), y.cos()], 1)[:, None, :].expand(-1, x.shape[0], -1)
    x = torch.cat([x.sin(), x.cos()], 1)[None, :, :].expand(y.shape[0], -1, -1)
    return torch.cat([y, x], 2).permute(2, 0, 1)[None]


def add_sincos(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Add the codes to a feature map of shape (B, C, H, W)."""
    return x + sincos(x.shape[1], rows, columns).to(x.dtype)


def rotate(heads: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Turn pairs of channels by angles that grow with the position (Su et al. 2021, eq. 34; in 2-D: Heo et al. 2024).

    The first half of a head turns with the row, the second with the column, so that the product of a query and a key
    depends on their distance in either axis only.

    Args:
        heads: Queries or keys of shape (B, H, W, h, d), d a multiple of 4.
        rows: Row coordinates of shape (H,).
        columns: Column coordinates of shape (W,).

    Returns:
        Turned heads of the same shape.
    """
    quarter = heads.shape[-1] // 4
    by_row = _angles(rows, quarter, ROPE_BASE)[:, None, None, :]  # (H, 1, 1, d / 4)
    by_column = _angles(columns, quarter, ROPE_BASE)[None, :, None, :]  # (1, W, 1, d / 4)
    parts, turned = heads.chunk(4, -1), []  # each (B, H, W, h, d / 4)
    for a, b, angle in ((*parts[:2], by_row), (*parts[2:], by_column)):
        cos, sin = angle.cos().to(a.dtype), angle.sin().to(a.dtype)
        turned += [a * cos - b * sin, a * sin + b * cos]
    return torch.cat(turned, -1)


class RelativeBias(nn.Module):
    """Learned number for each distance between two positions of a window, per head (Liu et al. 2021, Swin, eq. 4).

    Args:
        window: Height and width of the window.
        num_heads: Number of heads.
    """

    index: Tensor

    def __init__(self, window: int, num_heads: int) -> None:
        super().__init__()
        # three axes, so that no optimizer takes the table for the matrix of a layer
        self.table = nn.Parameter(torch.empty(2 * window - 1, 2 * window - 1, num_heads))
        nn.init.trunc_normal_(self.table, std=0.02)
        at = torch.arange(window * window)
        row, column = at // window, at % window
        distance = [axis[:, None] - axis[None, :] + window - 1 for axis in (row, column)]  # each 0 .. 2 * window - 2
        index = distance[0] * (2 * window - 1) + distance[1]  # (window^2, window^2)
        self.register_buffer("index", index, persistent=False)

    def forward(self) -> Tensor:
        """Return the bias of shape (h, window^2, window^2)."""
        return F.embedding(self.index, self.table.flatten(0, 1)).permute(2, 0, 1)
