"""Maps that know nothing of attention, to compare it with."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .looking import Look
from .measures import BOX, region_map


def layercam(look: Look, detection: int, size: tuple[int, int]) -> Tensor:
    """Return the LayerCAM of a detection on the maps that the head reads (Jiang et al. 2021, LayerCAM, eq. 4 and 5).

    At each position the channels are weighted by the positive part of their gradient and added, and of the sum the
    positive part is kept. Here the gradient is that of the logit of this detection, and the maps of all scales are
    added at one size.

    Args:
        look: The pass.
        detection: Index of the detection.
        size: Height and width of the map.
    """
    features = {str(i): feature for i, feature in enumerate(look.features)}
    total = torch.zeros(1, 1, *size, device=look.input.device)
    for name, gradient in look.gradients(detection, features).items():
        cam = (gradient.relu() * features[name].detach()).sum(1, keepdim=True).relu()
        total += F.interpolate(cam, size, mode="area")
    return total[0, 0]


def rival_maps(look: Look, detection: int, size: tuple[int, int], generator: torch.Generator) -> dict[str, Tensor]:
    """Return the maps that attention is compared with, each (H, W).

    Args:
        look: The pass.
        detection: Index of the detection.
        size: Height and width of the maps.
        generator: Draws the random map.

    Returns:
        "random": a number each position; "centre": the nearer to the middle, the more; "box": the share of each
        position that the box of the detection covers; "LayerCAM", see `layercam`.
    """
    rows, columns = (torch.linspace(-1, 1, length) for length in size)
    box = (region_map(look, detection) == BOX).float()
    return {
        "random": torch.rand(size, generator=generator),
        "centre": 2 - rows[:, None] ** 2 - columns**2,
        "box": F.interpolate(box[None, None], size, mode="area")[0, 0],
        "LayerCAM": layercam(look, detection, size).cpu(),
    }
