"""How many heads, and how wide."""

from __future__ import annotations

from ..errors import ConfigError
from .checks import check_positive

DEFAULT_HEAD_DIM = 32


def resolve_heads(dim: int, num_heads: int | None, head_dim: int | None = None) -> tuple[int, int]:
    """Settle the number of heads and their width for ``dim`` channels.

    Args:
        dim: Channels of the feature map.
        num_heads: Number of heads; None takes heads of ``head_dim`` channels, or of 32, or of the next wider size
            that divides ``dim``.
        head_dim: Channels of one head; given together with ``num_heads``, their product may differ from ``dim``.

    Returns:
        ``(num_heads, head_dim)``.

    Raises:
        ConfigError: A value is not a positive integer, or the heads do not divide ``dim``.
    """
    optional = {"num_heads": num_heads, "head_dim": head_dim}
    check_positive(dim=dim, **{name: value for name, value in optional.items() if value is not None})
    if num_heads is not None and head_dim is not None:
        return num_heads, head_dim
    divisors = [n for n in range(1, dim + 1) if dim % n == 0]
    if head_dim is None:
        value = num_heads or max(n for n in divisors if n <= max(dim // DEFAULT_HEAD_DIM, 1))
        name, wrong, fix = "num_heads", f"{value} heads do", "leave num_heads out for heads of 32 channels"
    else:
        name, value, wrong = "head_dim", head_dim, f"head_dim={head_dim} does"
        fix = "give num_heads as well to set the inner width freely"
    if value not in divisors:
        raise ConfigError(
            f"{wrong} not divide the {dim} channels of this layer.",
            given=f"dim={dim}, {name}={value}",
            expected=f"{name} one of {divisors}",
            fix=f"choose one of these, or {fix}",
        )
    return (value, dim // value) if head_dim is None else (dim // value, value)
