import numpy as np
import onnx
import pytest
import torch
from networks import opened
from onnxruntime import InferenceSession

import yolo_mha
from yolo_mha.deploy.fuse_attention import fuse_attention
from yolo_mha.errors import ConfigError


def operators(file: str) -> list[str]:
    return [node.op_type for node in onnx.load(file).graph.node]


@pytest.mark.parametrize(
    ("name", "count", "settings"),
    [
        ("yolo11n-mha-p4p5.yaml", 3, {}),  # the third is Ultralytics' own, with values the other way round
        pytest.param("yolo12n-mha-p5.yaml", 9, {"dynamic": True, "simplify": False}, marks=pytest.mark.slow),  # by area
        pytest.param("yolo12n-mha-p5.yaml", 9, {"dynamic": True}, marks=pytest.mark.slow),
        pytest.param("yolov8n-mha-p4kv-p5.yaml", 2, {}, marks=pytest.mark.slow),
    ],
)
def test_fuse__replaces_every_attention_and_agrees(name, count, settings, small_sizes):
    result = yolo_mha.export(opened(name), imgsz=96, fuse_attention=True, **settings)
    assert result.ok, result.agreement
    assert result.file.endswith("opened_fused.onnx")
    found = operators(result.file)
    assert found.count("MultiHeadAttention") == count
    assert found.count("Softmax") == 1  # that of the boxes
    assert {o.domain: o.version for o in onnx.load(result.file).opset_import}["com.microsoft"] == 1


@pytest.mark.parametrize("settings", [{}, {"kv_stride": 2}, {"scope": "axial"}, {"position": "rope", "qk_norm": True}])
def test_fuse__a_block_gives_the_same_within_1e_5(settings, tmp_path):
    block = yolo_mha.SpatialMHA(32, 2, **settings).eval()
    torch.nn.init.normal_(block.qkv.weight, std=0.5)  # some keys count far more than others
    free = {0: "batch", 2: "height", 3: "width"}
    torch.onnx.export(
        block,
        (torch.randn(1, 32, 6, 6),),
        str(tmp_path / "block.onnx"),
        dynamo=False,
        opset_version=18,
        input_names=["x"],
        dynamic_axes={"x": free},
    )
    model = onnx.load(tmp_path / "block.onnx")
    assert fuse_attention(model, 6, 6) == (2 if settings.get("scope") else 1, 0)
    assert "Softmax" not in {node.op_type for node in model.graph.node}
    session = InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for shape in ((1, 32, 6, 6), (3, 32, 9, 4)):
        x = torch.randn(shape)
        with torch.no_grad():
            expected = block(x)
            block.scale *= 0.5
            assert not torch.allclose(block(x), expected, atol=1e-3)  # so that a wrong scale would be seen
            block.scale *= 2
        (out,) = session.run(None, {"x": x.numpy()})
        np.testing.assert_allclose(out, expected.numpy(), atol=1e-5)


def test_fuse__in_half_precision(beacons):
    result = yolo_mha.export("demo-mha.pt", data=beacons, fuse_attention=True, half=True)
    assert result.verdict == "proved", result.agreement
    graph = onnx.load(result.file).graph
    described = [value.name for value in graph.value_info]
    assert described
    assert set(described) <= {name for node in graph.node for name in node.output}
    assert len(set(described)) == len(described)
    assert operators(result.file).count("MultiHeadAttention") == 1


@pytest.mark.slow
def test_fuse__windows_are_left_and_said(small_sizes):
    settings = {"imgsz": 64, "dynamic": True, "fuse_attention": True}
    with pytest.raises(ConfigError, match="no attention"):
        yolo_mha.export(opened("yolov8n-mha-p3.yaml"), simplify=False, **settings)
    result = yolo_mha.export(opened("yolo11n-mha-p3.yaml"), **settings)
    assert result.ok
    assert "1 attentions" in result.notes[0]
    assert "1 with a mask" in result.notes[0]
    assert "IsNaN" not in operators(result.file)  # of a mask of booleans; slow


def test_fuse__refuses_a_model_without_attention(tmp_path):
    with pytest.raises(ConfigError, match="no attention"):
        yolo_mha.export("demo-baseline.yaml", imgsz=64, fuse_attention=True)
    assert not list(tmp_path.glob("*.onnx"))


class Joined(torch.nn.Module):
    """`nn.MultiheadAttention`, which joins images and heads in one axis."""

    def __init__(self):
        super().__init__()
        self.attention = torch.nn.MultiheadAttention(16, 2, batch_first=True)

    def forward(self, x):
        tokens = x.flatten(2).transpose(1, 2)
        return self.attention(tokens, tokens, tokens, need_weights=True)[0]


def test_fuse__leaves_attention_without_an_axis_of_heads(tmp_path):
    x, file = torch.randn(1, 16, 6, 6), str(tmp_path / "x.onnx")
    torch.onnx.export(Joined().eval(), (x,), file, dynamo=False, opset_version=18, input_names=["x"])
    model = onnx.load(file)
    before = model.SerializeToString()
    assert fuse_attention(model, 6, 6) == (0, 1)
    assert model.SerializeToString() == before
