import json
import os
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest
import torch
import yaml

from yolo_mha.cli import app, main

COMMANDS = ["insert", "remove", "train", "val", "predict", "track", "export", "benchmark", "compare", "doctor"]
TOOLS = {"evaluate": "val", **{name: name for name in ("train", "predict", "track", "export", "compare", "doctor")}}
ROOT = Path(__file__).parents[1]


def run(*words: object) -> tuple[int, str, str]:
    """Run the command in a process of its own: exit code, standard output, standard error."""
    command = [sys.executable, "-m", "yolo_mha", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"})
    return done.returncode, done.stdout, done.stderr


def script(*words: str) -> subprocess.CompletedProcess:
    """Run the installed script, which does not put the working directory on Python's path."""
    return subprocess.run([Path(sys.executable).with_name("yolo-mha"), *words], capture_output=True, text=True)


def call(capsys, *words: object) -> tuple[int, str, str]:
    """The same within this process."""
    with pytest.raises(SystemExit) as ended:
        main(list(map(str, words)))
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out, captured.err


@pytest.mark.parametrize("command", COMMANDS)
def test_help__has_examples(capsys, command):
    code, out, _ = call(capsys, command, "--help")
    assert code == 0
    assert f"yolo-mha {command} " in out
    assert "--json" in out


def test_commands__are_all_covered_here():
    assert sorted(c.callback.__name__ for c in app.registered_commands) == sorted(COMMANDS)


@pytest.mark.parametrize(("tool", "command"), TOOLS.items())
def test_tools__are_the_same_commands(tool, command):
    script = ROOT / "tools" / f"{tool}.py"
    done = subprocess.run([sys.executable, script, "frobnicate=1"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "Unknown setting 'frobnicate'" in done.stderr
    assert "Traceback" not in done.stderr


def _bad_inputs(tmp_path: Path, beacons: Path) -> dict[str, tuple[list[object], str]]:
    """Command lines with one fault each, and a word that the message must hold."""
    (tmp_path / "syntax.yaml").write_text("backbone: [")
    (tmp_path / "unknown.yaml").write_text(
        "nc: 1\nbackbone: [[-1, 1, Conv, [16, 3, 2]], [-1, 1, MHSA, [8]]]\nhead: [[[1], 1, Detect, [nc]]]"
    )
    (tmp_path / "heads.yaml").write_text(
        "nc: 1\nbackbone: [[-1, 1, Conv, [16, 3, 2]], [-1, 1, SpatialMHABlock, [5]]]\nhead: [[[1], 1, Detect, [nc]]]"
    )
    data = {"train": "images", "val": "images", "names": ["a"]}
    for name, pictures, labels in (("no-labels", True, False), ("corrupt", False, True)):
        for folder in ("images", "labels"):
            (tmp_path / name / folder).mkdir(parents=True)
        if pictures:
            cv2.imwrite(str(tmp_path / name / "images" / "x.png"), np.zeros((32, 32, 3), np.uint8))
        else:
            (tmp_path / name / "images" / "x.jpg").write_bytes(b"\xff\xd8 cut off")
        if labels:
            (tmp_path / name / "labels" / "x.txt").write_text("0 .5 .5 .2 .2")
        (tmp_path / name / "data.yaml").write_text(yaml.safe_dump(data))
    (tmp_path / "no-images.yaml").write_text(yaml.safe_dump({**data, "path": str(tmp_path / "gone")}))
    (tmp_path / "text.pt").write_text("text")
    torch.save({"model": torch.zeros(3)}, tmp_path / "cut.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "cut.pt").read_bytes()[:200])
    torch.save({"model": _Runs()}, tmp_path / "evil.pt")
    train = ["train", "model=demo-mha.yaml", "epochs=1", "device=cpu"]
    return {
        "missing YAML": (["train", "model=nowhere.yaml", f"data={beacons}"], "not found"),
        "YAML syntax": (["train", f"model={tmp_path / 'syntax.yaml'}", f"data={beacons}"], "not readable as YAML"),
        "unknown module": (["train", f"model={tmp_path / 'unknown.yaml'}", f"data={beacons}"], "MHSA"),
        "heads": (["train", f"model={tmp_path / 'heads.yaml'}", f"data={beacons}"], "[1, 2, 4, 8, 16]"),
        "missing data YAML": ([*train, "data=nowhere.yaml"], "not found"),
        "missing data folder": ([*train, f"data={tmp_path / 'no-images.yaml'}"], "missing"),
        "empty label folder": ([*train, f"data={tmp_path / 'no-labels' / 'data.yaml'}"], "has a label"),
        "corrupt image": ([*train, f"data={tmp_path / 'corrupt' / 'data.yaml'}"], "x.jpg"),
        "corrupt image to predict": (["predict", f"source={tmp_path / 'corrupt' / 'images' / 'x.jpg'}"], "x.jpg"),
        "corrupt checkpoint": (
            ["predict", f"model={tmp_path / 'cut.pt'}", f"source={tmp_path / 'no-labels/images'}"],
            "cut.pt",
        ),
        "text as checkpoint": (["val", f"model={tmp_path / 'text.pt'}", f"data={beacons}"], "not a PyTorch checkpoint"),
        "pickle that runs code": (["export", f"model={tmp_path / 'evil.pt'}"], "may run code"),
        "unknown key": ([*train, f"data={beacons}", "epoch=2"], "did you mean epochs"),
        "no key": ([*train, "fast"], "key=value"),
    }


class _Runs:
    def __reduce__(self):
        return os.system, ("touch ran",)


def test_bad_input__is_one_clear_error_and_nothing_is_written(capsys, tmp_path, beacons):
    made = _bad_inputs(tmp_path, beacons)
    before = sorted(tmp_path.rglob("*"))
    for fault, (words, expected) in made.items():
        code, out, err = call(capsys, *words)
        assert code == 2, f"{fault}: {err}"
        assert expected in err, f"{fault}: {err}"
        assert "Traceback" not in err, fault
        assert err.count("error:") == 1, f"{fault}: {err}"
        assert out == "", fault
        assert sorted(tmp_path.rglob("*")) == before, fault


def test_bad_input__in_a_process_of_its_own(tmp_path, beacons):
    _bad_inputs(tmp_path, beacons)
    code, out, err = run("predict", "model=evil.pt", "source=no-labels/images", "--json")
    assert code == 2
    assert json.loads(out)["error"]["type"] == "CheckpointError"
    assert "may run code" in err
    assert not (tmp_path / "ran").exists()


def test_debug__shows_the_traceback(capsys):
    code, _, err = call(capsys, "val", "model=nowhere.pt", "data=x", "--debug")
    assert code == 2
    assert "Traceback" in err


def test_json__is_all_that_standard_output_holds():
    code, out, _ = run("predict", "--json")
    assert code == 0
    assert json.loads(out)["images"] == 1


def test_predict__with_a_skipped_file_exits_with_1(capsys, tmp_path):
    (tmp_path / "pictures").mkdir()
    cv2.imwrite(str(tmp_path / "pictures" / "x.png"), np.zeros((64, 64, 3), np.uint8))
    (tmp_path / "pictures" / "y.png").write_bytes(b"")
    code, out, _ = call(capsys, "predict", "source=pictures")
    assert code == 1
    assert "y.png" in out


def test_val__prints_both_sides_and_its_settings(capsys, trained, beacons):
    code, out, _ = call(capsys, "val", f"model={trained}", f"data={beacons}", "imgsz=64", "device=cpu")
    assert code == 0
    for word in ("AP50", "ARlarge", "night", "Ultralytics' own", "nms_iou=", "predictions:"):
        assert word in out


def test_blocks__imports_the_module_of_the_user(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import torch, yolo_mha\n\n@yolo_mha.register\nclass Mine(torch.nn.Identity):\n    pass\n"
    )
    (tmp_path / "m.yaml").write_text(
        "nc: 1\nbackbone: [[-1, 1, Conv, [16, 3, 2]], [-1, 1, Mine, []]]\nhead: [[[1], 1, Detect, [nc]]]"
    )
    words = ["train", "model=m.yaml", "data=nowhere.yaml"]
    assert "unknown module" in script(*words).stderr
    assert "cannot be imported" in script(*words, "blocks=nothing_here").stderr
    assert "Dataset YAML not found" in script(*words, "blocks=mine").stderr


def test_working_directory__is_no_place_to_import_from(tmp_path):
    """A module in a downloaded folder that is named like one of ours is left alone."""
    (tmp_path / "onnxruntime.py").write_text("open('ran', 'w')")
    done = script("export", "model=demo-mha.pt", "imgsz=64")
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "ran").exists()


def test_names_with_markup__are_printed_as_they_are(capsys, tmp_path):
    truth = {"images": [{"id": 1}], "annotations": [], "categories": [{"id": 1, "name": "[/red] x"}]}
    (tmp_path / "t.json").write_text(json.dumps(truth))
    (tmp_path / "r.json").write_text("[]")
    code, out, _ = call(capsys, "val", "predictions=r.json", "annotations=t.json")
    assert code == 0
    assert "[/red] x" in out


def test_terminate__stops_what_compare_has_started(beacons, tmp_path):
    words = [f"data={beacons}", "epochs=400", "imgsz=64", "device=cpu", "name=killed"]
    words += ["model=demo-baseline.yaml", "attention=demo-mha.yaml"]
    command = [sys.executable, "-m", "yolo_mha", "compare", *words]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    log = tmp_path / "runs" / "compare" / "killed" / "arms" / "baseline" / "seed0" / "results.csv"
    deadline = time.monotonic() + 120
    while not log.exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    started = psutil.Process(process.pid).children(recursive=True)
    assert started
    process.terminate()
    assert process.wait(60) == 143
    assert not psutil.wait_procs(started, timeout=30)[1]


def test_version(capsys):
    assert call(capsys, "--version")[:2] == (0, "0.1.0\n")


def test_a_full_disk_is_one_error(random_coco, capsys):
    resource = pytest.importorskip("resource")
    truth, results = random_coco(np.random.default_rng(0), 3, 2)
    Path("truth.json").write_text(json.dumps(truth))
    Path("results.json").write_text(json.dumps(results))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        code, out, err = call(capsys, "val", "predictions=results.json", "annotations=truth.json", "plots=False")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (code, out) == (1, "")
    assert "error: The system refused." in err
    assert "unexpected" not in err


def test_help__paragraphs_flow():
    _, out, _ = run("predict", "--help")
    assert any("lists these (# lines and a heading are left out), a camera index" in line for line in out.splitlines())
