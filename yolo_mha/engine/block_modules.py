"""The modules that blocks are in: imported by name or by file, and their source as a hash."""

from __future__ import annotations

import ast
import importlib
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from ..data.files import sha256, sha256_of_lines
from ..errors import ConfigError, with_type
from ..registry import Network, is_block

OWN = __name__.partition(".")[0]
LEFT_OUT = {"torch", "ultralytics", *sys.stdlib_module_names}  # their versions are known


# Importing -----------------------------------------------------------------------------------------------------------


def import_blocks(words: Iterable[str]) -> None:
    """Import modules that register blocks, also from the working directory.

    The working directory may be untrusted, so nothing is imported from there unless the user names modules.

    Args:
        words: Names of modules, or their files (``path/to/my_module.py``) or the folder of a package.

    Raises:
        ConfigError: A module cannot be imported, or another one has its name.
    """
    for word in words:
        name, root = _located(word)
        if str(root) not in sys.path:
            sys.path.append(str(root))
        try:
            importlib.import_module(name)
        except Exception as e:  # the module is the user's own, and may fail in any way
            expected = "modules in the working directory or on Python's path, or files, separated by commas"
            problem = "A module of blocks cannot be imported."
            raise ConfigError(problem, given=f"blocks={word}: {with_type(e)}", expected=expected) from e
        if _is_path(word) and Path(file_of(name)).resolve() != Path(word).resolve():
            raise ConfigError(
                f"Another module is already called {name}.",
                given=f"blocks={word}",
                expected=f"a unique module name; {name} is {file_of(name)}",
                fix="rename the file",
            )


def require_imported(words: Iterable[str], where: object) -> None:
    """Make sure that the modules named in a file are already imported: only the user may have code imported.

    Args:
        words: As for `import_blocks`.
        where: The file.

    Raises:
        ConfigError: One is not; the message says how to import it.
    """
    missing = [word for word in words if _located(word)[0] not in sys.modules]
    if missing:
        raise ConfigError(
            f"{where} needs modules of blocks that are not imported; a recipe cannot import code by itself.",
            given=f"blocks: {', '.join(missing)}",
            expected="these modules imported by you, if you trust their code",
            fix=f"add blocks={','.join(missing)} to the command; in Python, import them first",
        )


def file_of(module: str) -> str:
    """Return what names an imported module from any folder: its file, or the folder of a package.

    The name itself is returned where the file does not tell it, as in a package without ``__init__.py``.
    """
    file = Path(getattr(sys.modules[module], "__file__", None) or "").absolute()
    path = file.parent if file.name == "__init__.py" else file
    return str(path) if _located(str(path))[0] == module else module


def own_modules(networks: Iterable[Network]) -> tuple[str, ...]:
    """Return the modules of the user's blocks in networks, as `import_blocks` takes them."""
    kinds = {type(part) for network in networks for part in network.modules()}
    modules = {kind.__module__ for kind in kinds if is_block(kind.__name__)}
    return tuple(sorted(file_of(module) for module in modules if module.partition(".")[0] != OWN))


def _is_path(word: str) -> bool:
    return word.endswith(".py") or os.path.basename(word) != word


def _located(word: str) -> tuple[str, Path]:
    """Return a module's full name and the folder from which it is imported under that."""
    if not _is_path(word):
        return word, Path.cwd()
    path = Path(word).absolute()
    parts, folder = [path.name.removesuffix(".py")], path.parent
    while (folder / "__init__.py").is_file():
        parts.insert(0, folder.name)
        folder = folder.parent
    return ".".join(parts), folder


# Source --------------------------------------------------------------------------------------------------------------


def block_sources(network: Network) -> dict[str, str]:
    """Return the SHA-256 over the source files of every block in a network, by the name of the block.

    The files are those of `source_files`. Names of modules count, their folders do not.

    Args:
        network: The network.

    Raises:
        ConfigError: A class has no source file.
    """
    return {
        block: sha256_of_lines(f"{name} {sha256(file)}" for name, file in sorted(files.items()))
        for block, files in source_files(network).items()
    }


def source_files(network: Network) -> dict[str, dict[str, Path]]:
    """Return the source files of every block in a network, by block and name of the module.

    These are the files of its class, of the classes of its parts, of their bases, and of what these files import from
    their own folder; those of torch, Ultralytics and Python are left out.

    Args:
        network: The network.

    Raises:
        ConfigError: A class has no source file.
    """
    modules: dict[str, set[str]] = {}
    for module in network.modules():
        if is_block(name := type(module).__name__):
            kinds = {kind for part in module.modules() for kind in type(part).__mro__}
            modules.setdefault(name, set()).update(kind.__module__ for kind in kinds)
    return {name: _with_imports(name, own) for name, own in sorted(modules.items())}


def _with_imports(block: str, modules: set[str]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    waiting = [(name, _source(name)) for name in modules if name.partition(".")[0] not in LEFT_OUT]
    while waiting:
        name, file = waiting.pop()
        if name in files:
            continue
        if file is None:
            raise ConfigError(
                "A block has no source file, so changes to its code could not be detected.",
                given=f"{block}, of module {name}",
                expected="a block in a module file",
                fix="move the class into a module, and import that",
            )
        files[name] = file
        package = name if file.name == "__init__.py" else name.rpartition(".")[0]
        near = {imported: file.with_name(f"{imported}.py") for imported in _imports(file)}
        waiting += [(f"{package}.{n}".lstrip("."), path) for n, path in near.items() if path.is_file()]
    return files


def _imports(file: Path) -> set[str]:
    """Return the names that a file imports, the last part of each; read from its text, which imports nothing."""
    nodes = list(ast.walk(ast.parse(file.read_bytes())))
    names = {alias.name for node in nodes if isinstance(node, (ast.Import, ast.ImportFrom)) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    return {name.rpartition(".")[2] for name in names}


def _source(module: str) -> Path | None:
    file = getattr(sys.modules.get(module), "__file__", None)
    return Path(file) if file and os.path.isfile(file) else None
