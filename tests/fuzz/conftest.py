"""The property that every command has, whatever it is given."""

import re
import secrets
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from yolo_mha.cli import main

SECONDS = 60  # for one command on small inputs; the first one imports what it needs, also on a busy machine
KEPT = ("runs/datasets/", "runs/compare/")  # mirrors and comparisons, which the next command takes up


class Hangs(BaseException):
    """A command does not come to an end."""


def _hangs(*_: object) -> None:
    raise Hangs


@pytest.fixture
def holds(tmp_path, monkeypatch, capsys) -> Callable[[Mapping[str, bytes], Sequence[str]], int]:
    """Return a function that runs a command beside files, and checks how it ends; it returns the exit code.

    It ends with 0; with 1 and a result or one error; or with 2, one error, and no file made; within a minute, and never
    with a traceback. The files that it was given stay as they are in any case.
    """

    def call(words: Sequence[str]) -> tuple[int, str, str]:
        before = signal.signal(signal.SIGALRM, _hangs)
        signal.alarm(SECONDS)
        try:
            with pytest.raises(SystemExit) as ended:
                main(list(words))
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, before)
        return int(ended.value.code or 0), *capsys.readouterr()

    def run(files: Mapping[str, bytes], words: Sequence[str]) -> int:
        folder = tmp_path / "work"
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        monkeypatch.chdir(folder)
        try:
            code, out, err = call(words)
            left = _content(folder)
        finally:
            monkeypatch.chdir(tmp_path)
            shutil.rmtree(folder)
        said = f"{' '.join(words)}: exit code {code}\n{out[-300:]}\n{err[-3000:]}"
        assert code in (0, 1, 2), said
        for wrong in (
            "Traceback",
            "unexpected error",
            "A file or folder cannot be used",
        ):  # nothing is wrong with the disk
            assert wrong not in out + err, said
        usage = code == 2 and "Usage: " in err  # of a word that begins with a hyphen
        errors = len(re.findall(r"^error: .+\n  (given|expected|fix): ", err, re.MULTILINE))
        assert errors == (code == 2 and not usage) or (code == 1 and not out and errors == 1), said
        given = {name: content for name, content in files.items() if not name.startswith(KEPT)}
        assert {name: left.get(name) for name in given} == given, said
        assert code != 2 or left.keys() == given.keys(), f"{said}\n{left.keys() - given.keys()}"
        return code

    return run


@pytest.fixture
def at_random() -> int:
    """A seed that is another one each time, and is printed."""
    number = secrets.randbits(32)
    print(f"seed {number}")
    return number


def _content(folder: Path) -> dict[str, bytes]:
    files = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.is_file()}
    return {name: file.read_bytes() for name, file in files.items() if not name.startswith(KEPT)}
