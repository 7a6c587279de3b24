"""What a file is that should have been a checkpoint of Ultralytics: of another framework, or no checkpoint at all."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path

# By the beginning of the paths of the classes in it.
FRAMEWORKS = {
    "models.": "the YOLOv5 or YOLOv7 repository, or one made from them",
    "utils.": "the YOLOv5 or YOLOv7 repository, or one made from them",
    "yolov6.": "the YOLOv6 repository",
    "yolox.": "YOLOX",
    "mmengine.": "OpenMMLab",
    "mmcv.": "OpenMMLab",
    "mmdet.": "OpenMMLab",
    "mmyolo.": "OpenMMLab",
    "detectron2.": "Detectron2",
    "super_gradients.": "SuperGradients",
    "rfdetr.": "RF-DETR",
    "timm.": "timm",
    "torchvision.": "torchvision",
    "transformers.": "Transformers",
    "lightning": "Lightning",
    "pytorch_lightning.": "Lightning",
}
# By a key of the dictionary in it.
KEYS = {"pytorch-lightning_version": "Lightning", "meta": "OpenMMLab", "ema_state_dict": "timm or torchvision"}
# By the first bytes.
FORMATS = {
    b"version https://git-lfs": "a Git LFS pointer; fetch the file itself with git lfs pull",
    b"<": "a web page or XML; the download was not of the file itself",
    b"\x89HDF": "an HDF5 file, such as Keras writes",
    b"\x1f\x8b": "a gzip archive; unpack it",
    b"\x08": "an ONNX model; name it .onnx",
    b"\x80": "a pickle, as checkpoints were before PyTorch 1.6; it is not read, because loading it can run code",
}


def framework(classes: Iterable[str]) -> str:
    """Name the framework whose classes these are, or return an empty string."""
    named = [made for name in classes for start, made in FRAMEWORKS.items() if name.startswith(start)]
    return named[0] if named else ""


def described(content: object) -> str:
    """Say what a file holds that has no model of Ultralytics in it."""
    if not isinstance(content, dict):
        return f"a {type(content).__name__}"
    made = next((made for key, made in KEYS.items() if key in content), "")
    weights = next((v for v in [content, *content.values()] if _named_weights(v)), None)
    kind = "weights by name, without the model" if weights is not None else "a dictionary"
    keys = ", ".join(map(str, list(content)[:5]))
    return f"{kind}{f', as {made} writes them' if made else ''}: {keys}{', ...' if len(content) > 5 else ''}"


def file_format(path: Path) -> str:
    """Say what a file is by its first bytes, or its size where they do not tell."""
    if zipfile.is_zipfile(path):
        try:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
        except Exception:  # of many kinds: an archive is known by its end alone
            return "a damaged zip archive"
        if any(name.endswith("/constants.pkl") for name in names):
            return "a TorchScript model; name it .torchscript"
        if any(name.endswith("data.pkl") for name in names):
            return ""
        return f"a zip archive of {', '.join(names[:3])}"
    with path.open("rb") as file:
        start = file.read(64)
    if start[8:10] == b'{"':
        return "a safetensors file: weights by name, without the model"
    kind = next((kind for magic, kind in FORMATS.items() if start.lstrip().startswith(magic)), "")
    return kind or f"{path.stat().st_size} bytes that are no torch.save() archive"


def _named_weights(value: object) -> bool:
    return isinstance(value, dict) and bool(value) and all(hasattr(v, "dtype") for v in value.values())
