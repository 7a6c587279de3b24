"""A pass of a detector over one picture, of which detections can be explained: anchors, gradients, recorded blocks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_iou
from ultralytics.cfg import get_cfg
from ultralytics.data.augment import LetterBox
from ultralytics.utils.checks import check_imgsz
from ultralytics.utils.nms import non_max_suppression
from ultralytics.utils.ops import scale_boxes
from ultralytics.utils.torch_utils import select_device

from ..data.dataset import Sample
from ..engine.model import YOLO
from ..engine.pictures import flags_for, read_picture
from ..engine.video import Image
from ..errors import DataError
from .recorder import Recorder

Corners = tuple[float, float, float, float]  # x1, y1, x2, y2


@dataclass(frozen=True)
class Placement:
    """Where a picture lies in the letterboxed image that the network was given.

    Attributes:
        height: Height of the picture in pixels.
        width: Width of the picture.
        size: Height and width of the letterboxed image.
    """

    height: int
    width: int
    size: tuple[int, int]

    @property
    def content(self) -> Corners:
        """The corners of the picture in the letterboxed image, as `scale_boxes` of Ultralytics has them."""
        gain = min(self.size[0] / self.height, self.size[1] / self.width)
        height, width = (max(round(side * gain), 1) for side in (self.height, self.width))
        top, left = (round((have - used) / 2 - 0.1) for have, used in zip(self.size, (height, width), strict=True))
        return left, top, left + width, top + height

    @property
    def extent(self) -> Corners:
        """The corners of the letterboxed image in pixels of the picture."""
        left, top, right, bottom = self.content
        x, y = self.width / (right - left), self.height / (bottom - top)
        return -left * x, -top * y, (self.size[1] - left) * x, (self.size[0] - top) * y

    def inside(self, corners: Sequence[float]) -> Corners:
        """Return corners in pixels of the picture as those in the letterboxed image."""
        left, top, right, bottom = self.content
        x, y = (right - left) / self.width, (bottom - top) / self.height
        x1, y1, x2, y2 = corners
        return left + x1 * x, top + y1 * y, left + x2 * x, top + y2 * y

    @property
    def gain(self) -> float:
        """How many pixels of the letterboxed image one of the picture is wide."""
        left, _, right, _ = self.content
        return (right - left) / self.width


@dataclass
class Look:
    """What a detector found in one picture.

    Attributes:
        placement: Where the picture is in ``input``.
        input: What the network was given, RGB of shape (1, 3, H, W).
        boxes: Corners of each detection in ``input``, its score and its class, (n, 6); as `predict` finds them.
        anchors: The position of the head that each detection is from, among those of all its maps one behind another.
        logits: Scores of all classes at all these positions before the sigmoid, (classes, anchors), in the graph.
        features: The maps that the head reads, each (1, C, H, W), in the graph.
        recorder: The attention blocks.
    """

    placement: Placement
    input: Tensor
    boxes: Tensor
    anchors: Tensor
    logits: Tensor
    features: list[Tensor]
    recorder: Recorder

    @property
    def corners(self) -> Tensor:
        """The boxes in pixels of the picture, (n, 4)."""
        boxes = self.boxes[:, :4].clone()
        return scale_boxes(self.placement.size, boxes, (self.placement.height, self.placement.width))  # type: ignore[no-any-return]

    def logit(self, detection: int) -> Tensor:
        """Return the score of a detection before the sigmoid: that of its class at its anchor."""
        return self.logits[int(self.boxes[detection, 5]), self.anchors[detection]]

    def gradients(self, detection: int, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the gradient of the detection's logit with respect to feature maps of this pass.

        Args:
            detection: Its index.
            outputs: Feature maps by name, each (1, C, H, W).

        Returns:
            Gradients of the same shape, 0 where the logit does not depend on the map.
        """
        found = torch.autograd.grad(
            self.logit(detection), list(outputs.values()), retain_graph=True, allow_unused=True, materialize_grads=True
        )
        return dict(zip(outputs, found, strict=True))


class Looker:
    """Runs a detector as `predict` does, and keeps what explanations need.

    Args:
        network: The model; it is fused, moved to the device, and its parameters need no gradients afterwards.
        **settings: Ultralytics' settings ``imgsz``, ``conf``, ``iou``, ``max_det``, ``classes``, ``agnostic_nms``,
            ``nms``, ``rect`` and ``device``.

    Attributes:
        model: The network.
        names: Its classes.
        classes: Indices of those that are looked for; None for all.
        imgsz: Height and width that pictures are scaled to fit in.
        channels: Channels of the pictures.
    """

    def __init__(self, network: YOLO, **settings: Any) -> None:
        self.args = get_cfg(overrides={**network.overrides, "conf": 0.25, "rect": True, **settings, "mode": "predict"})
        self.classes = None if self.args.classes is None else np.atleast_1d(self.args.classes).tolist()
        self.device = select_device(self.args.device, verbose=False)
        model: Any = network.model
        if hasattr(model.model[-1], "end2end"):  # as the predictor does: before fusing, which drops the other branch
            model.set_head_attr(end2end=self.args.nms is False)
        self.model: Any = model.fuse(verbose=False).float().eval().to(self.device).requires_grad_(False)
        if self._end2end:
            self.model.set_head_attr(max_det=max(self.args.max_det, 300), agnostic_nms=self.args.agnostic_nms)
        self.names: dict[int, str] = self.model.names
        self.channels = int(self.model.yaml.get("channels", 3))
        stride = max(int(self.model.stride.max()), 32)
        self.imgsz: list[int] = check_imgsz(self.args.imgsz, stride=stride, min_dim=2)
        self._letterbox = LetterBox(self.imgsz, auto=self.args.rect, stride=stride)

    def read(self, sample: Sample) -> Image:
        """Read a labelled image with the channels that the model takes.

        Raises:
            DataError: It cannot be read.
        """
        picture = read_picture(str(sample.file), flags_for(self.channels))
        if picture is None:
            raise DataError("An image cannot be read.", given=sample.file, expected="an intact 8-bit image")
        return picture

    def prepare(self, picture: Image) -> Tensor:
        """Return a picture, BGR (H, W, 3), as the network takes it: letterboxed RGB from 0 to 1, (1, 3, H, W)."""
        image = self._letterbox(image=picture)
        image = image[..., None] if image.ndim == 2 else image
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if image.shape[2] == 3 else image
        return torch.from_numpy(image).to(self.device).permute(2, 0, 1)[None].float() / 255

    def __call__(self, picture: Image) -> Look:
        """Detect objects in a picture, BGR (H, W, 3), and record attention."""
        given, head = self.prepare(picture), self.model.model[-1]
        features: list[Tensor] = []

        def keep(_: object, maps: tuple[list[Tensor]]) -> None:
            features.extend(x if x.requires_grad else x.requires_grad_() for x in maps[0])

        hook = head.register_forward_pre_hook(keep)
        try:
            with Recorder(self.model, gradients=True) as recorder, torch.enable_grad():
                predictions, raw = self.model(given)
        finally:
            hook.remove()
        logits = self._logits(raw)[0]
        with torch.no_grad():
            found, rows = non_max_suppression(
                predictions.detach(),
                self.args.conf,
                self.args.iou,
                self.classes,
                self.args.agnostic_nms,
                max_det=self.args.max_det,
                end2end=self._end2end,
                return_idxs=True,
            )
            anchors = rows[0].view(-1).long()
            if self._end2end:  # the head has chosen already, and rows count what it has chosen
                chosen = head.get_topk_index(logits.detach().sigmoid().T[None], head.max_det)[2]
                anchors = chosen[0].view(-1)[anchors]
        (height, width), (H, W) = picture.shape[:2], given.shape[2:]
        placement = Placement(height, width, (H, W))
        return Look(placement, given, found[0], anchors, logits, features, recorder)

    @torch.no_grad()
    def scores(self, images: Tensor, anchor: int, index: int, batch: int = 16) -> Tensor:
        """Return the score of a class at an anchor in changed copies of the network's input.

        Args:
            images: Inputs of shape (n, 3, H, W).
            anchor: The position of the head, see `Look`.
            index: The class.
            batch: How many images go through the network at a time.
        """
        parts = torch.split(images, batch)
        return torch.cat([self._logits(self.model(part)[1])[:, index, anchor].sigmoid() for part in parts])

    def _logits(self, raw: Any) -> Tensor:
        """Return the scores before the sigmoid, (B, classes, anchors), of the head's branch that detects."""
        raw = raw["one2one" if self._end2end else "one2many"] if "one2one" in raw else raw
        return raw["scores"]  # type: ignore[no-any-return]

    @property
    def _end2end(self) -> bool:
        return bool(getattr(self.model.model[-1], "end2end", False))


def selected(look: Look, box: Iterable[float] | None) -> list[int]:
    """Return the indices of the detections that are asked for: all, or the one whose box overlaps a given one most.

    Args:
        look: The pass.
        box: x1, y1, x2, y2 in pixels of the picture; None for all.
    """
    if box is None or not len(look.boxes):
        return list(range(len(look.boxes)))
    overlap = box_iou(torch.tensor([list(box)], dtype=torch.float32), look.corners.cpu())[0]
    return [int(overlap.argmax())] if overlap.max() > 0 else []
