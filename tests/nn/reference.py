"""Attention in double precision, written from the equations: every position a loop index, every pair a number."""

import copy
import math

import torch
from torch import Tensor


def convolve(conv: torch.nn.Conv2d, x: Tensor) -> Tensor:
    return copy.deepcopy(conv).double()(x)


def codes(dim: int, rows: list[float], columns: list[float]) -> Tensor:
    """Sines and cosines of the row, then of the column: Vaswani et al. 2017, section 3.5, for two axes."""
    out = torch.zeros(dim, len(rows), len(columns), dtype=torch.float64)
    quarter = dim // 4
    for i in range(quarter):
        frequency = 10000 ** (-i / quarter)
        for r, row in enumerate(rows):
            for c, column in enumerate(columns):
                values = (math.sin(row * frequency), math.cos(row * frequency))
                values += (math.sin(column * frequency), math.cos(column * frequency))
                for part, value in enumerate(values):
                    out[part * quarter + i, r, c] = value
    return out


def turned(head: Tensor, row: float, column: float) -> Tensor:
    """One head (d,) with its pairs as complex numbers, multiplied by exp(i * position * 100^(-2t / (d / 2)))."""
    quarter = head.numel() // 4
    a, b, c, d = head.split(quarter)
    frequency = 100.0 ** (-torch.arange(quarter, dtype=torch.float64) / quarter)
    first = torch.complex(a, b) * torch.polar(torch.ones_like(frequency), frequency * row)
    second = torch.complex(c, d) * torch.polar(torch.ones_like(frequency), frequency * column)
    return torch.cat([first.real, first.imag, second.real, second.imag])


def normed(head: Tensor, norm: torch.nn.Module) -> Tensor:
    if isinstance(norm, torch.nn.Identity):
        return head
    return head / head.square().mean(-1, keepdim=True).sqrt() * norm.weight.double()


def softmax_of(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor, bias: Tensor | float = 0.0) -> Tensor:
    """One head: q (Nq, d), k and v (Nk, d), allowed (Nq, Nk)."""
    scores = q @ k.T / math.sqrt(q.shape[1]) + bias
    weights = torch.where(allowed, scores, -torch.inf).exp()
    return (weights / weights.sum(1, keepdim=True)) @ v


def cells(size: int, stride: int) -> list[list[int]]:
    return [list(range(i, min(i + stride, size))) for i in range(0, size, stride)]


def spatial_mha(attention, x: Tensor) -> Tensor:
    """What `SpatialMHA` has to give, for one image or several."""
    x = x.double()
    B, C, H, W = x.shape
    h, d = attention.num_heads, attention.head_dim
    y = x + codes(C, list(range(H)), list(range(W))) if attention.position == "sincos" else x
    q, k, v = convolve(attention.qkv, y).chunk(3, 1)  # each (B, hd, H, W)
    values = v
    rows, columns = cells(H, attention.kv_stride), cells(W, attention.kv_stride)
    pooled = [
        torch.stack([torch.stack([t[:, :, r][..., c].mean((2, 3)) for c in columns], -1) for r in rows], -2)
        for t in (k, v)
    ]
    k, v = pooled
    query_at = [(r, c) for r in range(H) for c in range(W)]
    key_at = [(sum(r) / len(r), sum(c) / len(c)) for r in rows for c in columns]

    def allowed(rule) -> Tensor:
        return torch.tensor([[rule(a, b) for b in key_at] for a in query_at])

    out = torch.zeros(B, h * d, H, W, dtype=torch.float64)
    for b in range(B):
        for i in range(h):
            part = slice(i * d, (i + 1) * d)
            qi, ki, vi = (t[b, part].flatten(1).T for t in (q, k, v))
            qi, ki = normed(qi, attention.q_norm), normed(ki, attention.k_norm)
            if attention.position == "rope":
                qi = torch.stack([turned(t, *at) for t, at in zip(qi, query_at, strict=True)])
                ki = torch.stack([turned(t, *at) for t, at in zip(ki, key_at, strict=True)])
            if attention.scope == "axial":
                vi = softmax_of(qi, ki, vi, allowed(lambda a, b: a[1] == b[1]))
                vi = softmax_of(qi, ki, vi, allowed(lambda a, b: a[0] == b[0]))
            elif attention.scope == "window":
                w = attention.window
                same = allowed(lambda a, b, w=w: a[0] // w == b[0] // w and a[1] // w == b[1] // w)
                vi = softmax_of(qi, ki, vi, same, distance_bias(attention, i, query_at))
            else:
                vi = softmax_of(qi, ki, vi, torch.ones(len(query_at), len(key_at), dtype=torch.bool))
            out[b, part] = vi.T.view(d, H, W)
    if attention.pe is not None:
        out = out + convolve(attention.pe, values)
    return convolve(attention.proj, out)


def distance_bias(attention, head: int, at: list[tuple[int, int]]) -> Tensor | float:
    """Swin's bias: the table's entry for (row distance, column distance), from -(w - 1) to w - 1 each."""
    if attention.bias is None:
        return 0.0
    w = attention.window
    table = attention.bias.table.double()[:, :, head]
    out = torch.zeros(len(at), len(at), dtype=torch.float64)
    for i, a in enumerate(at):
        for j, b in enumerate(at):
            if abs(a[0] - b[0]) < w and abs(a[1] - b[1]) < w:
                out[i, j] = table[a[0] - b[0] + w - 1, a[1] - b[1] + w - 1]
    return out


def cross_scale(block, x: Tensor, context: Tensor) -> Tensor:
    """What an evaluating `CrossScaleMHA` has to give."""
    x, context = x.double(), context.double()
    B, C, H, W = x.shape
    Cc, Hc, Wc = context.shape[1:]
    h, d = block.num_heads, block.head_dim
    y, z = (copy.deepcopy(norm).double()(t) for norm, t in ((block.norm, x), (block.context_norm, context)))
    rows, columns = ([(i + 0.5) * a / b - 0.5 for i in range(b)] for a, b in ((H, Hc), (W, Wc)))
    if block.position == "sincos":
        y, z = y + codes(C, list(range(H)), list(range(W))), z + codes(Cc, rows, columns)
    q, (k, v) = convolve(block.q, y), convolve(block.kv, z).chunk(2, 1)
    query_at, key_at = [(r, c) for r in range(H) for c in range(W)], [(r, c) for r in rows for c in columns]
    out = torch.zeros(B, h * d, H, W, dtype=torch.float64)
    for b in range(B):
        for i in range(h):
            part = slice(i * d, (i + 1) * d)
            qi, ki, vi = (t[b, part].flatten(1).T for t in (q, k, v))
            qi, ki = normed(qi, block.q_norm), normed(ki, block.k_norm)
            if block.position == "rope":
                qi = torch.stack([turned(t, *at) for t, at in zip(qi, query_at, strict=True)])
                ki = torch.stack([turned(t, *at) for t, at in zip(ki, key_at, strict=True)])
            everything = torch.ones(H * W, Hc * Wc, dtype=torch.bool)
            out[b, part] = softmax_of(qi, ki, vi, everything).T.view(d, H, W)
    return x + copy.deepcopy(block.gate).double()(convolve(block.proj, out))
