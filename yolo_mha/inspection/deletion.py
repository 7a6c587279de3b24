"""Deletion and insertion: what a map's most important pixels mean to a detection (Petsiuk et al. 2018, RISE, 4.2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .looking import Look, Looker

BLANK = 114 / 255  # what letterboxing fills with, which a detector has seen
# of the pixels, that are blanked or shown; closer together where most happens
SHARES = [(step / 12) ** 2 for step in range(13)]


def deletion_insertion(looker: Looker, look: Look, detection: int, maps: Tensor, seed: int = 0) -> Tensor:
    """Return the areas under the deletion and the insertion curve of maps.

    Deletion blanks the most important pixels first, so the score of a true map falls at once, and its area is small.
    Insertion shows them first on a blank image, and its area is large. The score is that of the detection's class at
    the detection's own anchor, also where the changed image would give other detections.

    Args:
        looker: The model.
        look: Its pass over the picture.
        detection: Index of the detection.
        maps: Maps over the network's input, of shape (n, H, W); a position's pixels are as important as it is.
        seed: Draws the order of positions that are equally important.

    Returns:
        Areas of shape (n, 2), deletion and insertion, from 0 to 1.
    """
    ranks = importance_ranks(maps, seed)  # 0 is the most important
    ranks = F.interpolate(ranks[:, None], look.placement.size, mode="nearest")  # (n, 1, Hin, Win)
    anchor, index = int(look.anchors[detection]), int(look.boxes[detection, 5])
    given, blank = look.input, torch.full_like(look.input, BLANK)
    counts = [round(share * maps[0].numel()) for share in SHARES[1:-1]]
    ends = looker.scores(torch.cat([given, blank]), anchor, index).tolist()
    areas = []
    for rank in ranks.to(given.device):
        chosen = [rank < count for count in counts]
        deleted = torch.cat([torch.where(mask, blank, given) for mask in chosen])
        shown = torch.cat([torch.where(mask, given, blank) for mask in chosen])
        found = looker.scores(torch.cat([deleted, shown]), anchor, index).tolist()
        half = len(chosen)
        curves = [ends[0], *found[:half], ends[1]], [ends[1], *found[half:], ends[0]]
        areas.append(torch.trapezoid(torch.tensor(curves), torch.tensor(SHARES)))
    return torch.stack(areas)


def importance_ranks(maps: Tensor, seed: int = 0) -> Tensor:
    """Return the rank of each position by importance, from 0, of shape (n, H, W); equal ones in a random order."""
    shuffled = torch.randperm(maps[0].numel(), generator=torch.Generator().manual_seed(seed))
    flat = maps.flatten(1).cpu()[:, shuffled]
    order = shuffled[flat.argsort(dim=1, descending=True, stable=True)]  # (n, H * W): the most important first
    places = torch.arange(order.shape[1], dtype=torch.float32).expand(len(maps), -1)
    return torch.empty(order.shape).scatter_(1, order, places).view(maps.shape)
