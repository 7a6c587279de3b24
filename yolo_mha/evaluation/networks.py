"""The networks that the arms of a comparison train."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..engine.model import YOLO, require_detection
from ..errors import ModelError
from ..registry import Network, build
from ..surgery.graft import renamed
from ..surgery.insertion import Insertion
from ..surgery.transfer import align
from .control import Match, matched_control


@dataclass(frozen=True)
class ArmNetwork:
    """What an arm trains.

    Attributes:
        network: The network, built once, with the class count of its file.
        extends: Whether it is the baseline with or without blocks, so that it can begin with the baseline's weights.
        matches: Its convolutions, where it is the control of another arm.
    """

    network: Network
    extends: bool
    matches: list[Match] = field(default_factory=list)


def build_arms(arms: Mapping[str, Mapping[str, Any]]) -> dict[str, ArmNetwork]:
    """Build every arm once.

    Args:
        arms: See `Recipe`; ``match`` names an arm that is there.

    Raises:
        ConfigError: A place is not in the model, or a control cannot be matched.
        ModelError, CheckpointError: A model cannot be read or built.
        UnsupportedTaskError: A model is not for box detection.
    """
    own = {name: _network(arm) for name, arm in arms.items() if "match" not in arm}
    baseline = own[next(iter(arms))]
    built = {}
    for name, arm in arms.items():
        if "match" in arm:
            content, matches = matched_control(baseline, own[arm["match"]], arm["match"])
            built[name] = ArmNetwork(build(content), True, matches)
        else:
            built[name] = ArmNetwork(own[name], _extends(own[name], baseline))
    return built


def _network(arm: Mapping[str, Any]) -> Network:
    opened = YOLO(arm["model"])
    require_detection(opened.task, "compare")
    insertion, _ = Insertion.from_settings(arm)
    network: Network = opened.model
    return network if insertion is None else insertion.apply(network)[0]


def _extends(network: Network, baseline: Network) -> bool:
    """Say whether a network has the baseline's layers; some families have rows that look the same and other widths."""
    try:
        places = align(baseline.yaml, network.yaml)
    except ModelError:
        return False
    state, head = network.state_dict(), f"model.{len(baseline.model) - 1}."
    tensors = {renamed(k, places): v.shape for k, v in baseline.state_dict().items() if not k.startswith(head)}
    same = [state[k].shape == shape for k, shape in tensors.items() if k in state]
    return bool(sum(same) > len(same) / 2)
