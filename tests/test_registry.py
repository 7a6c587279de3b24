import copy
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from ultralytics.nn import tasks

import yolo_mha
from yolo_mha import registry
from yolo_mha.errors import ModelError, RegistrationError, YoloMHAError
from yolo_mha.guard import read_activation
from yolo_mha.paths import shipped


def detector(row, head_from=2, **extra) -> dict:
    """A small model YAML: two convolutions, the given row, a convolution behind it, Detect."""
    return {
        "nc": 3,
        **extra,
        "backbone": [[-1, 1, "Conv", [16, 3, 2]], [-1, 1, "Conv", [32, 3, 2]], row],
        "head": [[head_from, 1, "Conv", [32, 3, 2]], [[3], 1, "Detect", ["nc"]]],
    }


def build(*args, **kwargs) -> tasks.DetectionModel:
    return tasks.DetectionModel(detector(*args, **kwargs), verbose=False)


@pytest.mark.parametrize(
    ("arguments", "heads", "mlp"),
    [
        ([], 1, False),
        ([8], 8, False),
        (["8"], 8, False),
        ([{"num_heads": 8, "mlp_ratio": 2.0}], 8, True),
        ([4, {"mlp_ratio": 2.0}], 4, True),
        ([{}], 1, False),
    ],
)
def test_row__forms(arguments, heads, mlp):
    block = build([-1, 1, "SpatialMHABlock", arguments]).model[2]
    assert type(block) is yolo_mha.SpatialMHABlock
    assert (block.attn.num_heads, block.attn.qkv.in_channels, block.mlp is not None) == (heads, 32, mlp)


@pytest.mark.parametrize("source", [0, -2])
def test_row__takes_its_width_from_any_layer(source):
    block = build([source, 1, "SpatialMHABlock", [2]]).model[2]
    assert block.attn.qkv.in_channels == 16
    assert block.f == source


@pytest.mark.parametrize(("scale", "count"), [("n", 1), ("l", 3)])
def test_row__repeats_with_the_depth_of_the_scale(scale, count):
    scales = {"n": [0.33, 1.0, 1024], "l": [1.0, 1.0, 1024]}
    model = build([-1, 3, "SpatialMHABlock", [2]], scales=scales, scale=scale)
    blocks = [m for m in model.modules() if isinstance(m, yolo_mha.SpatialMHABlock)]
    assert len(blocks) == count
    model(torch.zeros(1, 3, 64, 64))


@pytest.mark.parametrize("scale", ["n", *(pytest.param(scale, marks=pytest.mark.slow) for scale in "smlx")])
@pytest.mark.parametrize(("family", "index"), [("yolov8", 10), ("yolo11", 11)])
def test_shipped_models__build_at_every_scale(family, index, scale):
    model = yolo_mha.YOLO(f"{family}{scale}-mha-p5.yaml").model
    before, block = model.model[index - 1], model.model[index]
    assert type(block) is yolo_mha.SpatialMHABlock
    assert block.attn.head_dim == 32
    assert block.attn.qkv.in_channels == before.cv2.conv.out_channels


def test_stored_yaml__stays_as_written():
    row = [-1, 1, "SpatialMHABlock", [{"num_heads": 4}]]
    model = build(row)
    assert model.yaml["backbone"][2] == [-1, 1, "SpatialMHABlock", [{"num_heads": 4}]]


def test_table__shows_the_row_and_not_the_adaptor(caplog):
    tasks.LOGGER.addHandler(caplog.handler)
    tasks.DetectionModel(detector([-1, 1, "SpatialMHABlock", [4, {"mlp_ratio": 1.0}]]), verbose=True)
    tasks.LOGGER.removeHandler(caplog.handler)
    line = next(r.getMessage() for r in caplog.records if "SpatialMHABlock" in r.getMessage())
    assert line.rstrip().endswith("[32, 4, mlp_ratio=1.0]")


@pytest.mark.parametrize("fused_first", [False, True])
def test_fuse__reaches_the_block(fused_first):
    model = build([-1, 1, "SpatialMHABlock", [2, {"gate_init": 0.5}]]).eval()
    if fused_first:
        model.model[2].fuse()
    x = torch.rand(1, 3, 64, 96)
    expected = model(x)[0]
    model.fuse(verbose=False)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in model.model[2].modules())
    assert torch.allclose(model(x)[0], expected, atol=1e-3)


@pytest.mark.parametrize("size", [(64, 64), (96, 160), (32, 416)])
def test_model__takes_any_stride_multiple(size):
    model = yolo_mha.YOLO("yolov8n-mha-p5.yaml").model.eval()
    assert torch.isfinite(model(torch.rand(2, 3, *size))[0]).all()


def test_model__copies_and_counts():
    model = build([-1, 1, "SpatialMHABlock", [2, {"gate_init": 0.5}]]).eval()
    x = torch.rand(1, 3, 64, 64)
    assert torch.equal(copy.deepcopy(model)(x)[0], model(x)[0])
    plain = build([-1, 1, "nn.Identity", []])
    assert model.info(imgsz=64)[1] > plain.info(imgsz=64)[1]
    assert model.info(imgsz=64)[3] > plain.info(imgsz=64)[3]


class _Sum(nn.Module):
    """A user's block with two inputs."""

    def __init__(self, dim, factor=1.0):
        super().__init__()
        self.dim, self.factor = dim, factor

    def forward(self, x):
        return (x[0] + x[1]) * self.factor

    def fuse(self):
        self.folded = True


def test_register__a_user_block_with_two_inputs_and_its_own_fuse():
    assert yolo_mha.register(_Sum) is _Sum
    assert yolo_mha.register(_Sum) is _Sum  # again: nothing happens
    cfg = detector([[-1, 2], 1, "_Sum", [0.5]], head_from=3)
    cfg["backbone"].insert(2, [-1, 1, "Conv", [32, 3, 1]])
    cfg["backbone"][3][0] = [-1, 1]
    cfg["head"][1][0] = [4]
    model = tasks.DetectionModel(cfg, verbose=False).eval()
    block = model.model[3]
    assert (block.dim, block.factor, block.f) == (32, 0.5, [-1, 1])
    assert 1 in model.save
    model(torch.zeros(1, 3, 64, 64))
    model.fuse(verbose=False)
    assert block.folded


def test_cross_scale_row__takes_the_widths_of_both_layers():
    model = build([[-1, 0], 1, "CrossScaleMHA", [2, {"position": "rope", "gate_init": 0.5}]]).eval()
    block = model.model[2]
    assert (block.q.in_channels, block.kv.in_channels, block.num_heads, block.f) == (32, 16, 2, [-1, 0])
    assert 0 in model.save
    x = torch.rand(1, 3, 64, 96)
    expected = model(x)[0]
    model.fuse(verbose=False)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in block.modules())
    assert torch.allclose(model(x)[0], expected, atol=1e-3)


def test_s2_row__builds_and_folds():
    model = build([-1, 1, "S2Attention", [{"gate_init": 0.5}]]).eval()
    x = torch.rand(1, 3, 64, 96)
    expected = model(x)[0]
    model.fuse(verbose=False)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in model.model[2].modules())
    assert torch.allclose(model(x)[0], expected, atol=1e-3)


def test_restricted_loading__knows_every_part(tmp_path):
    """Each part of each block, through Ultralytics' own restricted loader in a fresh process."""
    cfg = detector([-1, 1, "SpatialMHABlock", [2, {"scope": "window", "position": "relative", "qk_norm": True}]])
    cfg["backbone"] += [[-1, 1, "SpatialMHABlock", [{"position": "dwconv", "kv_stride": 2, "mlp_ratio": 1.0}]]]
    cfg["backbone"] += [[[-1, 0], 1, "CrossScaleMHA", [{"qk_norm": True}]], [-1, 1, "S2Attention", []]]
    cfg["head"] = [[-1, 1, "Conv", [32, 3, 2]], [[6], 1, "Detect", ["nc"]]]
    model = tasks.DetectionModel(cfg, verbose=False)
    torch.save({"model": model, "train_args": {}}, tmp_path / "every.pt")
    script = "import yolo_mha, sys; print(yolo_mha.YOLO(sys.argv[1]).model.model[4].q_norm)"
    run = subprocess.run([sys.executable, "-c", script, str(tmp_path / "every.pt")], capture_output=True, text=True)
    assert run.stdout.startswith("HeadNorm"), run.stderr


@pytest.mark.parametrize(
    "file",
    [
        pytest.param(file, id=file.stem, marks=[] if file.stem.startswith("yolo11") else pytest.mark.slow)
        for file in sorted(shipped("cfg").glob("models/yolo*-mha-*.yaml"))
    ],
)
def test_shipped_models__give_the_same_fused(file):
    letter = re.sub(r"^(yolov?\d+)", r"\g<1>n", file.name)
    model = yolo_mha.YOLO(letter).model.eval()
    for module in model.modules():
        if hasattr(module, "gate"):
            nn.init.constant_(module.gate.weight, 0.5)
    x = torch.rand(1, 3, 96, 160)
    with torch.no_grad():
        expected = model(x)[0]
        model.fuse(verbose=False)
        torch.testing.assert_close(model(x)[0], expected, atol=1e-2, rtol=1e-3)


def test_register__the_example_of_the_docs_works(monkeypatch):
    monkeypatch.setattr(registry, "_blocks", dict(registry._blocks))  # its module cannot be imported by others
    page = (Path(__file__).parents[1] / "docs" / "how-to" / "own-block.md").read_text()
    code = next(c for c in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "@yolo_mha.register" in c)
    exec(code, {"__name__": "page"})
    block = build([-1, 1, "Squeeze", [8]]).model[2]
    assert block.net[1].out_channels == 4


def _local_class() -> type:
    class Local(nn.Module):
        pass

    return Local


def test_register__warns_of_a_block_of_the_running_script():
    block = type("InScript", (nn.Module,), {"__module__": "__main__"})
    with pytest.warns(UserWarning, match="only this script can open its checkpoints"):
        yolo_mha.register(block)


def test_register__refuses_a_foreign_class_of_the_same_name():
    with pytest.raises(RegistrationError, match="Conv is taken"):
        yolo_mha.register(type("Conv", (nn.Module,), {}))
    with pytest.raises(RegistrationError, match="SpatialMHABlock is taken"):
        yolo_mha.register(type("SpatialMHABlock", (nn.Module,), {}))
    with pytest.raises(RegistrationError, match="number of layers"):
        yolo_mha.register(type("Many", (nn.Module,), {"inputs": "two", "__module__": "somewhere"}))
    for block, parts in ((nn.ReLU(), ()), (_Sum, [print]), (_local_class(), ())):
        with pytest.raises(RegistrationError, match="Only a block class"):
            yolo_mha.register(block, parts=parts)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ([-1, 1, "SpatialMHABlok", []], ["SpatialMHABlok", "did you mean SpatialMHABlock"]),
        ([-1, 1, "SpatialMHABlock", [5]], ["5 heads do not divide the 32 channels", "[1, 2, 4, 8, 16, 32]", "Row 2"]),
        ([-1, 1, "SpatialMHABlock", [{"heads": 2}]], ["does not take these arguments", "heads"]),
        ([-1, 1, "SpatialMHABlock"], ["is not a row"]),
        ([-1.5, 1, "SpatialMHABlock", []], ["unusable 'from'"]),
        ([-1, -3, "SpatialMHABlock", []], ["positive number of repeats"]),
        ([-1, 1, "SpatialMHABlock", [{"qkv_bias": "no"}]], ["must be True or False"]),
        ([-1, 1, "SpatialMHABlock", [{"position": "relative"}]], ["Row 2", "rope"]),
        ([-1, 1, "CrossScaleMHA", []], ["reads 2 layers", "[[-1, 4], 1, CrossScaleMHA, []]"]),
        ([[-1, 0, 1], 1, "CrossScaleMHA", []], ["reads 2 layers"]),
        ([[-1, 0], 2, "CrossScaleMHA", []], ["reads 2 layers, and does not repeat"]),
        ([[-1, 7], 1, "CrossScaleMHA", []], ["Row 2", "not before it"]),
        ([[-1, 0], 1, "SpatialMHABlock", []], ["reads one layer", "[-1, 1, SpatialMHABlock, []]"]),
        ([5, 1, "S2Attention", []], ["Row 2", "not before it"]),
    ],
)
def test_wrong_row__says_which_and_what(row, words):
    with pytest.raises(ModelError) as caught:
        build(row)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_build__refuses_a_head_that_repeats():
    cfg = detector([-1, 1, "SpatialMHABlock", []])
    cfg["head"][-1][1] = 2
    with pytest.raises(ModelError, match="cannot be repeated") as caught:
        registry.build(cfg)
    assert "Detect with repeats: 2" in caught.value.given


@pytest.mark.parametrize("spec", ["nn.ReLU()", "torch.nn.LeakyReLU(0.1)", "nn.GELU(approximate='tanh')"])
def test_read_activation__literal(spec):
    assert isinstance(read_activation(spec), nn.Module)


@pytest.mark.parametrize("spec", ["__import__('os').system('false')", "nn.ReLU", "nn.ReLU(print(1))", "os.x()"])
def test_read_activation__refuses_code(spec):
    with pytest.raises(YoloMHAError, match="not allowed"):
        read_activation(spec)


def test_baseline__is_untouched():
    """A model without blocks is the same, parameter for parameter, with the plugin and without."""
    script = """
import sys, torch
if sys.argv[1] == "with":
    import yolo_mha
from ultralytics.nn.tasks import DetectionModel
torch.manual_seed(0)
model = DetectionModel("yolo11n.yaml", verbose=False).eval()
print(model(torch.ones(1, 3, 64, 64))[0].double().sum().item(), list(model.state_dict())[-1])
"""
    outputs = {
        subprocess.run([sys.executable, "-c", script, kind], capture_output=True, text=True, check=True).stdout
        for kind in ("with", "without")
    }
    assert len(outputs) == 1


@pytest.mark.slow
@pytest.mark.parametrize(("version", "code", "words"), [("8.3.0", 1, "too old"), ("99.0.0", 0, "is newer")])
def test_ultralytics_version(version, code, words):
    script = f"""
import importlib.metadata as m
real = m.version
m.version = lambda name: "{version}" if name == "ultralytics" else real(name)
import yolo_mha
print("imported")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=Path.cwd())
    assert done.returncode == code
    assert words in done.stderr


@pytest.mark.parametrize("words", [pytest.param(["version"], marks=pytest.mark.slow), ["predict", "--json"]])
def test_ultralytics_version__too_old_is_one_error_on_the_command_line(tmp_path, words):
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.metadata as m\nreal = m.version\n"
        "m.version = lambda name: '8.3.0' if name == 'ultralytics' else real(name)\n"
    )
    path = os.pathsep.join([str(tmp_path), *sys.path])
    command = [sys.executable, "-m", "yolo_mha", *words]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path})
    assert done.returncode == 2
    assert done.stderr.startswith("error: This Ultralytics is too old")
    assert "Traceback" not in done.stderr
    assert ('"type": "DependencyError"' in done.stdout) == ("--json" in words)
