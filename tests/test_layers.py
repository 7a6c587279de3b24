"""The house: a room imports from the rooms above it only."""

import ast
import sys
from pathlib import Path

import pytest

import yolo_mha

PACKAGE = Path(yolo_mha.__file__).parent
ORDER = [
    "errors",
    "paths",
    "result",
    "nn",
    "registry",
    "guard",
    "data",
    "surgery",
    "engine",
    "scoring",
    "deploy",
    "profiling",
    "diagnosis",
    "evaluation",
    "inspection",
    "cluster",
    "show",
    "cli",
    "__init__",
    "__main__",
]
FILES = sorted(p.relative_to(PACKAGE) for p in PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    return path.parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    """The rooms that a file imports, at its top or anywhere inside."""
    rooms = set()
    for node in ast.walk(ast.parse((PACKAGE / path).read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = path.parts[: len(path.parts) - node.level]
            names = [*base, *(node.module.split(".") if node.module else [])]
            rooms |= {names[0]} if names else {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("yolo_mha"):
            rooms.add((node.module.split(".") + ["__init__"])[1])
    return rooms


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports__go_down_the_stack_only(path):
    own = ORDER.index(room(path))
    for other in imported_rooms(path) - {room(path)}:
        assert ORDER.index(other) < own, f"{path} imports {other}"


def test_only_registry_and_guard_touch_ultralytics_internals():
    for path in FILES:
        if path.name not in ("registry.py", "guard.py"):
            text = (PACKAGE / path).read_text()
            assert "nn.tasks" not in text, path
            assert "import tasks" not in text, path


def test_nn__knows_nothing_of_yolo():
    for path in (PACKAGE / "nn").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            roots = {n.split(".")[0] for n in names} - {"", "torch"}
            assert roots <= sys.stdlib_module_names, path
