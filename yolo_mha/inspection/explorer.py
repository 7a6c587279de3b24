"""What the explorer page shows, computed without the page: detections of a picture, their maps, and what changes."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import lru_cache
from threading import RLock

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import box_iou

from ..data.pictures import MOST_PIXELS
from ..engine.pictures import flags_for, read_picture
from ..engine.video import Image
from ..errors import DataError
from .deletion import BLANK, importance_ranks
from .explanation import NO_EFFECT, Explained, Where, explained
from .looking import Look, Looker
from .maps import DetectionMaps, detection_maps
from .measures import PADDING, region_map
from .recorder import Recorder
from .sheet import overlay, rgb
from .silencing import silenced

SHOWN_SIDE = 900  # pixels of the longer side of a picture on the page
OWN, OTHER, INK = (0, 191, 255), (235, 235, 235), (20, 20, 20)  # RGB: boxes, and the numbers on them
FONT = cv2.FONT_HERSHEY_SIMPLEX, 1.1  # of the numbers, and its scale
DRAWS = 5  # of random positions that are blanked, to compare with
SAME_OBJECT = 0.5  # IoU of boxes with and without heads that are taken for one object
KEPT = 4  # pictures and detections whose results are kept, for whoever asks next
UNREADABLE = (
    "This file cannot be read as a picture: it is broken or cut off, has values of an unknown range, or more than "
    f"{MOST_PIXELS // 10**6} million pixels."
)


@dataclass(frozen=True)
class View:
    """What a map is shown of.

    Attributes:
        layer: A block's row in the model; None for all blocks together.
        head: A head of this block; None for all of its heads together.
    """

    layer: str | None = None
    head: int | None = None

    def __str__(self) -> str:
        if self.layer is None:
            return "all blocks"
        return f"row {self.layer}, {'all heads' if self.head is None else f'head {self.head}'}"


@dataclass(frozen=True)
class Change:
    """One object with and without heads.

    Attributes:
        before: The detection with all heads, such as "1: day 0.93"; None where there was none.
        after: The detection without these heads, such as "night 0.41"; None where it is lost.
        same_class: Whether both are of one class.
    """

    before: str | None
    after: str | None
    same_class: bool = False


def _unreadable(path: str) -> DataError:
    return DataError(UNREADABLE, given=path, expected="another picture")


class Explorer:
    """Answers what one model sees in picture files, one question at a time; other threads wait.

    Detections are counted from 0, by score.

    Args:
        looker: The model.
        name: What it is called.

    Attributes:
        name: What it is called.
        views: What maps can be shown of.
        heads: Its heads by name, "row:head".
        classes: The names of its classes.
    """

    def __init__(self, looker: Looker, name: str) -> None:
        self.name, self._looker, self._lock = name, looker, RLock()
        self._silent = copy.copy(looker)  # its weights change, which would break the graphs of passes that are kept
        self._silent.model = copy.deepcopy(looker.model)
        blocks = {row: range(block.num_heads) for row, block in Recorder(looker.model).blocks.items()}
        self.heads = [f"{row}:{head}" for row, heads in blocks.items() for head in heads]
        self.classes = list(looker.names.values())
        self.views = [View()]
        for row, heads in blocks.items():
            self.views += [View(row), *(View(row, head) for head in heads)]
        self._seen = lru_cache(KEPT)(self._look)
        self._explained = lru_cache(KEPT)(self._explain)

    def detections(self, path: str) -> list[str]:
        """Return the detections in a picture, such as "1: day 0.93".

        Raises:
            DataError: The file cannot be read as a picture.
        """
        with self._lock:
            look = self._seen(path)[1]
            return [f"{i + 1}: {self._label(row)}" for i, row in enumerate(look.boxes.tolist())]

    def picture(self, path: str, chosen: int | None) -> Image:
        """Return a picture with its detections, numbered from 1, as RGB.

        Args:
            path: The picture.
            chosen: The detection whose box has a colour.
        """
        with self._lock:
            picture, look = self._seen(path)
            shown = _shown(picture)
            own = [] if chosen is None else [chosen]
            for i in [*(i for i in range(len(look.boxes)) if i != chosen), *own]:
                _draw_box(shown, look, i, OWN if i == chosen else OTHER, str(i + 1))
            return shown

    def map(self, path: str, detection: int, view: View, effect: bool) -> tuple[Image, str]:
        """Return where a detection looked, laid over the picture as RGB, and a sentence of its numbers.

        Args:
            path: The picture.
            detection: The detection.
            view: Of which block and head.
            effect: Whether to show effects or attention, see `detection_maps`.
        """
        with self._lock:
            (picture, look), (heat, where) = self._seen(path), self._heat(path, detection, view, effect)
            shown = _shown(picture)
            if heat is not None:
                placement = replace(look.placement, height=shown.shape[0], width=shown.shape[1])
                shown = rgb(overlay(rgb(shown), placement, heat))
            _draw_box(shown, look, detection, OWN)
            return shown, _sentence(where, effect)

    def blanked(self, path: str, detection: int, view: View, effect: bool, share: float) -> tuple[Image, str]:
        """Blank the positions that a map marks most; return the picture as RGB and a sentence about the score.

        The score is that of the detection's class at the same anchor. The sentence also gives the score with the same
        number of positions blanked at random.

        Args:
            path: The picture.
            detection: Index of the detection.
            view: The block and head of the map.
            effect: Whether to use the effect map, in place of the attention map.
            share: Share of the picture to blank, from 0 to 1; at least one position is blanked.
        """
        with self._lock:
            (picture, look), (heat, where) = self._seen(path), self._heat(path, detection, view, effect)
            shown = _shown(picture)
            if heat is None:
                _draw_box(shown, look, detection, OWN)
                return shown, f"{_nothing(where)} So this map marks nothing that could be blanked."
            padding = (region_map(look, detection) == PADDING).float()
            inside = F.interpolate(padding[None, None], heat.shape, mode="area")[0, 0] < 1
            count = max(round(share * int(inside.sum())), 1)
            random = torch.rand(DRAWS, *heat.shape, generator=torch.Generator().manual_seed(0))
            marked = torch.cat([heat[None].cpu(), random]).masked_fill(~inside, -1)
            chosen = F.interpolate((importance_ranks(marked) < count)[:, None].float(), look.placement.size) > 0
            images = torch.where(chosen.to(look.input.device), BLANK, look.input)
            anchor, index = int(look.anchors[detection]), int(look.boxes[detection, 5])
            before, after, *others = self._looker.scores(torch.cat([look.input, images]), anchor, index).tolist()
            left, top, right, bottom = (int(side) for side in look.placement.content)
            mask = chosen[0, 0, top:bottom, left:right].numpy().astype(np.uint8)
            shown[cv2.resize(mask, shown.shape[1::-1], interpolation=cv2.INTER_NEAREST) > 0] = round(255 * BLANK)
            _draw_box(shown, look, detection, OWN)
            return shown, (
                f"Score {before:.2f}. With the {_percent(count / int(inside.sum()))} of the picture blanked that this "
                f"map marks most: {after:.2f}. With as much blanked at random: {sum(others) / DRAWS:.2f} on average, "
                f"{min(others):.2f} to {max(others):.2f} in {DRAWS} draws."
            )

    def without(self, path: str, heads: Collection[str]) -> list[Change]:
        """Return what becomes of the detections in a picture when heads are silenced.

        Args:
            path: The picture.
            heads: Some of ``heads``.
        """
        by_row: dict[str, list[int]] = defaultdict(list)
        for name in heads:
            row, _, head = name.rpartition(":")
            by_row[row].append(int(head))
        with self._lock:
            picture, look = self._seen(path)
            with silenced(self._silent.model, by_row):
                changed = self._silent(picture)
            before, after = look.boxes.tolist(), changed.boxes.tolist()
            overlap = box_iou(look.boxes[:, :4], changed.boxes[:, :4]).tolist()
        changes, left = [], set(range(len(after)))
        for i, row in enumerate(before):
            near = [j for j in left if overlap[i][j] >= SAME_OBJECT]
            j = max(near, key=lambda j: (after[j][5] == row[5], overlap[i][j]), default=None)
            left -= {j}
            label = None if j is None else self._label(after[j])
            changes.append(Change(f"{i + 1}: {self._label(row)}", label, j is not None and after[j][5] == row[5]))
        return [*changes, *(Change(None, self._label(after[j])) for j in sorted(left))]

    def _label(self, row: list[float]) -> str:
        return f"{self._looker.names[int(row[5])]} {row[4]:.2f}"

    def _look(self, path: str) -> tuple[Image, Look]:
        try:
            picture = read_picture(path, flags_for(self._looker.channels))
        except Exception as e:  # a broken file is met with any kind of error
            raise _unreadable(path) from e
        if picture is None:
            raise _unreadable(path)
        return picture, self._looker(picture)

    def _explain(self, path: str, detection: int) -> tuple[DetectionMaps, Explained]:
        look = self._seen(path)[1]
        maps = detection_maps(look, detection)
        return maps, explained(look, detection, maps, self._looker.names, path, 0)

    def _heat(self, path: str, detection: int, view: View, effect: bool) -> tuple[Tensor | None, Where]:
        """Return a map and its numbers; no map where the detection does not depend on it, or has no effect."""
        maps, numbers = self._explained(path, detection)
        if view.layer is None:
            attention, effects, where = maps.attention, maps.effect, numbers.together
        else:
            block = next(block for block in maps.blocks if block.block.name == view.layer)
            layer = next(layer for layer in numbers.layers if layer.layer == view.layer)
            where = layer.together if view.head is None else layer.heads[view.head]
            if block.maps is None:
                return None, where
            every, each = block.maps.attention, block.maps.effect
            attention, effects = (
                (every.mean(0), each.sum(0)) if view.head is None else (every[view.head], each[view.head])
            )
        heat, shares = (effects, where.by_effect) if effect else (attention, where.by_attention)
        return heat if shares else None, where


def _sentence(where: Where, effect: bool) -> str:
    """Say where a map lies."""
    shares = where.by_effect if effect else where.by_attention
    if shares is None:
        return _nothing(where)
    text = (
        f"{_percent(shares.box)} of the {'effect' if effect else 'attention'} lies inside the box, "
        f"{_percent(shares.around)} around it, {_percent(shares.others)} on other detections, "
        f"{_percent(shares.elsewhere)} elsewhere and {_percent(shares.padding)} on padding."
    )
    if shares.distance is not None:
        text += f" The mean distance is {shares.distance:.0f} pixels."
    return f"{text} {_nothing(where) if where.no_effect else f'The effect is {where.effect:.2f} logits at most.'}"


def _nothing(where: Where) -> str:
    if where.by_attention is None:
        return "No effect: this detection does not depend on what is read here."
    return f"No effect: what is read here moves the logit of this detection by less than {NO_EFFECT}."


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _shown(picture: Image) -> Image:
    """Return a picture as RGB at the size that the page shows."""
    height, width = picture.shape[:2]
    scale = SHOWN_SIDE / max(height, width)
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    resized: Image = cv2.resize(rgb(picture), size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    return resized


def _draw_box(shown: Image, look: Look, detection: int, colour: tuple[int, int, int], number: str = "") -> None:
    """Draw the box of a detection, with a number on its upper edge."""
    scale = np.array([shown.shape[1] / look.placement.width, shown.shape[0] / look.placement.height] * 2)
    x1, y1, x2, y2 = np.rint(np.array(look.corners[detection].tolist()) * scale).astype(int).tolist()
    for ink, thickness in ((INK, 5), (colour, 3)):
        cv2.rectangle(shown, (x1, y1), (x2, y2), ink, thickness)
    if number:
        (width, height), _ = cv2.getTextSize(number, *FONT, 2)
        bottom = max(y1, height + 10)
        cv2.rectangle(shown, (x1, bottom - height - 10), (x1 + width + 8, bottom), colour, -1)
        cv2.putText(shown, number, (x1 + 4, bottom - 5), *FONT, INK, 2, cv2.LINE_AA)
