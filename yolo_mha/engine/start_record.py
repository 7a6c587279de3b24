"""What a run began with, as hashes, so that it can be shown that two runs began alike."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

import torch
from torch import Tensor, nn
from ultralytics.utils import RANK
from ultralytics.utils.torch_utils import unwrap_model

from ..data.files import write_text
from ..data.records import read_record

START_FILE = "start.json"
LABEL_KEYS = ("batch_idx", "bboxes", "cls")


class Start(TypedDict):
    """Content of ``start.json``, see `StartRecord`."""

    batch: str
    images: int
    model: dict[str, Any]
    tensors: dict[str, str]


class StartRecord:
    """A training callback that writes ``start.json`` into a new run's folder.

    It holds the model's rows, the SHA-256 of each of its tensors before the first step, and that of the first batch,
    images and labels, as they enter the network.
    """

    def __call__(self, trainer: Any) -> None:
        """Hash the weights, and the first batch when it comes."""
        if trainer.start_epoch or RANK not in (-1, 0):
            return
        model = unwrap_model(trainer.model)
        content = {"model": model.yaml, "tensors": {k: digest({"": v}) for k, v in model.state_dict().items()}}

        def write(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            hook.remove()
            batch = inputs[0] if isinstance(inputs[0], dict) else {"img": inputs[0]}  # a compiled model gets images
            seen = {key: batch[key] for key in ("img", *LABEL_KEYS) if key in batch}
            text = json.dumps({"batch": digest(seen), "images": len(seen["img"]), **content}, default=str)
            write_text(Path(trainer.save_dir) / START_FILE, text)

        hook = trainer.model.register_forward_pre_hook(write)


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of named tensors: their names, kinds, shapes and values, whatever their device or layout."""
    found = hashlib.sha256()
    for name, tensor in tensors.items():
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def read_start(folder: Path) -> Start | None:
    """Return what a run began with, or None where it has not begun.

    Args:
        folder: The run's folder.
    """
    start: Start | None = read_record(folder / START_FILE, Start)
    return start
