"""Export to other runtimes, followed by a proof in the target runtime."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn
from ultralytics.nn.backends.base import BaseBackend
from ultralytics.utils.checks import check_imgsz

from ..data.dataset import Dataset, load_dataset, read_split
from ..data.files import require_writable
from ..engine import settings as config
from ..engine.model import YOLO
from ..engine.own_settings import checked
from ..engine.progress import with_bar
from ..engine.signals import held_back
from ..errors import ConfigError, YoloMHAError, nearest, run_failed
from ..guard import guarded
from ..scoring.val import class_order
from .agreement import TOLERANCES, Agreement
from .export_result import PROVED, ExportResult, deliver
from .export_settings import choose_precision, require_packages
from .exporter import run_exporter
from .proof import BATCHES, Picture, calibration_images, load_pictures, prove, score, shapes
from .runtime import Array

# Ultralytics' settings that mean something to an export
TAKEN = {
    *("imgsz", "batch", "dynamic", "opset", "simplify", "optimize", "workspace", "quantize", "fraction", "split"),
    *("nms", "conf", "iou", "max_det", "agnostic_nms", "device", "verbose"),
}


@checked
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
    shape. A model out of tolerance (`TOLERANCES`) is kept under a name that says so. Half precision, and exports with
    ``nms=True``, can be compared only where the pictures show objects: those of ``data`` do. Beside an ONNX model lies
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
    config.check_images_at_once(passed)
    precision = choose_precision(passed, format, data, half=half, int8=int8, fuse_attention=fuse_attention)
    require_packages(format)
    network = YOLO(model, trust=trust)
    if not isinstance(network.model, nn.Module):
        raise ConfigError(
            "Only a PyTorch model can be exported.", given=f"model={model}", expected="a .pt or .yaml file"
        )
    checkpoint = Path(str(model))
    folder = checkpoint.parent if checkpoint.is_file() and checkpoint.suffix == ".pt" else Path.cwd()
    require_writable(folder, "an export lies beside its checkpoint, or in the working directory: move there")
    height, width = _imgsz(network, passed)
    dataset = _dataset(network, data, passed, precision, square=height == width)
    pictures = load_pictures(dataset, passed.get("split") or "val")
    calibration = read_split(dataset, "train", with_bar) if dataset and precision == "int8" else []
    # Ultralytics names other formats in INT8 by itself
    named = precision == "fp16" or (precision == "int8" and format == "onnx")
    name = "_".join([checkpoint.stem, *([precision] if named else []), *(["fused"] if fuse_attention else [])])
    with tempfile.TemporaryDirectory(dir=folder, prefix=".export-") as aside:
        made = _make(network, Path(aside) / f"{name}.pt", passed, precision, dataset)
        notes = config.imgsz_notes(passed.get("imgsz"), [height, width])
        notes += [_fuse(made, height, width)] if fuse_attention else []
        if format == "onnx" and precision == "int8":
            batch = 1 if passed.get("dynamic") else int(passed.get("batch") or 1)
            images = calibration_images(calibration, height, width, _channels(network), batch)
            notes.append(_quantize(made, network.model, images))
        result = _compared(network, made, precision, passed, pictures, notes)
        if result.agreement and dataset is not None and height == width:
            trained = model if checkpoint.suffix == ".pt" else _saved(network, Path(aside) / "untrained.pt")
            # AP is taken as OpenVINO runs, which may be in bf16
            judged = "fp16" if format == "openvino" and precision == "fp32" else precision
            scores = score(trained, made, dataset, height, passed, judged, Path(aside), trust)
            result = replace(result, scores=scores)
        elif dataset is not None:
            result = result.with_notes("AP was not taken: that needs a proof, and square images")
        result = result.with_notes(*_notes_on_evidence(network, result, dataset))
        with held_back():  # a model and its proof belong together
            return deliver(result, made, folder, name, network.task)


def _dataset(network: YOLO, data: Any, passed: dict[str, Any], precision: str, *, square: bool) -> Dataset | None:
    """Read the dataset and make sure that it can do what it is for, before the work."""
    judged = precision == "int8" and passed["format"] in PROVED
    if judged and (network.task != "detect" or not square):
        raise ConfigError(
            "An INT8 model is judged by its AP, which is taken for detection on square images.",
            given=f"task {network.task}, imgsz={passed.get('imgsz')}",
            expected="a detection model and one number for imgsz",
        )
    if judged and _channels(network) not in (1, 3):
        raise ConfigError("Only gray and colour pictures calibrate.", given=f"{_channels(network)} channels")
    if data is None:
        return None
    dataset = load_dataset(data, with_bar)
    class_order(network.names, dataset)
    return dataset


def _make(network: YOLO, beside: Path, passed: dict[str, Any], precision: str, dataset: Dataset | None) -> Path:
    """Run Ultralytics' exporter with the settings of a precision."""
    wanted = dict(passed)
    if precision == "fp16":
        wanted["quantize"] = 16
    elif precision == "int8" and passed["format"] == "onnx":
        wanted.pop("quantize", None)  # done afterwards, with attention left out
    elif dataset is not None and precision != "fp32":  # Ultralytics' own quantization of other formats
        wanted["data"] = str(dataset.yaml)
    return run_exporter(network, beside, wanted)


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


def _compared(
    network: YOLO, made: Path, precision: str, passed: dict[str, Any], pictures: list[Picture], notes: list[str]
) -> ExportResult:
    """Compare an export with PyTorch where that is possible, else say why not."""
    format, dynamic = passed["format"], bool(passed.get("dynamic"))
    metadata = {"names", "stride", "task"} <= set(BaseBackend.read_metadata(made))
    plain = {key: v if isinstance(v, (bool, int, float)) else str(v) for key, v in passed.items() if key != "format"}
    settings = {**plain, "imgsz": list(_imgsz(network, passed))}
    result = ExportResult(str(made), format, precision, settings, [], None, notes, metadata)
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
    return replace(result, notes=notes, agreement=agreement)


def _notes_on_evidence(network: YOLO, result: ExportResult, dataset: Dataset | None) -> list[str]:
    """Say where the pictures show no object, and what would be needed for a proof."""
    if result.verdict != "nothing compared":
        bare = sum(a.ok is None and not a.compared for a in result.agreement)
        return [f"at {bare} of {len(result.agreement)} shapes no box was compared: no object there"] if bare else []
    if result.scores is not None:
        return ["nothing was compared: the model finds no object in the pictures, and it has no AP to keep"]
    if dataset is not None:
        return [f"no box was compared: the model finds no object in three pictures of {dataset.source}"]
    known = network.overrides.get("data")
    mine = known if known and Path(known).exists() else "my.yaml"
    return [f"no box was compared: no object in Ultralytics' sample pictures; give pictures of yours, data={mine}"]


def _note_on_bf16(exact: list[Agreement], here: list[Agreement]) -> list[str]:
    """Say what OpenVINO makes of a model by itself, if that is another thing than what was proved."""
    boxes = max((a.boxes for a in here if a.boxes is not None), default=None)
    scores, proved = (max((a.scores or 0.0 for a in found), default=0.0) for found in (here, exact))
    if scores <= 10 * proved:
        return []
    moved = "" if boxes is None else f"boxes of objects differ by up to {boxes:.2g} px and "
    return [
        f"compared in f32; by itself OpenVINO computes in bf16 on this processor, where {moved}scores differ by up to "
        f"{scores:.2g} (INFERENCE_PRECISION_HINT=f32 changes that)"
    ]


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
