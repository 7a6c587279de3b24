"""The same detector with random weights, by which maps should change (Adebayo et al. 2018, Sanity Checks)."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch

from ..engine.video import Image
from ..nn.attend import HeadNorm
from ..nn.positions import RelativeBias
from .looking import Look, Looker
from .recorder import Recorder


def with_random_weights(looker: Looker, *, attention_only: bool, seed: int = 0) -> Looker:
    """Return a detector with new weights, as before any training.

    Args:
        looker: The detector; it stays as it is.
        attention_only: Whether only the attention modules get new weights, and all other layers keep theirs.
        seed: Draws the weights.
    """
    other = copy.copy(looker)
    other.model = copy.deepcopy(looker.model)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        blocks = [block.module for block in Recorder(other.model).blocks.values()]
        for module in blocks if attention_only else [other.model]:
            for part in module.modules():
                if isinstance(part, (torch.nn.Conv2d, HeadNorm)):
                    part.reset_parameters()
                elif isinstance(part, RelativeBias):
                    side, _, num_heads = part.table.shape
                    part.table.copy_(RelativeBias((side + 1) // 2, num_heads).table)
    return other


def same_detections(other: Looker, picture: Image, look: Look) -> Look:
    """Return the pass of another detector, with the detections of the first: their anchors, classes and boxes.

    Args:
        other: The other detector.
        picture: What both look at.
        look: The pass of the first.
    """
    return replace(other(picture), boxes=look.boxes, anchors=look.anchors)
