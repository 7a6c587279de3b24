"""Heads silenced: their columns alone, or the whole block where it would be removed."""

import pytest
import torch
from networks import opened
from torch import nn

from yolo_mha import YOLO, SpatialMHA, SpatialMHABlock
from yolo_mha.inspection.silencing import silenced


def changed(model: nn.Module, heads: dict[str, list[int]], **options: bool) -> set[str]:
    """Names of the parameters that silencing changes; at the end all are what they were."""
    before = {name: p.clone() for name, p in model.named_parameters()}
    with silenced(model, heads, **options):
        found = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    return found


def one_head(dim: int = 16) -> nn.Module:
    block = SpatialMHABlock(dim, 1, mlp_ratio=2.0, gate_init=0.5)
    for part in block.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.bias)
    return nn.ModuleList([block])


@pytest.mark.parametrize("fused", [False, True])
def test_silenced__the_only_head_of_a_block_leaves_the_mlp(fused):
    model = one_head().eval()
    if fused:
        model[0].fuse()
    assert changed(model, {"0": [0]}, whole_blocks=False) == {"0.attn.proj.weight"}
    x = torch.randn(1, 16, 5, 6)
    with silenced(model, {"0": [0]}), torch.no_grad():
        assert torch.equal(model[0](x), x)


def test_silenced__layers_of_a_block_of_the_user_stay():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.attn, self.gate, self.mlp_gate = SpatialMHA(16, 1), nn.Conv2d(16, 16, 1), nn.Conv2d(16, 16, 1)

    model = nn.ModuleList([Own()])
    for whole_blocks in (False, True):
        assert changed(model, {"0": [0]}, whole_blocks=whole_blocks) == {"0.attn.proj.weight"}


def test_silenced__a_block_of_two_maps():
    model = YOLO(opened("yolov8n-mha-cross.yaml")).model
    ((name, count),) = ((n.removeprefix("model."), m.num_heads) for n, m in model.named_modules() if hasattr(m, "kv"))
    gone = {name: list(range(count))}
    assert changed(model, gone, whole_blocks=False) == {f"model.{name}.proj.weight"}
    ends = {f"model.{name}.{end}" for end in ("proj.weight", "proj.bias", "gate.weight")}
    assert changed(model, gone) == ends
