"""What is wrong with a row of a model YAML: which row, on which line, and which arguments its module takes.

Ultralytics does not describe the arguments of its modules' rows. They are read from the module's signature and from
what `parse_model` does with a probe row. A correct row is found by trying.
"""

from __future__ import annotations

import contextlib
import inspect
import traceback
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import yaml
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only

from .errors import ModelError, YoloMHAError, with_type
from .paths import without_scale
from .yaml_files import load_yaml

FORM = "[from, repeats, module, args]"
MOST_REPEATS = 100
MOST_VALUES = 2**29  # in all tensors of a network: 2 GiB; the largest of Ultralytics' has a sixth of that
MOST_OF_ONE = 2**26  # values of one tensor; the largest of Ultralytics' has a quarter
MOST_TENSORS = 10_000  # four times as many as the deepest of Ultralytics' has
MOST_OF_MAP = 2**26  # values of one map at 256 px
MOST_OF_MAPS = 2**30  # values of all maps together
PROBE_CHANNELS = 48
PROBE = [64, *range(1001, 1041)]  # more arguments than any module takes

Parse = Callable[[Any, int, bool], Any]


class SizeError(ValueError):
    """A network is far larger than any real one, or has a layer without values."""


class Bounded(TorchFunctionMode):
    """Stop before more or larger tensors are made than any real network has, or a matrix without values.

    Args:
        tensors: Largest number of tensors.
    """

    MAKERS = frozenset({torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn})

    def __init__(self, tensors: int = MOST_TENSORS) -> None:
        super().__init__()
        self.values, self.left = 0, tensors

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in self.MAKERS:
            self._count(func(*args, **{**kwargs, "device": "meta"}).shape)
        elif func is torch.Tensor.__deepcopy__:
            self._count(args[0].shape)
        return func(*args, **kwargs)

    def _count(self, shape: torch.Size) -> None:
        self.values += shape.numel()
        self.left -= 1
        if shape.numel() > MOST_OF_ONE or (len(shape) > 1 and not shape.numel()):
            raise SizeError(f"a tensor of shape {tuple(shape)}")
        if self.values > MOST_VALUES or self.left < 0:
            raise SizeError("more tensors up to here than any network has")


class BoundedMaps(TorchFunctionMode):
    """Stop a network that is tried out before it makes larger maps than any has at the size of the trial, 256 px."""

    MAKERS = frozenset(
        {F.conv2d, F.conv_transpose2d, F.pad, F.interpolate, F.multi_head_attention_forward}
        | {torch.bmm, torch.matmul, torch.Tensor.matmul, torch.Tensor.__matmul__}
    )

    def __init__(self) -> None:
        super().__init__()
        self.values = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in self.MAKERS:  # without values the shape alone is computed
            shapes = tree_map_only(torch.Tensor, lambda tensor: tensor.to("meta"), (args, kwargs))
            try:
                maps = tree_leaves(func(*shapes[0], **shapes[1]))
            except Exception:
                return func(*args, **kwargs)  # whose own error says what does not fit
            for made in maps:
                values = made.numel() if isinstance(made, torch.Tensor) else 0
                self.values += values
                if values > MOST_OF_MAP or self.values > MOST_OF_MAPS:
                    raise SizeError(f"a map of shape {tuple(made.shape)} is more than any network makes")
        return func(*args, **kwargs)


def row_name(model: Mapping[str, Any], index: int) -> str:
    """Name a row, with its line where the file that the model is from can be found."""
    name = str(model.get("yaml_file") or "the model YAML")
    with contextlib.suppress(Exception):  # a checkpoint's file is elsewhere
        text = next(p for p in (Path(name), Path(without_scale(name))) if p.is_file()).read_text(encoding="utf-8-sig")
        content = load_yaml(text, name, ModelError)
        if (content["backbone"], content["head"]) == (model["backbone"], model["head"]):
            root: Any = yaml.compose(text)
            sections = {key.value: value.value for key, value in root.value}
            node = [*sections["backbone"], *sections["head"]][index]
            return f"Row {index} of {name}, line {node.start_mark.line + 1}"
    return f"Row {index} of {name}"


def check_row(model: Mapping[str, Any], index: int, row: Any, depth: float, is_block: Callable[[Any], bool]) -> None:
    """Check the form of a row, and that it only reads earlier rows.

    Args:
        model: The content of the model YAML.
        index: Index of the row.
        row: The row.
        depth: The factor that repeats are multiplied by.
        is_block: Whether a module is a block; the arguments of a block can be a mapping.

    Raises:
        ModelError: The row is malformed, reads a row that does not precede it, or has an unusable number of repeats.
    """
    if not isinstance(row, list) or len(row) != 4:
        raise ModelError(f"{row_name(model, index)} is not a row.", given=row, expected=FORM)
    source, repeats, module, args = row
    sources = source if isinstance(source, list) and source else [source]
    if any(type(n) is not int for n in sources):
        raise ModelError(
            f"{row_name(model, index)} has an unusable 'from'.",
            given=row,
            expected=f"{FORM} with layer numbers as 'from'",
        )
    for n in sources:
        first, last = -max(index, 1), index - 1  # the first row reads the image, -1
        if not first <= n <= last:
            every = f"0 to {last}, or {first} to -1" if last else "0 or -1"
            raise ModelError(
                f"{row_name(model, index)}: {module} reads a layer that is not before it.",
                given=f"from: {n}, in {row}",
                expected=f"{every}; the nearest is {min(max(n, first), last)}" if index else "-1, the image",
            )
    if type(repeats) is not int or repeats < 1 or repeats * max(depth, 1) > MOST_REPEATS:
        near = 1 if type(repeats) is not int or repeats < 1 else int(MOST_REPEATS / max(depth, 1))
        raise ModelError(
            f"{row_name(model, index)}: {module} has an unusable number of repeats.",
            given=f"repeats: {repeats}, in {row}",
            expected=f"a positive number of repeats, {MOST_REPEATS} at most; the nearest is {near}",
        )
    if not isinstance(args, list) and not (isinstance(args, dict) and is_block(module)):
        raise ModelError(f"{row_name(model, index)}: {module} has no list of arguments.", given=row, expected=FORM)


def check_scale(model: Mapping[str, Any]) -> float:
    """Check the keys beside the rows, and return the factor that repeats are multiplied by.

    Raises:
        ModelError: A number of classes or channels, or a scale, is unusable, or the scale is not among the model's.
    """
    name = str(model.get("yaml_file") or "the model YAML")
    for key in ("nc", "channels"):
        if (value := model.get(key)) is not None and (type(value) is not int or value < 1):
            raise ModelError(
                f"{key} of {name} is unusable.", given=f"{key}: {value!r}", expected="a whole number above 0"
            )
    scales = model.get("scales") or {}
    letter = model.get("scale") or (next(iter(scales), "") if isinstance(scales, dict) else "")
    single = [model.get(key, 1.0) for key in ("depth_multiple", "width_multiple")]
    table = {"": [*single, 1]} if scales == {} else scales
    for key, row in table.items() if isinstance(table, dict) else [(table, None)]:
        numbers = isinstance(row, list) and len(row) == 3 and all(type(v) in (int, float) and v > 0 for v in row)
        if not numbers:
            raise ModelError(
                f"A scale of {name} is unusable.",
                given=f"{key}: {row}" if scales else f"depth_multiple and width_multiple: {single}",
                expected="depth, width and largest number of channels, such as n: [0.5, 0.25, 1024]",
            )
    if scales and letter not in scales:
        raise ModelError(
            f"{name} has no such scale.",
            given=f"scale {letter}, from the file's name",
            expected=f"one of {', '.join(map(str, scales))}",
        )
    return float(table[letter if scales else ""][0])


@contextlib.contextmanager
def explained(model: Mapping[str, Any], parse: Parse) -> Iterator[None]:
    """Parse a model within size limits; if a row fails, say which one and why.

    Args:
        model: The content of the model YAML.
        parse: Ultralytics' `parse_model`.

    Raises:
        ModelError: A row cannot be built.
    """
    try:
        with Bounded():
            yield
    except Exception as e:  # a wrong row is met with any kind of error
        state = _variables(e, "parse_model")
        if isinstance(e, YoloMHAError) or "args" not in state:
            raise
        raise _unusable(model, state, e, parse) from e


def forward_error(error: Exception, parse: Parse) -> ModelError | None:
    """Say which row did not run, where an error comes from running a network; None where it does not.

    Args:
        error: The error.
        parse: Ultralytics' `parse_model`.
    """
    state = _variables(error, "_predict_once")
    if "m" not in state or not isinstance(content := getattr(state.get("self"), "yaml", None), dict):
        return None
    index, read = state["m"].i, state["x"] if isinstance(state["x"], list) else [state["x"]]
    row = [*content["backbone"], *content["head"]][index]
    maps = " and ".join("x".join(map(str, x.shape[1:])) for x in read if isinstance(x, torch.Tensor))
    return ModelError(
        f"{row_name(content, index)}: {row[2]} fails on its input.",
        given=f"{row} on {maps}: {with_type(error)}",
        expected=f"{_named(_taken(parse, row[2]))}, and a 'from' whose layers fit",
    )


def _variables(error: Exception, function: str) -> dict[str, Any]:
    """Return the variables of the innermost call of a function that an error came through."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__) if frame.f_code.co_name == function]
    return dict(frames[-1].f_locals) if frames else {}


def _unusable(model: Mapping[str, Any], state: dict[str, Any], error: Exception, parse: Parse) -> ModelError:
    index = state["i"]
    row = [*model["backbone"], *model["head"]][index]
    _, _, module, args = row
    if hasattr(state["m"], "yolo_mha_block"):
        return ModelError(
            f"{row_name(model, index)}: {module} cannot be built.",
            given=f"{row}: {with_type(error)}",
            expected="arguments that the block takes",
        )
    taken = _taken(parse, module)
    problem, fits = f"{module} cannot be built from this row.", ""
    if taken is not None:
        missing = [p.name for p in taken[len(args) :] if p.default is p.empty]
        if missing:
            problem = f"{module} lacks {', '.join(missing)}."
        elif len(args) > len(taken):
            problem, fits = f"{module} takes fewer arguments.", f"{args[: len(taken)]}"
    if not fits:
        fits = _repaired(model, state, row, parse, taken or [])
    return ModelError(
        f"{row_name(model, index)}: {problem}",
        given=f"{row}: {with_type(error)}",
        expected=_named(taken) + (f"; the nearest that builds is {fits}" if fits else ""),
    )


def _named(taken: list[inspect.Parameter] | None) -> str:
    """Say what arguments a row of a module takes."""
    if taken is None:
        return f"{FORM} with arguments that the module takes"
    return f"arguments [{', '.join(p.name if p.default is p.empty else f'{p.name}={p.default!r}' for p in taken)}]"


def _taken(parse: Parse, module: str) -> list[inspect.Parameter] | None:
    """Return the parameters of a module that a row's arguments fill, in their order; None where that is not known.

    A row with far too many arguments is parsed, and `parse_model` stopped as it calls the module, to see where it puts
    each of them and what it adds.
    """
    for source in (-1, [-1]):
        try:
            parse({"backbone": [[source, 1, module, list(PROBE)]], "head": []}, PROBE_CHANNELS, False)
            return []  # it passes none of them on
        except Exception as e:
            state = _variables(e, "parse_model")
            if "positional argument" not in str(e) or "args" not in state:
                continue
        passed = state["args"]
        parameters = list(inspect.signature(state["m"]).parameters.values())
        end = len(parameters) - (len(passed) - 1 - passed.index(PROBE[-1]))  # what comes last is added
        taken, at = [], -1
        for value, following in pairwise(PROBE):
            if value not in passed and at + 1 == passed.index(following):  # it is the width for `parse_model` alone
                taken.append(inspect.Parameter("c2", inspect.Parameter.POSITIONAL_ONLY))
                continue
            at = passed.index(value) if value in passed else at + 1  # a width may have been rounded
            if at >= end or parameters[at].kind is inspect.Parameter.VAR_POSITIONAL:
                break
            taken.append(parameters[at])
        return taken
    return None


def _repaired(
    model: Mapping[str, Any], state: dict[str, Any], row: list[Any], parse: Parse, taken: list[inspect.Parameter]
) -> str:
    """Change one thing in a row until it builds, and say which; empty where nothing does."""
    source, repeats, module, args = row
    width = next((c for c in reversed(state["ch"]) if isinstance(c, int) and c > 0), PROBE_CHANNELS)

    def builds(*changed: Any) -> bool:
        copied = {**rest, "backbone": [[changed[0], repeats, module, list(changed[1])]], "head": []}
        try:
            with Bounded(MOST_TENSORS // 20):
                parse(copied, width, False)
        except Exception:
            return False
        return True

    rest = {key: value for key, value in model.items() if key != "activation"}
    own = [-1] * len(source) if isinstance(source, list) else -1
    if builds(-1 if isinstance(source, list) else [-1], args) and not builds(own, args):
        return f"'from' {source[0] if isinstance(source, list) else [source]}"
    for i in range(len(args) + 1, len(taken) + 1):
        longer = [*args, *(p.default for p in taken[len(args) : i])]
        if inspect.Parameter.empty not in longer and builds(own, longer):
            return str(longer)
    for i, value in enumerate(args if isinstance(args, list) else ()):
        default = [taken[i].default] if i < len(taken) and taken[i].default is not inspect.Parameter.empty else []
        for candidate in [*_near(value), *default, 64]:
            if builds(own, [*args[:i], candidate, *args[i + 1 :]]):
                return f"{taken[i].name}={candidate!r}" if i < len(taken) else f"{candidate!r} in place of {value!r}"
    return ""


def _near(value: Any) -> Iterator[Any]:
    """Yield values that could have been meant, the nearest first."""
    if type(value) not in (int, float) or value != value or abs(value) == float("inf"):
        return
    size = abs(int(value))
    while size:
        yield size
        size //= 2
    yield 1
