"""Which heads `prune` removes: those that are named, a share, or as many as AP allows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..data.dataset import Sample
from ..engine.model import YOLO
from ..engine.progress import with_bar
from ..errors import ConfigError, run_failed
from ..surgery.heads import attentions
from .head_importance import Passes, gradient_importance
from .silenced_scores import Name

AUTO = "auto"
FORMS = "a share between 0 and 1, such as 0.5; row:head, such as 10:0,10:3; or auto"


def read_heads(heads: object) -> float | str | list[Name]:
    """Return the share of heads that is asked for, ``AUTO``, or the heads that are named.

    Raises:
        ConfigError: It is none of these.
    """
    if isinstance(heads, (int, float)) and not isinstance(heads, bool) and 0 < heads < 1:
        return float(heads)
    if heads == AUTO:
        return AUTO
    named: list[Name] = []
    for word in str(heads).split(",") if isinstance(heads, str) else [""]:
        match = re.fullmatch(r"\s*(\d{1,4}(?:\.\d{1,4})?):(\d{1,4})\s*", word, re.ASCII)
        if not match:
            raise ConfigError("heads has an unusable value.", given=f"heads={heads}", expected=FORMS)
        if (match[1], int(match[2])) in named:
            raise ConfigError("A head is named twice.", given=f"heads={heads}", expected="each head once")
        named.append((match[1], int(match[2])))
    return named


def count_of(share: float, network: YOLO) -> int:
    """Return how many heads of a model a share is.

    Raises:
        ConfigError: It is none, or all.
    """
    count = sum(attention.num_heads for attention in attentions(network.model).values())
    number = round(share * count)
    if not 0 < number < count:
        raise ConfigError(
            f"This share would remove {'none' if number == 0 else 'all'} of the {count} heads.",
            given=f"heads={share}",
            expected=f"a share from {1 / count:.3g} to {1 - 1 / count:.3g}" if count > 1 else "a model with more heads",
        )
    return number


def least_first(
    network: YOLO, samples: Sequence[Sample], order: list[int] | None, settings: Mapping[str, Any]
) -> tuple[list[Name], int]:
    """Return all heads, those with the least gradient of the loss by their gates first, and the size of the images.

    Args:
        network: The model; it is fused afterwards.
        samples: Labelled images, of those that it was trained on.
        order: The dataset's index of each class of the model, where the two differ.
        settings: Ultralytics' settings ``imgsz`` and ``device``.
    """
    try:
        passes = Passes(network, order, **{key: settings[key] for key in ("imgsz", "device") if key in settings})
        found, _ = gradient_importance(passes, samples, with_bar)
    except Exception as e:  # whatever Ultralytics meets on the way
        raise run_failed("Measuring heads", e) from e
    return sorted(found, key=lambda name: found[name].value), max(passes.looker.imgsz)
