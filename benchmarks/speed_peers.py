"""What `benchmark.py` compares: feature maps of a YOLO, and the modules that attend on them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psutil
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from ultralytics.nn.modules.block import AAttn, Attention
from ultralytics.nn.modules.conv import Conv
from ultralytics.nn.modules.transformer import AIFI, TransformerLayer
from ultralytics.utils.torch_utils import fuse_conv_and_bn

import yolo_mha

try:
    from timm.layers import Attention2d
    from timm.layers.bottleneck_attn import BottleneckAttn
except ImportError:  # `benchmark.py` says so
    Attention2d = BottleneckAttn = None

FORWARD, TRAINING = MODES = ("forward", "forward+backward")
OURS, BASELINE, GLOBAL, BARE = "SpatialMHA", "baseline", "global", "bare SDPA, two projections"
MHA, ATTENTION, TIMM = "nn.MultiheadAttention", "Ultralytics Attention", "timm Attention2d"
WITH_MLP = "with MLP, not like for like"
MOST_BYTES = 6e9  # that the N x N matrices of a peer may take

Run = Callable[[], object]


@dataclass(frozen=True)
class Map:
    """A square feature map of a YOLO at 640 pixels, or at 1280."""

    place: str
    side: int
    channels: int

    @property
    def heads(self) -> int:
        return self.channels // 32

    @property
    def tokens(self) -> int:
        return self.side**2

    def __str__(self) -> str:
        return f"{self.place} {self.side}x{self.side} C{self.channels}"

    def tensor(self, batch: int, device: str, seed: int = 0) -> Tensor:
        """Return the same random (B, C, H, W) for everyone."""
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(batch, self.channels, self.side, self.side, generator=generator).to(device)


P5, P4, P4_WIDE, P3 = Map("P5", 20, 256), Map("P4", 40, 128), Map("P4", 40, 256), Map("P3", 80, 64)
P3_WIDE, P3_1280 = Map("P3", 80, 128), Map("P3", 160, 64)
MAPS = (P5, P4, P4_WIDE, P3, P3_WIDE, P3_1280)
PLOTTED = (P5, P4, P3, P3_1280)  # one map for every N, the widths of a YOLO n
GROWTH = ((P4, P3_WIDE), (P3, P3_1280))


class BatchFirst(nn.Module):
    """`nn.MultiheadAttention` between (B, C, H, W) and (B, C, H, W)."""

    def __init__(self, dim: int, heads: int, need_weights: bool) -> None:
        super().__init__()
        self.attn, self.need_weights = nn.MultiheadAttention(dim, heads, batch_first=True), need_weights

    def forward(self, x: Tensor) -> Tensor:
        t = x.flatten(2).transpose(1, 2)  # (B, N, C)
        return self.attn(t, t, t, need_weights=self.need_weights)[0].transpose(1, 2).reshape(x.shape).contiguous()


class SequenceFirst(nn.Module):
    """A module of (N, B, C) between (B, C, H, W) and (B, C, H, W)."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        return self.module(x.flatten(2).permute(2, 0, 1)).permute(1, 2, 0).reshape(x.shape).contiguous()


class BareSDPA(nn.Module):
    """Nothing but two projections and PyTorch's fused attention; the output stays channels_last, which is free."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads, self.qkv, self.proj = heads, nn.Conv2d(dim, 3 * dim, 1), nn.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        B, C, H, W = x.shape
        t = self.qkv(x.contiguous(memory_format=torch.channels_last)).permute(0, 2, 3, 1)  # (B, H, W, 3C)
        q, k, v = t.reshape(B, H * W, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)  # each (B, h, N, d)
        out = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(B, H, W, C)
        return self.proj(out.permute(0, 3, 1, 2))


@dataclass(frozen=True)
class Peer:
    """What attention is compared with.

    Attributes:
        build: Makes the module for a map.
        squares: N x N float matrices that live at once in a forward and in a training step, for each head of `Map`.
        note: What a reader must know of it.
        device: The kind of device it runs on; "*" for any.
    """

    build: Callable[[Map], nn.Module]
    squares: tuple[float, float] = (0, 0)
    note: str = ""
    device: str = "*"

    def missing(self, m: Map, batch: int, mode: str) -> str:
        """Say why it does not run on a map; "" where it does."""
        need = self.squares[MODES.index(mode)] * m.heads * batch * m.tokens**2 * 4
        fits = need <= min(MOST_BYTES, psutil.virtual_memory().available * 0.7)
        return "" if fits else f"skipped: needs N^2 memory, {need / 1e9:.1f} GB"


PEERS = {
    OURS: Peer(lambda m: yolo_mha.SpatialMHA(m.channels, m.heads)),
    MHA: Peer(lambda m: BatchFirst(m.channels, m.heads, False), (1, 0), "need_weights=False"),
    f"{MHA}, weights": Peer(lambda m: BatchFirst(m.channels, m.heads, True), (1.5, 3), "need_weights=True"),
    ATTENTION: Peer(lambda m: Attention(m.channels, max(m.channels // 64, 1)), (1, 2.1), "half the heads, its own"),
    "Ultralytics AAttn": Peer(
        lambda m: AAttn(m.channels, m.heads, 4 if m.tokens % 4 == 0 else 1), (0.5, 1.1), "within a quarter of the map"
    ),
    "Ultralytics TransformerLayer": Peer(
        lambda m: SequenceFirst(TransformerLayer(m.channels, m.heads)), (2, 3), WITH_MLP
    ),
    "Ultralytics AIFI": Peer(lambda m: AIFI(m.channels, num_heads=m.heads), (2, 3), WITH_MLP),
    TIMM: Peer(lambda m: Attention2d(m.channels, num_heads=m.heads)),
    "timm BottleneckAttn": Peer(
        lambda m: BottleneckAttn(m.channels, feat_size=(m.side, m.side), num_heads=m.heads),
        (3.1, 3.1),
        "relative positions, no output projection",
    ),
    BARE: Peer(lambda m: BareSDPA(m.channels, m.heads), device="cuda"),
}


def peers(device: str) -> dict[str, Peer]:
    """Return the peers that run on a kind of device."""
    return {name: peer for name, peer in PEERS.items() if peer.device in ("*", device)}


SCOPES: dict[str, dict[str, Any]] = {
    GLOBAL: {},
    "window 10": {"scope": "window", "window": 10},
    "axial": {"scope": "axial"},
    "kv_stride 2": {"kv_stride": 2},
    "kv_stride 4": {"kv_stride": 4},
}


def fold(module: nn.Module) -> None:
    """Fold BatchNorm into Ultralytics' convolutions, as its models do for inference."""
    for conv in [m for m in module.modules() if isinstance(m, Conv) and hasattr(m, "bn")]:
        conv.conv = fuse_conv_and_bn(conv.conv, conv.bn)
        del conv.bn
        conv.forward = conv.forward_fuse


def runner(module: nn.Module, x: Tensor, mode: str, precision: str = "fp32") -> Run:
    """Return a function that runs one pass; a backward pass gives the input's gradient too, as in a backbone."""
    module.to(x.device).train(mode == TRAINING)
    autocast = functools.partial(torch.autocast, x.device.type, torch.bfloat16, enabled=precision == "bf16")
    if mode == FORWARD:
        fold(module)

        @torch.inference_mode()
        def run() -> None:
            with autocast():
                module(x)

        return run

    x = x.clone().requires_grad_()
    with autocast(), torch.no_grad():
        gradient = torch.randn_like(module(x))

    def run() -> None:
        with autocast():
            out = module(x)
        out.backward(gradient)
        x.grad = None

    return run
