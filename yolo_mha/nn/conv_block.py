"""A convolution in the frame of the attention block, to compare attention with as many parameters of something else."""

from __future__ import annotations

from torch import Tensor, nn

from .checks import check_positive
from .fold import Gate, GatedBlock
from .spatial import match_memory_format

KERNEL_SIZE = 3


class ConvBlock(GatedBlock):
    """Pre-norm residual convolution: ``x + gate(project(silu(depthwise(expand(norm(x))))))``.

    The branch is the inverted bottleneck (Sandler et al. 2018, MobileNetV2, section 3.3): 1x1 to ``hidden`` channels,
    3x3 on each of them, 1x1 back. Norm, gate and residual are those of `SpatialMHABlock`, so with ``gate_init=0.0`` the
    block is the identity until the first optimizer step. Channels, height and width stay as they are.

    Args:
        dim: Channels of the input and of the output; in a model YAML it is filled in from the previous layer.
        hidden: Channels in between; `matched_hidden` finds the number that gives a wanted count of parameters.
        gate_init: Start value of the gate.

    Raises:
        ConfigError: An argument is out of range.
    """

    ends = ("expand", "project")

    def __init__(self, dim: int, hidden: int, *, gate_init: float = 0.0) -> None:
        super().__init__()
        check_positive(dim=dim, hidden=hidden)
        self.norm = nn.BatchNorm2d(dim)
        self.expand = nn.Conv2d(dim, hidden, 1)
        self.depthwise = nn.Conv2d(hidden, hidden, KERNEL_SIZE, padding=KERNEL_SIZE // 2, groups=hidden)
        self.act = nn.SiLU()
        self.project = nn.Conv2d(hidden, dim, 1)
        self.gate = Gate(dim, gate_init)

    def branch(self, x: Tensor) -> Tensor:
        """Convolve the normed input."""
        return match_memory_format(self.project(self.act(self.depthwise(self.expand(x)))), x)


def matched_hidden(dim: int, parameters: int) -> int:
    """Return the hidden width, 1 or more, at which a `ConvBlock` has as close to this many parameters as it can.

    Args:
        dim: Channels of its input.
        parameters: Number of parameters to match.
    """
    each = 2 * dim + KERNEL_SIZE**2 + 2  # what one hidden channel adds: two 1x1 rows, a 3x3 kernel, two biases
    fixed = 5 * dim  # norm and gate with two vectors each, and the last bias
    return max(round((parameters - fixed) / each), 1)
