import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from ultralytics.utils import LOGGER

import yolo_mha
from yolo_mha.data.beacons import draw
from yolo_mha.engine.trainer import Trainer
from yolo_mha.errors import CheckpointError, ConfigError, ModelError
from yolo_mha.paths import shipped
from yolo_mha.surgery.graft import renamed
from yolo_mha.surgery.rows import blocks


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
    assert not (folder / ".unfinished-weights").exists()
    content = torch.load(trained, weights_only=False)
    assert content["optimizer"] is None


def test_checkpoint__opens_in_a_fresh_process_of_stock_ultralytics(trained):
    script = """
import sys
from ultralytics.nn import tasks
from ultralytics import YOLO
for tasks.SAFE_LOAD in (False, True):  # the first brings the classes that the second needs on its list
    model = YOLO(sys.argv[1])
    print([type(m).__name__ for m in model.model.model if "MHA" in type(m).__name__])
"""
    printed = fresh(script, trained, ULTRALYTICS_SAFE_LOAD="").splitlines()
    assert printed[-2:] == ["['SpatialMHABlock']"] * 2


@pytest.mark.slow
def test_checkpoint__predicts_with_the_stock_command(trained, tmp_path):
    import cv2

    cv2.imwrite(str(tmp_path / "x.png"), draw(0, 0)[0])
    command = ["predict", f"model={trained}", f"source={tmp_path / 'x.png'}", "imgsz=64", f"project={tmp_path / 'out'}"]
    done = subprocess.run([Path(sys.executable).with_name("yolo"), *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "out").rglob("x.jpg")) or list((tmp_path / "out").rglob("x.png"))


def test_resume__after_kill_9(beacons, tiny, tmp_path, caplog):
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
    LOGGER.addHandler(caplog.handler)
    try:
        result = yolo_mha.train(resume=str(last))
    finally:
        LOGGER.removeHandler(caplog.handler)
    assert f"the run continues with data={beacons}" in caplog.messages
    assert (result.save_dir, result.data) == (str(tmp_path / "run"), str(beacons))
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
    assert not (tmp_path / ".unfinished-weights").exists()


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


@pytest.mark.parametrize("optimizer", ["AdamW", "SGD", "MuSGD"])
def test_weight_decay__is_for_projections_alone(optimizer):
    """Tables and norms of heads are no matrices of a layer, for Ultralytics' choice of groups too."""
    block = yolo_mha.SpatialMHABlock(64, 2, scope="window", position="relative", qk_norm=True)
    network = torch.nn.Module()
    network.model = torch.nn.Sequential(torch.nn.Identity(), block, torch.nn.Identity())
    groups = object.__new__(Trainer).build_optimizer(network, name=optimizer, lr=0.01, decay=0.1).param_groups
    names = {parameter: name for name, parameter in network.named_parameters()}
    decayed = {names[p].removeprefix("model.1.") for g in groups if g["weight_decay"] for p in g["params"]}
    assert decayed == {"attn.qkv.weight", "attn.proj.weight"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "data is missing"),
        ({"model": None, "data": "x.yaml"}, "model is missing"),
        ({"resume": True}, "resume needs a checkpoint"),
        ({"data": 5}, "not a path"),
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


@pytest.fixture
def plain() -> Path:
    """A checkpoint without attention: the demo's."""
    return shipped("weights") / "demo-baseline.pt"


def test_train_at__keeps_all_weights_and_writes_down_what_it_did(plain, beacons, tiny):
    result = yolo_mha.train(plain, beacons, at="neck", num_heads=2, **{**tiny, "lr0": 1e-9, "optimizer": "SGD"})
    transfer = result.transfer
    assert result.data == str(beacons)
    assert (transfer.moved, transfer.left) == (transfer.total, {})
    model = yolo_mha.YOLO(result.last).model
    assert [type(m).__name__ for m in model.model].count("SpatialMHABlock") == 1
    base = yolo_mha.YOLO(plain).model
    assert transfer.total == len(base.state_dict())
    ours, theirs = model.model[0].conv.weight, base.model[0].conv.weight
    assert torch.allclose(ours, theirs, atol=1e-3)  # the learning rate is next to nothing
    record = json.loads((Path(result.save_dir) / "attention.json").read_text())
    assert record["at"] == ["neck"]
    assert record["transfer"]["moved"] == transfer.total
    written = yaml.safe_load((Path(result.save_dir) / record["yaml"]).read_text())
    assert written["backbone"] + written["head"] == model.yaml["backbone"] + model.yaml["head"]
    assert yaml.safe_load((Path(result.save_dir) / "args.yaml").read_text())["pretrained"] == str(plain)


def test_yolo_insert__keeps_outputs_and_trains_as_train_at_does(plain, beacons, tiny, tmp_path):
    base, network = yolo_mha.YOLO(plain), yolo_mha.YOLO(plain)
    assert network.insert("neck", num_heads=2) is network
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        assert torch.equal(network.model.eval()(image)[0], base.model.eval()(image)[0])
    settings = {**tiny, "data": str(beacons), "optimizer": "SGD", "lr0": 0.1, "warmup_epochs": 0, "nbs": 8}
    network.train(**settings, freeze_base=1, project=str(tmp_path / "own"), name="run", seed=5)
    result = yolo_mha.train(plain, at="neck", num_heads=2, freeze_base=1, name="other", seed=5, **settings)
    folder, other = Path("own/run").resolve(), Path(result.save_dir)
    assert (network.transfer.moved, network.transfer.left) == (network.transfer.total, {})
    records = [json.loads((f / "attention.json").read_text()) for f in (folder, other)]
    assert records[0] == records[1]
    assert records[0]["yaml"] == "demo-baseline-mha-neck.yaml"
    assert (folder / records[0]["yaml"]).read_text() == (other / records[0]["yaml"]).read_text()
    one, two = (yolo_mha.YOLO(f / "weights" / "last.pt").model for f in (folder, other))
    assert one.yaml == two.yaml
    assert all(torch.equal(v, two.state_dict()[k]) for k, v in one.state_dict().items())
    assert network.callbacks == base.callbacks  # those of this training are gone again


@pytest.mark.slow
def test_yolo_insert__again_and_after_training_goes_on_from_what_is_there(plain, beacons, tiny, tmp_path):
    network = yolo_mha.YOLO(plain).insert("neck", num_heads=2).insert("P3", block="S2Attention")
    network.train(**tiny, data=str(beacons), project=str(tmp_path / "own"), name="run")
    record = json.loads(Path("own/run/attention.json").read_text())
    assert record["at"] == ["neck", "P3"]
    assert [type(network.model.model[i]).__name__ for i in record["rows"]] == ["S2Attention", "SpatialMHABlock"]
    trained = {k: v.clone() for k, v in network.model.state_dict().items()}
    network.insert("P2")
    network.train(
        **{**tiny, "optimizer": "SGD", "lr0": 1e-9}, data=str(beacons), project=str(tmp_path / "own"), name="more"
    )
    assert network.transfer.total == len(trained)
    assert network.transfer.left == {}
    record = json.loads(Path("own/more/attention.json").read_text())
    assert (record["at"], Path(record["base"]).name) == (["P2"], "best.pt")


def test_yolo_insert__refuses(plain, tmp_path):
    network = yolo_mha.YOLO(plain)
    for words, problem in (({"at": "P9"}, "no such level"), ({"at": "P3", "num_hedas": 2}, "no such option")):
        with pytest.raises(ConfigError, match=problem):
            network.insert(**words)
    with pytest.raises(ConfigError, match="this model has none"):
        network.train(data="x.yaml", freeze_base=1)
    with pytest.raises(ConfigError, match="cannot be changed when a run is resumed"):
        network.insert("neck", num_heads=2).train(resume="last.pt")
    del network.model
    network.model = "x.onnx"  # what it is for an exported model
    for use in (lambda: network.insert("P3"), lambda: network.train(data="x.yaml")):
        with pytest.raises(ConfigError, match="An exported model cannot be"):
            use()


def test_train_at__with_another_class_count(plain, beacons, tiny, tmp_path):
    other = tmp_path / "two.yaml"
    content = yaml.safe_load(beacons.read_text())
    names = {**content["names"], len(content["names"]): "one more"}
    other.write_text(yaml.safe_dump({**content, "names": names, "path": str(beacons.parent)}))
    result = yolo_mha.train(plain, other, at="neck", **tiny)
    assert result.transfer.left
    assert all("classes became" in why and ".cv3." in name for name, why in result.transfer.left.items())
    assert len(yolo_mha.YOLO(result.last).names) == len(names)


@pytest.mark.slow
def test_train_at__from_a_yaml_is_seeded_and_may_take_weights(plain, beacons, tiny):
    runs = [yolo_mha.train("demo-baseline.yaml", beacons, at="neck", seed=3, **tiny) for _ in range(2)]
    one, two = (yolo_mha.YOLO(r.last).model.state_dict() for r in runs)
    assert all(torch.equal(one[k], two[k]) for k in one)
    assert runs[0].transfer is None
    loaded = yolo_mha.train("demo-baseline.yaml", beacons, at="neck", pretrained=str(plain), **tiny)
    assert loaded.transfer.moved == loaded.transfer.total


def _changed(result, plain: Path) -> set[int]:
    """Rows of the trained model, by their index in it, that are not as in the base."""
    model, base = (yolo_mha.YOLO(p).model for p in (result.last, plain))
    kept = [i for i, m in enumerate(model.model) if type(m).__name__ != "SpatialMHABlock"]
    states = ((i, model.model[i].state_dict(), base.model[j].state_dict()) for j, i in enumerate(kept))
    return {i for i, ours, theirs in states if any(not torch.equal(ours[k], theirs[k]) for k in ours)}


def test_train__refuses_weights_of_another_family_before_it_writes(beacons, tiny, tmp_path):
    yolo_mha.YOLO("yolov8n.yaml").save(tmp_path / "other.pt")
    for words in ({"model": "demo-mha.yaml"}, {"model": "demo-baseline.yaml", "at": "neck"}):
        with pytest.raises(ModelError, match="another family"):
            yolo_mha.train(data=beacons, pretrained=str(tmp_path / "other.pt"), **words, **tiny)
    assert not list(tmp_path.glob("runs/detect/*"))


def test_train_freeze_base__trains_the_blocks_alone_and_then_everything(plain, beacons, tiny):
    settings = {**tiny, "optimizer": "SGD", "lr0": 0.1, "warmup_epochs": 0, "nbs": 8}  # a step every batch
    alone = yolo_mha.train(plain, beacons, at="neck", freeze_base=2, **{**settings, "epochs": 2})
    assert _changed(alone, plain) == set()
    block = next(m for m in yolo_mha.YOLO(alone.last).model.model if type(m).__name__ == "SpatialMHABlock")
    assert block.gate.weight.abs().max() > 0
    then = yolo_mha.train(plain, beacons, at="neck", freeze_base=1, **{**settings, "epochs": 2})
    assert len(_changed(then, plain)) > 3


@pytest.mark.slow
def test_train_freeze_base__goes_on_after_resume(plain, beacons, tiny, tmp_path):
    script = """
import sys, yolo_mha, os
from yolo_mha.engine.trainer import Trainer
save = Trainer.save_model
Trainer.save_model = lambda self: (save(self), os._exit(9) if self.epoch == 0 else None)[0]
yolo_mha.train(sys.argv[1], sys.argv[2], at="neck", freeze_base=2, epochs=2, imgsz=64, batch=8, device="cpu",
               plots=False, workers=0, optimizer="SGD", lr0=0.1, warmup_epochs=0, nbs=8, name="cut")
"""
    done = subprocess.run([sys.executable, "-c", script, str(plain), str(beacons)], capture_output=True, text=True)
    assert done.returncode == 9, done.stderr[-2000:]
    result = yolo_mha.train(resume=tmp_path / "runs" / "detect" / "cut" / "weights" / "last.pt")
    assert result.epochs == 2
    assert _changed(result, plain) == set()


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"model": "demo-baseline.yaml", "at": "P9"}, "no such level"),
        ({"model": "demo-baseline.yaml", "num_heads": 4}, "need at"),
        ({"model": "demo-baseline.yaml", "freeze_base": 1}, "this model has none"),
        ({"model": "demo-mha.yaml", "freeze_base": -1}, "must be a whole number"),
        ({"model": "demo-mha.yaml", "freeze_base": True}, "must be a whole number"),
        ({"model": "demo-mha.yaml", "num_haeds": 4}, "Unknown setting"),
        ({"resume": "last.pt", "at": "P3"}, "cannot be changed when a run is resumed"),
        ({"model": "demo-baseline.yaml", "at": "neck", "freeze_base": 1, "freeze": 3}, "cannot be combined"),
    ],
)
def test_train_at__refuses(beacons, tiny, settings, problem):
    with pytest.raises(ConfigError, match=problem):
        yolo_mha.train(data=beacons, **tiny, **settings)
    assert not Path("runs", "detect").exists()


@pytest.mark.slow
def test_several_gpus__the_generated_files_find_the_plugin(beacons, tiny, tmp_path):
    """Run what Ultralytics would launch on every GPU, for a YAML's name and either trainer, each in a fresh process."""
    script = """
import sys, json
data, tiny = sys.argv[1], json.loads(sys.argv[2])
import ultralytics, yolo_mha
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.utils.dist import generate_ddp_file
from yolo_mha.engine.trainer import Trainer
for trainer in (DetectionTrainer, Trainer):
    settings = {"model": "demo-mha.yaml", "data": data, "project": sys.argv[3], "name": trainer.__name__, **tiny}
    print("file:", generate_ddp_file(trainer(overrides=settings)))
"""
    printed = fresh(script, beacons, json.dumps(tiny), tmp_path / "runs").splitlines()
    files = [Path(line.removeprefix("file: ")) for line in printed if line.startswith("file: ")]
    assert len(files) == 2
    own_path = str(Path(yolo_mha.__file__).parents[1])
    assert not any("yolo_mha" in file.read_text().replace(own_path, "") for file in files)
    started = [subprocess.Popen([sys.executable, file], stderr=subprocess.PIPE, text=True) for file in files]
    errors = [process.communicate()[1] for process in started]
    assert [process.returncode for process in started] == [0, 0], "".join(e[-2000:] for e in errors)
    for trainer in ("DetectionTrainer", "Trainer"):
        last = next((tmp_path / "runs" / trainer).rglob("last.pt"))
        assert [type(m).__name__ for m in yolo_mha.YOLO(last).model.model].count("SpatialMHABlock") == 1
    for file in files:
        file.unlink()
        file.with_suffix(".pt").unlink()


@pytest.fixture
def watched():
    """Return callbacks that keep the hash of every batch as it enters the network, by epoch."""
    from yolo_mha.engine.epoch_seeds import EpochSeeds
    from yolo_mha.engine.start_record import digest

    def make(seed: int):
        seen: dict[int, list[str]] = {}

        def start(trainer) -> None:
            def keep(module, inputs) -> None:
                if isinstance(inputs[0], dict):
                    batch = {k: inputs[0][k] for k in ("img", "cls", "bboxes", "batch_idx")}
                    seen.setdefault(trainer.epoch, []).append(digest(batch))

            trainer.model.register_forward_pre_hook(keep)

        return seen, {"on_train_start": start, "on_train_epoch_start": EpochSeeds(seed)}

    return make


def test_epoch_seeds__give_the_same_batches_whatever_the_model_draws(beacons, tiny, watched):
    """Mosaics from recent images are on; the second model draws for its weights and its dropout, and more besides."""
    settings = {**tiny, "epochs": 2, "batch": 4, "close_mosaic": 0, "data": beacons, "val": False}
    batches = {}
    for name, seed, model in (("a", 3, {}), ("b", 3, {"at": "neck", "proj_drop": 0.5, "gate_init": 1.0}), ("c", 4, {})):
        seen, callbacks = watched(seed)
        if model:
            callbacks["on_fit_epoch_end"] = lambda trainer: (random.random(), np.random.rand(), torch.rand(1))
        yolo_mha.train("demo-baseline.yaml", **settings, **model, seed=seed, name=name, callbacks=callbacks)
        batches[name] = seen
    assert batches["a"] == batches["b"]
    everything = [batch for name in "ac" for epoch in batches[name].values() for batch in epoch]
    assert len(set(everything)) == len(everything) == 2 * 2 * 4


def test_epoch_seeds__go_on_after_an_interruption(beacons, tiny, watched, tmp_path):
    settings = {**tiny, "epochs": 3, "batch": 4, "close_mosaic": 1, "model": "demo-baseline.yaml", "data": beacons}
    whole, callbacks = watched(3)
    yolo_mha.train(**settings, name="whole", callbacks=callbacks)

    class Cut(Exception):
        pass

    def cut(trainer) -> None:
        if trainer.epoch == 0:
            raise Cut

    first, callbacks = watched(3)
    with pytest.raises(yolo_mha.errors.RunError, match="Cut"):
        yolo_mha.train(**settings, name="cut", callbacks={**callbacks, "on_fit_epoch_end": cut})
    second, callbacks = watched(3)
    yolo_mha.train(resume=tmp_path / "runs" / "detect" / "cut" / "weights" / "last.pt", callbacks=callbacks)
    assert list(second) == [1, 2]
    assert {**first, **second} == whole


def test_epoch_seeds__with_workers(beacons, tiny, watched):
    """The loader's processes fetch ahead, and each has random numbers of its own."""
    from types import SimpleNamespace

    from yolo_mha.engine.epoch_seeds import EpochSeeds

    trainer = Trainer(overrides={**tiny, "model": "demo-baseline.yaml", "data": str(beacons)})
    trainer.stride, trainer.args.workers = 32, 2  # on a CPU Ultralytics sets no workers
    trainer.model = yolo_mha.YOLO("demo-baseline.yaml").model
    epochs = []
    for seed, epoch in ((0, 0), (0, 1), (0, 1), (1, 1)):
        if epoch < 2 and len(epochs) != 2:  # the third goes on with another loader, as a resumed run does
            loader = trainer.get_dataloader(trainer.data["train"], batch_size=4, rank=-1, mode="train")
        torch.rand(len(epochs))
        EpochSeeds(seed)(SimpleNamespace(epoch=epoch, batch_size=4, train_loader=loader))
        epochs.append(torch.cat([batch["img"] for batch in loader]))
        loader.close()
    assert torch.equal(epochs[1], epochs[2])
    assert not any(torch.equal(epochs[i], epochs[j]) for i, j in ((0, 1), (1, 3)))


def test_epoch_seeds__refuse_a_batch_that_became_smaller():
    from types import SimpleNamespace

    from yolo_mha.engine.epoch_seeds import EpochSeeds

    loader = SimpleNamespace(dataset=SimpleNamespace(buffer=[]), generator=torch.Generator(), reset=lambda: None)
    seeds = EpochSeeds(0)
    seeds(SimpleNamespace(epoch=0, batch_size=16, train_loader=loader))
    with pytest.raises(yolo_mha.errors.RunError, match="16 does not fit into memory"):
        seeds(SimpleNamespace(epoch=0, batch_size=8, train_loader=loader))


@pytest.mark.parametrize(
    ("callbacks", "words"),
    [("x", "given in Python"), ({"on_train_start": 1}, "Python"), ({"on_train_strat": print}, "on_train_start")],
)
def test_callbacks__are_functions_of_an_event(callbacks, words):
    with pytest.raises(ConfigError, match=words):
        yolo_mha.train("demo-baseline.yaml", "x.yaml", callbacks=callbacks)


def test_start_record__says_what_the_run_began_with(beacons, tiny):
    from yolo_mha.engine.start_record import StartRecord, digest, read_start

    model = shipped("weights") / "demo-mha.pt"
    result = yolo_mha.train(model, beacons, **tiny, callbacks={"on_train_start": StartRecord()})
    start = read_start(Path(result.save_dir))
    state = yolo_mha.YOLO(model).model.state_dict()
    assert start["tensors"] == {k: digest({"": v}) for k, v in state.items()}
    assert start["images"] == 8
    assert len(start["batch"]) == 64
    assert read_start(Path(result.save_dir) / "weights") is None


def test_digest__sees_values_kind_and_shape_but_not_the_layout():
    from yolo_mha.engine.start_record import digest

    x = torch.randn(2, 3, 4, 5)
    assert digest({"x": x}) == digest({"x": x.contiguous(memory_format=torch.channels_last)})
    others = [{"y": x}, {"x": x.double()}, {"x": x.view(2, 3, 20)}, {"x": x + 1e-7}, {"x": x, "y": x}]
    assert len({digest({"x": x}), *map(digest, others)}) == 6


@pytest.mark.parametrize(
    "settings",
    [
        {"model": "demo-baseline.yaml", "at": "layer:2"},
        pytest.param({"model": "demo-mha.yaml"}, marks=pytest.mark.slow),
    ],
)
def test_train_freeze__counts_the_rows_without_blocks(beacons, tiny, tmp_path, settings):
    """The same layers are frozen with blocks as without, and the blocks train."""
    frozen = {}

    def note(name):
        def callback(trainer):
            parameters = trainer.model.named_parameters()
            frozen[name] = {k for k, p in parameters if not p.requires_grad and ".dfl" not in k}

        return {"on_train_start": callback}

    words = {"data": beacons, "freeze": 6, "project": tmp_path, **tiny}
    yolo_mha.train("demo-baseline.yaml", callbacks=note("without"), **words)
    result = yolo_mha.train(callbacks=note("with"), **settings, **words)
    content = yolo_mha.YOLO(result.last).model.yaml
    (block,) = blocks(content)
    places = {i: i + (i >= block) for i in range(len(content["backbone"] + content["head"]) - 1)}
    assert {renamed(name, places) for name in frozen["without"]} == frozen["with"]
    assert not any(name.startswith(f"model.{block}.") for name in frozen["with"])
    assert any(name.startswith("model.6.") for name in frozen["with"])  # the sixth row stands one further behind
    assert list(result.gates) == [block]
    gate = yolo_mha.YOLO(result.last).model.model[block].gate
    assert result.gates[block] == pytest.approx(float(gate.weight.abs().mean()))
    assert result.gates[block] > 0
