"""D-RISE: a map of a detection that looks at outputs alone (Petsiuk et al. 2021, D-RISE, section 3)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import box_convert, box_iou

from .deletion import BLANK
from .looking import Look, Looker

MASKS = 500  # 5,000 there; with fewer the map is noisier
CELLS = 16  # of a mask, to either side
SHOWN = 0.5  # probability that a cell is shown
BATCH = 16


@torch.no_grad()
def drise(looker: Looker, look: Look, detection: int, size: tuple[int, int], seed: int = 0) -> Tensor:
    """Return the D-RISE map of a detection: the mean of random masks, weighted by what is left of the detection.

    What is left is the largest product of overlap (IoU) and score of the class among all boxes that the network gives
    for the masked image. There the product also has the cosine of class probabilities and the objectness; detectors
    without objectness have one number for both, the score. Masked pixels are as grey as letterboxing.

    Args:
        looker: The model.
        look: Its pass over the picture.
        detection: Index of the detection.
        size: Height and width of the map.
        seed: Draws the masks.
    """
    generator = torch.Generator().manual_seed(seed)
    given, box, index = look.input, look.boxes[detection, :4], int(look.boxes[detection, 5])
    total, mean = torch.zeros(size), torch.zeros(size)
    for first in range(0, MASKS, BATCH):
        masks = random_masks(min(BATCH, MASKS - first), look.placement.size, generator)
        shown = masks.to(given.device) * (given - BLANK) + BLANK  # (n, 3, H, W)
        weights = similarities(looker.model(shown)[0], box, index).cpu()
        small = F.interpolate(masks, size, mode="area")[:, 0]
        total += torch.einsum("n,nhw->hw", weights, small)
        mean += small.sum(0)
    return total / mean.clamp_min(1e-6)


def random_masks(count: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Return smooth masks from 0 to 1, (count, 1, H, W): grids of zeros and ones, enlarged and shifted at random.

    Args:
        count: Number of masks.
        size: Height and width.
        generator: Draws them.
    """
    H, W = size
    down, across = -(-H // CELLS), -(-W // CELLS)
    cells = (torch.rand(count, 1, CELLS + 1, CELLS + 1, generator=generator) < SHOWN).float()
    large = F.interpolate(cells, ((CELLS + 1) * down, (CELLS + 1) * across), mode="bilinear", align_corners=False)
    rows, columns = (torch.randint(n, (count,), generator=generator).tolist() for n in (down, across))
    return torch.stack([mask[:, r : r + H, c : c + W] for mask, r, c in zip(large, rows, columns, strict=True)])


def similarities(predictions: Tensor, box: Tensor, index: int) -> Tensor:
    """Return what is left of a detection in each image: the largest product of overlap and score of its class.

    Args:
        predictions: What the network gives: (n, 4 + classes, anchors) with centre, width and height, or without NMS
            (n, boxes, 6) with corners, score and class.
        box: Corners of the detection.
        index: Its class.
    """
    if predictions.shape[-1] == 6:
        boxes, scores = predictions[..., :4], predictions[..., 4] * (predictions[..., 5] == index)
    else:
        boxes = box_convert(predictions[:, :4].transpose(1, 2), "cxcywh", "xyxy")
        scores = predictions[:, 4 + index]
    overlap = box_iou(box[None], boxes.flatten(0, 1))[0].view(scores.shape)
    left: Tensor = (overlap * scores).amax(1)
    return left
