"""Tables of the site that are made of classes, schemas and results: a page has `<!-- table: NAME ARGUMENT -->`."""

from __future__ import annotations

import importlib
import inspect
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import fields as fields_of
from pathlib import Path
from typing import Any

from yolo_mha import nn

ROOT = Path(__file__).resolve().parents[1]
ZOO = ROOT / "benchmarks" / "results" / "zoo.json"
MARK = re.compile(r"<!-- table: (\w+) ?(\S*) -->")
# lines of a section of a Google docstring: "    name: meaning", and what is indented further
ENTRY = re.compile(r"^    (\w+): (.*(?:\n {8}.*)*)", re.MULTILINE)


def filled(markdown: str) -> str:
    """Return a page with its tables."""
    makers = {"fields": fields, "arguments": arguments, "schema": schema, "zoo": zoo}
    return MARK.sub(lambda found: makers[found[1]](*filter(None, [found[2]])), markdown)


def fields(path: str) -> str:
    """Return the attributes of a dataclass, given by its full name."""
    module, _, name = path.rpartition(".")
    described = getattr(importlib.import_module(module), name)
    meanings = _section(inspect.getdoc(described) or "", "Attributes")
    return _table(
        ("field", "type", ""), ((f"`{f.name}`", f"`{f.type}`", meanings.get(f.name, "")) for f in fields_of(described))
    )


def arguments(name: str) -> str:
    """Return the arguments that a block takes in a row, with their defaults."""
    block = getattr(nn, name)
    meanings = _section(inspect.getdoc(block) or "", "Args")
    taken = inspect.signature(block).parameters.values()
    return _table(
        ("argument", "default", ""),
        (
            (f"`{p.name}`", "" if p.default is p.empty else f"`{_yaml(p.default)}`", meanings.get(p.name, ""))
            for p in taken
            if p.name not in ("dim", "context_dim")
        ),
    )


def schema() -> str:
    """Return the fields of compare.json from its JSON Schema, class by class."""
    file = ROOT / "yolo_mha" / "evaluation" / "compare.schema.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    parts = [_of_schema(content)]
    parts += [f"\n### {name}\n\n{_of_schema(found)}" for name, found in content["$defs"].items()]
    return "".join(parts)


def zoo() -> str:
    """Return what the models cost, family by family, from benchmarks/results/zoo.json."""
    found = json.loads(ZOO.read_text(encoding="utf-8"))
    parts = [_family(name, **own) for name, own in found["families"].items()]
    machine = ", ".join(f"{key} {value}" for key, value in found["environment"].items())
    return f"Measured on {found['date']}: {machine}.\n{''.join(parts)}"


def _family(family: str, imgsz: int, counts: dict[str, Any], latency: dict[str, Any]) -> str:
    first, *others = next(iter(counts.values()))
    rows = []
    for name, own in counts.items():
        cost = own[first]
        rows.append([f"`{name}`", f"{cost['parameters']:,}", f"{cost['gflops']:.2f}", _ms(latency.get(name))])
    again = f"`{next(iter(counts))}` again (A/A)"
    rows += [[again, "", "", _ms(latency[name])] for name in latency.keys() - counts.keys()]
    scale = f", scale {first}" if first else ""
    parts = [f"\n## {family}{scale}, {imgsz} px\n\n{_table(['model', 'parameters', 'GFLOPs', 'ms, ratio'], rows)}"]
    if others:
        rows = [
            [f"`{name}`", *(f"{own[s]['parameters'] / 1e6:.1f} / {own[s]['gflops']:.0f}" for s in others)]
            for name, own in counts.items()
        ]
        parts.append(f"\nMillions of parameters / GFLOPs at the other scales:\n\n{_table(['model', *others], rows)}")
    return "".join(parts)


def _ms(latency: dict[str, Any] | None) -> str:
    if latency is None:
        return "not measured"
    low, high = latency["range"]
    return f"{latency['ms']:.0f}, {latency['ratio']:.2f} ({low:.2f} to {high:.2f})"


def _of_schema(described: dict[str, Any]) -> str:
    about, _, _ = described.get("description", "").partition("\n\n")
    meanings = _section(described.get("description", ""), "Attributes")
    rows = [(f"`{name}`", _type(kind), meanings.get(name, "")) for name, kind in described["properties"].items()]
    return f"{_plain(about)}\n\n{_table(('field', 'type', ''), rows)}"


def _type(kind: dict[str, Any]) -> str:
    """Return a type of JSON Schema in words."""
    if "$ref" in kind:
        name = kind["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in kind:
        return " or ".join(map(_type, kind["anyOf"]))
    if "prefixItems" in kind:
        return f"list of {len(kind['prefixItems'])}"
    if kind.get("type") == "array":
        return f"list of {_type(kind.get('items', {}))}"
    inner = kind.get("additionalProperties")
    if kind.get("type") == "object" and isinstance(inner, dict):
        return f"object by name of {_type(inner)}"
    return str(kind.get("type", "any"))


def _section(docstring: str, title: str) -> dict[str, str]:
    """Return what a section of a Google docstring says of each name."""
    found = re.search(rf"^{title}:\n((?: {{4}}.*\n?|\n)*)", docstring, re.MULTILINE)
    return {name: _plain(text) for name, text in ENTRY.findall(found[1])} if found else {}


def _plain(text: str) -> str:
    """Return text of a docstring on one line of Markdown."""
    return " ".join(text.replace("``", "`").split())


def _yaml(value: Any) -> str:
    return json.dumps(value) if isinstance(value, bool | None) else str(value)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)
