"""Seeing what reading a file does beside reading it."""

import sys
from collections.abc import Callable

DOES = ("os.", "subprocess.", "socket.", "shutil.", "ctypes.", "webbrowser.", "urllib.", "exec", "import")
ONLY_LOOKS = ("os.listdir", "os.scandir")
WRITES = set("wax+")  # in the mode of a file that is opened

_seen: list[str] | None = None


def _hook(event: str, given: tuple) -> None:
    if _seen is None or event in ONLY_LOOKS:
        return
    if event.startswith(DOES) or (event == "open" and WRITES & set(str(given[1] or ""))):
        _seen.append(f"{event} {given}"[:300])


sys.addaudithook(_hook)  # which cannot be taken away


def done_by(call: Callable[[], object]) -> list[str]:
    """Return what a call does: code run or imported, processes started, files written, addresses opened.

    It is called again where that was something, because Python imports some modules late, and once.
    """
    global _seen
    seen: list[str] = []
    for _ in range(2):
        _seen = seen = []
        try:
            call()
        finally:
            _seen = None
        if not seen:
            break
    return seen
