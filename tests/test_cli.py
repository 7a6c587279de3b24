import inspect
import json
import os
import re
import runpy
import signal
import subprocess
import sys
import time
from functools import wraps
from importlib import metadata
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest
import torch
import yaml

import yolo_mha
from yolo_mha.cli import _standard_output_kept, app, main
from yolo_mha.data.pictures import MOST_PIXELS
from yolo_mha.diagnosis import environment
from yolo_mha.engine.own_settings import BLOCK_OPTIONS, COUNT, FLAG, PATH
from yolo_mha.engine.own_settings import COMMANDS as COMMANDS_TABLE
from yolo_mha.engine.predict import TILE_OVERLAP, PredictResult
from yolo_mha.errors import ConfigError
from yolo_mha.surgery.insertion import BLOCK, block_options

COMMANDS = ["insert", "remove", "train", "val", "predict", "track", "explain", "export", "benchmark", "compare", "data"]
COMMANDS += ["doctor", "explore", "heads", "prune"]
FUNCTIONS = {"data": "prepare_data"}  # where another than the command's name: yolo_mha.data is a package
TOOLS = {"evaluate": "val", **{name: name for name in ("train", "predict", "track", "export", "compare", "doctor")}}
ROOT = Path(__file__).parents[1]
PYTHON_ONLY = {"train": {"callbacks"}}
IN_SETTINGS = {  # own settings that a function takes among **settings, and what they are where they are not given
    "predict": {
        "save_csv": False,
        "max_pixels": MOST_PIXELS,
        "slice": None,
        "overlap": TILE_OVERLAP,
        "engine": "local",  # of predict_on_ray
        "address": "auto",
        "gpus_per_worker": 1,
        "cpus_per_worker": 1,
        "shard": 256,
    },
    "track": {"save_csv": False, "max_pixels": MOST_PIXELS},
    "explain": {"data": None, "detections": 200, "drise": 30, "group": None},  # of faithfulness
    "compare": {
        "recipe": None,
        "dry_run": False,
        "primary": None,
        "split": "val",
        "block": BLOCK,
        "freeze_base": 0,
        "group": None,
        "bad": "stop",
        "keep_best": False,
        "looks": None,
        "metric": "AP",
        "contrasts": None,
        "pilot": None,
        "sd_seeds": None,
        "se_images": None,
        "only": None,  # of train_run, emit_jobs and comparison_status
        "emit": None,
        "status": False,
        "engine": "local",  # of compare_on_ray
        "address": "auto",
        "gpus_per_run": 1,
        "cpus_per_run": 1,
    },
}


def script(*words: str) -> subprocess.CompletedProcess:
    """Run the installed script, which does not put the working directory on Python's path."""
    return subprocess.run([Path(sys.executable).with_name("yolo-mha"), *words], capture_output=True, text=True)


def call(capsys, *words: object) -> tuple[int, str, str]:
    """Run the command within this process: exit code, standard output, standard error."""
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
    assert sorted(c.callback.__name__ for c in app.registered_commands) == sorted([*COMMANDS, "version"])
    assert set(COMMANDS_TABLE) == {*COMMANDS, "version"}


@pytest.mark.parametrize(("tool", "command"), TOOLS.items())
def test_tools__are_the_same_commands(tool, command, monkeypatch, capsys):
    script = str(ROOT / "tools" / f"{tool}.py")
    for words in (["frobnicate=1", "model=x"], ["--help"]):
        monkeypatch.setattr(sys, "argv", [script, *words])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(script, run_name="__main__")
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        if words == ["--help"]:
            assert ended.value.code == 0
            assert f"Usage: yolo-mha {command} " in captured.out
        else:
            assert ended.value.code == 2
            assert "Unknown setting 'frobnicate'" in captured.err


@pytest.mark.parametrize("command", COMMANDS)
def test_own_settings__are_what_the_function_takes(command):
    parameters = inspect.signature(getattr(yolo_mha, FUNCTIONS.get(command, command))).parameters.values()
    named = {p.name: p.default for p in parameters if p.kind != p.VAR_KEYWORD}
    named = {k: v for k, v in named.items() if k not in PYTHON_ONLY.get(command, ())}
    own = COMMANDS_TABLE[command].own
    needed = {k for k, v in named.items() if v is inspect.Parameter.empty}
    assert {s.name for s in own if s.required} == needed - ({"model", "data"} if command == "compare" else set())
    named |= {**dict.fromkeys(needed), "download": True}  # which all take before they are called
    assert not named.keys() & IN_SETTINGS.get(command, {}).keys()
    assert {s.name: s.default for s in own} == {**named, **IN_SETTINGS.get(command, {})}
    assert len({s.name for s in own}) == len(own)


def test_block_options__are_those_of_the_block():
    parameters = list(inspect.signature(yolo_mha.SpatialMHABlock.__init__).parameters.values())[2:]
    known = {s.name: s.default for s in BLOCK_OPTIONS}
    assert known == {**{p.name: p.default for p in parameters}, "context": None}
    assert "context" in block_options("CrossScaleMHA")


@pytest.mark.parametrize("command", COMMANDS)
def test_own_settings__are_checked_first_from_python_too(command):
    own = COMMANDS_TABLE[command].own
    given = {s.name: "nowhere" for s in own if s.required}
    wrong = {
        FLAG: ("yes", "{} must be True or False"),
        PATH: (5, "{} is not a path"),
        COUNT: (-1, "{} must be a whole"),
    }
    tried = [s for s in own if s.kind in wrong]
    assert tried
    for setting in tried:
        value, words = wrong[setting.kind]
        with pytest.raises(ConfigError, match=words.format(setting.name)):
            getattr(yolo_mha, FUNCTIONS.get(command, command))(**{**given, setting.name: value})


@pytest.mark.parametrize("command", [*COMMANDS, "version"])
def test_required_settings__are_named(capsys, command, tmp_path):
    required = [s.name for s in COMMANDS_TABLE[command].own if s.required]
    for name in required:
        code, out, err = call(capsys, command, *(f"{k}=x" for k in required if k != name))
        assert (code, out) == (2, "")
        assert err.startswith(f"error: {name} is missing.\n")
    if command in ("train", "val", "compare"):  # which depends on what else is given
        code, _, err = call(capsys, command)
        assert code == 2
        assert "model" in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize(
    ("words", "offered", "withheld"),
    [
        (["exp"], ["export"], ["train"]),
        (["train", "model=x.pt", "f"], ["freeze_base="], ["data="]),
        (["train", "num"], ["num_heads="], ["mlp_ratio="]),
        (["export", "f"], ["format=", "fuse_attention="], ["model="]),
        (["export", "format=onnx", "f"], ["fuse_attention="], ["format="]),
        (["export", "format", "=", "onnx", "f"], ["fuse_attention="], ["format="]),  # as bash divides words
        (["export", "model", "=", "d"], [], ["data="]),
        (["export", "model", "="], [], ["data="]),
    ],
)
def test_completion__as_a_shell_calls_it(monkeypatch, capsys, shell, words, offered, withheld):
    for name, value in {
        "_YOLO_MHA_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": " ".join(["yolo-mha", *words]),
        "COMP_CWORD": str(len(words)),
        "_TYPER_COMPLETE_ARGS": " ".join(["yolo-mha", *words]),
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        "_TYPER_COMPLETE_WORD_TO_COMPLETE": words[-1],
    }.items():
        monkeypatch.setenv(name, value)
    _, out, _ = call(capsys)
    assert all(word in out for word in offered), out
    assert not any(word in out for word in withheld), out


def test_completion__can_be_installed(capsys):
    code, out, _ = call(capsys, "--help")
    assert code == 0
    assert "--install-completion" in out


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
        "dashes": (["train", "--data", "x.yaml"], "data=..."),
        "several seeds": ([*train, "seed=0,1"], "seeds=0,1,2"),
        "yml": (["insert", "model=yolov8n.yml", "at=P5"], "did you mean yolov8n.yaml?"),
        "a pilot without dry_run": (["compare", "demo.yaml", "pilot=runs"], "dry_run=True"),
    }


class _Runs:
    def __reduce__(self):
        return os.system, ("touch ran",)


def test_bad_input__is_one_clear_error_and_nothing_is_written(capsys, tmp_path, beacons):
    made = _bad_inputs(tmp_path, beacons)

    def written() -> list[Path]:
        return sorted(path for path in tmp_path.rglob("*") if "datasets" not in path.parts and path.name != "runs")

    before = written()
    for fault, (words, expected) in made.items():
        code, out, err = call(capsys, *words)
        assert code == 2, f"{fault}: {err}"
        assert expected in err, f"{fault}: {err}"
        assert "Traceback" not in err, fault
        assert err.count("error:") == 1, f"{fault}: {err}"
        assert out == "", fault
        assert written() == before, fault


def test_unknown_setting__of_a_command_that_takes_its_own_alone(capsys):
    code, _, err = call(capsys, "remove", "model=demo-mha.yaml", "exist=True")
    assert code == 2
    assert "error: Unknown setting 'exist'." in err
    assert "did you mean exist_ok?" in err


def test_bad_input__is_json_too(capsys, tmp_path, beacons):
    _bad_inputs(tmp_path, beacons)
    code, out, err = call(capsys, "predict", "model=evil.pt", "source=no-labels/images", "--json")
    assert code == 2
    assert json.loads(out)["error"]["type"] == "CheckpointError"
    assert "may run code" in err
    assert not (tmp_path / "ran").exists()


def test_debug__shows_the_traceback(capsys):
    code, _, err = call(capsys, "val", "model=nowhere.pt", "data=x", "--debug")
    assert code == 2
    assert "Traceback" in err


def test_json__is_the_answer(capsys):
    code, out, _ = call(capsys, "predict", "--json")
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


@pytest.mark.slow
def test_blocks__imports_the_module_of_the_user(capsys, tmp_path):
    (tmp_path / "mine.py").write_text(
        "import torch, yolo_mha\n\n@yolo_mha.register\nclass Mine(torch.nn.Identity):\n    pass\n"
    )
    (tmp_path / "m.yaml").write_text(
        "nc: 1\nbackbone: [[-1, 1, Conv, [16, 3, 2]], [-1, 1, Mine, []]]\nhead: [[[1], 1, Detect, [nc]]]"
    )
    words = ["train", "model=m.yaml", "data=nowhere.yaml"]
    assert "unknown module" in call(capsys, *words)[2]
    assert "cannot be imported" in call(capsys, *words, "blocks=nothing_here")[2]
    assert "Dataset YAML not found" in script(*words, "blocks=mine").stderr


def test_export__prints_json_alone_and_imports_nothing_from_the_working_directory(tmp_path):
    """A module in a downloaded folder that is named like one of ours is left alone."""
    (tmp_path / "onnxruntime.py").write_text("open('ran', 'w')")
    done = script("export", "model=demo-mha.pt", "imgsz=64", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["verdict"] == "proved"  # standard output holds the answer alone
    assert not (tmp_path / "ran").exists()


def test_names_with_markup__are_printed_as_they_are(capsys, tmp_path):
    truth = {"images": [{"id": 1}], "annotations": [], "categories": [{"id": 1, "name": "[/red] x"}]}
    (tmp_path / "t.json").write_text(json.dumps(truth))
    (tmp_path / "r.json").write_text("[]")
    code, out, _ = call(capsys, "val", "predictions=r.json", "annotations=t.json")
    assert code == 0
    assert "[/red] x" in out


@pytest.mark.slow
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
    assert "error: A file or folder cannot be used." in err
    assert "unexpected" not in err


def test_help__paragraphs_flow(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    _, out, _ = call(capsys, "predict", "--help")
    sentence = "save_json (COCO results for val predictions=...; use conf=0.001), save_csv, save_crop and save_frames."
    assert any(sentence in line for line in out.splitlines())


@pytest.mark.parametrize("command", COMMANDS)
def test_help__fits_a_terminal_of_80_columns(capsys, monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = call(capsys, command, "--help")
    assert max(map(len, out.splitlines())) <= 80
    for setting in COMMANDS_TABLE[command].own:
        assert f"\n│ {setting.name} " in out


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc to see what is imported")
def test_interrupted__while_pytorch_is_imported_is_one_line():
    command = [sys.executable, "-m", "yolo_mha", "predict"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while "libtorch" not in Path(f"/proc/{process.pid}/maps").read_text():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "interrupted\n")


def test_interrupted__tells_its_results(capsys, monkeypatch):
    done = PredictResult("runs", "p.jsonl", 1, {}, [], 0, {}, [], interrupted=True, exit_code=143)

    def interrupted(**_):
        stop = SystemExit(143)
        stop.result = done
        raise stop

    monkeypatch.setattr("yolo_mha.engine.predict.predict", wraps(yolo_mha.predict)(interrupted))
    code, out, _ = call(capsys, "predict", "--json")
    assert code == 143
    assert json.loads(out)["interrupted"] is True
    code, out, _ = call(capsys, "predict")
    assert code == 143
    assert "what was written up to there is complete" in out


def test_version__command_says_what_a_bug_report_needs(capsys):
    code, out, _ = call(capsys, "version")
    assert code == 0
    for name in ("ultralytics", "torch", "torchvision", "opencv-python", "numpy", "pycocotools"):
        assert re.search(rf"^{name} +{re.escape(metadata.version(name))}$", out, re.MULTILINE), out
    for name in ("Python", "system", "CPU", "GPU", "extra export", "extra track"):
        assert re.search(rf"^{name} +\S", out, re.MULTILINE), out
    code, out, _ = call(capsys, "version", "--json")
    assert code == 0
    found = json.loads(out)
    assert found["packages"]["yolo-mha"] == yolo_mha.__version__
    assert set(found["extras"]) == set(metadata.metadata("yolo-mha").get_all("Provides-Extra"))


def test_version__names_what_is_missing(monkeypatch):
    needs = [
        "yolo-mha[b]; extra == 'a'",
        "numpy>=9999; extra == 'b'",
        "no-such-thing; extra == 'b'",
        "torch; extra == 'b'",
    ]
    monkeypatch.setattr(environment.metadata, "requires", lambda name: needs)
    monkeypatch.setattr(environment, "PACKAGES", ("no-such-thing", "torch"))
    found = environment.version()
    assert found.packages == {"no-such-thing": "not installed", "torch": metadata.version("torch")}
    assert list(environment._missing("a")) == [f"numpy {metadata.version('numpy')}", "no-such-thing not installed"]


def test_blocks__that_do_not_import_are_named(capsys, tmp_path):
    (tmp_path / "typo.py").write_text("def (")
    code, _, err = call(capsys, "remove", "model=x.pt", "blocks=typo")
    assert code == 2
    assert "blocks=typo: SyntaxError" in err


@pytest.mark.parametrize(
    "words", ["insert model=yolo11n.yaml at=P5 out=a.yaml", pytest.param("predict save=False", marks=pytest.mark.slow)]
)
def test_pipe__a_command_with_nothing_to_say_prints_nothing_on_standard_error(words, tmp_path):
    """With a user's first start of Ultralytics, which writes its settings."""
    environment = {**os.environ, "YOLO_CONFIG_DIR": str(tmp_path / "new")}
    command = [sys.executable, "-m", "yolo_mha", *words.split()]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_standard_output__is_for_the_answer_alone(capfd):
    """C++ code writes to the file's number, such as PyTorch's exporter the graph that it cannot export."""
    with _standard_output_kept():
        print("a message")
        os.write(1, b"a graph\n")
    print("the answer")
    assert capfd.readouterr() == ("the answer\n", "a message\na graph\n")
