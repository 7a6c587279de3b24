"""The pages of `explain`, which open in a browser without a network."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2

from ..data.files import write_text
from ..text import printable
from .measures import RING, Measures

SHARES = {
    "box": "in the box",
    "around": "around it",
    "others": "on other objects",
    "padding": "on padding",
    "elsewhere": "elsewhere",
}


def write_page(template: str, file: Path, **values: Any) -> None:
    """Write a page.

    Args:
        template: Name of its template.
        file: Where it goes; sheets lie beside it.
        **values: What it shows.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("yolo_mha.inspection", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cells"] = _cells
    environment.filters["file"] = lambda path: Path(path).name
    environment.filters["below"] = lambda path: quote(os.fsencode(Path(path).relative_to(file.parent).as_posix()))
    page = environment.get_template(template).render(**values, shares=SHARES, ring=RING)
    write_text(file, printable(page))  # names can hold what is no UTF-8


def _cells(measures: Measures | None) -> list[str]:
    """Return the cells of a table for one map."""
    if measures is None:
        return ["\u2013"] * (len(SHARES) + 2)
    shares = [f"{100 * getattr(measures, name):.0f} %" for name in SHARES]
    distance = "\u2013" if measures.distance is None else f"{measures.distance:.0f}"
    return [*shares, f"{measures.entropy:.2f}", distance]
