"""Index arithmetic on the rows of a model YAML: what moves where when rows come and go.

A row is ``[from, repeats, module, args]``. Only its ``from`` holds layer indices: an absolute one (0 or more) or one
relative to the row itself (negative). Numbers among the arguments, such as those of CBFuse, are none.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import ModelError
from ..registry import ModelYAML, Row, all_rows, is_block, sources_of


@dataclass(frozen=True)
class RowPlan:
    """Where every row of a model goes.

    Attributes:
        place: New index of each row, None for a row that is taken out.
        output: New index that a reference to each row is to have.
        hosts: Rows behind which a block is put, ascending.
        block: The row that goes behind each of them.
        arguments: New arguments of rows that stay, by old index.
    """

    place: tuple[int | None, ...]
    output: tuple[int, ...]
    hosts: tuple[int, ...] = ()
    block: tuple[Any, ...] = ()
    arguments: Mapping[int, list[Any]] = field(default_factory=dict)

    def source(self, index: int, source: int) -> int:
        """Return the new ``from`` of row ``index`` for one old ``from``; relative ones stay relative.

        Raises:
            ModelError: ``source`` points before the first row, or at the row itself or behind it.
        """
        target = source if source >= 0 else index + source
        place = self.place[index]
        if place is None or (index == 0 and source == -1):  # the image
            return source
        if not 0 <= target < index:
            raise ModelError(
                f"Row {index} of the model YAML reads a layer that is not before it.",
                given=f"from: {source}",
                expected=f"an index from 0 to {index - 1}, or from -{index} to -1",
            )
        return self.output[target] - place if source < 0 else self.output[target]


def plan_insertion(count: int, hosts: Collection[int], block: Row) -> RowPlan:
    """Plan one new row after each host; every reference to a host then points to its new row.

    Args:
        count: Number of rows.
        hosts: Indices of the rows after which a row is inserted.
        block: The new row. Its ``from`` is -1, or -1 and the index of another layer that it reads.

    Raises:
        ModelError: That layer does not precede all hosts.
    """
    ordered = sorted(hosts)
    place = [i + bisect_left(ordered, i) for i in range(count)]
    output = tuple(p + (i in hosts) for i, p in enumerate(place))
    if isinstance(block[0], list) and block[0][1] >= ordered[0]:  # an index before all hosts stays what it is
        raise ModelError(
            f"The context of {block[2]} must precede the layer that the block is inserted after.",
            given=f"a block after row {ordered[0]} that also reads row {block[0][1]}",
            expected=f"a context before row {ordered[0]}, or a later place for the block",
        )
    return RowPlan(tuple(place), output, tuple(ordered), tuple(block))


def plan_removal(rows: Sequence[Row], removed: Collection[int]) -> RowPlan:
    """Plan to remove rows; every reference to one of them then points to its input (the first of several).

    Args:
        rows: The model's rows.
        removed: Indices of the rows that go.
    """
    place: list[int | None] = []
    output: list[int] = []
    removed = set(removed)
    for i, row in enumerate(rows):
        if i not in removed:
            place.append(i - sum(r < i for r in removed))
            output.append(i - sum(r < i for r in removed))
            continue
        target = sources_of(row, i)[0]
        if target < 0:
            raise ModelError(
                f"Row {i} reads the image itself, so it cannot be removed.", given=row, expected="a later row"
            )
        place.append(None)
        output.append(output[target])
    return RowPlan(tuple(place), tuple(output))


def apply(plan: RowPlan, rows: Sequence[Row]) -> list[Row]:
    """Return the rows after a plan.

    Args:
        plan: From `plan_insertion` or `plan_removal` for these rows.
        rows: The rows before; they stay as they are.
    """
    result: list[Row] = []
    for i, (source, *rest, arguments) in enumerate(rows):
        if plan.place[i] is None:
            continue
        many = isinstance(source, list)
        moved = [plan.source(i, s) for s in source] if many else plan.source(i, source)
        result.append([moved, *rest, plan.arguments.get(i, arguments)])
        if i in plan.hosts:
            result.append(list(plan.block))
    return result


def edit(model: ModelYAML, plan: RowPlan) -> ModelYAML:
    """Return a model YAML's content after a plan; backbone and head keep their rows.

    Args:
        model: The content before.
        plan: See `apply`.
    """
    boundary = len(model["backbone"])
    start = sum(p is not None for p in plan.place[:boundary]) + sum(h < boundary for h in plan.hosts)
    edited = apply(plan, all_rows(model))
    return {**model, "backbone": edited[:start], "head": edited[start:]}


def blocks(model: ModelYAML) -> list[int]:
    """Return the indices of the rows that name a registered block."""
    return [i for i, row in enumerate(all_rows(model)) if is_block(row[2])]


def moved_freeze(freeze: int | list[int | str] | None, model: ModelYAML) -> int | list[int | str] | None:
    """Return Ultralytics' setting ``freeze`` for a model with blocks; they train, and so do the same rows as without.

    Ultralytics counts the rows of the model at hand, so the same number would freeze other layers with a block than
    without. Here a number of rows, or the index of one, is that of the model without its blocks.

    Args:
        freeze: A number of first rows, or row indices and parts of parameter names, which stay as they are.
        model: The model's content.
    """
    own = blocks(model)
    if not freeze or not own:
        return freeze
    rows = [i for i in range(len(all_rows(model))) if i not in own]
    meant = range(freeze) if isinstance(freeze, int) else freeze
    return [x if isinstance(x, str) else rows[x] for x in meant if isinstance(x, str) or x < len(rows)]


def without_block_rows(model: ModelYAML) -> tuple[ModelYAML, RowPlan]:
    """Return a model YAML's content without its blocks, and the plan that takes them out."""
    plan = plan_removal(all_rows(model), blocks(model))
    return edit(model, plan), plan
