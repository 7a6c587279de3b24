"""Rows of a model YAML become blocks; with `guard`, one of the two files that change Ultralytics for all of a process.

`parse_model` looks a module up by name and, for a class it does not know, passes the row's arguments as they stand. So
a row such as ``[-1, 1, SpatialMHABlock, [8]]`` is rewritten, in a copy, to one that hands the list of channels and the
depth multiple to an adaptor class of that name, whose ``__new__`` returns the real block. The model's stored YAML stays
as its author wrote it. Ultralytics' files are not edited. `install` puts all of this in place, and `yolo_mha` calls it
when it is imported, which unpickling a checkpoint that holds a block does.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import inspect
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import deepcopy
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, Protocol, TypedDict, cast

import torch
import torchvision
from packaging.version import Version
from torch import nn

from .errors import DependencyError, ModelError, RegistrationError, YoloMHAError, nearest, with_type
from .nn import (
    ConvBlock,
    CrossScaleMHA,
    Gate,
    HeadNorm,
    PositionwiseMLP,
    RelativeBias,
    S2Attention,
    ShiftAttention,
    SpatialMHA,
    SpatialMHABlock,
    SplitAttention,
)
from .paths import find_cfg, without_scale
from .row_errors import BoundedMaps, check_row, check_scale, explained, forward_error, row_name

ULTRALYTICS_MIN = "8.4.183"
ULTRALYTICS_TESTED = "8.4.190"


def check_ultralytics() -> None:
    """Refuse an Ultralytics that is too old, and warn once of one that is newer than the tested ones.

    Raises:
        DependencyError: Ultralytics is missing or older than ``ULTRALYTICS_MIN``.
    """
    fix = f"pip install 'ultralytics>={ULTRALYTICS_MIN}'"
    try:
        version = metadata.version("ultralytics")
    except metadata.PackageNotFoundError as e:
        raise DependencyError("Ultralytics is not installed.", expected=f">={ULTRALYTICS_MIN}", fix=fix) from e
    if Version(version) < Version(ULTRALYTICS_MIN):
        raise DependencyError(
            "This Ultralytics is too old for yolo-mha.", given=version, expected=f">={ULTRALYTICS_MIN}", fix=fix
        )
    if Version(version) > Version(ULTRALYTICS_TESTED):
        warnings.warn(
            f"yolo-mha was tested with Ultralytics up to {ULTRALYTICS_TESTED}; {version} is newer and may differ.",
            stacklevel=2,
        )


def _is_warning(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING


check_ultralytics()
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    _log = logging.getLogger("ultralytics")
    _log.addFilter(_is_warning)  # what it says of a new settings file when it is imported
    from ultralytics.nn import tasks
    from ultralytics.utils import LOGGER, callbacks

    _log.removeFilter(_is_warning)

Row = list[Any]  # [from, repeats, module, args]
_blocks: dict[str, type[nn.Module]] = {}


class ModelYAML(TypedDict, total=False):
    """The content of a model YAML; what Ultralytics adds are the scale's letter, the file's name and the channels."""

    nc: int
    scales: dict[str, list[float]]
    scale: str
    depth_multiple: float
    width_multiple: float
    backbone: list[Row]
    head: list[Row]
    activation: str
    channels: int
    yaml_file: str


class Network(Protocol):
    """Types of the attributes used of an Ultralytics `BaseModel`, which has no type hints."""

    model: nn.Sequential
    yaml: ModelYAML
    names: dict[int, str]
    nc: int
    stride: torch.Tensor
    save: list[int]
    args: Any
    training: bool
    _modules: dict[str, nn.Module | None]

    def __call__(self, images: Any, /, **kwargs: Any) -> Any: ...
    def load(self, weights: Any, verbose: bool = True) -> None: ...
    def loss(self, batch: Any, preds: Any = None) -> Any: ...
    def fuse(self, verbose: bool = True) -> Network: ...
    def train(self, mode: bool = True) -> Network: ...
    def eval(self) -> Network: ...
    def float(self) -> Network: ...
    def cpu(self) -> Network: ...
    def to(self, *where: Any) -> Network: ...
    def zero_grad(self) -> None: ...
    def state_dict(self) -> dict[str, torch.Tensor]: ...
    def parameters(self) -> Iterator[nn.Parameter]: ...
    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]: ...
    def modules(self) -> Iterator[nn.Module]: ...
    def named_modules(self) -> Iterator[tuple[str, nn.Module]]: ...


# Rows ----------------------------------------------------------------------------------------------------------------


class _BlockRow:
    """What a plugin row says, carried through `parse_model` unchanged because it is no string."""

    def __init__(self, model: ModelYAML, index: int) -> None:
        self.model, self.index, self.row = model, index, all_rows(model)[index]
        self.sources, self.repeats, self.name, args = self.row
        args = list(args) if isinstance(args, list) else [args]
        self.kwargs = args.pop() if args and isinstance(args[-1], dict) else {}
        self.args = [_literal(a) for a in args]
        self.shown_args = ""

    def __repr__(self) -> str:
        return f"<row {self.index}>"

    def build(self, channels: list[int], depth: float) -> nn.Module:
        """Build the block, or a sequence of blocks where the row repeats, behind layers of so many channels."""
        block = _blocks[self.name]
        sources = sources_of(self.row)
        inputs = count_inputs(block)
        declared = hasattr(block, "inputs")  # without it a block takes any number, and the width of the first
        many = isinstance(self.sources, list)
        if declared and (len(sources) != inputs or many != (inputs > 1) or (inputs > 1 and self.repeats > 1)):
            example = "-1" if inputs == 1 else str([-1, *range(4, 3 + inputs)])
            layers = "one layer" if inputs == 1 else f"{inputs} layers, and does not repeat"
            raise ModelError(
                f"{row_name(self.model, self.index)}: {self.name} reads {layers}.",
                given=self.row,
                expected=f"for example [{example}, 1, {self.name}, []]",
            )
        dims = [channels[source] for source in sources[:inputs]]
        repeats = max(round(self.repeats * depth), 1) if self.repeats > 1 else 1
        self.shown_args = ", ".join(
            [*map(str, dims), *map(repr, self.args), *(f"{k}={v!r}" for k, v in self.kwargs.items())]
        )
        try:
            built = [block(*dims, *self.args, **self.kwargs) for _ in range(repeats)]
        except (YoloMHAError, TypeError, ValueError) as e:
            expected = f"arguments of {self.name} after its channels, positional or as {{name: value}} ({e})"
            unusable = ModelError(f"{self.name} does not take these arguments.", expected=expected)
            wrong = e if isinstance(e, YoloMHAError) else unusable
            given = f"{self.row} on a layer of {' and '.join(map(str, dims))} channels"
            raise ModelError(
                f"{row_name(self.model, self.index)}: {wrong.problem}",
                given=f"{given} ({wrong.given})" if wrong.given else given,
                expected=wrong.expected,
                fix=wrong.fix,
            ) from e
        return built[0] if repeats == 1 else nn.Sequential(*built)


def _literal(value: Any) -> Any:
    """Read a string as a Python literal where it is one, as Ultralytics does for its own rows."""
    if isinstance(value, str):
        with contextlib.suppress(ValueError, SyntaxError):
            return ast.literal_eval(value)
    return value


def _adaptor(block: type[nn.Module]) -> type[nn.Module]:
    """Return the class that `ultralytics.nn.tasks` has under the block's name."""

    class Adaptor(nn.Module):
        yolo_mha_block = block

        def __new__(cls, channels: list[int], depth: float, row: _BlockRow) -> Any:
            return row.build(channels, depth)

    Adaptor.__name__, Adaptor.__qualname__, Adaptor.__module__ = block.__name__, block.__qualname__, block.__module__
    return Adaptor


MODULE_SOURCES = {"nn.": nn, "torchvision.ops.": torchvision.ops, "": tasks}  # by prefix, as in `parse_model`


def _is_layer(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, nn.Module) and not issubclass(value, tasks.BaseModel)


def check_rows(model: Any) -> ModelYAML:
    """Check that a model YAML has rows, and that every row names a module that exists.

    Args:
        model: Its content.

    Returns:
        The same.

    Raises:
        ModelError: A section is missing, a row is malformed or a module is unknown.
    """
    name = model.get("yaml_file", "the model YAML")
    for section in ("backbone", "head"):
        if not isinstance(model.get(section), list) or not model[section]:
            raise ModelError(
                f"{name} has no '{section}' rows.",
                given=f"{section}: {model.get(section)!r}",
                expected="a list of rows [from, repeats, module, args]",
            )
    depth = check_scale(model)
    for i, row in enumerate(model["backbone"] + model["head"]):
        check_row(model, i, row, depth, is_block)
        module = str(row[2])
        prefix = next((p for p in MODULE_SOURCES if module.startswith(p)), "")
        source = vars(MODULE_SOURCES[prefix])
        if not _is_layer(source.get(module.removeprefix(prefix))):
            layers = {prefix + n for n, v in source.items() if _is_layer(v)}
            raise ModelError(
                f"{row_name(model, i)}: unknown module.",
                given=module,
                expected=nearest(module, layers),
                fix="correct the name, or register your own block first: yolo_mha.register(MyBlock)",
            )
    return cast(ModelYAML, model)


def sources_of(row: Sequence[Any], index: int = 0) -> list[int]:
    """Return the layers that a row reads; with its own index the relative ones are counted from the first layer."""
    read = row[0] if isinstance(row[0], list) else [row[0]]
    return [source if source >= 0 else index + source for source in read]


def all_rows(model: ModelYAML) -> list[Row]:
    """Return the rows of a model YAML: those of the backbone, then those of the head."""
    return [*model["backbone"], *model["head"]]


def _wrap_parse_model(stock: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(stock)
    def parse_model(d: ModelYAML, ch: int, verbose: bool = True) -> Any:
        rows = all_rows(check_rows(d))
        plugin = {i: _BlockRow(d, i) for i, row in enumerate(rows) if row[2] in _blocks}
        given, d, activation = d, deepcopy(d), tasks.Conv.default_act
        for i, row in plugin.items():
            section, index = (d["backbone"], i) if i < len(d["backbone"]) else (d["head"], i - len(d["backbone"]))
            # parse_model takes the output width from `ch[from]`, so `from` must be one layer until it is done
            section[index] = [sources_of(row.row)[0], 1, row.name, ["ch", "depth", row]]
        try:
            with _readable_table(plugin), explained(given, stock):
                layers, save = stock(d, ch, verbose)
        finally:
            tasks.Conv.default_act = activation  # which Ultralytics leaves changed after an error
        for i, row in plugin.items():
            if isinstance(row.sources, list):
                layers[i].f = row.sources
                save.extend(f % i for f in row.sources if f != -1)
        return layers, sorted(save)

    return parse_model


@contextlib.contextmanager
def _readable_table(rows: dict[int, _BlockRow]) -> Iterator[None]:
    """Print the arguments of a plugin row in the model's table, not the adaptor's list of all channels."""

    def rewrite(record: logging.LogRecord) -> bool:
        for row in rows.values():
            if isinstance(record.msg, str) and repr(row) in record.msg:
                record.msg = f"{record.msg[: record.msg.index('[[')]}[{row.shown_args}]"
        return True

    LOGGER.addFilter(rewrite)
    try:
        yield
    finally:
        LOGGER.removeFilter(rewrite)


# Models --------------------------------------------------------------------------------------------------------------

MODEL_CLASSES = {
    "Detect": "DetectionModel",
    "v10Detect": "DetectionModel",
    "RTDETRDecoder": "RTDETRDetectionModel",
    "Segment": "SegmentationModel",
    "Segment26": "SegmentationModel",
    "Pose": "PoseModel",
    "Pose26": "PoseModel",
    "OBB": "OBBModel",
    "OBB26": "OBBModel",
    "Classify": "ClassificationModel",
    "SemanticSegment": "SemanticSegmentationModel",
    "Depth": "DepthModel",
    "WorldDetect": "WorldModel",
    "YOLOEDetect": "YOLOEModel",
    "YOLOESegment": "YOLOESegModel",
    "YOLOESegment26": "YOLOESegModel",
}


def build(model: ModelYAML) -> Network:
    """Build a model of any task from the content of its YAML.

    Args:
        model: Content of a model YAML, checked by `check_rows`, with ``scale`` where it has ``scales``.

    Raises:
        ModelError: The last row is no head that is known here, or the rows do not fit each other.
    """
    _, repeats, head, _ = model["head"][-1]
    kind = getattr(tasks, MODEL_CLASSES.get(str(head), ""), None)
    if kind is None:
        raise ModelError("The last row is not a known head.", given=head, expected=nearest(head, MODEL_CLASSES))
    if repeats != 1:
        raise ModelError("The head cannot be repeated.", given=f"{head} with repeats: {repeats}", expected="repeats: 1")
    try:
        with BoundedMaps():
            return cast(Network, kind(deepcopy(model), ch=model.get("channels", 3), verbose=False))
    except YoloMHAError:
        raise
    except Exception as e:  # parse_model meets a wrong YAML with any kind of error
        raise does_not_build(str(model.get("yaml_file", "The model YAML")), e) from e


def does_not_build(name: str, error: Exception) -> ModelError:
    """Say in one sentence why a model YAML was not built."""
    return forward_error(error, inspect.unwrap(tasks.parse_model)) or ModelError(
        f"{name} cannot be built.",
        given=with_type(error),
        expected="rows that fit each other, see https://docs.ultralytics.com/guides/model-yaml-config",
    )


def is_block(module: object) -> bool:
    """Say whether a row's module name is that of a registered block."""
    return module in _blocks


def count_inputs(block: type[nn.Module]) -> int:
    """Return how many layers' widths a block takes first: its attribute ``inputs``, or one."""
    return int(getattr(block, "inputs", 1))


def block_class(name: str) -> type[nn.Module]:
    """Return a registered block by its name.

    Raises:
        ModelError: No block has this name.
    """
    if not isinstance(name, str) or name not in _blocks:
        raise ModelError(
            "No such block is registered.",
            given=f"block={name}",
            expected=nearest(name, _blocks),
            fix="register your own block first: yolo_mha.register(MyBlock), on the command line blocks=my_module",
        )
    return _blocks[name]


# Fusing, finding, loading --------------------------------------------------------------------------------------------


def _wrap_fuse(stock: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(stock)
    def fuse(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        fused = stock(self, *args, **kwargs)  # first, because older versions decide by the number of norms left
        for module in list(self.modules()):
            if isinstance(module, tuple(_blocks.values())):
                getattr(module, "fuse", lambda: None)()
        return fused

    return fuse


Load = Callable[[Network, bool], None]
TransferFunction = Callable[[Network, Network, Load, bool], None]


def _wrap_load(stock: Callable[..., None], transfer: TransferFunction) -> Callable[..., None]:
    @functools.wraps(stock)
    def load(self: Network, weights: Any, verbose: bool = True) -> None:
        source = (weights.get("ema") or weights["model"]) if isinstance(weights, dict) else weights
        contents = [content for model in (self, source) if isinstance(content := getattr(model, "yaml", None), dict)]
        rows = [row for content in contents for section in ("backbone", "head") for row in content.get(section, [])]
        if not any(is_block(row[2]) for row in rows):
            return stock(self, weights, verbose)
        return transfer(self, source, functools.partial(stock, self), verbose)

    return load


class _Importer:
    """A training callback that does nothing but import the blocks' modules wherever it is unpickled.

    Ultralytics' processes for several GPUs unpickle the callbacks of the trainer before they build its model.
    """

    def __call__(self, trainer: object) -> None:
        """Do nothing."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[list[str]]]:
        return import_blocks, (sorted({block.__module__ for block in _blocks.values()}),)

    def __copy__(self) -> _Importer:
        return self

    def __deepcopy__(self, memo: object) -> _Importer:
        return self


def import_blocks(modules: Iterable[str]) -> _Importer:
    """Import modules that register blocks; what several-GPU processes call when they unpickle their callbacks."""
    for module in modules:
        import_module(module)
    return _importer


_importer = _Importer()


def _wrap_check_yaml(stock: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(stock)
    def check_yaml(file: Any, suffix: Any = (".yaml", ".yml"), hard: bool = True) -> Any:
        found = stock(file, suffix, hard=False)
        if not found and Path(str(file)).name == str(file):
            found = find_cfg("models", str(file))
        return str(found) if found else stock(file, suffix, hard=hard)

    return check_yaml


def find_model_yaml(name: str) -> Path | None:
    """Find a model YAML by path or bare name, with or without the scale letter, as Ultralytics will find it."""
    if any(c in name for c in "*?["):  # Ultralytics would take any file that matches
        return None
    for candidate in (name, without_scale(name)):
        if found := tasks.check_yaml(candidate, hard=False):
            return Path(found)
    return None


def scale_letter(name: str) -> str:
    """Return the scale letter in a model's file name, as Ultralytics reads it, or an empty string."""
    return str(tasks.guess_model_scale(name))


# Registration --------------------------------------------------------------------------------------------------------


def register(block: type[nn.Module], *, parts: Iterable[type[nn.Module]] = ()) -> type[nn.Module]:
    """Make a block usable by its class name in any model YAML; also works as a class decorator.

    The contract: the first argument of the block is ``dim``, the channels of the layer it reads, followed by the
    arguments of the YAML row; the output has as many channels as the input. A block with a method ``fuse()`` is folded
    by ``model.fuse()``. One that sets ``inputs = 2`` reads two layers as a list, and its first two arguments are their
    widths. The class must be importable by its module path, because checkpoints store that path.

    Args:
        block: A subclass of ``torch.nn.Module``.
        parts: Classes of your own that the block is made of, so that restricted loading of its checkpoints knows them.

    Returns:
        The block itself.

    Raises:
        RegistrationError: It is no module class, or another class has this name already.

    Example:
        >>> @yolo_mha.register
        ... class Squeeze(torch.nn.Module):
        ...     def __init__(self, dim, ratio=4):
        ...         super().__init__()
        ...         self.net = torch.nn.Sequential(
        ...             torch.nn.AdaptiveAvgPool2d(1), torch.nn.Conv2d(dim, dim // ratio, 1), torch.nn.ReLU(),
        ...             torch.nn.Conv2d(dim // ratio, dim, 1), torch.nn.Sigmoid())
        ...     def forward(self, x):
        ...         return x * self.net(x)

        The row ``[-1, 1, Squeeze, [8]]`` then builds ``Squeeze(dim, 8)``.
    """
    for given in (block, *parts):
        if not (isinstance(given, type) and issubclass(given, nn.Module)) or "<locals>" in given.__qualname__:
            raise RegistrationError(
                "Only a block class can be registered.",
                given=repr(given),
                expected="a subclass of torch.nn.Module at the top level of a module, where checkpoints can import it",
            )
    if type(inputs := getattr(block, "inputs", 1)) is not int or inputs < 1:
        raise RegistrationError(
            "inputs, the number of layers that a block reads, must be a positive integer.",
            given=f"{block.__name__}.inputs = {inputs!r}",
            expected="1, 2, ..., or no such attribute",
        )
    if block.__module__ == "__main__":
        warnings.warn(
            f"{block.__name__} is defined in the script that is running, so only this script can open its checkpoints; "
            "move it into a module and import that.",
            stacklevel=2,
        )
    name, path = block.__name__, f"{block.__module__}.{block.__qualname__}"
    present = getattr(tasks, name, None)
    owner = getattr(present, "yolo_mha_block", None)
    if present is not None and (owner is None or f"{owner.__module__}.{owner.__qualname__}" != path):
        raise RegistrationError(
            f"The name {name} is taken.",
            given=path,
            expected=f"a name that neither Ultralytics nor another block uses; {name} is {owner or present!r}",
            fix="rename your class",
        )
    _blocks[name] = block
    setattr(tasks, name, _adaptor(block))
    torch.serialization.add_safe_globals([block, *parts])
    return block


def install(transfer: TransferFunction) -> None:
    """Put the wrappers in place and register the package's blocks, once for the life of the process.

    Args:
        transfer: Loads weights where a model or the source has blocks. Called with the model, the source, Ultralytics'
            own way of loading (source, verbose), and verbose.
    """
    if getattr(tasks.parse_model, "__wrapped__", None) is not None:
        return
    tasks.parse_model = _wrap_parse_model(tasks.parse_model)
    tasks.check_yaml = _wrap_check_yaml(tasks.check_yaml)
    tasks.BaseModel.fuse = _wrap_fuse(tasks.BaseModel.fuse)
    tasks.BaseModel.load = _wrap_load(tasks.BaseModel.load, transfer)
    callbacks.default_callbacks["on_pretrain_routine_start"].append(_importer)
    register(SpatialMHABlock, parts=[SpatialMHA, PositionwiseMLP, HeadNorm, RelativeBias, Gate])
    register(CrossScaleMHA, parts=[HeadNorm])
    register(S2Attention, parts=[ShiftAttention, SplitAttention])
    register(ConvBlock)
