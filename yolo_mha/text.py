"""Names that others wrote, fit for a terminal, a spreadsheet and a page; and times in words."""

from __future__ import annotations

import re
import textwrap

# Control characters except tab and line feed, bidirectional controls, and lone surrogates
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_MARKDOWN = re.compile(r"[<|*`]|(?<=\])\(")  # tags, cells, emphasis, code, and what makes a link or a picture
_COLOUR_OR_LINE = re.compile(r"(\x1b\[[0-9;]*m|\x1b\[K|\r)")  # what Ultralytics' own messages hold
UNFINISHED = ".unfinished-"  # begins the name of a file or folder that is being written
_COPY = re.compile(rf", saved as [^\n]*{re.escape(UNFINISHED)}[^\s,]+")
_FOLDER = re.compile(rf"{re.escape(UNFINISHED)}[^/\\\s]+[/\\]")
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # with one of these begins what a spreadsheet computes


def printable(text: object) -> str:
    r"""Return a text with control characters spelled out, as \x1b, so that a terminal shows and does not obey them."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode(), str(text))


def printable_message(text: str) -> str:
    """Do the same with a message of Ultralytics: colours and carriage returns stay, names of unfinished files go."""
    text = _FOLDER.sub("", _COPY.sub("", text))
    return "".join(part if i % 2 else printable(part) for i, part in enumerate(_COLOUR_OR_LINE.split(text)))


def cell(text: str) -> str:
    """Return a text for a CSV file; a spreadsheet does not compute it."""
    return f"'{text}" if text.startswith(FORMULA) else text


def markdown(text: str) -> str:
    """Return a text for a Markdown page, in which it shows as it is, in one line."""
    return _MARKDOWN.sub(r"\\\g<0>", in_line(text))


def in_line(text: str) -> str:
    """Return a text in one line, as code on a page is."""
    return " ".join(printable(text).splitlines())


def plotted(text: object) -> str:
    r"""Return a text for a picture.

    Matplotlib would read what stands between two $ as a formula, and leave out of a legend what begins with _.
    """
    shown = printable(text).replace("$", r"\$")
    return f"\u200b{shown}" if shown.startswith("_") else shown


def plotted_lines(text: str, width: int = 32) -> str:
    """Return a text for a picture in four lines at most, so that a long one leaves room for what is drawn."""
    lines = textwrap.wrap(text.replace(",", ", "), width, max_lines=4, placeholder=" \u2026")
    return "\n".join(map(plotted, lines))


def plotted_short(name: str) -> str:
    """Return a name for a picture as `short` does."""
    return plotted(short(name))


def short(name: str) -> str:
    """Return a name in 30 characters at most: its beginning and its end."""
    return name if len(name) <= 30 else f"{name[:14]}\u2026{name[-15:]}"


def duration(seconds: float) -> str:
    """Say a time in words: 50 s, 12 min, 3 h 20 min, 2 d 4 h."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"
