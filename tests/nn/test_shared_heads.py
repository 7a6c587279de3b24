import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from yolo_mha.errors import ConfigError
from yolo_mha.nn.shared_heads import SharedHeadAttention


def tutorial(m: SharedHeadAttention, values, keys, query, mask=None):
    """The tutorial's forward with its two einsums, in double precision, the divisor of the scores sqrt(head_dim)."""

    def linear(layer, x):
        out = x @ layer.weight.double().T
        return out if layer.bias is None else out + layer.bias.double()

    (n, query_len, dim), heads = query.shape, m.num_heads
    head_dim = dim // heads
    values, keys, queries = (x.double().reshape(n, -1, heads, head_dim) for x in (values, keys, query))
    values, keys, queries = linear(m.v, values), linear(m.k, keys), linear(m.q, queries)
    energy = torch.einsum("nqhd,nkhd->nhqk", queries, keys)
    if mask is not None:
        energy = energy.masked_fill(mask == 0, float("-1e20"))
    attention = torch.softmax(energy / math.sqrt(head_dim), dim=3)
    out = torch.einsum("nhql,nlhd->nqhd", attention, values).reshape(n, query_len, heads * head_dim)
    return linear(m.proj, out)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    batch=st.integers(1, 3),
    heads=st.integers(1, 4),
    head_dim=st.integers(1, 5),
    lengths=st.tuples(st.integers(1, 5), st.integers(1, 6)),
    bias=st.booleans(),
    axes=st.sampled_from(["none", "qk", "bqk", "b11k", "bhqk"]),
)
def test_forward__equals_the_tutorial_and_its_expanded_form(seed, batch, heads, head_dim, lengths, bias, axes):
    torch.manual_seed(seed)
    Nq, Nk = lengths
    m = SharedHeadAttention(heads * head_dim, heads, bias=bias)
    query, key, value = (torch.randn(batch, n, heads * head_dim) for n in (Nq, Nk, Nk))
    mask = four = None
    if axes != "none":
        shape = {"qk": (Nq, Nk), "bqk": (batch, Nq, Nk), "b11k": (batch, 1, 1, Nk), "bhqk": (batch, heads, Nq, Nk)}
        mask = torch.rand(shape[axes]) < 0.6
        mask[..., torch.randint(Nk, ())] = True  # the tutorial attends to all keys where none is left
        four = mask[:, None] if axes == "bqk" else mask
    out, expected = m(query, key, value, mask=mask), tutorial(m, value, key, query, four)
    assert torch.allclose(out.double(), expected, atol=1e-5)
    assert torch.allclose(m.expand()(query, key, value, mask=mask), out, atol=1e-5)


@pytest.mark.parametrize("bias", [False, True])
def test_expand__has_equal_blocks_and_keeps_dtype_and_mode(bias):
    m = SharedHeadAttention(6, 3, bias=bias).double().eval()
    full = m.expand()
    assert full.q.weight.dtype == torch.float64
    assert not full.training
    for shared, wide in ((m.q, full.q), (m.k, full.k), (m.v, full.v)):
        for i in range(3):
            for j in range(3):
                block = wide.weight[2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
                assert torch.equal(block, shared.weight if i == j else torch.zeros(2, 2).double())
            assert torch.equal(wide.bias[2 * i : 2 * i + 2], shared.bias if bias else torch.zeros(2).double())
    kept = full.proj.weight.clone()
    nn.init.zeros_(m.proj.weight)
    assert torch.equal(full.proj.weight, kept)
    assert m.train().expand().training
    assert all(p.requires_grad for p in full.parameters())


def test_weights__are_shared_by_the_heads():
    m = SharedHeadAttention(32, 4)
    assert {name: tuple(p.shape) for name, p in m.named_parameters()} == {
        "q.weight": (8, 8),
        "k.weight": (8, 8),
        "v.weight": (8, 8),
        "proj.weight": (32, 32),
        "proj.bias": (32,),
    }


def test_forward__takes_the_query_as_key_and_the_key_as_value():
    m, x, y = SharedHeadAttention(8, 2), torch.randn(2, 4, 8), torch.randn(2, 5, 8)
    assert torch.equal(m(x), m(x, x, x))
    assert torch.equal(m(x, y), m(x, y, y))
    assert not torch.equal(m(x, y), m(x, y, torch.randn(2, 5, 8)))


def test_masked_keys__have_no_influence_and_a_query_without_a_key_gives_zero():
    m, query, key = SharedHeadAttention(8, 2), torch.randn(2, 3, 8), torch.randn(2, 4, 8)
    mask = torch.tensor([[True, False, True, False]] * 2 + [[False] * 4])
    changed = key.clone()
    changed[:, [1, 3]] = 1e10
    assert torch.equal(m(query, key, mask=mask), m(query, changed, mask=mask))
    query.requires_grad_()
    out = m(query, key, mask=mask)
    assert not out[:, 2].any()
    assert out[:, :2].all()
    out.sum().backward()
    assert query.grad.isfinite().all()
    assert not query.grad[:, 2].any()
    assert all(p.grad.isfinite().all() for p in m.parameters())
    per_head = torch.ones(1, 2, 1, 4, dtype=torch.bool)
    per_head[:, 1] = False
    assert torch.allclose(m(query, key, mask=per_head), m.expand()(query, key, mask=per_head), atol=1e-6)


def test_order_of_keys__does_not_matter():
    m, query, key, value = SharedHeadAttention(8, 2), *(torch.randn(2, 5, 8) for _ in range(3))
    order = torch.randperm(5)
    assert torch.allclose(m(query, key[:, order], value[:, order]), m(query, key, value), atol=1e-6)


def test_gradients():
    m = SharedHeadAttention(4, 2, bias=True).double()
    query, key, value = (torch.randn(2, n, 4, dtype=torch.float64, requires_grad=True) for n in (3, 4, 4))
    mask = torch.rand(2, 3, 4) < 0.6
    assert torch.autograd.gradcheck(lambda *x: m(*x, mask=mask), (query, key, value))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast__stays_close(dtype):
    m, x = SharedHeadAttention(32, 4), torch.randn(2, 9, 32)
    with torch.autocast("cpu", dtype):
        out = m(x)
    assert out.dtype == dtype
    assert torch.allclose(out.float(), m(x), atol=0.02)


def test_compile_and_export__give_the_same():
    m, key, mask = SharedHeadAttention(8, 2).eval(), torch.randn(2, 6, 8), torch.rand(2, 1, 1, 6) < 0.6
    compiled = torch.compile(m, backend="aot_eager", fullgraph=True)
    shapes = {"query": {1: torch.export.Dim("queries")}, "key": None, "mask": None}
    exported = torch.export.export(m, (torch.randn(2, 5, 8), key), {"mask": mask}, dynamic_shapes=shapes).module()
    for n in (3, 11):
        query = torch.randn(2, n, 8)
        assert torch.allclose(compiled(query, key, mask=mask), m(query, key, mask=mask), atol=1e-6)
        assert torch.allclose(exported(query, key, mask=mask), m(query, key, mask=mask), atol=1e-6)


@pytest.mark.parametrize(("dim", "options"), [(8, {"num_heads": 3}), (0, {}), (8, {"num_heads": 2, "bias": 0})])
def test_init__refuses(dim, options):
    with pytest.raises(ConfigError):
        SharedHeadAttention(dim, **options)


@pytest.mark.parametrize(
    ("query", "key", "mask", "names"),
    [
        (torch.ones(2, 5, 6), None, None, ("query", "(2, 5, 6)", "(batch, length, 8)")),
        (torch.ones(2, 5, 8), torch.ones(1, 5, 8), None, ("2, 1 and 1",)),
        (torch.ones(2, 5, 8).double(), None, None, ("torch.float64", "torch.float32")),
        (torch.ones(2, 5, 8), None, torch.ones(5, 6), ("(5, 6)", "(5, 5)")),
        (torch.ones(2, 5, 8), None, torch.ones(5, 5).long(), ("torch.int64", "boolean")),
    ],
)
def test_forward__refuses(query, key, mask, names):
    with pytest.raises(ConfigError) as caught:
        SharedHeadAttention(8, 2)(query, key, mask=mask)
    assert all(name in str(caught.value) for name in names), caught.value
