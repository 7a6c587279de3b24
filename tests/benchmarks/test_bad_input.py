import importlib.util
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


def load(name: str):
    """A file of benchmarks/, from its path."""
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def tool():
    yield load("bad_input")
    del sys.modules["bad_input"]


@pytest.fixture(scope="module")
def table():
    yield load("bad_input_cases")
    del sys.modules["bad_input_cases"]


@pytest.mark.parametrize(
    ("text", "code", "ran", "outcome"),
    [
        ("error: m.pt is damaged.", 2, False, "clear error"),
        ("error: The checkpoint is damaged.\n  given:    m.pt", 2, False, "clear error"),
        ("error: something is damaged.", 2, False, "unclear error"),
        ('Traceback (most recent call last):\n  File "a", line 1\n    x(m.pt)\nValueError: x', 1, False, "traceback"),
        (
            'Traceback (most recent call last):\n  File "a", line 1\n    x()\nValueError: m.pt',
            1,
            False,
            "traceback that names it",
        ),
        ("unexpected error: ValueError: m.pt", 1, False, "traceback"),
        ("1 images\nskipped 1 files:\n  a/m.pt", 1, False, "skipped and named"),
        ("WARNING m.pt: ignoring it", 0, False, "skipped and named"),
        ("1 images from m.pt", 0, False, "accepted"),
        ("error: m.pt is damaged.", 2, True, "code ran"),
        ("error: m.pt is damaged.", -9, False, "hung or killed"),
        ("", None, False, "hung or killed"),
    ],
)
def test_judge(tool, text, code, ran, outcome):
    assert tool.judge(text, code, ran, ("m.pt",)) == outcome
    assert outcome in tool.OUTCOMES


def test_cases__are_many_and_each_is_another(table):
    made = table.cases()
    assert len({(case.kind, case.name) for case in made}) == len(made) >= 300
    assert all(case.names and all(case.names) for case in made)


def test_case__lies_in_a_folder_of_its_own(table, tmp_path):
    case = next(case for case in table.cases() if case.name == "a pickle that runs")
    case.lay_out(tmp_path / "case")
    assert {"m.pt", "demo.pt", "x.png", "data.yaml", "model.yaml"} <= {p.name for p in (tmp_path / "case").iterdir()}
    assert not (tmp_path / "case" / table.MARKER).exists()
