"""How important each head is, by the gradient of a gate on it and by silencing it, and how alike heads are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor
from ultralytics.cfg import get_cfg

from ..data.dataset import Sample
from ..data.progress import Progress, silent
from ..engine.model import YOLO
from ..profiling.training_case import TrainingCase
from ..registry import Network
from ..scoring.resample import RESAMPLES, bootstrap_weights
from ..surgery.heads import attentions
from .looking import Looker, Placement
from .recorder import Recorded, Recorder
from .silenced_scores import Name, SilencedScores, WithInterval

QUERIES = 16  # of an image, evenly spaced, whose maps are compared
EVEN = 1e-4  # attention that deviates less from its mean, relative to it, is even, and correlates with nothing


@dataclass(frozen=True)
class Likeness:
    """How alike the maps of a block's heads are.

    Attributes:
        layer: The block.
        correlation: Of each pair of heads, the correlation over keys of what the same query attends to, the mean over
            queries and images; -1 to 1.
        mean: The mean over all pairs; None for a block with one head.
    """

    layer: str
    correlation: list[list[float]]
    mean: WithInterval | None


class Passes:
    """Forward and backward passes of labelled images, each by itself, so that one does not depend on the others.

    Ultralytics divides the loss by a sum over the batch, so in a batch the gradient of an image depends on the others.

    Args:
        network: The detector; it is fused afterwards, as `Looker` leaves it, and a copy of it from before takes the
            gradients.
        order: The dataset's index of each class of the model, where the two differ.
        **settings: Ultralytics' settings ``imgsz`` and ``device``.

    Attributes:
        model: The copy.
        looker: What scales the images.
    """

    def __init__(self, network: YOLO, order: Sequence[int] | None, **settings: Any) -> None:
        args = get_cfg(overrides={"device": settings.get("device")})
        model: Any = TrainingCase.of(network.model, args).model
        self.model = model.eval().requires_grad_(False)
        self.looker = Looker(network, **settings)
        self.classes = {index: i for i, index in enumerate(order or range(len(self.looker.names)))}

    def gradients(self, sample: Sample, recorder: Recorder | None = None) -> dict[str, Tensor]:
        """Return the absolute gradient of the loss by the gate of each head, (h,) by attention.

        A gate is a factor of 1 on what a head gives. To first order its gradient is what the loss changes by when the
        head is silenced (Michel et al. 2019, "Are sixteen heads really better than one?", eq. 3; there the sums of each
        layer are normed too, here heads of different blocks stay comparable).

        Args:
            sample: The labelled image.
            recorder: Of ``model``, to record the pass.
        """
        batch = self._batch(sample)
        if recorder is None:
            return gate_gradients(self.model, batch)
        with recorder:
            return gate_gradients(self.model, batch)

    def _batch(self, sample: Sample) -> dict[str, Tensor]:
        picture = self.looker.read(sample)
        image = self.looker.prepare(picture)
        (height, width), (H, W) = picture.shape[:2], image.shape[2:]
        placement = Placement(height, width, (H, W))
        corners = torch.tensor([placement.inside(box) for box in sample.boxes.tolist()]).view(-1, 4)
        (x1, y1), (x2, y2) = corners[:, :2].unbind(1), corners[:, 2:].unbind(1)
        boxes = torch.stack([(x1 + x2) / 2 / W, (y1 + y2) / 2 / H, (x2 - x1) / W, (y2 - y1) / H], 1)
        classes = torch.tensor([[float(self.classes[index])] for index in sample.classes.tolist()]).view(-1, 1)
        labels = {"cls": classes, "bboxes": boxes, "batch_idx": torch.zeros(len(boxes))}
        return {"img": image, **{name: values.to(image.device) for name, values in labels.items()}}


def gate_gradients(model: Network, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the absolute gradient of the loss by a gate of 1 on each head, (h,) by attention.

    Args:
        model: A detection model in evaluation mode, with ``args``.
        batch: Labelled images as Ultralytics' loss takes them.
    """
    gates, hooks = {}, []
    for name, attention in attentions(model).items():
        gates[name] = torch.ones(attention.num_heads, device=batch["img"].device, requires_grad=True)
        hooks.append(attention.proj.register_forward_pre_hook(_Gate(gates[name])))
    try:
        with torch.enable_grad():
            loss = model.loss(batch)[0].sum()
        found = torch.autograd.grad(loss, list(gates.values()), allow_unused=True, materialize_grads=True)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: gradient.abs().cpu() for name, gradient in zip(gates, found, strict=True)}


class _Gate:
    """A hook that multiplies each head by its gate, in front of the output projection."""

    def __init__(self, gate: Tensor) -> None:
        self.gate = gate

    def __call__(self, _: object, given: tuple[Tensor]) -> tuple[Tensor]:
        width = given[0].shape[1] // len(self.gate)  # the input is (B, hd, H, W)
        return (given[0] * self.gate.repeat_interleave(width).view(1, -1, 1, 1),)


def map_correlation(block: Recorded) -> Tensor:
    """Return the correlation of the maps of each pair of heads, (h, h), the mean over some queries."""
    count = block.size[0] * block.size[1]
    queries = torch.linspace(0, count - 1, min(QUERIES, count), device=block.inputs[0].device).long()
    maps = block.attention(queries).flatten(2)  # (h, n, keys)
    deviations = maps - maps.mean(2, keepdim=True)
    deviations = F.normalize(deviations, dim=2, eps=EVEN / maps.shape[2] ** 0.5)
    return torch.einsum("ank,bnk->ab", deviations, deviations).cpu() / len(queries)


def gradient_importance(
    passes: Passes, samples: Sequence[Sample], progress: Progress = silent, units: NDArray[np.intp] | None = None
) -> tuple[dict[Name, WithInterval], list[Likeness]]:
    """Return the mean gradient of each head's gate over images, and how alike the maps of the heads are.

    Args:
        passes: The model.
        samples: Labelled images.
        progress: Shows progress.
        units: Number of the group of each image, where groups are resampled.
    """
    recorder = Recorder(passes.model)
    gradients: dict[str, list[Tensor]] = {name: [] for name in recorder.blocks}
    correlations: dict[str, list[Tensor]] = {name: [] for name in recorder.blocks}
    for sample in progress(samples, "gradients", len(samples)):
        for name, gradient in passes.gradients(sample, recorder).items():
            gradients[name].append(gradient)
            correlations[name].append(map_correlation(recorder[name]))
    images = len(samples)
    weights = bootstrap_weights(images, RESAMPLES, groups=units).astype(np.float64)
    weights /= weights.sum(axis=0)  # groups differ in size
    sizes = None if units is None else np.bincount(units)

    def estimate(values: Tensor) -> WithInterval:  # one an image
        column = values.double().numpy()
        return WithInterval.of(float(column.mean()), column @ weights, images, sizes)

    found: dict[Name, WithInterval] = {}
    alike = []
    for name, rows in gradients.items():
        found |= {(name, i): estimate(column) for i, column in enumerate(torch.stack(rows).unbind(1))}
        every = torch.stack(correlations[name])  # (images, h, h)
        h = every.shape[1]
        rows_of, columns_of = torch.triu_indices(h, h, 1)
        pairs = every[:, rows_of, columns_of]  # (images, pairs)
        mean = estimate(pairs.mean(1)) if h > 1 else None
        alike.append(Likeness(name, every.mean(0).tolist(), mean))
    return found, alike


def silencing_importance(score: SilencedScores, progress: Progress = silent) -> tuple[float, dict[Name, WithInterval]]:
    """Return AP, and how much of it is lost without each head, one at a time.

    Args:
        score: What scores the model, on all images.
        progress: Shows progress.
    """
    (whole,) = score(())
    blocks = attentions(score.network.model)
    every = [(name, i) for name, attention in blocks.items() for i in range(attention.num_heads)]
    lost = {head: whole.lost(*score([head])) for head in progress(every, "silencing heads", len(every))}
    return whole.ap, lost


def rank_correlation(one: Iterable[float], other: Iterable[float]) -> float | None:
    """Return Spearman's rank correlation; None with fewer than three heads, or where all values of a kind are equal."""
    a, b = np.array(list(one)), np.array(list(other))
    if len(a) < 3 or len(set(a)) == 1 or len(set(b)) == 1:
        return None
    return float(stats.spearmanr(a, b).statistic)
