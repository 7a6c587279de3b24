import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from unittest.mock import MagicMock

import psutil
import pytest
import torch
import yaml

import yolo_mha
from yolo_mha.data.beacons import generate
from yolo_mha.engine import child
from yolo_mha.errors import ConfigError, DataError
from yolo_mha.evaluation import runs as trained_runs
from yolo_mha.evaluation.claims import claim_file, take
from yolo_mha.evaluation.folder import open_folder
from yolo_mha.evaluation.one_run import Job, _train
from yolo_mha.evaluation.plan import prepare
from yolo_mha.evaluation.recipe import Arm, Control, Recipe
from yolo_mha.evaluation.runs import read_run, train_runs
from yolo_mha.evaluation.start import shared_start
from yolo_mha.evaluation.weights import class_notes, write_start
from yolo_mha.paths import shipped
from yolo_mha.surgery.insertion import Insertion

DEMO = shipped("weights") / "demo-baseline.pt"
SCRIPT = """
import sys
from yolo_mha.evaluation.folder import open_folder
from yolo_mha.evaluation.plan import prepare
from yolo_mha.evaluation.recipe import read_recipe
from yolo_mha.evaluation.runs import train_runs
plan = prepare(read_recipe(sys.argv[1], {}))
object.__setattr__(plan.recipe.arms["broken"], "freeze_base", 1)
with open_folder(plan, sys.argv[2]) as folder:
    train_runs(plan, folder, [(arm, 7) for arm in plan.arms])
"""


def until(true, process: subprocess.Popen, seconds: float = 500) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert process.poll() is None, process.stderr.read()[-2000:]
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="module")
def killed(beacons, tiny, tmp_path_factory):
    """A comparison whose process was killed while its third run trained, and what was seen on the way."""
    root = tmp_path_factory.mktemp("runs")
    recipe = Recipe(
        name="cut",
        data=str(beacons),
        arms={
            "baseline": Arm("demo-baseline.yaml"),
            "broken": Arm("demo-baseline.yaml"),
            "attention": Arm("demo-baseline.yaml", Insertion(("neck",), options={"num_heads": 2})),
            "control": Control("attention"),
        },
        train={**tiny, "epochs": 4},
        seeds=(7,),
    )
    (root / "recipe.yaml").write_text(yaml.safe_dump(recipe.as_dict(), sort_keys=False))
    folder, seen, plan = root / "cut", {}, prepare(recipe)
    object.__setattr__(plan.recipe.arms["broken"], "freeze_base", 1)  # it has no block that could train alone
    command = [sys.executable, "-c", SCRIPT, str(root / "recipe.yaml"), str(root)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    until(lambda: (folder / "arms" / "attention" / "seed7" / "weights" / "last.pt").exists(), process)
    seen["said"] = process.stderr
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("yolo_mha.evaluation.folder.WAIT", 0)  # it trains on meanwhile
        with pytest.raises(ConfigError, match="Another process") as refused, open_folder(plan, root):
            pass
    seen["refused"] = refused.value.given
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    seen["left"] = psutil.wait_procs(children, timeout=20)[1]
    last = folder / "arms" / "baseline" / "seed7" / "weights" / "last.pt"
    seen["before"] = (last.stat().st_mtime_ns, last.read_bytes())
    seen["interrupted"], seen["failed"] = (read_run(folder, arm, 7) for arm in ("attention", "broken"))
    both = replace(plan, recipe=replace(plan.recipe, jobs=2))
    with open_folder(both, root) as again, trained_runs.console.capture() as said:
        runs = train_runs(both, again, [(arm, 7) for arm in both.arms])
    seen["said again"] = said.get()
    seen["after"] = (last.stat().st_mtime_ns, last.read_bytes())
    return again, {run.arm: run for run in runs}, seen


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *((name, text) for name in ("seed0.json", "seed0/end.json", "seed0/code.json") for text in ("[", "[]", "{}")),
        ("seed0/end.json", '{"peak_mib": "much", "gates": {}}'),
        ("seed0/code.json", '{"sources": [], "versions": {}}'),
        ("seed0/start.json", "[]"),
        ("seed0/results.csv", f"epoch,{trained_runs.MEAN_AP}\n1,much\n"),
    ],
)
def test_read_run__names_a_damaged_record(tmp_path, name, text):
    (tmp_path / "arms" / "a" / "seed0").mkdir(parents=True)
    (tmp_path / "arms" / "a" / name).write_text(text)
    with pytest.raises(ConfigError, match="damaged") as caught:
        shared_start([read_run(tmp_path, "a", 0)])
    assert name in caught.value.given


@pytest.mark.slow
def test_kill_9__leaves_no_orphan_and_no_lock(killed):
    folder, _, seen = killed
    assert seen["left"] == []
    assert seen["refused"].startswith(f"{folder}, locked by process ")


@pytest.mark.slow
def test_output_that_is_no_terminal__has_a_line_an_epoch(killed):
    _, _, seen = killed
    lines = seen["said"].read().splitlines()
    epochs = [line for line in lines if line.startswith("baseline, seed 7: epoch ")]
    assert [line.split("epoch ")[1].split(",")[0] for line in epochs] == ["1 of 4", "2 of 4", "3 of 4", "4 of 4"]
    assert all("mAP50-95" in line for line in epochs)
    (warned,) = [line for line in lines if line.startswith("warning: ")]
    assert warned.startswith("warning: baseline, seed 7 has learned next to nothing (mAP50-95 0.0")


@pytest.mark.slow
def test_same_call__finishes_what_was_cut(killed):
    folder, runs, seen = killed
    assert seen["interrupted"].state == "running"
    attention = runs["attention"]
    assert (attention.state, attention.resumed, attention.epochs) == ("done", 1, 4)
    assert attention.seconds > seen["interrupted"].seconds
    assert len(attention.curve) == 4
    assert attention.peak_mib > 100
    assert torch.load(attention.folder / "weights" / "last.pt", weights_only=False)["optimizer"] is None
    epochs = [line.split(",")[0] for line in (attention.folder / "results.csv").read_text().splitlines()[1:]]
    assert epochs == ["1", "2", "3", "4"]
    assert {p.name for p in folder.iterdir()} >= {"recipe.yaml", "inputs.json", "init", "arms"}
    assert (folder / "arms" / "attention" / "seed7.log").read_text().count("Resuming training") == 1
    epochs = seen["interrupted"].epochs
    first = f"going on: 1 of 4 runs are finished; attention, seed 7: {epochs} of 4 epochs"
    assert seen["said again"].splitlines()[0] == first


@pytest.mark.slow
def test_finished_run__is_not_touched(killed):
    _, runs, seen = killed
    assert seen["before"] == seen["after"]
    assert (runs["baseline"].state, runs["baseline"].resumed) == ("done", 0)


@pytest.mark.slow
def test_finished_run__whose_folder_was_taken_away_is_trained_again(killed, tmp_path):
    folder, runs, _ = killed
    shutil.copytree(folder / "arms", tmp_path / "arms")
    assert read_run(tmp_path, "baseline", 7).state == "done"
    shutil.rmtree(tmp_path / "arms" / "baseline" / "seed7")
    assert read_run(tmp_path, "baseline", 7).state == "running"
    assert runs["baseline"].state == "done"


def test_run_that_begins_anew__has_no_scores_of_what_was_trained_before(tmp_path, monkeypatch):
    monkeypatch.setattr(trained_runs, "Child", MagicMock())
    run = replace(read_run(tmp_path, "attention", 7))
    of_run, of_other = (tmp_path / "val" / "attention" / f"seed{seed}" / "scores.json" for seed in (7, 8))
    for file in (of_run, of_other):
        file.parent.mkdir(parents=True)
        file.write_text("{}")
    trained_runs._start(run, MagicMock(sources={}), MagicMock(), MagicMock(), 1)
    assert (of_run.exists(), of_other.exists()) == (False, True)


def test_train_runs__stops_where_a_label_is_gone(tmp_path):
    data = generate(tmp_path / "data", train=3, val=2)
    plan = prepare(Recipe("x", str(data), {"a": Arm("demo-baseline.yaml"), "b": Arm("demo-mha.yaml")}))
    label = next((data.parent / "labels" / "train").glob("*2.txt"))
    label.unlink()
    with pytest.raises(DataError, match="A file of the dataset is missing") as caught:
        train_runs(plan, tmp_path, [("a", 0)])
    assert caught.value.given == str(label)


@pytest.mark.parametrize("change", ["label", "image"])
def test_train_runs__stops_where_the_data_are_others(tmp_path, change):
    data = generate(tmp_path / "data", train=3, val=2)
    plan = prepare(Recipe("x", str(data), {"a": Arm("demo-baseline.yaml"), "b": Arm("demo-mha.yaml")}))
    trained_runs._check_files(plan)
    if change == "label":
        next((data.parent / "labels" / "train").glob("*2.txt")).write_text("")
    else:
        picture = next((data.parent / "images" / "train").glob("*2.png"))
        picture.with_name("new.png").write_bytes(picture.read_bytes())
    with pytest.raises(DataError, match="dataset was changed while the comparison was trained") as caught:
        train_runs(plan, tmp_path, [("a", 0)])
    assert caught.value.given == str(data)


def test_failures__stay_known_when_a_run_is_tried_again(tmp_path):
    """Also of runs whose state was noted by an earlier version."""
    run = replace(read_run(tmp_path, "a", 0), state="failed", error="NaN", failures=["NaN"])
    run.folder.mkdir(parents=True)
    trained_runs._save(run)
    assert read_run(tmp_path, "a", 0).failures == ["NaN"]
    file = run.folder.with_name("seed0.json")
    file.write_text(json.dumps({k: v for k, v in json.loads(file.read_text()).items() if k != "failures"}))
    assert read_run(tmp_path, "a", 0).failures == []


def test_train_runs__says_that_a_stop_loses_nothing(tmp_path, monkeypatch, capsys):
    data = generate(tmp_path / "data", train=3, val=2)
    plan = prepare(Recipe("x", str(data), {"a": Arm("demo-baseline.yaml"), "b": Arm("demo-mha.yaml")}))
    monkeypatch.setattr(trained_runs, "_start", MagicMock(side_effect=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        train_runs(plan, tmp_path, [("a", 0)])
    assert capsys.readouterr().err == "The runs are stopped. The same command goes on with them.\n"


@pytest.mark.slow
def test_failed_run__does_not_stop_the_others(killed):
    _, runs, _ = killed
    assert [run.state for run in runs.values()] == ["done", "failed", "done", "done"]
    assert "this model has none" in runs["broken"].error
    assert "freeze_base=1" in runs["broken"].error


@pytest.mark.slow
def test_failed_run__is_tried_again(killed):
    _, runs, seen = killed
    assert seen["failed"].state == "failed"
    assert runs["broken"].seconds > seen["failed"].seconds > 0
    assert runs["broken"].failures == 2 * [runs["broken"].error]


@pytest.mark.slow
def test_shared_start__is_equal_over_arms(killed):
    _, runs, _ = killed
    (check,) = shared_start(list(runs.values()))
    assert check.seed == 7
    assert check.same_batches
    assert list(check.first_batch) == ["baseline", "attention", "control"]
    assert check.shared == dict.fromkeys(check.first_batch, check.tensors)
    assert len(check.weights) == 3
    assert len(set(check.weights.values())) == 1
    assert check.tensors == len(yolo_mha.YOLO("demo-baseline.yaml").model.state_dict())


@pytest.mark.slow
def test_shared_start__finds_a_difference(killed, tmp_path):
    _, runs, _ = killed
    copies = []
    for run in (runs["baseline"], runs["attention"]):
        content = json.loads((run.folder / "start.json").read_text())
        if run.arm == "attention":
            content["batch"] = "0"
            name = next(iter(content["tensors"]))
            content["tensors"][name] = "0"
        (tmp_path / run.arm).mkdir()
        (tmp_path / run.arm / "start.json").write_text(json.dumps(content))
        copies.append(replace(run, folder=tmp_path / run.arm))
    (check,) = shared_start(copies)
    assert not check.same_batches
    assert check.shared["attention"] == check.tensors - 1
    assert check.weights["attention"] != check.weights["baseline"]


@pytest.mark.slow
def test_control__was_trained_in_the_place_of_attention(killed):
    _, runs, _ = killed
    models = {arm: yolo_mha.YOLO(runs[arm].folder / "weights" / "last.pt").model for arm in ("attention", "control")}
    kinds = {arm: [type(m).__name__ for m in model.model] for arm, model in models.items()}
    assert kinds["control"] == [k.replace("SpatialMHABlock", "ConvBlock") for k in kinds["attention"]]
    counts = [sum(p.numel() for p in model.parameters()) for model in models.values()]
    assert abs(counts[1] / counts[0] - 1) < 0.02


@pytest.mark.slow
def test_interruption_after_the_last_epoch__leaves_nothing_to_train(killed, tmp_path):
    """The last checkpoint is there with its optimizer, and only has to be stripped of it."""

    _, runs, _ = killed
    content = torch.load(runs["baseline"].folder / "weights" / "last.pt", weights_only=False)
    weights = tmp_path / "weights"
    weights.mkdir()
    state = {**content, "ema": content["model"], "model": None, "optimizer": {}, "epoch": 3}
    torch.save(state, weights / "last.pt")
    for _ in range(2):  # the second time it is stripped already
        _train(Job({}, 7, str(tmp_path), False, {}, "", ""))
        after = torch.load(weights / "last.pt", weights_only=False)
        assert after["optimizer"] is None
        assert after["model"].names == content["model"].names


def named(plan, *names):
    """The same plan for a dataset of other classes."""
    return replace(plan, dataset=replace(plan.dataset, names=dict(enumerate(names))))


def test_write_start__is_the_baseline_for_the_dataset(beacons, tmp_path):
    made = {}
    for name, train, seed in (("a", {}, 1), ("again", {}, 1), ("b", {}, 2), ("c", {"pretrained": str(DEMO)}, 1)):
        plan = named(prepare(Recipe("x", str(beacons), {"a": Arm("demo-baseline.yaml")}, train)), "beacon", "day")
        state = torch.get_rng_state()
        write_start(plan, seed, tmp_path / f"{name}.pt")
        assert torch.equal(torch.get_rng_state(), state)
        made[name] = yolo_mha.YOLO(tmp_path / f"{name}.pt").model
        assert made[name].names == {0: "beacon", 1: "day"}
    a, again, b, c = (m.state_dict() for m in made.values())
    assert all(torch.equal(a[k], again[k]) for k in a)
    assert not torch.equal(a["model.0.conv.weight"], b["model.0.conv.weight"])
    demo = yolo_mha.YOLO(DEMO).model
    assert torch.equal(c["model.0.conv.weight"], demo.state_dict()["model.0.conv.weight"])
    last, names = "model.6.cv3.0.2.weight", list(demo.names.values())
    assert torch.equal(c[last][1], demo.state_dict()[last][names.index("day")])  # classes are known by name
    plan = prepare(Recipe("x", str(beacons), {"a": Arm(str(DEMO)), "b": Arm(str(DEMO), Insertion(("neck",)))}))
    assert class_notes(plan) == []
    (note,) = class_notes(named(plan, "day", "cat"))
    assert "3 classes and the dataset has 2" in note
    assert "classes with the same name, 1" in note
    assert class_notes(named(plan, *(f" {name.upper()}" for name in names))) == []


@pytest.mark.parametrize(
    ("own", "settings"),
    [(("cat", "dog", "fish"), {}), (("0", "1", "2"), {}), (("beacon", "cat", "day"), {"cls_remap": False})],
    ids=str,
)
def test_class_notes__say_where_class_layers_are_taken_over_under_other_names(beacons, tmp_path, own, settings):
    plan = prepare(
        Recipe("x", str(beacons), {"a": Arm(str(DEMO)), "b": Arm(str(DEMO), Insertion(("neck",)))}, settings)
    )
    plan = named(plan, *own)
    (note,) = class_notes(plan)
    assert "3 classes and the dataset has 3: the class layers are taken over as they are" in note
    write_start(plan, 1, tmp_path / "start.pt")
    made, demo = (yolo_mha.YOLO(file).model.float() for file in (tmp_path / "start.pt", DEMO))
    for name, value in demo.model[-1].state_dict().items():
        assert torch.equal(made.model[-1].state_dict()[name], value), name


@pytest.mark.slow
def test_process__knows_the_blocks_of_the_user_and_imports_nothing_else(tmp_path):
    """The process of a run imports the modules of all registered blocks, and nothing from the working directory."""
    mine, here = tmp_path / "mine", tmp_path / "here"
    mine.mkdir()
    here.mkdir()
    (mine / "mine.py").write_text(
        "import torch, yolo_mha\n\n@yolo_mha.register\nclass Mine(torch.nn.Identity):\n    pass\n"
    )
    (here / "psutil.py").write_text("open('ran', 'w')")
    (here / "m.yaml").write_text(
        "nc: 1\nbackbone: [[-1, 1, Conv, [16, 3, 2]], [-1, 1, Mine, []]]\nhead: [[[1], 1, Detect, [nc]]]"
    )
    settings = {"model": "m.yaml", "data": "nowhere.yaml"}
    claim = take(here / "run")
    job = json.dumps(asdict(Job(settings, 0, str(here / "run"), False, {}, str(claim_file(here / "run")), claim.token)))
    process = subprocess.Popen(
        [sys.executable, "-c", child.SCRIPT, "yolo_mha.evaluation.one_run", "mine"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=here,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(mine), str(Path(yolo_mha.__file__).parents[1])])},
    )
    print(job, file=process.stdin, flush=True)
    assert "Dataset YAML not found" in process.stderr.read()
    process.stdin.close()
    assert process.wait() == 1
    assert not (here / "ran").exists()


@pytest.mark.slow
def test_process__ends_when_its_claim_is_lost(tmp_path):
    take(tmp_path / "run")
    job = json.dumps(
        asdict(Job({}, 0, str(tmp_path / "run"), False, {}, str(claim_file(tmp_path / "run")), "another token"))
    )
    command = [sys.executable, "-c", child.SCRIPT, "yolo_mha.evaluation.one_run"]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    print(job, file=process.stdin, flush=True)
    assert process.wait(timeout=60) == 1
    assert not (tmp_path / "run").exists()
