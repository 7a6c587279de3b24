"""What is printed for people, 80 columns wide: nothing is lost, and file names are whole."""

import io
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

import yolo_mha
from yolo_mha import show as module
from yolo_mha.data.data_check import DataCheck
from yolo_mha.deploy.benchmark_report import BenchmarkResult, Failure, Made, Row
from yolo_mha.diagnosis.check import Check
from yolo_mha.diagnosis.doctor import WITH_BLOCKS, WITHOUT_BLOCKS, Diagnosis
from yolo_mha.diagnosis.prepare import PreparedData, Split, Twins
from yolo_mha.engine.own_settings import COMMANDS
from yolo_mha.engine.predict import PredictResult
from yolo_mha.engine.progress import Terminal
from yolo_mha.engine.train import TrainResult
from yolo_mha.evaluation.comparison import ArmResult, Comparison, Contrast, Summary
from yolo_mha.evaluation.declared import Declaration
from yolo_mha.evaluation.estimate import ArmEstimate, Estimate
from yolo_mha.evaluation.plan import build_arms
from yolo_mha.evaluation.planning import Power, PowerPoint
from yolo_mha.evaluation.recipe import recipe_from_settings
from yolo_mha.evaluation.verdict import judge, no_interval
from yolo_mha.inspection.beacon_hits import BeaconHits
from yolo_mha.inspection.faithful import Judgement, MapScores
from yolo_mha.inspection.faithfulness import Faithfulness
from yolo_mha.paths import shipped
from yolo_mha.profiling.blocks import BlockShare
from yolo_mha.profiling.cost import Cost
from yolo_mha.profiling.footprint import Footprint, Step
from yolo_mha.result import Result
from yolo_mha.scoring.coco import METRICS
from yolo_mha.scoring.intervals import Interval, ScoreInterval
from yolo_mha.scoring.power import Spread
from yolo_mha.scoring.resample import Support
from yolo_mha.show import show, show_settings
from yolo_mha.text import duration

WIDTH = 80
LONG = "a-folder-with-a-name-that-is-longer-than-half-of-a-line/and-another-one-of-that-kind-below-it"


def shown(result: Result, width: int = WIDTH) -> str:
    file = io.StringIO()
    show(result, Console(file=file, width=width, markup=False))
    return file.getvalue()


def tables(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip().startswith(("│", "┃", "┏", "└", "╭"))]


def assert_whole(text: str, *files: str) -> None:
    """Hold that these files are named, and that no path of the long folder is cut or broken anywhere."""
    for file in files:
        assert file in text, text
    assert text.count(LONG) == text.count(LONG[:8]) > 0, text
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    assert max(map(len, tables(text)), default=0) <= WIDTH


@pytest.fixture
def folder(tmp_path) -> Path:
    made = tmp_path / LONG
    made.mkdir(parents=True)
    return made


@pytest.fixture
def model(folder) -> str:
    return str(shutil.copy(shipped("weights") / "demo-mha.pt", folder / "demo-mha.pt"))


def test_insert(model, folder):
    result = yolo_mha.insert(model, "P3", out=folder / "new.pt")
    assert_whole(shown(result), model, str(folder / "new.pt"), str(folder / "new.yaml"))
    removed = yolo_mha.remove(folder / "new.pt", out=folder / "old.pt")
    assert_whole(shown(removed), f"of {folder / 'new.pt'}", str(folder / "old.pt"))


def test_train(folder):
    other = TrainResult(str(folder), str(folder / "best.pt"), "last.pt", 3, {}, gates={4: 0.25, 9: 0.0})
    result = replace(other, data_check=DataCheck(), data="my cells.yaml")
    assert_whole(shown(result), f"yolo-mha val model={folder}/best.pt 'data=my cells.yaml'")
    assert_whole(shown(result), "gate of row 4: 0.2500\n", "row 9: 0.0000, still 0")
    assert "score it" not in shown(other)  # of another task, which val does not score


def test_val__and_export(model, folder, beacons):
    result = yolo_mha.val(model, beacons, imgsz=64, device="cpu", project=folder)
    assert_whole(shown(result), model, result.predictions, result.curves)
    data = shutil.copytree(beacons.parent, folder / "data") / beacons.name
    data.write_text(re.sub("^path:.*", f"path: {folder / 'data'}", data.read_text(), flags=re.MULTILINE))
    exported = yolo_mha.export(model, imgsz=64, data=data)
    text = shown(exported)
    assert_whole(text, exported.file, exported.proof, exported.standalone, str(data))
    assert all(word in text for word in ("boxes compared", "checkpoint", "AP50", "verdict: "))


def test_predict(folder):
    result = yolo_mha.predict(project=folder, save_csv=True)
    assert_whole(shown(result), *result.outputs.values())


def test_explain(folder):
    result = yolo_mha.explain(project=folder, sheets=1)
    text = shown(result)
    assert_whole(text, *result.outputs.values())
    assert "beacon 0.95" in text
    many = replace(result, detections=result.detections * 10)
    assert f"and {10 * len(result.detections) - 20} more detections" in shown(many)


def test_faithfulness(folder):
    score = ScoreInterval(0.25, None, None, 5)
    maps = dict.fromkeys(("effect", "LayerCAM"), MapScores(score, score, score, 0.5))
    judgements = {"effect": Judgement("no", "No: the effect map is not to be believed for this model.", {})}
    share = {"attention": 1.0, "effect": 0.5}
    hits = BeaconHits(9, share, 1, None, {}, random_hits=0.01, random_attention_hits=0.5, chance=0.02)
    files = {"report": f"{folder}/report.html"}
    text = shown(
        Faithfulness(str(folder), "m", "d", "val", 5, None, 9, 0, maps, judgements, {}, hits, ["A note."], files)
    )
    assert_whole(text, files["report"])
    for words in ("0.250", "No: the effect map", "9 of 10 shapes flips", "50.0% of effect maps", "note: A note."):
        assert words in text


def test_diagnosis(folder):
    file = folder / "picture.jpg"
    checks = [
        Check("train images and labels", "failed", f"{file} is broken, and so is {file}, of all those", f"mend {file}"),
        Check("splits", "ok", "No val image is also in train, and these words go on for more than a line of 80."),
    ]
    step = Footprint(Step(12345.0, 0.0179), Step(12345.0, 0.017), {1: Step(1.0, 1.0)}, 1.0)
    blocks = [BlockShare(10, "SpatialMHABlock", 0.1, 0.1, 0.1)]
    latency = {WITH_BLOCKS: 1234.5, WITHOUT_BLOCKS: 1000.0}
    page = Diagnosis(
        checks=checks,
        footprints={WITH_BLOCKS: step, WITHOUT_BLOCKS: step},
        latency_ms=latency,
        blocks=blocks,
        settings={"model": str(folder / "m.pt")},
    )
    text = shown(page)
    assert_whole(text, f"model={folder / 'm.pt'}", f"mend {file}")
    assert text.count(str(file)) == 3
    assert "FAILED   train images and labels" in text
    assert "12.06 GiB" in text
    assert max(len(line) for line in text.splitlines() if LONG not in line) <= WIDTH


def test_benchmark(folder):
    numbers = {"memory_mib": 1234.0, "ratio": 1.05, "aa": 1.01, "ap": 0.512, "ap50": 0.731}
    rows = [
        Row(size, batch, name, arm, 1234.5, 2345.6, 123.4, **numbers)
        for size in (320, 1280)
        for batch in (1, 16)
        for name in ("torchscript", "onnx-fused")
        for arm in ("model", "baseline")
    ]
    files = [Made("model", "onnx-fused", "m.onnx", True, [f"{folder / 'onnx_infer.py'} is another file"])]
    failed = [Failure("model", "openvino", "export", "no such thing")]
    result = BenchmarkResult(str(folder), {"model": str(folder / "m.pt")}, rows, files, failed, 30, {"device": "cpu"})
    text = shown(result)
    assert_whole(text, f"model: {folder / 'm.pt'}", str(folder / "benchmark.json"), str(folder / "onnx_infer.py"))
    assert sum(line.count("torchscript") for line in text.splitlines()) == 8
    for word in ("ratio", "A/A", "AP50", "baseline", "1234.5", "2345.6", "123.4", "0.731", "FAILED openvino"):
        assert word in text


def effect(delta: float) -> Interval:
    return Interval(delta, delta - 0.02, delta + 0.02, "seeds and images", 3, 40, 0.01, 0.005, 0.03)


def test_comparison(folder):
    plan = recipe_from_settings({"model": str(folder / "m.yaml"), "at": "P5", "data": str(folder / "data.yaml")})
    cost = Cost(12_345_678, 123.45, 1234.5, 1.05, (1.01, 1.25), 1234.5)
    arms = {name: ArmResult("m.yaml", dict.fromkeys(METRICS, 0.4), {}, cost, 12345.0) for name in plan.arms}
    contrasts = [
        Contrast("attention", "baseline", True, [0, 1, 2], {"AP": effect(0.05)}, {},
                 judge(effect(0.05), "attention", "baseline", 0.01, best=0.45), with_failures=effect(-0.3)),
        Contrast("attention", "control", False, [], {"AP": None}, {},
                 no_interval("attention", "control", 0, Support(40, None))),
    ]  # fmt: skip
    planned = Declaration("2026-01-02T03:04:05+00:00", "ab" * 32, {})
    result = Comparison(
        1, plan, "", "", arms, [], contrasts, [], [], planned, [], [], {}, ["A note."], {}, [], save_dir=str(folder),
        summary=Summary("Is it better?", "Yes.", "A finding.", "Go on.", f"yolo-mha val model={folder}/a.pt"),
    )  # fmt: skip
    text = shown(result)
    assert_whole(text, str(folder / "data.yaml"), str(folder / "compare.json"), str(folder / "report.md"))
    assert (folder / "report.html").as_uri() in text
    assert all(
        word in text
        for word in ("attention - baseline", "12,345,678", "+0.050", "A note.", "1234.5", "1.05, 1.01 to 1.25")
    ), text
    assert "exploratory" in text
    assert f"Is it better? Yes. A finding.\nNext: Go on.\n  yolo-mha val model={folder}/a.pt\n" in text
    assert "images only" not in text
    (line,) = re.findall(".*AP 0 for a failed run.*", text)
    assert "-0.300" in line
    images = replace(contrasts[0], effects={"AP": replace(effect(0.05), scope="images")})
    assert "95 % interval, images only" in shown(replace(result, contrasts=[images]), width=200)
    assert max(map(len, tables(text))) <= WIDTH
    assert (result.ok, result.exit_code) == (True, 0)
    long = replace(contrasts[0], metric="AP[a-class-with-a-name-of-forty-six-characters-or-so]")
    long.effects[long.metric] = effect(0.05)
    table = "".join(tables(shown(replace(result, contrasts=[*contrasts, long]))))
    assert table.count("+0.050") == 2  # the numbers stay beside a long name


def test_estimate__says_what_is_matched(folder):
    data = str(folder / "data.yaml")
    plan = recipe_from_settings({"model": "demo-baseline.yaml", "at": "neck", "data": data, "seeds": (0, 1)})
    (match,) = build_arms(plan)["control"].substitutes
    arms = {
        name: ArmEstimate(f"{folder}/m.yaml", 1234567, [match] if name == "control" else [], 0.5, 0.1, 7200, 2048)
        for name in plan.arms
    }
    found = Estimate(plan, arms, 6, 10, 8, {"train": 16, "val": 8}, "cpu", 43200, 2048, 1024, 96.4)
    assert not found.fits
    assert found.as_dict()["arms"]["control"]["substitutes"][0]["difference"] == match.difference
    text = shown(found)
    for words in (
        "1,234,567",
        "0.5 s",
        "2 h 0 min",
        "12 h 0 min",
        "2.00 GiB",
        "seeds 0, 1",
        "1.0 GiB of memory",
        "96 MiB of disk",
    ):
        assert words in text
    assert f"row {match.row}: {match.own:,} for {match.parameters:,} ({match.difference:+.2%})" in text
    assert "What it can find is not known" in text
    assert_whole(text, f"baseline: {folder}/m.yaml", f"control: {folder}/m.yaml")
    points = [PowerPoint(3, 0.25, 0.125, 0.5, 0.034), PowerPoint(4, 0.5, 0.25, 0.75, 0.03)]
    power = Power("a pilot", Spread(0.01, 0.004, 71, 3), 0.02, "72 images", points, 9, None, ["a note"])
    three = replace(plan, seeds=(0, 1, 2))
    text = shown(replace(found, recipe=three, power=power, picture=f"{folder}/power.png"))
    rows = [re.findall(r"[\w.]+", line) for line in tables(text)]
    assert ["3", "0.25", "0.12", "0.034", "0.50", "12", "h", "0", "min"] in rows
    said = "With 3 seeds and 72 images a true difference of 0.01 in AP is found with probability 0.25 (0.12 if the"
    assert said in text
    assert "takes about 9 seeds, or more than 30" in text
    assert_whole(text, f"power curve: {folder}/power.png")


def test_show__knows_every_result():
    for name in yolo_mha.__all__:  # so that all are imported, whichever tests ran before
        getattr(yolo_mha, name)
    names = {c.__name__ for c in Result.__subclasses__() if c.__module__.startswith("yolo_mha.")}
    assert names - {"Transfer"} | {"Environment"} == set(module.SHOWN)  # that is part of another


def test_show__data_has_whole_paths_and_the_first_of_each_kind_of_fault(monkeypatch):
    broken = [f"{LONG}/{i}.png: not a readable image" for i in range(7)]
    result = PreparedData(
        source=LONG,
        format="CSV table",
        data=f"{LONG}/data.yaml",
        splits={"train": Split(1440, 33430, 2, 3), "val": Split(10, 20, 0, 0)},
        classes={f"class {i}": {"train": i, "val": 0} for i in range(40)},
        sizes={"image_width": [200.0, 200.0, 640.5]},
        proposed="the split is new",
        across_splits=[Twins(f"{LONG}/a.png", f"{LONG}/b.png", 3)],
        within_splits=4,
        skipped=broken,
        without_image=["c.png"],
        not_named=[],
        notes=["A note."],
    )
    text = shown(result)
    for words in (
        "33,430",
        "and 10 more classes",
        "image width: 200 to 640.5 pixels, median 200",
        f"{LONG}/a.png and {LONG}/b.png",
        "7 files cannot be used and are left out:",
        *broken[:5],
        "note: A note.",
        f"data={LONG}/data.yaml",
    ):
        assert words in text
    assert broken[5] not in text
    for offline, model in (("true", "yolo11n.yaml"), ("", "yolo11n.pt")):
        monkeypatch.setenv("YOLO_OFFLINE", offline)
        assert f"yolo-mha train model={model} at=P5" in shown(result)
    assert "class 39 " in text
    assert "class 9 " not in text
    assert not result.ok


@pytest.mark.parametrize(
    ("seconds", "words"), [(50.4, "50 s"), (3600, "60 min"), (3 * 3600 + 1200, "3 h 20 min"), (187200, "2 d 4 h")]
)
def test_duration__in_words(seconds, words):
    assert duration(seconds) == words


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - {"version"}))
def test_settings__stand_one_a_line_within_80_columns(command):
    file = io.StringIO()
    show_settings(command, Console(file=file, width=WIDTH))
    text = file.getvalue()
    listed = [*COMMANDS[command].own, *(COMMANDS[command].options if command == "insert" else ())]
    for setting in listed:
        (line,) = re.findall(rf"^│ {setting.name} +({setting.kind}) .*", text, re.MULTILINE)
        assert line == setting.kind
        assert all(word in text for word in setting.meaning.split())
    assert ("docs.ultralytics.com/usage/cfg" in text) == (command not in ("insert", "remove", "data"))
    assert max(map(len, text.splitlines())) <= WIDTH


def test_terminal__shows_control_characters_in_names_and_files():
    name = "\x1b]0;owned\x07\x1b[2J"
    file = io.StringIO()
    console = Terminal(file=file, width=WIDTH, markup=False)
    show(PredictResult(name, name, 1, {name: 1}, [name], 1, {name: name}, [name]), console)
    show(Diagnosis({name: name}, [Check(name, "warning", name, name)]), console)
    assert "\x1b" not in file.getvalue()
    assert r"\x1b]0;owned\x07\x1b[2J" in file.getvalue()


@pytest.mark.parametrize("found", [{}, {"day": 2}])
def test_show__a_prediction_without_objects_says_what_finds_more(found):
    file = io.StringIO()
    show(PredictResult("runs", "a.jsonl", 1, found, [], 0, {}, []), Terminal(file=file, width=WIDTH))
    assert file.getvalue().startswith("1 image or frame: ")
    assert ("a lower conf detects more" in file.getvalue()) == (not found)
