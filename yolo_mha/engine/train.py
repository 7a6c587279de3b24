"""Training from settings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn
from ultralytics.utils.callbacks import default_callbacks

from ..data.dataset import Dataset, load_dataset, read_split
from ..errors import CheckpointError, ConfigError, DataError, nearest, run_failed
from ..guard import guarded
from ..result import Result
from ..surgery import Transfer
from ..surgery.insertion import BLOCK, block_options, block_row, insert_blocks
from ..surgery.places import split as split_places
from ..surgery.rows import blocks
from ..surgery.text import edit_text
from ..surgery.transfer import reported
from . import settings as config
from .freeze_base import FreezeBase, check_freeze_base
from .insert import model_text, name_suffix
from .model import YOLO, check_checkpoint
from .own_settings import checked
from .progress import with_bar
from .record import Record, recorded
from .run_folder import run_folder, taken

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
    """

    save_dir: str
    best: str
    last: str
    epochs: int
    metrics: dict[str, float]
    transfer: Transfer | None = None


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
    callbacks = _check_callbacks(callbacks or {})
    options = config.take_block_options(settings, at, block)
    passed = config.check({**settings, "resume": resume}, own=("at", "block", "freeze_base", *block_options(block)))
    passed.pop("resume")
    if resume:
        checkpoint = Path(str((model or "") if resume is True else resume))
        if checkpoint.suffix != ".pt":
            raise ConfigError(
                "resume needs a checkpoint.",
                given=f"resume={resume}" if model is None else f"model={model} resume={resume}",
                expected="resume=path/to/last.pt",
                fix="name the last.pt in the weights folder of the run, for example runs/detect/train/weights/last.pt",
            )
        if at is not None or freeze_base:
            raise ConfigError(
                "An interrupted run goes on as it began.",
                given=_words({"resume": resume, "at": at, "freeze_base": freeze_base}),
                expected="resume= without at= and freeze_base=",
                fix=f"to put blocks into what was trained, start a new run: model={checkpoint} at=...",
            )
        return _resume(checkpoint, data, passed, trust, callbacks)
    if model is None:
        raise ConfigError("model is missing.", expected="model=yolo11n-mha-p5.yaml, or another YAML or checkpoint")
    if data is None:
        raise ConfigError("data is missing.", expected="data=path/to/data.yaml", fix="name your dataset's YAML")
    network = YOLO(model, trust=trust)
    if not isinstance(network.model, nn.Module):
        raise ConfigError("An exported model cannot be trained.", given=f"model={model}", expected="a .pt or .yaml")
    if isinstance(passed.get("pretrained"), (str, Path)):
        check_checkpoint(passed["pretrained"], trust)
    if network.task == "detect":
        data = check_dataset(data, ("train", passed.get("split", "val"))).yaml
    elif network.task == "classify" and not Path(data).is_dir():
        raise DataError("Dataset folder not found.", given=f"data={data}", expected="an existing folder of images")
    record = Record(str(model), freeze_base, rows=blocks(network.model.yaml))  # type: ignore[arg-type]
    if at is not None:
        _insert(network, split_places(at), block_row(block, options), passed, record)
    check_freeze_base(freeze_base, record.rows, passed.get("freeze"))
    with run_folder(passed, "train", f"runs/{network.task}") as folder:
        return _run(network, {**passed, **taken(folder), "data": str(data)}, record, callbacks)


def _insert(network: YOLO, places: list[str], row: list[Any], passed: dict[str, Any], record: Record) -> None:
    """Put blocks into what will be trained."""
    text = model_text(record.base, network.model.yaml)
    network.model, plan = insert_blocks(network.model, places, row)
    name = f"{Path(record.base).stem}{name_suffix(row[2], places)}.yaml"
    network.model.yaml["yaml_file"] = name
    record.at, record.yaml = places, (name, edit_text(text, plan))
    record.rows = [plan.output[host] for host in plan.hosts]
    # with `ckpt` set Ultralytics takes the architecture from this object, and the weights from `pretrained`
    if passed.get("pretrained", True) is True:
        passed["pretrained"] = str(network.ckpt_path) if network.ckpt else False
    network.ckpt = network.ckpt or {"model": network.model}


def _resume(
    checkpoint: Path, data: str | Path | None, passed: dict[str, Any], trust: bool, callbacks: Callbacks
) -> TrainResult:
    check_checkpoint(checkpoint, trust)
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
    data = data or arguments.get("data")
    if network.task == "detect":
        data = check_dataset(data, ("train", arguments.get("split") or "val")).yaml  # type: ignore[arg-type]
    # the run's folder is recorded as it was when the run began; it may have been moved since
    save_dir = checkpoint.resolve().parent.parent
    began = recorded(save_dir)
    record = Record(str(checkpoint), began.get("freeze_base", 0), rows=began.get("rows", []))
    passed = {**passed, "resume": str(checkpoint), "data": str(data), "save_dir": str(save_dir)}
    return _run(network, passed, record, callbacks)


def _run(network: YOLO, settings: dict[str, Any], record: Record, callbacks: Callbacks) -> TrainResult:
    if record.freeze_base:
        FreezeBase(record.freeze_base, record.rows).add_to(network)
    if not settings.get("resume") and (record.at or record.freeze_base):
        network.add_callback("on_pretrain_routine_end", record)
    for event, function in callbacks.items():
        network.add_callback(event, function)
    try:
        with reported() as record.transfers:
            network.train(**settings)
    except Exception as e:  # whatever Ultralytics meets on the way
        raise run_failed("Training", e) from e
    trainer = network.trainer
    metrics = getattr(network.metrics, "results_dict", network.metrics) or {}  # a plain dict after several GPUs
    return TrainResult(
        save_dir=str(trainer.save_dir),
        best=str(trainer.best),
        last=str(trainer.last),
        epochs=len(trainer.csv.read_text().splitlines()) - 1 if trainer.csv.exists() else 0,
        metrics={k: round(float(v), 5) for k, v in metrics.items()},
        transfer=record.transfers[-1] if record.transfers else None,
    )


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


def _words(settings: dict[str, Any]) -> str:
    return " ".join(f"{k}={v}" for k, v in settings.items() if v)


def check_dataset(data: str | Path, splits: Iterable[str] = ("train", "val")) -> Dataset:
    """Check a dataset before hours are spent on it.

    Args:
        data: See `load_dataset`.
        splits: The splits that will be used.

    Raises:
        DataError: Something is missing or broken.
    """
    dataset = load_dataset(data, with_bar)
    for split in splits:
        read_split(dataset, split, with_bar)
    return dataset
