from pathlib import Path

import onnx
import pytest

import yolo_mha
from yolo_mha.deploy.proof import MOST_AP_LOST
from yolo_mha.deploy.quantize import module_of, quantize
from yolo_mha.errors import ConfigError, RunError


@pytest.fixture(scope="module")
def int8(beacons, tmp_path_factory):
    folder = tmp_path_factory.mktemp("int8")
    model = folder / "demo.pt"
    model.write_bytes(Path(yolo_mha.YOLO("demo-mha.pt").ckpt_path).read_bytes())
    return yolo_mha.export(model, int8=True, data=beacons, fuse_attention=True)


def test_int8__keeps_its_ap_and_states_it(int8):
    assert int8.ok, int8.scores
    assert Path(int8.file).name == "demo_int8_fused.onnx"
    assert int8.scores.trained["AP"] - int8.scores.exported["AP"] <= 0.02
    assert int8.agreement[0].compared > 0
    assert int8.agreement[0].scores > 1e-4  # it is quantized
    assert yolo_mha.YOLO(int8.file).predict(imgsz=192, source=_picture(), verbose=False)


def test_int8__attention_and_decoding_stay_in_floating_point(int8):
    graph = onnx.load(int8.file).graph
    made_by = {output: node.op_type for node in graph.node for output in node.output}
    weights = {n.name: made_by.get(n.input[1], "float") for n in graph.node if n.op_type == "Conv"}
    apart = {name for name, kind in weights.items() if kind == "float"}
    assert {module_of(name).split(".")[-2] for name in apart} == {"attn", "dfl"}
    assert len(weights) - len(apart) == 18
    assert int8.notes[1].startswith("18 convolutions in INT8; 3 of")


def test_int8__losing_too_much_ap_is_out_of_tolerance(beacons, monkeypatch):
    monkeypatch.setitem(MOST_AP_LOST, "int8", -1.0)
    result = yolo_mha.export("demo-mha.pt", int8=True, data=beacons)
    assert not result.ok
    assert Path(result.file).name == "demo-mha_int8_out_of_tolerance.onnx"


def test_int8__of_a_fixed_batch(beacons, caplog):
    result = yolo_mha.export("demo-mha.pt", int8=True, data=beacons, batch=2)
    assert result.ok, result
    assert result.agreement[0].batch == 2
    assert "pre-processing" not in caplog.text


def test_int8__is_judged_by_ap_so_it_needs_square_images(beacons, tmp_path):
    with pytest.raises(ConfigError, match="judged by its AP"):
        yolo_mha.export("demo-mha.pt", int8=True, data=beacons, imgsz=[96, 192])
    assert not list(tmp_path.glob("*.onnx"))


def test_quantize__where_nodes_have_lost_their_names(tmp_path):
    file = yolo_mha.export("demo-mha.pt", imgsz=64).file
    model = onnx.load(file)
    for i, node in enumerate(model.graph.node):
        node.name = f"node_{i}"
    onnx.save(model, file)
    with pytest.raises(RunError, match="not found in the ONNX model"):
        quantize(Path(file), tmp_path / "out.onnx", yolo_mha.YOLO("demo-mha.pt").model, [])


@pytest.mark.parametrize(
    ("node", "module"),
    [
        ("/model.11/m/m.0/attn/qkv/conv/Conv", "model.11.m.0.attn.qkv.conv"),
        ("/model.6/m.0/m.0.0/attn/Softmax", "model.6.m.0.0.attn"),
        ("/model.9/cv1/act/Mul", "model.9.cv1.act"),
        ("/model.22/Concat_3", "model.22"),
    ],
)
def test_module_of__a_node(node, module):
    assert module_of(node) == module


def test_module_of__names_modules_of_the_network(int8):
    modules = dict(yolo_mha.YOLO("demo-mha.pt").model.named_modules())
    convolutions = [n.name for n in onnx.load(int8.file).graph.node if n.op_type == "Conv"]
    assert convolutions
    assert {module_of(name) for name in convolutions} <= set(modules)


def _picture() -> str:
    from yolo_mha.engine.predict import sample_image

    return str(sample_image(Path("x.png")))
