"""Ultralytics so that a stranger's file runs no code, and nothing is downloaded or installed by itself.

With `registry`, the only file that changes Ultralytics for the whole process; this one does so for a while.
"""

from __future__ import annotations

import contextlib
import functools
import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from ultralytics.nn import tasks
from ultralytics.utils import checks, downloads

from .errors import DownloadError, ModelError

_SAFE_LOAD_AT_START = tasks.SAFE_LOAD


def read_activation(spec: str) -> nn.Module:
    """Read an ``activation:`` entry as a literal ``nn.X(...)``; nothing is evaluated.

    Raises:
        ModelError: It is anything else.
    """
    try:
        activation: nn.Module = tasks._SafeLoad.activation(spec)
    except TypeError as e:
        raise ModelError(
            "This activation is not allowed.",
            given=f"activation: {spec}",
            expected="one torch.nn class with literal arguments, for example nn.LeakyReLU(0.1)",
        ) from e
    return activation


def read_checkpoint(path: str | Path, trust: bool = False) -> Any:
    """Return what a ``.pt`` file holds, read by Ultralytics' restricted loader unless it is trusted."""
    with guarded(trust):
        return tasks.torch_safe_load(str(path), safe_only=not trust)[0]


@contextlib.contextmanager
def replaced(*changes: tuple[Any, str, Any]) -> Iterator[None]:
    """Set attributes of objects for a while.

    Args:
        *changes: Object, attribute and value.
    """
    previous = [(owner, name, getattr(owner, name)) for owner, name, _ in changes]
    try:
        for owner, name, value in changes:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in reversed(previous):
            setattr(owner, name, value)


def _refuse_download(url: object = None, *_: Any, **__: Any) -> None:
    raise DownloadError(
        "Nothing is downloaded.", given=url, expected="a local file", fix="download it yourself and give its path"
    )


_stock_asset = downloads.attempt_download_asset


def _local_asset(file: Any, *args: Any, **kwargs: Any) -> str:
    """Return a file that is there by its own name; Ultralytics would look for yolov5nu.pt in place of yolov5n.pt."""
    return str(file) if Path(file).exists() else str(_stock_asset(file, *args, **kwargs))


def _local_font(font: str = "Arial.ttf") -> Any:
    """Find a font on this machine; without one Ultralytics draws with its default."""
    try:
        return checks.check_font(font)
    except DownloadError:
        return None


class _CacheUnpickler(pickle.Unpickler):
    """Read numpy arrays and plain types, and nothing that could run code."""

    ALLOWED = frozenset(
        (f"numpy.{core}.{module}", name)
        for core in ("core", "_core")
        for module, name in (("multiarray", "_reconstruct"), ("multiarray", "scalar"), ("numeric", "_frombuffer"))
    ) | {("numpy", "ndarray"), ("numpy", "dtype")}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in self.ALLOWED:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} does not belong in a label cache")


def _load_label_cache(path: Path) -> Any:
    """Read the label cache that Ultralytics keeps beside a dataset, a pickled dictionary within a .npy file.

    Where it holds anything else, this is a FileNotFoundError, and Ultralytics makes it anew.
    """
    with open(path, "rb") as file:
        try:
            version = np.lib.format.read_magic(file)
            read_header = (
                np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            )
            read_header(file)
            return _CacheUnpickler(file).load().item()
        except Exception as e:  # whatever the file is, it is no cache of Ultralytics'
            raise FileNotFoundError(f"{path} is not used: {e}") from e


def restricted() -> bool:
    """Say whether checkpoints are read by the restricted loader now."""
    return bool(tasks.SAFE_LOAD)


@contextlib.contextmanager
def guarded(trust: bool = False) -> Iterator[None]:
    """Run Ultralytics so that a stranger's file runs no code, and nothing is downloaded or installed by itself.

    Checkpoints are read by Ultralytics' restricted loader, ``activation:`` is read as a literal ``nn.X(...)`` instead
    of being evaluated, a dataset's ``download:`` is not followed, and its label cache may hold data only. Processes
    that Ultralytics starts for several GPUs inherit the first two. Also works as a decorator.

    Args:
        trust: Lift the restriction on checkpoints and the ``activation:`` in them, for files that you made yourself.
    """
    from ultralytics.data import dataset
    from ultralytics.data import utils as data_utils
    from ultralytics.engine import exporter, trainer, validator
    from ultralytics.utils import plotting

    local_only = functools.partial(data_utils.check_det_dataset, autodownload=False)
    safe_load = _SAFE_LOAD_AT_START or not trust
    environment = dict(os.environ)
    os.environ.update(YOLO_AUTOINSTALL="False", ULTRALYTICS_SAFE_LOAD="True" if safe_load else "")
    try:
        with replaced(
            (tasks, "SAFE_LOAD", safe_load),
            (dataset, "load_dataset_cache_file", _load_label_cache),
            (torch.hub, "download_url_to_file", _refuse_download),
            (downloads, "attempt_download_asset", _local_asset),
            (checks, "AUTOINSTALL", False),
            *((module, "check_det_dataset", local_only) for module in (trainer, validator, exporter)),
            *((module, "safe_download", _refuse_download) for module in (downloads, data_utils)),
            *((module, "check_font", _local_font) for module in (data_utils, plotting)),
        ):
            yield
    finally:
        for name in ("YOLO_AUTOINSTALL", "ULTRALYTICS_SAFE_LOAD"):
            if name in environment:
                os.environ[name] = environment[name]
            else:
                os.environ.pop(name, None)
