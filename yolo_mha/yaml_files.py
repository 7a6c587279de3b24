"""Reading YAML files: within bounds of size, depth and repetition, and with every key once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from .errors import YoloMHAError, one_line

MOST_BYTES = 2**20  # of a file
MOST_NODES = 50_000  # values, keys and lists with all aliases written out; ImageNet-21k's names need 44,000
MOST_DEPTH = 50  # lists and mappings within each other
MERGE = "tag:yaml.org,2002:merge"  # of the key <<
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_yaml(path: Path, error: type[YoloMHAError], expected: str) -> dict[str, Any]:
    """Read a YAML file that holds a mapping.

    Args:
        path: The file.
        error: What to raise.
        expected: The keys that it should have, for the message.

    Raises:
        YoloMHAError: Of the type ``error``, where the file is no YAML or no mapping, is too large, or has a key twice.
    """
    try:
        if not path.is_file():
            raise error(f"{path} is not a file.", given=path, expected="a YAML file")
        if (size := path.stat().st_size) > MOST_BYTES:
            raise error(f"{path} is too large.", given=f"{size:,} bytes", expected=f"{MOST_BYTES:,} at most")
        content = load_yaml(path.read_text(encoding="utf-8-sig"), str(path), error)
    except (OSError, UnicodeDecodeError) as e:
        raise _unreadable(str(path), e, error) from e
    if not isinstance(content, dict):
        raise error(f"{path} holds no settings.", given=type(content).__name__, expected=expected)
    return content


def load_yaml(text: str, name: str, error: type[YoloMHAError]) -> Any:
    """Return what the text of a YAML file holds.

    Args:
        text: The text.
        name: The file's name, for messages.
        error: What to raise.

    Raises:
        YoloMHAError: Of the type ``error``, where the text is no YAML, is too large, or has a key twice.
    """
    loader = None
    try:
        if problem := _beyond_bounds(text):
            raise error(f"{name} is too large.", given=problem, expected="lists and aliases of an ordinary size")
        loader = _Loader(text)
        root = loader.get_single_node()
        if root is None:
            return None
        for key, lines in _repeated(root, loader):
            raise error(f"'{key}' comes twice in {name}.", given=f"lines {lines}", expected="every name once")
        return loader.construct_document(root)
    except YoloMHAError:
        raise
    except Exception as e:  # PyYAML raises many kinds, such as KeyError for !!bool a
        raise _unreadable(name, e, error) from e
    finally:
        if loader is not None:
            loader.dispose()


def _unreadable(name: str, reason: Exception, error: type[YoloMHAError]) -> YoloMHAError:
    return error(f"{name} is not readable as YAML.", given=one_line(reason), fix="correct the file")


def _beyond_bounds(text: str) -> str:
    """Say in what a text is larger than any settings; read event by event, so that this takes little memory itself."""
    sizes: dict[str, int] = {}  # nodes below each anchor, aliases written out
    opened: list[tuple[str | None, int]] = []  # anchors of the lists and mappings around, and the nodes before each
    nodes = 0
    event: Any
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, before = opened.pop()
            if anchor:
                sizes[anchor] = nodes - before
            continue
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            name = str(event.anchor)
            if any(anchor == name for anchor, _ in opened):
                return f"line {line}: *{name} stands within itself"
            nodes += sizes.get(name, 1)
        elif isinstance(event, yaml.NodeEvent):
            nodes += 1
            if isinstance(event, yaml.CollectionStartEvent):
                opened.append((event.anchor, nodes - 1))
            elif event.anchor:
                sizes[event.anchor] = 1
        if nodes > MOST_NODES:
            return f"more than {MOST_NODES:,} values, with all aliases written out"
        if len(opened) > MOST_DEPTH:
            return f"line {line}: lists or mappings more than {MOST_DEPTH} deep"
    return ""


def _repeated(node: Any, loader: Any) -> Iterator[tuple[str, str]]:
    """Yield the keys that come twice in one mapping, with their lines; a reader of YAML keeps the last in silence."""
    if isinstance(node, yaml.MappingNode):
        lines: dict[Any, int] = {}
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != MERGE:
                meant, line = loader.construct_object(key), key.start_mark.line + 1  # 1 and 0x1 are the same
                if meant in lines:
                    yield key.value, f"{lines[meant]} and {line}"
                lines[meant] = line
            yield from _repeated(value, loader)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _repeated(item, loader)
