"""What a sequence layer is given: sequences that fit, and masks made into one number per score."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..errors import ConfigError


def _describe(x: object) -> str:
    """Say what was given where a tensor was expected."""
    return f"{x.dtype} of shape {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__


def check_sequences(
    query: Tensor, key: Tensor, value: Tensor, widths: tuple[int, int, int], dtype: torch.dtype
) -> None:
    """Refuse sequences that do not fit the layer or one another.

    Args:
        query: Tensor of shape (B, Nq, widths[0]).
        key: Tensor of shape (B, Nk, widths[1]), with at least one key.
        value: Tensor of shape (B, Nk, widths[2]).
        widths: Channels of queries, keys and values.
        dtype: That of the weights, which the sequences must share outside of autocast.

    Raises:
        ConfigError: A shape or a dtype is another one.
    """
    for name, x, width in zip(("query", "key", "value"), (query, key, value), widths, strict=True):
        if not isinstance(x, Tensor) or x.dim() != 3 or x.shape[2] != width:
            raise ConfigError(
                f"The {name} does not fit this layer.",
                given=f"{name}: {_describe(x)}",
                expected=f"a tensor of shape (batch, length, {width})",
            )
        cast = torch.is_autocast_enabled(x.device.type) and x.is_floating_point() and x.dtype != torch.float64
        if x.dtype != dtype and not cast:  # autocast leaves double precision alone
            raise ConfigError(
                f"The {name} and the weights have different dtypes.",
                given=f"{name}: {_describe(x)}",
                expected=dtype,
                fix="convert the sequence or the layer, or run under torch.autocast",
            )
    if key.shape[0] != query.shape[0] or value.shape[0] != query.shape[0]:
        raise ConfigError(
            "Query, key and value have different batch sizes.",
            given=f"batches {query.shape[0]}, {key.shape[0]} and {value.shape[0]}",
            expected="the same batch size for all three",
        )
    if key.shape[1] != value.shape[1] or key.shape[1] == 0:
        raise ConfigError(
            "Each key needs one value, and there must be a key.",
            given=f"{key.shape[1]} keys and {value.shape[1]} values",
            expected="as many values as keys, 1 or more",
        )


def _mask_on_four_axes(mask: Tensor, shape: tuple[int, int, int, int]) -> Tensor:
    """Check a mask and view it as one that broadcasts to ``shape``, which is (B, h, Nq, Nk)."""
    B, h, Nq, Nk = shape
    if not isinstance(mask, Tensor) or not (mask.dtype == torch.bool or mask.is_floating_point()):
        raise ConfigError(
            "The mask has the wrong type.",
            given=f"mask: {_describe(mask)}",
            expected="a boolean tensor, True = may be attended, or floats to add to the scores",
        )
    if mask.dim() == 2:
        mask4 = mask[None, None]  # (Nq, Nk) -> (1, 1, Nq, Nk)
        fits = mask.shape[0] == Nq and mask.shape[1] == Nk
    elif mask.dim() == 3:
        mask4 = mask[:, None]  # (B, Nq, Nk) -> (B, 1, Nq, Nk)
        fits = mask.shape[0] == B and mask.shape[1] == Nq and mask.shape[2] == Nk
    else:
        mask4 = mask
        fits = mask.dim() == 4 and mask.shape[3] == Nk
        fits = fits and all(n in (1, full) for n, full in zip(mask.shape[:3], shape[:3], strict=True))
    if not fits:
        raise ConfigError(
            "The mask has the wrong shape.",
            given=f"mask: {_describe(mask)}",
            expected=f"({Nq}, {Nk}), ({B}, {Nq}, {Nk}) or ({B} or 1, {h} or 1, {Nq} or 1, {Nk})",
        )
    return mask4


def _check_valid_lens(valid_lens: Tensor, shape: tuple[int, int, int, int]) -> None:
    """Refuse lengths that are no integers, are shaped otherwise, or are out of range."""
    B, _, Nq, Nk = shape
    whole = isinstance(valid_lens, Tensor) and not (valid_lens.is_floating_point() or valid_lens.is_complex())
    if not whole or valid_lens.dtype == torch.bool:
        raise ConfigError(
            "valid_lens has the wrong type.", given=f"valid_lens: {_describe(valid_lens)}", expected="integers"
        )
    fits = valid_lens.dim() in (1, 2) and valid_lens.shape[0] == B
    if not fits or (valid_lens.dim() == 2 and valid_lens.shape[1] != Nq):
        raise ConfigError(
            "valid_lens has the wrong shape.",
            given=f"valid_lens: {_describe(valid_lens)}",
            expected=f"({B},) or ({B}, {Nq})",
        )
    if torch.compiler.is_compiling():  # a graph cannot branch on values
        return
    if bool(((valid_lens < 0) | (valid_lens > Nk)).any()):
        raise ConfigError(
            "valid_lens is out of range.",
            given=f"valid_lens from {int(valid_lens.min())} to {int(valid_lens.max())}",
            expected=f"0 to the number of keys, {Nk}",
        )


def combine_masks(mask: Tensor | None, valid_lens: Tensor | None, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """Turn the masks into one to add to the scores.

    A query without any key would get a softmax over nothing, which is NaN, also in its gradient. Such a query gets all
    keys here, and the caller sets its result to zero.

    Args:
        mask: See `MultiHeadAttention.forward`.
        valid_lens: See `MultiHeadAttention.forward`.
        q: Queries of shape (B, h, Nq, d).
        k: Keys of shape (B, h, Nk, d).

    Returns:
        ``(bias, keyless)``: what to add to the scores, 0 or -inf or the numbers of the mask, in the dtype of ``q``,
        that broadcasts to (B, h, Nq, Nk); and True where a query has no key, that broadcasts to (B, h, Nq, 1).

    Raises:
        ConfigError: A mask has the wrong type or shape, or a length is out of range.
    """
    shape = (q.shape[0], q.shape[1], q.shape[2], k.shape[2])
    bias = q.new_zeros(1, 1, 1, 1)
    if mask is not None:
        mask = _mask_on_four_axes(mask, shape)
        bias = torch.where(mask, bias, -math.inf) if mask.dtype == torch.bool else mask.to(q.dtype)
    if valid_lens is not None:
        _check_valid_lens(valid_lens, shape)
        lens = valid_lens[:, None] if valid_lens.dim() == 1 else valid_lens  # (B, 1 or Nq)
        lens = lens[:, None, :, None]  # (B, 1, 1 or Nq, 1)
        bias = torch.where(torch.arange(shape[3], device=q.device) < lens, bias, -math.inf)  # (B, h or 1, Nq or 1, Nk)
    keyless = (bias == -math.inf).all(-1, keepdim=True)
    return bias.masked_fill(keyless, 0.0), keyless
