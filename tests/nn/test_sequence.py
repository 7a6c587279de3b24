import copy
import itertools
import math
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from yolo_mha.errors import ConfigError
from yolo_mha.nn.sequence import MultiHeadAttention
from yolo_mha.nn.torch_state import from_torch_state, to_torch_state

from .operators import Operators

INF = math.inf
SEEDS = st.integers(0, 2**32 - 1)
MASKS = st.sampled_from(["none", "bool", "float"])
AXES = st.sampled_from(["qk", "bqk", "bhqk", "b11k", "1hq1k", "11qk"])
LENS = st.sampled_from(["none", "b", "bq"])


def linear(layer: nn.Linear, x: torch.Tensor) -> torch.Tensor:
    out = x.double() @ layer.weight.double().T
    return out if layer.bias is None else out + layer.bias.double()


def unit_rms(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return x / x.square().mean(-1, keepdim=True).sqrt() * weight.double()


def reference(m: MultiHeadAttention, query, key, value, bias) -> tuple[torch.Tensor, torch.Tensor]:
    """The equations in double precision, one head and one query at a time; bias of shape (B, h, Nq, Nk)."""
    q, k, v = linear(m.q, query), linear(m.k, key), linear(m.v, value)
    (B, h, Nq, _), d = bias.shape, m.head_dim
    joined, weights = torch.zeros(B, Nq, h * d).double(), torch.zeros(bias.shape).double()
    for b, i, n in itertools.product(range(B), range(h), range(Nq)):
        part, keys = slice(i * d, (i + 1) * d), torch.nonzero(bias[b, i, n] > -INF)[:, 0]
        if not len(keys):
            continue
        one, many = q[b, n, part], k[b, keys, part]
        if not isinstance(m.q_norm, nn.Identity):
            one, many = unit_rms(one, m.q_norm.weight), unit_rms(many, m.k_norm.weight)
        scores = many @ one / math.sqrt(d) + bias[b, i, n, keys].double()
        e = (scores - scores.max()).exp()
        weights[b, i, n, keys] = e / e.sum()
        joined[b, n, part] = weights[b, i, n, keys] @ v[b, keys, part]
    out = linear(m.proj, joined)
    out[(bias == -INF).all(-1).all(1)] = 0
    return out, weights


def make_masks(mask: str, axes: str, lens: str, B: int, h: int, Nq: int, Nk: int):
    """Return a random mask and valid_lens of the named forms, and both of them as one bias of (B, h, Nq, Nk)."""
    bias = torch.zeros(B, h, Nq, Nk)
    shape = {
        "qk": (Nq, Nk),
        "bqk": (B, Nq, Nk),
        "bhqk": (B, h, Nq, Nk),
        "b11k": (B, 1, 1, Nk),
        "1hq1k": (1, h, 1, Nk),
        "11qk": (1, 1, Nq, Nk),
    }[axes]
    given_mask = given_lens = None
    if mask != "none":
        allowed = torch.rand(shape) < 0.6
        given_mask = allowed
        if mask == "float":
            given_mask = torch.randn(shape).masked_fill(~allowed, -INF)
        added = torch.zeros(shape).masked_fill(~allowed, -INF) if mask == "bool" else given_mask
        bias = bias + (added[:, None] if axes == "bqk" else added)
    if lens != "none":
        given_lens = torch.randint(0, Nk + 1, (B,) if lens == "b" else (B, Nq))
        for b, n, j in itertools.product(range(B), range(Nq), range(Nk)):
            if j >= (given_lens[b] if lens == "b" else given_lens[b, n]):
                bias[b, :, n, j] = -INF
    return given_mask, given_lens, bias


@settings(max_examples=60, deadline=None)
@given(
    seed=SEEDS,
    batch=st.integers(1, 3),
    heads=st.integers(1, 3),
    head_dim=st.sampled_from([1, 2, 5]),
    dim=st.sampled_from([3, 6]),
    widths=st.tuples(st.sampled_from([None, 4]), st.sampled_from([None, 7])),
    lengths=st.tuples(st.integers(1, 5), st.integers(1, 6)),
    bias=st.booleans(),
    qk_norm=st.booleans(),
    mask=MASKS,
    axes=AXES,
    lens=LENS,
)
def test_forward__equals_the_equations(
    seed, batch, heads, head_dim, dim, widths, lengths, bias, qk_norm, mask, axes, lens
):
    torch.manual_seed(seed)
    (key_dim, value_dim), (Nq, Nk) = widths, lengths
    m = MultiHeadAttention(
        dim, heads, head_dim=head_dim, key_dim=key_dim, value_dim=value_dim, bias=bias, qk_norm=qk_norm
    )
    for norm in (m.q_norm, m.k_norm):
        for weight in norm.parameters():
            nn.init.uniform_(weight, 0.5, 2)
    query = torch.randn(batch, Nq, dim)
    key, value = torch.randn(batch, Nk, key_dim or dim), torch.randn(batch, Nk, value_dim or key_dim or dim)
    given_mask, given_lens, full = make_masks(mask, axes, lens, batch, heads, Nq, Nk)
    expected, expected_weights = reference(m, query, key, value, full)
    out = m(query, key, value, mask=given_mask, valid_lens=given_lens)
    again, weights = m(query, key, value, mask=given_mask, valid_lens=given_lens, need_weights=True)
    assert out.shape == (batch, Nq, dim)
    assert torch.allclose(out.double(), expected, atol=3e-5)
    assert torch.allclose(again.double(), expected, atol=3e-5)
    assert torch.allclose(weights.double(), expected_weights, atol=3e-5)
    keyless = (full == -INF).all(-1)
    assert not out[keyless.all(1)].any()
    assert not again[keyless.all(1)].any()
    assert not weights[keyless].any()
    assert not weights[full == -INF].any()


def test_forward__takes_the_query_as_key_and_the_key_as_value():
    m, x, y = MultiHeadAttention(8, 2), torch.randn(2, 4, 8), torch.randn(2, 5, 8)
    assert torch.equal(m(x), m(x, x, x))
    assert torch.equal(m(x, y), m(x, y, y))
    assert not torch.equal(m(x, y), m(x, y, torch.randn(2, 5, 8)))
    assert MultiHeadAttention(8, 2, key_dim=3)(x, torch.randn(2, 5, 3)).shape == x.shape


@settings(max_examples=40, deadline=None)
@given(
    seed=SEEDS,
    batch=st.integers(1, 3),
    heads=st.integers(1, 3),
    head_dim=st.integers(1, 4),
    widths=st.tuples(st.sampled_from([None, 5]), st.sampled_from([None, 7])),
    lengths=st.tuples(st.integers(1, 5), st.integers(1, 6)),
    bias=st.booleans(),
    mask=MASKS,
    per_head=st.booleans(),
    padding=st.booleans(),
    train=st.booleans(),
)
def test_from_torch__gives_what_torch_gives(
    seed, batch, heads, head_dim, widths, lengths, bias, mask, per_head, padding, train
):
    torch.manual_seed(seed)
    dim, (kdim, vdim), (Nq, Nk) = heads * head_dim, widths, lengths
    theirs = nn.MultiheadAttention(dim, heads, bias=bias, kdim=kdim, vdim=vdim, batch_first=True).train(train)
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.5)
    query, key, value = torch.randn(batch, Nq, dim), torch.randn(batch, Nk, kdim or dim), None
    value = torch.randn(batch, Nk, vdim or dim)
    ours_mask, lens, full = make_masks(
        mask, "bhqk" if per_head else "qk", "b" if padding else "none", batch, heads, Nq, Nk
    )
    torch_mask = ours_mask
    if mask != "none":
        torch_mask = ~ours_mask if mask == "bool" else ours_mask
        torch_mask = torch_mask.flatten(0, 1) if per_head else torch_mask
    torch_padding = None
    if padding:
        torch_padding = torch.arange(Nk) >= lens[:, None]
        if mask == "float":  # torch wants both masks in one type
            torch_padding = torch.zeros(batch, Nk).masked_fill(torch_padding, -INF)
    expected, expected_weights = theirs(
        query, key, value, attn_mask=torch_mask, key_padding_mask=torch_padding, average_attn_weights=False
    )
    out, weights = MultiHeadAttention.from_torch(theirs)(
        query, key, value, mask=ours_mask, valid_lens=lens, need_weights=True
    )
    alive = (full > -INF).any(-1)  # where torch has NaN or the projection's bias
    assert torch.allclose(out[alive.all(1)], expected[alive.all(1)], atol=1e-5)
    assert torch.allclose(weights[alive], expected_weights[alive], atol=1e-5)
    back = MultiHeadAttention.from_torch(theirs).to_torch()
    again, _ = back(query, key, value, attn_mask=torch_mask, key_padding_mask=torch_padding)
    assert torch.allclose(again[alive.all(1)], expected[alive.all(1)], atol=1e-5)


def same_tensors(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(a[n].dtype == b[n].dtype and torch.equal(a[n], b[n]) for n in a)


@pytest.mark.parametrize("widths", [(None, None), (4, None), (None, 5), (4, 5)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_round_trips__are_exact(widths, bias, dtype):
    kdim, vdim = widths
    theirs = nn.MultiheadAttention(6, 2, dropout=0.25, bias=bias, kdim=kdim, vdim=vdim, dtype=dtype).eval()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter)
    ours = MultiHeadAttention.from_torch(theirs)
    back = ours.to_torch()
    assert same_tensors(back.state_dict(), theirs.state_dict())
    assert same_tensors(MultiHeadAttention.from_torch(back).state_dict(), ours.state_dict())
    assert same_tensors(to_torch_state(from_torch_state(theirs.state_dict())), theirs.state_dict())
    assert same_tensors(from_torch_state(to_torch_state(ours.state_dict())), ours.state_dict())
    assert ours.q.weight.dtype == back.out_proj.weight.dtype == dtype
    assert ours.attn_drop.p == back.dropout == 0.25
    assert back.batch_first
    assert (ours.num_heads, back.num_heads) == (2, 2)
    assert not ours.training
    assert not ours.proj.training
    assert not back.training
    assert MultiHeadAttention.from_torch(theirs.train()).to_torch().training


def test_conversion__copies_the_weights_and_keeps_the_device():
    theirs = nn.MultiheadAttention(6, 2)
    ours = MultiHeadAttention.from_torch(theirs)
    kept = ours.q.weight.clone()
    with torch.no_grad():
        theirs.in_proj_weight.zero_()
    assert torch.equal(ours.q.weight, kept)
    elsewhere = MultiHeadAttention.from_torch(nn.MultiheadAttention(6, 2, device="meta"))
    assert {p.device.type for p in elsewhere.parameters()} == {"meta"}
    assert {p.device.type for p in elsewhere.to_torch().parameters()} == {"meta"}


@pytest.mark.parametrize(
    ("convert", "names"),
    [
        (lambda: MultiHeadAttention.from_torch(nn.Linear(4, 4)), "Linear"),
        (lambda: MultiHeadAttention.from_torch(nn.MultiheadAttention(4, 2, add_bias_kv=True)), "bias_k"),
        (lambda: MultiHeadAttention.from_torch(nn.MultiheadAttention(4, 2, add_zero_attn=True)), "add_zero_attn"),
        (lambda: MultiHeadAttention(4, 2, qk_norm=True).to_torch(), "qk_norm"),
        (lambda: MultiHeadAttention(4, 2, head_dim=3).to_torch(), "num_heads * head_dim = 6"),
        (lambda: MultiHeadAttention(4, 2, proj_drop=0.5).to_torch(), "proj_drop=0.5"),
        (lambda: from_torch_state({}), "no tensor"),
        (lambda: from_torch_state({"in_proj_weight": torch.ones(12, 4)}), "out_proj.weight"),
        (lambda: from_torch_state(MultiHeadAttention(4, 2).state_dict()), "q.weight"),
        (
            lambda: from_torch_state({**nn.MultiheadAttention(4, 2, bias=False).state_dict(), "out_proj.bias": 0}),
            "in_proj_bias",
        ),
        (lambda: to_torch_state({}), "no tensor"),
        (lambda: to_torch_state(nn.MultiheadAttention(4, 2).state_dict()), "in_proj_weight"),
    ],
)
def test_conversion__refuses_what_has_no_counterpart(convert, names):
    with pytest.raises(ConfigError) as caught:
        convert()
    assert names in str(caught.value)


def d2l_attention(m: MultiHeadAttention, queries, keys, values, valid_lens):
    """Multi-head attention as Dive into Deep Learning writes it: sequence_mask, masked_softmax, transpose_qkv."""

    def sequence_mask(x, lens, fill):
        x[torch.arange(x.shape[1])[None] >= lens[:, None]] = fill
        return x

    def masked_softmax(scores, lens):
        shape = scores.shape
        lens = lens.repeat_interleave(shape[1]) if lens.dim() == 1 else lens.reshape(-1)
        return sequence_mask(scores.reshape(-1, shape[-1]), lens, -1e6).reshape(shape).softmax(-1)

    def transpose_qkv(x):
        x = x.reshape(*x.shape[:2], m.num_heads, -1).permute(0, 2, 1, 3)
        return x.reshape(-1, *x.shape[2:])

    q, k, v = transpose_qkv(m.q(queries)), transpose_qkv(m.k(keys)), transpose_qkv(m.v(values))
    lens = valid_lens.repeat_interleave(m.num_heads, 0)
    out = masked_softmax(q @ k.transpose(1, 2) / math.sqrt(q.shape[-1]), lens) @ v
    out = out.reshape(-1, m.num_heads, *out.shape[1:]).permute(0, 2, 1, 3)
    return m.proj(out.reshape(*out.shape[:2], -1))


@settings(max_examples=40, deadline=None)
@given(
    seed=SEEDS,
    batch=st.integers(1, 3),
    heads=st.integers(1, 3),
    lengths=st.tuples(st.integers(1, 5), st.integers(1, 6)),
    per_query=st.booleans(),
    bias=st.booleans(),
)
def test_valid_lens__equals_dive_into_deep_learning(seed, batch, heads, lengths, per_query, bias):
    torch.manual_seed(seed)
    Nq, Nk = lengths
    m = MultiHeadAttention(2 * heads, heads, key_dim=5, value_dim=3, bias=bias)
    queries, keys, values = torch.randn(batch, Nq, 2 * heads), torch.randn(batch, Nk, 5), torch.randn(batch, Nk, 3)
    lens = torch.randint(1, Nk + 1, (batch, Nq) if per_query else (batch,))
    expected = d2l_attention(m, queries, keys, values, lens)
    assert torch.allclose(m(queries, keys, values, valid_lens=lens), expected, atol=1e-5)


@pytest.mark.parametrize("need_weights", [False, True])
def test_masked_keys__have_no_influence(need_weights):
    m, query, key = MultiHeadAttention(8, 2), torch.randn(2, 4, 8), torch.randn(2, 6, 8)
    allowed = torch.tensor([True, False, True, True, True, False])
    changed = key.clone()
    changed[:, [1, 4, 5]] = 1e10

    def run(key):
        return m(
            query,
            key,
            mask=allowed.expand(4, 6),
            valid_lens=torch.tensor([4, 4]),
            need_weights=need_weights,
        )

    for before, after in zip(run(key), run(changed), strict=True):
        assert torch.equal(before, after)
    changed[:, 3] += 1
    assert not torch.equal(run(key)[0], run(changed)[0])


@pytest.mark.parametrize("qk_norm", [False, True])
def test_order_of_keys__does_not_matter_and_that_of_queries_is_kept(qk_norm):
    m, query = MultiHeadAttention(8, 2, qk_norm=qk_norm), torch.randn(2, 5, 8)
    key, value, mask = torch.randn(2, 7, 8), torch.randn(2, 7, 8), torch.rand(2, 5, 7) < 0.7
    keys, queries = torch.randperm(7), torch.randperm(5)
    out = m(query, key, value, mask=mask)
    assert torch.allclose(m(query, key[:, keys], value[:, keys], mask=mask[..., keys]), out, atol=1e-6)
    assert torch.allclose(m(query[:, queries], key, value, mask=mask[:, queries]), out[:, queries], atol=1e-6)


@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "masks",
    [
        {"valid_lens": torch.tensor([0, 3])},
        {"valid_lens": torch.tensor([[0, 0], [1, 2]])},
        {"mask": torch.tensor([[[False] * 3] * 2, [[True] * 3] * 2])},
        {"mask": torch.tensor([[[-INF] * 3] * 2, [[0.5] * 3] * 2])},
        {"mask": torch.tensor([[False, True, True]] * 2), "valid_lens": torch.tensor([1, 2])},  # only together
        {"mask": torch.tensor([[-INF, 1.0, 1.0]] * 2), "valid_lens": torch.tensor([1, 2])},
    ],
)
def test_query_without_a_key__gives_zero_and_no_gradient(masks, dtype, need_weights):
    m = MultiHeadAttention(8, 2).to(dtype)
    nn.init.constant_(m.proj.bias, 3)
    query, key = (torch.randn(2, n, 8, dtype=dtype, requires_grad=True) for n in (2, 3))
    out = m(query, key, need_weights=need_weights, **masks)
    if need_weights:
        out, weights = out
        assert not weights[0].any()
        assert torch.allclose(weights[1].sum(-1).float(), torch.ones(2, 2), atol=1e-2)
    assert not out[0].any()
    assert out[1].all()
    out.sum().backward()
    for tensor in (query, key, *m.parameters()):
        assert tensor.grad.isfinite().all()
    assert not query.grad[0].any()
    assert not key.grad[0].any()
    assert key.grad[1].any()
    assert m.v.weight.grad.any()


def test_head_without_a_key__adds_nothing():
    m, x = MultiHeadAttention(8, 2), torch.randn(1, 3, 8)
    mask = torch.ones(1, 2, 1, 3, dtype=torch.bool)
    mask[:, 1] = False
    out, weights = m(x, mask=mask, need_weights=True)
    assert not weights[:, 1].any()
    first = m.v(x)[..., :4]
    expected = nn.functional.linear(weights[:, 0] @ first, m.proj.weight[:, :4], m.proj.bias)
    assert torch.allclose(out, expected, atol=1e-6)
    assert torch.allclose(m(x, mask=mask), expected, atol=1e-6)


@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("qk_norm", [False, True])
def test_gradients(need_weights, qk_norm):
    m = MultiHeadAttention(4, 2, key_dim=3, value_dim=4, qk_norm=qk_norm).double()
    query, key, value, mask = (
        torch.randn(shape, dtype=torch.float64, requires_grad=True)
        for shape in ((2, 3, 4), (2, 4, 3), (2, 4, 4), (3, 4))
    )
    lens = torch.tensor([[0, 2, 4], [4, 1, 3]])

    def run(query, key, value, mask):
        return m(query, key, value, mask=mask, valid_lens=lens, need_weights=need_weights)

    # the norm treats the largest entry as a constant, which is exact up to its eps of 1e-6
    assert torch.autograd.gradcheck(run, (query, key, value, mask), atol=1e-4 if qk_norm else 1e-6)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("options", [{}, {"qk_norm": True}, {"bias": False}])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("transposed", [False, True])
def test_forward__takes_the_fused_kernel_and_never_builds_the_square_matrix(training, options, masked, transposed):
    m = MultiHeadAttention(32, 2, **options).train(training)
    query, key = torch.randn(2, 180, 32), torch.randn(2, 200, 32)
    if transposed:
        query, key = (x.transpose(1, 2).contiguous().transpose(1, 2) for x in (query, key))
    query.requires_grad_(training)
    with Operators() as ran:
        out = m(query, key, valid_lens=torch.tensor([150, 200]) if masked else None)
        forward = set(ran.names)
        if training:
            out.sum().backward()
    assert any("flash_attention" in name for name in ran.names), ran.names
    assert not any("softmax" in name for name in ran.names)
    assert ran.largest < 180 * 200
    if not masked and not transposed:
        assert not any(word in name for name in forward for word in ("clone", "copy", "where", "masked_fill")), forward


def test_need_weights__builds_the_square_matrix():
    with Operators() as ran:
        MultiHeadAttention(32, 2)(torch.randn(1, 50, 32), need_weights=True)
    assert any("softmax" in name for name in ran.names)
    assert ran.largest == 2 * 50 * 50


@pytest.mark.parametrize(
    ("dtype", "factor", "need_weights"),
    [(torch.float32, 1e20, False), (torch.float32, 1e20, True), (torch.float16, 1e4, True)],
)
def test_qk_norm__keeps_large_inputs_finite(dtype, factor, need_weights):
    x = (torch.randn(2, 9, 32) * factor).to(dtype)
    plain = MultiHeadAttention(32, 4).to(dtype)
    normed = MultiHeadAttention(32, 4, qk_norm=True).to(dtype)
    out = normed(x, need_weights=need_weights)
    assert all(part.isfinite().all() for part in (out if need_weights else (out,)))
    broken = plain(x, need_weights=need_weights)
    assert not all(part.isfinite().all() for part in (broken if need_weights else (broken,)))


def test_qk_norm__gives_the_same_weights_at_any_scale():
    m, x = MultiHeadAttention(32, 4, qk_norm=True, bias=False), torch.randn(2, 9, 32)
    _, weights = m(x, need_weights=True)
    for factor in (1e-2, 1e4, 1e20):
        assert torch.allclose(m(x * factor, need_weights=True)[1], weights, atol=1e-4)


@pytest.mark.parametrize("qk_norm", [False, True])
@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast__stays_close(dtype, need_weights, qk_norm):
    m, x = MultiHeadAttention(32, 4, qk_norm=qk_norm), torch.randn(2, 9, 32)
    masks = {"mask": torch.randn(9, 9), "valid_lens": torch.tensor([5, 0])}
    expected = m(x, **masks)
    with torch.autocast("cpu", dtype):
        out = m(x, **masks, need_weights=need_weights)
    out = out[0] if need_weights else out
    assert out.dtype == dtype
    assert torch.allclose(out.float(), expected, atol=0.02)
    assert not out[1].any()


def test_autocast__takes_other_floats_but_no_integers():
    m = MultiHeadAttention(8, 2)
    with torch.autocast("cpu", torch.bfloat16):
        assert m(torch.ones(1, 3, 8).half()).isfinite().all()
        with pytest.raises(ConfigError):
            m(torch.ones(1, 3, 8).long())


def test_dropout__only_in_training():
    x = torch.randn(1, 6, 32)
    for option in ({"attn_drop": 0.5}, {"proj_drop": 0.5}):
        m = MultiHeadAttention(32, 4, **option)
        assert not torch.equal(m(x), m(x))
        assert not torch.equal(m(x, need_weights=True)[0], m(x, need_weights=True)[0])
        assert torch.allclose(m(x, need_weights=True)[1].sum(-1), torch.ones(1, 4, 6))  # as before dropout
        m.eval()
        assert torch.equal(m(x), m(x))


@pytest.mark.parametrize("form", ["plain", "mask", "lens"])
def test_export__keeps_the_number_of_queries_open(form):
    m, key = MultiHeadAttention(8, 2).eval(), torch.randn(2, 6, 8)

    def masks(n):
        lens = torch.arange(2 * n).view(2, n) % 7
        return {"plain": {}, "mask": {"mask": torch.rand(2, n, 6) < 0.4}, "lens": {"valid_lens": lens}}[form]

    queries = torch.export.Dim("queries")
    exported = torch.export.export(
        m,
        (torch.randn(2, 5, 8), key),
        masks(5),
        dynamic_shapes={"query": {1: queries}, "key": None, **{name: {1: queries} for name in masks(5)}},
    ).module()
    for n in (3, 11):
        query, kwargs = torch.randn(2, n, 8), masks(n)
        assert torch.allclose(exported(query, key, **kwargs), m(query, key, **kwargs), atol=1e-6)


def test_compile__in_one_graph():
    m, query, key = MultiHeadAttention(8, 2, qk_norm=True), torch.randn(2, 5, 8), torch.randn(2, 6, 8)
    compiled = torch.compile(m, backend="aot_eager", fullgraph=True)
    both = {"mask": torch.rand(5, 6) < 0.5, "valid_lens": torch.tensor([0, 4])}
    for masks in ({}, both):
        assert torch.allclose(compiled(query, key, **masks), m(query, key, **masks), atol=1e-6)
    for ours, theirs in zip(
        compiled(query, key, **both, need_weights=True), m(query, key, **both, need_weights=True), strict=True
    ):
        assert torch.allclose(ours, theirs, atol=1e-6)


def test_copies__give_the_same():
    m, x = MultiHeadAttention(8, 2, qk_norm=True).eval(), torch.randn(2, 5, 8)
    for copied in (copy.deepcopy(m), pickle.loads(pickle.dumps(m))):
        assert torch.equal(copied(x), m(x))


def test_no_queries_and_no_batch__give_empty_outputs():
    m = MultiHeadAttention(8, 2)
    assert m(torch.randn(2, 0, 8), torch.randn(2, 3, 8), valid_lens=torch.tensor([1, 2])).shape == (2, 0, 8)
    assert m(torch.randn(0, 3, 8), valid_lens=torch.ones(0, dtype=torch.long)).shape == (0, 3, 8)


@pytest.mark.parametrize(
    "arguments",
    [
        {"num_heads": 3},
        {"num_heads": 0},
        {"head_dim": 5},
        {"key_dim": 0},
        {"value_dim": 2.0},
        {"key_dim": True},
        {"bias": 1},
        {"qk_norm": "yes"},
        {"attn_drop": 1.5},
        {"proj_drop": -0.1},
    ],
)
def test_init__refuses(arguments):
    with pytest.raises(ConfigError):
        MultiHeadAttention(64, **arguments)


ONES = torch.ones(2, 6, 7)


@pytest.mark.parametrize(
    ("sequences", "names"),
    [
        (([[1.0] * 8], ONES), ("query: list",)),
        ((torch.ones(5, 8), ONES), ("(5, 8)", "(batch, length, 8)")),
        ((torch.ones(2, 5, 7), ONES), ("(2, 5, 7)", "(batch, length, 8)")),
        ((torch.ones(2, 5, 8), torch.ones(2, 6, 8)), ("key", "(2, 6, 8)", "(batch, length, 7)")),
        ((torch.ones(2, 5, 8), ONES, torch.ones(2, 6, 8)), ("value", "(2, 6, 8)", "(batch, length, 7)")),
        ((torch.ones(2, 5, 8),), ("key", "(2, 5, 8)", "(batch, length, 7)")),
        ((torch.ones(3, 5, 8), ONES), ("3, 2 and 2",)),
        ((torch.ones(2, 5, 8), ONES, ONES[:1]), ("2, 2 and 1",)),
        ((torch.ones(2, 5, 8), ONES, ONES[:, :5]), ("6 keys and 5 values",)),
        ((torch.ones(2, 5, 8), ONES[:, :0]), ("0 keys",)),
        ((torch.ones(2, 5, 8).double(), ONES), ("torch.float64", "torch.float32")),
        ((torch.ones(2, 5, 8), ONES.half()), ("torch.float16", "torch.float32")),
        ((torch.ones(2, 5, 8).long(), ONES), ("torch.int64", "torch.float32")),
    ],
)
def test_forward__refuses_sequences(sequences, names):
    with pytest.raises(ConfigError) as caught:
        MultiHeadAttention(8, 2, key_dim=7, value_dim=7)(*sequences)
    assert all(name in str(caught.value) for name in names), caught.value


@pytest.mark.parametrize(
    ("masks", "names"),
    [
        ({"mask": [[True]]}, ("mask: list",)),
        ({"mask": torch.ones(5, 6, dtype=torch.uint8)}, ("torch.uint8", "boolean")),
        ({"mask": torch.ones(6, 5)}, ("(6, 5)", "(5, 6)")),
        ({"mask": torch.ones(6)}, ("(6,)", "(5, 6)")),
        ({"mask": torch.ones(1, 5, 6)}, ("(1, 5, 6)", "(2, 5, 6)")),
        ({"mask": torch.ones(4, 5, 6)}, ("(4, 5, 6)", "(2, 5, 6)")),
        ({"mask": torch.ones(2, 6, 5)}, ("(2, 6, 5)", "(2, 5, 6)")),
        ({"mask": torch.ones(3, 2, 5, 6)}, ("(3, 2, 5, 6)", "(2 or 1, 4 or 1, 5 or 1, 6)")),
        ({"mask": torch.ones(2, 2, 5, 6)}, ("(2, 2, 5, 6)", "4 or 1")),
        ({"mask": torch.ones(2, 4, 2, 6)}, ("(2, 4, 2, 6)", "5 or 1")),
        ({"mask": torch.ones(2, 4, 5, 1)}, ("(2, 4, 5, 1)",)),
        ({"mask": torch.ones(1, 2, 4, 5, 6)}, ("(1, 2, 4, 5, 6)",)),
        ({"valid_lens": [1, 2]}, ("valid_lens: list", "integers")),
        ({"valid_lens": torch.tensor([1.0, 2.0])}, ("torch.float32", "integers")),
        ({"valid_lens": torch.tensor([1 + 1j, 2])}, ("torch.complex64", "integers")),
        ({"valid_lens": torch.tensor([True, False])}, ("torch.bool", "integers")),
        ({"valid_lens": torch.tensor([1, 2, 3])}, ("(3,)", "(2,) or (2, 5)")),
        ({"valid_lens": torch.tensor(1)}, ("()", "(2,) or (2, 5)")),
        ({"valid_lens": torch.ones(2, 6).long()}, ("(2, 6)", "(2,) or (2, 5)")),
        ({"valid_lens": torch.ones(2, 5, 1).long()}, ("(2, 5, 1)", "(2,) or (2, 5)")),
        ({"valid_lens": torch.tensor([1, 7])}, ("from 1 to 7", "6")),
        ({"valid_lens": torch.tensor([-1, 6])}, ("from -1 to 6",)),
    ],
)
def test_forward__refuses_masks(masks, names):
    with pytest.raises(ConfigError) as caught:
        MultiHeadAttention(8, 4)(torch.ones(2, 5, 8), torch.ones(2, 6, 8), **masks)
    assert all(name in str(caught.value) for name in names), caught.value
