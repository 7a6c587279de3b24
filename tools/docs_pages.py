"""Pages of the site that are made of the code and of other files, when MkDocs builds it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from docs_tables import filled
from mkdocs.structure.files import File, Files

import yolo_mha
from yolo_mha.cli import app
from yolo_mha.engine.own_settings import BLOCK_OPTIONS, COMMANDS, Setting

ROOT = Path(__file__).resolve().parents[1]


def on_files(files: Files, config: Any) -> Files:
    """Add the pages."""
    pages = {
        "reference/commands.md": commands(),
        "reference/python.md": python(),
        "evidence/studies.md": studies(),
    }
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the tables into a page."""
    return filled(markdown)


def studies() -> str:
    """Return the README of the studies; its links to files that are no pages become their paths."""
    text = (ROOT / "studies" / "README.md").read_text(encoding="utf-8").replace("](../docs/images/", "](../images/")
    return re.sub(r"(?<!!)\[[^]]*\]\((?!https?:|#)([^)]+)\)", r"`studies/\1`", text)


def commands() -> str:
    """Return what `--help` says of every command."""
    parts = ["# Commands and settings\n\nEvery command takes `key=value` settings, `--json`, `--debug` and `--help`.\n"]
    for registered in app.registered_commands:
        name = str(registered.name or registered.callback.__name__)
        text = str(registered.help).replace("[bold]Examples[/bold]", "Examples:").replace("\\[", "[")
        about, _, examples = text.partition("Examples:")
        parts.append(f"\n## {name}\n\n{about.strip()}\n")
        if examples:
            lines = [line.strip() for line in examples.splitlines() if line.strip()]
            parts.append("\n```bash\n" + "\n".join(lines) + "\n```\n")
        if COMMANDS[name].own:
            parts.append(f"\n{_table(COMMANDS[name].own)}")
        if COMMANDS[name].others:
            parts.append(f"\nAlso {COMMANDS[name].others}.\n")
    parts.append(f"\n## Options of the block\n\nSettings of every command that has `at=`.\n\n{_table(BLOCK_OPTIONS)}")
    return "".join(parts)


def _table(settings: Any) -> str:
    rows = ["| setting | takes | default | |", "|---|---|---|---|", *map(_row, settings)]
    return "\n".join(rows) + "\n"


def _row(setting: Setting) -> str:
    default = "" if setting.default is None or setting.required else f"`{setting.default}`"
    cells = (f"`{setting.name}`", setting.kind, "required" if setting.required else default, setting.meaning)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def python() -> str:
    """Return the public names, by what mkdocstrings reads of them."""
    intro = "# Python\n\nAll public names. Results have `as_dict()`; errors say what was given, and how to fix it.\n"
    names = sorted(set(yolo_mha.__all__) - {"__version__"})
    functions = [name for name in names if name.islower()]
    classes = [name for name in names if not name.islower()]
    parts = [intro, "\n## Functions\n"]
    parts += [f"\n::: {_path(name)}\n" for name in functions]
    parts += ["\n## Classes, results and errors\n", *(f"\n::: {_path(name)}\n" for name in classes)]
    return "".join(parts)


def _path(name: str) -> str:
    value = getattr(yolo_mha, name)
    return f"{value.__module__}.{value.__qualname__}"
