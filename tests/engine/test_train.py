import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import yolo_mha
from yolo_mha.data.beacons import draw
from yolo_mha.engine.trainer import Trainer
from yolo_mha.errors import CheckpointError, ConfigError


def fresh(script: str, *arguments: object, **env: str) -> str:
    """Run a script in a new Python process and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True, env={**os.environ, **env}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_train__leaves_what_it_says(trained):
    folder = trained.parents[1]
    assert (folder / "results.csv").exists()
    assert sorted(p.name for p in trained.parent.iterdir()) == ["best.pt", "last.pt"]
    assert not (folder / ".weights-unfinished").exists()
    content = torch.load(trained, weights_only=False)
    assert content["optimizer"] is None


@pytest.mark.parametrize("safe", ["", "1"])
def test_checkpoint__opens_in_a_fresh_process_of_stock_ultralytics(trained, safe):
    script = """
import sys
if sys.argv[2]:
    import yolo_mha  # restricted loading needs the classes on the list before it starts
from ultralytics import YOLO
model = YOLO(sys.argv[1])
print([type(m).__name__ for m in model.model.model if "MHA" in type(m).__name__])
"""
    assert "['SpatialMHABlock']" in fresh(script, trained, safe, ULTRALYTICS_SAFE_LOAD=safe)


def test_checkpoint__predicts_with_the_stock_command(trained, tmp_path):
    import cv2

    cv2.imwrite(str(tmp_path / "x.png"), draw(0, 0)[0])
    command = ["predict", f"model={trained}", f"source={tmp_path / 'x.png'}", "imgsz=64", f"project={tmp_path / 'out'}"]
    done = subprocess.run([Path(sys.executable).with_name("yolo"), *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "out").rglob("x.jpg")) or list((tmp_path / "out").rglob("x.png"))


def test_resume__after_kill_9(beacons, tiny, tmp_path):
    words = {**tiny, "epochs": 40, "model": "demo-mha.yaml", "data": beacons, "project": tmp_path, "name": "run"}
    command = [sys.executable, "-m", "yolo_mha", "train", *(f"{k}={v}" for k, v in words.items())]
    last, results = tmp_path / "run" / "weights" / "last.pt", tmp_path / "run" / "results.csv"
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while not (last.exists() and len(results.read_text().splitlines()) > 2):
        assert process.poll() is None, "training ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    state = torch.load(last, weights_only=False)
    assert state["optimizer"] is not None

    # The run is shortened so that the test is, by what Ultralytics reads on resume: the checkpoint's own settings.
    state["train_args"]["epochs"] = state["epoch"] + 3
    torch.save(state, last)
    result = yolo_mha.train(resume=str(last))
    assert result.save_dir == str(tmp_path / "run")
    epochs = [int(float(line.split(",")[0])) for line in results.read_text().splitlines()[1:]]
    assert epochs == list(range(1, state["epoch"] + 4))
    with pytest.raises(CheckpointError, match="finished run"):
        yolo_mha.train(last, resume=True)


def test_save__is_whole_or_not_at_all(trained, beacons, tmp_path, monkeypatch):
    """A failure while the checkpoint is being written leaves the previous one as it was."""
    folder = tmp_path / "weights"
    shutil.copytree(trained.parent, folder)
    before = (folder / "last.pt").read_bytes()
    trainer = object.__new__(Trainer)
    trainer.wdir, trainer.last, trainer.best = folder, folder / "last.pt", folder / "best.pt"

    def half_written(self) -> bool:
        self.last.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Trainer.__mro__[1], "save_model", half_written)
    with pytest.raises(OSError, match="disk full"):
        trainer.save_model()
    assert (folder / "last.pt").read_bytes() == before
    assert trainer.last == folder / "last.pt"
    assert not (tmp_path / ".weights-unfinished").exists()


def test_resume_training__drops_rows_after_the_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(Trainer.__mro__[1], "resume_training", lambda self, ckpt: None)
    trainer = object.__new__(Trainer)
    trainer.resume, trainer.start_epoch, trainer.csv = True, 2, tmp_path / "results.csv"
    trainer.csv.write_text("epoch,x\n1,5\n2,6\n3,7\n4,")
    trainer.resume_training({})
    assert trainer.csv.read_text() == "epoch,x\n1,5\n2,6\n"


def test_final_eval__strips_checkpoints_whole(trained, tmp_path, monkeypatch):
    """What Ultralytics' final step writes goes aside first, and its failure leaves the file as it was."""
    from ultralytics.engine import trainer as stock

    path = tmp_path / "last.pt"
    shutil.copy(trained, path)
    before, seen = path.read_bytes(), []

    def strip(f, s="", updates=None):
        seen.append(s)
        Path(s).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("yolo_mha.engine.trainer.strip_optimizer", strip)
    monkeypatch.setattr(Trainer.__mro__[1], "final_eval", lambda self: stock.strip_optimizer(path))
    with pytest.raises(OSError, match="disk full"):
        object.__new__(Trainer).final_eval()
    assert path.read_bytes() == before
    assert seen != [str(path)]
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


def test_resume__of_a_run_killed_in_its_last_validation_says_that_it_is_done(trained, tmp_path):
    state = torch.load(trained, weights_only=False)
    state |= {"optimizer": {}, "epoch": 0}
    state["train_args"]["epochs"] = 1
    torch.save(state, tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match="finished run"):
        yolo_mha.train(resume=str(tmp_path / "last.pt"))


def test_gate__has_no_weight_decay(beacons, tmp_path):
    network = yolo_mha.YOLO("demo-mha.yaml")
    for name in ("AdamW", "SGD", "MuSGD"):
        trainer = object.__new__(Trainer)
        optimizer = trainer.build_optimizer(network.model, name=name, lr=0.01, decay=0.1)
        block = next(m for m in network.model.modules() if isinstance(m, yolo_mha.SpatialMHABlock))
        for parameter in (block.gate.weight, block.gate.bias, block.norm.weight):
            group = next(g for g in optimizer.param_groups if any(p is parameter for p in g["params"]))
            assert group["weight_decay"] == 0, name


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "data is missing"),
        ({"model": None, "data": "x.yaml"}, "model is missing"),
        ({"resume": True}, "resume needs a checkpoint"),
        ({"data": 5}, "no path"),
        ({"data": "x.yaml", "epochz": 1}, "did you mean epochs"),
    ],
)
def test_train__refuses_before_anything_is_written(arguments, words):
    with pytest.raises(ConfigError, match=words):
        yolo_mha.train(**{"model": "demo-mha.yaml", **arguments})
    assert not Path("runs").exists()


def test_ema__averages_the_block():
    from ultralytics.utils.torch_utils import ModelEMA

    model = yolo_mha.YOLO("demo-mha.yaml").model
    ema = ModelEMA(model)
    block = next(m for m in model.modules() if isinstance(m, yolo_mha.SpatialMHABlock))
    torch.nn.init.constant_(block.gate.weight, 1.0)
    ema.update(model)
    averaged = next(m for m in ema.ema.modules() if isinstance(m, yolo_mha.SpatialMHABlock)).gate.weight
    assert ((averaged > 0.1) & (averaged < 1.0)).all()


def test_dataloader__works_in_worker_processes(beacons, tiny, tmp_path):
    settings = {**tiny, "model": "demo-mha.yaml", "data": str(beacons), "project": str(tmp_path)}
    trainer = Trainer(overrides=settings)
    trainer.stride, trainer.args.workers = 32, 2  # on a CPU Ultralytics sets no workers
    trainer.model = yolo_mha.YOLO("demo-mha.yaml").model
    loader = trainer.get_dataloader(trainer.data["train"], batch_size=4, rank=-1, mode="train")
    assert loader.num_workers == 2
    assert next(iter(loader))["img"].shape == (4, 3, 64, 64)
    loader.close()


def test_checkpoint__in_half_precision_gives_finite_boxes(trained):
    model = yolo_mha.YOLO(trained)
    image = draw(0, 0)[0]
    boxes = model.predict(image, imgsz=96, conf=0.0001, verbose=False)[0].boxes
    assert np.isfinite(boxes.xyxy.numpy()).all()
    assert len(boxes)
