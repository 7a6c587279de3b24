"""A convolution in the frame of the attention block, to compare attention with as many parameters of something else."""

from __future__ import annotations

from torch import Tensor, nn

from .checks import check_map, check_positive
from .fold import fold_norm_into_next, fold_norm_into_previous, gate
from .spatial import match_memory_format

KERNEL_SIZE = 3


class ConvBlock(nn.Module):
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

    inputs = 1

    def __init__(self, dim: int, hidden: int, *, gate_init: float = 0.0) -> None:
        super().__init__()
        check_positive(dim=dim, hidden=hidden)
        self.norm = nn.BatchNorm2d(dim)
        self.expand = nn.Conv2d(dim, hidden, 1)
        self.depthwise = nn.Conv2d(hidden, hidden, KERNEL_SIZE, padding=KERNEL_SIZE // 2, groups=hidden)
        self.act = nn.SiLU()
        self.project = nn.Conv2d(hidden, dim, 1)
        self.gate = gate(dim, gate_init)

    def forward(self, x: Tensor) -> Tensor:
        """Add the gated convolution to the input.

        Args:
            x: Feature map of shape (B, C, H, W), any H and W.

        Returns:
            Feature map of shape (B, C, H, W) in the memory format of ``x``.

        Raises:
            ConfigError: ``x`` is something else.
        """
        check_map(x, self.expand.in_channels)
        y = self.act(self.depthwise(self.expand(self.norm(x))))  # (B, hidden, H, W)
        return x + self.gate(match_memory_format(self.project(y), x))  # type: ignore[no-any-return]

    def fuse(self) -> None:
        """Fold norm and gate into the convolutions next to them, for inference; a second call does nothing."""
        if isinstance(self.gate, nn.Identity):
            return
        self.expand = fold_norm_into_next(self.norm, self.expand)
        self.project = fold_norm_into_previous(self.project, self.gate)
        self.norm = self.gate = nn.Identity()  # type: ignore[assignment]


def matched_hidden(dim: int, parameters: int) -> int:
    """Return the hidden width, 1 or more, at which a `ConvBlock` has as close to this many parameters as it can.

    Args:
        dim: Channels of its input.
        parameters: Number of parameters to match.
    """
    each = 2 * dim + KERNEL_SIZE**2 + 2  # what one hidden channel adds: two 1x1 rows, a 3x3 kernel, two biases
    fixed = 5 * dim  # norm and gate with two vectors each, and the last bias
    return max(round((parameters - fixed) / each), 1)
