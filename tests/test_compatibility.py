import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import yolo_mha

TESTS = """
import pytest

@pytest.fixture
def unmade():
    raise OSError("no")

@pytest.fixture
def unkept():
    yield
    raise KeyError("gone")

def test_good(): pass
def test_skipped(): pytest.skip()
def test_assert(): assert 1 == 2
def test_assert_text(): assert False, "text"
def test_fail(): pytest.fail("text")
def test_qualified(): raise __import__("subprocess").CalledProcessError(1, "x")
def test_unmade(unmade): pass
def test_unkept(unkept): pass
@pytest.mark.parametrize("x", ["a b"])
def test_value(x): raise ValueError(x)
"""


@pytest.fixture
def compatibility(monkeypatch):
    """The script beside this file."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    import compatibility

    return compatibility


def test_outcomes__name_the_exception(compatibility, tmp_path):
    (tmp_path / "test_made.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *compatibility.junit(tmp_path / "report.xml")]
    subprocess.run(command, capture_output=True, cwd=tmp_path)
    assert compatibility.outcomes(tmp_path / "report.xml") == {
        "test_made.py::test_good": "passed",
        "test_made.py::test_skipped": "skipped",
        "test_made.py::test_assert": "failed (AssertionError)",
        "test_made.py::test_assert_text": "failed (AssertionError)",
        "test_made.py::test_fail": "failed (Failed)",
        "test_made.py::test_qualified": "failed (CalledProcessError)",
        "test_made.py::test_unmade": "error (OSError)",
        "test_made.py::test_unkept": "error (KeyError)",
        "test_made.py::test_value[a b]": "failed (ValueError)",
    }


def test_differences__of_outcome_exception_and_run_list(compatibility):
    plain = {"same": "passed", "worse": "passed", "other": "failed (OSError)", "gone": "skipped"}
    plugin = {"same": "passed", "worse": "failed (OSError)", "other": "failed (KeyError)", "new": "skipped"}
    assert compatibility.differences(plain, plugin) == ["gone", "new", "other", "worse"]


def test_plugin_tests__are_there_for_every_package_that_calls_ultralytics(compatibility):
    tests = [Path(test) for test in compatibility.PLUGIN_TESTS]
    assert [test for test in tests if not (compatibility.PROJECT / test).exists()] == []
    package = Path(yolo_mha.__file__).parent
    packages = {
        file.relative_to(package).parts[0].removesuffix(".py")
        for file in package.rglob("*.py")
        if re.search(r"^\s*(from|import) ultralytics", file.read_text(), re.MULTILINE)
    }
    assert {"registry", "engine", "deploy"} <= packages
    assert packages <= {test.parts[1].removeprefix("test_").removesuffix(".py") for test in tests}


@pytest.mark.slow
def test_main__without_an_index_says_what_is_missing(compatibility, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert compatibility.main(["8.4.100", "--reports", str(tmp_path / "reports")]) == 2
    message = capsys.readouterr().err.strip()
    assert "ultralytics==8.4.100" in message
    assert "\n" not in message
    assert list(tmp_path.iterdir()) == []


def test_main__help_has_examples(compatibility, capsys):
    with pytest.raises(SystemExit):
        compatibility.main(["--help"])
    assert "examples:" in capsys.readouterr().out
