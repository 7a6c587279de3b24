"""Run Ultralytics so that untrusted files run no code, and nothing is downloaded or installed automatically.

Ultralytics' own weights are downloaded by their name, by `engine.assets` alone.

With `registry`, the only file that changes Ultralytics for the whole process; this one does so for as long as a thread
is in a guard. SECURITY.md says what it promises.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Generator, Iterator
from contextvars import ContextVar
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from ultralytics.nn import tasks
from ultralytics.nn.autobackend import AutoBackend
from ultralytics.nn.backends.base import BaseBackend
from ultralytics.utils import LOGGER, checks, downloads

from .errors import CheckpointError, DownloadError, ModelError
from .pickles import NETWORKS, load_label_cache
from .text import printable_message

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # reports to Microsoft; read when ONNX Runtime is imported
TELEMETRY = "openvino_telemetry"  # reports to Google from a fork, which may hang; OpenVINO runs without it

DATA_FORMATS = {"pt", "onnx", "dnn", "openvino"}  # files that are read; to other runtimes a model is a program
MOST_UNPACKED = 20  # times the size of a checkpoint's archive; torch.save does not compress, and weights shrink little
_torch_load, _torch_jit_load, _backend_init = torch.load, torch.jit.load, BaseBackend.__init__
_safe_load, _stock_restricted = tasks.torch_safe_load, tasks._SafeLoad.restricted

_trusted: ContextVar[bool | None] = ContextVar("trusted", default=None)  # None outside of a guard
_lock, _guards, _changes = threading.Lock(), 0, contextlib.ExitStack()
_END = object()


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
    """Return what a ``.pt`` file holds; reading it runs no code of the file's, unless it is trusted."""
    with guarded(trust):
        return tasks.torch_safe_load(str(path))[0]


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
        "Files are not downloaded.", given=url, expected="a local file", fix="download it yourself and give its path"
    )


_stock_asset, stock_download = downloads.attempt_download_asset, downloads.safe_download


def _local_asset(file: Any, *args: Any, **kwargs: Any) -> str:
    """Return a file that is there by its own name; Ultralytics would look for yolov5nu.pt in place of yolov5n.pt."""
    return str(file) if Path(file).exists() else str(_stock_asset(file, *args, **kwargs))


def _local_font(font: str = "Arial.ttf") -> Any:
    """Find a font on this machine; without the one that Ultralytics would download take another."""
    from . import fonts  # takes long to import

    with contextlib.suppress(DownloadError):
        if found := checks.check_font(font):
            return found
    return fonts.file(any_script="Unicode" in font)


def _load_checkpoint(weight: Any, safe_only: bool | None = None) -> Any:
    """Replace `torch_safe_load`; first check that the archive is complete, which PyTorch does not do."""
    if Path(weight).is_file() and zipfile.is_zipfile(weight):
        # torch.save does not compress; what unpacks to more would take long to read
        with zipfile.ZipFile(weight) as archive:
            if _unpacked(weight) <= Path(weight).stat().st_size and (damaged := archive.testzip()):
                raise zipfile.BadZipFile(f"{damaged} in the archive is not what was written")
    return _safe_load(weight, safe_only=restricted() if safe_only is None else safe_only)


def _unpacked(path: Any) -> int:
    with zipfile.ZipFile(path) as archive:
        return sum(entry.file_size for entry in archive.infolist())


def _load(f: Any, *args: Any, **kwargs: Any) -> Any:
    """Replace `torch.load`, which all loading ends up calling."""
    if not restricted():
        return _torch_load(f, *args, **kwargs)
    known = contextlib.nullcontext()
    if not hasattr(f, "read"):
        if zipfile.is_zipfile(f) and (times := _unpacked(f) / Path(f).stat().st_size) > MOST_UNPACKED:
            raise zipfile.BadZipFile(f"the archive unpacks to {times:.0f} times its size")
        known = tasks._SafeLoad.loading(f)
    with known:  # puts those classes of Ultralytics that the file names on the list of known ones
        return _torch_load(f, *args, **{**kwargs, "weights_only": False, "pickle_module": NETWORKS})


def _load_program(f: Any, *args: Any, **kwargs: Any) -> Any:
    """Replace `torch.jit.load`."""
    if restricted():
        raise _refused_program(f, "TorchScript")
    return _torch_jit_load(f, *args, **kwargs)  # type: ignore[no-untyped-call]


def _open_backend(self: BaseBackend, weight: Any, *args: Any, **kwargs: Any) -> None:
    """Replace the constructor of each of Ultralytics' runtimes."""
    if not isinstance(weight, nn.Module):
        check_exported(weight)
    _backend_init(self, weight, *args, **kwargs)


def check_exported(file: str | Path) -> None:
    """Refuse a model that is a program to its runtime, unless it is trusted.

    Args:
        file: A model of any format.

    Raises:
        CheckpointError: It is of another format than `DATA_FORMATS`.
    """
    kind = AutoBackend._model_type(str(file))
    if restricted() and kind and kind not in DATA_FORMATS:
        raise _refused_program(file, kind)


def _refused_program(file: object, kind: str) -> CheckpointError:
    return CheckpointError(
        "This exported model can run any code on this machine, so it was not opened.",
        given=f"{getattr(file, 'name', file)}, of the format {kind}",
        expected="a .pt, ONNX or OpenVINO model, which contain only data",
        fix="trust=True if you exported it yourself; if not, export the checkpoint yourself, or ask for an .onnx",
    )


def _print_safely(record: logging.LogRecord) -> bool:
    """Spell out control characters in Ultralytics' messages, which name classes and files."""
    record.msg, record.args = printable_message(record.getMessage()), ()
    return True


def _run_child(*args: Any, **kwargs: Any) -> Any:
    """Replace `subprocess.run` where Ultralytics starts a process for each GPU."""
    return subprocess.run(*args, **{"env": environment(), **kwargs})


def environment() -> dict[str, str]:
    """Return the environment for a process that is to be guarded as this one is now."""
    return {**os.environ, "YOLO_AUTOINSTALL": "False", "ULTRALYTICS_SAFE_LOAD": "True" if restricted() else ""}


def restricted() -> bool:
    """Say whether files may not run code here: inside a guard without trust, or because the environment says so."""
    trusted = _trusted.get()
    return bool(_stock_restricted()) if trusted is None else not trusted


@contextlib.contextmanager
def guarded(trust: bool = False) -> Iterator[None]:
    """Run Ultralytics so that untrusted files run no code, and nothing is downloaded or installed automatically.

    Pickles of checkpoints may fill objects with values and do nothing else, ``activation:`` is read as a literal
    ``nn.X(...)`` instead of being evaluated, exported models that are programs are refused, a dataset's ``download:``
    is not followed, and its label cache may hold data only. Processes that Ultralytics starts for several GPUs are
    restricted too. OpenVINO, where it is imported here, does not report its use. Also works as a decorator.

    Ultralytics is changed for the whole process for as long as any thread is in a guard; what is trusted is of the
    thread's own guard.

    Args:
        trust: Lift the restriction on checkpoints, the ``activation:`` in them and exported models, for files that you
            made yourself.
    """
    global _guards
    with _lock:
        if not _guards:
            _changes.enter_context(replaced(*_replacements()))
            _changes.enter_context(in_environment(YOLO_AUTOINSTALL="False", ULTRALYTICS_SAFE_LOAD="True"))
            _changes.enter_context(_without_telemetry())
            LOGGER.addFilter(_print_safely)
            _changes.callback(LOGGER.removeFilter, _print_safely)
        _guards += 1
    token = _trusted.set(trust and not tasks.SAFE_LOAD)
    try:
        yield
    finally:
        _trusted.reset(token)
        with _lock:
            _guards -= 1
            if not _guards:
                _changes.close()


def guarded_results(results: Generator[Any, None, None], trust: bool = False) -> Generator[Any, None, None]:
    """Yield what a generator of Ultralytics does, which runs in a guard of its own for each result.

    Args:
        results: The generator.
        trust: See `guarded`.
    """
    with contextlib.closing(results):
        while True:
            with guarded(trust):
                result = next(results, _END)
            if result is _END:
                return
            yield result


def _replacements() -> list[tuple[Any, str, Any]]:
    from ultralytics.data import dataset
    from ultralytics.data import utils as data_utils
    from ultralytics.engine import trainer
    from ultralytics.utils import plotting

    local: Any = data_utils.check_det_dataset
    return [
        (tasks, "torch_safe_load", _load_checkpoint),
        (torch, "load", _load),
        (torch.jit, "load", _load_program),
        (BaseBackend, "__init__", _open_backend),
        (tasks._SafeLoad, "restricted", restricted),
        (trainer, "subprocess", SimpleNamespace(**{**vars(subprocess), "run": _run_child})),
        (data_utils, "subprocess", SimpleNamespace(run=_refuse_download)),  # scripts that download a dataset
        (dataset, "load_dataset_cache_file", load_label_cache),
        (torch.hub, "download_url_to_file", _refuse_download),
        (downloads, "attempt_download_asset", _local_asset),
        (checks, "AUTOINSTALL", False),
        (local, "__defaults__", (False, *local.__defaults__[1:])),  # autodownload
        *((module, "safe_download", _refuse_download) for module in (downloads, data_utils)),
        *((module, "check_font", _local_font) for module in (data_utils, plotting)),
    ]


@contextlib.contextmanager
def _without_telemetry() -> Iterator[None]:
    """Let OpenVINO be imported without what reports its use, unless that was imported before."""
    if TELEMETRY in sys.modules:
        yield
        return
    sys.modules[TELEMETRY] = None  # type: ignore[assignment]  # importing it fails
    try:
        yield
    finally:
        sys.modules.pop(TELEMETRY, None)


@contextlib.contextmanager
def in_environment(**values: str) -> Iterator[None]:
    """Set variables of the environment while a block of code runs."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
