"""The page of `explain`, which opens in a browser without a network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import jinja2

from ..data.files import write_text
from .explanation import Explained
from .measures import RING, Measures

SHARES = {
    "box": "in the box",
    "around": "around it",
    "others": "on other objects",
    "padding": "on padding",
    "elsewhere": "elsewhere",
}


def write_page(model: str, detections: Sequence[Explained], notes: Sequence[str], file: Path) -> None:
    """Write the page; the sheets lie beside it.

    Args:
        model: What was explained.
        detections: Each detection.
        notes: What else is good to know.
        file: Where it goes.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("yolo_mha.inspection", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cells"] = _cells
    page = environment.get_template("explain.html.j2").render(
        model=model,
        detections=[(d, d.sheet and Path(d.sheet).relative_to(file.parent).as_posix()) for d in detections],
        notes=notes,
        shares=SHARES,
        ring=RING,
    )
    write_text(file, page)


def _cells(measures: Measures | None) -> list[str]:
    """Return the cells of a table for one map."""
    if measures is None:
        return ["\u2013"] * (len(SHARES) + 2)
    shares = [f"{100 * getattr(measures, name):.0f} %" for name in SHARES]
    distance = "\u2013" if measures.distance is None else f"{measures.distance:.0f}"
    return [*shares, f"{measures.entropy:.2f}", distance]
