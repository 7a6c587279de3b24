"""Trainings that end before they are done: what they say, what they leave, and who may write to their folder."""

import errno
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from filelock import FileLock

import yolo_mha
from yolo_mha import guard
from yolo_mha.data.beacons import generate
from yolo_mha.engine.record import Record
from yolo_mha.engine.run_folder import LOCK, locked, run_folder, taken
from yolo_mha.engine.trainer import Trainer
from yolo_mha.errors import CheckpointError, ConfigError, DataError, DependencyError, RunError


def _stop_at(epoch: int, error: BaseException) -> dict:
    def stop(trainer) -> None:
        if trainer.epoch == epoch:
            raise error

    return {"on_train_epoch_start": stop}


def _run(beacons, tiny, callbacks: dict) -> yolo_mha.TrainResult:
    settings = {**tiny, "epochs": 3, "project": "my runs", "name": "run"}
    return yolo_mha.train("demo-baseline.yaml", beacons, callbacks=callbacks, **settings)


def test_train__on_a_full_disk_names_the_good_checkpoint_and_the_command(beacons, tiny):
    with pytest.raises(RunError, match="disk is full") as caught:
        _run(beacons, tiny, _stop_at(1, OSError(errno.ENOSPC, "No space left on device")))
    text = str(caught.value)
    assert "last.pt is good, of epoch 1 of 3" in text
    command = re.search(r"yolo-mha train resume=(.*)", text)[1]
    assert not Path("my runs/run", LOCK).exists()
    with pytest.raises(ConfigError, match="epochs cannot be changed when a run is resumed"):
        yolo_mha.train(resume=shlex.split(command)[0], epochs=4)
    result = yolo_mha.train(resume=shlex.split(command)[0], epochs=3)
    assert (result.epochs, result.options) == (3, [])


def test_train__on_a_full_disk_before_the_first_checkpoint_says_so(beacons, tiny):
    with pytest.raises(RunError, match=r"disk is full(.|\n)*free some space. No checkpoint was written yet"):
        _run(beacons, tiny, _stop_at(0, OSError(errno.ENOSPC, "No space left on device")))


def test_train__that_met_an_unforeseen_error_says_how_to_go_on(beacons, tiny):
    with pytest.raises(RunError, match=r"Go on with: yolo-mha train resume='.*last\.pt'.*--debug"):
        _run(beacons, tiny, _stop_at(1, RuntimeError("who knows")))
    with pytest.raises(RunError, match="stopped with an error") as caught:
        _run(beacons, tiny, _stop_at(0, RuntimeError("who knows")))
    assert "resume" not in str(caught.value)


def test_train__whose_loss_is_no_number_names_the_best_checkpoint(beacons, tiny):
    def spoil(trainer) -> None:
        if trainer.epoch >= 1:
            for parameter in trainer.model.parameters():
                parameter.data.fill_(float("nan"))

    with pytest.raises(RunError, match="infinite or not a number") as caught:
        _run(beacons, tiny, {"on_train_epoch_start": spoil})
    assert "best.pt is of the best epoch" in str(caught.value)
    assert "lower lr0" in str(caught.value)
    state = torch.load("my runs/run/weights/best.pt", weights_only=False)
    assert all(torch.isfinite(v).all() for v in state["ema"].state_dict().values())


def test_train__after_ctrl_c_prints_the_command_that_resumes(beacons, tiny, caplog):
    with pytest.raises(KeyboardInterrupt):
        _run(beacons, tiny, _stop_at(2, KeyboardInterrupt()))
    assert "last.pt is good, of epoch 2 of 3. Go on with: yolo-mha train resume=" in caplog.text
    caplog.clear()
    with pytest.raises(SystemExit):
        _run(beacons, tiny, _stop_at(0, SystemExit(143)))
    assert "No checkpoint was written yet" in caplog.text


def test_train__stopped_in_a_folder_of_an_earlier_run_does_not_call_that_ones_checkpoint_good(beacons, tiny, caplog):
    settings = {**tiny, "project": "p", "name": "x", "exist_ok": True}
    yolo_mha.train("demo-baseline.yaml", beacons, **settings)
    with pytest.raises(KeyboardInterrupt):
        yolo_mha.train("demo-baseline.yaml", beacons, callbacks=_stop_at(0, KeyboardInterrupt()), **settings)
    assert "No checkpoint was written yet" in caplog.text


def test_train__names_an_image_that_is_lost_and_goes_on_when_it_is_back(tiny, tmp_path):
    data = generate(tmp_path / "data", train=8, val=4)
    image, label = (next((data.parent / kind / "val").glob("*1.*")) for kind in ("images", "labels"))

    def lose(trainer) -> None:
        if trainer.epoch == 1:
            image.rename(tmp_path / "kept")

    with pytest.raises(RunError, match="An image of the dataset is gone") as caught:
        _run(data, tiny, {"on_train_epoch_start": lose})
    assert caught.value.given == str(image)
    assert re.match(r"bring it back\. .*last\.pt is good, of epoch \d of 3\. Go on with: ", caught.value.fix)
    last = Path("my runs/run/weights/last.pt")
    with pytest.raises(DataError, match="not as it was when this run began") as caught:
        yolo_mha.train(resume=last)
    assert "val: 3 images" in caught.value.given
    assert "val: 4 images" in caught.value.expected
    (tmp_path / "kept").rename(image)
    objects = label.read_text()
    label.unlink()
    with pytest.raises(DataError, match="3 of them with objects"):
        yolo_mha.train(resume=last)
    label.write_text(objects)
    assert yolo_mha.train(resume=last).epochs == 3


def test_train__with_several_gpus_the_lock_stays(beacons, tiny, monkeypatch):
    """Ultralytics removes the run's folder before it starts a process for each."""
    seen = []

    class Several(Trainer):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.ddp, self.world_size = True, 2

    with run_folder({"project": "p", "name": "x"}, "train") as folder:
        monkeypatch.setattr(guard, "_run_child", lambda *_, **__: seen.append((folder / LOCK).exists()))
        Several(overrides={**tiny, **taken(folder), "model": "demo-baseline.yaml", "data": str(beacons)}).train()
    assert seen == [True]


def test_run_folder__is_locked_while_a_run_writes_to_it(beacons, tiny, tmp_path):
    script = """
import sys, time
from pathlib import Path
from yolo_mha.engine.run_folder import run_folder
with run_folder({"project": "p", "name": "x", "exist_ok": True}, "train"):
    Path("ready").touch()
    time.sleep(300)
"""
    process = subprocess.Popen([sys.executable, "-c", script])
    try:
        while not Path("ready").exists():
            assert process.poll() is None
            time.sleep(0.05)
        settings = {**tiny, "project": "p", "name": "x", "exist_ok": True}
        with pytest.raises(ConfigError, match="Another process is using this folder") as caught:
            yolo_mha.train("demo-baseline.yaml", beacons, **settings)
        assert f"process {process.pid} on" in str(caught.value)
        with run_folder({"project": "p", "name": "x"}, "train") as folder:
            assert folder.name == "x-2"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    with run_folder({"project": "p", "name": "x", "exist_ok": True}, "train") as folder:  # as a killed one left it
        (folder / "file").touch()
    assert [path.name for path in Path("p/x").iterdir()] == ["file"]


def test_resume__is_locked_and_takes_away_what_a_kill_left(trained, tmp_path):
    run = tmp_path / "run"
    (run / "weights").mkdir(parents=True)
    (run / ".unfinished-weights").mkdir()
    (run / ".unfinished-weights" / "last.pt").write_bytes(b"half")
    (run / "weights" / ".unfinished-best-x1.pt").write_bytes(b"half")
    (run / "args.yaml").touch()
    (run / "weights" / "last.pt").write_bytes(trained.read_bytes())
    with FileLock(run / LOCK), pytest.raises(ConfigError, match="Another process"):
        yolo_mha.train(resume=run / "weights" / "last.pt")
    with pytest.raises(CheckpointError, match="finished run"):
        yolo_mha.train(resume=run / "weights" / "last.pt")
    assert sorted(p.name for p in run.rglob("*")) == ["args.yaml", "last.pt", "weights"]


def test_resume__of_a_run_of_a_comparison_is_refused(trained, tmp_path):
    """It would be trained in another order, and then counted."""
    last = tmp_path / "arms" / "a" / "seed0" / "weights" / "last.pt"
    last.parent.mkdir(parents=True)
    last.write_bytes(trained.read_bytes())
    (last.parents[1] / "code.json").write_text("{}")
    with pytest.raises(ConfigError, match="call compare again"):
        yolo_mha.train(resume=last)
    with pytest.raises(ConfigError, match="call compare again"):
        yolo_mha.YOLO(last).train(resume=last)


def test_record__of_an_earlier_run_in_the_folder_goes(tmp_path):
    trainer = SimpleNamespace(save_dir=tmp_path)
    Record("a.pt", freeze_base=2, rows=[3])(trainer)
    assert Record.read(tmp_path).rows == [3]
    Record("b.pt", rows=[5])(trainer)  # whose blocks train with all the rest
    assert Record.read(tmp_path) == Record("")


def test_locked__says_so_where_the_holder_is_not_known_yet(tmp_path):
    with FileLock(tmp_path / LOCK), pytest.raises(ConfigError, match="locked by another process"), locked(tmp_path):
        pass


def test_trainer__needs_cloudpickle_for_several_gpus(monkeypatch):
    trainer = object.__new__(Trainer)
    trainer.ddp = True
    monkeypatch.setattr("yolo_mha.engine.trainer.find_spec", lambda name: None)
    with pytest.raises(DependencyError, match="cloudpickle is not installed"):
        trainer.train()
