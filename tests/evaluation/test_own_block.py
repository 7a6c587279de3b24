"""A comparison of a block of the user's own, on the command line, and what is typed to get it again."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from yolo_mha.data.beacons import generate

pytestmark = pytest.mark.slow

BLOCK = """
import torch
import yolo_mha
from own_helper import SHARE

@yolo_mha.register
class Own(torch.nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.c = torch.nn.Conv2d(dim, dim, 1)
        self.gate = torch.nn.BatchNorm2d(dim)
        torch.nn.init.zeros_(self.gate.weight)

    def forward(self, x):
        return x + SHARE * self.gate(self.c(x))
"""


def command(line: str, folder: Path) -> subprocess.CompletedProcess:
    words = [str(Path(sys.executable).with_name("yolo-mha")), *shlex.split(line)[1:]]
    return subprocess.run(words, capture_output=True, text=True, cwd=folder)


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """The folder of the call, what it answered, and another folder."""
    root = tmp_path_factory.mktemp("own")
    here, there = root / "he re", root / "there"
    there.mkdir()
    (here / "lib").mkdir(parents=True)
    (here / "lib" / "own_block.py").write_text(BLOCK)
    (here / "lib" / "own_helper.py").write_text("SHARE = 0.0")
    generate(here / "data", train=8, val=4)
    done = command(
        "yolo-mha compare model=demo-baseline.yaml at=neck block=Own blocks=lib/own_block.py control=False "
        "data=data/data.yaml seeds=0 epochs=1 imgsz=64 batch=8 device=cpu workers=0 plots=False name=mine --json",
        here,
    )
    assert done.returncode == 0, done.stderr
    return here, json.loads(done.stdout), there


def test_recipe__names_the_module_of_the_block(own):
    here, result, _ = own
    file = str(here / "lib" / "own_block.py")
    saved = yaml.safe_load((Path(result["save_dir"]) / "recipe.yaml").read_text())
    assert saved["blocks"] == result["recipe"]["blocks"] == [file]
    assert list(result["runs"][1]["sources"]) == ["Own"]


def test_gates__that_never_opened_are_told(own):
    _, result, _ = own
    (row,) = result["runs"][1]["gates"]
    assert result["runs"][1]["gates"] == {row: 0.0}
    told = f"The gates of the block in row {row} of Own are still 0 with seed 0"
    assert any(note.startswith(told) for note in result["notes"])
    assert told in (Path(result["save_dir"]) / "report.md").read_text()


def test_again__runs_as_it_stands_from_another_folder(own):
    _, result, there = own
    folder = Path(result["save_dir"])
    times = {file: file.stat().st_mtime_ns for file in (folder / "arms").rglob("*") if file.is_file()}
    compare, _, val = result["commands"]
    assert (compare.split()[1], val.split()[1]) == ("compare", "val")
    again = command(f"{compare} --json", there)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["save_dir"] == str(folder)
    assert times == {file: file.stat().st_mtime_ns for file in (folder / "arms").rglob("*") if file.is_file()}
    scored = command(f"{val} --json", there)
    assert scored.returncode == 0, scored.stderr
    metrics = json.loads(scored.stdout)["metrics"]
    assert metrics == pytest.approx(result["runs"][1]["metrics"])


def test_train__ends_with_a_command_that_opens_its_checkpoint(own):
    """Tested here, beside the module of a block that is made for the command line."""
    here, _, there = own
    done = command(
        "yolo-mha train model=demo-baseline.yaml at=neck block=Own blocks=lib/own_block.py data=data/data.yaml "
        "epochs=1 imgsz=64 batch=8 device=cpu workers=0 plots=False",
        here,
    )
    assert done.returncode == 0, done.stderr
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("score it: "))
    scored = command(line.removeprefix("score it: "), there)
    assert scored.returncode == 0, scored.stderr


def test_recipe__of_a_stranger_runs_no_code(own):
    _, result, there = own
    compare, *_ = result["commands"]
    refused = command(compare[: compare.index(" 'blocks=")], there)
    assert refused.returncode == 2
    assert "a recipe cannot import code" in refused.stderr
    assert f"add blocks={result['recipe']['blocks'][0]} to the command" in refused.stderr
