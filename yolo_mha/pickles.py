"""Pickles of strangers, read without running anything of theirs.

A pickle is a program: it names classes and functions, and has them called. Here it may only fill objects with values,
as pickles of networks do: an object of a known class is made empty (``NEWOBJ``) and given its state once (``BUILD``).
What is called (``REDUCE``) is of a short list that puts tensors and plain values together. So no constructor runs, and
it does not matter which of the known classes would open a file in theirs.
"""

from __future__ import annotations

import enum
import math
import pickle
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path, PurePath
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from .errors import CheckpointError


def _member(owner: Any, name: str) -> Any:
    """Replace `getattr`, with which checkpoints name enumeration members and the forward method of a head."""
    if isinstance(owner, type) and issubclass(owner, enum.Enum):
        return owner[name]
    if name.startswith("forward") and isinstance(owner, nn.Module):
        return getattr(type(owner), name).__get__(owner)
    if name.startswith("forward") and isinstance(owner, type) and issubclass(owner, nn.Module):
        return getattr(owner, name)
    raise _refused(f"an attribute {name} of {_path(owner)}")


def _byte_array(content: bytes | str = b"", encoding: str = "latin1") -> bytearray:
    """Replace `bytearray`, which would allocate any number of zeros."""
    return bytearray(content if isinstance(content, bytes) else content.encode("latin1"))


_REBUILDS = ("tensor", "tensor_v2", "tensor_v3", "parameter", "parameter_with_state")
_CALLED: dict[str, Any] = {
    **{f"torch._utils._rebuild_{name}": getattr(torch._utils, f"_rebuild_{name}") for name in _REBUILDS},
    **{f"torch.{name}": getattr(torch, name) for name in ("Size", "device")},
    **{f"builtins.{kind.__name__}": kind for kind in (set, frozenset, complex)},
    **{f"numpy.{core}.multiarray.scalar": np.float64(0).__reduce__()[0] for core in ("core", "_core")},
    "builtins.bytearray": _byte_array,
    "builtins.getattr": _member,
    "collections.OrderedDict": OrderedDict,
    "_codecs.encode": lambda text, encoding: text.encode("latin1"),  # how protocol 2 writes bytes
}
_CONSTANTS = (torch.dtype, torch.layout, torch.memory_format)
_CALLED_CLASSES = (np.dtype, PurePath, enum.Enum, SimpleNamespace)  # and what is derived from them, where known
# that are not read; the last makes as many zeros as a number says
_OPCODES = pickle.INST + pickle.OBJ + pickle.NEWOBJ_EX + pickle.EXT1 + pickle.EXT2 + pickle.EXT4 + pickle.BYTEARRAY8
_READ = {code: read for code, read in pickle._Unpickler.dispatch.items() if code not in _OPCODES}


class NetworkUnpickler(pickle._Unpickler):
    """Read a checkpoint's pickle.

    Known are the classes and functions in `torch.serialization.get_safe_globals`: those that Ultralytics put there for
    its checkpoints, and the registered blocks.

    Raises:
        pickle.UnpicklingError: It names something that is not known.
        CheckpointError: It does more than fill objects with values.
    """

    stack: list[Any]
    dispatch: ClassVar[dict[int, Any]] = dict(_READ)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        entries = (e if isinstance(e, tuple) else (e, _path(e)) for e in torch.serialization.get_safe_globals())
        self._known = {name: known for known, name in entries}
        self._made: list[Any] = []

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module.replace('__builtin__', 'builtins')}.{name}"
        if full in _CALLED:
            return _CALLED[full]
        if full in self._known:
            return self._known[full]
        if module == "torch" and isinstance(constant := getattr(torch, name, None), _CONSTANTS):
            return constant
        raise pickle.UnpicklingError(full)

    def load_reduce(self) -> None:
        called, given = self.stack[-2:]
        plain = isinstance(called, type) and issubclass(called, _CALLED_CLASSES)  # known, or it would not be here
        if not plain and not any(called is f for f in _CALLED.values()):
            raise _refused(f"a call of {_path(called)} while it is read")
        for value in given:
            if isinstance(value, dict):
                _check_names(value)
        pickle._Unpickler.load_reduce(self)  # type: ignore[attr-defined]

    def load_newobj(self) -> None:
        kind = self.stack[-2]
        if not isinstance(kind, type) or not any(kind is known for known in self._known.values()):
            raise _refused(f"an object of {_path(kind)}")
        pickle._Unpickler.load_newobj(self)  # type: ignore[attr-defined]

    def load_build(self) -> None:
        made, state = self.stack[-2:]
        if isinstance(made, np.dtype):
            _check_dtype(made, state)
        else:
            if type(state) is not dict or getattr(made, "__dict__", True):
                raise _refused(f"a state of {_path(type(made))} that is no dictionary, or given twice")
            _check_names(state)
            self._made.append(made)
        pickle._Unpickler.load_build(self)  # type: ignore[attr-defined]

    dispatch |= {pickle.REDUCE[0]: load_reduce, pickle.NEWOBJ[0]: load_newobj, pickle.BUILD[0]: load_build}

    def load(self) -> Any:
        content = super().load()
        for made in self._made:  # now that nothing in them can change any more
            attributes = vars(made)
            _check_names(attributes)
            for group in ("_modules", "_parameters", "_buffers"):
                _check_names(attributes.get(group) or ())
            for name, value in attributes.items():  # a class in a method's place, or among the hooks, would be called
                for kept in value.values() if isinstance(value, dict) else [value]:
                    if isinstance(kept, type):
                        raise _refused(f"the class {_path(kept)} as {_path(type(made))}.{name}")
        return content


def _read(file: Any, **kwargs: Any) -> Any:
    return NetworkUnpickler(file, **kwargs).load()


NETWORKS = ModuleType("networks")  # what `torch.load` takes as ``pickle_module``
NETWORKS.__dict__.update(Unpickler=NetworkUnpickler, load=_read)


def _path(named: Any) -> str:
    return f"{getattr(named, '__module__', '')}.{getattr(named, '__qualname__', named)}"


def _check_names(names: Iterable[Any]) -> None:
    """Refuse names that Python looks up by itself, such as ``__reduce_ex__`` when an object is saved again."""
    for name in names:
        if isinstance(name, str) and name.startswith("__"):
            raise _refused(f"an attribute {name}")


def _check_dtype(made: np.dtype[Any], state: Any) -> None:
    """Refuse a state that makes another type of an array's values; numpy would take any bytes for objects then."""
    if type(state) is not tuple or state[1:] != made.__reduce__()[2][1:]:
        raise _refused("a type of values that is changed while it is read")


def _refused(given: str) -> CheckpointError:
    return CheckpointError(
        "A checkpoint does more than store a model, so it was not loaded.",
        given=given,
        expected="objects with their values, as training writes them",
        fix="get the file from a source that you trust, or pass trust=True if you made it yourself",
    )


class _CacheUnpickler(pickle._Unpickler):
    """Read numpy arrays and plain types, and nothing that could run code.

    In Python, because `pickle.Unpickler` allocates as many values as the largest number in a file says.
    """

    stack: list[Any]
    dispatch: ClassVar[dict[int, Any]] = dict(_READ)
    ALLOWED = frozenset(
        (f"numpy.{core}.{module}", name)
        for core in ("core", "_core")
        for module, name in (("multiarray", "_reconstruct"), ("multiarray", "scalar"), ("numeric", "_frombuffer"))
    ) | {("numpy", "ndarray"), ("numpy", "dtype")}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in self.ALLOWED:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} does not belong in a label cache")

    def load_reduce(self) -> None:
        if self.stack[-2] is np.ndarray:  # which takes any bytes for objects
            raise pickle.UnpicklingError("an array is not made as numpy's pickles make it")
        pickle._Unpickler.load_reduce(self)  # type: ignore[attr-defined]

    def load_build(self) -> None:
        made, state = self.stack[-2:]
        if isinstance(made, np.dtype):
            _check_dtype(made, state)
        elif type(made) is np.ndarray:
            *_, shape, _, _, values = state
            if type(values) is list and len(values) != math.prod(shape):  # numpy does not count them
                raise pickle.UnpicklingError(f"{len(values)} objects for an array of shape {shape}")
        else:
            raise pickle.UnpicklingError(f"a state of {type(made).__name__}")
        pickle._Unpickler.load_build(self)  # type: ignore[attr-defined]

    dispatch |= {pickle.REDUCE[0]: load_reduce, pickle.BUILD[0]: load_build}
    del dispatch[pickle.NEWOBJ[0]]


def load_label_cache(path: Path) -> Any:
    """Read the label cache that Ultralytics keeps beside a dataset, a pickled dictionary within a .npy file.

    Raises:
        FileNotFoundError: It holds anything else; Ultralytics makes it anew.
    """
    with open(path, "rb") as file:
        try:
            version = np.lib.format.read_magic(file)
            read_header = (
                np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            )
            read_header(file)
            return _CacheUnpickler(file).load().item()
        except Exception as e:  # whatever the file is, it is no cache of Ultralytics'
            raise FileNotFoundError(f"{path} is not used: {e}") from e
