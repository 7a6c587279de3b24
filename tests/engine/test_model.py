import pickle
import zipfile
from pathlib import Path

import pytest
import torch
import yaml
from ultralytics.nn import tasks
from ultralytics.utils import checks

import yolo_mha
from yolo_mha.engine.model import require_detection
from yolo_mha.errors import CheckpointError, ConfigError, ModelError, RunError, UnsupportedTaskError, YoloMHAError
from yolo_mha.registry import find_model_yaml


class _Bomb:
    """Unpickling it writes a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return Path.write_text, (Path(self.path), "ran")


def _poisoned(path: Path, ran: Path, legacy: bool = False) -> Path:
    torch.save({"model": _Bomb(ran)}, path, _use_new_zipfile_serialization=not legacy)
    return path


@pytest.mark.parametrize("legacy", [False, True])
def test_checkpoint__that_would_run_code_is_refused_and_nothing_runs(tmp_path, legacy):
    ran = tmp_path / "ran"
    path = _poisoned(tmp_path / "evil.pt", ran, legacy)
    with pytest.raises(CheckpointError) as caught:
        yolo_mha.YOLO(path)
    assert not ran.exists()
    assert ("may run code" in str(caught.value)) or legacy


def test_checkpoint__a_bare_pickle_is_refused_and_nothing_runs(tmp_path):
    ran = tmp_path / "ran"
    (tmp_path / "evil.pt").write_bytes(pickle.dumps(_Bomb(ran)))
    with pytest.raises(CheckpointError, match="not a PyTorch checkpoint"):
        yolo_mha.YOLO(tmp_path / "evil.pt")
    assert not ran.exists()


def test_checkpoint__as_pretrained_or_loaded_is_refused_too(tmp_path, beacons):
    ran = tmp_path / "ran"
    path = _poisoned(tmp_path / "evil.pt", ran)
    with pytest.raises(CheckpointError):
        yolo_mha.YOLO("demo-mha.yaml").load(path)
    with pytest.raises(CheckpointError):
        yolo_mha.train("demo-mha.yaml", beacons, pretrained=str(path), epochs=1)
    assert not ran.exists()
    assert not Path("runs").exists()


def test_checkpoint__with_other_weights_than_were_written_is_damaged(tmp_path):
    """PyTorch reads them all the same: it does not look at the archive's checksums."""
    content = bytearray((Path(__file__).parents[2] / "weights" / "demo-baseline.pt").read_bytes())
    content[200_000:200_100] = bytes(100)
    (tmp_path / "m.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"m\.pt is damaged(.|\n)*not what was written"):
        yolo_mha.YOLO(tmp_path / "m.pt")
    with pytest.raises(CheckpointError, match=r"m\.pt is damaged(.|\n)*not what was written"):
        yolo_mha.insert(tmp_path / "m.pt", "neck")


def test_checkpoint__text_truncated_and_foreign_files(tmp_path, trained):
    (tmp_path / "text.pt").write_text("these are no weights")
    (tmp_path / "cut.pt").write_bytes(trained.read_bytes()[:20000])
    torch.save({"state_dict": {}}, tmp_path / "other.pt")
    torch.save(torch.zeros(3), tmp_path / "tensor.pt")
    with zipfile.ZipFile(tmp_path / "zip.pt", "w") as z:
        z.writestr("a", "b")
    for name in ("text.pt", "cut.pt", "other.pt", "tensor.pt", "zip.pt", "missing.pt"):
        with pytest.raises(CheckpointError, match=name.split(".")[0]):
            yolo_mha.YOLO(tmp_path / name)


def test_trust__is_what_lifts_the_restriction(tmp_path, trained):
    """A checkpoint with a foreign but harmless class opens with trust=True only."""
    content = torch.load(trained, weights_only=False)
    content["note"] = yolo_mha.errors.ConfigError("x")
    torch.save(content, tmp_path / "own.pt")
    with pytest.raises(CheckpointError, match="ConfigError"):
        yolo_mha.YOLO(tmp_path / "own.pt")
    assert yolo_mha.YOLO(tmp_path / "own.pt", trust=True).task == "detect"


@pytest.mark.parametrize("trust", ["no", 1, None])
def test_trust__must_be_said_clearly(trained, trust):
    with pytest.raises(ConfigError, match="must be True or False"):
        yolo_mha.YOLO(trained, trust=trust)


def test_restriction__is_lifted_again_outside(trained):
    before = tasks.SAFE_LOAD, checks.AUTOINSTALL
    yolo_mha.YOLO(trained)
    assert before == (tasks.SAFE_LOAD, checks.AUTOINSTALL)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("backbone: [", "not readable as YAML"),
        ("just words", "holds no settings"),
        ("nc: 3\nhead: []", "no 'backbone' rows"),
        ("backbone: [[-1, 1, Konv, [16, 3, 2]]]\nhead: [[[0], 1, Detect, [nc]]]\nnc: 1", "did you mean Conv"),
        (
            "nc: 1\nbackbone: [[-1, 1, Conv, [16, 3, 2]], [7, 1, Conv, [16, 3, 2]]]\nhead: [[[1], 1, Detect, [nc]]]",
            "reads a layer that is not before it",
        ),
    ],
)
def test_model_yaml__says_what_is_wrong(tmp_path, text, words):
    (tmp_path / "m.yaml").write_text(text)
    with pytest.raises(ModelError) as caught:
        yolo_mha.YOLO(tmp_path / "m.yaml")
    assert words in str(caught.value)


def test_model_yaml__activation_is_never_evaluated(tmp_path):
    ran = tmp_path / "ran"
    content = yaml.safe_load((Path(__file__).parents[2] / "cfg/models/demo-baseline.yaml").read_text())
    content["activation"] = f"open({str(ran)!r}, 'w') and None"
    (tmp_path / "m.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(ModelError, match="not allowed"):
        yolo_mha.YOLO(tmp_path / "m.yaml")
    assert not ran.exists()
    content["activation"] = "nn.LeakyReLU(0.1)"
    (tmp_path / "m.yaml").write_text(yaml.safe_dump(content))
    model = yolo_mha.YOLO(tmp_path / "m.yaml").model
    assert any(isinstance(m, torch.nn.LeakyReLU) for m in model.modules())


@pytest.mark.parametrize("name", ["x-world.yaml", "yoloe-x.yaml"])
def test_model_yaml__no_file_name_gets_past_the_guard(tmp_path, name):
    """Ultralytics builds these names by other classes, before ours has a say."""
    ran = tmp_path / "ran"
    content = yaml.safe_load((Path(__file__).parents[2] / "cfg/models/demo-baseline.yaml").read_text())
    content["activation"] = f"open({str(ran)!r}, 'w') and None"
    (tmp_path / name).write_text(yaml.safe_dump(content))
    for use in (lambda: yolo_mha.YOLO(tmp_path / name), lambda: yolo_mha.export(tmp_path / name)):
        with pytest.raises(ModelError, match="not allowed"):
            use()
    assert not ran.exists()


def test_checkpoint__stored_activation_is_not_evaluated(tmp_path, trained, beacons, tiny):
    ran = tmp_path / "ran"
    content = torch.load(trained, weights_only=False)
    content["model"].yaml["activation"] = f"open({str(ran)!r}, 'w') and None"
    torch.save(content, tmp_path / "evil.pt")
    with pytest.raises(RunError, match="activation"):
        yolo_mha.train(tmp_path / "evil.pt", beacons, **tiny)
    assert not ran.exists()


def test_model__of_another_ultralytics_class_is_refused():
    with pytest.raises(UnsupportedTaskError, match="YOLOWorld"):
        yolo_mha.YOLO("yolov8s-world.yaml")


@pytest.mark.parametrize("name", ["my-world.yaml", "yoloe-mine.yaml", "my-world.pt"])
def test_model__is_judged_by_its_rows_and_not_by_its_name(tmp_path, name):
    shipped = Path(__file__).parents[2]
    own = "cfg/models/demo-mha.yaml" if name.endswith(".yaml") else "weights/demo-mha.pt"
    (tmp_path / name).write_bytes((shipped / own).read_bytes())
    assert type(yolo_mha.YOLO(name)) is yolo_mha.YOLO


@pytest.mark.parametrize(
    ("other", "name"), [("YOLOWorld", "yolov8s-world"), ("YOLOE", "yoloe-11s-seg"), ("RTDETR", "rtdetr-l")]
)
def test_model__of_another_class_is_refused_by_its_head(tmp_path, other, name):
    import ultralytics

    (tmp_path / "plain.yaml").write_bytes(find_model_yaml(f"{name}.yaml").read_bytes())
    getattr(ultralytics, other)(f"{name}.yaml").save("plain.pt")
    for file in ("plain.yaml", "plain.pt"):
        with pytest.raises(UnsupportedTaskError, match=f"use ultralytics.{other}"):
            yolo_mha.YOLO(file)


@pytest.mark.parametrize("name", ["yolo11n-mha-p6.yaml", "nowhere/yolov8n.yaml", "yolov8n.pt", "https://x.org/a.pt"])
def test_model__not_found_names_the_nearest(name):
    with pytest.raises(YoloMHAError) as caught:
        yolo_mha.YOLO(name)
    if name == "yolo11n-mha-p6.yaml":
        assert "yolo11-mha-p5.yaml" in str(caught.value)


def test_model__bare_names_work_in_the_stock_class_too():
    from ultralytics import YOLO

    assert YOLO("yolov8s-mha-p5.yaml").model.yaml["scale"] == "s"


@pytest.mark.parametrize("task", ["segment", "pose", "obb", "classify"])
def test_require_detection__refuses_other_tasks(task):
    with pytest.raises(UnsupportedTaskError, match="box detection only"):
        require_detection(task, "val")


def test_shipped_weights__hold_the_block_as_it_is_built_today():
    (shipped,) = (m for m in yolo_mha.YOLO("demo-mha.pt").model.modules() if isinstance(m, yolo_mha.SpatialMHA))
    built = dict(yolo_mha.SpatialMHA(64, 2).named_modules())
    for name, module in shipped.named_modules():
        assert vars(module).keys() == vars(built.pop(name)).keys()
    assert not built
