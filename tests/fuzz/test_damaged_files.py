"""Reading a damaged checkpoint or label cache, or one that somebody changed, runs nothing of it and does not crash."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, seed
from pickled import checkpoint, damaged, other_steps, packed
from readers import cache, can_be_read, entries
from test_commands import examples

FEW, MANY, SECONDS = 40, 3000, 120


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """By kind of file: a valid one, and what is made of it."""
    saved, cached = entries(tmp_path_factory.mktemp("saved")), cache()
    start = cached.index(b"\n") + 1  # of the pickle
    pickled = other_steps(cached[start:]).map(lambda content: cached[:start] + content)
    return {"checkpoint": (packed(saved), checkpoint(saved)), "cache": (cached, damaged(cached) | pickled)}


def attempt(files, kind, folder):
    """Return what is tried of one kind of file."""
    valid, changed = files[kind]
    assert can_be_read(kind, folder / "x.pt", valid)

    @given(changed)
    def once(content):
        can_be_read(kind, folder / "x.pt", content)

    return once


@pytest.mark.parametrize("kind", ["checkpoint", "cache"])
def test_reader__of_a_file_that_was_changed(files, kind, tmp_path):
    examples(FEW, derandomize=True)(attempt(files, kind, tmp_path))()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["checkpoint", "cache"])
def test_reader__of_files_that_reach_more_and_more_of_it(kind, tmp_path):
    pytest.importorskip("atheris")
    words = [sys.executable, Path(__file__).with_name("fuzz_readers.py"), kind, f"-max_total_time={SECONDS}"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-5000:]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["checkpoint", "cache"])
def test_reader__of_very_many_files_that_were_changed(files, kind, tmp_path, at_random):
    seed(at_random)(examples(MANY)(attempt(files, kind, tmp_path)))()
