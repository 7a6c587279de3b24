"""Every error says what was given and what to do, and names only commands and settings that exist."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from ultralytics.cfg import DEFAULT_CFG_DICT, MODES, TASKS

from yolo_mha import errors
from yolo_mha.engine.own_settings import BLOCK_OPTIONS, BLOCKS, COMMANDS
from yolo_mha.engine.run_folder import FolderInUseError

PACKAGE = Path(errors.__file__).parent
ERRORS = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.YoloMHAError)}
NAMES = {kind.__name__ for kind in (*ERRORS, FolderInUseError)} - {"YoloMHAError"}
# They pass on what a process of ours said, or are a part of another error.
PASSED_ON = {
    "deploy/worker.py": "RunError(str(answer['error']))",
    "engine/child.py": "RunError('The process ended.'",
    "registry.py": "ModelError(f'{self.name} does not take these arguments.'",
}
# Nothing was given where a package or a setting is missing, or the work fails as a whole.
NOTHING_GIVEN = {"DependencyError", "RunError"}


@cache
def sources() -> list[tuple[str, ast.Module]]:
    files = sorted(PACKAGE.rglob("*.py"))
    return [(f.relative_to(PACKAGE).as_posix(), ast.parse(f.read_text(encoding="utf-8"))) for f in files]


def made() -> Iterator[tuple[str, ast.Call]]:
    """Yield every place that makes an error, with its file."""
    for file, tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", None) in NAMES:
                yield file, node


@pytest.mark.parametrize("name", sorted(NAMES))
def test_errors__say_what_was_given_and_what_to_do(name):
    own = [(file, node) for file, node in made() if node.func.id == name]
    assert own or name == "RegistrationError"
    for file, node in own:
        text = ast.unparse(node)
        if file in PASSED_ON and text.startswith(PASSED_ON[file]):
            continue
        where, parts = f"{file}:{node.lineno}: {text}", {part.arg for part in node.keywords}
        assert parts & {"expected", "fix", None}, f"{where} does not say what to do"
        nothing = name in NOTHING_GIVEN or "is missing." in text or "fix" in parts
        assert parts & {"given", None} or nothing, f"{where} does not say what was given"


def test_messages__name_commands_and_settings_that_exist():
    settings = {*DEFAULT_CFG_DICT, *(option.name for option in BLOCK_OPTIONS), BLOCKS.name}
    found = 0
    for file, tree in sources():
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Constant) and isinstance(node.value, str)):
                continue
            for command, rest in re.findall(r"\byolo-mha ([a-z-]+)((?: +[a-z_]+=[^ ,;]*)*)", node.value):
                if not rest and command not in COMMANDS and "_" not in command:
                    continue  # "yolo-mha was tested with", in a sentence
                assert command in COMMANDS, f"{file}:{node.lineno} names yolo-mha {command}"
                found += 1
                own = {setting.name for setting in (*COMMANDS[command].own, *COMMANDS[command].options)}
                named = set(re.findall(r"([a-z_]+)=", rest))
                assert named <= own | settings, f"{file}:{node.lineno} names {named - own - settings} of {command}"
            for word in re.findall(r"\byolo ([a-z]+) [a-z_]+=", node.value):
                assert word in {*MODES, *TASKS}, f"{file}:{node.lineno} names yolo {word}"
    assert found > 60


def test_error__has_its_problem_on_one_line():
    error = errors.ConfigError("Unknown key 'a\nb'.", given="c")
    assert str(error).splitlines()[0] == "Unknown key 'a\\nb'."
