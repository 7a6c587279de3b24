import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import onnx
import psutil
import pytest
from reading import counted

import yolo_mha
from yolo_mha.cli import main
from yolo_mha.deploy.benchmark import _formats, _rows, _Run
from yolo_mha.deploy.benchmark_report import BenchmarkResult, Failure, Made, Row, cells, draw, markdown
from yolo_mha.deploy.worker import Worker
from yolo_mha.errors import ConfigError, DataError, RunError, UnsupportedTaskError, YoloMHAError
from yolo_mha.paths import shipped

DEMO = str(shipped("weights") / "demo-mha.pt")
QUICK = {"rounds": 3, "sizes": 64}


@pytest.fixture(scope="module")
def result(beacons, tmp_path_factory) -> BenchmarkResult:
    """Two batches at the model's own size, and AP."""
    project = tmp_path_factory.mktemp("benchmark")
    settings = {"formats": "onnx-fused", "batches": (2, 1), "rounds": 3, "project": project}
    with counted() as verified, pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)  # where nothing is known of the data yet
        result = yolo_mha.benchmark("demo-mha.pt", beacons, **settings)
    assert list(verified.values()) == [1] * 8  # for the AP of both models
    return result


def test_benchmark__calibrates_int8_on_data_that_is_read_once_for_all_models(beacons):
    with counted() as verified:
        result = yolo_mha.benchmark("demo-mha.pt", beacons, formats="onnx-int8", **QUICK)
    assert [(row.arm, row.format) for row in result.rows] == [("model", "onnx-int8"), ("without-blocks", "onnx-int8")]
    assert all(row.ap is not None for row in result.rows)
    assert result.failed == []
    assert list(verified.values()) == [1] * 24


def test_benchmark__measures_every_shape_beside_the_baseline(result):
    expected = [(192, batch, "onnx-fused", arm) for batch in (1, 2) for arm in ("model", "without-blocks")]
    assert [(r.size, r.batch, r.format, r.arm) for r in result.rows] == expected
    for row in result.rows:
        assert 0 < row.p50_ms <= row.p95_ms
        assert row.images_per_s == pytest.approx(1000 * row.batch / row.p50_ms)
        assert row.memory_mib > 192 * 192 * 3 * 4 * row.batch / 2**20
        assert (row.ratio is not None, row.aa is not None) == (row.arm == "model",) * 2
    assert result.failed == []
    assert result.arms == {
        "model": "demo-mha.pt",
        "without-blocks": "demo-mha.pt without its blocks, and not trained again",
    }
    assert not psutil.Process().children(recursive=True)


def test_benchmark__files_are_the_model_with_and_without_its_blocks(result):
    folder = Path(result.save_dir)
    assert {Path(made.file).parent for made in result.files} == {folder}
    for made in result.files:
        attends = made.arm == "model"
        modules = yolo_mha.YOLO(folder / f"{made.arm}.pt").model.modules()
        assert any(isinstance(m, yolo_mha.SpatialMHABlock) for m in modules) == attends
        operators = {node.op_type for node in onnx.load(made.file).graph.node}
        assert ("MultiHeadAttention" in operators) == attends  # and a baseline without attention is taken as it is
        assert made.agrees


def test_benchmark__ap_is_that_of_val(result, beacons):
    files = {made.arm: made.file for made in result.files}
    scores = {arm: yolo_mha.val(file, beacons, plots=False).coco.metrics for arm, file in files.items()}
    assert scores["model"] != scores["without-blocks"]
    for row in result.rows:
        assert (row.ap, row.ap50) == (scores[row.arm]["AP"], scores[row.arm]["AP50"])


def test_benchmark__writes_what_it_returns(result):
    folder = Path(result.save_dir)
    assert folder.name == "demo-mha"
    assert json.loads((folder / "benchmark.json").read_text()) == json.loads(json.dumps(result.as_dict()))
    assert (folder / "benchmark.md").read_text() == markdown(result)
    assert cv2.imread(str(folder / "benchmark.png")).std() > 10
    assert {"device", "CPU", "cores", "threads of PyTorch", "onnxruntime", "torch"} <= set(result.machine)


@pytest.mark.slow
def test_benchmark__a_format_that_fails_leaves_the_others(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("yolo_mha.deploy.export_settings.find_spec", lambda name: None)  # as if not installed
    with pytest.raises(SystemExit) as ended:
        main(["benchmark", "model=demo-baseline.yaml", "formats=onnx,pytorch", "sizes=64", "rounds=3", "--json"])
    assert ended.value.code == 1
    found = json.loads(capsys.readouterr().out)
    assert [(r["format"], r["arm"], r["ratio"]) for r in found["rows"]] == [("pytorch", "model", None)]
    assert [(f["format"], f["step"]) for f in found["failed"]] == [("onnx", "export")]
    assert "onnxruntime not installed" in found["failed"][0]["reason"]
    assert Path(found["save_dir"]) == tmp_path / "runs" / "benchmark" / "demo-baseline"


@pytest.mark.slow
def test_benchmark__block_of_the_user_reaches_its_processes(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import torch, yolo_mha\n\n@yolo_mha.register\nclass Mine(torch.nn.Identity):\n    pass\n"
    )
    (tmp_path / "m.yaml").write_text(
        "nc: 1\nbackbone: [[-1, 1, Conv, [16, 3, 2]], [-1, 1, Mine, []]]\nhead: [[[1], 1, Detect, [nc]]]"
    )
    (tmp_path / "psutil.py").write_text("open('ran', 'w')")  # the folder is no other place to import from
    words = ["model=m.yaml", "blocks=mine", "formats=pytorch", "sizes=64", "rounds=3"]
    script = Path(sys.executable).with_name("yolo-mha")
    done = subprocess.run([script, "benchmark", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "ran").exists()
    assert "m.yaml without its blocks" in done.stdout


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"formats": "onxx"}, "did you mean onnx"),
        ({"formats": ""}, "one of"),
        ({"formats": "onnx-int8"}, "data=my.yaml"),
        ({"sizes": 100}, "96 or 128"),
        ({"sizes": 10}, "32"),
        ({"sizes": "large"}, "sizes=320,640"),
        ({"batches": 0}, "batches=1,8"),
        ({"batches": (1, 2.5)}, "batches=1,8"),
        ({"rounds": 2}, "3 or more"),
        ({"round": 5}, "did you mean rounds"),
        ({"imgsz": 64}, "sizes="),
        ({"batch": 2}, "batches="),
        ({"epochs": 3}, "one of"),
        ({"device": "cpu,0"}, "cpu"),
        ({"model": None}, "model="),
        ({"model": "best.onnx"}, "best.pt"),
        ({"baseline": "nowhere.pt"}, "nowhere.pt"),
        ({"data": "nowhere.yaml"}, "nowhere.yaml"),
        ({"model": "yolov8n-seg.yaml"}, "detection"),
    ],
)
def test_benchmark__bad_input_is_refused_before_anything_is_written(tmp_path, settings, expected):
    with pytest.raises(YoloMHAError, match=expected) as raised:
        yolo_mha.benchmark(**{"model": "demo-mha.pt", **QUICK, **settings})
    assert isinstance(raised.value, (ConfigError, DataError, UnsupportedTaskError, ValueError))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_benchmark__opens_the_programs_that_it_has_made(capsys):
    result = yolo_mha.benchmark("demo-mha.pt", formats="pytorch,torchscript", **QUICK)
    assert result.failed == []
    assert [row.format for row in result.rows] == ["pytorch"] * 2 + ["torchscript"] * 2


def test_benchmark__takes_the_formats_that_are_installed(monkeypatch):
    monkeypatch.setattr("yolo_mha.deploy.benchmark.find_spec", lambda name: name != "openvino" or None)
    assert _formats(None) == ["pytorch", "torchscript", "onnx"]


def test_benchmark__refuses_data_of_other_classes(beacons, tmp_path):
    with pytest.raises(DataError, match="classes"):
        yolo_mha.benchmark("demo-mha.pt", beacons, baseline="yolov8n.yaml", **QUICK)
    with pytest.raises(DataError, match="test"):  # it has none
        yolo_mha.benchmark("demo-mha.pt", beacons, split="test", **QUICK)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_interrupt__stops_what_it_has_started(tmp_path):
    words = ["benchmark", "model=demo-baseline.yaml", "formats=pytorch", "sizes=64", "rounds=1000000"]
    # a shell that runs the tests in the background has the signal ignored
    heed = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)"
    command = [sys.executable, "-c", f"{heed}\nfrom yolo_mha.cli import main; main(sys.argv[1:])", *words]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while len(started := psutil.Process(process.pid).children(recursive=True)) < 2:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert not psutil.wait_procs(started, timeout=30)[1]
    finally:
        process.kill()


def worker(tmp_path: Path, file: str = DEMO) -> Worker:
    return Worker(
        tmp_path / "log.txt", yolo_mha.YOLO(DEMO).model, file=file, device="cpu", library="torch", trust=False
    )


@pytest.mark.slow
def test_worker__memory_is_that_of_the_case_and_it_ends_with_its_parent(tmp_path):
    """The peak of a large case is gone in the next one; its input alone is 18 MiB."""
    asked = worker(tmp_path)
    peaks = []
    asked.receive()
    for batch, size in ((1, 64), (4, 640), (1, 64)):
        asked.ask("start", batch=batch, channels=3, size=size)
        asked.receive()
        asked.ask("finish")
        peaks.append(asked.receive()["mib"])
    asked.ask("time")
    assert asked.receive()["ms"] > 0
    asked.end_input()  # as where the parent was killed
    assert asked._process.wait(60) == 0
    asked.close()
    assert 0 < peaks[0] < 200  # without PyTorch itself
    assert peaks[1] > peaks[0] + 18
    if sys.platform == "linux":
        assert peaks[2] < peaks[1] - 18


@pytest.mark.slow
def test_worker__reports_an_error_and_its_own_end(tmp_path):
    asked = worker(tmp_path, "nowhere.pt")
    with pytest.raises(RunError, match=r"Model not found.*nowhere\.pt"):
        asked.receive()
    asked.ask("finish")
    assert asked.receive().keys() == {"mib"}
    asked._process.kill()
    asked._process.wait()
    asked.ask("finish")
    with pytest.raises(RunError, match="ended"):
        asked.receive()
    asked.close()


def test_rows__ratios_are_within_rounds_and_formats(tmp_path):
    """The machine slows down threefold on the way; the model is always twice as slow as the baseline."""
    baseline = [10.0, 20.0, 30.0]
    times = {
        ("model", "onnx"): [2 * t for t in baseline],
        ("baseline", "onnx"): baseline,
        ("again", "onnx"): [2.2 * t for t in reversed(baseline)],
        ("model", "pytorch"): [1.0, 1.0, 1.0],
    }
    run = _Run({"model": None, "baseline": None}, ["pytorch", "onnx"], [64], [2], 3, "cpu", tmp_path, None, False)
    pytorch, model, base = _rows(run, 64, 2, times, dict.fromkeys(times, 5.0))
    assert (model.p50_ms, model.ratio, model.images_per_s) == (40.0, 2.0, 50.0)
    assert model.aa == pytest.approx(1.1)
    assert model.p95_ms == pytest.approx(58.0)
    assert (base.ratio, base.aa, pytorch.ratio, pytorch.aa) == (None,) * 4


@pytest.fixture
def made_up() -> BenchmarkResult:
    row = Row(320, 1, "onnx", "model", 10.0, 12.0, 100.0)
    rows = [row, replace(row, arm="baseline"), replace(row, size=640, p50_ms=40.0, p95_ms=41.0)]
    failed = [Failure("model", "openvino", "export", "no such thing")]
    files = [Made("model", "onnx", "m.onnx", False)]
    return BenchmarkResult("runs", {"model": "m.pt"}, rows, files, failed, 3, {"device": "cpu"})


def test_report__shows_what_there_is(made_up):
    assert cells(made_up.rows)[:2] == [
        ["px", "batch", "format", "arm", "p50 ms", "p95 ms", "img/s"],
        ["320", "1", "onnx", "model", "10.0", "12.0", "100"],
    ]
    text = markdown(made_up)
    assert "| 640 | 1 | onnx | model | 40.0 | 41.0 | 100 |" in text
    assert "FAILED openvino, model, export: no such thing" in text
    assert "FAILED the proof against PyTorch: model onnx" in text
    assert not made_up.ok
    assert not replace(made_up, failed=[]).ok
    assert replace(made_up, failed=[], files=[]).ok


def test_report__says_where_the_machine_was_busy(made_up):
    rows = [replace(made_up.rows[0], aa=1.05), replace(made_up.rows[0], format="openvino", aa=0.8)]
    (note,) = [n for n in replace(made_up, rows=rows).notes if n.startswith("NOISY")]
    assert note.endswith("say nothing: openvino 320 px batch 1: 0.80")


def test_report__picture_has_a_panel_for_each_shape(made_up, tmp_path):
    one = replace(made_up, rows=made_up.rows[:2])
    narrow, wide = (cv2.imread(str(draw(r, tmp_path / f"{len(r.rows)}.png"))) for r in (one, made_up))
    assert wide.shape[0] == narrow.shape[0]
    assert wide.shape[1] > narrow.shape[1]
