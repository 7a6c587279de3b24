"""Cutting heads out equals silencing them, and the row says what is left."""

from copy import deepcopy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from yolo_mha import ConfigError, SpatialMHA, register
from yolo_mha.inspection.silencing import silenced
from yolo_mha.registry import all_rows, build
from yolo_mha.surgery.heads import attentions, check_some_stay, prune_heads
from yolo_mha.surgery.rows import edit
from yolo_mha.surgery.text import dump, edit_text

from .conftest import lively, same, tensors

SCOPES = st.sampled_from([{}, {"kv_stride": 2}, {"kv_stride": 3}, {"scope": "window", "window": 3}, {"scope": "axial"}])


def content(*blocks: list) -> dict:
    """A model with blocks between P3 and its head, which may read row 1 too."""
    backbone = [[-1, 1, "Conv", [8, 3, 2]], [-1, 1, "Conv", [16, 3, 2]], [-1, 1, "Conv", [24, 3, 2]], *blocks]
    head = [[-1, 1, "Conv", [16, 1, 1]], [[3 + len(blocks)], 1, "Detect", ["nc"]]]
    return {"nc": 2, "backbone": backbone, "head": head}


def network(*blocks: list):
    return lively(build(content(*blocks))).eval()


def block(**options) -> list:
    return [-1, 1, "SpatialMHABlock", [options]]


@torch.no_grad()
def assert_equal(one, other, images):
    for a, b in zip(tensors(one(images)), tensors(other(images)), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_prune_heads__equals_silencing(data):
    shared = {
        "num_heads": data.draw(st.integers(1, 5), "heads"),
        "head_dim": data.draw(st.sampled_from([4, 8]), "width"),
        "qkv_bias": data.draw(st.booleans()),
        "qk_norm": data.draw(st.booleans()),
    }
    scope = data.draw(SCOPES, "scope")
    known = ["none", "sincos", "rope", "dwconv", *(["relative"] if "window" in scope else [])]
    one = {
        **shared,
        **scope,
        "position": data.draw(st.sampled_from(known)),
        "mlp_ratio": data.draw(st.sampled_from([0.0, 0.5])),
    }
    other = {**shared, "position": data.draw(st.sampled_from(["none", "sincos", "rope"]))}
    torch.manual_seed(data.draw(st.integers(0, 9)))
    model = network(block(**one), [[-1, 1], 1, "CrossScaleMHA", [other]], block())
    fused = data.draw(st.booleans(), "fused")
    model = model.fuse(verbose=False) if fused else model
    indices = st.sets(st.integers(0, shared["num_heads"] - 1))
    heads = {"3": data.draw(indices), "4": data.draw(indices)}
    images = torch.rand(2, 3, *(8 * data.draw(st.integers(2, 7), side) for side in ("height", "width")))
    pruned, _ = prune_heads(model, heads)
    with silenced(model, heads):
        assert_equal(pruned, model, images)
    left = {name: attention.num_heads for name, attention in attentions(pruned).items()}
    assert sum(left.values()) == 2 * shared["num_heads"] - sum(map(len, heads.values())) + 1
    rebuilt = build(pruned.yaml)
    assert {name: attention.num_heads for name, attention in attentions(rebuilt).items()} == left
    if not fused:
        rebuilt.load_state_dict(pruned.state_dict())
        assert_equal(rebuilt.eval(), pruned, images)


def test_prune_heads__leaves_the_model_and_its_other_weights():
    model = network(block(num_heads=3, head_dim=8), block(num_heads=2))
    before, rows = deepcopy(model.state_dict()), deepcopy(model.yaml)
    pruned, _ = prune_heads(model.half(), {"3": [0, 2]})
    assert (model.yaml, {p.dtype for p in pruned.parameters()}) == (rows, {torch.float16})
    changed = {k for k, v in pruned.state_dict().items() if not torch.equal(v, before[k].to(v.dtype))}
    assert changed == {"model.3.attn.qkv.weight", "model.3.attn.qkv.bias", "model.3.attn.proj.weight"}
    assert pruned.model[3].attn.qkv.weight.shape == (3 * 8, 24, 1, 1)
    assert pruned.model[3].attn.proj.weight.shape == (24, 8, 1, 1)


def test_prune_heads__a_pruned_model_trains():
    pruned, _ = prune_heads(network(block(num_heads=3, head_dim=8, qk_norm=True, position="dwconv")), {"3": [1]})
    sum(t.sum() for t in tensors(pruned.train()(torch.rand(2, 3, 32, 32)))).backward()
    assert all(p.grad is not None and p.grad.shape == p.shape for p in pruned.model[3].parameters())


def test_prune_heads__a_block_without_heads_is_removed():
    model = network(block(num_heads=2, mlp_ratio=1.0), [[-1, 1], 1, "CrossScaleMHA", []])
    pruned, plan = prune_heads(model, {"3": [0, 1]})
    assert plan.place[3] is None
    assert [row[2] for row in all_rows(pruned.yaml)] == ["Conv", "Conv", "Conv", "CrossScaleMHA", "Conv", "Detect"]
    with silenced(model, {"3": [0, 1]}):
        assert_equal(pruned, model, torch.rand(1, 3, 40, 48))


def test_prune_heads__all_of_them_is_a_model_without_attention():
    model = network(block(num_heads=2, mlp_ratio=1.0), [[-1, 1], 1, "CrossScaleMHA", []])
    every = {name: range(attention.num_heads) for name, attention in attentions(model).items()}
    pruned, _ = prune_heads(model, every)
    assert not attentions(pruned)
    with silenced(model, every):
        assert_equal(pruned, model, torch.rand(1, 3, 40, 48))
    with pytest.raises(ConfigError, match="No head would be left"):
        check_some_stay(model, every)
    check_some_stay(model, {"3": [0, 1]})


@pytest.mark.parametrize(
    "arguments", [[3], ["3"], [{"num_heads": 3, "qk_norm": True}], [3, {"qk_norm": True}], {"num_heads": 3}], ids=str
)
def test_prune_heads__writes_the_row(arguments):
    model = network([-1, 1, "SpatialMHABlock", arguments])
    _, plan = prune_heads(model, {"3": [1]})
    options = {"qk_norm": True} if "qk_norm" in str(arguments) else {}
    assert plan.arguments[3] == [{**options, "num_heads": 2, "head_dim": 8}]
    text = dump(model.yaml)
    edited = edit_text(text, plan)
    assert len(text.splitlines()) == len(edited.splitlines())
    assert sum(a != b for a, b in zip(text.splitlines(), edited.splitlines(), strict=True)) == 1
    assert attentions(build(edit(model.yaml, plan)))["3"].num_heads == 2


def test_prune_heads__rows_that_repeat():
    model = network([-1, 2, "SpatialMHABlock", [3]])
    heads = {"3.0": [0], "3.1": [2]}
    pruned, _ = prune_heads(model, heads)
    with silenced(model, heads):
        assert_equal(pruned, model, torch.rand(1, 3, 32, 40))
    with pytest.raises(ConfigError, match="must keep the same number of heads"):
        prune_heads(model, {"3.0": [0]})
    pruned, _ = prune_heads(network([-1, 2, "SpatialMHABlock", [1]], block()), {"3.0": [0], "3.1": [0]})
    assert len(pruned.model) == 6


def test_prune_heads__nothing_to_cut_is_the_same_model():
    model = network(block())
    pruned, _ = prune_heads(model, {})
    assert same(pruned(torch.ones(1, 3, 32, 32)), model(torch.ones(1, 3, 32, 32)))


@pytest.mark.parametrize(
    ("rows", "heads", "said"),
    [
        ([], {"3": [0]}, "The model has no attention heads"),
        ([[-1, 1, "S2Attention", []]], {"3": [0]}, "The model has no attention heads"),
        ([block(num_heads=2)], {"2": [0]}, "This row has no attention block.*\n.*row 2.*\n.*one of 3"),
        ([block(num_heads=2)], {"3": [2]}, "no such head.*\n.*3:2\n.*3:0 to 3:1"),
        ([block(num_heads=2)], {"3": [-1]}, "no such head"),
    ],
    ids=["no block", "no heads", "row", "head", "negative"],
)
def test_prune_heads__bad_input(rows, heads, said):
    with pytest.raises(ConfigError, match=said):
        prune_heads(network(*rows), heads)


@pytest.mark.parametrize("heads", [{"3": [1]}, {"3": [0, 1]}], ids=["one", "all"])
def test_silenced__leaves_no_trace(heads):
    model, images = network(block(num_heads=2, mlp_ratio=1.0)), torch.rand(1, 3, 32, 32)
    before, output = deepcopy(model.state_dict()), model(images)
    with silenced(model, heads):
        assert not same(model(images), output)
        assert same(deepcopy(model)(images), model(images))
    assert same(model(images), output)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_silenced__leaves_no_trace_after_an_error():
    model = network(block(num_heads=2))
    before = deepcopy(model.state_dict())
    with pytest.raises(ConfigError, match="does not fit this module"), silenced(model, {"3": [0]}):
        model.model[3](torch.rand(1, 1, 4, 4))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


class OwnBlock(torch.nn.Module):
    """Attention in a block whose arguments are its own."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.inner = SpatialMHA(dim, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.inner(x)


def test_prune_heads__not_of_blocks_that_are_not_known():
    register(OwnBlock)
    model = network([-1, 1, "OwnBlock", []], block(num_heads=2))
    with pytest.raises(ConfigError, match=r"this package's own blocks only\.\n.*row 3, OwnBlock"):
        prune_heads(model, {"3.inner": [0]})
    pruned, _ = prune_heads(model, {"4": [0]})
    assert pruned.model[3].inner.num_heads == 2
