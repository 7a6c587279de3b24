"""Shared inputs: a small beacons dataset, a checkpoint trained on it, and real data where it is at hand."""

import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ["YOLO_CONFIG_DIR"] = tempfile.mkdtemp(prefix="ultralytics-")  # leave the user's settings alone
os.environ.setdefault("YOLO_OFFLINE", "true")
if "PYTEST_XDIST_WORKER" in os.environ:  # several processes share the cores
    os.environ["OMP_NUM_THREADS"] = "1"

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts what runs in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest
import torch
from random_coco import made_up

import yolo_mha
from yolo_mha.data.beacons import generate


@pytest.fixture(scope="session", autouse=True)
def _working_directory_of_fixtures(tmp_path_factory) -> Iterator[None]:
    """Let what several tests share write its relative outputs elsewhere than into the checkout."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("shared"))
        yield


@pytest.fixture(scope="session")
def tiny() -> dict:
    """Settings of the shortest training."""
    return {"epochs": 1, "imgsz": 64, "batch": 8, "device": "cpu", "plots": False, "workers": 0}


@pytest.fixture(scope="session")
def beacons(tmp_path_factory) -> Path:
    """``data.yaml`` of a dataset with 16 training and 8 validation images."""
    return generate(tmp_path_factory.mktemp("beacons"), train=16, val=8)


@pytest.fixture(scope="session")
def trained(beacons, tiny, tmp_path_factory) -> Path:
    """A checkpoint of the demo's attention model after one short epoch."""
    project = tmp_path_factory.mktemp("trained")
    return Path(yolo_mha.train("demo-mha.yaml", beacons, project=project.as_posix(), name="run", **tiny).best)


@pytest.fixture
def random_coco() -> Callable:
    """The function `made_up`: random ground truths and detections in COCO's layout."""
    return made_up


@pytest.fixture
def test_data() -> Path:
    """The folder of real data that ``YOLO_MHA_TEST_DATA`` names."""
    folder = os.environ.get("YOLO_MHA_TEST_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("YOLO_MHA_TEST_DATA does not name a folder with the real test data")
    return Path(folder)


@pytest.fixture
def small_disk():
    """Let no file grow beyond 20 kB, so that writing fails as on a full disk."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture(autouse=True)
def _working_directory(tmp_path, monkeypatch) -> None:
    """Run every test in a folder of its own, where relative outputs may go."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
