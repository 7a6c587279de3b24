"""Where blocks go: names such as P4, neck:P3, after:SPPF and layer:9, and the layers that they mean."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch

from ..errors import ConfigError, nearest
from ..registry import Network, all_rows, sources_of

PROBE_SIDE = 128  # pixels; a multiple of the largest stride, 64, and enough positions for RT-DETR's 300 best
PYRAMID_LEVELS = range(2, 7)
LONGEST_SLUG = 60
FORMS = "P2 to P6, neck, neck:P3, after:SPPF or layer:9, separated by commas"


@dataclass(frozen=True)
class Layer:
    """One row of a built model.

    Attributes:
        index: Its index.
        section: "backbone" or "head".
        source: Its ``from``.
        module: The module's name in the YAML.
        stride: Pixels of the image per position of its output; None where that is not one feature map.
        channels: Channels of that map.
        parameters: Number of parameters.
    """

    index: int
    section: str
    source: int | list[int]
    module: str
    stride: int | None
    channels: int | None
    parameters: int


def layers(model: Network) -> list[Layer]:
    """Describe every row of a model, by running one small image through a copy of it.

    Args:
        model: A model of Ultralytics.
    """
    copied = deepcopy(model).float().cpu().eval()
    outputs: dict[int, Any] = {}

    def keep(module: Any, inputs: Any, output: Any) -> None:
        is_map = isinstance(output, torch.Tensor) and output.dim() == 4 and PROBE_SIDE % output.shape[2] == 0
        outputs[module.i] = output.shape if is_map else None

    for layer in copied.model:
        layer.register_forward_hook(keep)
    with torch.no_grad():
        copied(torch.zeros(1, model.yaml.get("channels", 3), PROBE_SIDE, PROBE_SIDE))
    described = []
    for i, row in enumerate(all_rows(model.yaml)):
        shape = outputs.get(i)
        described.append(
            Layer(
                index=i,
                section="backbone" if i < len(model.yaml["backbone"]) else "head",
                source=row[0],
                module=str(row[2]),
                stride=PROBE_SIDE // shape[2] if shape else None,
                channels=shape[1] if shape else None,
                parameters=sum(p.numel() for p in model.model[i].parameters()),
            )
        )
    return described


def split(at: str | Iterable[str], setting: str = "at") -> list[str]:
    """Split a user's list of places.

    Args:
        at: "P4,P5", or the places one by one.
        setting: The user's name for it.

    Raises:
        ConfigError: It is empty, or no text.
    """
    given = at.split(",") if isinstance(at, str) else list(at) if isinstance(at, (list, tuple)) else [at]
    places = [place.strip() if isinstance(place, str) else "" for place in given]
    if not all(places) or not places:
        raise ConfigError(f"{setting} has an unusable value.", given=f"{setting}={at!r}", expected=FORMS)
    return places


def slug(places: Iterable[str]) -> str:
    """Turn places into a part of a file name: p4p5, neck, after-sppf."""
    words = [re.sub(r"[^A-Za-z0-9_]+", "-", place).lower() for place in places]
    name = ("" if all(re.fullmatch(r"p[0-9]", word) for word in words) else "-").join(words)
    return name if len(name) <= LONGEST_SLUG else f"{len(words)}-places"


def find_hosts(at: str | Iterable[str], model: Sequence[Layer], setting: str = "at") -> list[int]:
    """Find the layers directly behind which blocks go.

    Args:
        at: One or several of ``P2`` to ``P6`` (the last backbone layer at that stride), ``neck`` (every layer that
            feeds the head), ``neck:P3`` (the one of them at that stride), ``after:SPPF``, ``layer:9``.
        model: From `layers`.
        setting: The user's name for ``at``.

    Returns:
        Their indices, ascending.

    Raises:
        ConfigError: A place is unknown, not in this model, ambiguous, named twice, or gives no feature map.
    """
    hosts: dict[int, str] = {}
    for place in split(at, setting):
        for host in _hosts(place, model, setting):
            if host in hosts:
                raise ConfigError(
                    "Two places are the same layer.",
                    given=f"{setting}={hosts[host]} and {place}: both are after row {host}, {model[host].module}",
                    expected="each place once",
                )
            if model[host].stride is None:
                raise ConfigError(
                    "Attention needs a feature map, and this layer does not return one.",
                    given=f"{setting}={place}: row {host}, {model[host].module}",
                    expected=f"one of rows {_listed(layer.index for layer in model if layer.stride)}",
                )
            hosts[host] = place
    return sorted(hosts)


def _hosts(place: str, model: Sequence[Layer], setting: str) -> list[int]:
    kind, _, rest = place.partition(":")
    feeds = sources_of([model[-1].source], model[-1].index)
    if kind.lower() == "neck" and not rest:
        return feeds
    if match := re.fullmatch(r"(neck:)?p([0-9]{1,4})", place.lower()):
        level = int(match[2])
        among = [model[i] for i in feeds] if match[1] else [layer for layer in model if layer.section == "backbone"]
        at_level = [layer.index for layer in among if level in PYRAMID_LEVELS and layer.stride == 2**level]
        if at_level:
            return at_level[-1:]
        known = [n for n in PYRAMID_LEVELS if 2**n in {layer.stride for layer in among}]
        raise ConfigError(
            "The model has no such level.",
            given=f"{setting}={place}" + (f" (stride {2**level})" if level in PYRAMID_LEVELS else ""),
            expected=f"one of {_listed(place.rstrip('0123456789') + str(n) for n in known)}",
        )
    if kind.lower() == "after" and rest:
        found = [layer.index for layer in model if layer.module == rest]
        if len(found) == 1:
            return found
        if found:
            raise ConfigError(
                f"The model has several {rest} layers.",
                given=f"{setting}={place}",
                expected=f"one of {_listed(f'layer:{i}' for i in found)}",
            )
        names = {layer.module for layer in model}
        raise ConfigError("The model has no such layer.", given=f"{setting}={place}", expected=nearest(rest, names))
    if kind.lower() == "layer" and re.fullmatch(r"[0-9]{1,4}", rest):
        if int(rest) < len(model) - 1:
            return [int(rest)]
        raise ConfigError(
            "No block can be inserted at this index.",
            given=f"{setting}={place}",
            expected=f"layer:0 to layer:{len(model) - 2}, before the head",
        )
    raise ConfigError("Unknown place.", given=f"{setting}={place}", expected=FORMS)


def _listed(words: Iterable[object]) -> str:
    return ", ".join(map(str, words))
