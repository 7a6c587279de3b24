import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from yolo_mha import ConvBlock
from yolo_mha.errors import ConfigError
from yolo_mha.nn.conv_block import matched_hidden


def randomised(gate_init: float = 0.7) -> ConvBlock:
    """A block whose norms have seen data."""
    block = ConvBlock(12, 20, gate_init=gate_init)
    for norm in (block.norm, block.gate):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    nn.init.normal_(block.norm.weight)
    nn.init.normal_(block.norm.bias)
    return block


@pytest.mark.parametrize("mode", ["train", "eval", "fused"])
def test_zero_gate__is_the_identity_to_the_last_bit(mode):
    block, x = randomised(gate_init=0.0), torch.randn(2, 12, 7, 5)
    block.train(mode == "train")
    if mode == "fused":
        block.fuse()
    assert torch.equal(block(x), x)


def test_forward__is_an_inverted_bottleneck():
    block, x = randomised().eval(), torch.randn(2, 12, 5, 6, dtype=torch.float64)
    block.double()

    def norm(layer, x):
        return F.batch_norm(x, layer.running_mean, layer.running_var, layer.weight, layer.bias, False, 0, layer.eps)

    wide = torch.einsum("oi,bihw->bohw", block.expand.weight[:, :, 0, 0], norm(block.norm, x))
    padded = F.pad(wide + block.expand.bias[:, None, None], (1, 1, 1, 1))
    mixed = block.depthwise.bias[:, None, None] + sum(
        block.depthwise.weight[:, 0, i, j, None, None] * padded[:, :, i : i + 5, j : j + 6]
        for i in range(3)
        for j in range(3)
    )
    out = torch.einsum("oi,bihw->bohw", block.project.weight[:, :, 0, 0], mixed * torch.sigmoid(mixed))
    expected = x + norm(block.gate, out + block.project.bias[:, None, None])
    assert torch.allclose(block(x), expected, atol=1e-9)


def test_fuse__changes_nothing_but_the_modules():
    block, x = randomised().eval(), torch.randn(2, 12, 7, 5)
    fused = copy.deepcopy(block)
    fused.fuse()
    assert not any(isinstance(m, nn.BatchNorm2d) for m in fused.modules())
    assert torch.allclose(fused(x), block(x), atol=1e-4)
    weight = fused.expand.weight
    fused.fuse()
    assert fused.expand.weight is weight


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [(1, 1), (9, 7)])
def test_forward__keeps_size_and_memory_format(memory_format, size):
    x = torch.randn(2, 12, *size).contiguous(memory_format=memory_format)
    out = randomised()(x)
    assert out.shape == x.shape
    assert out.is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize("dim", [1, 8, 64, 257])
@pytest.mark.parametrize("parameters", [1, 1000, 16896, 263168])
def test_matched_hidden__is_the_nearest(dim, parameters):
    def off(hidden: int) -> int:
        return abs(sum(p.numel() for p in ConvBlock(dim, hidden).parameters()) - parameters)

    hidden = matched_hidden(dim, parameters)
    assert all(off(hidden) <= off(other) for other in (hidden - 1, hidden + 1) if other)


@pytest.mark.parametrize("arguments", [{"hidden": 0}, {"hidden": 2.0}, {"dim": True}, {"gate_init": -1}])
def test_init__refuses(arguments):
    with pytest.raises(ConfigError):
        ConvBlock(**{"dim": 8, "hidden": 8, **arguments})


def test_forward__names_what_it_was_given():
    with pytest.raises(ConfigError, match=r"\(batch, 12, height, width\)"):
        randomised()(torch.zeros(2, 8, 4, 4))
