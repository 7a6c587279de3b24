import os
import subprocess
import sys
import time
from pathlib import Path

import cv2
import pytest
from ultralytics.cfg import get_cfg, get_save_dir

import yolo_mha
from yolo_mha.data.beacons import draw
from yolo_mha.engine.run_folder import run_folder, taken
from yolo_mha.engine.settings import in_working_directory
from yolo_mha.errors import CheckpointError, ConfigError


@pytest.mark.parametrize(
    "given", [{}, {"name": "x"}, {"project": "p", "name": "a/b"}, {"project": "p", "name": "v1.5"}]
)
def test_run_folder__names_are_those_of_ultralytics(given):
    for _ in range(3):
        theirs = get_save_dir(get_cfg(overrides={**in_working_directory(given), "mode": "val"}))
        with run_folder(given, "val") as folder:
            assert folder == theirs
            assert folder.is_dir()
        assert get_save_dir(get_cfg(overrides=taken(folder))) == folder
        with run_folder({**given, "exist_ok": True}, "val") as again:
            assert again.name == Path(given.get("name", "val")).name


@pytest.mark.parametrize("name", [".", "..", "a/.."])
def test_run_folder__refuses_a_name_that_is_none(name):
    with pytest.raises(ConfigError, match="not a usable folder name"), run_folder({"name": name}, "val"):
        pass


def test_run_folder__takes_0_for_a_name():
    with run_folder({"name": 0}, "val") as folder:
        assert folder.name == "0"


def test_run_folder__a_run_that_wrote_nothing_leaves_nothing():
    Path("runs").mkdir()
    with pytest.raises(KeyError), run_folder({}, "val"):
        raise KeyError
    assert list(Path("runs").iterdir()) == []


def test_run_folder__what_was_written_stays_and_so_does_a_folder_that_was_there():
    def run(error, **settings):
        with run_folder({"project": "new/p", **settings}, "val") as folder:
            if error is KeyError:
                (folder / "file").unlink()
            else:
                (folder / "file").touch()
            raise error

    with pytest.raises(KeyboardInterrupt):
        run(KeyboardInterrupt)
    assert Path("new/p/val/file").is_file()
    with pytest.raises(KeyError):
        run(KeyError, exist_ok=True)
    assert list(Path("new/p/val").iterdir()) == []


def test_run_folder__another_run_that_failed_takes_the_parent_away(monkeypatch):
    module = sys.modules[run_folder.__module__]
    make_parents, seen = module._make_parents, []

    def vanishing(folder, made):
        make_parents(folder, made)
        seen.append(folder)
        if len(seen) < 3:
            folder.rmdir()

    monkeypatch.setattr(module, "_make_parents", vanishing)
    with run_folder({"project": "p"}, "val") as folder:
        assert folder.is_dir()
    assert len(seen) == 3


TWO = """
import sys, time
from pathlib import Path
import yolo_mha
from yolo_mha.engine.run_folder import run_folder

me = sys.argv[1]
Path(f"ready{me}").touch()
while not Path("go").exists():
    time.sleep(0.01)
start = float(Path("go").read_text())
for i in range(100):
    while time.time() < start + i * 0.004:
        pass
    with run_folder({"project": f"many/{i}"}, "predict") as folder:
        (folder / "of").write_text(me)
        print(f"{i}/{folder.name}")
result = yolo_mha.predict(source=f"{me}.png", imgsz=192)
print(result.save_dir)
"""


@pytest.mark.slow
def test_run_folder__two_runs_at_once_get_one_each():
    for i in range(2):
        cv2.imwrite(f"{i}.png", draw(1, i)[0])
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TWO, str(i)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        for i in range(2)
    ]
    while not all(Path(f"ready{i}").exists() for i in range(2)):
        assert all(process.poll() is None for process in processes)
        time.sleep(0.01)
    Path("at").write_text(str(time.time() + 0.3))
    Path("at").rename("go")  # whole
    answers = []
    for i, process in enumerate(processes):
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        answers.append(out.split())
        for name in answers[i][:-1]:
            assert (Path("many") / name / "of").read_text() == str(i)
    assert len({name for answer in answers for name in answer[:-1]}) == 200
    assert {Path(answer[-1]).name for answer in answers} == {"predict", "predict-2"}
    for i, answer in enumerate(answers):
        assert {p.name for p in Path(answer[-1]).iterdir()} == {"predictions.jsonl", f"{i}.jpg"}


@pytest.mark.parametrize("below", ["", "/deeper"])
def test_run_folder__a_place_that_cannot_be_written_is_one_error_before_the_work(beacons, tiny, monkeypatch, below):
    """Below a regular file nobody can make a folder, not even root."""
    Path("file").write_text("no folder")
    cv2.imwrite("x.png", draw(1, 0)[0])
    settings = {"project": f"file{below}"}

    def work(*_, **__):
        raise AssertionError("The model runs.")

    for name in ("train", "val", "predict", "track"):
        monkeypatch.setattr(yolo_mha.YOLO, name, work)
    calls = [
        lambda: yolo_mha.predict(source="x.png", **settings),
        lambda: yolo_mha.track(source="x.png", **settings),
        lambda: yolo_mha.val("demo-mha.pt", beacons, **settings),
        lambda: yolo_mha.train("demo-mha.yaml", beacons, **tiny, **settings),
    ]
    for call in calls:
        with pytest.raises(ConfigError, match="cannot be written to") as caught:
            call()
        assert caught.value.given.startswith(f"{Path(f'file{below}').absolute()}/")
        assert "project=" in caught.value.fix
    assert not Path("runs/detect").exists()


def test_run_folder__a_name_that_is_taken_by_a_file():
    Path("p").mkdir()
    Path("p/x").touch()
    with run_folder({"project": "p", "name": "x"}, "val") as folder:
        assert folder.name == "x-2"
    with pytest.raises(ConfigError, match="cannot be written to"), run_folder({"project": "p/x/y"}, "val"):
        pass
    with (
        pytest.raises(ConfigError, match="cannot be written to"),
        run_folder({"project": "p", "name": "x", "exist_ok": True}, "val"),
    ):
        pass


def test_predict__a_model_that_does_not_open_leaves_no_folder():
    cv2.imwrite("x.png", draw(1, 0)[0])
    Path("x.onnx").write_bytes(b"no model")
    (Path("runs") / "detect" / "predict").mkdir(parents=True)
    with pytest.raises(CheckpointError):
        yolo_mha.predict("x.onnx", "x.png")
    assert [p.name for p in Path("runs/detect").iterdir()] == ["predict"]


def test_predict__a_sample_that_cannot_be_written_is_one_error():
    Path("runs").touch()
    with pytest.raises(ConfigError, match="cannot be written to"):
        yolo_mha.predict()
