import copy

import pytest
import torch
from torch import nn

from yolo_mha import S2Attention, SpatialMHA, SpatialMHABlock
from yolo_mha.errors import ConfigError

VARIANTS = [
    {},
    {"mlp_ratio": 2.0},
    {"qkv_bias": False},
    {"position": "dwconv", "mlp_ratio": 1.2},
    {"position": "sincos"},
    {"position": "rope", "scope": "axial", "qk_norm": True},
    {"position": "relative", "scope": "window", "window": 3},
    {"position": "sincos", "scope": "window", "window": 4},
    {"position": "dwconv", "kv_stride": 2, "qk_norm": True},
]


def randomised(**arguments) -> SpatialMHABlock:
    """A block whose norms have seen data."""
    block = SpatialMHABlock(64, 2, **arguments)
    for module in block.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            if module not in (block.gate, getattr(block, "mlp_gate", None)):
                nn.init.normal_(module.weight)
            nn.init.normal_(module.bias) if module.weight.any() else None
    return block


@pytest.mark.parametrize("gate_init", [0.0, 0.25])
def test_gate__begins_anew_where_it_began(gate_init):
    """Ultralytics calls this of all parts of a classifier that is trained with ``pretrained=False``."""
    gate = SpatialMHABlock(64, 2, gate_init=gate_init).gate
    nn.init.ones_(gate.weight)
    copy.deepcopy(gate).reset_parameters()
    assert gate.weight.unique() == 1
    gate.reset_parameters()
    assert gate.weight.unique() == gate_init
    assert (gate.eps, gate.momentum) == (1e-3, 0.03)


@pytest.mark.parametrize("arguments", VARIANTS)
@pytest.mark.parametrize("mode", ["train", "eval", "fused"])
def test_zero_gate__is_the_identity_to_the_last_bit(arguments, mode):
    block, x = randomised(**arguments), torch.randn(2, 64, 7, 5)
    block.train(mode == "train")
    if mode == "fused":
        block.fuse()
    assert torch.equal(block(x), x)


@pytest.mark.parametrize("arguments", VARIANTS)
def test_fuse__changes_nothing_but_the_modules(arguments):
    block, x = randomised(gate_init=0.7, **arguments).eval(), torch.randn(2, 64, 7, 5)
    fused = copy.deepcopy(block)
    fused.fuse()
    norms = [m for m in fused.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms == ([fused.norm] if arguments.get("position") == "sincos" else [])
    assert torch.allclose(fused(x), block(x), atol=1e-4)
    assert not torch.allclose(fused(x), x, atol=1e-2)
    weight = fused.attn.qkv.weight
    fused.fuse()
    assert fused.attn.qkv.weight is weight


def test_gate__moves_with_the_first_step_and_the_rest_with_the_second():
    block = SpatialMHABlock(64, mlp_ratio=2)
    optimizer = torch.optim.SGD(block.parameters(), lr=0.1)
    before = copy.deepcopy(block.state_dict())
    for moved in ({"gate.weight", "mlp_gate.weight"}, {"attn.qkv.weight", "mlp.widen.weight"}):
        optimizer.zero_grad()
        block(torch.randn(4, 64, 6, 6)).square().mean().backward()
        optimizer.step()
        assert all(not torch.equal(block.state_dict()[name], before[name]) for name in moved)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("fused", [False, True])
def test_forward__keeps_the_memory_format(memory_format, fused):
    block = SpatialMHABlock(64, gate_init=0.5, mlp_ratio=1).eval()
    if fused:
        block.fuse()
    x = torch.randn(2, 64, 9, 7).contiguous(memory_format=memory_format)
    assert block(x).is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize(
    "arguments", [{"mlp_ratio": -1}, {"gate_init": "0"}, {"mlp_ratio": float("nan")}, {"dim": "64"}, {"dim": None}]
)
def test_init__refuses(arguments):
    with pytest.raises(ConfigError):
        SpatialMHABlock(**{"dim": 64, **arguments})


@pytest.mark.parametrize("make", [SpatialMHABlock, S2Attention, SpatialMHA])
def test_forward__names_what_it_was_given(make):
    for wrong in (torch.zeros(64, 8, 8), torch.zeros(2, 32, 8, 8), [torch.zeros(2, 64, 8, 8)]):
        with pytest.raises(ConfigError, match=r"\(batch, 64, height, width\)"):
            make(64)(wrong)
