"""Nothing is downloaded, installed or executed by itself, through the public functions and with the network on."""

import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from ultralytics.utils import checks, downloads

import yolo_mha
from yolo_mha.errors import DownloadError, YoloMHAError
from yolo_mha.guard import _load_label_cache, guarded


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
    cache = beacons.parent / "labels" / "val.cache"
    stamp = cache.stat().st_mtime_ns
    assert _load_label_cache(cache)["labels"]
    yolo_mha.val(trained, beacons, imgsz=64, device="cpu")
    assert cache.stat().st_mtime_ns == stamp


def test_model_yaml__that_names_a_pretrained_backbone_fetches_nothing(online, tmp_path):
    row = "[-1, 1, TorchVision, [16, mobilenet_v3_small, DEFAULT, True, 2, False]]"
    (tmp_path / "m.yaml").write_text(f"nc: 1\nbackbone: [{row}]\nhead: [[[0], 1, Detect, [nc]]]")
    with pytest.raises(YoloMHAError, match="Nothing is downloaded"):
        yolo_mha.YOLO(tmp_path / "m.yaml")
    assert online == []


def test_guard__refuses_downloads_as_if_offline():
    with guarded(), pytest.raises(ConnectionError):
        downloads.safe_download("https://example.org/x.pt", file="x.pt")
    with guarded(), pytest.raises(DownloadError):
        downloads.attempt_download_asset("yolo11n.pt")


@pytest.mark.parametrize(("trust", "value"), [(False, "True"), (True, "")])
def test_guard__child_processes_inherit_it_and_it_ends(trust, value):
    before = dict(os.environ)
    with guarded(trust):
        assert os.environ["YOLO_AUTOINSTALL"] == "False"
        assert os.environ["ULTRALYTICS_SAFE_LOAD"] == value
    assert dict(os.environ) == before


def test_guard__trust_holds_inside_a_guard_and_not_after_it():
    from ultralytics.nn import tasks

    with guarded():
        with guarded(trust=True):
            assert not tasks.SAFE_LOAD
        assert tasks.SAFE_LOAD
