"""How far work is, where no bar is seen: in a pipe or a file."""

from __future__ import annotations

import logging

import pytest
from ultralytics.utils import LOGGER

from yolo_mha.engine import progress


def test_short_work_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress.with_bar(range(3), "reading", 3)) == [0, 1, 2]
    assert capsys.readouterr().err == ""


def test_long_work_says_how_far_it_is(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY", 0.0)
    assert list(progress.with_bar(range(3), "reading", 3)) == [0, 1, 2]
    first, second, third = capsys.readouterr().err.splitlines()
    assert first == "reading: 1 of 3"  # no rate is known yet
    assert second.startswith("reading: 2 of 3, about 0:00:")
    assert third == "reading: 3 of 3, about 0:00:00 left"


def test_lines_are_about_the_whole_and_only_what_is_new(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY", 0.0)
    with progress.bar("images") as shown:
        whole = shown.add_task("predicting", total=None)
        part = shown.add_task("one part", total=5)
        shown.update(part, completed=4)
        shown.update(whole, advance=2)
        shown.update(whole, description="predicting")
    assert capsys.readouterr().err == "predicting: 2\n"


def test_without_messages__in_two_threads_whichever_ends_first() -> None:
    before = LOGGER.level
    one, other = progress.without_messages(logging.ERROR), progress.without_messages()
    one.__enter__()
    other.__enter__()
    assert LOGGER.level == logging.ERROR
    one.__exit__(None, None, None)
    assert LOGGER.level == logging.WARNING
    other.__exit__(None, None, None)
    assert LOGGER.level == before
