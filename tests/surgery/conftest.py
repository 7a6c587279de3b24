"""Models of every family that the installed Ultralytics ships."""

from pathlib import Path

import torch
import yaml
from torch import nn
from ultralytics.utils import ROOT

from yolo_mha.registry import build

SHIPPED = sorted((ROOT / "cfg" / "models").rglob("*.yaml"))
DETECTION = ("Detect", "v10Detect", "RTDETRDecoder", "WorldDetect", "YOLOEDetect")
FETCHES_WEIGHTS = "TorchVision"  # a row that downloads its backbone


def read(path: Path) -> dict:
    """The content of a shipped YAML at its first scale, as Ultralytics would read it."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    content["yaml_file"] = path.name
    if scales := content.get("scales"):
        content["scale"] = next(iter(scales))
    return content


def small(path: Path) -> dict:
    """The content of a shipped YAML at a scale that is quick to run, whatever scales it has itself.

    Where layers name their widths one by one (CBLinear of yolov9e) they stay as they are.
    """
    content = read(path)
    if any(row[2] == "CBLinear" for row in rows(content)):
        return content
    return {**content, "scale": "t", "scales": {"t": [0.33, 0.25, 512]}}


def rows(content: dict) -> list:
    return content["backbone"] + content["head"]


def every_detector() -> list[Path]:
    return [p for p in SHIPPED if rows(read(p))[-1][2] in DETECTION]


def one_of_each_other_task() -> list[Path]:
    heads = {}
    for path in SHIPPED:
        if FETCHES_WEIGHTS not in [row[2] for row in rows(read(path))]:
            heads.setdefault(rows(read(path))[-1][2], path)
    return [path for head, path in heads.items() if head not in DETECTION]


@torch.no_grad()
def lively(model: nn.Module) -> nn.Module:
    """Give every BatchNorm statistics and weights that a trained one could have."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 1.5)
            module.weight.uniform_(0.5, 1.5)
            module.bias.normal_(0, 0.2)
    return model


def built(path: Path) -> nn.Module:
    return lively(build(read(path)))


def built_small(path: Path) -> nn.Module:
    return lively(build(small(path)))


def tensors(output) -> list[torch.Tensor]:
    """All tensors of a model's output, whatever it is nested in."""
    if isinstance(output, torch.Tensor):
        return [output]
    values = output.values() if isinstance(output, dict) else output if isinstance(output, (list, tuple)) else ()
    return [tensor for value in values for tensor in tensors(value)]


def same(one, other) -> bool:
    a, b = tensors(one), tensors(other)
    return len(a) == len(b) > 0 and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
