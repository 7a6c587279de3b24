"""Training from settings."""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ultralytics.utils import LOGGER
from ultralytics.utils.callbacks import default_callbacks

from ..data.data_check import STOP, DataCheck, check_bad
from ..data.dataset import ReadDataset, Sample, load_dataset, read_dataset
from ..data.files import write_text
from ..data.links import source_of
from ..errors import (
    DISK_FULL,
    CheckpointError,
    ConfigError,
    DataError,
    RunError,
    YoloMHAError,
    disk_is_full,
    nearest,
    run_failed,
)
from ..guard import guarded, read_checkpoint
from ..result import Result
from ..surgery.graft import gates
from ..surgery.insertion import BLOCK, Insertion, block_options
from ..surgery.rows import blocks
from ..surgery.transfer import Transfer, align
from . import settings as config
from .block_modules import own_modules
from .checkpoint import check_checkpoint
from .model import YOLO, check_goes_on_as_it_began, existing
from .own_settings import checked
from .progress import with_bar
from .record import CODE_FILE
from .run_folder import locked, run_folder, taken
from .task_fit import fitting_dataset

DATA_FILE = "data.json"  # how much data a run began with
Callbacks = Mapping[str, Callable[[Any], None]]


@dataclass(frozen=True)
class TrainResult(Result):
    """What a training run left.

    Attributes:
        save_dir: Folder of the run.
        best: Checkpoint of the best epoch.
        last: Checkpoint of the last epoch.
        epochs: Number of epochs in ``results.csv``.
        metrics: Ultralytics' own validation of ``best``; for COCO numbers run `val`.
        transfer: What became of the pretrained weights, where the model has blocks and started from some.
        gates: Mean absolute weight of each block's gates in ``last``, by row; a block whose gates are 0 does nothing.
        data_check: Faults of the images and labels, and what was done about them; None for other tasks than detection.
        data: The dataset, as `val` takes it.
        options: What other commands need to open its checkpoints: ``blocks=`` for blocks of your own, ``trust=True``.
    """

    save_dir: str
    best: str
    last: str
    epochs: int
    metrics: dict[str, float]
    transfer: Transfer | None = None
    gates: dict[int, float] = field(default_factory=dict)
    data_check: DataCheck | None = None
    data: str = ""
    options: list[str] = field(default_factory=list)


@checked
@guarded()
def train(
    model: str | Path | None = None,
    data: str | Path | None = None,
    *,
    at: str | Iterable[str] | None = None,
    block: str = BLOCK,
    freeze_base: int = 0,
    resume: bool | str | Path = False,
    bad: str = STOP,
    trust: bool = False,
    callbacks: Callbacks | None = None,
    **settings: Any,
) -> TrainResult:
    """Train a detector.

    Args:
        model: Model YAML or checkpoint, see `YOLO`.
        data: Dataset YAML.
        at: Where to put attention into the model first, with all of its weights kept; see `insert`.
        block: Class name of the registered block that goes there; its options are settings too (``num_heads=8``).
        freeze_base: Number of first epochs in which the new blocks train alone.
        resume: Go on with an interrupted run: the path of its ``last.pt``, or True with ``model=last.pt``.
        bad: What is done about damaged images and labels, see `read_dataset`.
        trust: Read checkpoints with full pickle, for files that you made yourself.
        callbacks: Functions by the name of Ultralytics' event (``on_train_epoch_start``) at which they are called with
            the trainer; in Python only.
        **settings: Any training setting of Ultralytics: ``epochs``, ``batch``, ``imgsz``, ``device``, ...

    Returns:
        Where the run is and how it ended.

    Raises:
        ConfigError: A setting has an unknown name or an unusable value.
        ModelError: The model YAML is missing or wrong.
        CheckpointError: The checkpoint is missing, broken, or may not be loaded.
        DataError: The dataset is missing or broken.
        RunError: Training stopped with an error.
    """
    callbacks, bad = _check_callbacks(callbacks or {}), check_bad(bad)
    insertion, settings = Insertion.from_settings({**settings, "at": at, "block": block})
    passed = config.check({**settings, "resume": resume}, own=("at", "block", "freeze_base", *block_options(block)))
    passed.pop("resume")
    config.check_trains_on(passed)
    if resume:
        checkpoint = Path(str((model or "") if resume is True else resume))
        if checkpoint.suffix != ".pt":
            raise ConfigError(
                "resume needs a checkpoint.",
                given=f"resume={resume}" if model is None else f"model={model} resume={resume}",
                expected="resume=path/to/last.pt",
                fix="name the last.pt in the weights folder of the run, for example runs/detect/train/weights/last.pt",
            )
        check_goes_on_as_it_began(checkpoint, at, freeze_base, callbacks)
        return _resume(checkpoint, data, bad, passed, trust, callbacks)
    if model is None:
        raise ConfigError("model is missing.", expected="model=yolo11n-mha-p5.yaml, or another YAML or checkpoint")
    if data is None:
        raise ConfigError("data is missing.", expected="data=path/to/data.yaml", fix="name your dataset's YAML")
    network = YOLO(model, trust=trust)
    if isinstance(passed.get("pretrained"), (str, Path)):
        passed["pretrained"] = existing(passed["pretrained"], "pretrained")
        content = check_checkpoint(passed["pretrained"], trust)
        if insertion is not None or blocks(network.model.yaml):
            align((content.get("ema") or content["model"]).yaml, network.model.yaml)
    check, splits = None, ("train", passed.get("split", "val"))
    if network.task == "detect":
        read = check_dataset(data, splits, bad)
        data, check, text = read.dataset.yaml, read.check, json.dumps(_amounts(read))
        network.add_callback("on_pretrain_routine_end", lambda run: write_text(Path(run.save_dir) / DATA_FILE, text))
    else:
        data = fitting_dataset(network.task, data, splits)
    if insertion is not None:
        network.insert(insertion.at, block=insertion.block, **insertion.options)
    with run_folder(passed, "train", f"runs/{network.task}") as folder:
        settings = {**passed, **taken(folder), "data": str(data), "freeze_base": freeze_base}
        return _run(network, settings, callbacks, check)


def _resume(
    checkpoint: Path, data: str | Path | None, bad: str, passed: dict[str, Any], trust: bool, callbacks: Callbacks
) -> TrainResult:
    check_checkpoint(checkpoint, trust)
    # the run's folder is recorded as it was when the run began; it may have been moved since
    save_dir = checkpoint.resolve().parent.parent
    passed = {**passed, "resume": str(checkpoint), "save_dir": str(save_dir)}
    with locked(save_dir) if (save_dir / "args.yaml").is_file() else nullcontext():
        return _go_on(checkpoint, data, bad, passed, trust, callbacks)


def _go_on(
    checkpoint: Path, data: str | Path | None, bad: str, passed: dict[str, Any], trust: bool, callbacks: Callbacks
) -> TrainResult:
    network = YOLO(checkpoint, trust=trust)
    state = network.ckpt or {}
    arguments = state.get("train_args") or {}
    epoch, epochs = state.get("epoch"), arguments.get("epochs")
    if state.get("optimizer") is None or not (type(epoch) is type(epochs) is int and 0 <= epoch < epochs - 1):
        raise CheckpointError(
            f"{checkpoint} is of a finished run.",
            given="a checkpoint of the last epoch, or one without optimizer state",
            expected="the last.pt of an interrupted run",
            fix=f"to train it further, start a new run: model={checkpoint} data=... epochs=...",
        )
    if (asked := passed.get("epochs", epochs)) != epochs:
        raise ConfigError(
            "epochs cannot be changed when a run is resumed.",
            given=f"epochs={asked}",
            expected=f"no epochs=, or epochs={epochs} as the run began: the learning rate falls over all of them",
            fix=f"to train it for longer, start a new run: model={checkpoint} data=... epochs=...",
        )
    known, data, check = data is None, data or arguments["data"], None
    splits = ("train", arguments.get("split") or "val")
    if network.task == "detect":
        read = check_dataset(data, splits, bad)
        data, check = read.dataset.yaml, read.check
        if known:
            _check_amounts(Path(passed["save_dir"]) / DATA_FILE, _amounts(read))
    else:
        data = fitting_dataset(network.task, data, splits)
    return _run(network, {**passed, "data": str(data)}, callbacks, check)


def _run(network: YOLO, settings: dict[str, Any], callbacks: Callbacks, check: DataCheck | None = None) -> TrainResult:
    for event, function in callbacks.items():
        network.add_callback(event, function)
    own = [module for module in own_modules([network.model]) if module != "__main__"]
    options = [f"blocks={','.join(own)}"] * bool(own) + ["trust=True"] * network.trust
    try:
        network.train(**settings)
    except (KeyboardInterrupt, SystemExit):
        LOGGER.warning(f"Training was interrupted. {_how_to_go_on(network.trainer, options)}")
        raise
    except Exception as e:  # whatever Ultralytics meets on the way
        raise _stopped(network.trainer, e, options) from e
    trainer = network.trainer
    metrics = getattr(network.metrics, "results_dict", network.metrics) or {}  # a plain dict after several GPUs
    return TrainResult(
        save_dir=str(trainer.save_dir),
        best=str(trainer.best),
        last=str(trainer.last),
        epochs=len(trainer.csv.read_text().splitlines()) - 1 if trainer.csv.exists() else 0,
        metrics={k: round(float(v), 5) for k, v in metrics.items()},
        transfer=network.transfer,
        gates=gates(YOLO(trainer.last, trust=network.trust).model) if Path(trainer.last).exists() else {},
        data_check=check,
        data=source_of(settings["data"]),
        options=options,
    )


def _stopped(trainer: Any, error: Exception, options: list[str]) -> YoloMHAError:
    """Say what stopped a training, which checkpoint is good, and how to go on."""
    failed, text = run_failed("Training", error, getattr(trainer, "save_dir", None)), str(error)
    if isinstance(error, YoloMHAError):
        return failed
    if disk_is_full(error):
        return RunError(DISK_FULL, given=failed.given, fix=f"free some space. {_how_to_go_on(trainer, options)}")
    if lost := re.search(r"Image Not Found (.+)", text):
        image = Path(lost[1])
        given = str(image.readlink() if image.is_symlink() else image)
        fix = f"bring it back. {_how_to_go_on(trainer, options)}"
        return RunError("An image of the dataset is gone, or cannot be read any more.", given=given, fix=fix)
    if not _has_checkpoint(trainer):
        return failed
    if "NaN" in text:
        best = Path(trainer.best)
        return RunError(
            "The loss became infinite or not a number, so training stopped.",
            given=failed.given,
            expected=f"{best} is of the best epoch before that" if best.is_file() else "a loss that is a number",
            fix="train again with a lower lr0, a longer warmup_epochs or amp=False"
            + (f", from there with model={shlex.quote(str(best))}" if best.is_file() else ""),
        )
    return RunError(failed.problem, given=failed.given, fix=f"{_how_to_go_on(trainer, options)} {failed.fix}")


def _how_to_go_on(trainer: Any, options: list[str]) -> str:
    """Say which checkpoint of a training that stopped is good, and how to go on with it.

    Args:
        trainer: Ultralytics' trainer; None where there was none yet.
        options: See `TrainResult`.
    """
    if not _has_checkpoint(trainer):  # the first epoch was not over
        return "No checkpoint was written yet, so start it again."
    last = Path(trainer.last)
    state = read_checkpoint(last)
    epochs, done = trainer.args.epochs, state["epoch"] + 1
    if state.get("optimizer") is None or done >= epochs:
        return f"All {epochs} epochs are done, and {last} is good."
    good = f"{last} is good, of epoch {done} of {epochs}."
    if (last.parents[1] / CODE_FILE).is_file():
        return f"{good} The same compare goes on with it."
    words = [f"resume={shlex.quote(str(last))}", *map(shlex.quote, options)]
    return f"{good} Go on with: yolo-mha train {' '.join(words)}"


def _has_checkpoint(trainer: Any) -> bool:
    """Say whether a training wrote, or goes on from, the ``last.pt`` in its folder; it may be of an earlier one."""
    last = Path(getattr(trainer, "last", ""))
    return last.is_file() and (trainer.resume or last.stat().st_mtime >= getattr(trainer, "train_time_start", math.inf))


def _check_callbacks(callbacks: object) -> Callbacks:
    if not isinstance(callbacks, Mapping) or not all(map(callable, callbacks.values())):
        raise ConfigError(
            "callbacks are functions, so they are given in Python.",
            given=f"callbacks={callbacks}",
            expected="{'on_train_epoch_start': function}",
        )
    for event in callbacks:
        if event not in default_callbacks:
            raise ConfigError("Unknown event.", given=event, expected=nearest(event, default_callbacks))
    return callbacks


def check_dataset(data: str | Path, splits: Iterable[str], bad: str = STOP) -> ReadDataset:
    """Check a dataset before hours are spent on it.

    Args:
        data: See `load_dataset`.
        splits: The splits that will be used.
        bad: See `read_dataset`.

    Returns:
        The dataset, and how much is in each split.

    Raises:
        DataError: Something is missing or broken.
    """
    read = read_dataset(load_dataset(data, with_bar), splits, bad, with_bar)
    for said in (*read.check.sentences(), *read.check.first):
        LOGGER.warning(said)
    return read


def _amounts(read: ReadDataset) -> dict[str, str]:
    """Say how much is in each split."""
    return {split: _amount(samples) for split, samples in read.samples.items()}


def _amount(samples: Sequence[Sample]) -> str:
    objects = [len(sample.classes) for sample in samples]
    return f"{len(objects)} images, {sum(map(bool, objects))} of them with objects, {sum(objects)} objects"


def _check_amounts(file: Path, now: Mapping[str, str]) -> None:
    """Make sure that a run goes on with as much data as it began with; a label that is gone would go unnoticed.

    Args:
        file: Where the run wrote how much that was; runs of other programs have none.
        now: How much it is now.

    Raises:
        DataError: It is another amount.
    """
    try:
        began = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    if began != now:
        raise DataError(
            "The dataset is not as it was when this run began.",
            given="; ".join(f"{split}: {amount}" for split, amount in now.items()),
            expected="; ".join(f"{split}: {amount}" for split, amount in began.items()),
            fix="bring back what is missing, or name the dataset with data= to go on with what there is",
        )
