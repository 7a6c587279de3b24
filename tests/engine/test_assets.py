"""Ultralytics' own weights by name, from a server on this machine."""

import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import yolo_mha
from yolo_mha.cli import main
from yolo_mha.engine import assets
from yolo_mha.engine.model import existing
from yolo_mha.errors import CheckpointError, ConfigError, DownloadError, ModelError
from yolo_mha.paths import shipped

NAME = "yolo11n.pt"
CHECKPOINT = (shipped("weights") / "demo-baseline.pt").read_bytes()


class Server(ThreadingHTTPServer):
    """Answers every path with the same bytes, and keeps what was asked for."""

    body, status, promised = CHECKPOINT, 200, len(CHECKPOINT)

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[str] = []


class _Handler(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.server.asked.append(f"{self.command} {self.path}")
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(self.server.promised))
        self.end_headers()

    def do_GET(self):
        self.do_HEAD()
        self.wfile.write(self.server.body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.delenv("YOLO_OFFLINE", raising=False)
    monkeypatch.setattr(assets, "RETRIES", 0)
    running = Server()
    monkeypatch.setattr(assets, "RELEASE", f"http://127.0.0.1:{running.server_port}/v1")
    threading.Thread(target=running.serve_forever, args=(0.05,), daemon=True).start()
    yield running
    running.shutdown()
    running.server_close()


def nothing_here() -> bool:
    return not list(Path.cwd().iterdir())


def test_names__are_the_models_that_are_opened_here():
    assert {"yolo11n.pt", "yolov8x-seg.pt", "yolov5nu.pt", "yolo26s.pt", "yolov9c.pt"} <= assets.NAMES
    others = {"sam_b.pt", "FastSAM-s.pt", "yolo_nas_s.pt", "yolov8s-world.pt", "yoloe-11s-seg.pt", "rtdetr-l.pt"}
    assert not assets.NAMES & {*others, "yolo26n-reid.onnx"}
    assert assets.RELEASE.startswith("https://github.com/ultralytics/assets/releases/download/v")


def test_existing__fetches_official_weights_once(server, caplog):
    assert existing(NAME) == str(Path.cwd() / NAME)
    assert Path(NAME).read_bytes() == CHECKPOINT
    assert server.asked == [f"HEAD /v1/{NAME}", f"GET /v1/{NAME}"]
    (line,) = [r.getMessage() for r in caplog.records if NAME in r.getMessage()]
    assert f"{len(CHECKPOINT) / 1e6:.1f} MB downloaded from {assets.RELEASE}/{NAME} to {Path.cwd() / NAME}" in line
    assert existing(NAME) == NAME
    assert len(server.asked) == 2
    assert [p.name for p in Path.cwd().iterdir()] == [NAME]
    assert Path(NAME).stat().st_mode & 0o444


def test_existing__takes_what_is_in_the_folder_of_weights(server, tmp_path, monkeypatch):
    (tmp_path / "all").mkdir()
    (tmp_path / "all" / NAME).write_bytes(CHECKPOINT)
    monkeypatch.setitem(assets.SETTINGS, "weights_dir", str(tmp_path / "all"))
    assert existing(NAME) == str(tmp_path / "all" / NAME)
    assert server.asked == []


@pytest.mark.parametrize("name", ["my/yolo11n.pt", "../yolo11n.pt", "yolo11n", "YOLO11N.pt", "sam_b.pt"])
def test_existing__fetches_by_the_name_alone(server, name):
    with pytest.raises(CheckpointError, match="Model not found"):
        existing(name)
    with pytest.raises(ModelError, match="not downloaded from a URL"):
        existing(f"{assets.RELEASE}/{NAME}")
    assert server.asked == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"promised": len(CHECKPOINT) + 5000}, "could not be downloaded"),
        ({"body": CHECKPOINT[:50_000]}, "could not be downloaded"),
        ({"body": CHECKPOINT[:50_000], "promised": 50_000}, "could not be downloaded"),
        ({"status": 404}, "could not be downloaded(.|\n)*404"),
        ({"status": 503}, "could not be downloaded(.|\n)*503"),
        ({"body": b"<html>" + bytes(200_000), "promised": 200_006}, "is not a checkpoint(.|\n)*a web page"),
    ],
    ids=["more promised", "broken off", "too small", "404", "503", "a page"],
)
def test_existing__a_broken_download_leaves_nothing(server, change, words):
    for key, value in change.items():
        setattr(server, key, value)
    with pytest.raises(DownloadError, match=words) as caught:
        existing(NAME)
    assert f"{assets.RELEASE}/{NAME}" in str(caught.value)
    assert str(Path.cwd() / NAME) in str(caught.value)
    assert nothing_here()


def test_existing__tries_a_broken_download_again(server, monkeypatch):
    monkeypatch.setattr(assets, "RETRIES", 1)
    monkeypatch.setattr("ultralytics.utils.downloads.is_online", lambda: True)
    monkeypatch.setattr("ultralytics.utils.downloads.time.sleep", lambda _: setattr(server, "status", 200))
    server.status = 503
    assert Path(existing(NAME)).read_bytes() == CHECKPOINT
    assert len(server.asked) == 3


def test_existing__a_full_disk_leaves_nothing(server):
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(DownloadError, match=r"the disk is full(.|\n)*free some space in"):
            existing(NAME)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert nothing_here()


def test_existing__more_than_the_disk_has_is_not_begun(server):
    server.promised = 2**60
    with pytest.raises(DownloadError, match=r"the disk is full(.|\n)*free some space in"):
        existing(NAME)
    assert nothing_here()


def test_existing__without_a_server_says_what_to_put_where(server, capsys):
    server.shutdown()
    server.server_close()
    with pytest.raises(SystemExit) as ended:
        main(["export", f"model={NAME}"])
    captured = capsys.readouterr()
    assert (ended.value.code, captured.out) == (2, "")
    assert captured.err.count("error: ") == 1
    assert f"download {assets.RELEASE}/{NAME} yourself" in captured.err
    assert nothing_here()


def test_existing__a_folder_that_cannot_be_written_to_is_found_before_connecting(server, monkeypatch):
    folder = Path.cwd() / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(Path, "cwd", lambda: folder)
    folder.rmdir()  # stands for one that is read-only, which root writes to all the same
    with pytest.raises(ConfigError, match="cannot be written to"):
        existing(NAME)
    assert server.asked == []


def test_existing__twice_at_once_is_harmless(server):
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(existing, [NAME] * 4))
    assert {Path(f).read_bytes() for f in found} == {CHECKPOINT}
    assert [p.name for p in Path.cwd().iterdir()] == [NAME]


def test_existing__does_not_wait_for_a_pipe():
    os.mkfifo("m.pt")
    with pytest.raises(CheckpointError, match="is a pipe or a device"):
        existing("m.pt")


class _Runs:
    def __reduce__(self):
        return Path.write_text, (Path("ran"), "ran")


def test_existing__what_was_fetched_is_opened_as_any_other(server, tmp_path):
    torch.save({"model": _Runs(), "weights": torch.rand(50_000)}, tmp_path / "x.pt")
    server.body = (tmp_path / "x.pt").read_bytes()
    server.promised = len(server.body)
    with pytest.raises(CheckpointError, match="may run code"):
        yolo_mha.YOLO(NAME)
    assert server.asked
    assert not Path("ran").exists()


# Commands -------------------------------------------------------------------------------------------------------------

CALLS = {
    "insert": {"model": NAME, "at": "P5"},
    "remove": {"model": NAME},
    "train": {"model": NAME, "data": "beacons"},
    "train pretrained": {"model": "demo-mha.yaml", "pretrained": NAME, "data": "beacons"},
    "val": {"model": NAME, "data": "beacons"},
    "predict": {"model": NAME, "source": "x.png"},
    "track": {"model": NAME, "source": "x.png"},
    "export": {"model": NAME},
    "benchmark": {"model": NAME},
    "benchmark baseline": {"model": "demo-mha.yaml", "baseline": NAME},
    "compare": {"model": NAME, "at": "P5", "data": "beacons"},
    "compare attention": {"model": "demo-baseline.yaml", "attention": NAME, "data": "beacons"},
    "compare pretrained": {
        "model": "demo-baseline.yaml",
        "attention": "demo-mha.yaml",
        "pretrained": NAME,
        "data": "beacons",
    },
    "doctor": {"model": NAME},
}


@pytest.mark.parametrize("call", CALLS)
def test_commands__ask_for_what_is_named_unless_downloads_are_off(server, call):
    cv2.imwrite("x.png", np.zeros((64, 64, 3), np.uint8))
    server.status, command = 404, getattr(yolo_mha, call.split()[0])
    with pytest.raises(DownloadError, match="download=False"):
        command(**CALLS[call], download=False)
    assert server.asked == []
    with pytest.raises(DownloadError, match="404"):
        command(**CALLS[call])
    assert server.asked == [f"HEAD /v1/{NAME}", f"GET /v1/{NAME}"]
    assert not Path(NAME).exists()


@pytest.mark.parametrize("value", ["1", "True", " yes"])
def test_existing__offline_connects_to_nothing(server, monkeypatch, value):
    monkeypatch.setenv("YOLO_OFFLINE", value)
    with pytest.raises(DownloadError, match=r"switched off(.|\n)*YOLO_OFFLINE"):
        existing(NAME)
    assert server.asked == []


def test_command__answers_in_json_alone_after_a_download(server, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["insert", f"model={NAME}", "at=neck", "--json"])
    captured = capsys.readouterr()
    assert not ended.value.code
    assert json.loads(captured.out)["checkpoint"]


def test_yolo_train__pretrained_is_fetched_too(server, beacons, tiny):
    network = yolo_mha.YOLO("demo-mha.yaml")
    network.train(data=str(beacons), pretrained=NAME, **tiny)
    assert network.transfer.moved
