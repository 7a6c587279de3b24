"""Editing the text of a model YAML, so that comments, order and spelling stay as their author left them."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import yaml
from ultralytics.utils import LOGGER

from ..errors import ModelError
from ..registry import ModelYAML, find_model_yaml, is_block
from ..yaml_files import load_yaml
from .rows import RowPlan, edit

Edit = tuple[int, int, str]  # replace text[start:end]
OWN_INDEX = re.compile(r"^\s*#\s*(\d+)\b|\((\d+)\)")
SUMMARY, BASE_SUMMARY = "summary: ", "summary without attention: "


def model_text(name: str, content: ModelYAML) -> str:
    """Return the text of the YAML behind a model, with its comments; of a checkpoint, where that can be found.

    Args:
        name: The YAML by path or bare name, or a checkpoint.
        content: The YAML's content, which a checkpoint brings.
    """
    if name.endswith((".yaml", ".yml")) and (path := find_model_yaml(name)):
        return path.read_bytes().decode("utf-8-sig")
    content = one_scale(content)
    letter = next(iter(content["scales"]), "")
    path = find_model_yaml(Path(str(content.get("yaml_file", ""))).name)
    with contextlib.suppress(Exception):  # whatever lies there under that name, it is not this model's
        text = keep_one_scale(Path(str(path)).read_bytes().decode("utf-8-sig"), letter, content["nc"])
        if _built_from(load_yaml(text, str(path), ModelError)) == _built_from(content):
            return text
    return dump(content)


def one_scale(content: ModelYAML) -> ModelYAML:
    """Return a model YAML's content with the scale alone that the model has; its file name could not say it."""
    scales = content.get("scales") or {}
    letter = content.get("scale") or next(iter(scales), "")  # without a letter Ultralytics takes the first
    return {**content, "scales": {k: v for k, v in scales.items() if k == letter}}


def _built_from(content: ModelYAML) -> ModelYAML:
    """Return what of a model YAML decides on the model."""
    defaults: ModelYAML = {"channels": content.get("channels", 3), "scales": content.get("scales") or {}}
    return {**content, **defaults, "scale": "", "yaml_file": ""}


def edit_text(text: str, plan: RowPlan) -> str:
    """Return the text of a model YAML after a plan.

    Where every row stands on a line of its own, only indices in ``from`` columns and in the comments behind rows
    change, and arguments that the plan names, and lines come and go. Any other layout is written anew, without its
    comments.

    Args:
        text: The YAML before.
        plan: A plan for its rows.
    """
    expected = edit(yaml.safe_load(text), plan)
    root = _compose(text)
    sections = {key.value: value.value for key, value in root.value}
    nodes = [*sections["backbone"], *sections["head"]]
    if _one_row_a_line(text, nodes):
        done = _edit_lines(text, plan, root, nodes)
        if yaml.safe_load(done) == expected:
            return done
    LOGGER.warning("This model YAML does not have one row per line, so it is rewritten without its comments")
    return dump(expected)


def _edit_lines(text: str, plan: RowPlan, root: yaml.MappingNode, nodes: list[yaml.Node]) -> str:
    edits: list[Edit] = []
    for i, node in enumerate(nodes):
        start, end = _line(text, node.start_mark.index)
        if plan.place[i] is None:
            edits.append((start, end, ""))
            continue
        edits += _source_edits(plan, i, node.value[0])
        if i in plan.arguments:
            old = node.value[3]
            edits.append((old.start_mark.index, old.end_mark.index, flow(plan.arguments[i])))
        edits += _comment_edits(text, i, plan.place[i], node.end_mark.index, end)
        if i in plan.hosts:
            newline = "\r\n" if text[start:end].endswith("\r\n") else "\n"
            first = "" if text[start:end].endswith("\n") else newline
            indent = text[start : node.start_mark.index]
            edits.append((end, end, f"{first}{indent}{flow(list(plan.block))} # {plan.output[i]}{newline}"))
    kept = [node for place, node in zip(plan.place, nodes, strict=True) if place is not None]
    blocks_left = bool(plan.hosts) or any(is_block(node.value[2].value) for node in kept)
    edits += _summary_edits(text, root, blocks_left)
    return _applied(text, edits)


def keep_one_scale(text: str, scale: str, nc: int) -> str:
    """Fix a model YAML's scale and class count to those of a checkpoint, whatever the file will be called.

    Args:
        text: A YAML with ``scales:`` and ``nc:``.
        scale: The letter whose row stays.
        nc: Number of classes.
    """
    root = _compose(text)
    edits: list[Edit] = []
    for key, value in root.value:
        if key.value == "nc":
            edits.append((value.start_mark.index, value.end_mark.index, str(nc)))
        if key.value == "scales":
            edits += [
                (*_line(text, k.start_mark.index), "")
                for k, _ in value.value
                if k.value != scale and k.start_mark.line > key.start_mark.line
            ]
    kept, content = _applied(text, edits), yaml.safe_load(text)
    expected: ModelYAML = {
        **content,
        "scales": {scale: content["scales"][scale]},
        **({"nc": nc} if "nc" in content else {}),
    }
    with contextlib.suppress(yaml.YAMLError):  # where the scales do not stand on a line each
        if yaml.safe_load(kept) == expected:
            return kept
    return dump(expected)


def dump(model: ModelYAML) -> str:
    """Write a model YAML's content as Ultralytics writes its own: one row a line, numbered."""
    lines = []
    for key, value in model.items():
        if key in ("backbone", "head", "scales", "scale", "yaml_file") or (key, value) == ("channels", 3):
            continue  # what Ultralytics adds when it builds a model, or is written below
        lines.append(f"{key}: {flow(value)}")
    if scales := model.get("scales"):
        lines.append("scales: # [depth, width, max_channels]")
        lines += [f"  {k}: {flow(v)}" for k, v in scales.items()]
    start = 0
    for section, rows in (("backbone", model["backbone"]), ("head", model["head"])):
        lines += ["", f"{section}:", "  # [from, repeats, module, args]"]
        lines += [f"  - {flow(row)} # {i}" for i, row in enumerate(rows, start)]
        start += len(rows)
    return "\n".join(lines) + "\n"


def flow(value: object) -> str:
    """Write a value on one line."""
    written = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), sort_keys=False, allow_unicode=True)
    return str(written).removesuffix("\n").removesuffix("\n...").strip()


def _compose(text: str) -> yaml.MappingNode:
    root = yaml.compose(text)
    if not isinstance(root, yaml.MappingNode):
        raise ModelError("The model YAML holds no rows.", given=text[:80], expected="nc:, backbone: and head:")
    return root


def _one_row_a_line(text: str, nodes: list[yaml.Node]) -> bool:
    """Say whether rows can be edited in place: flow style, one a line, no anchors."""
    if any(isinstance(t, (yaml.AnchorToken, yaml.AliasToken)) for t in yaml.scan(text)):
        return False
    return len({node.start_mark.line for node in nodes}) == len(nodes) and all(
        isinstance(node, yaml.SequenceNode)
        and node.flow_style
        and node.end_mark.line == node.start_mark.line
        and re.fullmatch(r"\s*-\s+", text[_line(text, node.start_mark.index)[0] : node.start_mark.index])
        for node in nodes
    )


def _line(text: str, index: int) -> tuple[int, int]:
    """Return start and end of the line around a position, its line break included."""
    end = text.find("\n", index)
    return text.rfind("\n", 0, index) + 1, len(text) if end < 0 else end + 1


def _source_edits(plan: RowPlan, index: int, node: yaml.Node) -> Iterator[Edit]:
    for item in node.value if isinstance(node, yaml.SequenceNode) else [node]:
        old = yaml.safe_load(item.value)  # YAML knows 0x2 and +2 as well
        if (new := plan.source(index, old)) != old:
            yield item.start_mark.index, item.end_mark.index, str(new)


def _comment_edits(text: str, old: int, new: int | None, start: int, end: int) -> Iterator[Edit]:
    """Renumber a row's own index in the comment behind it: ``# 9``, ``# 3-P3/8``, ``# X3 (16), fpn_blocks.1``."""
    if new == old or "#" not in text[start:end]:
        return
    for match in OWN_INDEX.finditer(text[start:end]):
        group = 1 if match[1] else 2
        if int(match[group]) == old:
            yield start + match.start(group), start + match.end(group), str(new)


def _summary_edits(text: str, root: yaml.MappingNode, blocks_left: bool) -> Iterator[Edit]:
    """Say of the sizes in the comments behind ``scales:`` whether they are those of the model without attention."""
    wrong, right = (SUMMARY, BASE_SUMMARY) if blocks_left else (BASE_SUMMARY, SUMMARY)
    for key, value in root.value:
        for scale, row in value.value if key.value == "scales" else ():
            _, end = _line(text, scale.start_mark.index)
            if (at := text.find(wrong, row.end_mark.index, end)) >= 0:
                yield at, at + len(wrong), right


def _applied(text: str, edits: list[Edit]) -> str:
    for start, end, new in sorted(edits, key=lambda e: e[:2], reverse=True):
        text = text[:start] + new + text[end:]
    return text
