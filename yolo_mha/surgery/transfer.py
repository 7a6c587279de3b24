"""Weights from one model to another that differs by its blocks: all of them, by shifted index, with a report.

Ultralytics loads by name and shape, and a layer's name begins with its index; one new row renames all layers behind it.
Here the source's layers are laid out at the indices that they have in the target before Ultralytics loads them, so that
everything that it does on loading (other class counts, classes matched by name, other image channels) stays its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from itertools import pairwise
from pathlib import Path

from ultralytics.utils import LOGGER

from ..errors import ModelError
from ..paths import without_scale
from ..registry import Load, ModelYAML, Network, all_rows, sources_of
from ..result import Result
from .graft import lay_out, renamed, same_values
from .rows import RowPlan, blocks, without_block_rows

TENSORS_SHOWN = 20


@dataclass(frozen=True)
class Transfer(Result):
    """What became of the tensors of a base model.

    Attributes:
        source: The base.
        total: Number of its tensors.
        moved: How many of them are in the new model.
        new: Number of tensors of the new model that the base does not have, those of the blocks.
        left: Why, by the base's name of each tensor that is not in the new model, or not as it was.
    """

    source: str
    total: int
    moved: int
    new: int
    left: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        new = f"; {self.new} more, of new blocks, start untrained" if self.new else ""
        lines = [f"{self.moved} of {self.total} tensors of {self.source} moved{new}"]
        lines += [f"  not moved: {name}: {why}" for name, why in list(self.left.items())[:TENSORS_SHOWN]]
        if len(self.left) > TENSORS_SHOWN:
            lines.append(f"  and {len(self.left) - TENSORS_SHOWN} more")
        return "\n".join(lines)


_reports: ContextVar[list[Transfer] | None] = ContextVar("reports", default=None)


@contextmanager
def reported() -> Iterator[list[Transfer]]:
    """Collect the transfers that happen within the block, whoever starts them."""
    reports: list[Transfer] = []
    token = _reports.set(reports)
    try:
        yield reports
    finally:
        _reports.reset(token)


def transfer(target: Network, source: Network, load: Load, verbose: bool = True) -> None:
    """Load the weights of ``source`` into ``target`` where one or both have blocks.

    Args:
        target: The model that gets weights.
        source: The base.
        load: Ultralytics' own way of loading into ``target``: source and verbose.
        verbose: Whether to log what moved.

    Raises:
        ModelError: The base is of another scale or family.
    """
    if not isinstance(getattr(source, "yaml", None), dict):
        raise ModelError(
            "The base does not say of which rows it is built.",
            given=f"a {type(source).__name__}",
            expected="a model of Ultralytics with its YAML",
        )
    places = align(source.yaml, target.yaml)
    laid = lay_out(source, places, len(target.model))
    state, head = target.state_dict(), f"model.{len(target.model) - 1}."
    shapes = [(v.shape, state[k].shape) for k, v in laid.state_dict().items() if k in state and not k.startswith(head)]
    if sum(a != b for a, b in shapes) > len(shapes) / 2:  # as families differ that write a YAML for each scale
        raise _other_model(source.yaml, target.yaml, same_rows=True)
    load(laid, False)  # what it would say counts the tensors of the blocks too
    report = _report(target, source, places)
    placeholder = {i: str(i) for i in range(len(getattr(source, "names", {})))}
    if report.moved == report.total and not hasattr(target, "set_classes") and target.names == placeholder:
        target.names = dict(source.names)
    if verbose:
        LOGGER.info(str(report))
    if (reports := _reports.get()) is not None:
        reports.append(report)


def align(source: ModelYAML, target: ModelYAML) -> dict[int, int | None]:
    """Find the layer of the target that each layer of the source corresponds to.

    Args:
        source: The base's YAML.
        target: The new model's YAML.

    Returns:
        Index in the target by index in the source; None for a block that the target does not have.

    Raises:
        ModelError: Apart from blocks and the kind of head the two do not have the same rows, or their scales differ.
    """
    (old, old_plan), (new, new_plan) = without_block_rows(source), without_block_rows(target)
    structure = [[(str(row[2]), *sources_of(row, i)) for i, row in enumerate(all_rows(m))] for m in (old, new)]
    structure[0][-1] = structure[1][-1] = ("the head",)  # another task may share the rest
    same_rows = structure[0] == structure[1]
    if not same_rows or _multiples(source) != _multiples(target):
        raise _other_model(source, target, same_rows)
    kept = ([i for i, place in enumerate(plan.place) if place is not None] for plan in (old_plan, new_plan))
    places: dict[int, int | None] = dict(zip(*kept, strict=True))
    return places | _align_blocks(source, places, _said(source, old_plan), _said(target, new_plan))


def _multiples(model: ModelYAML) -> tuple[float, ...]:
    """Return depth, width and largest channel count that the model's scale stands for."""
    if scales := model.get("scales"):
        return tuple(scales[model.get("scale") or next(iter(scales))])
    return model.get("depth_multiple", 1.0), model.get("width_multiple", 1.0), float("inf")


def _said(model: ModelYAML, plan: RowPlan) -> list[str]:
    """Return what each row says of itself, and what else it reads than the layer before, counted without blocks."""
    rows = enumerate(all_rows(model))
    return [f"{row[2:]} {[plan.output[source] for source in sources_of(row, i)[1:]]}" for i, row in rows]


def _align_blocks(
    source: ModelYAML, places: dict[int, int | None], old: list[str], new: list[str]
) -> dict[int, int | None]:
    """Pair the blocks that stand between the same two layers and say the same."""
    pairs: dict[int, int | None] = dict.fromkeys(blocks(source))
    ends = [(-1, -1), *((i, p) for i, p in places.items() if p is not None), (len(old), len(new))]
    for (i, p), (j, q) in pairwise(ends):
        a, b = old[i + 1 : j], new[p + 1 : q]
        for match in SequenceMatcher(None, a, b, autojunk=False).get_matching_blocks():
            pairs |= {i + 1 + match.a + k: p + 1 + match.b + k for k in range(match.size)}
    return pairs


def _other_model(source: ModelYAML, target: ModelYAML, same_rows: bool) -> ModelError:
    names = [Path(str(m.get("yaml_file", "a model without a name"))).name for m in (source, target)]
    families = {without_scale(name).partition("-")[0].removesuffix(".yaml") for name in names}
    if same_rows:
        kind = "scale"
    elif len(families) > 1:
        kind = "family"
    else:
        kind = "scale" if source.get("scale") != target.get("scale") else "variant of its family"
    old, new = (
        f"{name}, scale {model['scale']}" if model.get("scale") else name
        for name, model in zip(names, (source, target), strict=True)
    )
    return ModelError(
        f"The base is of another {kind} than the model.",
        given=f"base {old}",
        expected=f"a checkpoint of {new}, with or without blocks",
        fix="take the checkpoint of the same family and scale, or the model YAML with the base's scale letter",
    )


def _report(target: Network, source: Network, places: dict[int, int | None]) -> Transfer:
    state, base, left = target.state_dict(), source.state_dict(), {}
    names = {name: renamed(name, places) for name in base}
    for name, new in names.items():
        if new is None:
            left[name] = "the new model has no such block"
        elif new not in state:
            left[name] = f"{type(target.model[-1]).__name__} has no such tensor"
        elif state[new].shape != base[name].shape:
            shapes = f"shape {tuple(base[name].shape)} became {tuple(state[new].shape)}"
            of = _key_points if "cv4" in name else _classes  # the branches of a head that depend on either
            left[name] = f"{shapes}{of(source, target)}"
        elif not same_values(state[new], base[name]):
            left[name] = "its rows follow the new order of the classes"
    return Transfer(
        source=str(getattr(source, "pt_path", None) or source.yaml.get("yaml_file", "the base")),
        total=len(base),
        moved=len(base) - len(left),
        new=len(state.keys() - set(names.values())),
        left=left,
    )


def _key_points(source: Network, target: Network) -> str:
    """Say what a change of the key points means for the head of a pose model."""
    old, new = (getattr(model, "kpt_shape", None) for model in (source, target))
    return "" if old is None or new is None or [*old] == [*new] else f", key points {[*old]} became {[*new]}"


def _classes(source: Network, target: Network) -> str:
    """Say what a change of the class count means for a head's last layers."""
    old, new = (getattr(m, "names", None) or {} for m in (source, target))
    if len(old) == len(new):
        return ""
    shared = {str(v).strip().lower() for v in old.values()} & {str(v).strip().lower() for v in new.values()}
    kept = f", of which {len(shared)} are known by name and kept" if shared - {str(i) for i in old} else ""
    return f", {len(old)} classes became {len(new)}{kept}"
