"""Export to other runtimes, followed by a proof in the target runtime."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import nn
from ultralytics.nn.backends.base import BaseBackend

from ..data.files import clear_unfinished, require_writable, unfinished
from ..engine import settings as config
from ..engine.model import YOLO
from ..engine.own_settings import checked
from ..engine.signals import held_back
from ..errors import ConfigError, nearest, run_failed
from ..guard import guarded
from .agreement import TOLERANCES, Agreement
from .export_result import ExportResult, deliver, require_no_dynamic
from .export_settings import PROVED_FORMATS, Plan, choose_precision
from .exporter import run_exporter
from .proof import LEAST_AP, Picture, calibration_images, is_blind, load_pictures, prove, score_both
from .runtime import Array
from .splits import Splits

# Ultralytics' settings that mean something to an export
EXPORT_SETTINGS = {
    *("imgsz", "batch", "dynamic", "opset", "simplify", "optimize", "workspace", "quantize", "fraction", "split"),
    *("nms", "conf", "iou", "max_det", "agnostic_nms", "device", "verbose"),
}


@checked
@guarded()
def export(
    model: str | Path,
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
        data: A dataset, see `load_dataset`: AP before and after, and images for the proof and for calibration.
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
    own = {"half": half, "int8": int8, "fuse_attention": fuse_attention, "trust": trust}
    return export_model(model, format, data, **own, **settings)


def export_model(
    model: str | Path,
    format: str,
    data: str | Path | Splits | None = None,
    *,
    half: bool = False,
    int8: bool = False,
    fuse_attention: bool = False,
    trust: bool = False,
    **settings: Any,
) -> ExportResult:
    """Export as `export` does, also with a dataset that is open already."""
    format = str(format).lower()
    passed = config.check({**settings, "format": format})
    for key in settings:
        if key not in EXPORT_SETTINGS:
            expected = nearest(key, EXPORT_SETTINGS)
            raise ConfigError(f"export has no setting '{key}'.", given=f"{key}={settings[key]}", expected=expected)
    config.check_images_at_once(passed)
    precision = choose_precision(passed, format, data, half=half, int8=int8, fuse_attention=fuse_attention)
    network = YOLO(model, trust=trust)
    if not isinstance(network.model, nn.Module):
        raise ConfigError(
            "Only a PyTorch model can be exported.", given=f"model={model}", expected="a .pt or .yaml file"
        )
    checkpoint = Path(str(model))
    folder = checkpoint.parent if checkpoint.is_file() and checkpoint.suffix == ".pt" else Path.cwd()
    require_writable(folder, "an export lies beside its checkpoint, or in the working directory: move there")
    clear_unfinished(folder)
    plan = Plan(network, precision, passed)
    splits = _open_data(plan, data)
    pictures = load_pictures(splits.read(plan.split) if splits else None)
    calibration = splits.read("train") if splits and precision == "int8" else []
    # Ultralytics names other formats in INT8 by itself
    named = precision == "fp16" or (precision == "int8" and format == "onnx")
    name = "_".join([checkpoint.stem, *([precision] if named else []), *(["fused"] if fuse_attention else [])])
    if not passed.get("dynamic"):
        require_no_dynamic(folder, name, format)
    with tempfile.TemporaryDirectory(dir=folder, prefix=unfinished()) as aside:
        # No `.pt`: Ultralytics names folders by replacing the suffix, wherever the path holds it
        made = _make(plan, Path(aside) / f"{name}.to-export", splits)
        notes = config.imgsz_notes(passed.get("imgsz"), list(plan.size))
        notes += [_fuse(made, *plan.size)] if fuse_attention else []
        if format == "onnx" and precision == "int8":
            notes.append(_quantize(made, network.model, calibration_images(calibration, plan)))
        agreement, scores = _compare(plan, made, pictures, notes), None
        if agreement and splits and len(set(plan.size)) == 1:
            trained = model
            if checkpoint.suffix != ".pt":
                trained = Path(aside) / "untrained.pt"
                network.save(trained)
            scores = score_both(trained, made, plan, splits, Path(aside))
        elif splits:
            notes.append("AP was not taken: that needs a proof, and square images")
        given = {key: value for key, value in passed.items() if key != "format"}
        plain = {key: value if isinstance(value, (bool, int, float)) else str(value) for key, value in given.items()}
        used = {**plain, "imgsz": list(plan.size)}
        metadata = {"names", "stride", "task"} <= set(BaseBackend.read_metadata(made))
        result = ExportResult(str(made), format, precision, used, agreement, scores, notes, metadata)
        notes += _notes_on_evidence(network, result, splits)
        with held_back():  # a model and its proof belong together
            alone = format == "onnx" and network.task == "detect" and plan.channels == 3
            return deliver(result, made, folder, name, standalone=alone)


def _open_data(plan: Plan, data: str | Path | Splits | None) -> Splits | None:
    """Open the dataset and make sure that it can do what it is for, before the work."""
    judged = plan.precision == "int8" and plan.format in PROVED_FORMATS
    if judged and (plan.network.task != "detect" or len(set(plan.size)) > 1):
        raise ConfigError(
            "An INT8 model is judged by its AP, which is taken for detection on square images.",
            given=f"task {plan.network.task}, imgsz={plan.passed.get('imgsz')}",
            expected="a detection model and one number for imgsz",
        )
    if judged and plan.channels not in (1, 3):
        raise ConfigError(
            "Only gray and colour pictures calibrate.",
            given=f"a model of {plan.channels} channels",
            expected="one of 1 or 3 channels; or no int8=True",
        )
    return data if data is None or isinstance(data, Splits) else Splits(data, plan.network)


def _make(plan: Plan, beside: Path, splits: Splits | None) -> Path:
    """Run Ultralytics' exporter with the settings of a precision."""
    wanted = dict(plan.passed)
    if plan.precision == "fp16":
        wanted["quantize"] = 16
    elif plan.precision == "int8" and plan.format == "onnx":
        wanted.pop("quantize", None)  # done afterwards, with attention left out
    elif splits and plan.precision != "fp32":  # Ultralytics' own quantization of other formats
        wanted["data"] = str(splits.dataset.yaml)
    return run_exporter(plan.network, beside, **wanted)


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
    except Exception as e:  # whatever ONNX Runtime meets
        raise run_failed("Quantization", e) from e
    os.replace(output, made)
    return f"{done} convolutions in INT8; {left} of attention and of the decoding of boxes in floating point"


def _compare(plan: Plan, made: Path, pictures: list[Picture], notes: list[str]) -> list[Agreement]:
    """Compare an export with PyTorch where that is possible, else note why not."""
    format, precision = plan.format, plan.precision
    if plan.network.task != "detect":
        notes.append(f"not compared with PyTorch: a model for the task '{plan.network.task}'")
    elif format not in PROVED_FORMATS:
        untested = f"{format} was not tested with attention blocks, and nothing was compared"
        notes.append(f"made by Ultralytics alone: {untested}")
    elif precision not in TOLERANCES:
        notes.append(f"not compared with PyTorch: quantize={precision}")
    else:
        exact = format == "openvino"
        try:
            agreement = prove(made, plan, pictures, TOLERANCES[precision], exact=exact)
            if is_blind(made, plan, pictures):
                notes.append("the model gives the same for every picture, as untrained ones do: this says little of it")
            if exact:
                notes += _note_on_bf16(agreement, prove(made, plan, pictures, TOLERANCES["int8"], exact=False))
        except Exception as e:  # whatever the runtime or PyTorch meets
            raise run_failed("The comparison with PyTorch", e) from e
        return agreement
    return []


def _notes_on_evidence(network: YOLO, result: ExportResult, splits: Splits | None) -> list[str]:
    """Say where the pictures show no object, and what would be needed for a proof."""
    if result.verdict != "nothing compared":
        bare = sum(a.ok is None and not a.compared for a in result.agreement)
        notes = [f"at {bare} of {len(result.agreement)} shapes no box was compared: no object there"] if bare else []
        if result.scores and result.scores.trained["AP"] < LEAST_AP:
            notes.append("the checkpoint has an AP of next to 0, so AP says nothing of the export")
        return notes
    if result.scores is not None:
        return ["nothing was compared: the model finds no object in the pictures, and it has no AP to keep"]
    if splits:
        return [f"no box was compared: the model finds no object in three pictures of {splits.dataset.source}"]
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
