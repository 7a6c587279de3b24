"""The notebooks of docs/: stored without outputs, name what exists, and run from the first cell to the last."""

import ast
import re
import sys
from importlib import import_module
from pathlib import Path

import pytest

import yolo_mha

nbformat = pytest.importorskip("nbformat")
FOLDER = Path(__file__).parents[1] / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
LIMIT = 600  # seconds for one cell; a whole notebook takes less than half of it on two cores
each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(path, kind):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == kind]


def test_notebooks__are_those_that_the_page_lists():
    page = (FOLDER.parent / "notebooks.md").read_text(encoding="utf-8")
    assert re.findall(r"notebooks/([\w-]+)\.ipynb", page) == [
        "multi-head-attention",
        "ten-minutes",
        "read-a-comparison",
        "own-block",
    ]
    assert {path.stem for path in NOTEBOOKS} == set(re.findall(r"notebooks/([\w-]+)\.ipynb", page))


@each
def test_notebook__is_stored_without_outputs(path):
    nbformat.validate(nbformat.read(path, as_version=4))
    for cell in cells(path, "code"):
        assert not cell.outputs
        assert cell.execution_count is None
        assert "execution" not in cell.metadata  # times


@each
def test_notebook__begins_with_what_one_has_at_its_end_and_how_long_it_takes(path):
    first = cells(path, "markdown")[0].source
    assert re.search(r"^# .+\n\nAt the end ", first)
    assert "minutes on two CPU cores" in first
    assert "pip install" in first


@each
def test_notebook__names_what_exists(path):
    text = path.read_text(encoding="utf-8")
    assert not re.findall(r"(?:/home/|/tmp/|/Users/|C:\\\\)", text)
    for link in re.findall(r"\]\(([^):]+)\)", "\n".join(cell.source for cell in cells(path, "markdown"))):
        assert (path.parent / link).is_file(), link
    for cell in cells(path, "code"):
        code = re.sub(r"^%%.*\n", "", cell.source)
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "yolo_mha":
                assert node.attr in yolo_mha.__all__
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("yolo_mha."):
                assert all(hasattr(import_module(node.module), name.name) for name in node.names)


@pytest.mark.slow
@each
def test_notebook__runs(path, tmp_path):
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    from jupyter_client import AsyncKernelManager
    from jupyter_client.kernelspec import KernelSpec

    class ThisPython(AsyncKernelManager):
        """Starts the interpreter that runs the tests, whatever kernels are installed."""

        @property
        def kernel_spec(self):
            return KernelSpec(argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"])

    book = nbformat.read(path, as_version=4)
    where = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(book, timeout=LIMIT, resources=where, kernel_manager_class=ThisPython).execute()
    assert all(cell.execution_count for cell in book.cells if cell.cell_type == "code")
