"""What `bad_input.py` gives to the commands: small files and words that are wrong, each in a folder of its own."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import shlex
import shutil
import struct
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np
import torch
import yaml
from ultralytics.data.utils import get_hash

from yolo_mha.paths import shipped

MARKER = "ran"  # the file that code of a case writes into its folder
TRAIN = "train epochs=1 imgsz=64 batch=2 workers=0 device=cpu plots=False"
VAL = "val model=demo.pt data=data.yaml imgsz=64 batch=2 workers=0 device=cpu plots=False"
PREDICT = "predict model=demo.pt imgsz=64 device=cpu save=False"
BASELINE = yaml.safe_load((shipped("cfg") / "models" / "demo-baseline.yaml").read_text())
DATA = {"train": "images", "val": "images", "names": ["day", "night", "beacon"]}
OK_ROWS = 5 * "0 0.5 0.5 0.2 0.2\n"

Content = bytes | str | Callable[[Path], object]


@dataclass(frozen=True)
class Case:
    """One wrong input.

    Attributes:
        kind: Its class, a row of the table.
        name: What is wrong.
        command: The words behind ``yolo-mha``, and behind ``yolo`` where it has the command.
        names: What a clear message has at least one of.
        files: What is in its folder beside the usual, by path: content, or a function that writes to the path.
        stock: Whether stock Ultralytics has this command.
    """

    kind: str
    name: str
    command: str
    names: tuple[str, ...]
    files: Mapping[str, Content] = field(default_factory=dict)
    stock: bool = True

    def lay_out(self, folder: Path) -> None:
        """Write its files: a checkpoint, a picture, a dataset of three pictures, and what is wrong."""
        for name in ("images", "labels"):
            (folder / name).mkdir(parents=True)
        shutil.copy(shipped("weights") / "demo-baseline.pt", folder / "demo.pt")
        for i in range(3):
            picture = np.random.default_rng(i).integers(0, 255, (64, 64, 3), np.uint8)
            cv2.imwrite(str(folder / "images" / f"{i}.png"), picture)
            (folder / "labels" / f"{i}.txt").write_text(f"{i} 0.5 0.5 0.2 0.2\n")
        cv2.imwrite(str(folder / "x.png"), picture)
        (folder / "data.yaml").write_text(yaml.safe_dump({"path": str(folder), **DATA}))
        (folder / "model.yaml").write_text(yaml.safe_dump(BASELINE))
        for name, content in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if callable(content):
                path.unlink(missing_ok=True)
                content(path)
            else:
                path.write_bytes(content.encode() if isinstance(content, str) else content)


class Runs:
    """Unpickling it writes the marker into the working directory."""

    def __reduce__(self) -> Any:
        return os.system, (f"touch {MARKER}",)


class Evaluates:
    """Unpickling it evaluates a text."""

    def __reduce__(self) -> Any:
        return eval, (f"open({MARKER!r}, 'w')",)


class Model:
    """A class of the YOLOv5 repository, which is not installed."""

    __module__ = "models.yolo"


def cases() -> list[Case]:
    """Return all cases."""
    return [case for make in (_rows, _model_texts, _datasets, _labels, _images, _lists, _checkpoints, _exports,
                              _predictions, _words, _recipes, _outputs) for case in make()]  # fmt: skip


def _rows() -> Iterator[Case]:
    conv = [-1, 1, "Conv", [32, 3, 2]]
    rows: dict[str, Any] = {
        "unknown module": [-1, 1, "Conf", [32, 3, 2]],
        "module of Python": [-1, 1, "os", []],
        "module that is a number": [-1, 1, 5, []],
        "three entries": [-1, 1, "Conv"],
        "a text in place of a row": "Conv",
        "nothing in place of a row": None,
        "a mapping in place of a row": {"module": "Conv"},
        "from behind": [9, 1, "Conv", [32, 3, 2]],
        "from before the first": [-9, 1, "Conv", [32, 3, 2]],
        "from a text": ["x", 1, "Conv", [32, 3, 2]],
        "from nothing": [[], 1, "Concat", [1]],
        "repeats 0": [-1, 0, *conv[2:]],
        "repeats -1": [-1, -1, *conv[2:]],
        "repeats a million": [-1, 10**6, "C2f", [32, True]],
        "repeats a text": [-1, "many", *conv[2:]],
        "no arguments": [-1, 1, "Conv", []],
        "too many arguments": [-1, 1, "Conv", list(range(1, 20))],
        "arguments that are no list": [-1, 1, "Conv", 32],
        "0 channels": [-1, 1, "Conv", [0, 3, 2]],
        "-5 channels": [-1, 1, "Conv", [-5, 3, 2]],
        "a billion channels": [-1, 1, "Conv", [10**9, 3, 2]],
        "channels a text": [-1, 1, "Conv", ["wide", 3, 2]],
        "channels not a number": [-1, 1, "Conv", [float("nan"), 3, 2]],
        "kernel 0": [-1, 1, "Conv", [32, 0, 2]],
        "kernel -3": [-1, 1, "Conv", [32, -3, 2]],
        "stride 0": [-1, 1, "Conv", [32, 3, 0]],
        "stride a million": [-1, 1, "Conv", [32, 3, 10**6]],
        "upsampling by 0": [-1, 1, "nn.Upsample", [None, 0, "nearest"]],
        "upsampling by 5000": [-1, 1, "nn.Upsample", [None, 5000, "nearest"]],
        "upsampling by a million": [-1, 1, "nn.Upsample", [None, 10**6, "nearest"]],
        "upsampling to a size": [-1, 1, "nn.Upsample", [[10**5, 10**5], None, "nearest"]],
        "upsampling in an unknown way": [-1, 1, "nn.Upsample", [None, 2, "best"]],
        "attention on the first map": [-1, 1, "AIFI", [1024, 8]],
        "AIFI with a billion hidden units": [-1, 1, "AIFI", [10**9, 8]],
        "groups that do not divide": [-1, 1, "Conv", [32, 3, 2, None, 7]],
        "concatenating maps of two sizes": [[0, -1], 1, "Concat", [1]],
        "a head in the middle": [[-1], 1, "Detect", ["nc"]],
    }
    for name, row in rows.items():
        backbone = [BASELINE["backbone"][0], row, *BASELINE["backbone"][2:]]
        if name == "concatenating maps of two sizes":
            backbone = [*BASELINE["backbone"][:2], row, *BASELINE["backbone"][2:]]
        yield _model("model YAML, rows", name, {**BASELINE, "backbone": backbone}, "model.yaml", "imgsz")
    changed: dict[str, Any] = {
        "no head": {"head": []},
        "no backbone": {"backbone": None},
        "a head that is no head": {"head": BASELINE["head"][:1]},
        "nc 0": {"nc": 0},
        "nc a text": {"nc": "ten"},
        "a billion classes": {"nc": 10**9},
        "a scale of 0": {"scales": {"n": [0, 0, 0]}},
        "scales that are a text": {"scales": "n"},
        "a width of a million": {"width_multiple": 1e6},
        "activation that runs": {"activation": f"open({MARKER!r}, 'w') and None"},
        "activation of another package": {"activation": f"__import__('os').mkdir({MARKER!r})"},
        "weights from the network": {"backbone": [[-1, 1, "TorchVision", [16, "resnet18", "DEFAULT"]]]},
    }
    for name, change in changed.items():
        words = ("model.yaml", "activation", "download")
        yield _model("model YAML, rows", name, {**BASELINE, **change}, *words)


def _model(kind: str, name: str, content: object, *names: str) -> Case:
    text = content if isinstance(content, (bytes, str)) else yaml.safe_dump(content)
    return Case(kind, name, f"{TRAIN} model=model.yaml data=data.yaml", names or ("model.yaml",), {"model.yaml": text})


def _texts(good: str) -> dict[str, Content]:
    """Files that are no YAML of the usual kind, whatever they should hold."""
    bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10)
    )
    return {
        "empty": "",
        "binary": bytes(range(256)) * 4,
        "zeros": bytes(4096),
        "a list": "- 1\n- 2\n",
        "a word": "hello",
        "a tab": "nc:\t- [\n\t\tx",
        "not closed": "names: [a, b",
        "aliases of aliases": f"{bomb}{good}",
        "an alias of itself": f"again: &x [*x]\n{good}",
        "ten thousand levels": "x: " + "[" * 10_000,
        "a Python object": f"x: !!python/object/apply:os.system ['touch {MARKER}']\n{good}",
        "UTF-16": good.encode("utf-16"),
        "Latin-1": b"# \xe9\xff\n" + good.encode(),
        "4 MiB": good + "# " + "x" * 2**22,
        "a folder": Path.mkdir,
        "a link to itself": lambda path: path.symlink_to(path.name),
    }


def _model_texts() -> Iterator[Case]:
    good = yaml.safe_dump(BASELINE)
    for name, content in {**_texts(good), "a key twice": f"{good}\nnc: 5\n"}.items():
        if name != "Latin-1":
            command = f"{TRAIN} model=model.yaml data=data.yaml"
            yield Case("model YAML, text", name, command, ("model.yaml",), {"model.yaml": content})
    yield Case("model YAML, text", "missing", f"{TRAIN} model=nowhere.yaml data=data.yaml", ("nowhere.yaml",))


def _datasets() -> Iterator[Case]:
    for name, content in _texts(yaml.safe_dump(DATA)).items():
        if name not in ("4 MiB", "Latin-1", "zeros"):
            yield Case("data YAML", name, VAL, ("data.yaml",), {"data.yaml": content})
    changed: dict[str, Any] = {
        "no names": {"names": None},
        "names that are a number": {"names": 3},
        "names with a gap": {"names": {0: "a", 5: "b"}},
        "names by words": {"names": {"a": 0, "b": 1}},
        "nc that is not the number of names": {"nc": 7},
        "no train": {"train": None},
        "no val": {"val": None},
        "val that is a number": {"val": 5},
        "val that is not there": {"val": "nowhere"},
        "val that is empty": {"val": "empty"},
        "val that is a list with nothing": {"val": [None]},
        "a path that is not there": {"path": "/nowhere/at/all"},
        "a download that runs": {"val": "nowhere", "download": f"open({MARKER!r}, 'w').write('x')"},
        "a download by the shell": {"val": "nowhere", "download": f"bash -c 'touch {MARKER}'"},
    }
    for name, change in changed.items():
        content = yaml.safe_dump({k: v for k, v in {**DATA, **change}.items() if v is not None})
        words = ("data.yaml", "names", "train", "val", "path", "nowhere", "empty")
        files: dict[str, Content] = {"data.yaml": content, "empty/x.md": ""}
        yield Case(
            "data YAML", name, VAL if "train" not in name else f"{TRAIN} model=demo.pt data=data.yaml", words, files
        )
    yield Case("data YAML", "missing", VAL.replace("data.yaml", "nowhere.yaml"), ("nowhere.yaml",))


def _labels() -> Iterator[Case]:
    contents: dict[str, Content] = {
        "a class out of range": "7 .5 .5 .2 .2",
        "a negative class": "-1 .5 .5 .2 .2",
        "a class of 1e300": "1e300 .5 .5 .2 .2",
        "a class of 0.5": "0.5 .5 .5 .2 .2",
        "words": "car .5 .5 .2 .2",
        "not a number": "0 nan .5 .2 .2",
        "infinite": "0 .5 .5 inf .2",
        "four columns": "0 .5 .5 .2",
        "six columns": "0 .5 .5 .2 .2 .9",
        "rows of different lengths": "0 .5 .5 .2 .2\n0 .5 .5\n",
        "pixels": "0 32 32 10 10",
        "negative coordinates": "0 -.5 .5 .2 .2",
        "commas": "0,.5,.5,.2,.2",
        "binary": bytes(range(256)),
        "UTF-16": OK_ROWS.encode("utf-16"),
        "JSON": '{"boxes": []}',
        "a folder": lambda path: path.mkdir(),
        "a link to itself": lambda path: path.symlink_to(path.name),
    }
    for name, content in contents.items():
        yield Case("labels", name, VAL, ("0.txt", "0.png"), {"labels/0.txt": content})

    def cache(path: Path) -> None:
        folder = path.parent
        labels, images = sorted(folder.glob("labels/*.txt")), sorted(folder.glob("images/*.png"))
        held = {"x": Runs(), "version": "1.0.3", "hash": get_hash([*map(str, labels), *map(str, images)])}
        with path.open("wb") as file:
            np.save(file, np.array(held, dtype=object), allow_pickle=True)

    yield Case("labels", "a label cache that runs", VAL, ("labels.cache",), {"labels.cache": cache})


def _bad_pictures() -> dict[str, Content]:
    whole = cv2.imencode(".png", np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))[1].tobytes()
    jpeg = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))[1].tobytes()
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    huge = whole[:16] + header + whole[29:]
    return {
        "empty.png": b"",
        "text.png": "hello",
        "cut.png": whole[: len(whole) // 3],
        "cut.jpg": jpeg[: len(jpeg) // 3],
        "zeros.jpg": bytes(5000),
        "huge.png": huge,
        "page.jpg": "<html><script>x</script></html>",
        "archive.png": _zip({"x": b"x"}),
        "folder.png": lambda path: path.mkdir(),
        "itself.png": lambda path: path.symlink_to(path.name),
        "pipe.png": os.mkfifo,
        "noise.heic": bytes(range(256)),
        "noise.tif": b"II*\0" + bytes(range(200)),
        "noise.webp": b"RIFF\xff\xff\xff\xffWEBPVP8 " + bytes(50),
        "a\x1b]0;owned\x07.png": b"",
        "two\nlines.png": b"",
    }


def _images() -> Iterator[Case]:
    for name, content in _bad_pictures().items():
        shown = re.findall("[a-z]{3,}", name)[0]  # of a name with control characters a part
        yield Case("images", f"{name!r} alone", f"{PREDICT} {shlex.quote(f'source={name}')}", (shown,), {name: content})
        files = {f"some/{name}": content, "some/good.png": lambda path: shutil.copy(path.parents[1] / "x.png", path)}
        yield Case("images", f"{name!r} among others", f"{PREDICT} source=some", (shown,), files)
    for name in ("text.png", "cut.jpg", "huge.png", "itself.png"):
        label = f"labels/{name.split('.')[0]}.txt"
        files = {f"images/{name}": _bad_pictures()[name], label: OK_ROWS}
        yield Case("images", f"{name!r} in a dataset", VAL, (name,), files)
    yield Case("images", "missing", f"{PREDICT} source=nowhere.png", ("nowhere.png",))


def _lists() -> Iterator[Case]:
    contents: dict[str, tuple[str, Content]] = {
        "an empty video": ("v.mp4", b""),
        "a video of text": ("v.mp4", "hello"),
        "a video of noise": ("v.avi", bytes(range(256)) * 20),
        "a folder named as a video": ("v.mp4", lambda path: path.mkdir()),
        "an empty list": ("list.txt", ""),
        "a list of missing files": ("list.txt", "a.png\nb.png\n"),
        "a list of binary": ("list.txt", bytes(range(256))),
        "a list of itself": ("list.txt", "list.txt\n"),
        "a list of folders": ("list.txt", "images\nlabels\n"),
        "an empty table": ("list.csv", ""),
        "a table without files": ("list.csv", "a,b\n1,2\n"),
        "streams that are none": ("s.streams", "hello\n"),
        "no streams": ("s.streams", ""),
    }
    for name, (file, content) in contents.items():
        yield Case(
            "videos and lists",
            name,
            f"{PREDICT} source={file}",
            (file, "a.png", "hello", "images", "1"),
            {file: content},
        )
    yield Case("videos and lists", "an empty folder", f"{PREDICT} source=empty", ("empty",), {"empty": Path.mkdir})
    yield Case("videos and lists", "a pattern without files", f"{PREDICT} source=*.gif", ("*.gif",))
    yield Case("videos and lists", "a camera that is not there", f"{PREDICT} source=77", ("77",))


def _zip(content: Mapping[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return file.getvalue()


def _saved(content: object, **kwargs: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **kwargs)
    return file.getvalue()


def _checkpoints() -> Iterator[Case]:
    whole = (shipped("weights") / "demo-baseline.pt").read_bytes()
    opened = torch.load(io.BytesIO(whole), weights_only=False)

    def changed(**members: object) -> bytes:
        network = torch.load(io.BytesIO(whole), weights_only=False)["model"]
        for name, value in members.items():
            setattr(network, name, value)
        return _saved({**opened, "model": network})

    with patch.dict(sys.modules, {"models": ModuleType("models"), "models.yolo": sys.modules[__name__]}):
        foreign = _saved({"model": Model()})
    yaml_that_runs = {**BASELINE, "activation": f"open({MARKER!r}, 'w') and None"}
    contents: dict[str, Content] = {
        "a pickle that runs": _saved({"model": Runs()}),
        "a pickle that evaluates": _saved({"model": Evaluates()}),
        "one that runs beside a good model": _saved({**opened, "note": Runs()}),
        "one that runs within the model": changed(note=Runs()),
        "the old format, which runs": _saved({"model": Runs()}, _use_new_zipfile_serialization=False),
        "a bare pickle that runs": pickle.dumps({"model": Runs()}),
        "weights alone": _saved(opened["model"].state_dict()),
        "no model": _saved({"model": None, "epoch": 3}),
        "a number": _saved(5),
        "a model that is a text": _saved({"model": "yolo11n"}),
        "a module of PyTorch": _saved({"model": torch.nn.Linear(2, 2)}),
        "a class that is not installed": foreign,
        "cut": whole[: len(whole) // 2],
        "damaged": whole[:200_000] + bytes(5_000) + whole[205_000:],
        "empty": b"",
        "text": "hello",
        "a web page": "<!DOCTYPE html><html></html>",
        "a Git LFS pointer": "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        "zeros": bytes(100_000),
        "an archive of something else": _zip({"a.txt": b"a"}),
        "an archive that unpacks to much": _zip({"x/data.pkl": bytes(2**24)}),
        "safetensors": struct.pack("<Q", 2) + b"{}" + bytes(8),
        "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(100),
        "a folder": Path.mkdir,
        "a link to itself": lambda path: path.symlink_to(path.name),
        "a pipe": os.mkfifo,
        "no names": changed(names=None),
        "names that are a number": changed(names=3),
    }
    for name, content in contents.items():
        command = PREDICT.replace("demo.pt", "m.pt") + " source=x.png"
        yield Case("checkpoints", name, command, ("m.pt",), {"m.pt": content})
    yield Case("checkpoints", "a YAML in it that runs", f"{TRAIN} model=m.pt data=data.yaml", ("m.pt", "activation"),
               {"m.pt": changed(yaml=yaml_that_runs)})  # fmt: skip
    yield Case("checkpoints", "missing", PREDICT.replace("demo.pt", "no/m.pt") + " source=x.png", ("m.pt",))


class _Program(torch.nn.Module):
    """Makes the marker, which `torch.from_file` creates when it is run."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.from_file("ran", True, 4, dtype=torch.uint8).sum()


def _program(path: Path) -> None:
    extra = {
        "config.txt": json.dumps({"task": "detect", "names": {"0": "a"}, "stride": 32, "imgsz": [64, 64], "batch": 1})
    }
    torch.jit.save(torch.jit.script(_Program()), str(path), _extra_files=extra)


def _openvino(folder: Path) -> None:
    folder.mkdir()
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">' + "".join(
        f'<!ENTITY {chr(98 + i)} "{f"&{chr(97 + i)};" * 10}">' for i in range(9)
    )
    (folder / "m.xml").write_text(f"<?xml version='1.0'?>{bomb}]><net name='x' version='11'>&j;</net>")
    (folder / "m.bin").write_bytes(b"")
    (folder / "metadata.yaml").write_text("task: detect\nnames: {0: a}\nstride: 32\nimgsz: [64, 64]\nbatch: 1\n")


def _exports() -> Iterator[Case]:
    def files(*names: str) -> Callable[[Path], None]:
        def write(folder: Path) -> None:
            folder.mkdir()
            for name in names:
                (folder / name).write_bytes(b"x" * 100)

        return write

    contents: dict[str, Content] = {
        "m.torchscript": _program,
        "text.torchscript": "hello",
        "m.onnx": b"\x08\x08hello",
        "empty.onnx": b"",
        "text.engine": "hello",
        "text.pb": "hello",
        "text.tflite": "hello",
        "m_edgetpu.tflite": "hello",
        "m_saved_model": files("saved_model.pb"),
        "m_ncnn_model": files("model.ncnn.param", "model.ncnn.bin"),
        "m_paddle_model": files("model.json"),
        "m.mlpackage": files("Manifest.json"),
        "m_openvino_model": _openvino,
        "empty_openvino_model": files(),
        "text.mnn": "hello",
        "m.pth": "hello",
        "m.safetensors": "hello",
    }
    for name, content in contents.items():
        command = PREDICT.replace("demo.pt", name) + " source=x.png"
        yield Case("exported models", name, command, (name, name.split(".")[0]), {name: content})


def _predictions() -> Iterator[Case]:
    image = {"id": 0, "file_name": "0.png", "width": 64, "height": 64}
    box = {"id": 1, "image_id": 0, "category_id": 1, "bbox": [1, 1, 9, 9], "area": 81, "iscrowd": 0}
    truth = {"images": [image], "annotations": [box], "categories": [{"id": 1, "name": "a"}]}
    found = {"image_id": 0, "category_id": 1, "bbox": [1, 1, 9, 9], "score": 0.5}
    texts: dict[str, Content] = {
        "empty": "",
        "not closed": "[{",
        "binary": bytes(range(256)),
        "ten thousand levels": "[" * 10_000,
        "a number": "5",
        "a folder": Path.mkdir,
    }
    wrong_found: dict[str, Any] = {
        "a mapping": {"a": found},
        "a list of numbers": [1, 2],
        "no image": [{k: v for k, v in found.items() if k != "image_id"}],
        "an unknown image": [{**found, "image_id": 77}],
        "an unknown class": [{**found, "category_id": 77}],
        "a class that is a text": [{**found, "category_id": "car"}],
        "three numbers of a box": [{**found, "bbox": [1, 2, 3]}],
        "a box of words": [{**found, "bbox": ["a", "b", "c", "d"]}],
        "a box that is not a number": [{**found, "bbox": [1, 1, float("nan"), 2]}],
        "a box of negative width": [{**found, "bbox": [1, 1, -5, 5]}],
        "no score": [{k: v for k, v in found.items() if k != "score"}],
        "a score that is a text": [{**found, "score": "high"}],
        "a score that is not a number": [{**found, "score": float("nan")}],
    }
    wrong_truth: dict[str, Any] = {
        "a list": [],
        "no images": {**truth, "images": []},
        "no categories": {**truth, "categories": []},
        "no annotations": {k: v for k, v in truth.items() if k != "annotations"},
        "images that are no list": {**truth, "images": 5},
        "an image without an id": {**truth, "images": [{"file_name": "x"}]},
        "an image twice": {**truth, "images": [image, image]},
        "a box without an image": {**truth, "annotations": [{**box, "image_id": 9}]},
        "a box of an unknown class": {**truth, "annotations": [{**box, "category_id": 9}]},
        "a box of three numbers": {**truth, "annotations": [{**box, "bbox": [1, 2, 3]}]},
        "a box that is infinite": {**truth, "annotations": [{**box, "bbox": [1, 1, float("inf"), 2]}]},
        "an annotation twice": {**truth, "annotations": [box, box]},
        "a class twice": {**truth, "categories": truth["categories"] * 2},
    }
    good = {"p.json": json.dumps([found]), "a.json": json.dumps(truth)}
    for key, file, wrong in (("predictions", "p.json", wrong_found), ("annotations", "a.json", wrong_truth)):
        contents = texts | {k: json.dumps(v) for k, v in wrong.items()}
        for name, content in contents.items():
            kind, command = "predictions and annotations", "val predictions=p.json annotations=a.json"
            names = (file, key, "image", "bbox", "score", "categor")
            yield Case(kind, f"{key}: {name}", command, names, {**good, file: content}, stock=False)


def _words() -> Iterator[Case]:
    train = f"{TRAIN} model=model.yaml data=data.yaml"
    wrong = {
        train: "epochs=0 epochs=-1 epochs=many epoch=5 imgsz=0 imgsz=-64 imgsz=big imgsz=1e99 batch=0 batch=-5 "
        "batch=all lr0=fast momentum=nan optimizer=Best device=99 device=tpu freeze=x workers=-1 cache=maybe "
        "split=all time=-1 fraction=2 patience=x "
        "pretrained=nowhere.pt pretrained=5 seed=x data= model= =5 hello save_period=x mosaic=high",
        f"{PREDICT} source=x.png": "conf=2 conf=-1 conf=high iou=7 max_det=many classes=car classes=99 line_width=0 "
        "vid_stride=0 half=perhaps save=perhaps",
        "export model=demo.pt": "format=foo format= imgsz=x batch=0 opset=x",
    }
    for command, words in wrong.items():
        for word in words.split():
            key = word.split("=")[0] or word
            base = [w for w in command.split() if w.split("=")[0] != key]
            yield Case("settings", f"{base[0]} {word}", " ".join([*base, word]), (key, word.split("=")[-1] or key))
    yield Case("settings", "a setting twice", f"{train} epochs=3", ("epochs",))
    yield Case("settings", "an unknown command", "trian model=demo.pt", ("trian",))


def _recipes() -> Iterator[Case]:
    good: dict[str, Any] = {
        "name": "mine",
        "data": "data.yaml",
        "arms": {"baseline": "model.yaml", "attention": {"model": "model.yaml", "at": "neck"}},
        "train": {"epochs": 1, "imgsz": 64},
        "seeds": [0, 1],
    }
    first = {"baseline": "model.yaml"}
    changed: dict[str, Any] = {
        "no arms": {"arms": {}},
        "one arm": {"arms": {"baseline": "model.yaml"}},
        "arms that are a list": {"arms": [1, 2]},
        "an arm that is a number": {"arms": {**first, "attention": 5}},
        "an arm at no place": {"arms": {**first, "attention": {"model": "model.yaml", "at": "P9"}}},
        "an arm with an unknown key": {"arms": {**first, "attention": {"model": "model.yaml", "att": "P3"}}},
        "an arm that is not there": {"arms": {**first, "attention": "nowhere.yaml"}},
        "an arm named as a path": {"arms": {**first, "../x": "model.yaml"}},
        "a control of nothing": {"arms": {**good["arms"], "control": {"match": "nothing"}}},
        "a name that is a path": {"name": "../../x"},
        "an unknown key": {"seed": 5},
        "seeds twice": {"seeds": [1, 1]},
        "seeds of words": {"seeds": ["a"]},
        "jobs 0": {"jobs": 0},
        "a margin of 7": {"margin": 7},
        "an unknown primary": {"primary": "nothing"},
        "an unknown split": {"split": "all"},
        "train settings that are a list": {"train": [1]},
        "an unknown train setting": {"train": {"epoch": 3}},
        "data that is not there": {"data": "nowhere.yaml"},
        "data that is a number": {"data": 5},
        "blocks that are not there": {"blocks": ["no_such_module"]},
        "a group that is no pattern": {"group": "(["},
    }
    command = "compare recipe.yaml dry_run=True"
    for name, change in changed.items():
        words = ("arm", "model=5", "../x", "P9", "att", "nothing", "nowhere", "epoch", "no_such")
        names = ("recipe.yaml", *change, *map(str, change.values()), *words)
        yield Case("recipes", name, command, names, {"recipe.yaml": yaml.safe_dump({**good, **change})}, stock=False)
    for name, content in _texts(yaml.safe_dump(good)).items():
        if name not in ("Latin-1", "UTF-16", "zeros"):
            yield Case("recipes", name, command, ("recipe.yaml",), {"recipe.yaml": content}, stock=False)


def _outputs() -> Iterator[Case]:
    predict = "predict model=demo.pt imgsz=64 device=cpu source=x.png"
    yield Case("outputs", "project is a file", f"{predict} project=taken", ("taken",), {"taken": "x"})
    yield Case("outputs", "project below a file", f"{predict} project=taken/more", ("taken",), {"taken": "x"})
    yield Case("outputs", "project where nothing may be made", f"{predict} project=/proc/mine", ("/proc/mine",))
    yield Case("outputs", "a name of 500 letters", f"{predict} name={'x' * 500}", ("x" * 40,))
    yield Case("outputs", "runs is a file", predict, ("runs",), {"runs": "x"})
    yield Case("outputs", "training where project is a file", f"{TRAIN} model=model.yaml data=data.yaml project=taken",
               ("taken",), {"taken": "x"})  # fmt: skip
    insert = "insert model=model.yaml at=neck"
    yield Case("outputs", "out that is there", f"{insert} out=data.yaml", ("data.yaml",), stock=False)
    yield Case("outputs", "out of another kind", f"{insert} out=x.pt", ("x.pt",), stock=False)
    yield Case("outputs", "out below a file", f"{insert} out=data.yaml/x.yaml", ("data.yaml",), stock=False)
    yield Case("outputs", "at no place", "insert model=model.yaml at=P9", ("P9",), stock=False)
    yield Case("outputs", "at a word", "insert model=model.yaml at=here", ("here",), stock=False)
    yield Case("outputs", "an unknown block", f"{insert} block=Best", ("Best",), stock=False)
    yield Case("outputs", "heads that do not divide", f"{insert} num_heads=7", ("num_heads", "7"), stock=False)
