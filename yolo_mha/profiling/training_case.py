"""What would be trained, and how: the same for all that is measured before training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import copy, deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from ultralytics.data.utils import get_split_fraction
from ultralytics.utils.checks import check_imgsz
from ultralytics.utils.torch_utils import select_device

from ..data.dataset import Dataset, Sample
from ..errors import DataError
from ..registry import Network, build
from ..surgery.rows import moved_freeze
from ..yaml_files import read_yaml

AUTO_ADAMW_STEPS = 10000  # of the optimizer; for more of them Ultralytics' optimizer=auto is MuSGD
MADE_UP_OBJECTS = 20


@dataclass(frozen=True)
class TrainingCase:
    """A model as training would have it.

    Attributes:
        model: With the dataset's classes and channels; what ``freeze`` names, and the box integral, is not trained.
        args: Training settings of Ultralytics, ``imgsz`` rounded up to the model's stride.
        device: Where training would run.
        precision: What it computes in.
        optimizer: Name of the optimizer.
        objects: The most labelled objects in one image.
    """

    model: Network
    args: Any
    device: torch.device
    precision: str
    optimizer: str
    objects: int

    @property
    def imgsz(self) -> int:
        """Height and width in pixels."""
        return int(self.args.imgsz)

    @property
    def channels(self) -> int:
        """Channels of the images."""
        return int(self.model.yaml.get("channels", 3))

    @property
    def largest_imgsz(self) -> int:
        """The largest that ``multi_scale`` makes of it, as in Ultralytics' ``DetectionTrainer.preprocess_batch``."""
        stride = max(int(self.model.stride.max()), 32)
        return (int(self.imgsz * (1.0 + self.args.multi_scale) + stride) - 1) // stride * stride

    @classmethod
    def of(
        cls,
        network: Network,
        args: Any,
        names: Mapping[int, str] | None = None,
        samples: Sequence[Sample] = (),
        channels: int | None = None,
    ) -> TrainingCase:
        """Prepare a copy of a network as Ultralytics' trainer would.

        Args:
            network: A detection model; it stays as it is.
            args: Training settings of Ultralytics.
            names: The dataset's classes; those of the network if None.
            samples: The dataset's training images; without any, objects are made up.
            channels: Of the dataset's images; those of the network if None.
        """
        device, args = select_device(args.device, verbose=False), copy(args)
        own = network.yaml.get("channels", 3)
        names, channels = names or network.names, own if channels is None else channels
        if channels == own and list(names.values()) == list(network.names.values()):
            model = deepcopy(network)
        else:
            model = build({**network.yaml, "nc": len(names), "channels": channels})
            model.names = dict(names)
            model.load(network, verbose=False)
        model = model.float().to(device).train()
        freeze = moved_freeze(args.freeze, model.yaml) or []
        frozen = [f"model.{x}." for x in (range(freeze) if isinstance(freeze, int) else freeze)]
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(not any(part in name for part in (".dfl", *frozen)))
        stride = max(int(model.stride.max()), 32)
        args.imgsz = int(check_imgsz(args.imgsz, stride=stride, floor=stride, max_dim=1))
        model.args = args
        precision = "float32"
        if device.type == "cuda" and args.amp not in (False, "fp32"):
            precision = "bfloat16" if args.amp == "bf16" else "float16"
        optimizer = str(args.optimizer)
        if optimizer.lower() == "auto":
            steps = math.ceil(used_images(args, len(samples)) / max(args.batch, args.nbs)) * args.epochs
            optimizer = "MuSGD" if steps > AUTO_ADAMW_STEPS else "AdamW"
        objects = max((len(s.classes) for s in samples), default=0) * (4 if args.mosaic > 0 else 1)  # of four images
        return cls(model, args, device, precision, optimizer, objects if samples else MADE_UP_OBJECTS)


def image_channels(dataset: Dataset) -> int:
    """Return the channels of the images that Ultralytics trains on: ``channels:`` of the data YAML, or 3."""
    channels: int = read_yaml(dataset.yaml, DataError, "names:").get("channels", 3)
    return channels


def used_images(args: Any, found: int, split: str = "train") -> int:
    """Return how many of a split's images Ultralytics uses.

    Args:
        args: Training settings of Ultralytics; ``fraction`` is a share, or a count where it is a whole number above 1.
        found: How many there are.
        split: Name of the split.
    """
    fraction = get_split_fraction(args.fraction, split)
    return min(fraction, found) if isinstance(fraction, int) else max(round(found * fraction), 1)
