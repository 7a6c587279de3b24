"""Every block in every precision, deterministic, compiled, exported: what training and deployment will do to it."""

import pytest
import torch
from torch import nn

from yolo_mha import CrossScaleMHA, S2Attention, SpatialMHA, SpatialMHABlock
from yolo_mha.nn.spatial import POSITIONS

SCOPES = [{}, {"scope": "window", "window": 3}, {"scope": "axial"}, {"kv_stride": 2}]
PAIRS = [{**s, "position": p} for s in SCOPES for p in POSITIONS if p != "relative" or s.get("scope") == "window"]
SIZES = [(6, 6), (7, 10), (5, 4), (12, 8)]


def name(arguments) -> str:
    return "-".join(str(v) for v in arguments.values())


class OneInput(nn.Module):
    """Cross-scale attention whose context is the pooled input, so that it is called as the others are."""

    def __init__(self, **arguments):
        super().__init__()
        self.block = CrossScaleMHA(16, 16, 2, gate_init=0.5, **arguments)

    def forward(self, x):
        return self.block([x, x[:, :, ::2, ::2]])


BLOCKS = [
    *(pytest.param(lambda a=a: SpatialMHABlock(16, 2, gate_init=0.5, qk_norm=True, **a), id=name(a)) for a in PAIRS),
    pytest.param(lambda: SpatialMHABlock(16, 2, gate_init=0.5, mlp_ratio=2.0), id="mlp"),
    *(pytest.param(lambda p=p: OneInput(position=p), id=f"cross-{p}") for p in ("none", "sincos", "rope")),
    pytest.param(lambda: OneInput(qk_norm=True), id="cross-qk_norm"),
    pytest.param(lambda: S2Attention(16, gate_init=0.5), id="s2"),
]
every_block = pytest.mark.parametrize("make", BLOCKS)
# Where a block takes seconds: every scope, every position code and every kind of block once between releases.
COMMON = {"none", "dwconv", "window-3-relative", "axial-rope", "2-sincos", "mlp", "cross-rope", "s2"}
every_block_at_length = pytest.mark.parametrize(
    "make", [pytest.param(*b.values, id=b.id, marks=() if b.id in COMMON else pytest.mark.slow) for b in BLOCKS]
)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@every_block
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast__is_finite_and_close_forward_and_backward(make, dtype):
    block, x = make(), torch.randn(2, 16, 7, 10)
    expected = block.eval()(x)
    with torch.autocast("cpu", dtype):
        out = block(x)
        assert torch.isfinite(out).all()
        torch.testing.assert_close(out.float() - x, expected - x, atol=0.03, rtol=0.1)
        block.train()(x).square().mean().backward()
    gradients = [p.grad for p in block.parameters()]
    assert all(g is not None and torch.isfinite(g).all() for g in gradients)


@every_block
def test_half_precision_weights__as_ultralytics_predicts_with_half(make):
    block, x = make().eval(), torch.randn(1, 16, 7, 10)
    expected = block(x)
    for dtype in (torch.bfloat16, torch.float16):
        out = block.to(dtype)(x.to(dtype))
        assert out.dtype == dtype
        torch.testing.assert_close(out.float(), expected, atol=0.05, rtol=0.01)


@every_block
def test_deterministic_algorithms__give_equal_gradients(make):
    block, x = make(), torch.randn(2, 16, 7, 10)
    torch.use_deterministic_algorithms(True)
    try:
        found = []
        for _ in range(2):
            block.zero_grad()
            block(x).square().mean().backward()
            found.append([p.grad.clone() for p in block.parameters()])
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.slow
@every_block_at_length
def test_export__with_free_height_and_width(make):
    block = make().eval()
    free = dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)
    exported = torch.export.export(block, (torch.randn(2, 16, 14, 20),), dynamic_shapes=(free,)).module()
    for size in SIZES:
        x = torch.randn(3, 16, *size)
        torch.testing.assert_close(exported(x), block(x), atol=1e-5, rtol=1e-4)


@pytest.mark.slow
@every_block_at_length
def test_compile__in_one_graph(make):
    block = make().eval()
    torch.compiler.reset()
    compiled = torch.compile(block, backend="aot_eager", fullgraph=True, dynamic=False)
    x = torch.randn(2, 16, 7, 10)  # other sizes are those of the exports and of the slow test below
    torch.testing.assert_close(compiled(x), block(x), atol=1e-5, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("make", [BLOCKS[0], BLOCKS[4], BLOCKS[-1]])
def test_compile__to_machine_code_at_any_size(make):
    block = make()
    torch.compiler.reset()
    compiled = torch.compile(block, fullgraph=True)
    for size in SIZES:
        x, found = torch.randn(2, 16, *size), []
        for module in (compiled, block):
            block.zero_grad()
            module(x).square().mean().backward()
            found.append([p.grad.clone() for p in block.parameters()])
        for a, b in zip(*found, strict=True):
            torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-3)


@every_block
def test_onnx__runs_at_any_size_and_agrees(make, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    block, path = make().eval(), str(tmp_path / "block.onnx")
    if hasattr(block, "fuse"):
        block.fuse()
    free = {0: "batch", 2: "height", 3: "width"}
    torch.onnx.export(
        block,
        (torch.randn(1, 16, 6, 6),),
        path,
        dynamo=False,
        opset_version=17,
        input_names=["x"],
        output_names=["y"],
        dynamic_axes={"x": free, "y": free},
    )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for size in SIZES:
        x = torch.randn(2, 16, *size)
        (out,) = session.run(None, {"x": x.numpy()})
        torch.testing.assert_close(torch.from_numpy(out), block(x), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("dtype", "size"), [(torch.float32, 1e22), (torch.bfloat16, 1e22), (torch.float16, 3e3)])
@pytest.mark.parametrize("scope", ["global", "window", "axial"])
def test_qk_norm__keeps_large_inputs_finite(scope, dtype, size):
    plain, normed = (SpatialMHA(16, 2, scope=scope, qk_norm=n).to(dtype) for n in (False, True))
    normed.load_state_dict(plain.state_dict(), strict=False)
    x = (torch.randn(1, 16, 6, 7) * size).to(dtype).requires_grad_()
    out = normed(x)
    out.float().mean().backward()
    assert torch.isfinite(out).all()
    assert torch.isfinite(x.grad).all()
    if dtype == torch.float32:  # on a CPU the kernels add up half precision in single precision
        assert not torch.isfinite(plain(x)).all()


def test_qk_norm__does_not_see_the_size_of_its_input():
    attention = SpatialMHA(16, 2, qk_norm=True, qkv_bias=False).double()
    attention.proj.bias.data.zero_()
    x = torch.randn(1, 16, 4, 5, dtype=torch.float64)
    torch.testing.assert_close(attention(1e6 * x), 1e6 * attention(x))
