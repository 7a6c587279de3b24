"""The block that goes into a backbone: norm, attention, gate, residual, and an optional MLP."""

from __future__ import annotations

from torch import Tensor, nn

from .checks import check_not_negative, check_positive
from .fold import Gate, GatedBlock, fold
from .spatial import SpatialMHA


class PositionwiseMLP(nn.Module):
    """Two 1x1 convolutions with SiLU between them, the same at every position (Vaswani et al. 2017, section 3.3).

    Args:
        dim: Channels of the input and of the output.
        hidden: Channels in between.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.widen = nn.Conv2d(dim, hidden, 1)
        self.act = nn.SiLU()
        self.narrow = nn.Conv2d(hidden, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H, W)."""
        return self.narrow(self.act(self.widen(x)))  # type: ignore[no-any-return]


class SpatialMHABlock(GatedBlock):
    """Pre-norm residual attention: ``x + gate(attn(norm(x)))``, then the same with an MLP if ``mlp_ratio > 0``.

    With ``gate_init=0.0`` the block is the identity until the first optimizer step, so pretrained layers around it
    keep their outputs. Channels, height and width stay as they are.

    Args:
        dim: Channels of the input and of the output; in a model YAML it is filled in from the previous layer.
        num_heads: Number of heads; None takes heads of 32 channels.
        mlp_ratio: Hidden width of the MLP as a multiple of ``dim``; 0 leaves the MLP out.
        gate_init: Start value of the gates.
        head_dim: Channels of one head; with ``num_heads`` it sets the inner width freely.
        qkv_bias: Whether the query, key and value projection has a bias.
        qk_norm: Whether queries and keys are normed, see `HeadNorm`.
        attn_drop: Dropout probability on the attention weights.
        proj_drop: Dropout probability on the output of the attention.
        position: "none", "dwconv", "sincos", "rope" or "relative", see `SpatialMHA`.
        scope: "global", "window" or "axial", see `SpatialMHA`.
        window: Height and width of a window in positions, 10 if None.
        kv_stride: Height and width of the cells that keys and values are pooled to.

    Raises:
        ConfigError: An argument is out of range, two do not go together, or the heads do not divide ``dim``.
    """

    ends = ("attn.qkv", "attn.proj")

    def __init__(
        self,
        dim: int,
        num_heads: int | None = None,
        *,
        mlp_ratio: float = 0.0,
        gate_init: float = 0.0,
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
        check_positive(dim=dim)
        check_not_negative(mlp_ratio=mlp_ratio)
        self.norm = nn.BatchNorm2d(dim)
        self.attn = SpatialMHA(
            dim,
            num_heads,
            head_dim=head_dim,
            qkv_bias=qkv_bias,
            qk_norm=qk_norm,
            attn_drop=attn_drop,
            proj_drop=proj_drop,
            position=position,
            scope=scope,
            window=window,
            kv_stride=kv_stride,
        )
        self.gate = Gate(dim, gate_init)
        self.mlp: PositionwiseMLP | None = None
        if mlp_ratio:
            self.mlp_norm = nn.BatchNorm2d(dim)
            self.mlp = PositionwiseMLP(dim, max(round(dim * mlp_ratio), 1))
            self.mlp_gate = Gate(dim, gate_init)

    def forward(self, x: Tensor) -> Tensor:
        """Add the gated attention, and the gated MLP, to the input; see `GatedBlock.forward`."""
        x = super().forward(x)
        return x if self.mlp is None else x + self.mlp_gate(self.mlp(self.mlp_norm(x)))

    def fuse(self) -> None:
        """Fold norms and gates into the convolutions next to them, for inference; a second call does nothing.

        With ``position="sincos"`` the codes stand between the first norm and its convolution, so it stays.
        """
        norms = {} if self.attn.position == "sincos" else {"norm": "attn.qkv"}
        gates = {"gate": "attn.proj"}
        if self.mlp is not None:
            norms["mlp_norm"], gates["mlp_gate"] = "mlp.widen", "mlp.narrow"
        fold(self, norms, gates)
