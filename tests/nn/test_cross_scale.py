import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from yolo_mha import CrossScaleMHA
from yolo_mha.errors import ConfigError
from yolo_mha.nn.cross_scale import POSITIONS
from yolo_mha.nn.positions import grid_within

from . import reference


def lively(block: CrossScaleMHA) -> CrossScaleMHA:
    """A block whose norms have seen data, and whose gate is open."""
    for module in block.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    for name, parameter in block.named_parameters():
        if "norm" in name or "gate" in name:
            nn.init.normal_(parameter)
    return block.eval()


@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(1, 2),
    heads=st.integers(1, 3),
    head_dim=st.sampled_from([4, 8]),
    context_dim=st.sampled_from([4, 12]),
    sizes=st.tuples(*[st.integers(1, 6)] * 4),
    qkv_bias=st.booleans(),
    qk_norm=st.booleans(),
    position=st.sampled_from(POSITIONS),
    channels_last=st.booleans(),
)
def test_forward__equals_the_equations_at_any_pair_of_sizes(
    batch, heads, head_dim, context_dim, sizes, qkv_bias, qk_norm, position, channels_last
):
    dim = heads * head_dim
    block = lively(CrossScaleMHA(dim, context_dim, heads, qkv_bias=qkv_bias, qk_norm=qk_norm, position=position))
    x, context = torch.randn(batch, dim, *sizes[:2]), torch.randn(batch, context_dim, *sizes[2:])
    if channels_last:
        x, context = (t.contiguous(memory_format=torch.channels_last) for t in (x, context))
    with torch.no_grad():
        out = block([x, context])
        torch.testing.assert_close(out.double(), reference.cross_scale(block, x, context), atol=5e-5, rtol=1e-4)
    assert out.stride() == x.stride() or 1 in x.shape[1:]


@pytest.mark.parametrize("position", POSITIONS)
def test_forward__is_the_identity_while_the_gate_is_zero(position):
    block = CrossScaleMHA(16, 8, position=position)
    x = torch.randn(2, 16, 5, 7)
    for mode in ("train", "eval", "fused"):
        block.train(mode == "train")
        if mode == "fused":
            block.fuse()
        assert torch.equal(block([x, torch.randn(2, 8, 3, 2)]), x)


@pytest.mark.parametrize("position", POSITIONS)
def test_fuse__changes_nothing_but_the_modules(position):
    block, maps = lively(CrossScaleMHA(16, 8, position=position)), [torch.randn(2, 16, 5, 7), torch.randn(2, 8, 3, 2)]
    fused = copy.deepcopy(block)
    fused.fuse()
    fused.fuse()
    torch.testing.assert_close(fused(maps), block(maps), atol=1e-4, rtol=1e-4)
    norms = [m for m in fused.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == (2 if position == "sincos" else 0)


def test_context__order_of_its_positions_does_not_matter_without_position():
    block = lively(CrossScaleMHA(16, 8))
    x, context = torch.randn(1, 16, 4, 4), torch.randn(1, 8, 3, 5)
    shuffled = context.flatten(2)[..., torch.randperm(15)].view_as(context)
    torch.testing.assert_close(block([x, shuffled]), block([x, context]), atol=1e-5, rtol=1e-4)


def test_positions__of_both_maps_are_of_one_image():
    rows, columns = grid_within(torch.zeros(1, 1, 8, 6), torch.zeros(1, 1, 4, 2))
    assert rows.tolist() == [0.5, 2.5, 4.5, 6.5]
    assert columns.tolist() == [1.0, 4.0]


def test_gradients__are_those_of_finite_differences():
    block = lively(CrossScaleMHA(4, 3, 1, position="rope", qk_norm=True)).double()
    maps = [torch.randn(1, c, *s, dtype=torch.float64, requires_grad=True) for c, s in ((4, (3, 2)), (3, (2, 2)))]
    assert torch.autograd.gradcheck(lambda x, context: block([x, context]), maps)


@pytest.mark.parametrize(
    ("maps", "words"),
    [
        (torch.zeros(2, 16, 4, 4), "needs two feature maps"),
        ([torch.zeros(2, 16, 4, 4)], "needs two feature maps"),
        ([torch.zeros(2, 16, 4, 4), torch.zeros(2, 16, 4, 4)], "context does not fit this module"),
        ([torch.zeros(2, 16, 4, 4), torch.zeros(1, 8, 4, 4)], "different batch sizes"),
    ],
)
def test_forward__names_what_it_was_given(maps, words):
    with pytest.raises(ConfigError, match=words):
        CrossScaleMHA(16, 8)(maps)


@pytest.mark.parametrize(
    "arguments",
    [
        {"context_dim": 0},
        {"context_dim": None},
        {"num_heads": 3},
        {"position": "dwconv"},
        {"position": "sincos", "context_dim": 6},
        {"position": "rope", "num_heads": 16},
        {"gate_init": -1},
        {"attn_drop": 1},
        {"qkv_bias": "yes"},
    ],
)
def test_init__refuses(arguments):
    with pytest.raises(ConfigError):
        CrossScaleMHA(**{"dim": 16, "context_dim": 8, **arguments})
