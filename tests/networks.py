"""Untrained networks whose attention does something."""

from pathlib import Path

import torch

import yolo_mha


def opened(name: str, file: str | Path = "opened.pt") -> Path:
    """Write a checkpoint whose gates are open, with norms that have seen data.

    Args:
        name: A model YAML.
        file: Where it goes.
    """
    network = yolo_mha.YOLO(name)
    torch.manual_seed(0)
    for module in network.model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_var.uniform_(0.5, 1.5)
        if isinstance(gate := getattr(module, "gate", None), torch.nn.BatchNorm2d):
            torch.nn.init.constant_(gate.weight, 0.5)
    network.save(file)
    return Path(file)
