from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from ultralytics.nn.backends.base import BaseBackend

import yolo_mha
from yolo_mha.deploy.agreement import compare_onnx
from yolo_mha.errors import ConfigError, DependencyError, RunError
from yolo_mha.paths import shipped


@pytest.fixture(scope="module")
def p5(tmp_path_factory) -> Path:
    """A YOLO11n with attention at P5 whose gate is open, with norms that have seen data."""
    network = yolo_mha.YOLO("yolo11n-mha-p5.yaml")
    torch.manual_seed(0)
    for module in network.model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_var.uniform_(0.5, 1.5)
        if isinstance(module, yolo_mha.SpatialMHABlock):
            torch.nn.init.constant_(module.gate.weight, 0.5)
    path = tmp_path_factory.mktemp("p5") / "p5.pt"
    network.save(path)
    return path


def test_export__dynamic_onnx_agrees_at_every_size_and_batch(p5):
    result = yolo_mha.export(p5, format="onnx", dynamic=True)
    assert [(a.batch, a.height, a.width) for a in result.agreement] == [(1, 320, 320), (1, 480, 640), (3, 320, 320)]
    assert result.ok, result.agreement
    model = onnx.load(result.file)
    assert [d.dim_param for d in model.graph.input[0].type.tensor_type.shape.dim] == ["batch", "", "height", "width"]
    assert {"names", "stride", "task"} <= {p.key for p in model.metadata_props}
    found = yolo_mha.YOLO(result.file).predict(np.zeros((100, 130, 3), np.uint8), imgsz=160, verbose=False)
    assert len(found) == 1


def test_export__static_onnx_agrees_at_its_shape(p5):
    result = yolo_mha.export(p5, format="onnx", imgsz=[96, 160])
    assert [(a.batch, a.height, a.width) for a in result.agreement] == [(1, 96, 160)]
    assert result.ok, result.agreement


def test_export__checks_at_multiples_of_the_stride():
    """A P6 model has stride 64, of which 480 is no multiple."""
    result = yolo_mha.export("yolov8n-p6.yaml", format="onnx", dynamic=True)
    assert [(a.height, a.width) for a in result.agreement] == [(320, 320), (512, 640), (320, 320)]
    assert result.ok, result.agreement


def test_export__of_a_shipped_model_lies_in_the_working_directory(tmp_path):
    result = yolo_mha.export("demo-mha.pt", imgsz=[96])
    assert Path(result.file).resolve().parent == tmp_path
    assert result.ok
    assert not list(shipped("weights").glob("*.onnx"))


def test_agreement__sees_another_model(p5):
    file = yolo_mha.export(p5, format="onnx", dynamic=True).file
    network = yolo_mha.YOLO(p5).model
    block = next(m for m in network.modules() if isinstance(m, yolo_mha.SpatialMHABlock))
    torch.nn.init.constant_(block.gate.weight, 5.0)
    assert not compare_onnx(file, network, [(1, 320, 320)])[0].ok


def test_export__torchscript_runs(p5):
    result = yolo_mha.export(p5, format="torchscript", imgsz=64)
    out = torch.jit.load(result.file)(torch.rand(1, 3, 64, 64))
    assert torch.isfinite(out[0] if isinstance(out, (tuple, list)) else out).all()
    assert result.agreement == []


@pytest.mark.parametrize("settings", [{"format": "onxx"}, {"opsett": 17}])
def test_export__refuses(p5, settings):
    with pytest.raises(ConfigError):
        yolo_mha.export(p5, **settings)


def test_export__an_exported_model_is_refused(p5):
    file = yolo_mha.export(p5, format="onnx", imgsz=64).file
    with pytest.raises(ConfigError, match="Only a PyTorch model"):
        yolo_mha.export(file)


def test_export__missing_package_says_which_extra(p5, monkeypatch):
    monkeypatch.setattr("yolo_mha.deploy.export.find_spec", lambda name: None)
    with pytest.raises(DependencyError, match=r"yolo-mha\[export\]"):
        yolo_mha.export(p5)


def test_export__failure_is_one_error_and_leaves_nothing(p5):
    before = sorted(p5.parent.iterdir())
    for settings in ({"format": "engine", "imgsz": 64}, {"format": "onnx", "opset": 3}):
        with pytest.raises(RunError, match="stopped with an error"):
            yolo_mha.export(p5, **settings)
    assert sorted(p5.parent.iterdir()) == before


def test_export__runs_at_the_size_it_was_made_for(beacons, tmp_path):
    if not hasattr(BaseBackend, "read_metadata"):
        pytest.skip("this Ultralytics does not read the size of an exported model")
    file = yolo_mha.export("demo-mha.pt", imgsz=192, dynamic=True).file
    results = [yolo_mha.val(m, beacons, device="cpu") for m in ("demo-mha.pt", file)]
    assert [r.settings["imgsz"] for r in results] == [192, 192]
    # close, not equal: Ultralytics pads to a stride of 32 for a checkpoint, and to the model's own 8 for an export
    assert results[0].coco.metrics["AP"] == pytest.approx(results[1].coco.metrics["AP"], abs=0.05)


def test_export__lies_beside_the_checkpoint(p5):
    assert Path(yolo_mha.export(p5, format="ONNX", imgsz=64).file) == p5.with_suffix(".onnx")
    assert not [p for p in p5.parent.iterdir() if p.name.startswith(".")]
