import copy
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from yolo_mha import SpatialMHA
from yolo_mha.errors import ConfigError
from yolo_mha.nn.heads import resolve_heads
from yolo_mha.nn.positions import rotate
from yolo_mha.nn.spatial import POSITIONS

from . import reference
from .operators import Operators

SCOPES = [
    {"scope": "global"},
    {"scope": "window", "window": 3},
    {"scope": "axial"},
    {"kv_stride": 2},
    {"kv_stride": 3},
]
PAIRS = [(s, p) for s in SCOPES for p in POSITIONS if p != "relative" or s.get("scope") == "window"]


def lively(attention: SpatialMHA) -> SpatialMHA:
    """Give what starts at ones or near zero numbers that matter."""
    for name, parameter in attention.named_parameters():
        if "norm" in name or "table" in name:
            torch.nn.init.normal_(parameter)
    return attention.eval()


@settings(max_examples=120, deadline=None)
@given(
    batch=st.integers(1, 2),
    heads=st.integers(1, 3),
    head_dim=st.sampled_from([4, 8]),
    height=st.integers(1, 8),
    width=st.integers(1, 8),
    qkv_bias=st.booleans(),
    qk_norm=st.booleans(),
    inner=st.booleans(),
    pair=st.sampled_from(PAIRS),
    channels_last=st.booleans(),
)
def test_forward__equals_the_equations_at_any_size(
    batch, heads, head_dim, height, width, qkv_bias, qk_norm, inner, pair, channels_last
):
    scope, position = pair
    dim = 12 if inner else heads * head_dim
    attention = lively(
        SpatialMHA(dim, heads, head_dim=head_dim, qkv_bias=qkv_bias, qk_norm=qk_norm, position=position, **scope)
    )
    x = torch.randn(batch, dim, height, width)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    before = x.clone()
    with torch.no_grad():
        out = attention(x)
        torch.testing.assert_close(out.double(), reference.spatial_mha(attention, x), atol=2e-5, rtol=1e-4)
    for layout in (torch.contiguous_format, torch.channels_last):
        assert out.is_contiguous(memory_format=layout) >= x.is_contiguous(memory_format=layout)
    assert torch.equal(x, before)


@pytest.mark.parametrize(("scope", "position"), PAIRS)
@pytest.mark.parametrize("size", [(20, 20), (13, 17), (1, 7), (6, 1), (2, 2)])
def test_every_pair__at_sizes_that_nothing_divides(scope, position, size):
    attention, x = lively(SpatialMHA(16, 2, position=position, **scope)), torch.randn(1, 16, *size)
    with torch.no_grad():
        torch.testing.assert_close(attention(x).double(), reference.spatial_mha(attention, x), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(("scope", "position"), PAIRS)
def test_gradients__are_those_of_finite_differences(scope, position):
    attention = lively(SpatialMHA(4, 1, position=position, qk_norm=position == "rope", **scope)).double()
    x = torch.randn(1, 4, 4, 5, dtype=torch.float64, requires_grad=True)
    parameters = list(attention.parameters())

    def run(x, *values):
        named = dict(zip([n for n, _ in attention.named_parameters()], values, strict=True))
        return torch.func.functional_call(attention, named, (x,))

    assert torch.autograd.gradcheck(run, (x, *parameters), fast_mode=True)


def test_global__is_torch_multihead_attention():
    attention, x = SpatialMHA(24, 3).eval(), torch.randn(2, 24, 5, 7)
    torch_mha = nn.MultiheadAttention(24, 3, batch_first=True).eval()
    with torch.no_grad():
        torch_mha.in_proj_weight.copy_(attention.qkv.weight.flatten(1))
        torch_mha.in_proj_bias.copy_(attention.qkv.bias)
        torch_mha.out_proj.weight.copy_(attention.proj.weight.flatten(1))
        torch_mha.out_proj.bias.copy_(attention.proj.bias)
        tokens = x.flatten(2).transpose(1, 2)
        expected = torch_mha(tokens, tokens, tokens)[0].transpose(1, 2).view_as(x)
        torch.testing.assert_close(attention(x), expected, atol=1e-5, rtol=1e-4)


def test_global__is_timm_attention2d():
    attention, x = SpatialMHA(24, 3).eval(), torch.randn(2, 24, 5, 7)
    theirs = pytest.importorskip("timm.layers").Attention2d(24, num_heads=3).eval()
    theirs.load_state_dict(attention.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(attention(x), theirs(x), atol=1e-5, rtol=1e-4)


def test_window_with_relative_bias__is_timm_swin_attention():
    attention = lively(SpatialMHA(24, 3, scope="window", window=4, position="relative"))
    swin = pytest.importorskip("timm.models.swin_transformer")
    theirs = swin.WindowAttention(24, 3, window_size=4).eval()
    x = torch.randn(2, 24, 8, 12)
    with torch.no_grad():
        for ours, linear in ((attention.qkv, theirs.qkv), (attention.proj, theirs.proj)):
            linear.weight.copy_(ours.weight.flatten(1))
            linear.bias.copy_(ours.bias)
        theirs.relative_position_bias_table.copy_(attention.bias.table.flatten(0, 1))
        windows = swin.window_partition(x.permute(0, 2, 3, 1), (4, 4)).view(-1, 16, 24)
        expected = swin.window_reverse(theirs(windows).view(-1, 4, 4, 24), (4, 4), 8, 12).permute(0, 3, 1, 2)
        torch.testing.assert_close(attention(x), expected, atol=1e-5, rtol=1e-4)


def influence(attention: SpatialMHA, x: torch.Tensor, row: int, column: int) -> torch.Tensor:
    """Which positions of the output, (H, W), change when one position of the input does."""
    with torch.no_grad():
        changed = x.clone()
        changed[..., row, column] += 3
        return (attention(changed) - attention(x)).abs().amax((0, 1)) > 1e-6


@pytest.mark.parametrize("position", ["none", "sincos", "rope", "relative"])
def test_window__never_sees_outside_itself(position):
    attention = lively(SpatialMHA(16, 2, scope="window", window=4, position=position))
    seen = influence(attention, torch.randn(1, 16, 10, 7), 5, 6)
    expected = torch.zeros(10, 7, dtype=torch.bool)
    expected[4:8, 4:7] = True
    assert torch.equal(seen, expected)


def test_axial__reaches_everything_through_one_corner():
    assert influence(lively(SpatialMHA(16, 2, scope="axial")), torch.randn(1, 16, 6, 9), 2, 3).all()


def test_pooled_keys__do_not_know_the_order_within_a_cell():
    attention, x = lively(SpatialMHA(16, 2, kv_stride=2)), torch.randn(1, 16, 4, 6)
    swapped = x.clone()
    swapped[..., 0, 0], swapped[..., 1, 1] = x[..., 1, 1], x[..., 0, 0]
    with torch.no_grad():
        same = ~((attention(swapped) - attention(x)).abs().amax((0, 1)) > 1e-6)
    assert same.sum() == 4 * 6 - 2  # all queries but the two that were swapped


def test_rope__scores_depend_on_distances_only():
    q, k = torch.randn(2, 1, 1, 1, 1, 8)

    def score(at, key_at):
        places = [torch.tensor([float(v)]) for v in (*at, *key_at)]
        return (rotate(q, *places[:2]) * rotate(k, *places[2:])).sum()

    for shift in [(3, 0), (0, 5), (7, -2)]:
        moved = score((1 + shift[0], 2 + shift[1]), (4 + shift[0], 9 + shift[1]))
        torch.testing.assert_close(moved, score((1, 2), (4, 9)), atol=1e-5, rtol=1e-4)
    assert not torch.isclose(score((1, 2), (4, 9)), score((1, 2), (5, 9)), atol=1e-3)
    assert not torch.isclose(score((1, 2), (4, 9)), score((1, 2), (4, 8)), atol=1e-3)


@pytest.mark.parametrize("position", ["sincos", "rope", "dwconv"])
def test_positions__tell_places_apart(position):
    attention, x = lively(SpatialMHA(16, 2, position=position)), torch.randn(1, 16, 4, 6)
    order = torch.randperm(24)
    with torch.no_grad():
        shuffled = attention(x.flatten(2)[..., order].view_as(x))
        assert not torch.allclose(attention(x).flatten(2)[..., order].view_as(x), shuffled, atol=1e-3)


@pytest.mark.parametrize("size", [(20, 20), (13, 17), (1, 7)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_forward__keeps_the_memory_format(size, memory_format):
    x = torch.randn(2, 64, *size).contiguous(memory_format=memory_format)
    out = SpatialMHA(64)(x)
    assert out.is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("scope", "position"), PAIRS)
@pytest.mark.parametrize("size", [(24, 24), (23, 25)])
def test_forward__takes_the_fused_kernel_and_never_builds_the_square_matrix(
    scope, position, size, training, memory_format
):
    attention = SpatialMHA(32, 2, position=position, **scope).train(training)
    x = torch.randn(1, 32, *size).contiguous(memory_format=memory_format).requires_grad_(training)
    with torch.set_grad_enabled(training), Operators() as ran:
        out = attention(x)
        if training:
            out.sum().backward()
    assert ran.largest < (size[0] * size[1]) ** 2 / 2
    if position != "relative" or not training:  # the documented exception: a bias with a gradient, inside a window
        assert any("flash_attention" in name for name in ran.names), ran.names
        assert not any("softmax" in name for name in ran.names)


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
    ("scope", "size", "pairs"),
    [
        ({}, (6, 7), 42 * 42),
        ({"kv_stride": 4}, (6, 7), 42 * 4),
        ({"scope": "window", "window": 4}, (6, 7), 4 * 16 * 16),
        ({"scope": "axial"}, (6, 7), 42 * 13),
    ],
)
def test_pairs__counts_what_the_kernel_is_given(scope, size, pairs):
    attention = SpatialMHA(8, 1, **scope)
    assert attention.pairs(*size) == pairs
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    counted = []
    with FlopCounterMode(display=False, custom_mapping={kernel: lambda q, k, *_, **__: counted.append((q, k)) or 0}):
        attention.eval()(torch.randn(1, 8, *size))
    if scope.get("scope") == "axial":  # counted are H x H for every column and W x W for every row
        assert sum(q[0] * q[2] * k[2] for q, k in counted) == pairs
    else:
        assert [q[0] * q[2] * k[2] for q, k in counted] == [pairs]


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
    "arguments",
    [
        {"num_heads": 0},
        {"num_heads": 2.0},
        {"head_dim": 7},
        {"position": "dwcov"},
        {"attn_drop": 1.5},
        {"qk_norm": 1},
        {"scope": "windows"},
        {"window": 8},
        {"scope": "window", "window": 0},
        {"scope": "window", "window": 65},
        {"scope": "axial", "kv_stride": 2},
        {"scope": "window", "kv_stride": 2},
        {"kv_stride": 1.5},
        {"kv_stride": None},
        {"position": "rope", "head_dim": 2},
        {"scope": "axial", "position": "relative"},
    ],
)
def test_init__refuses(arguments):
    with pytest.raises(ConfigError):
        SpatialMHA(64, **arguments)


def test_init__names_rope_for_a_relative_bias_of_the_whole_map():
    with pytest.raises(ConfigError, match="rope"):
        SpatialMHA(64, position="relative")
    with pytest.raises(ConfigError, match="multiple of 4"):
        SpatialMHA(18, 2, position="sincos")
