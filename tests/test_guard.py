"""Nothing is downloaded, installed or executed by itself, through the public functions and with the network on."""

import logging
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from ultralytics.utils import LOGGER, checks, downloads, plotting

import yolo_mha
from yolo_mha.errors import CheckpointError, ConfigError, DownloadError, YoloMHAError
from yolo_mha.guard import environment, guarded, guarded_results, read_checkpoint, restricted
from yolo_mha.pickles import load_label_cache


@pytest.fixture
def online(monkeypatch) -> list[str]:
    """Pretend that there is a network, and record what would go there."""
    attempts: list[str] = []
    monkeypatch.setattr(checks, "ONLINE", True)
    monkeypatch.setattr(downloads, "is_url", lambda *args, **kwargs: True)
    monkeypatch.setattr(checks.subprocess, "check_output", lambda command, **kwargs: attempts.append(str(command)))
    monkeypatch.setattr("torch.hub.download_url_to_file", lambda url, *args, **kwargs: attempts.append(url))
    return attempts


@pytest.fixture
def evil(tmp_path) -> Path:
    """A dataset YAML whose download script writes a file, with images that only a loose reader finds."""
    for folder in ("d/images", "images/val", "labels/val"):
        (tmp_path / folder).mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "images" / "val" / "x.png"), np.zeros((64, 64, 3), np.uint8))
    (tmp_path / "labels" / "val" / "x.txt").write_text("0 .5 .5 .2 .2")
    content = {
        "path": str(tmp_path),
        "train": "images/val",
        "val": ["../images/val"],
        "test": "nowhere",
        "names": ["day", "night", "beacon"],
        "download": f"open({str(tmp_path / 'ran')!r}, 'w').write('x')",
    }
    (tmp_path / "evil.yaml").write_text(yaml.safe_dump(content))
    return tmp_path / "evil.yaml"


@pytest.mark.parametrize(
    ("command", "settings"),
    [
        ("train", {"model": "demo-mha.yaml"}),
        ("train", {"model": "demo-mha.yaml", "split": "test"}),
        ("train", {"model": "yolov8n-seg.yaml"}),
        ("val", {"model": "demo-mha.pt"}),
        ("val", {"model": "demo-mha.pt", "split": "test"}),
        ("export", {"model": "demo-mha.pt", "format": "openvino", "quantize": 8}),
    ],
)
def test_download_script__never_runs(evil, online, tiny, tmp_path, command, settings):
    short = tiny if command == "train" else {"imgsz": 64, "device": "cpu"}
    with pytest.raises(YoloMHAError):
        getattr(yolo_mha, command)(data=str(evil), **short, **settings)
    assert not (tmp_path / "ran").exists()
    assert online == []


def test_predict__installs_nothing_for_a_picture_that_nobody_can_read(online, tmp_path):
    cv2.imwrite(str(tmp_path / "x.png"), np.zeros((64, 64, 3), np.uint8))
    (tmp_path / "y.heic").write_bytes(b"no picture")
    (tmp_path / "z.jpg").write_bytes(b"no picture")
    yolo_mha.predict(source=tmp_path, save=False)
    assert online == []


def test_val__fetches_no_font_and_no_weights(online, trained, beacons):
    yolo_mha.val(trained, beacons, imgsz=64, device="cpu", plots=True)
    assert online == []


class _Runs:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return Path.write_text, (Path(self.path), "ran")


def test_label_cache__that_would_run_code_is_made_anew(beacons, tiny, tmp_path, trained):
    """The cache beside a downloaded dataset's labels is a pickle."""
    folder = tmp_path / "data"
    shutil.copytree(beacons.parent, folder)
    for split in ("train", "val"):
        with open(folder / "labels" / f"{split}.cache", "wb") as file:
            np.save(file, np.array({"x": _Runs(tmp_path / "ran")}, dtype=object), allow_pickle=True)
    yolo_mha.val(trained, folder / "data.yaml", imgsz=64, device="cpu")
    yolo_mha.train("demo-baseline.yaml", folder / "data.yaml", **tiny)
    assert not (tmp_path / "ran").exists()


def test_label_cache__of_ultralytics_is_used(beacons, trained):
    yolo_mha.val(trained, beacons, imgsz=64, device="cpu")
    (cache,) = Path("runs", "datasets").rglob("*.cache")
    stamp = cache.stat().st_mtime_ns
    assert load_label_cache(cache)["labels"]
    yolo_mha.val(trained, beacons, imgsz=64, device="cpu")
    assert cache.stat().st_mtime_ns == stamp


def test_model_yaml__that_names_a_pretrained_backbone_fetches_nothing(online, tmp_path):
    row = "[-1, 1, TorchVision, [16, mobilenet_v3_small, DEFAULT, True, 2, False]]"
    (tmp_path / "m.yaml").write_text(f"nc: 1\nbackbone: [{row}]\nhead: [[[0], 1, Detect, [nc]]]")
    with pytest.raises(YoloMHAError, match="Files are not downloaded"):
        yolo_mha.YOLO(tmp_path / "m.yaml")
    assert online == []


def test_guard__refuses_downloads_as_if_offline():
    with guarded(), pytest.raises(ConnectionError):
        downloads.safe_download("https://example.org/x.pt", file="x.pt")
    with guarded(), pytest.raises(DownloadError):
        downloads.attempt_download_asset("yolo11n.pt")


@pytest.mark.parametrize(("trust", "value"), [(False, "True"), (True, "")])
def test_guard__child_processes_get_it_and_it_ends(trust, value):
    before = dict(os.environ)
    with guarded(trust):
        assert os.environ["YOLO_AUTOINSTALL"] == "False"
        assert environment() == {**os.environ, "YOLO_AUTOINSTALL": "False", "ULTRALYTICS_SAFE_LOAD": value}
    assert dict(os.environ) == before


def test_guard__processes_for_several_gpus_get_it_whatever_they_would_inherit():
    from ultralytics.engine import trainer

    command = [sys.executable, "-c", "import os; print(os.environ['ULTRALYTICS_SAFE_LOAD'])"]
    with guarded():
        del os.environ["ULTRALYTICS_SAFE_LOAD"]
        assert trainer.subprocess.run(command, capture_output=True, text=True).stdout == "True\n"
        with guarded(trust=True):
            assert trainer.subprocess.run(command, capture_output=True, text=True).stdout == "\n"
    assert trainer.subprocess is subprocess


def test_guard__trust_holds_inside_a_guard_and_not_after_it():
    with guarded():
        with guarded(trust=True):
            assert not restricted()
        assert restricted()
    assert not restricted()


@pytest.fixture
def bomb(tmp_path) -> Path:
    """A checkpoint whose full unpickling writes ``ran`` beside it."""
    torch.save({"model": _Runs(tmp_path / "ran")}, tmp_path / "bomb.pt")
    return tmp_path / "bomb.pt"


def test_guard__of_a_thread_does_not_end_with_that_of_another(bomb, tmp_path):
    """The first to come leaves while the second is still at work, which trusts nothing; a third trusts its own."""
    first, second = threading.Event(), threading.Event()

    def short():
        with guarded():
            first.set()
            second.wait(20)

    def trusting():
        with guarded(trust=True):
            assert read_checkpoint(bomb, trust=True)

    thread = threading.Thread(target=short)
    thread.start()
    first.wait(20)
    with guarded():
        second.set()
        thread.join()
        with pytest.raises((CheckpointError, TypeError)):
            read_checkpoint(bomb)
        from ultralytics.nn.tasks import load_checkpoint

        with pytest.raises((CheckpointError, TypeError)):
            load_checkpoint(bomb)
        assert not (tmp_path / "ran").exists()
        other = threading.Thread(target=trusting)
        other.start()
        other.join()
        assert (tmp_path / "ran").exists()
        assert restricted()


def test_guard__leaves_no_trace():
    from ultralytics.data.utils import check_det_dataset
    from ultralytics.nn import tasks

    stock = torch.load, torch.jit.load, tasks.torch_safe_load, check_det_dataset.__defaults__, list(LOGGER.filters)
    with guarded():
        assert torch.load is not stock[0]
    after = torch.load, torch.jit.load, tasks.torch_safe_load, check_det_dataset.__defaults__, list(LOGGER.filters)
    assert after == stock


@pytest.mark.slow
def test_runtimes__report_nothing_to_their_makers(tmp_path):
    pytest.importorskip("openvino")
    script = """
import os, sys
import yolo_mha
yolo_mha.export("demo-mha.pt", format="openvino", imgsz=64, dynamic=True)
yolo_mha.export("demo-mha.pt", format="onnx", imgsz=64, dynamic=True)
print([name for name in sys.modules if "telemetry" in name and not name.startswith("openvino.tools.ovc")])
print([file.name for file in os.scandir("/proc/self/fd") if "onnxruntime.db" in os.readlink(file.path)])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.splitlines()[-2:] == ["[]", "[]"], done.stderr


def test_guarded_results__each_step_is_guarded_and_what_is_between_is_not():
    def steps():
        for _ in range(2):
            yield restricted()

    seen = [(inside, restricted()) for inside in guarded_results(steps())]
    assert seen == [(True, False)] * 2


# Every method ---------------------------------------------------------------------------------------------------------

# The public methods and properties of Ultralytics' class; those of newer versions are guarded too, and belong in here.
REVIEWED = {
    *("add_callback", "benchmark", "calibrate", "clear_callback", "device", "embed", "eval", "export", "fuse"),
    *("info", "load", "names", "predict", "reset_callbacks", "reset_weights", "save", "task_map", "track", "train"),
    *("transforms", "tune", "val"),
}
WITHOUT_FILES = {"is_triton_model"}  # static, looks at a name


def stock_members() -> dict[str, object]:
    owners = [owner for owner in yolo_mha.YOLO.__mro__ if owner.__module__.startswith("ultralytics.")]
    return {name: getattr(owner, name) for owner in owners for name in vars(owner) if not name.startswith("_")}


def test_yolo__all_its_methods_are_reviewed():
    assert {n for n, m in stock_members().items() if callable(m) or isinstance(m, property)} <= REVIEWED | WITHOUT_FILES


def test_yolo__guards_every_method_of_ultralytics():
    stock = stock_members()
    for name in REVIEWED & stock.keys():
        assert name in vars(yolo_mha.YOLO), name


def test_yolo__guards_a_method_of_a_newer_ultralytics(monkeypatch):
    import ultralytics

    from yolo_mha.engine import model

    def newer(self):
        return restricted()

    def stream(self):
        yield restricted()

    for function in (newer, stream):
        monkeypatch.setattr(ultralytics.YOLO, function.__name__, function, raising=False)
    model._guard_methods()
    try:
        network = yolo_mha.YOLO("demo-baseline.yaml")
        assert network.newer() is True
        assert list(network.stream()) == [True]
        assert not restricted()
    finally:
        del yolo_mha.YOLO.newer, yolo_mha.YOLO.stream


@pytest.mark.parametrize("method", ["benchmark", "tune"])
def test_yolo__refuses_methods_that_follow_a_download_script(evil, online, tmp_path, tiny, method):
    settings = {**tiny, "iterations": 1} if method == "tune" else {"imgsz": 64, "device": "cpu", "format": "-"}
    with pytest.raises(ConfigError, match=f"{method} is not supported"):
        getattr(yolo_mha.YOLO("demo-mha.pt"), method)(data=str(evil), **settings)
    assert not (tmp_path / "ran").exists()
    assert online == []


def reid(tmp_path: Path, model: Path) -> str:
    """A tracker that names a model for re-identification."""
    from ultralytics.utils import ROOT

    content = yaml.safe_load((ROOT / "cfg" / "trackers" / "botsort.yaml").read_text())
    (tmp_path / "tracker.yaml").write_text(yaml.safe_dump({**content, "with_reid": True, "model": str(model)}))
    cv2.imwrite(str(tmp_path / "x.png"), np.zeros((64, 64, 3), np.uint8))
    return str(tmp_path / "tracker.yaml")


def test_yolo_track__as_a_stream_opens_a_trackers_model_safely(bomb, tmp_path):
    """The tracker is made when the first result is asked for."""
    tracker = reid(tmp_path, bomb)
    results = yolo_mha.YOLO("demo-mha.pt").track(tmp_path / "x.png", tracker=tracker, stream=True, imgsz=64)
    with pytest.raises(Exception, match="bomb"):
        list(results)
    assert not (tmp_path / "ran").exists()


# Exported models ------------------------------------------------------------------------------------------------------


class _Program(torch.nn.Module):
    def __init__(self, file: str) -> None:
        super().__init__()
        self.file = file

    def forward(self, x):
        return x + torch.from_file(self.file, True, 4, dtype=torch.uint8).sum()


@pytest.fixture
def program(tmp_path) -> Path:
    """A TorchScript model that writes ``ran`` when it is run."""
    extra = {"config.txt": '{"task": "detect", "names": {"0": "a"}, "stride": 32, "imgsz": [64, 64], "batch": 1}'}
    scripted = torch.jit.script(_Program(str(tmp_path / "ran")))
    torch.jit.save(scripted, str(tmp_path / "x.torchscript"), _extra_files=extra)
    return tmp_path / "x.torchscript"


@pytest.mark.parametrize(
    "use",
    [
        lambda file, picture: yolo_mha.predict(file, picture, imgsz=64, save=False),
        lambda file, picture: yolo_mha.YOLO(file).predict(picture, imgsz=64),
        lambda file, picture: yolo_mha.YOLO(file).names,
    ],
    ids=["predict", "YOLO.predict", "names"],
)
def test_program__needs_trust(program, tmp_path, use):
    cv2.imwrite(str(tmp_path / "x.png"), np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(CheckpointError, match="can run any code") as caught:
        use(program, tmp_path / "x.png")
    assert "trust=True if you exported it yourself" in str(caught.value)
    assert not (tmp_path / "ran").exists()
    assert not Path("runs").exists()


@pytest.mark.parametrize("name", ["x.engine", "x.pb", "x.tflite", "x_saved_model", "x_ncnn_model", "x.mlpackage"])
def test_program__is_every_format_but_those_that_hold_data(tmp_path, name):
    (tmp_path / name).mkdir() if "_model" in name else (tmp_path / name).write_bytes(b"x")
    with pytest.raises(CheckpointError, match="can run any code"):
        yolo_mha.YOLO(tmp_path / name)


def test_program__as_a_trackers_model_needs_trust(program, tmp_path):
    tracker = reid(tmp_path, program)
    with pytest.raises(CheckpointError, match="can run any code"):
        yolo_mha.track("demo-mha.pt", tmp_path / "x.png", tracker=tracker, imgsz=64, save=False)
    assert not (tmp_path / "ran").exists()


def test_program__of_ones_own_runs_with_trust(tmp_path):
    file = yolo_mha.export("demo-baseline.yaml", "torchscript", imgsz=64).file  # which proves it without
    cv2.imwrite(str(tmp_path / "x.png"), np.zeros((64, 64, 3), np.uint8))
    assert yolo_mha.predict(file, tmp_path / "x.png", save=False, trust=True).images == 1


def test_onnx__does_not_read_outside_of_its_folder(tmp_path):
    """A model may keep its weights in a file beside it, and no other."""
    pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    (tmp_path / "secret").write_bytes(bytes(16))
    (tmp_path / "model").mkdir()
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value="../secret")
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in ("images", "out")]
    graph = helper.make_graph([helper.make_node("Add", ["images", "w"], ["out"])], "g", ends[:1], ends[1:], [weight])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(made, {"names": "{0: 'a'}"})
    (tmp_path / "model" / "x.onnx").write_bytes(made.SerializeToString())
    cv2.imwrite(str(tmp_path / "x.png"), np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(CheckpointError, match=r"does not open(.|\n)*(external|secret)"):
        yolo_mha.predict(tmp_path / "model" / "x.onnx", tmp_path / "x.png", imgsz=64, save=False)


# Names ----------------------------------------------------------------------------------------------------------------


def test_messages_of_ultralytics__show_control_characters_and_keep_colours():
    written = []
    handler = logging.Handler()
    handler.emit = lambda record: written.append(record.getMessage())
    LOGGER.addHandler(handler)
    try:
        with guarded():
            LOGGER.info("%s found", "cat\x1b]0;owned\x07\x1b[2J")
            LOGGER.info("\x1b[34mblue\x1b[0m")
    finally:
        LOGGER.removeHandler(handler)
    assert written == [r"cat\x1b]0;owned\x07\x1b[2J found", "\x1b[34mblue\x1b[0m"]


def test_names__in_cyrillic_are_drawn_in_a_font_that_is_there(online):
    with guarded():
        annotator = plotting.Annotator(np.zeros((64, 64, 3), np.uint8), example="кошка")
    assert Path(annotator.font.path).is_file()
    assert annotator.font.getmask("ш").getbbox() != annotator.font.getmask("ж").getbbox()
    assert not online
