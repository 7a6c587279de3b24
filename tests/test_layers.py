"""The layers: a package imports from those above it only."""

import ast
import re
import sys
from pathlib import Path

import pytest

import yolo_mha

PACKAGE = Path(yolo_mha.__file__).parent
ORDER = [
    "startup",
    "text",
    "fonts",
    "errors",
    "paths",
    "yaml_files",
    "result",
    "nn",
    "row_errors",
    "registry",
    "pickles",
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


def layer(path: Path) -> str:
    return path.parts[0].removesuffix(".py")


def imported_layers(path: Path) -> set[str]:
    """The layers that a file imports, at its top or anywhere inside."""
    layers = set()
    for node in ast.walk(ast.parse((PACKAGE / path).read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = path.parts[: len(path.parts) - node.level]
            names = [*base, *(node.module.split(".") if node.module else [])]
            layers |= {names[0]} if names else {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("yolo_mha"):
            layers.add((node.module.split(".") + ["__init__"])[1])
    return layers


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports__go_down_the_stack_only(path):
    own = ORDER.index(layer(path))
    for other in imported_layers(path) - {layer(path)}:
        assert ORDER.index(other) < own, f"{path} imports {other}"


def test_only_registry_and_guard_touch_ultralytics_internals():
    for path in FILES:
        if path.name not in ("registry.py", "guard.py"):
            text = (PACKAGE / path).read_text()
            assert "nn.tasks" not in text, path
            assert "import tasks" not in text, path


# What sets an attribute of an object of Ultralytics outside registry.py and guard.py, and why that is no patch.
SETS = {
    ("cli.py", "handler.stream"): "the messages of this process go to standard error",
    ("deploy/exporter.py", "replaced LOGGER.filters"): "while a model is exported",
    ("deploy/exporter.py", "network.model.pt_path"): "the exporter names its file after it; an object of this export",
    ("deploy/proof.py", "setattr network.end2end"): "a copy of the network",
    ("engine/progress.py", "LOGGER.setLevel"): "while a step of many runs",
    ("diagnosis/doctor.py", "args.imgsz"): "the settings of this diagnosis",
    ("diagnosis/doctor.py", "network.model"): "a model that this diagnosis opened",
    ("engine/freeze_base.py", "trainer.freeze_layer_names"): "the trainer of this run",
    ("engine/trainer.py", "replaced stock.strip_optimizer"): "while a run ends, so that checkpoints are written whole",
    ("engine/trainer.py", "replaced dist.shutil"): "while a run starts, so that its folder and the lock in it stay",
    ("evaluation/score_runs.py", "model.model"): "a checkpoint that was opened to be scored without its blocks",
    ("evaluation/weights.py", "made.nc"): "a network that was just built",
    ("evaluation/weights.py", "made.names"): "a network that was just built",
    ("engine/inference.py", "loader.channels"): "the images of this call",
    ("engine/record.py", "made.yaml[]"): "a network that was just built",
    ("engine/insert.py", "made.yaml[]"): "a network that was just built",
    ("inspection/pruning_latency.py", "network.model"): "a model that prune opened, while others are exported",
    ("profiling/training_case.py", "model.args"): "a copy of the network",
    ("profiling/training_case.py", "model.names"): "a copy of the network",
    ("profiling/training_case.py", "args.imgsz"): "a copy of the settings",
    ("surgery/graft.py", "layer.i"): "a copy of the network",
    ("surgery/graft.py", "layer.f"): "a copy of the network",
    ("surgery/graft.py", "model.model"): "a copy of the network",
    ("surgery/graft.py", "model.save"): "a copy of the network",
    ("surgery/graft.py", "model.yaml"): "a copy of the network",
    ("surgery/graft.py", "view._modules"): "a view of the network",
    ("surgery/transfer.py", "target.names"): "the network that is loaded",
}
OF_ULTRALYTICS = {"args", "handler", "layer", "loader", "made", "model", "network", "predictor", "result", "target"}
OF_ULTRALYTICS |= {"trainer", "validator", "view"}  # names that this package gives to objects of Ultralytics


def sets(path: Path) -> set[tuple[str, str]]:
    """What a file sets on modules, classes and objects of Ultralytics: attributes, items of them, handlers."""
    tree = ast.parse((PACKAGE / path).read_text())
    names, found = set(OF_ULTRALYTICS), set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)) and not getattr(node, "level", 0):
            module = getattr(node, "module", None)
            names |= {
                (alias.asname or alias.name).split(".")[0]
                for alias in node.names
                if (module or alias.name).split(".")[0] == "ultralytics"
            }

    def of_ultralytics(node: ast.expr) -> bool:
        while isinstance(node, (ast.Attribute, ast.Subscript)):
            node = node.value
        return isinstance(node, ast.Name) and node.id in names

    def said(node: ast.expr) -> str:
        return f"{said(node.value)}[]" if isinstance(node, ast.Subscript) else ast.unparse(node)

    for node in ast.walk(tree):
        inner = getattr(node, "ctx", None)
        if isinstance(inner, (ast.Store, ast.Del)) and isinstance(node, (ast.Attribute, ast.Subscript)):
            if of_ultralytics(node) and isinstance(
                node if isinstance(node, ast.Attribute) else node.value, ast.Attribute
            ):
                found.add((path.as_posix(), said(node)))
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func).split(".")[-1]
            if name in ("setattr", "delattr") and of_ultralytics(node.args[0]):
                found.add((path.as_posix(), f"{name} {ast.unparse(node.args[0])}.{ast.literal_eval(node.args[1])}"))
            elif name == "replaced":
                for owner, attribute, _ in (change.elts for change in node.args):
                    if of_ultralytics(owner):
                        found.add((path.as_posix(), f"replaced {ast.unparse(owner)}.{ast.literal_eval(attribute)}"))
            elif re.fullmatch("(add|remove)(Handler|Filter)|setLevel", name) and of_ultralytics(node.func):
                found.add((path.as_posix(), ast.unparse(node.func)))
    return found


def test_patches_of_ultralytics__are_in_registry_and_guard_alone():
    found = {entry for path in FILES if path.as_posix() not in ("registry.py", "guard.py") for entry in sets(path)}
    assert found == SETS.keys()


def test_sets__sees_every_kind(tmp_path, monkeypatch):
    (tmp_path / "x.py").write_text("""
import ultralytics
from ultralytics.nn import tasks as t
from ultralytics.utils import LOGGER, SETTINGS, checks
t.parse_model = 1
t.BaseModel.load, checks.ONLINE = 1, 2
del t.x
t.table["x"] = 1
setattr(t, "y", 1)
ultralytics.z += 1
with replaced((checks, "AUTOINSTALL", False), (own, "x", 1)):
    LOGGER.addHandler(1)
trainer.model.names = {}
own.x = t.y
""")
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path)
    assert {what for _, what in sets(Path("x.py"))} == {
        "t.parse_model",
        "t.BaseModel.load",
        "checks.ONLINE",
        "t.x",
        "t.table[]",
        "setattr t.y",
        "ultralytics.z",
        "replaced checks.AUTOINSTALL",
        "LOGGER.addHandler",
        "trainer.model.names",
    }


def test_nn__knows_nothing_of_yolo():
    for path in (PACKAGE / "nn").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            roots = {n.split(".")[0] for n in names} - {"", "torch"}
            assert roots <= sys.stdlib_module_names, path
