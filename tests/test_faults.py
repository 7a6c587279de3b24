"""Commands that are killed, disks that are full, folders that cannot be written to, data that goes away."""

import csv
import hashlib
import json
import os
import random
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import cv2
import onnx
import pytest
import torch
import yaml
from forked import Commands, Ended

from yolo_mha.data.beacons import draw, generate
from yolo_mha.data.pictures import is_cut_off
from yolo_mha.engine.video import count_frames
from yolo_mha.evaluation.one_run import END
from yolo_mha.paths import shipped
from yolo_mha.text import UNFINISHED

KILLS, SIZES = range(20), range(20)
FRAMES = 60


@dataclass(frozen=True)
class Case:
    """A command, and what of its outputs is the same each time.

    Attributes:
        words: The words after ``yolo-mha``; ``{inputs}`` is the folder of `inputs`.
        outcome: Reads it from the working directory.
    """

    words: str
    outcome: Callable[[Path], object]


def _inserted(folder: Path) -> object:
    state = torch.load(folder / "new.pt", weights_only=False)["model"].state_dict()
    return [(folder / "new.yaml").read_text(), *((name, value.sum().item()) for name, value in state.items())]


def _exported(folder: Path) -> object:
    model = onnx.load(folder / "model.onnx")
    del model.metadata_props[:]  # with the date
    proof = json.loads((folder / "model.onnx.proof.json").read_text())
    return (
        hashlib.sha256(model.SerializeToString()).hexdigest(),
        proof["verdict"],
        (folder / "onnx_infer.py").read_text(),
    )


def _predicted(folder: Path) -> object:
    run = folder / "runs" / "detect" / "x"
    texts = [(run / f"predictions.{kind}").read_text() for kind in ("jsonl", "json", "csv")]
    return count_frames(str(run / "street.mp4")), texts, len(list((run / "labels").iterdir()))


def _scored(folder: Path) -> object:
    run = folder / "runs" / "detect" / "x"
    scores = json.loads((run / "scores.json").read_text())
    return scores["metrics"], (run / "predictions.json").read_text(), (run / "pr_curves.csv").read_text()


def _compared(folder: Path) -> object:
    found = json.loads((folder / "runs" / "compare" / "compare" / "compare.json").read_text())
    return {(run["arm"], run["seed"]): run["state"] for run in found["runs"]}, found["contrasts"][0]["verdict"]["word"]


def _trained(folder: Path) -> object:
    return len((folder / "runs" / "detect" / "x" / "results.csv").read_text().splitlines())


RUN = "name=x exist_ok=True device=cpu"
TRAINING = "epochs=2 imgsz=64 batch=8 device=cpu workers=0 plots=False"
CASES = {
    "insert": Case("insert model={inputs}/demo-baseline.pt at=neck out=new.pt exist_ok=True", _inserted),
    "export": Case("export model=model.pt imgsz=64 dynamic=True", _exported),
    "predict": Case(
        f"predict source={{inputs}}/street.mp4 imgsz=192 save_csv=True save_json=True save_txt=True {RUN}", _predicted
    ),
    "val": Case(f"val model=demo-mha.pt data={{inputs}}/data/data.yaml imgsz=96 {RUN}", _scored),
    "compare": Case(
        f"compare model=demo-baseline.yaml at=neck control=False seeds=0 data={{inputs}}/data/data.yaml {TRAINING}",
        _compared,
    ),
    "train": Case(
        f"train model=demo-mha.yaml data={{inputs}}/data/data.yaml {TRAINING} name=x exist_ok=True", _trained
    ),
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    """A dataset, a video and checkpoints."""
    folder = tmp_path_factory.mktemp("inputs")
    generate(folder / "data", train=16, val=8)
    writer = cv2.VideoWriter(str(folder / "street.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 25, (192, 192))
    for i in range(FRAMES):
        writer.write(cv2.resize(draw(1, i % 10)[0], (192, 192)))
    writer.release()
    for name in ("demo-baseline.pt", "demo-mha.pt"):
        shutil.copy(shipped("weights") / name, folder)
    return folder


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
    process = Commands(tmp_path_factory.mktemp("logs"))
    yield process
    process.close()


@pytest.fixture(scope="module")
def call(commands, inputs) -> Callable[..., Ended]:
    """Run the command of a case, by name, in a folder."""

    def run(name: str, folder: Path, **kill: float) -> Ended:
        if name == "export" and not (folder / "model.pt").exists():
            shutil.copy(inputs / "demo-mha.pt", folder / "model.pt")
        return commands.run(CASES[name].words.format(inputs=inputs).split(), folder, **kill)

    return run


@pytest.fixture(scope="module")
def undisturbed(call, tmp_path_factory) -> Callable[[str], tuple[Ended, object]]:
    """How the command of a case ends, and its outcome."""
    known = {}

    def first(name: str) -> tuple[Ended, object]:
        if name not in known:
            folder = tmp_path_factory.mktemp(name)
            ended = call(name, folder)
            assert ended.code == 0, ended.err
            check_whole(folder)
            assert hidden(folder) == []
            known[name] = ended, CASES[name].outcome(folder)
        return known[name]

    return first


READERS: dict[str, Callable[[Path], object]] = {
    ".json": lambda file: json.loads(file.read_text()),
    ".claim": lambda file: json.loads(file.read_text()),
    ".jsonl": lambda file: [json.loads(line) for line in whole_lines(file)],
    ".csv": lambda file: [*csv.reader(whole_lines(file))],
    ".txt": lambda file: whole_lines(file),
    ".yaml": lambda file: yaml.safe_load(file.read_text()).items(),
    ".pt": lambda file: torch.load(file, weights_only=False)["model"],
    ".onnx": lambda file: onnx.checker.check_model(onnx.load(file)),
    ".py": lambda file: compile(file.read_text(), file, "exec"),
    ".svg": lambda file: ElementTree.parse(file),
    ".html": lambda file: file.read_text().rstrip().endswith("</html>") or 1 / 0,
    ".md": lambda file: file.read_text() or 1 / 0,
    ".mp4": lambda file: count_frames(str(file)) or 1 / 0,
    ".jpg": lambda file: 1 / 0 if is_cut_off(file) else cv2.imread(str(file)).shape,
    ".png": lambda file: 1 / 0 if is_cut_off(file) else cv2.imread(str(file)).shape,
    ".log": lambda file: file,
    ".cache": lambda file: file,  # of Ultralytics, below runs/datasets; a damaged one is made anew
}


def whole_lines(file: Path) -> list[str]:
    text = file.read_text()
    assert not text or text.endswith("\n")
    return text.splitlines()


def hidden(folder: Path) -> list[Path]:
    """List hidden files, but for the lock of the claims: other machines may hold it at any time, so it stays."""
    return [path.relative_to(folder) for path in folder.rglob(".*") if path.name != ".claims.lock"]


def check_whole(folder: Path) -> list[Path]:
    """Open every file under a final name; return their paths."""
    files = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    files = [path for path in files if not any(part.startswith(".") for part in path.parts)]
    for path in files:
        try:
            READERS[path.suffix](folder / path)
        except Exception as e:
            raise AssertionError(f"{path} is not whole: {e!r}") from e
    return files


def finished_runs(folder: Path) -> dict[Path, int]:
    return {file: file.stat().st_mtime_ns for file in folder.glob(f"runs/compare/*/arms/*/*/{END}")}


def kill_and_repeat(name: str, seed: int, call, undisturbed, folder: Path) -> str:
    """Kill a command at a time drawn from its duration, and call it again; say what was seen."""
    first, outcome = undisturbed(name)
    chance = random.Random(f"{name} {seed}").random()
    kill = {"kill_at_change": 1 + int(chance * first.changes)} if seed % 2 else {"kill_after": chance * first.seconds}
    ended = call(name, folder, **kill)
    assert ended.code in (-9, 0)
    left, aside = check_whole(folder), hidden(folder)
    assert all(UNFINISHED in str(path) or path.name.startswith(".lock") for path in aside), aside
    done = finished_runs(folder)
    again = call(name, folder)
    assert again.code == 0, again.err
    assert hidden(folder) == []
    check_whole(folder)
    assert CASES[name].outcome(folder) == outcome
    assert {file: finished_runs(folder)[file] for file in done} == done
    return f"{kill} of {first.seconds:.1f} s, {first.changes}: {ended.code}, {len(left)} files, {[*map(str, aside)]}"


QUICK = ["insert"]  # one of its kills, and one full disk, are among the quick tests


def _all(names: Iterable[str], seeds: Iterable[int]) -> list:
    """Every name with every seed; most are slow."""
    return [
        pytest.param(name, seed, marks=[] if name in QUICK and seed == 1 else pytest.mark.slow)
        for name in names
        for seed in seeds
    ]


@pytest.mark.parametrize(("name", "seed"), _all(["insert", "export", "predict", "val", "compare"], KILLS))
def test_kill_9__leaves_whole_files_and_the_same_command_does_its_work(
    name, seed, call, undisturbed, tmp_path, record_property
):
    seen = kill_and_repeat(name, seed, call, undisturbed, tmp_path)
    record_property("seen", seen)
    if log := os.environ.get("SEEN"):
        with open(log, "a") as f:
            f.write(f"{name} {seed} {seen}\n")


@pytest.fixture
def disk(tmp_path):
    """A disk of its own, in memory."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256m", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no disk can be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path, left: int) -> Path:
    """Fill a disk up with a file, so that some bytes are left; return the file."""
    file = disk / "filler.log"
    with file.open("wb") as opened:
        os.posix_fallocate(opened.fileno(), 0, max(shutil.disk_usage(disk).free - left, 1))
    return file


def is_one_error(ended: Ended, disk: Path) -> None:
    """The command says in one error where it could not write and what to do."""
    assert ended.code in (1, 2), ended.err
    assert len(re.findall("^error: ", ended.err, re.MULTILINE)) == 1, ended.err
    assert "Traceback" not in ended.err, ended.err
    assert "unexpected error" not in ended.err, ended.err
    error = ended.err[ended.err.index("error: ") :]
    assert str(disk) in error or "'new." in error, ended.err  # by the path that was given
    assert "fix:" in error, ended.err


def fill_and_repeat(name: str, seed: int, inputs: Path, call, undisturbed, disk: Path) -> str:
    """Call a command on a disk with too little room, and again when there is room; say what was seen."""
    first, outcome = undisturbed(name)
    chance = random.Random(f"{name} {seed}").random()
    if name == "export":
        shutil.copy(inputs / "demo-mha.pt", disk / "model.pt")
    if earlier := seed % 2 == 1:  # files that the command replaces
        assert call(name, disk).code == 0
    room = int(1.2 * chance * first.size)
    filler = fill(disk, room)
    ended = call(name, disk)
    if ended.code:
        is_one_error(ended, disk)
    left = check_whole(disk)
    assert hidden(disk) == []
    filler.unlink()
    again = call(name, disk)
    assert again.code == 0, again.err
    assert CASES[name].outcome(disk) == outcome
    error = " | ".join(ended.err[ended.err.index("error: ") :].split("\n")) if ended.code else ""
    return f"{room} of {first.size}, earlier {earlier}: {ended.code}, {len(left)} files, {error}"


@pytest.mark.parametrize(("name", "seed"), _all(CASES, SIZES))
def test_full_disk__is_one_error_and_leaves_whole_files(name, seed, inputs, call, undisturbed, disk):
    seen = fill_and_repeat(name, seed, inputs, call, undisturbed, disk)
    if log := os.environ.get("SEEN"):
        with open(log, "a") as f:
            f.write(f"{name} {seed} {seen}\n")


@pytest.mark.parametrize("name", ["insert", "export", "predict", "val", "train"])
def test_read_only__is_one_error_before_the_work(name, inputs, call, disk):
    if name == "export":
        shutil.copy(inputs / "demo-mha.pt", disk / "model.pt")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    ended = call(name, disk)
    is_one_error(ended, disk)
    assert ended.code == 2
    assert "Read-only" in ended.err
