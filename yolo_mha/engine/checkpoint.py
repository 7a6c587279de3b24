"""Reading checkpoints without running any of their code, and saying in one sentence why one cannot be read."""

from __future__ import annotations

import contextlib
import pickle
from pathlib import Path
from typing import Any, TypedDict

import torch

from ..errors import CheckpointError, YoloMHAError, check_flag, one_line
from ..guard import read_checkpoint
from ..registry import Network
from .foreign import described, file_format, framework


class Checkpoint(TypedDict, total=False):
    """The part of an Ultralytics checkpoint that is used here."""

    model: Network
    ema: Network | None


def check_checkpoint(path: str | Path, trust: bool = False) -> Checkpoint:
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
        content: Checkpoint = read_checkpoint(path, trust)
        if not _model_in(content):
            raise TypeError("it holds no model")
    except YoloMHAError:
        raise
    except Exception as e:
        raise checkpoint_error(path, e, trust) from e
    return content


def checkpoint_error(path: Path, error: Exception, trust: bool) -> CheckpointError:
    """Say in one sentence why a checkpoint was not loaded.

    Args:
        path: The file.
        error: What reading it raised.
        trust: Whether it was read with full pickle.
    """
    if kind := file_format(path):
        return CheckpointError(
            f"{path} is not a PyTorch checkpoint.",
            given=kind,
            expected="a .pt file written by training",
            fix="copy or download the file again, or name the right one",
        )
    if not trust and (refused := _refused_classes(path, error)):
        names = ", ".join(refused[:5])
        if made := framework(refused):
            return CheckpointError(
                f"{path} is a checkpoint of {made}, not of Ultralytics.",
                given=names,
                expected="a checkpoint of Ultralytics 8 or newer; its YOLOv5 models have names such as yolov5nu.pt",
                fix="train an Ultralytics model, or run this one with the program that trained it",
            )
        if any(name.startswith("__main__.") for name in refused):
            return CheckpointError(
                f"{path} needs classes that were defined in the training script, which cannot be imported.",
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
    with contextlib.suppress(Exception):  # what cannot be read is damaged
        if not _model_in(content := read_checkpoint(path, trust)):
            return CheckpointError(
                f"{path} does not contain an Ultralytics model.",
                given=described(content),
                expected="a checkpoint written by Ultralytics, which contains the whole model",
                fix="give such a checkpoint, or train one",
            )
    return CheckpointError(
        f"{path} is damaged or is not a YOLO checkpoint.",
        given=one_line(error),
        expected="a checkpoint written by training, which contains the whole model",
        fix="copy the file again, or train one",
    )


def _model_in(content: Any) -> bool:
    return isinstance(content, dict) and isinstance(content.get("ema") or content.get("model"), torch.nn.Module)


def _refused_classes(path: Path, error: Exception) -> list[str]:
    """Name what the restricted loader refused: what is not on its list after it has tried, foreign classes first."""
    if not isinstance(error.__cause__, pickle.UnpicklingError):
        return []
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # the archive is damaged, which the caller reports
        return []
    foreign = [n for n in names if not n.startswith(("torch.", "ultralytics.", "numpy."))]
    return foreign or [*names, str(error.__cause__)]
