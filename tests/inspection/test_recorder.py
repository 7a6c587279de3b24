"""The recorder: maps that are those of the fused kernel, outputs that do not change, and nothing left behind."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import nn

from yolo_mha import YOLO, ConfigError, CrossScaleMHA, SpatialMHA, SpatialMHABlock
from yolo_mha.engine.memory import allocator_peak_bytes
from yolo_mha.inspection.recorder import Recorder
from yolo_mha.nn.scopes import from_windows

DIM = 64  # two heads of 32 channels, more than a map of 5 x 6 has positions: so values determine attention
OPTIONS = {
    "global": {},
    "rope": {"position": "rope", "qk_norm": True},
    "sincos": {"position": "sincos"},
    "dwconv": {"position": "dwconv"},
    "pooled": {"kv_stride": 2},
    "pooled, smaller cells at the edge": {"kv_stride": 4, "position": "rope"},
    "windows": {"scope": "window", "window": 3},
    "windows beyond the map": {"scope": "window", "window": 4, "position": "relative"},
    "axial": {"scope": "axial", "position": "rope"},
}


def settled(module: nn.Module) -> nn.Module:
    """The module in evaluation mode, with norms and gates that do something."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 2.0)
            nn.init.normal_(part.bias)
            nn.init.normal_(part.running_mean)
            nn.init.uniform_(part.running_var, 0.5, 2.0)
    return module.eval()


def recorded(module: nn.Module, *given: torch.Tensor, name: str = ""):
    with Recorder(module) as recorder, torch.no_grad():
        module(given[0] if len(given) == 1 else list(given))
    return recorder[name] if name in recorder.blocks else next(iter(recorder.blocks.values()))


def values(module: nn.Module, *given: torch.Tensor) -> torch.Tensor:
    """The values of the module at every position that `attention` speaks of, (h, N, d)."""
    v = module.heads(*given)[2]  # (B', H, W, h, d)
    if getattr(module, "scope", "") == "window":
        v = from_windows(v.flatten(3).permute(0, 3, 1, 2), given[0].shape[2:], module.window)
        v = v.permute(0, 2, 3, 1).unflatten(-1, (module.num_heads, -1))
    stride, (H, W) = getattr(module, "kv_stride", 1), given[-1].shape[2:]
    v = v.repeat_interleave(stride, 1)[:, :H].repeat_interleave(stride, 2)[:, :, :W]
    return v[0].flatten(0, 1).transpose(0, 1)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_attention__is_what_the_fused_kernel_computes(options):
    module, x = SpatialMHA(DIM, **options).eval(), torch.randn(1, DIM, 5, 6)
    maps = recorded(module, x).attention(torch.arange(30))
    assert maps.shape == (2, 30, 5, 6)
    torch.testing.assert_close(maps.sum((2, 3)), torch.ones(2, 30))
    attended = torch.einsum("hqk,hkd->hqd", maps.flatten(2), values(module, x))
    attended = attended.permute(0, 2, 1).reshape(1, DIM, 5, 6)
    if module.pe is not None:  # the convolution of the values is no attention
        attended = attended + module.pe(values(module, x).permute(0, 2, 1).reshape(1, DIM, 5, 6))
    torch.testing.assert_close(module.proj(attended), module(x), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("position", ["none", "sincos", "rope"])
def test_attention__across_scales(position):
    module = settled(CrossScaleMHA(DIM, 32, position=position))
    x, context = torch.randn(1, DIM, 6, 8), torch.randn(1, 32, 3, 4)
    block = recorded(module, x, context)
    maps = block.attention(torch.arange(48))
    assert (maps.shape, block.size, block.key_size) == ((2, 48, 3, 4), (6, 8), (3, 4))
    attended = torch.einsum("hqk,hkd->hqd", maps.flatten(2), values(module, x, context))
    attended = attended.permute(0, 2, 1).reshape(1, DIM, 6, 8)
    torch.testing.assert_close(x + module.gate(module.proj(attended)), module([x, context]), atol=1e-5, rtol=1e-4)


def test_attention__of_some_queries_and_another_image():
    module, x = SpatialMHA(DIM).eval(), torch.randn(3, DIM, 5, 6)
    block, alone = recorded(module, x), recorded(module, x[2:])
    some = torch.tensor([29, 4])
    torch.testing.assert_close(block.attention(some, image=2), alone.attention(torch.arange(30))[:, some])


@pytest.mark.parametrize("queries", [[30], [-1], [0.5], [[0]]], ids=str)
def test_attention__no_such_query(queries):
    block = recorded(SpatialMHA(DIM).eval(), torch.randn(1, DIM, 5, 6))
    with pytest.raises(ConfigError, match="There is no such query") as error:
        block.attention(torch.tensor(queries))
    assert error.value.expected == "whole numbers from 0 to 29"


def test_attention__no_such_image():
    block = recorded(SpatialMHA(DIM).eval(), torch.randn(2, DIM, 5, 6))
    with pytest.raises(ConfigError, match="There is no such image in the batch"):
        block.norms(image=2)


def test_weighted__is_the_sum_over_all_queries(monkeypatch):
    module, x, weights = SpatialMHA(DIM).eval(), torch.randn(1, DIM, 5, 6), torch.rand(5, 6)
    weights[0] = 0.0
    block = recorded(module, x)
    monkeypatch.setattr("yolo_mha.inspection.recorder.CHUNK_BYTES", 3 * block.memory(1))
    found = block.weighted(weights)
    maps = torch.einsum("hqk,q->hk", block.attention(torch.arange(30)).flatten(2), weights.flatten())
    torch.testing.assert_close(found.attention.flatten(1), maps / weights.sum())
    torch.testing.assert_close(found.effect.flatten(1), maps * block.norms().flatten(1))
    assert found.attention_distance.shape == (2,)


def test_weighted__distance_within_a_window_is_that_of_its_positions():
    module = SpatialMHA(DIM, scope="window", window=2).eval()
    nn.init.zeros_(module.qkv.weight)  # so that attention is even
    weights = torch.zeros(4, 4)
    weights[0, 0] = 3.0
    found = recorded(module, torch.randn(1, DIM, 4, 4)).weighted(weights)
    assert found.attention_distance.tolist() == pytest.approx([(0 + 1 + 1 + 2**0.5) / 4] * 2)


@pytest.mark.parametrize("options", [{}, {"kv_stride": 2}, {"scope": "window", "window": 4}], ids=str)
def test_norms__are_those_of_what_is_added(options):
    block = settled(SpatialMHABlock(DIM, **options))
    x = torch.randn(1, DIM, 5, 6)
    found = recorded(block, x).norms()
    v, slope = values(block.attn, block.norm(x)), block.gate.weight * (block.gate.running_var + block.gate.eps) ** -0.5
    for head, part in enumerate(block.attn.proj.weight.flatten(1).split(32, 1)):
        torch.testing.assert_close(found[head].flatten(), ((v[head] @ part.T) * slope).norm(dim=1))


def test_norms__gate_of_zero():
    assert recorded(SpatialMHABlock(DIM).eval(), torch.randn(1, DIM, 5, 6)).norms().abs().max() == 0


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_recorded__a_folded_block_gives_the_same_maps(options):
    block, x, weights = (
        settled(SpatialMHABlock(DIM, mlp_ratio=1.0, **options)),
        torch.randn(1, DIM, 5, 6),
        torch.rand(5, 6),
    )
    fused = deepcopy(block)
    fused.fuse()
    plain, folded = recorded(block, x).weighted(weights), recorded(fused, x).weighted(weights)
    torch.testing.assert_close(folded.attention, plain.attention, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(folded.effect, plain.effect, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("fused", [False, True], ids=["unfused", "fused"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize("gradients", [False, True], ids=["maps", "gradients"])
def test_recorder__outputs_stay_equal_and_nothing_is_left(dtype, fused, gradients):
    model = settled(
        nn.ModuleList([SpatialMHABlock(DIM, **options) for options in OPTIONS.values()])
        .append(SpatialMHABlock(DIM, mlp_ratio=2.0, gate_init=1.0))
        .to(dtype)
    )
    if fused:
        for block in model:
            block.fuse()
    model.requires_grad_(False)
    x = torch.randn(2, DIM, 5, 6, dtype=dtype)
    before = {path: dict(vars(part)) for path, part in model.named_modules()}
    hooks = {path: (len(part._forward_hooks), len(part._forward_pre_hooks)) for path, part in model.named_modules()}
    expected = [block(x) for block in model]
    with Recorder(model, gradients=gradients) as recorder:
        outputs = [block(x) for block in model]
    assert all(map(torch.equal, outputs, expected))
    assert {path: dict(vars(part)) for path, part in model.named_modules()} == before
    assert hooks == {p: (len(m._forward_hooks), len(m._forward_pre_hooks)) for p, m in model.named_modules()}
    maps = next(iter(recorder.blocks.values())).attention(torch.tensor([0]))
    assert (maps.dtype, len(recorder.blocks)) == (torch.float32, len(model))
    assert all((block.output is not None) == gradients for block in recorder.blocks.values())


def test_recorder__after_an_error_no_hook_is_left():
    block = SpatialMHABlock(DIM).eval()
    with pytest.raises(ValueError, match="does not fit this module"), Recorder(block):
        block(torch.randn(1, 3, 5, 6))
    assert not block.attn._forward_pre_hooks


def test_recorder__in_inference_mode_and_under_autocast():
    block, x = settled(SpatialMHABlock(DIM)), torch.randn(1, DIM, 5, 6)
    with torch.inference_mode():
        maps = recorded(block, x).attention(torch.arange(30))
    with torch.autocast("cpu", torch.bfloat16):
        cast = recorded(block, x)
    torch.testing.assert_close(cast.attention(torch.arange(30)), maps, atol=0.02, rtol=0.1)


def test_recorder__names_are_the_rows_of_the_model():
    model = YOLO("yolov8n-mha-p4p5.yaml").model.eval()
    with Recorder(model) as recorder, torch.no_grad():
        model(torch.zeros(1, 3, 64, 64))
    rows = [i for i, layer in enumerate(model.model) if isinstance(layer, SpatialMHABlock)]
    assert list(recorder.blocks) == list(map(str, rows))
    assert [block.size for block in recorder.blocks.values()] == [(4, 4), (2, 2)]


def test_recorder__does_not_take_a_copy_for_the_model():
    """Ultralytics predicts with a folded copy, whose inputs are others."""
    network = YOLO("demo-mha.pt")
    with Recorder(network.model, gradients=True) as recorder:
        network.predict(np.zeros((192, 192, 3), np.uint8), verbose=False)
    with pytest.raises(ConfigError, match="did not run while it was recorded") as error:
        recorder["5"].attention(torch.tensor([0]))
    assert "predict and val of Ultralytics run a copy" in error.value.fix


def test_recorder__a_model_that_is_folded_meanwhile():
    block, x = settled(SpatialMHABlock(DIM)), torch.randn(1, DIM, 5, 6)
    expected = recorded(block, x).norms()
    with Recorder(block) as recorder, torch.no_grad():
        block.fuse()
        block(x)
    torch.testing.assert_close(next(iter(recorder.blocks.values())).norms(), expected, atol=1e-5, rtol=1e-4)


def test_recorder__attention_in_a_block_of_the_user():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = SpatialMHA(DIM)

        def forward(self, x):
            return self.attention(x)

    block = Own().eval()
    with Recorder(block, gradients=True) as recorder:
        block.requires_grad_(False)(torch.randn(1, DIM, 5, 6)).sum().backward()
    assert recorder["attention"].output.grad.shape == (1, DIM, 5, 6)
    assert recorder["attention"].norms().shape == (2, 5, 6)


def test_recorder__attention_that_runs_twice_in_a_pass():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = SpatialMHA(DIM)

        def forward(self, x):
            return self.attention(self.attention(x))

    block, x = Twice().eval(), torch.randn(1, DIM, 5, 6)
    with pytest.raises(ConfigError, match="runs more than once in a forward pass"), Recorder(block):
        block(x)
    assert not block._forward_pre_hooks
    assert not block._forward_hooks
    with Recorder(block) as recorder:  # passes of the attention itself, of which the last counts
        block.attention(x)
        block.attention(2 * x)
    assert torch.equal(recorder["attention"].inputs[0], 2 * x)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_memory__is_not_exceeded(options):
    block = recorded(SpatialMHA(DIM, **options).eval(), torch.randn(1, DIM, 40, 40))
    queries = torch.arange(200)
    block.attention(queries)
    assert allocator_peak_bytes(lambda: block.attention(queries), "cpu") <= block.memory(200)
