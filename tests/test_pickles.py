"""Checkpoints that would run code in ways that a list of allowed classes does not stop, by writing a file."""

import collections
import copyreg
import io
import pickle
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from ultralytics.nn import tasks
from ultralytics.nn.distill_model import DistillationModel
from ultralytics.utils import IterableSimpleNamespace
from ultralytics.utils.torch_utils import strip_optimizer

import yolo_mha
from yolo_mha.engine.checkpoint import check_checkpoint
from yolo_mha.errors import CheckpointError
from yolo_mha.guard import guarded, read_checkpoint
from yolo_mha.pickles import NETWORKS, load_label_cache


class Call:
    """Unpickling it calls a function or a class."""

    def __init__(self, called, *given):
        self.reduced = called, given

    def __reduce__(self):
        return self.reduced


class Made:
    """Unpickling it makes an object of a class without calling that, and gives it a state."""

    __class__ = property(lambda self: self.reduced[1][0])  # pickle looks whether it is one

    def __init__(self, kind, state):
        self.reduced = copyreg.__newobj__, (kind,), state

    def __reduce_ex__(self, protocol):
        return self.reduced


@pytest.fixture
def ran(tmp_path) -> Path:
    """The file that exists once an attack has succeeded."""
    return tmp_path / "ran"


@pytest.fixture
def bomb(tmp_path, ran) -> Path:
    """A checkpoint whose full unpickling writes the file."""
    torch.save({"model": Call(Path.write_text, ran, "x")}, tmp_path / "bomb.pt")
    return tmp_path / "bomb.pt"


@pytest.fixture
def network() -> nn.Module:
    return yolo_mha.YOLO("demo-baseline.yaml").model


def distilled(bomb: Path, network: nn.Module) -> Call:
    """The constructor of a class that restricted loading allows; it opens its teacher with full pickle."""
    return Call(DistillationModel, str(bomb), network)


def rebuilt(bomb: Path, network: nn.Module) -> Call:
    """A function on PyTorch's own list that calls what it is given."""
    return Call(torch._tensor._rebuild_from_type_v2, DistillationModel, torch.Tensor, (str(bomb), network), {})


@pytest.mark.parametrize("attack", [distilled, rebuilt])
@pytest.mark.parametrize(
    "load",
    [
        lambda path: yolo_mha.YOLO(path),
        lambda path: yolo_mha.YOLO("demo-baseline.yaml").load(path),
        lambda path: check_checkpoint(path),
        lambda path: read_checkpoint(path),
    ],
    ids=["YOLO", "load", "check_checkpoint", "read_checkpoint"],
)
def test_checkpoint__that_builds_a_class_which_opens_files(bomb, ran, network, tmp_path, attack, load):
    torch.save({"model": attack(bomb, network)}, tmp_path / "evil.pt")
    with pytest.raises((CheckpointError, TypeError), match=r"more than store a model|may run code|outside the"):
        load(tmp_path / "evil.pt")
    assert not ran.exists()


def known_classes() -> list[type]:
    """Every class that Ultralytics lets a checkpoint name, in this version."""
    from ultralytics.utils import loss, tal

    names = [name for name in sys.modules if name.startswith(("torch.nn.modules", "ultralytics.nn.modules"))]
    modules = [sys.modules[name] for name in (*names, "ultralytics.nn.tasks", "ultralytics.nn.distill_model")]
    classes = {kind for module in modules for kind in vars(module).values() if isinstance(kind, type)}
    classes = {kind for kind in classes if issubclass(kind, nn.Module) and kind.__module__ in sys.modules}
    others = [kind for module in (loss, tal) for kind in vars(module).values() if isinstance(kind, type)]
    return [*classes, *(kind for kind in others if kind.__module__.startswith("ultralytics.utils"))]


def test_checkpoint__can_call_no_known_class(tmp_path, monkeypatch):
    """No constructor runs at all, so it does not matter what those of this or a newer version do."""
    built = []
    found = known_classes()
    assert len(found) > 300
    assert DistillationModel in found
    for kind in found:
        if getattr(sys.modules[kind.__module__], kind.__name__, None) is not kind:
            continue
        with monkeypatch.context() as patch:
            patch.setattr(kind, "__init__", lambda self, *given, **named: built.append(type(self)))
            torch.save({"model": Call(kind)}, tmp_path / "evil.pt")
            with pytest.raises((CheckpointError, TypeError)):
                read_checkpoint(tmp_path / "evil.pt")
    assert built == []


def extra_repr() -> Call:
    """A function that takes anything and returns "", which pickle then takes for the object's name."""
    return Call(getattr, nn.Identity, "extra_repr")


@pytest.mark.parametrize("where", ["beside", "inside", "top", "args", "modules"])
def test_checkpoint__that_imports_a_module_when_it_is_saved_again(tmp_path, ran, network, monkeypatch, where):
    """Pickle asks an object for ``__reduce_ex__`` and ``__module__``, also where they are its own attributes."""
    (tmp_path / "strangers.py").write_text(f"open({str(ran)!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    names = {"__reduce_ex__": extra_repr(), "__module__": "strangers"}
    content = {"model": network, "ema": None}
    if where == "beside":
        content["note"] = Made(IterableSimpleNamespace, names)
    elif where == "args":
        network.args = Made(IterableSimpleNamespace, names)
    elif where == "inside":
        vars(network).update(names)
        network = content["model"] = Made(tasks.DetectionModel, vars(network))
    elif where == "modules":
        network._modules["__deepcopy__"] = nn.Identity()
    else:
        content = Top(content, names)
    torch.save(content, tmp_path / "evil.pt")
    with pytest.raises(CheckpointError):
        yolo_mha.insert(tmp_path / "evil.pt", at="P5", out="out.pt")
    assert not ran.exists()
    assert not Path("out.pt").exists()


class Top:
    """An ordered dictionary with attributes of its own."""

    def __init__(self, content, names):
        self.reduced = collections.OrderedDict, (list(content.items()),), names

    def __reduce_ex__(self, protocol):
        return self.reduced


@pytest.mark.parametrize(
    "value",
    [
        Made(nn.Identity, {"forward": nn.Upsample}),
        Made(nn.Identity, {"_forward_hooks": {0: DistillationModel}}),
        Made(IterableSimpleNamespace, (None, {"__class__": nn.Identity})),
        Call(getattr, nn.Identity, "load_state_dict"),
        Call(getattr, nn.Identity, "__init__"),
        Made(Path, {}),
    ],
    ids=["class as method", "class as hook", "slots", "other method", "dunder method", "unknown class"],
)
def test_checkpoint__that_hides_what_would_be_called_later(tmp_path, value):
    torch.save({"model": value}, tmp_path / "evil.pt")
    with pytest.raises((CheckpointError, TypeError)):
        read_checkpoint(tmp_path / "evil.pt")


def test_checkpoint__that_gives_an_object_its_state_twice(tmp_path):
    """The second state would go to a ``__setstate__`` that came with the first."""
    torch.save({"model": 0}, tmp_path / "plain.pt")
    once = b"}(X\x01\x00\x00\x00aK\x01ub"
    content = b"\x80\x02ctorch.nn.modules.linear\nIdentity\n)\x81" + once
    for times, states in (("once", b""), ("twice", once)):
        with (
            zipfile.ZipFile(tmp_path / "plain.pt") as plain,
            zipfile.ZipFile(tmp_path / f"{times}.pt", "w") as made,
        ):
            for name in plain.namelist():
                data = content + states + b"." if name.endswith("data.pkl") else plain.read(name)
                made.writestr(name.replace("plain/", f"{times}/"), data)
    with guarded():
        assert torch.load(tmp_path / "once.pt").a == 1
        with pytest.raises(CheckpointError, match="given twice"):
            torch.load(tmp_path / "twice.pt")


def test_checkpoint__as_a_bare_pickle_of_old_opcodes(tmp_path, ran):
    """INST and OBJ call what they name, too."""
    for text in (f"(S{str(ran)!r}\nS'w'\niio\nopen\n.", f"(cio\nopen\nS{str(ran)!r}\nS'w'\no."):
        (tmp_path / "evil.pt").write_bytes(text.encode())
        with guarded(), pytest.raises((pickle.UnpicklingError, KeyError)):
            torch.load(tmp_path / "evil.pt")
    assert not ran.exists()


def test_checkpoint__that_asks_for_much_memory(tmp_path):
    torch.save({"model": Call(bytearray, 10**9)}, tmp_path / "evil.pt")
    with pytest.raises(CheckpointError, match="damaged"):
        check_checkpoint(tmp_path / "evil.pt")
    for protocol in (2, 4):
        content = pickle.dumps(bytearray(b"\xff"), protocol)
        assert NETWORKS.Unpickler(io.BytesIO(content)).load() == bytearray(b"\xff")


def test_checkpoint__that_unpacks_to_much_more_than_its_size(tmp_path):
    torch.save({"model": torch.zeros(5_000_000)}, tmp_path / "plain.pt")
    with (
        zipfile.ZipFile(tmp_path / "plain.pt") as plain,
        zipfile.ZipFile(tmp_path / "evil.pt", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    with pytest.raises(CheckpointError, match=r"unpacks to \d+ times its size"):
        check_checkpoint(tmp_path / "evil.pt")


def test_label_cache__that_asks_for_much_memory(tmp_path):
    """The number of a value that is kept for later is 2**31 - 1, for which there would be room for as many."""
    np.save(tmp_path / "x.npy", {"hash": "a"}, allow_pickle=True)
    content = (tmp_path / "x.npy").read_bytes()
    (tmp_path / "x.npy").write_bytes(content[:-1] + b"r\xff\xff\xff\x7f.")
    assert load_label_cache(tmp_path / "x.npy") == {"hash": "a"}
    (tmp_path / "x.npy").write_bytes(content[:-1] + b"\x96" + (10**9).to_bytes(8, "little") + b".")
    with pytest.raises(FileNotFoundError):
        load_label_cache(tmp_path / "x.npy")


class Stated:
    """Unpickling it calls a function and gives what that returns a state."""

    def __init__(self, state, called, *given):
        self.reduced = called, given, state

    def __reduce__(self):
        return self.reduced


EMPTY = np.zeros(0).__reduce__()[:2]  # what makes an array, before it gets its state
ADDRESSES = b"\1" * 8
OBJECTS = np.dtype(object)
UNMARKED = Stated((3, "|", None, None, None, -1, -1, 0), np.dtype, "O8", False, True)  # not known to hold objects


@pytest.mark.parametrize(
    "attack",
    [
        Stated((1, (1,), UNMARKED, False, ADDRESSES), EMPTY[0], *EMPTY[1]),
        Stated((1, (10**6,), OBJECTS, False, [0]), EMPTY[0], *EMPTY[1]),
        Call(np.ndarray, (1,), OBJECTS, ADDRESSES),
        Made(np.ndarray, (1, (1,), OBJECTS, False, [0])),
    ],
    ids=["objects as numbers", "fewer objects than places", "an array over bytes", "an array without its maker"],
)
def test_label_cache__that_takes_numbers_for_addresses_of_objects(tmp_path, attack):
    np.save(tmp_path / "x.npy", {"labels": np.array(["a", None], object), "hash": "ab"}, allow_pickle=True)
    content = (tmp_path / "x.npy").read_bytes()
    assert load_label_cache(tmp_path / "x.npy")["labels"].tolist() == ["a", None]
    (tmp_path / "x.npy").write_bytes(content[: content.index(b"\n") + 1] + pickle.dumps(attack, 4))
    with pytest.raises(FileNotFoundError, match="is not used"):
        load_label_cache(tmp_path / "x.npy")


def test_checkpoint__with_a_type_of_values_that_is_changed(tmp_path):
    torch.save({"value": np.float32(3), "text": np.str_("ab")}, tmp_path / "x.pt")
    assert read_checkpoint(tmp_path / "x.pt") == {"value": 3, "text": "ab"}
    other = Stated(
        (3, ">", None, None, None, -1, -1, 0), np.dtype, "f4"
    )  # which would be that of all arrays from now on
    for kind in (UNMARKED, other):
        torch.save({"value": Call(np.float32(0).__reduce__()[0], kind, ADDRESSES)}, tmp_path / "x.pt")
        with pytest.raises(CheckpointError, match="more than store a model"):
            read_checkpoint(tmp_path / "x.pt")
    assert np.dtype("f4").byteorder == "="


def test_checkpoint__beside_one_that_is_resumed_is_read_safely(bomb, ran):
    """At its end Ultralytics' training reads ``best.pt`` of the folder again, with full pickle."""
    with guarded():
        assert strip_optimizer(bomb) == {}
    assert not ran.exists()


def test_checkpoint__that_is_a_torchscript_file_is_not_run(tmp_path, ran):
    torch.jit.script(nn.Identity()).save(str(tmp_path / "evil.pt"))
    with pytest.raises(CheckpointError, match="can run any code"):
        yolo_mha.YOLO(tmp_path / "evil.pt")


def test_read_checkpoint__gives_what_full_pickle_gives(trained):
    """Tensors, their sharing, types and all attributes are the same."""
    ours, theirs = read_checkpoint(trained), torch.load(trained, weights_only=False)
    assert ours.keys() == theirs.keys()
    assert {k: v for k, v in ours.items() if k != "model"} == {k: v for k, v in theirs.items() if k != "model"}
    pairs = list(zip(ours["model"].named_modules(), theirs["model"].named_modules(), strict=True))
    assert all(a == b and type(one) is type(other) for (a, one), (b, other) in pairs)
    assert all(vars(one).keys() == vars(other).keys() for (_, one), (_, other) in pairs)
    states = ours["model"].state_dict(), theirs["model"].state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[1])


@pytest.mark.parametrize(
    "value",
    [b"bytes", {1, 2}, 2j, torch.Size([1, 2]), torch.float16, torch.device("cpu"), Path("a/b").absolute()],
    ids=lambda value: type(value).__name__,
)
def test_read_checkpoint__reads_plain_values(tmp_path, trained, value):
    content = torch.load(trained, weights_only=False)
    torch.save({**content, "value": value}, tmp_path / "x.pt")
    assert read_checkpoint(tmp_path / "x.pt")["value"] == value


def test_read_checkpoint__keeps_attributes_of_parameters(tmp_path, network):
    next(network.parameters()).decayed = False
    torch.save({"model": network}, tmp_path / "x.pt")
    assert next(read_checkpoint(tmp_path / "x.pt")["model"].parameters()).decayed is False
