import shutil
import sys
import types
from pathlib import Path

import pytest
import torch

import yolo_mha
from yolo_mha.engine.checkpoint import check_checkpoint
from yolo_mha.errors import CheckpointError


@pytest.mark.parametrize("name", ["yolov5n.pt", "my-yolov5n.pt", "yolov3-tiny.pt", "yolov5x6.pt", "it's.pt"])
def test_checkpoint__opens_whatever_its_name(trained, tmp_path, name):
    shutil.copy(trained, tmp_path / name)
    assert yolo_mha.YOLO(tmp_path / name).task == "detect"
    assert yolo_mha.YOLO(name).task == "detect"
    assert yolo_mha.YOLO("demo-mha.yaml").load(name).task == "detect"
    assert check_checkpoint(name)["model"] is not None


def _saved(path: Path, *classes: str) -> Path:
    """Save a dictionary of objects of classes that exist nowhere else."""
    modules = {}
    for name in classes:
        module, _, own = name.rpartition(".")
        for part in [module[:i] for i in range(len(module) + 1) if module[i : i + 1] in (".", "")]:
            modules.setdefault(part, sys.modules.get(part) or types.ModuleType(part))
        setattr(modules[module], own, type(own, (torch.nn.Module,), {"__module__": module}))
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        made = [getattr(modules[c.rpartition(".")[0]], c.rpartition(".")[2])() for c in classes]
        torch.save({"epoch": 1, "model": made[0], "ema": None, "more": made[1:]}, path)
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
    return path


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (["models.yolo.DetectionModel", "models.common.C3"], "checkpoint of the YOLOv5 or YOLOv7 repository"),
        (["models.yolo.Model", "models.common.RepConv"], "checkpoint of the YOLOv5 or YOLOv7 repository"),
        (["yolov6.models.yolo.Model"], "checkpoint of the YOLOv6 repository"),
        (["mmengine.model.Base"], "checkpoint of OpenMMLab"),
        (["somewhere.Block"], "holds classes that may run code"),
    ],
)
@pytest.mark.parametrize("name", ["yolov5n.pt", "best.pt"])
def test_checkpoint__of_another_framework_is_named_as_what_it_is(tmp_path, classes, words, name):
    path = _saved(tmp_path / name, *classes)
    for use in (yolo_mha.YOLO, check_checkpoint):
        with pytest.raises(CheckpointError, match=words) as caught:
            use(path)
        assert classes[0].partition(".")[0] in str(caught.value)


WEIGHTS = {"a.weight": torch.zeros(2)}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (WEIGHTS, "weights by name, without the model: a.weight"),
        ({"model": WEIGHTS, "epoch": 3}, "weights by name"),
        ({"meta": {}, "state_dict": WEIGHTS}, "as OpenMMLab writes them"),
        ({"state_dict": WEIGHTS, "pytorch-lightning_version": "2"}, "as Lightning writes them"),
        ({"epoch": 3}, "a dictionary: epoch"),
        (torch.zeros(2), "a Tensor"),
    ],
)
def test_checkpoint__without_a_model_is_named_as_what_it_is(tmp_path, content, words):
    torch.save(content, tmp_path / "x.pt")
    for use in (yolo_mha.YOLO, check_checkpoint):
        with pytest.raises(CheckpointError) as caught:
            use(tmp_path / "x.pt")
        assert words in str(caught.value) or isinstance(content, torch.Tensor), str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "git lfs pull"),
        (b"\n<!DOCTYPE html><html>", "a web page"),
        (b"\x89HDF\r\n", "HDF5"),
        (b"\x40\0\0\0\0\0\0\0" + b'{"a":{}}', "safetensors"),
        (b"\x80\x02.", "before PyTorch 1.6"),
        (b"", "0 bytes"),
    ],
)
def test_checkpoint__that_is_another_kind_of_file_is_named_as_what_it_is(tmp_path, content, words):
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match="not a PyTorch checkpoint") as caught:
        yolo_mha.YOLO(tmp_path / "x.pt")
    assert words in str(caught.value)


def test_checkpoint__that_is_torchscript_says_so(tmp_path):
    torch.jit.script(torch.nn.Identity()).save(tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=r"x\.pt, of the format TorchScript"):
        yolo_mha.YOLO(tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=r"a TorchScript model; name it \.torchscript"):
        yolo_mha.YOLO(tmp_path / "x.pt", trust=True)


def test_check_checkpoint__names_a_damaged_archive(tmp_path):
    torch.save({"model": 1}, tmp_path / "cut.pt")
    content = (tmp_path / "cut.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(content.replace(b"PK\x01\x02", b"PK\x01\x00"))  # its central directory
    with pytest.raises(CheckpointError) as caught:
        check_checkpoint(tmp_path / "cut.pt")
    assert "a damaged zip archive" in str(caught.value)
