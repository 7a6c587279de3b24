"""Which keys a query sees: the whole map, its window, or its column and row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

DEFAULT_WINDOW = 10  # divides the maps of 640 px at strides 8, 16 and 32


class Attend(Protocol):
    """Attention on heads of shape (B, h, N, d), see `attend`."""

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return attended values of shape (B, h, Nq, d)."""


def is_fixed(*sizes: int) -> bool:
    """Say whether sizes are plain numbers, so that code may branch on them.

    In a trace for ONNX they are tensors and in `torch.export` they may be symbols; a branch would freeze one size.
    """
    return all(type(size) is int for size in sizes)


def cells(size: int, stride: int) -> int:
    """Return how many cells of ``stride`` positions cover ``size`` of them."""
    return (size + stride - 1) // stride


def count_pairs(
    height: int, width: int, scope: str = "global", window: int = DEFAULT_WINDOW, kv_stride: int = 1
) -> int:
    """Return how many pairs of a query and a key each head scores; twice the head's channels are multiplied for each.

    Args:
        height: Height of the map in positions.
        width: Width of the map.
        scope: "global", "window" or "axial".
        window: Height and width of a window.
        kv_stride: Height and width of the cells that keys are pooled to.
    """
    if scope == "window":
        return cells(height, window) * cells(width, window) * window**4
    if scope == "axial":
        return height * width * (height + width)
    return height * width * cells(height, kv_stride) * cells(width, kv_stride)


def attend_globally(q: Tensor, k: Tensor, v: Tensor, attend: Attend, mask: Tensor | None = None) -> Tensor:
    """Let every query see every key, but for a mask; there may be fewer keys than queries.

    Args:
        q: Queries of shape (B, H, W, h, d).
        k: Keys of shape (B, Hk, Wk, h, d).
        v: Values of shape (B, Hk, Wk, h, d).
        attend: Attention on sequences.
        mask: What `attend` takes, broadcastable to (B, h, H * W, Hk * Wk).

    Returns:
        Attended values of shape (B, H, W, h * d).
    """
    B, H, W, _, _ = q.shape
    q, k, v = (t.flatten(1, 2).transpose(1, 2) for t in (q, k, v))  # each (B, h, N, d)
    out = attend(q, k, v, mask)  # (B, h, H * W, d)
    return out.transpose(1, 2).reshape(B, H, W, -1)


def attend_along_axes(q: Tensor, k: Tensor, v: Tensor, attend: Attend) -> Tensor:
    """Attend along the columns, then along the rows: axial attention (Ho et al. 2019), in one layer.

    There each axis has its own projections; here queries and keys are the same for both, and the second attends to what
    the first found. Every query so reaches every position by way of the one in its own row and that position's column.

    Args:
        q: Queries of shape (B, H, W, h, d).
        k: Keys, as the queries.
        v: Values, as the queries.
        attend: Attention on sequences.

    Returns:
        Attended values of shape (B, H, W, h * d).
    """
    B, H, W, h, d = q.shape
    columns = (t.transpose(1, 2).reshape(-1, H, h, d).transpose(1, 2) for t in (q, k, v))
    out = attend(*columns)  # (B * W, h, H, d)
    v = out.transpose(1, 2).reshape(B, W, H, h, d).transpose(1, 2)
    rows = (t.reshape(-1, W, h, d).transpose(1, 2) for t in (q, k, v))
    out = attend(*rows)  # (B * H, h, W, d)
    return out.transpose(1, 2).reshape(B, H, W, h * d)


def to_windows(x: Tensor, window: int) -> Tensor:
    """Cut a map into windows (Liu et al. 2021, Swin, section 3.2), filled up with zeros at the right and the bottom.

    The windows are not shifted from layer to layer, so positions of different windows do not meet in attention.

    Args:
        x: Feature map of shape (B, C, H, W).
        window: Height and width of a window in positions.

    Returns:
        Windows of shape (B * rows * columns, C, window, window) in channels_last.
    """
    B, C, H, W = x.shape
    rows, columns = cells(H, window), cells(W, window)
    if not _is_whole(H, W, window):
        x = F.pad(x, (0, columns * window - W, 0, rows * window - H))
    parts = x.reshape(B, C, rows, window, columns, window).permute(0, 2, 4, 3, 5, 1)
    return parts.reshape(-1, window, window, C).permute(0, 3, 1, 2)


def from_windows(windows: Tensor, size: Sequence[int], window: int) -> Tensor:
    """Put windows back together and take off what was filled in: the inverse of `to_windows`.

    Args:
        windows: Of shape (B * rows * columns, C, window, window).
        size: Height and width of the map.
        window: Height and width of a window in positions.

    Returns:
        Feature map of shape (B, C, H, W).
    """
    C, (H, W) = windows.shape[1], size
    rows, columns = cells(H, window), cells(W, window)
    parts = windows.reshape(-1, rows, columns, C, window, window).permute(0, 3, 1, 4, 2, 5)
    x = parts.reshape(-1, C, rows * window, columns * window)
    # a slice would make the strides depend on the size, which an export with free sizes cannot have
    return x if _is_whole(H, W, window) else F.pad(x, (0, W - columns * window, 0, H - rows * window))


def inside_map(x: Tensor, window: int) -> Tensor | None:
    """Say which positions of the windows of a map were not filled in.

    Args:
        x: Feature map of shape (B, C, H, W).
        window: Height and width of a window in positions.

    Returns:
        Booleans of shape (B * rows * columns, 1, 1, window^2); None where windows divide the map.
    """
    B, _, H, W = x.shape
    if _is_whole(H, W, window):
        return None
    rows, columns = (torch.arange(cells(size, window) * window, device=x.device) < size for size in (H, W))
    inside = to_windows((rows[:, None] & columns)[None, None], window)  # (rows * columns, 1, window, window)
    return inside.reshape(-1, 1, 1, window * window).repeat(B, 1, 1, 1)


def _is_whole(H: int, W: int, window: int) -> bool:
    return is_fixed(H, W) and H % window == 0 and W % window == 0
