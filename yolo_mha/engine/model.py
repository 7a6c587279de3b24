"""The `YOLO` front: Ultralytics' own class, with blocks registered, restricted loading and readable errors."""

from __future__ import annotations

import ast
import contextlib
import functools
import inspect
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import ultralytics
from ultralytics.cfg import MODES
from ultralytics.nn.backends.base import BaseBackend
from ultralytics.utils import LOGGER
from ultralytics.utils import ROOT as ULTRALYTICS_ROOT

from ..data.links import source_of
from ..errors import (
    CheckpointError,
    ConfigError,
    ModelError,
    UnsupportedTaskError,
    YoloMHAError,
    check_flag,
    nearest,
)
from ..guard import check_exported, guarded, guarded_results, read_activation, replaced
from ..paths import given_path, shipped, without_scale
from ..registry import ModelYAML, Network, check_rows, does_not_build, find_model_yaml, scale_letter
from ..row_errors import BoundedMaps
from ..surgery.advice import warn_of_wide_attention
from ..surgery.insertion import BLOCK, Insertion
from ..surgery.rows import blocks, moved_freeze
from ..surgery.transfer import Transfer, reported
from ..yaml_files import read_yaml
from .assets import NAMES as OFFICIAL
from .assets import fetched
from .checkpoint import check_checkpoint, checkpoint_error
from .epoch_seeds import EpochSeeds
from .freeze_base import FreezeBase, check_freeze_base
from .record import CODE_FILE, Record
from .trainer import Trainer

NAMED = (".onnx", ".torchscript", ".engine", "_openvino_model")  # exported models that hold the names of their classes
REMOTE = ("http:", "https:", "ul:", "rtsp:", "grpc:")


class YOLO(ultralytics.YOLO):
    """A YOLO model whose YAML or checkpoint may hold attention blocks.

    Everything of `ultralytics.YOLO` works as it does there, with five differences: a stranger's file runs no code, so
    exported models that are programs need ``trust``; nothing is installed by itself, and nothing downloaded but
    Ultralytics' own weights by their name; `benchmark` and
    `tune` are refused; detection models are trained by `Trainer`, whose checkpoints are written whole; and `insert`
    puts attention in.

    Example:
        >>> yolo_mha.YOLO("yolo11n.pt").insert("P5", num_heads=8).train(data="data.yaml", freeze_base=2)

    Attributes:
        transfer: What became of the pretrained weights in the last training, where the model has blocks.
        model: The network, or the path of an exported model.
        ckpt: Content of the checkpoint that it is from, if it is from one.
        ckpt_path: Its path.
        predictor: What runs it, once it has run.
        own_nms: Whether it is a model that was exported with ``nms=True``.

    Args:
        model: A model YAML, by path or by the bare name of one that ships with yolo-mha or Ultralytics, with the scale
            letter in it (``yolo11n-mha-p5.yaml``); or a checkpoint or exported model. Ultralytics' own weights
            (``yolo11n.pt``) that are not here are downloaded into the working directory.
        task: The task, where the file does not tell.
        verbose: Whether to print the model's table.
        trust: Read a checkpoint with full pickle, and open exported models that are programs (TorchScript, TensorRT and
            all but ONNX and OpenVINO), for files that you made yourself.

    Raises:
        ModelError: The YAML is missing or wrong.
        CheckpointError: The file is missing, broken, or may not be opened.
        DownloadError: It cannot be downloaded.
    """

    model: Any
    ckpt: Any
    ckpt_path: Any
    predictor: Any
    own_nms = False

    def __init__(
        self,
        model: str | Path = "yolo11n-mha-p5.yaml",
        task: str | None = None,
        verbose: bool = False,
        *,
        trust: bool = False,
    ) -> None:
        check_flag("trust", trust)
        self.trust = trust
        self.transfer: Transfer | None = None
        self._record = Record(str(model))
        file = existing(model)
        if file.endswith((".yaml", ".yml")):
            _check_covered(str(read_model_yaml(file)["head"][-1][2]), file)
        with guarded(trust):  # Ultralytics' own constructor takes a model for another class by its file's name
            super(ultralytics.YOLO, self).__init__(file, task=task, verbose=verbose)

    def _new(self, cfg: str, task: str | None = None, verbose: bool = False) -> None:
        try:
            with BoundedMaps():
                super()._new(cfg, task=task, verbose=verbose)
        except YoloMHAError:
            raise
        except Exception as e:  # parse_model meets a wrong YAML with any kind of error
            raise does_not_build(cfg, e) from e
        with contextlib.suppress(Exception):  # a network that does not run at the size of the probe is no fault here
            warn_of_wide_attention(self.model)

    def _load(self, weights: str, task: str | None = None) -> None:
        try:
            check_exported(weights)
            super()._load(weights, task=task)
            if isinstance(self.model, torch.nn.Module) and not isinstance(getattr(self.model, "names", None), dict):
                raise TypeError(f"{type(self.model).__name__} is no YOLO model with class names")
            exported = {} if isinstance(self.model, torch.nn.Module) else BaseBackend.read_metadata(self.model)
            if not isinstance(self.model, torch.nn.Module):
                _require_names(exported, weights)
            self.own_nms = "'nms': True" in str(exported.get("args"))
            if size := exported.get("imgsz"):  # as a checkpoint brings its own; Ultralytics would take 640
                height, width = map(int, ast.literal_eval(size) if isinstance(size, str) else size)
                self.overrides["imgsz"] = height if height == width else [height, width]
            layers = getattr(self.model, "model", None)
            _check_covered(type(layers[-1]).__name__ if layers else str(exported.get("head", "")), weights)
        except YoloMHAError:
            raise
        except Exception as e:  # a damaged file is met with any kind of error
            raise checkpoint_error(Path(weights), e, self.trust) from e

    def load(self, weights: Any = "yolo11n.pt") -> YOLO:
        """Load weights from a checkpoint by name and shape, see `ultralytics.YOLO.load`."""
        if not isinstance(weights, (dict, torch.nn.Module)):
            weights = existing(weights)
            check_checkpoint(weights, self.trust)
        with guarded(self.trust):
            super().load(weights)
        return self

    def insert(self, at: str | Iterable[str], *, block: str = BLOCK, **options: Any) -> YOLO:
        """Put attention into the model; all of its weights are kept.

        With the default gate of zero the outputs are the same as before. Training then begins with the weights of the
        model's checkpoint, and keeps a record of the insertion in the run's folder.

        Args:
            at: Where, see `yolo_mha.insert`.
            block: Class name of a registered block.
            **options: Arguments of the block, see `SpatialMHABlock`.

        Returns:
            The model itself.

        Raises:
            ConfigError: A place or an option is unknown or unusable, or this is an exported model.
            ModelError: The block does not fit the layer.
        """
        network = self._network("changed")
        with guarded(self.trust):
            self.model = self._record.insert(Insertion(at, block, options), network)
        self.predictor = None  # it holds the network as it was
        return self

    def train(self, trainer: Any = None, *, freeze_base: int = 0, **kwargs: Any) -> Any:
        """Train with `Trainer`, see `ultralytics.YOLO.train`.

        Args:
            trainer: Another trainer's class.
            freeze_base: Number of first epochs in which the blocks train alone; those of `insert`, or all where there
                are no such.
            **kwargs: Any training setting of Ultralytics.

        Raises:
            ConfigError: ``freeze_base`` does not fit the model or the other settings, or this is an exported model.
        """
        network, record, resume = self._network("trained"), self._record, kwargs.get("resume")
        if isinstance(kwargs.get("pretrained"), (str, Path)):
            kwargs["pretrained"] = existing(kwargs["pretrained"], "pretrained")
        if trainer is None and self.task == "detect":
            trainer = Trainer
        if resume and (resume is not True or (self.ckpt or {}).get("optimizer")):  # the run may have been moved since
            last = Path(str(self.ckpt_path if resume is True else resume))
            own = [c for c in self.callbacks["on_train_epoch_start"] if isinstance(c, EpochSeeds)]
            check_goes_on_as_it_began(last, record.at, freeze_base, own)
            data = kwargs.get("data") or ((self.ckpt or {}).get("train_args") or {}).get("data")
            # say which: the checkpoint may come from somebody else and name any folder
            LOGGER.info(f"the run continues with data={source_of(data)}")
            record = Record.read(last.resolve().parents[1])
            events: list[tuple[str, Callable[[Any], None]]] = []
        else:
            record = replace(record, freeze_base=freeze_base, rows=record.rows or blocks(network.yaml), transfers=[])
            given = kwargs.get("freeze")
            check_freeze_base(freeze_base, record.rows, given)
            if (freeze := moved_freeze(given, network.yaml)) != given:
                kwargs["freeze"] = freeze
                LOGGER.info(
                    f"freeze={given} counts rows without the blocks, so rows {freeze} are frozen and the blocks train"
                )
            events = [("on_pretrain_routine_end", record)]
        if record.at:  # with `ckpt` set Ultralytics takes the rows from this object, and the weights from `pretrained`
            if kwargs.get("pretrained", True) is True:
                kwargs["pretrained"] = str(self.ckpt_path) if self.ckpt_path else bool(self.ckpt)
            self.ckpt = self.ckpt or {"model": network}
        if record.freeze_base:
            base = FreezeBase(record.freeze_base, record.rows)
            events += [("on_pretrain_routine_end", base.start), ("on_train_epoch_start", base.end)]
        callbacks = self.callbacks.copy()
        for event, function in events:
            callbacks[event] = [*callbacks[event], function]
        with guarded(self.trust), replaced((self, "callbacks", callbacks)), reported() as record.transfers:
            metrics = super().train(trainer, **kwargs)
        self.transfer = record.transfers[-1] if record.transfers else None
        self.ckpt_path = self.overrides["model"]  # where what was trained is
        self._record = Record(str(self.ckpt_path))
        return metrics

    def _network(self, work: str) -> Network:
        if isinstance(self.model, str):
            given = f"model={self.model}"
            raise ConfigError(f"An exported model cannot be {work}.", given=given, expected="a .pt or .yaml")
        network: Network = self.model
        return network

    def export(self, **kwargs: Any) -> str:
        """Export, see `ultralytics.YOLO.export`; a missing package is reported, not installed."""
        with guarded(self.trust):
            return str(super().export(**kwargs))


# Classes of Ultralytics for other models, by what is in the name of a head of theirs.
OTHER_CLASSES = {"World": "YOLOWorld", "YOLOE": "YOLOE", "RTDETR": "RTDETR"}


def _check_covered(head: str, file: str) -> None:
    """Refuse a model that another class of Ultralytics is for, by the class of its head."""
    if other := next((other for part, other in OTHER_CLASSES.items() if part in head), ""):
        raise UnsupportedTaskError(
            f"{other} models are not supported by yolo_mha.YOLO.",
            given=f"{file}, with the head {head}",
            expected="a model of ultralytics.YOLO",
            fix=f"use ultralytics.{other}; after import yolo_mha, its YAMLs can contain blocks too",
        )


# Methods of Ultralytics that are refused, and what does their work here.
REFUSED = {
    "benchmark": "yolo_mha.benchmark(model=..., data=...); ultralytics.YOLO does it without restrictions",
    "tune": "yolo_mha.compare, or train with other settings; ultralytics.YOLO does it without restrictions",
}


def _guarded(stock: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method of Ultralytics that is guarded for as long as its results are consumed, or that is refused."""
    name = stock.__name__

    @functools.wraps(stock)
    def method(self: YOLO, *args: Any, **kwargs: Any) -> Any:
        if name in REFUSED:
            raise ConfigError(
                f"{name} is not supported here: in Ultralytics it can run code from an untrusted file.",
                given=f"YOLO.{name}()",
                expected=REFUSED[name],
            )
        with guarded(self.trust):
            result = stock(self, *args, **kwargs)
        return guarded_results(result, self.trust) if isinstance(result, Generator) else result

    return method


def _guarded_property(stock: property) -> property:
    def get(self: YOLO) -> Any:
        with guarded(self.trust):
            return stock.__get__(self)

    return property(get, doc=stock.__doc__)


def _guard_methods() -> None:
    """Guard or refuse what `YOLO` inherits from Ultralytics, methods of newer versions too."""
    for owner in (c for c in ultralytics.YOLO.__mro__ if c.__module__.startswith("ultralytics.")):
        for name, member in vars(owner).items():
            if not name.startswith("_") and name not in vars(YOLO):
                if isinstance(member, property):
                    setattr(YOLO, name, _guarded_property(member))
                elif inspect.isfunction(member):
                    setattr(YOLO, name, _guarded(member))


_guard_methods()


def existing(model: str | Path, key: str = "model") -> str:
    """Return a model's path or name, after making sure that it is on this machine; official weights are downloaded.

    Args:
        model: What was given.
        key: The setting's name, for the message.
    """
    name = str(given_path(model, key)).strip()
    if name.startswith(REMOTE):
        raise ModelError(
            "Models are not downloaded from a URL.",
            given=f"{key}={name}",
            expected="a local file, or the name of Ultralytics' own weights, such as yolo11n.pt",
            fix="download it yourself and give its path",
        )
    path = Path(name)
    if path.exists() and not path.is_file() and not path.is_dir():
        raise CheckpointError(f"{path} is a pipe or a device.", given=f"{key}={name}", expected="a .pt or .yaml file")
    if path.is_dir() and not path.name.endswith(("_model", ".mlpackage")):  # some exports are folders
        raise CheckpointError(f"{path} is a folder.", given=f"{key}={name}", expected="a .pt or .yaml file")
    if path.exists():
        return name
    if path.suffix in (".yaml", ".yml"):
        _find_yaml(name)
        return name
    if path.name == name and (shipped("weights") / name).is_file():
        return str(shipped("weights") / name)
    if name in OFFICIAL:
        return str(fetched(name))
    folder = path.parent if path.parent.is_dir() else Path.cwd()
    candidates = [str(p) for p in folder.glob("*") if p.suffix in (".pt", ".onnx", ".torchscript")]
    near = nearest(name, {*candidates, *OFFICIAL})
    near = near if near.startswith("did") else nearest(name, candidates) if candidates else ""
    raise CheckpointError(
        "Model not found.",
        given=f"{key}={name}",
        expected=f"an existing file; {near}" if near else "an existing .pt or .yaml",
        fix="give the path of a local file, or the bare name of official weights, such as yolo11n.pt",
    )


def _find_yaml(name: str) -> Path:
    if path := find_model_yaml(name):
        return path
    folders = (shipped("cfg") / "models", ULTRALYTICS_ROOT / "cfg" / "models")
    known = [p.name for folder in folders for p in folder.rglob("*.yaml")]
    if name.endswith(".yml") and find_model_yaml(right := f"{name.removesuffix('.yml')}.yaml"):
        known = [right]
    raise ModelError(
        "Model YAML not found.",
        given=f"model={name}",
        expected=f"an existing file or the name of a shipped model; {nearest(without_scale(Path(name).name), known)}",
    )


def read_model_yaml(name: str) -> ModelYAML:
    """Read and check a model YAML.

    Args:
        name: Path or bare name.

    Returns:
        Its content.

    Raises:
        ModelError: It is missing, no YAML, or names an unknown module or activation.
    """
    path = _find_yaml(name)
    read = read_yaml(path, ModelError, expected="nc:, backbone: and head:")
    content = check_rows({**read, "yaml_file": name, "scale": scale_letter(name)})
    if activation := content.get("activation"):
        read_activation(str(activation))
    return content


def _require_names(exported: Mapping[str, Any], file: str) -> None:
    """Refuse an exported model that does not say what it detects; Ultralytics would invent the names.

    Raises:
        CheckpointError: It is a file of a kind that can say so, and does not.
    """
    if not exported.get("names") and file.rstrip("/").endswith(NAMED):
        raise CheckpointError(
            f"{file} does not name its classes.",
            given="a file without Ultralytics' metadata, or a damaged one",
            expected="a model that yolo-mha or Ultralytics exported",
            fix="export the checkpoint again",
        )


def check_goes_on_as_it_began(last: Path, at: object, freeze_base: object, callbacks: object) -> None:
    """Refuse what would change an interrupted run.

    Args:
        last: Its checkpoint.
        at: Places where blocks are to be put.
        freeze_base: Number of epochs in which the base is to be frozen.
        callbacks: Those with which `compare` trains, if it does.

    Raises:
        ConfigError: Blocks are to be put in, or the base is to be frozen; or the run is one of a comparison.
    """
    if at or freeze_base:
        given = {"resume": last, "at": at, "freeze_base": freeze_base}
        raise ConfigError(
            "at and freeze_base cannot be changed when a run is resumed.",
            given=" ".join(f"{k}={v}" for k, v in given.items() if v),
            expected="resume= without at= and freeze_base=",
            fix="to insert blocks into the trained model, start a new run: model=path/to/last.pt at=...",
        )
    if not callbacks and (last.resolve().parent.parent / CODE_FILE).is_file():
        raise ConfigError(
            "This run is one of a comparison, and would not be trained as its other runs are.",
            given=f"resume={last}",
            expected="a run of train",
            fix="call compare again as before: it goes on with its runs; or begin a run of your own with model=",
        )


def require_detection(task: str | None, command: str) -> None:
    """Refuse other tasks than box detection.

    Raises:
        UnsupportedTaskError: ``task`` is another one.
    """
    if task != "detect":
        own = f"yolo {task} {command} model=..."
        raise UnsupportedTaskError(
            f"{command} scores box detection only.",
            given=f"a model for the task '{task}'",
            expected="a detection model",
            fix=f"use Ultralytics' own command for this task: {own}" if command in MODES else None,
        )
