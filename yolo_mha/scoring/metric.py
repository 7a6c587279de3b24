"""The metrics that a comparison may be about: AP, AP by size, and the mean AP of some classes."""

from __future__ import annotations

import re
from collections.abc import Collection

from ..errors import ConfigError, nearest
from .coco import AREAS

OVERALL = ("AP", "AP50", *(f"AP{area}" for area in AREAS[1:]))
CLASSES = re.compile(r"AP\[(.+)\]")
NAME = re.compile(r'\s*"([^"]+)"\s*(?:,|$)|([^,]*)(?:,|$)')


def class_metric(name: str) -> str:
    """Return the name of the AP of one class among the scores."""
    return f"AP of {name}"


def classes_of(metric: str) -> list[str]:
    """Return the classes of a metric such as AP[pool,lane]; none of another one.

    A name with a comma is in double quotes: AP["stop, damaged",yield].
    """
    found = CLASSES.fullmatch(metric)
    names = NAME.findall(found[1] + ",")[:-1] if found else []
    return list(dict.fromkeys(quoted or plain.strip() for quoted, plain in names))


def require_metric(metric: str, classes: Collection[str] | None = None) -> None:
    """Refuse a metric that there is not.

    Args:
        metric: Its name.
        classes: Those of the dataset, once it is known.

    Raises:
        ConfigError: There is no such metric, or no such class.
    """
    own = classes_of(metric)
    if not own and metric not in OVERALL:
        expected = f"{', '.join(OVERALL)}, or AP[class,...] for the mean over some classes, one with a comma in quotes"
        raise ConfigError("No such metric.", given=metric, expected=expected)
    for name in own:
        if classes is not None and name not in classes:
            raise ConfigError(f"The dataset has no class '{name}'.", given=metric, expected=nearest(name, classes))
