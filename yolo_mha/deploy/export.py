"""Export to other runtimes, followed by a proof in the target runtime."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import nn
from ultralytics.cfg import get_cfg
from ultralytics.nn.backends.base import BaseBackend
from ultralytics.utils import LOGGER
from ultralytics.utils.checks import check_imgsz

from ..data.files import write_text
from ..data.yolo import Dataset, load_dataset, read_split
from ..engine import settings as config
from ..engine.model import YOLO
from ..engine.progress import track
from ..errors import ConfigError, DependencyError, YoloMHAError, nearest, run_failed
from ..paths import shipped
from ..registry import guarded
from ..scoring.val import class_order
from .agreement import TOLERANCES, Agreement
from .proof import BATCHES, Picture, Scores, calibration_images, load_pictures, prove, score, shapes
from .runtime import Array

PROVED = {"torchscript": (), "onnx": ("onnx", "onnxruntime"), "openvino": ("openvino",)}  # and the packages they need
PRECISIONS = {None: "fp32", 32: "fp32", 16: "fp16", 8: "int8"}
OPSETS = range(17, 21)
# Ultralytics' settings that mean something to an export
TAKEN = {
    *("imgsz", "batch", "dynamic", "opset", "simplify", "optimize", "workspace", "quantize", "fraction", "split"),
    *("nms", "conf", "iou", "max_det", "agnostic_nms", "device", "verbose"),
}
STANDALONE = "onnx_infer.py"


@dataclass(frozen=True)
class ExportResult:
    """An exported model and the proof of it.

    Attributes:
        file: The exported model; its name says so where it is out of tolerance.
        format: Its format.
        precision: "fp32", "fp16", "int8", or another of Ultralytics' schemes.
        agreement: Differences to PyTorch by input shape; empty where none could be taken.
        scores: AP of the checkpoint and of the exported model, where data was given.
        notes: What was done to the model beyond Ultralytics' export, and what was not proved.
        metadata: Whether the file holds the names, stride and task that Ultralytics reads back.
        proof: All this as a JSON file beside the model.
        standalone: A file that runs an ONNX model without PyTorch, also beside it.
        ok: Whether everything is within tolerance.
    """

    file: str
    format: str
    precision: str
    agreement: list[Agreement]
    scores: Scores | None
    notes: list[str]
    metadata: bool
    ok: bool
    proof: str = ""
    standalone: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@guarded()
def export(
    model: str | Path | None = None,
    format: str = "onnx",
    *,
    data: str | Path | None = None,
    half: bool = False,
    int8: bool = False,
    fuse_attention: bool = False,
    trust: bool = False,
    **settings: Any,
) -> ExportResult:
    """Export a trained model, whole or not at all, beside its checkpoint; otherwise into the working directory.

    ONNX, TorchScript and OpenVINO models are then run beside PyTorch: with ``dynamic=True`` at 320x320, 480x640, what a
    picture of 641x355 is letterboxed to, and the trained size, each with batches of 1 and 3; otherwise at the exported
    shape. A model out of tolerance (`TOLERANCES`) is kept under a name that says so. Beside an ONNX model lies
    ``onnx_infer.py``, which runs it without PyTorch.

    Args:
        model: Checkpoint, or model YAML for an untrained one.
        format: Any format of Ultralytics: "onnx", "torchscript", "openvino", ...
        data: A dataset, see `load_dataset`: AP before and after, and its images for the proof and for calibration.
        half: Half precision, as ``quantize=16``.
        int8: ONNX with 8-bit convolutions, calibrated on images of ``data``; attention stays in floating point.
        fuse_attention: ONNX with attention as ONNX Runtime's own operator.
        trust: Read the checkpoint with full pickle, for files that you made yourself.
        **settings: Ultralytics' export settings: ``imgsz``, ``dynamic``, ``opset``, ``simplify``, ``nms``, ...

    Returns:
        The file and its proof.

    Raises:
        ConfigError: A setting is unknown or unusable, or two do not go together.
        ModelError, CheckpointError: The model cannot be read.
        DataError: The dataset cannot be read.
        DependencyError: The runtime's package is missing.
        RunError: The export failed.
    """
    format = str(format).lower()
    passed = config.check({**settings, "format": format})
    if idle := [key for key in settings if key not in TAKEN]:
        raise ConfigError(
            f"export has no setting '{idle[0]}'.",
            given=f"{idle[0]}={settings[idle[0]]}",
            expected=nearest(idle[0], TAKEN),
        )
    if model is None:
        raise ConfigError("model is missing.", expected="model=path/to/best.pt", fix="see --help")
    precision = _precision(passed, format, data, half=half, int8=int8, fuse_attention=fuse_attention)
    _require_packages(format)
    network = YOLO(model, trust=trust)
    if not isinstance(network.model, nn.Module):
        raise ConfigError(
            "Only a PyTorch model can be exported.", given=f"model={model}", expected="a .pt or .yaml file"
        )
    height, width = _imgsz(network, passed)
    dataset = _dataset(network, data, passed, precision, square=height == width)
    pictures = load_pictures(dataset, passed.get("split") or "val")
    calibration = read_split(dataset, "train", track) if dataset and precision == "int8" else []
    checkpoint = Path(str(model))
    folder = checkpoint.parent if checkpoint.is_file() and checkpoint.suffix == ".pt" else Path.cwd()
    # Ultralytics names other formats in INT8 by itself
    named = precision == "fp16" or (precision == "int8" and format == "onnx")
    name = "_".join([checkpoint.stem, *([precision] if named else []), *(["fused"] if fuse_attention else [])])
    with tempfile.TemporaryDirectory(dir=folder, prefix=".export-") as aside:
        made = _make(network, Path(aside) / f"{name}.pt", passed, precision, dataset)
        notes = [_fuse(made, height, width)] if fuse_attention else []
        if format == "onnx" and precision == "int8":
            batch = 1 if passed.get("dynamic") else int(passed.get("batch") or 1)
            images = calibration_images(calibration, height, width, _channels(network), batch)
            notes.append(_quantize(made, network.model, images))
        result = _proved(network, made, precision, passed, pictures, notes)
        if result.agreement and dataset is not None and height == width:
            trained = model if checkpoint.suffix == ".pt" else _saved(network, Path(aside) / "untrained.pt")
            scores = score(trained, made, dataset, height, passed, Path(aside), trust)
            # AP is taken as OpenVINO runs, which may be in bf16
            kept = scores.kept("fp16" if format == "openvino" and precision == "fp32" else precision)
            result = replace(result, scores=scores, ok=result.ok and kept)
        elif dataset is not None:
            result = replace(result, notes=[*result.notes, "AP was not taken: that needs a proof, and square images"])
        return _deliver(result, made, folder, name)


def _dataset(network: YOLO, data: Any, passed: dict[str, Any], precision: str, *, square: bool) -> Dataset | None:
    """Read the dataset and make sure that it can do what it is for, before the work."""
    if precision == "int8" and (network.task != "detect" or not square):
        raise ConfigError(
            "An INT8 model is judged by its AP, which is taken for detection on square images.",
            given=f"task {network.task}, imgsz={passed.get('imgsz')}",
            expected="a detection model and one number for imgsz",
        )
    if precision == "int8" and _channels(network) not in (1, 3):
        raise ConfigError("Only gray and colour pictures calibrate.", given=f"{_channels(network)} channels")
    if data is None:
        return None
    dataset = load_dataset(data, track)
    class_order(network.names, dataset)
    return dataset


def _precision(
    passed: dict[str, Any], format: str, data: object, *, half: bool, int8: bool, fuse_attention: bool
) -> str:
    """Return the precision of an export, after making sure that its settings go together."""
    for key, value in (("half", half), ("int8", int8), ("fuse_attention", fuse_attention)):
        if not isinstance(value, bool):
            raise ConfigError(f"{key} is a yes or no.", given=f"{key}={value!r}", expected=f"{key}=True or {key}=False")
    quantize = get_cfg(overrides={"quantize": passed.get("quantize")}).quantize  # its aliases have one form there
    if half + int8 + (quantize is not None) > 1:
        raise ConfigError(
            "A model has one precision.",
            given=f"half={half} int8={int8} quantize={passed.get('quantize')}",
            expected="one of half=True, int8=True and quantize=",
        )
    precision = PRECISIONS.get(16 if half else 8 if int8 else quantize, str(quantize))
    if (int8 or fuse_attention) and format != "onnx":
        raise ConfigError(
            "INT8 that leaves attention in floating point, and fused attention, are made for ONNX.",
            given=f"format={format} {'int8' if int8 else 'fuse_attention'}=True",
            expected="format=onnx",
            fix="quantize=8 hands the whole model to Ultralytics' own quantization of that format" if int8 else None,
        )
    if precision == "int8" and data is None:
        raise ConfigError(
            "INT8 needs pictures to measure the ranges of activations with, and to be judged by its AP.",
            given="data is missing",
            expected="data=my.yaml, the dataset that the model was trained on",
        )
    if format == "onnx" and passed.get("opset") is not None and passed["opset"] not in OPSETS:
        raise ConfigError(
            "This opset was not tested.",
            given=f"opset={passed['opset']}",
            expected=f"{OPSETS[0]} to {OPSETS[-1]}, or none for the newest that suits PyTorch",
        )
    return precision


def _require_packages(format: str) -> None:
    missing = [package for package in PROVED.get(format, ()) if find_spec(package) is None]
    if missing:
        extra = "openvino" if format == "openvino" else "export"
        raise DependencyError(
            f"{' and '.join(missing)} not installed.", given=f"format={format}", fix=f"pip install 'yolo-mha[{extra}]'"
        )


def _make(network: YOLO, beside: Path, passed: dict[str, Any], precision: str, dataset: Dataset | None) -> Path:
    """Run Ultralytics' exporter; what it writes lies beside a path of the wanted name."""
    network.model.pt_path = str(beside)
    wanted = dict(passed)
    if precision == "fp16":
        wanted["quantize"] = 16
    elif precision == "int8" and passed["format"] == "onnx":
        wanted.pop("quantize", None)  # done afterwards, with attention left out
    elif dataset is not None and precision != "fp32":  # Ultralytics' own quantization of other formats
        wanted["data"] = str(dataset.yaml)
    if find_spec("onnxslim") is None:
        wanted.setdefault("simplify", False)
    try:
        with _without_hints(beside.parent.name):
            return Path(network.export(**wanted))
    except Exception as e:  # every exporter fails in its own way
        raise run_failed(f"The export to {passed['format']}", e) from e


def _fuse(made: Path, height: int, width: int) -> str:
    """Fuse the attention of an ONNX file, and say what was done."""
    import onnx

    from .fuse_attention import fuse_attention

    model = onnx.load(made)
    fused, left = fuse_attention(model, height, width)
    if not fused:
        raise ConfigError(
            "There is no attention that ONNX Runtime's operator could do.",
            given=f"fuse_attention=True, {left} attentions with a mask or of another form",
            expected="a model with attention among all positions, to pooled keys, along axes, or between scales",
            fix="leave fuse_attention out",
        )
    onnx.save(model, made)
    kept = f"; {left} with a mask or of another form left as they are" if left else ""
    return f"{fused} attentions run as ONNX Runtime's MultiHeadAttention{kept}; only ONNX Runtime has this operator"


def _quantize(made: Path, network: nn.Module, images: Iterator[Array]) -> str:
    """Quantize an ONNX file, and say what was done."""
    from .quantize import quantize

    output = made.with_suffix(".int8.onnx")
    try:
        done, left = quantize(made, output, network, images)
    except YoloMHAError:
        raise
    except Exception as e:  # whatever ONNX Runtime meets
        raise run_failed("Quantization", e) from e
    os.replace(output, made)
    return f"{done} convolutions in INT8; {left} of attention and of the decoding of boxes in floating point"


def _proved(
    network: YOLO, made: Path, precision: str, passed: dict[str, Any], pictures: list[Picture], notes: list[str]
) -> ExportResult:
    """Compare an export with PyTorch where that is possible, else say why not."""
    format, dynamic = passed["format"], bool(passed.get("dynamic"))
    metadata = {"names", "stride", "task"} <= set(BaseBackend.read_metadata(made))
    result = ExportResult(str(made), format, precision, [], None, notes, metadata, metadata or format not in PROVED)
    if network.task != "detect":
        return replace(result, notes=[*notes, f"not compared with PyTorch: a model for the task '{network.task}'"])
    if format not in PROVED:
        reason = f"made by Ultralytics alone: {format} was not tested with attention blocks, and nothing was compared"
        return replace(result, notes=[*notes, reason])
    if precision not in TOLERANCES:
        return replace(result, notes=[*notes, f"not compared with PyTorch: quantize={precision}"])
    batch = int(passed.get("batch") or 1)
    batches: tuple[int, ...] = BATCHES if dynamic else (batch,)
    if dynamic and passed.get("nms"):  # suppression is traced for this many images
        batches = tuple(sorted({1, batch}))
    where = shapes(_imgsz(network, passed), _stride(network), dynamic=dynamic, batches=batches)
    exact = format == "openvino"
    try:
        agreement = prove(made, network.model, pictures, where, precision, passed, exact=exact)
        if exact:
            here = prove(made, network.model, pictures, where, "int8", passed)
            notes = [*notes, *_note_on_bf16(agreement, here)]
    except Exception as e:  # whatever the runtime or PyTorch meets
        raise run_failed("The comparison with PyTorch", e) from e
    if not any(a.compared for a in agreement):
        notes = [*notes, "the pictures show no object, so no box was compared: give data= with pictures of yours"]
    return replace(result, notes=notes, agreement=agreement, ok=metadata and all(a.ok for a in agreement))


def _note_on_bf16(exact: list[Agreement], here: list[Agreement]) -> list[str]:
    """Say what OpenVINO makes of a model by itself, if that is another thing than what was proved."""
    boxes, scores = (max((getattr(a, key) or 0.0 for a in here), default=0.0) for key in ("boxes", "scores"))
    proved = max((a.scores or 0.0 for a in exact), default=0.0)
    if scores <= 10 * proved:
        return []
    return [
        "compared in f32; by itself OpenVINO computes in bf16 on this processor, where boxes of objects differ by up "
        f"to {boxes:.2g} px and scores by {scores:.2g} (INFERENCE_PRECISION_HINT=f32 changes that)"
    ]


def _deliver(result: ExportResult, made: Path, folder: Path, name: str) -> ExportResult:
    """Put an export in its place, under a name that says so where it is out of tolerance, with its proof beside it."""
    good, bad = folder / made.name, folder / made.name.replace(name, f"{name}_out_of_tolerance", 1)
    file, other = (good, bad) if result.ok else (bad, good)
    notes = [*result.notes, f"{other} is of an earlier export"] if other.exists() else result.notes
    result = replace(result, file=str(file), proof=f"{file}.proof.json", notes=notes)
    if file.is_dir():
        shutil.rmtree(file)
    os.replace(made, file)
    if result.format == "onnx":
        result = _with_standalone(result, folder / STANDALONE)
    write_text(result.proof, json.dumps(result.as_dict(), indent=2))
    return result


def _with_standalone(result: ExportResult, target: Path) -> ExportResult:
    """Put the file beside an ONNX model that runs it without PyTorch; one that the user has changed stays."""
    text = (shipped("tools") / STANDALONE).read_text(encoding="utf-8")
    if target.exists() and target.read_text(encoding="utf-8") != text:
        note = f"{target} is another file than the one that comes with this version, and was left as it is"
        result = replace(result, notes=[*result.notes, note])
    else:
        write_text(target, text)
    return replace(result, standalone=str(target))


def _imgsz(network: YOLO, passed: dict[str, Any]) -> tuple[int, int]:
    """Return the height and width that a model is exported for."""
    size = passed.get("imgsz") or network.model.args["imgsz"]
    height, width = check_imgsz(size, stride=_stride(network), min_dim=2)
    return height, width


def _stride(network: YOLO) -> int:
    return int(network.model.stride.max())


def _channels(network: YOLO) -> int:
    return int(network.model.yaml.get("channels", 3))


def _saved(network: YOLO, file: Path) -> Path:
    network.save(file)
    return file


@contextlib.contextmanager
def _without_hints(folder: str) -> Iterator[None]:
    """Drop Ultralytics' closing lines, which name the folder aside."""

    def keep(record: logging.LogRecord) -> bool:
        return folder not in record.getMessage()

    LOGGER.addFilter(keep)
    try:
        yield
    finally:
        LOGGER.removeFilter(keep)
