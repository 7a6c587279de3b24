"""The `YOLO` front: Ultralytics' own class, with blocks registered, restricted loading and readable errors."""

from __future__ import annotations

import ast
import contextlib
import zipfile
from pathlib import Path
from typing import Any

import torch
import ultralytics
from ultralytics.nn.backends.base import BaseBackend
from ultralytics.utils import ROOT as ULTRALYTICS_ROOT

from ..data.files import read_yaml
from ..errors import CheckpointError, ModelError, UnsupportedTaskError, YoloMHAError, check_flag, nearest, one_line
from ..guard import guarded, read_activation, read_checkpoint
from ..paths import given_path, shipped, without_scale
from ..registry import check_rows, does_not_build, find_model_yaml
from ..surgery.advice import warn_of_wide_attention
from .trainer import Trainer

REMOTE = ("http:", "https:", "ul:", "rtsp:", "grpc:")


class YOLO(ultralytics.YOLO):
    """A YOLO model whose YAML or checkpoint may hold attention blocks.

    Everything of `ultralytics.YOLO` works as it does there, with three differences: a checkpoint is read by the
    restricted loader, so that a stranger's file runs no code; nothing is downloaded or installed by itself; and
    detection models are trained by `Trainer`, whose checkpoints are written whole.

    Args:
        model: A model YAML, by path or by the bare name of one that ships with yolo-mha or Ultralytics, with the scale
            letter in it (``yolo11n-mha-p5.yaml``); or a checkpoint or exported model.
        task: The task, where the file does not tell.
        verbose: Whether to print the model's table.
        trust: Read a checkpoint with full pickle, for files that you made yourself.

    Raises:
        ModelError: The YAML is missing or wrong.
        CheckpointError: The checkpoint is missing, broken, or holds something that may not be loaded.
    """

    def __init__(
        self,
        model: str | Path = "yolo11n-mha-p5.yaml",
        task: str | None = None,
        verbose: bool = False,
        *,
        trust: bool = False,
    ) -> None:
        check_flag("trust", trust)
        self.trust, own_class = trust, type(self)
        file = existing(model)
        if file.endswith((".yaml", ".yml")):
            read_model_yaml(file)
        with guarded(trust):
            super().__init__(file, task=task, verbose=verbose)
        if type(self) is not own_class:  # Ultralytics turns the object into another class by file name or head
            other = type(self).__name__
            raise UnsupportedTaskError(
                f"{other} models are not covered here.",
                given=file,
                expected="a model of ultralytics.YOLO",
                fix=f"use ultralytics.{other}; with yolo_mha imported its YAMLs may name blocks too",
            )

    def _new(self, cfg: str, task: str | None = None, verbose: bool = False) -> None:
        try:
            super()._new(cfg, task=task, verbose=verbose)
        except YoloMHAError:
            raise
        except Exception as e:  # parse_model meets a wrong YAML with any kind of error
            raise does_not_build(cfg, e) from e
        with contextlib.suppress(Exception):  # a network that does not run at the size of the probe is no fault here
            warn_of_wide_attention(self.model)

    def _load(self, weights: str, task: str | None = None) -> None:
        try:
            super()._load(weights, task=task)
            if isinstance(self.model, torch.nn.Module) and not isinstance(getattr(self.model, "names", None), dict):
                raise TypeError(f"{type(self.model).__name__} is no YOLO model with class names")
            if size := _exported_imgsz(self.model):
                self.overrides["imgsz"] = size  # as a checkpoint brings its own; Ultralytics would take 640
        except Exception as e:  # a damaged file is met with any kind of error
            raise _checkpoint_error(Path(weights), e, self.trust) from e

    def load(self, weights: Any = "yolo11n.pt") -> YOLO:
        """Load weights from a checkpoint by name and shape, see `ultralytics.YOLO.load`."""
        if not isinstance(weights, (dict, torch.nn.Module)):
            weights = existing(weights)
            check_checkpoint(weights, self.trust)
        with guarded(self.trust):
            super().load(weights)
        return self

    def train(self, trainer: Any = None, **kwargs: Any) -> Any:
        """Train with `Trainer`, see `ultralytics.YOLO.train`."""
        if trainer is None and self.task == "detect":
            trainer = Trainer
        with guarded(self.trust):
            return super().train(trainer, **kwargs)

    def val(self, validator: Any = None, **kwargs: Any) -> Any:
        """Validate, see `ultralytics.YOLO.val`."""
        with guarded(self.trust):
            return super().val(validator, **kwargs)

    def predict(self, source: Any = None, stream: bool = False, predictor: Any = None, **kwargs: Any) -> Any:
        """Predict, see `ultralytics.YOLO.predict`; with ``stream=True`` the model is loaded before the first result."""
        with guarded(self.trust):
            return super().predict(source, stream, predictor, **kwargs)

    def export(self, **kwargs: Any) -> str:
        """Export, see `ultralytics.YOLO.export`; a missing package is reported, not installed."""
        with guarded(self.trust):
            return str(super().export(**kwargs))


def _exported_imgsz(model: Any) -> int | list[int] | None:
    """Return the image size that an exported model was made for, where it says so."""
    if isinstance(model, torch.nn.Module):
        return None
    size = BaseBackend.read_metadata(model).get("imgsz")
    size = ast.literal_eval(size) if isinstance(size, str) else size
    if not size:
        return None
    height, width = (int(v) for v in size)
    return height if height == width else [height, width]


def existing(model: str | Path) -> str:
    """Return a model's path or name, after making sure that it can be found on this machine."""
    name = str(given_path(model, "model")).strip()
    if name.startswith(REMOTE):
        raise ModelError("Models are not downloaded.", given=name, expected="a local file", fix="download it yourself")
    path = Path(name)
    if path.is_dir() and not path.name.endswith(("_model", ".mlpackage")):  # some exports are folders
        raise CheckpointError(f"{path} is a folder.", given=f"model={name}", expected="a .pt or .yaml file")
    if path.exists():
        return name
    if path.suffix in (".yaml", ".yml"):
        _find_yaml(name)
        return name
    if path.name == name and (shipped("weights") / name).is_file():
        return str(shipped("weights") / name)
    folder = path.parent if path.parent.is_dir() else Path.cwd()
    candidates = [str(p) for p in folder.glob("*") if p.suffix in (".pt", ".onnx", ".torchscript")]
    raise CheckpointError(
        "Model not found.",
        given=f"model={name}",
        expected=f"an existing file; {nearest(name, candidates)}" if candidates else "an existing .pt or .yaml",
        fix="give the path of a local file; pretrained weights are not downloaded, fetch them from "
        "https://github.com/ultralytics/assets/releases and name the file",
    )


def _find_yaml(name: str) -> Path:
    if path := find_model_yaml(name):
        return path
    folders = (shipped("cfg") / "models", ULTRALYTICS_ROOT / "cfg" / "models")
    known = [p.name for folder in folders for p in folder.rglob("*.yaml")]
    raise ModelError(
        "Model YAML not found.",
        given=f"model={name}",
        expected=f"an existing file or the name of a shipped model; {nearest(without_scale(Path(name).name), known)}",
    )


def read_model_yaml(name: str) -> dict[str, Any]:
    """Read and check a model YAML.

    Args:
        name: Path or bare name.

    Returns:
        Its content.

    Raises:
        ModelError: It is missing, no YAML, or names an unknown module or activation.
    """
    path = _find_yaml(name)
    content = read_yaml(path, ModelError, expected="nc:, backbone: and head:")
    content["yaml_file"] = name
    check_rows(content)
    if activation := content.get("activation"):
        read_activation(str(activation))
    return content


def check_checkpoint(path: str | Path, trust: bool = False) -> dict[str, Any]:
    """Make sure that a checkpoint can be read, and that reading it runs no code.

    Args:
        path: The ``.pt`` file.
        trust: Read it with full pickle.

    Returns:
        What it holds.

    Raises:
        CheckpointError: It is missing, no checkpoint, damaged, or names classes that are not on the list.
        ConfigError: ``trust`` is neither True nor False.
    """
    check_flag("trust", trust)
    path = Path(path)
    if not path.is_file():
        raise CheckpointError("Checkpoint not found.", given=path, expected="an existing .pt file")
    try:
        content: dict[str, Any] = read_checkpoint(path, trust)
        if not isinstance(content.get("ema") or content.get("model"), torch.nn.Module):
            raise TypeError(f"a dictionary of {', '.join(map(str, list(content)[:5]))}, without a model")
    except Exception as e:
        raise _checkpoint_error(path, e, trust) from e
    return content


def _checkpoint_error(path: Path, error: Exception, trust: bool) -> CheckpointError:
    """Say in one sentence why a checkpoint was not loaded."""
    if not zipfile.is_zipfile(path):
        return CheckpointError(
            f"{path} is not a PyTorch checkpoint.",
            given=f"{path.stat().st_size} bytes that are no torch.save() archive",
            expected="a .pt file written by training",
            fix="copy or download the file again; an old-style pickle is not read, because loading it can run code",
        )
    if not trust and (refused := _refused_classes(path)):
        names = ", ".join(refused[:5])
        if any(name.startswith("__main__.") for name in refused):
            return CheckpointError(
                f"{path} holds classes of the script that trained it, which nothing else can import.",
                given=names,
                expected="blocks in a module of their own",
                fix="move the class into a module, import it there and train again",
            )
        return CheckpointError(
            f"{path} holds classes that may run code, so it was not loaded.",
            given=names,
            expected="classes of torch, Ultralytics and yolo-mha, or blocks that you registered",
            fix="import the module that registers your blocks (on the command line: blocks=my_module), or pass "
            "trust=True if you made this file yourself",
        )
    return CheckpointError(
        f"{path} is damaged, or no YOLO checkpoint.",
        given=one_line(error),
        expected="a checkpoint written by training, which holds the model itself",
        fix="copy the file again, or train one",
    )


def _refused_classes(path: Path) -> list[str]:
    """Name what the restricted loader refused: what is not on its list after it has tried, foreign classes first."""
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # the archive is damaged, which the caller reports
        return []
    return [n for n in names if not n.startswith(("torch.", "ultralytics.", "numpy."))] or list(names)


def require_detection(task: str | None, command: str) -> None:
    """Refuse other tasks than box detection.

    Raises:
        UnsupportedTaskError: ``task`` is another one.
    """
    if task != "detect":
        raise UnsupportedTaskError(
            f"{command} scores box detection only.",
            given=f"a model for the task '{task}'",
            expected="a detection model",
            fix=f"use Ultralytics' own command for this task: yolo {task} {command} model=...",
        )
