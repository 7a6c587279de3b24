import copy
import math
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from yolo_mha.errors import ConfigError
from yolo_mha.nn.s2 import ShiftAttention, SplitAttention, shift_first, shift_second

SEEDS, BATCHES, SIZES = st.integers(0, 2**32 - 1), st.integers(1, 2), st.integers(1, 5)
CHANNELS = st.sampled_from([4, 5, 7, 8])


def moved(x, out, channels, rows, columns):
    """Copy each pixel of some channels by so many rows and columns, one pixel at a time, where it stays in the map."""
    height, width = x.shape[2:]
    for i in range(height):
        for j in range(width):
            if 0 <= i + rows < height and 0 <= j + columns < width:
                out[:, channels, i + rows, j + columns] = x[:, channels, i, j]


def paper_shift_first(x):
    """spatial_shift1 of Algorithm 1; the paper's first spatial axis is the first here, the height."""
    out, c = x.clone(), x.shape[1]
    moved(x, out, slice(0, c // 4), 1, 0)  # x[:, 1:, :, :c/4] = x[:, :w-1, :, :c/4]
    moved(x, out, slice(c // 4, c // 2), -1, 0)  # x[:, :w-1, :, c/4:c/2] = x[:, 1:, :, c/4:c/2]
    moved(x, out, slice(c // 2, 3 * c // 4), 0, 1)  # x[:, :, 1:, c/2:c*3/4] = x[:, :, :h-1, c/2:c*3/4]
    moved(x, out, slice(3 * c // 4, c), 0, -1)  # x[:, :, :h-1, 3*c/4:] = x[:, :, 1:, 3*c/4:]
    return out


def paper_shift_second(x):
    """spatial_shift2 of Algorithm 1."""
    out, c = x.clone(), x.shape[1]
    moved(x, out, slice(0, c // 4), 0, 1)
    moved(x, out, slice(c // 4, c // 2), 0, -1)
    moved(x, out, slice(c // 2, 3 * c // 4), 1, 0)
    moved(x, out, slice(3 * c // 4, c), -1, 0)
    return out


def paper_split(split: SplitAttention, maps):
    """Sum over maps and pixels, sigma(a W1) W2, softmax over the maps, weighted sum: one pixel at a time."""
    batch, c, height, width = maps[0].shape
    a = torch.zeros(batch, c, dtype=torch.float64)
    for x in maps:
        for i in range(height):
            for j in range(width):
                a += x[:, :, i, j]
    hidden = a @ split.mlp1.weight.double().T
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
    scores = (hidden @ split.mlp2.weight.double().T).view(batch, 3, c)
    e = scores.exp()
    weights = e / e.sum(1, keepdim=True)
    out = torch.zeros_like(maps[0])
    for i in range(height):
        for j in range(width):
            for n, x in enumerate(maps):
                out[:, :, i, j] += weights[:, n] * x[:, :, i, j]
    return out


def paper(m: ShiftAttention, x):
    x = x.double()
    c = x.shape[1]

    def mlp(layer, x):
        return torch.einsum("oi,bihw->bohw", layer.weight.double()[:, :, 0, 0], x) + layer.bias.double()[:, None, None]

    x = mlp(m.mlp1, x)
    maps = (paper_shift_first(x[:, :c]), paper_shift_second(x[:, c : 2 * c]), x[:, 2 * c :])
    return mlp(m.mlp2, paper_split(m.split, maps))


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, batch=BATCHES, channels=CHANNELS, height=SIZES, width=SIZES)
def test_shifts__equal_the_paper_and_leave_the_input_alone(seed, batch, channels, height, width):
    torch.manual_seed(seed)
    x = torch.randn(batch, channels, height, width)
    before = x.clone()
    for shift, expected in ((shift_first, paper_shift_first(x)), (shift_second, paper_shift_second(x))):
        out = shift(x)
        assert torch.equal(out, expected)
        out.fill_(7)
        assert torch.equal(x, before)


def test_shift_first__by_hand():
    x = torch.arange(6.0).view(1, 1, 2, 3).repeat(1, 4, 1, 1)  # [[0, 1, 2], [3, 4, 5]] in each channel
    down, up = [[0, 1, 2], [0, 1, 2]], [[3, 4, 5], [3, 4, 5]]
    right, left = [[0, 0, 1], [3, 3, 4]], [[1, 2, 2], [4, 5, 5]]
    assert shift_first(x)[0].tolist() == [down, up, right, left]
    assert shift_second(x)[0].tolist() == [right, left, down, up]


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, batch=BATCHES, channels=CHANNELS, height=SIZES, width=SIZES, channels_last=st.booleans())
def test_forward__equals_the_paper_at_any_size(seed, batch, channels, height, width, channels_last):
    torch.manual_seed(seed)
    m, x = ShiftAttention(channels), torch.randn(batch, channels, height, width)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    before = x.clone()
    out = m(x)
    assert torch.allclose(out.double(), paper(m, x), atol=1e-5)
    assert out.stride() == x.stride() or 1 in x.shape[1:]
    assert torch.equal(x, before)


def test_split_attention__weighs_by_a_softmax():
    split, maps = SplitAttention(5), torch.randn(3, 2, 5, 4, 3)
    assert torch.allclose(split(*maps).double(), paper_split(split, maps.double()), atol=1e-5)
    same = maps[0]
    assert torch.allclose(split(same, same, same), same, atol=1e-6)  # the weights sum to 1
    torch.nn.init.zeros_(split.mlp2.weight)
    assert torch.allclose(split(*maps), maps.mean(0), atol=1e-6)
    assert {name for name, _ in split.named_parameters()} == {"mlp1.weight", "mlp2.weight"}


@pytest.mark.parametrize("size", [(20, 20), (13, 17), (1, 7), (6, 1)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_forward__keeps_the_memory_format(size, memory_format):
    x = torch.randn(2, 12, *size).contiguous(memory_format=memory_format)
    for weights_format in (torch.contiguous_format, torch.channels_last):
        m = ShiftAttention(12).to(memory_format=weights_format)
        assert m(x).is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize("size", [(2, 3), (1, 3), (3, 1)])
def test_gradients(size):
    m, x = ShiftAttention(5).double(), torch.randn(2, 5, *size, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(m, (x,))


@pytest.mark.slow
def test_compile_and_export__give_the_same():
    m = ShiftAttention(8).eval()
    compiled = torch.compile(m, backend="aot_eager", fullgraph=True)
    shapes = {"x": {2: torch.export.Dim("height"), 3: torch.export.Dim("width")}}
    exported = torch.export.export(m, (torch.randn(1, 8, 6, 9),), dynamic_shapes=shapes).module()
    for size in ((5, 7), (8, 2)):
        x = torch.randn(1, 8, *size)
        assert torch.allclose(compiled(x), m(x), atol=1e-6)
        assert torch.allclose(exported(x), m(x), atol=1e-6)


def test_onnx__keeps_height_and_width_open(tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    m, path = ShiftAttention(10).eval(), tmp_path / "shift.onnx"
    torch.onnx.export(
        m,
        (torch.randn(1, 10, 6, 8),),
        path.as_posix(),
        dynamo=False,
        opset_version=17,
        input_names=["x"],
        output_names=["y"],
        dynamic_axes={"x": {2: "height", 3: "width"}, "y": {2: "height", 3: "width"}},
    )
    session = runtime.InferenceSession(path.as_posix(), providers=["CPUExecutionProvider"])
    for size in ((6, 8), (13, 7), (5, 12), (1, 9), (4, 1)):
        x = torch.randn(1, 10, *size)
        (y,) = session.run(None, {"x": x.numpy()})
        assert torch.allclose(torch.from_numpy(y), m(x), atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast__stays_close(dtype):
    m, x = ShiftAttention(16), torch.randn(2, 16, 5, 6)
    with torch.autocast("cpu", dtype):
        out = m(x)
    assert torch.allclose(out.float(), m(x), atol=0.05)


def test_copies__give_the_same():
    m, x = ShiftAttention(8), torch.randn(1, 8, 4, 5)
    for copied in (copy.deepcopy(m), pickle.loads(pickle.dumps(m))):
        assert torch.equal(copied(x), m(x))


@pytest.mark.parametrize("dim", [3, 0, -4, 8.0, "8", True, None])
def test_init__refuses(dim):
    with pytest.raises(ConfigError) as caught:
        ShiftAttention(dim)
    assert f"dim={dim!r}" in str(caught.value)
