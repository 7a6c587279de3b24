import copy
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from yolo_mha import SpatialMHA
from yolo_mha.errors import ConfigError
from yolo_mha.nn.heads import resolve_heads


def reference(attention: SpatialMHA, x: torch.Tensor) -> torch.Tensor:
    """Softmax(q k^T / sqrt(d)) v in double precision, written from the equation, one head at a time."""
    x = x.double()
    b, _, h, w = x.shape
    heads, d = attention.num_heads, attention.head_dim
    weight = attention.qkv.weight.double().flatten(1)
    bias = attention.qkv.bias.double() if attention.qkv.bias is not None else 0
    tokens = x.flatten(2).transpose(1, 2) @ weight.T + bias  # (B, N, 3hd)
    q, k, v = tokens.chunk(3, dim=-1)
    out = torch.empty_like(q)
    for i in range(heads):
        part = slice(i * d, (i + 1) * d)
        scores = q[..., part] @ k[..., part].transpose(1, 2) / d**0.5
        out[..., part] = scores.softmax(-1) @ v[..., part]
    if attention.pe is not None:
        image = v.transpose(1, 2).reshape(b, heads * d, h, w)
        out = out + copy.deepcopy(attention.pe).double()(image).flatten(2).transpose(1, 2)
    out = out @ attention.proj.weight.double().flatten(1).T + attention.proj.bias.double()
    return out.transpose(1, 2).reshape(x.shape)


@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(1, 3),
    heads=st.integers(1, 4),
    head_dim=st.sampled_from([1, 3, 8]),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    qkv_bias=st.booleans(),
    position=st.sampled_from(["none", "dwconv"]),
    channels_last=st.booleans(),
)
def test_forward__equals_the_equation_at_any_size(
    batch, heads, head_dim, height, width, qkv_bias, position, channels_last
):
    attention = SpatialMHA(heads * head_dim, heads, qkv_bias=qkv_bias, position=position).eval()
    x = torch.randn(batch, heads * head_dim, height, width)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    out = attention(x)
    assert torch.allclose(out.double(), reference(attention, x), atol=1e-5)
    assert out.stride() == x.stride() or 1 in x.shape[1:]


@pytest.mark.parametrize("size", [(20, 20), (13, 17), (1, 7)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_forward__keeps_the_memory_format(size, memory_format):
    x = torch.randn(2, 64, *size).contiguous(memory_format=memory_format)
    out = SpatialMHA(64)(x)
    assert out.is_contiguous(memory_format=memory_format)


class _Operators(TorchDispatchMode):
    """Record the names of the operators that run, and the largest tensor that they return."""

    def __init__(self):
        super().__init__()
        self.names, self.largest = set(), 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.names.add(func.__name__)
        for t in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(t, torch.Tensor):
                self.largest = max(self.largest, t.numel())
        return out


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("training", [True, False])
def test_forward__takes_the_fused_kernel_and_never_builds_the_square_matrix(training, memory_format):
    attention = SpatialMHA(32, 2).train(training)
    x = torch.randn(1, 32, 24, 24).contiguous(memory_format=memory_format).requires_grad_(training)
    with _Operators() as ran:
        out = attention(x)
        if training:
            out.sum().backward()
    assert any("flash_attention" in name for name in ran.names), ran.names
    assert not any("softmax" in name for name in ran.names)
    assert ran.largest < (24 * 24) ** 2


def test_forward__is_permutation_equivariant_without_position():
    attention = SpatialMHA(32).eval()
    x, order = torch.randn(1, 32, 4, 6), torch.randperm(24)
    shuffled = x.flatten(2)[..., order].view_as(x)
    assert torch.allclose(attention(x).flatten(2)[..., order].view_as(x), attention(shuffled), atol=1e-6)


def test_dropout__only_in_training():
    attention = SpatialMHA(32, attn_drop=0.5, proj_drop=0.5)
    x = torch.randn(1, 32, 5, 5)
    assert not torch.equal(attention(x), attention(x))
    attention.eval()
    assert torch.equal(attention(x), attention(x))


def test_copies__give_the_same():
    attention, x = SpatialMHA(48, 3, position="dwconv").eval(), torch.randn(1, 48, 6, 5)
    for copied in (copy.deepcopy(attention), pickle.loads(pickle.dumps(attention))):
        assert torch.equal(copied(x), attention(x))


@pytest.mark.parametrize(
    ("dim", "heads", "head_dim", "expected"),
    [
        (256, None, None, (8, 32)),
        (16, None, None, (1, 16)),
        (48, None, None, (1, 48)),
        (80, None, None, (2, 40)),
        (64, 4, None, (4, 16)),
        (64, None, 8, (8, 8)),
        (64, 2, 8, (2, 8)),
    ],
)
def test_resolve_heads(dim, heads, head_dim, expected):
    assert resolve_heads(dim, heads, head_dim) == expected


def test_resolve_heads__names_the_heads_that_divide():
    with pytest.raises(ConfigError) as caught:
        SpatialMHA(20, 3)
    assert "[1, 2, 4, 5, 10, 20]" in str(caught.value)


@pytest.mark.parametrize(
    "arguments", [{"num_heads": 0}, {"num_heads": 2.0}, {"head_dim": 7}, {"position": "dwcov"}, {"attn_drop": 1.5}]
)
def test_init__refuses(arguments):
    with pytest.raises(ConfigError):
        SpatialMHA(64, **arguments)


def test_inner_width__may_differ_from_dim():
    attention, x = SpatialMHA(64, 3, head_dim=8), torch.randn(2, 64, 5, 3)
    assert attention.proj.in_channels == 24
    assert torch.allclose(attention(x).double(), reference(attention, x), atol=1e-5)
