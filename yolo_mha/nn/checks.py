"""What a module's arguments must be."""

from __future__ import annotations

import math

from torch import Tensor

from ..errors import ConfigError


def check_positive(**values: int) -> None:
    """Refuse a size that is no positive integer.

    Raises:
        ConfigError: One of the values is something else.
    """
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigError(f"{name} must be a positive integer.", given=f"{name}={value!r}", expected="1, 2, 3, ...")


def check_not_negative(**values: float) -> None:
    """Refuse numbers below 0, infinite ones, and what is no number.

    Raises:
        ConfigError: One of the values is such.
    """
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
            raise ConfigError(f"{name} must be a number, 0 or more.", given=f"{name}={value!r}", expected="0 or more")


def check_probability(**values: float) -> None:
    """Refuse dropouts that are no probabilities.

    Raises:
        ConfigError: A value is no number from 0 to below 1.
    """
    for name, p in values.items():
        if isinstance(p, bool) or not isinstance(p, (int, float)) or not 0 <= p < 1:
            raise ConfigError(f"{name} must be a probability.", given=f"{name}={p!r}", expected="0 <= p < 1")


def check_map(x: object, channels: int, name: str = "input") -> None:
    """Refuse what is no feature map of a module's width.

    Raises:
        ConfigError: It is no tensor of shape (B, channels, H, W).
    """
    # in a trace for ONNX sizes are tensors, which a branch would freeze
    fits = isinstance(x, Tensor) and x.dim() == 4 and (type(x.shape[1]) is not int or x.shape[1] == channels)
    if not fits:
        given = f"shape {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
        raise ConfigError(
            f"The {name} does not fit this module.",
            given=f"{name}: {given}",
            expected=f"a tensor of shape (batch, {channels}, height, width)",
        )
