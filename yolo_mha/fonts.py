"""Fonts of this machine for names in scripts that matplotlib's own font lacks, Chinese above all."""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Iterator

import matplotlib
from matplotlib import font_manager
from ultralytics.utils import LOGGER

OWN = "DejaVu Sans"  # comes with matplotlib; Latin, Greek and Cyrillic letters
MISSING = "Glyph .* missing"  # what matplotlib says of each letter
# With Chinese letters, and most with Japanese and Korean ones too; the names that matplotlib knows them by
FAMILIES = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Source Han Sans SC",
    "Microsoft YaHei",
    "PingFang SC",
    "Hiragino Sans GB",
    "Arial Unicode MS",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "SimHei",
    "Yu Gothic",
    "Malgun Gothic",
    "Apple SD Gothic Neo",
)


def installed() -> list[str]:
    """Return the first of ``FAMILIES`` that this machine has, if any."""
    there = set(font_manager.get_font_names())
    return [name for name in FAMILIES if name in there][:1]


def file(any_script: bool) -> str:
    """Return the file of a font.

    Args:
        any_script: Whether one of ``FAMILIES`` is wanted, where there is one.
    """
    names = [*(installed() if any_script else []), OWN]
    return font_manager.findfont(names[0])


@contextlib.contextmanager
def legible() -> Iterator[None]:
    """Let charts take letters that their font lacks from ``FAMILIES``; also a decorator of what draws a chart."""
    families = [*matplotlib.rcParams["font.family"], *installed()]
    with matplotlib.rc_context({"font.family": families}), warnings.catch_warnings(record=True) as said:
        warnings.filterwarnings("always", MISSING)
        yield
    missing = [w for w in said if re.match(MISSING, str(w.message))]
    for other in said:
        if other not in missing:
            warnings.warn_explicit(other.message, other.category, other.filename, other.lineno)
    if missing:
        LOGGER.warning("No font here has all letters of the names on a chart. Install one, for example Noto Sans CJK.")
