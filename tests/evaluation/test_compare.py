import csv
import json
import re
import shutil
import sys
from pathlib import Path

import cv2
import jsonschema
import pytest
import yaml
from reading import counted, state

import yolo_mha
from yolo_mha.cli import main
from yolo_mha.data.beacons import generate
from yolo_mha.errors import CheckpointError, ConfigError, DataError, RunError, UnsupportedTaskError
from yolo_mha.evaluation import comparison
from yolo_mha.evaluation.conclude import conclude
from yolo_mha.evaluation.figures import figures
from yolo_mha.evaluation.plan import prepare
from yolo_mha.evaluation.recipe import read_recipe
from yolo_mha.evaluation.run_code import installed
from yolo_mha.evaluation.runs import read_run
from yolo_mha.paths import shipped
from yolo_mha.surgery.rows import blocks

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import recompute

DEMO = shipped("weights") / "demo-baseline.pt"
SCHEMA = json.loads((Path(comparison.__file__).parent / "compare.schema.json").read_text())


@pytest.fixture(scope="module")
def finished(tiny, tmp_path_factory):
    """Two arms with three seeds, from weights that know the task, and how to call it again."""
    folder = tmp_path_factory.mktemp("compare")
    data = generate(folder / "data", train=16, val=12)
    data.write_text(data.read_text() + "test: images/train\n")
    image = min((folder / "data" / "images" / "train").iterdir())  # a JPEG that Ultralytics would write anew
    image.with_suffix(".jpg").write_bytes(cv2.imencode(".jpg", cv2.imread(str(image)))[1].tobytes() + b"more")
    image.unlink()
    label = folder / "data" / "labels" / "train" / f"{image.stem}.txt"  # boxes and a polygon
    label.write_text(label.read_text() + "0 0.1 0.1 0.3 0.1 0.3 0.3\n")
    settings = {"model": str(DEMO), "at": "neck", "num_heads": 2, "control": False, "data": str(data), "jobs": 2}
    settings |= {"bad": "repair"}
    settings |= {**tiny, "imgsz": 188, "batch": 16}  # not a multiple of the stride
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        before = state(data.parent)
        result = yolo_mha.compare(**settings)
        assert state(data.parent) == before
        return result, settings, folder


def attention_rows() -> list[str]:
    return [str(row) for row in blocks(yolo_mha.YOLO(DEMO).insert("neck", num_heads=2).model.yaml)]


def test_compare__trains_scores_and_reports(finished):
    result, _, cwd = finished
    folder = Path(result.save_dir)
    assert folder == cwd / "runs" / "compare" / "compare"
    written = json.loads((folder / "compare.json").read_text())
    assert written == json.loads(json.dumps(result.as_dict()))
    jsonschema.validate(written, SCHEMA)
    assert [(r.arm, r.seed, r.state) for r in result.runs] == [
        (arm, seed, "done") for seed in range(3) for arm in ("baseline", "attention")
    ]
    for run in result.runs:
        assert len(run.metrics) == 12
        assert len(run.curve) == run.epochs == 1
        assert [file.name for file in (folder / run.weights).parent.iterdir()] == ["last.pt"]
        assert run.peak_mib > 100
        assert run.versions == {name: [version] for name, version in installed().items()}
        assert list(run.sources) == ([] if run.arm == "baseline" else ["SpatialMHABlock"])
        assert list(run.gates) == ([] if run.arm == "baseline" else attention_rows())
    base, attention = result.arms["baseline"], result.arms["attention"]
    assert base.cost.latency_ratio == 1
    assert attention.cost.parameters > base.cost.parameters
    assert attention.cost.memory_mib > 0
    assert base.metrics["AP50"] > 0.05  # it began with weights that know the task
    page = (folder / "report.html").read_text()
    assert "The beacons" not in page  # said of the embedded dataset alone
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert (folder / "report.md").read_text().startswith("# Is attention better than baseline?")


def test_compare__lists_what_was_repaired_alike_for_all_arms(finished):
    result, settings, _ = finished
    folder = Path(result.save_dir)
    assert result.data_check.actions == {"polygons made boxes": 1}
    assert any("polygons made boxes: 1" in note for note in result.notes)
    ((row,),) = (list(csv.DictReader(file.open())) for file in [folder / "bad.csv"])
    assert Path(row["file"]).is_relative_to(Path(settings["data"]).parent)
    assert len({yaml.safe_load(args.read_text())["data"] for args in folder.glob("arms/*/*/args.yaml")}) == 1


def test_compare__is_about_the_scores_of_the_runs(finished):
    (contrast,) = finished[0].contrasts
    runs = {(r.arm, r.seed): r.metrics["AP"] for r in finished[0].runs}
    deltas = [runs["attention", s] - runs["baseline", s] for s in range(3)]
    effect = contrast.effects["AP"]
    assert contrast.primary
    assert effect.delta == pytest.approx(sum(deltas) / 3)
    assert effect.low < effect.delta < effect.high
    assert (effect.scope, effect.seeds, effect.images) == ("seeds and images", 3, 12)
    assert figures(effect, finished[0].recipe.margin)[0] in contrast.verdict.sentence


def test_compare__arms_of_a_seed_began_alike(finished):
    for check in finished[0].start:
        assert check.same_batches
        assert check.shared == dict.fromkeys(("baseline", "attention"), check.tensors)
    assert len({check.first_batch["baseline"] for check in finished[0].start}) == 3


def test_compare__again_is_the_same_and_trains_nothing(finished, monkeypatch):
    result, settings, cwd = finished
    monkeypatch.chdir(cwd)
    folder = Path(result.save_dir)
    times = {file: file.stat().st_mtime_ns for file in (folder / "arms").rglob("*") if file.is_file()}
    (folder / "report.html").unlink()
    with counted() as verified:
        again = yolo_mha.compare(**settings)
    assert not verified  # nothing has changed
    assert again.save_dir == result.save_dir
    assert times == {file: file.stat().st_mtime_ns for file in (folder / "arms").rglob("*") if file.is_file()}
    assert again.contrasts == result.contrasts
    assert (folder / "report.html").exists()


@pytest.fixture
def copied(finished, monkeypatch, tmp_path):
    """A copy of the finished comparison in the working directory, and how to call it again."""
    _, settings, cwd = finished
    monkeypatch.chdir(tmp_path)
    shutil.copytree(cwd / "runs", tmp_path / "runs")
    return tmp_path / "runs" / "compare" / "compare", settings


def test_compare__of_one_seed_gives_no_verdict(finished, copied):
    """The runs of the first seed, taken for a comparison of their own."""
    result, (folder, settings) = finished[0], copied
    (folder / "looks.json").unlink()
    one = yolo_mha.compare(**settings, seeds=0)
    assert one.save_dir == str(folder)
    assert one.summary.command.endswith(" name=compare-longer epochs=30 seeds=1,2,3")  # what to do for a verdict
    assert one.contrasts[0].verdict.word == "no verdict"
    assert one.contrasts[0].effects["AP"].scope == "images"
    assert any("there is no verdict" in note for note in one.notes)
    assert one.contrasts[0].effects["AP"].delta == pytest.approx(
        result.runs[1].metrics["AP"] - result.runs[0].metrics["AP"]
    )


@pytest.mark.slow
def test_compare__says_of_which_runs_ap_depends_on_equal_scores(finished, monkeypatch, tmp_path):
    """The scores of one run are rounded to one decimal, and scored again."""
    result, settings, cwd = finished
    assert not any("equal scores" in note for note in result.notes)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(cwd / "runs", tmp_path / "runs")
    folder = tmp_path / "runs" / "compare" / "compare" / "val" / "attention"
    predictions, annotations = (folder / "seed0" / f"{name}.json" for name in ("predictions", "annotations"))
    rounded = [{**r, "score": round(r["score"], 1)} for r in json.loads(predictions.read_text())]
    predictions.write_text(json.dumps(rounded))
    where = {"project": str(folder), "name": "seed0", "exist_ok": True}
    yolo_mha.val(predictions=predictions, annotations=annotations, plots=False, **where)
    again = yolo_mha.compare(**settings)
    ties = next(r.ties for r in again.runs if (r.arm, r.seed) == ("attention", 0))
    assert ties.best_ap - ties.worst_ap > 0.001
    (note,) = (note for note in again.notes if "equal scores" in note)
    assert f"in attention seed 0 {ties.worst_ap:.3f} to {ties.best_ap:.3f}." in note
    assert note in (folder.parents[1] / "report.md").read_text()


def test_compare__is_planned_before_it_is_trained(finished):
    """The plan stands in the folder before the first run, and is named by date and hash in what is written."""
    result = finished[0]
    folder = Path(result.save_dir)
    (declared,) = json.loads((folder / "plan.json").read_text())
    assert declared == json.loads(json.dumps(vars(result.declaration)))
    assert set(declared["plan"]["inputs"]) == {
        str(DEMO),
        "classes",
        "data train",
        "data val",
        "source of SpatialMHABlock",
    }
    assert (folder / "plan.json").stat().st_mtime <= (folder / "init" / "seed0.pt").stat().st_mtime
    for report in ("report.html", "report.md"):
        assert declared["sha256"][:16] in (folder / report).read_text()
    assert [look.finished for look in result.looks] == [{"baseline": [0, 1, 2], "attention": [0, 1, 2]}]
    assert json.loads((folder / "looks.json").read_text())[0]["sha256"] == declared["sha256"]
    assert result.objections == []
    assert "weights of demo-baseline.pt: the seeds vary this further training" in result.estimand
    assert "the validation images are a sample of" in result.estimand


@pytest.mark.slow
def test_compare__has_no_verdict_where_seeds_were_added_after_a_look(copied):
    folder, settings = copied
    added = yolo_mha.compare(**settings, seeds=(0, 1, 2, 3), conclude=True)
    assert added.save_dir == str(folder)
    assert added.objections[0] == "1 of 4 declared seeds are not trained yet (3)"
    assert added.objections[1].startswith("seed 3 was added after a look at the results of seeds 0, 1, 2")
    assert {c.verdict.word for c in added.contrasts} == {"no verdict"}
    assert added.contrasts[0].effects["AP"] is not None
    assert added.notes[0].startswith("No verdict: 1 of 4")
    assert added.summary.command.endswith(" name=compare-seed4 seeds=4,5,6,7")
    assert "seed 3 was added" in (folder / "report.html").read_text()
    assert [look.plan["seeds"] for look in added.looks] == [[0, 1, 2], [0, 1, 2, 3]]
    first = yolo_mha.compare(**settings)  # which was the first, so that its verdict stands
    assert first.objections == []
    assert any("later with another plan" in note for note in first.notes)


@pytest.mark.slow
def test_compare__has_no_verdict_where_the_margin_was_changed_after_a_look(finished, copied):
    result, (folder, settings) = finished[0], copied
    times = {file: file.stat().st_mtime_ns for file in (folder / "arms").rglob("*") if file.is_file()}
    changed = yolo_mha.compare(**settings, margin=0.5)
    assert changed.save_dir == str(folder)
    assert times == {file: file.stat().st_mtime_ns for file in (folder / "arms").rglob("*") if file.is_file()}
    assert "margin was 0.01" in changed.notes[0]  # "No verdict: ..."
    assert any("The plan was changed" in note and "margin from 0.01 to 0.5" in note for note in changed.notes)
    assert yolo_mha.compare(**settings).contrasts[0].verdict == result.contrasts[0].verdict
    (folder / "looks.json").unlink()
    unseen = yolo_mha.compare(**settings, margin=0.5)  # changed before any look, which is told
    assert unseen.objections == []
    assert any("margin from 0.01 to 0.5" in note for note in unseen.notes)


@pytest.mark.slow
def test_compare__scores_the_test_images_if_they_are_named(finished, copied):
    result, (folder, settings) = finished[0], copied
    tested = yolo_mha.compare(**settings, split="test")
    assert tested.save_dir == str(folder)
    assert (tested.contrasts[0].effects["AP"].images, result.contrasts[0].effects["AP"].images) == (16, 12)
    assert tested.objections == []
    assert any("were scored on the val images before" in note for note in tested.notes)
    assert any("last checkpoint on the test images" in note for note in tested.notes)
    assert "the test images are a sample of" in tested.estimand
    assert tested.settings["split"] == "test"
    assert {Path(win.image).parent.name for win in tested.wins} == {"train"}  # which this dataset names as test
    assert all(" split=test " in command for command in tested.commands[1:])
    assert {run.metrics["AP"] for run in tested.runs} != {run.metrics["AP"] for run in result.runs}
    assert json.loads((folder / "inputs.json").read_text()).keys() >= {"data val", "data test"}
    back = yolo_mha.compare(**settings)
    assert back.contrasts == result.contrasts


@pytest.mark.slow
def test_compare__concludes_what_is_finished(finished, copied):
    """An interim look at a plan that stays as it was: no verdict yet, and one when all seeds are trained."""
    result, (folder, settings) = finished[0], copied
    (folder / "looks.json").unlink()
    for part in ("arms/baseline/seed2", "arms/attention/seed2", "val/baseline/seed2", "val/attention/seed2"):
        (folder / part).rename(folder / part.replace("/", "-"))
        (folder / f"{part}.json").unlink(missing_ok=True)
    early = yolo_mha.compare(**settings, conclude=True)
    assert early.objections == ["1 of 3 declared seeds are not trained yet (2)"]
    assert early.contrasts[0].verdict.word == "no verdict"
    assert [run.state for run in early.runs] == ["done"] * 4 + ["unfinished"] * 2
    assert [check.seed for check in early.start] == [0, 1]
    assert early.exit_code == 0
    jsonschema.validate(json.loads((folder / "compare.json").read_text()), SCHEMA)
    for part in ("arms/baseline/seed2", "arms/attention/seed2"):
        (folder / part.replace("/", "-")).rename(folder / part)
    late = yolo_mha.compare(**settings, conclude=True)
    assert late.objections == []
    assert late.contrasts[0].verdict == result.contrasts[0].verdict
    assert [look.finished["baseline"] for look in late.looks] == [[0, 1], [0, 1, 2]]


def test_compare__concludes_nothing_that_was_not_begun(finished, copied):
    folder, settings = copied
    with pytest.raises(ConfigError, match="no comparison with this recipe") as caught:
        yolo_mha.compare(**{**settings, "epochs": 7}, conclude=True)
    assert f"{folder} differs in train" in caught.value.given
    with pytest.raises(ConfigError, match="no comparison with this recipe"):
        yolo_mha.compare(**settings, conclude=True, project="nowhere")
    assert not Path("nowhere").exists()
    shutil.rmtree(folder / "arms")
    with pytest.raises(RunError, match="No run finished") as caught:
        yolo_mha.compare(**settings, conclude=True)
    assert "not trained to its end" in caught.value.given


def test_compare__notes_a_look_before_anything_of_it_is_written(copied):
    folder, settings = copied
    (folder / "looks.json").unlink()
    shutil.rmtree(folder / "val")
    (folder / "arms" / "baseline" / "seed0" / "weights" / "last.pt").write_bytes(b"cut")
    with pytest.raises(CheckpointError):
        yolo_mha.compare(**settings)
    assert len(json.loads((folder / "looks.json").read_text())) == 1


@pytest.mark.slow
def test_compare__of_two_equal_arms_claims_nothing(finished, tmp_path, capsys):
    """The same model twice, by the command: every difference is exactly 0."""
    _, settings, _ = finished
    arms = {name: {"model": str(DEMO)} for name in ("baseline", "copy")}
    recipe = {"name": "twins", "data": settings["data"], "bad": "repair", "arms": arms, "seeds": [0, 1, 2], "jobs": 2}
    train = {key: settings[key] for key in ("epochs", "imgsz", "batch", "device", "plots", "workers")}
    (tmp_path / "twins.yaml").write_text(yaml.safe_dump({**recipe, "train": train}, sort_keys=False))
    with pytest.raises(SystemExit) as ended:
        main(["compare", "twins.yaml", "--json"])
    assert ended.value.code == 0
    (contrast,) = json.loads(capsys.readouterr().out)["contrasts"]
    assert contrast["seeds"] == [0, 1, 2]
    for effect in (contrast["effects"]["AP"], contrast["effects"]["AP50"]):
        assert (effect["delta"], effect["low"], effect["high"]) == (0, 0, 0)
    assert contrast["verdict"]["word"] not in ("helps", "hurts")


def changed(cwd, monkeypatch, tmp_path):
    """Plan, folder and runs of a copy, as if the source of the attention were another one now."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(cwd / "runs", tmp_path / "runs")
    folder = tmp_path / "runs" / "compare" / "compare"
    plan = prepare(read_recipe(folder / "recipe.yaml", {}))
    plan.arms["attention"].sources["SpatialMHABlock"] = "0" * 64
    return plan, folder, [read_run(folder, arm, seed) for seed in range(3) for arm in plan.arms]


def test_conclude__reports_stored_scores_of_blocks_that_changed_since(finished, monkeypatch, tmp_path):
    plan, folder, runs = changed(finished[2], monkeypatch, tmp_path)
    result = conclude(plan, folder, runs)
    assert [run.metrics for run in result.runs] == [run.metrics for run in finished[0].runs]
    assert result.arms["baseline"].cost is not None
    assert result.arms["attention"].cost is None
    assert any("blocks of attention has changed since the training" in note for note in result.notes)


def test_conclude__scores_no_run_by_other_code(finished, monkeypatch, tmp_path):
    plan, folder, runs = changed(finished[2], monkeypatch, tmp_path)
    shutil.rmtree(folder / "val" / "attention" / "seed1")
    with pytest.raises(ConfigError, match="has changed since its training") as refused:
        conclude(plan, folder, runs)
    assert "attention seed 1: the source of SpatialMHABlock" in refused.value.given
    assert not (folder / "val" / "attention" / "seed1").exists()


def test_read_run__knows_nothing_of_a_run_of_other_code(finished, monkeypatch, tmp_path):
    _, folder, runs = changed(finished[2], monkeypatch, tmp_path)
    assert {run.state for run in runs} == {"done"}
    code = folder / "arms" / "attention" / "seed1" / "code.json"
    code.write_text(code.read_text().replace(runs[3].sources["SpatialMHABlock"], "0" * 64))
    assert [run.state for run in (read_run(folder, "attention", seed) for seed in range(3))] == [
        "done", "running", "done",
    ]  # fmt: skip


def test_prepare__names_classes_on_few_images_before_anything_is_trained(tmp_path):
    data = generate(tmp_path, train=3, val=12)
    labels = sorted((tmp_path / "labels" / "val").glob("*.txt"))
    for label in labels[2:]:
        lines = label.read_text().splitlines()
        label.write_text("".join(f"0{line[1:]}\n" for line in lines))
    recipe = tmp_path / "recipe.yaml"
    arms = {"baseline": "demo-baseline.yaml", "attention": "demo-mha.yaml"}
    recipe.write_text(yaml.safe_dump({"data": str(data), "arms": arms}))
    (note,) = prepare(read_recipe(recipe, {})).data_notes
    assert "on fewer than 10 val images. An answer that changes when these classes are left out" in note


def test_prepare__says_which_scored_images_were_trained_on(tmp_path):
    data = generate(tmp_path, train=3, val=2)
    data.write_text(data.read_text() + "test: images/train\n")
    recipe = tmp_path / "recipe.yaml"
    arms = {"baseline": "demo-baseline.yaml", "copy": "demo-baseline.yaml"}
    for split, notes in (("val", []), ("test", ["3 test images are also in train, such as 0000.png"])):
        recipe.write_text(yaml.safe_dump({"data": str(data), "arms": arms, "split": split}))
        assert [note.split(",")[:2] for note in prepare(read_recipe(recipe, {})).data_notes] == [
            note.split(",") for note in notes
        ]


@pytest.mark.slow
def test_estimate__trains_nothing(beacons, tiny):
    found = yolo_mha.estimate(model=str(DEMO), at="neck", data=str(beacons), seeds="0,1", jobs=2, sd_seeds=0.01, **tiny)
    assert found.runs == 6
    assert list(found.arms) == ["baseline", "attention", "control"]
    assert found.slowdown >= 1
    (picture,) = Path("runs", "compare").iterdir()  # no folder of runs
    assert Path(found.picture) == picture.resolve()


@pytest.mark.slow
def test_compare__where_no_run_finishes(beacons, tiny):
    with pytest.raises(RunError, match="No run finished") as caught:
        yolo_mha.compare(
            model="demo-baseline.yaml", at="neck", data=str(beacons), seeds=0, control=False, jobs=2, **tiny,
            copy_paste_mode="banana",
        )  # fmt: skip
    assert "got banana" in caught.value.given


def test_compare__refuses_data_without_validation_images(beacons, tmp_path):
    shutil.copytree(beacons.parent, tmp_path / "data")
    shutil.rmtree(tmp_path / "data" / "images" / "val")
    (tmp_path / "data" / "images" / "val").mkdir()
    with pytest.raises(DataError, match="no val images"):
        yolo_mha.compare(model="demo-baseline.yaml", at="neck", data=str(tmp_path / "data"))
    assert not Path("runs", "compare").exists()


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"model": "yolov8n.yaml", "at": "P5", "data": "x", "pretrained": "a.pt"}, CheckpointError),
        ({"model": "yolov8n-seg.yaml", "attention": "yolov8n-seg.yaml", "data": "x.yaml"}, UnsupportedTaskError),
        ({"model": "yolov8n.yaml", "at": "P5", "data": "x.yaml", "dry_run": True}, ConfigError),
    ],
)
def test_compare__refuses_before_anything_is_trained(settings, error):
    for function in (yolo_mha.compare, yolo_mha.estimate):
        with pytest.raises(error):
            function(**settings)
    assert not Path("runs").exists()


def test_run_recipe__is_missing():
    for function in (yolo_mha.run_recipe, yolo_mha.estimate):
        with pytest.raises(ConfigError, match="Recipe not found"):
            function("nowhere.yaml")


def test_compare__resamples_groups(finished, monkeypatch, tmp_path):
    """The finished runs, taken for a comparison with ten groups; images 0 and 10, 1 and 11 are together."""
    result, settings, cwd = finished
    monkeypatch.chdir(tmp_path)
    shutil.copytree(cwd / "runs", tmp_path / "runs")
    folder, group = tmp_path / "runs" / "compare" / "compare", r"(\d)\.png"
    recipe = (folder / "recipe.yaml").read_text()
    (folder / "recipe.yaml").write_text(recipe.replace("group: null", f"group: {group}"))
    grouped = yolo_mha.compare(**settings, group=group)
    assert grouped.save_dir == str(folder)
    effect, alone = grouped.contrasts[0].effects["AP"], result.contrasts[0].effects["AP"]
    assert (effect.delta, effect.sd_seeds) == (alone.delta, alone.sd_seeds)
    assert (effect.groups, effect.images, alone.groups) == (10, 12, None)
    assert effect.effective_groups == pytest.approx(16**2 / 40)  # eight of one image, two of two
    assert group in grouped.method
    assert "Images are assumed to be independent" in result.method
    for report in ("report.html", "report.md"):
        assert "10 groups (12 images)" in (folder / report).read_text()
    jsonschema.validate(json.loads((folder / "compare.json").read_text()), SCHEMA)


@pytest.mark.parametrize(
    ("group", "error"), [(r"(x\d)", ConfigError), ("folder", ConfigError), (".", ConfigError), ("no.csv", DataError)]
)
def test_compare__refuses_a_group_that_does_not_fit_before_anything_is_trained(beacons, group, error):
    for function in (yolo_mha.compare, yolo_mha.estimate):
        with pytest.raises(error, match="group"):
            function(model="demo-baseline.yaml", at="neck", data=str(beacons), group=group)
    assert not Path("runs", "compare").exists()


@pytest.mark.slow
def test_compare__looks_after_three_seeds_and_goes_on_or_stops(finished, tmp_path, monkeypatch):
    _, settings, _ = finished
    monkeypatch.chdir(tmp_path)
    plan = {"seeds": (0, 1, 2, 3), "looks": (3,)}
    alike = {**settings, "attention": str(DEMO), "at": None, "name": "alike", **plan}
    del alike["num_heads"]
    found = yolo_mha.compare(**alike)
    assert {run.seed for run in found.runs} == {0, 1, 2, 3}  # the same detections are no reason to stop
    assert (found.stage.number, found.stage.stop) == (2, "")
    assert [look.finished["baseline"] for look in found.looks] == [[0, 1, 2], [0, 1, 2, 3]]
    assert found.objections == []
    still = {"optimizer": "SGD", "lr0": 1e-9, "warmup_epochs": 0.0}  # the baseline stays as good as it was
    broken = {**settings, **still, "gate_init": 30.0, "name": "broken", **plan}
    found = yolo_mha.compare(**broken)
    assert {run.seed for run in found.runs} == {0, 1, 2}
    assert (found.stage.stop, found.contrasts[0].verdict.word) == ("hurts", "hurts")
    assert any("the answer is there" in note for note in found.notes)
    assert "look 1 of 2" in found.contrasts[0].verdict.sentence
    again = yolo_mha.compare(**broken)
    assert [run.seconds for run in again.runs] == [run.seconds for run in found.runs]


def test_compare__is_computed_again_by_other_code(finished, copied, capsys):
    """AP of the runs and on three resamples, the interval and the verdict, from the files that compare.json names."""
    assert recompute.main(Path(finished[0].save_dir), 3) == 0
    assert "resample 2, AP of attention/seed2" in capsys.readouterr().out
    folder, _ = copied
    (folder / "val" / "baseline" / "seed0" / "predictions.json").write_text("[]")
    with pytest.raises(SystemExit, match="is not the file"):
        recompute.main(folder, 0)


def given(folder: Path, kind: str) -> str:
    """The pattern of the checkpoints or of the predictions of a finished comparison."""
    files = {"models": "arms/{arm}/seed{seed}/weights/last.pt", "predictions": "val/{arm}/seed{seed}/predictions.json"}
    return f"{folder}/{files[kind]}"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["models", "predictions"])
def test_compare__of_given_runs_is_the_comparison_that_trained_them(finished, tmp_path, kind):
    """The same differences, intervals and words; nothing is claimed or shown of what is not known."""
    result, settings, _ = finished
    folder = Path(result.save_dir)
    before = state(folder)
    own = {"batch": settings["batch"], "device": "cpu"} if kind == "models" else {}  # imgsz is what they record
    words = {kind: given(folder, kind), "data": settings["data"], "bad": "repair", "name": kind, **own}
    found = yolo_mha.compare(**words)
    assert state(folder) == before
    assert found.contrasts == result.contrasts
    assert found.wins == result.wins
    assert [run.metrics for run in found.runs] == [run.metrics for run in result.runs]
    assert (found.objections, found.start) == ([], [])
    assert found.runs[0].weights == given(folder, kind).format(arm="baseline", seed=0)
    assert (found.arms["baseline"].cost is None) == (kind == "predictions")
    assert not any("All arms of a seed started" in note for note in found.notes)
    assert any("before this plan was written" in note for note in found.notes)
    written = Path(found.save_dir)
    jsonschema.validate(json.loads((written / "compare.json").read_text()), SCHEMA)
    for page in ((written / report).read_text() for report in ("report.html", "report.md")):
        assert ("latency" in page.lower()) == (kind == "models")
        assert "training, s" not in page
        assert "Learning curves" not in page
    if kind == "models":
        return
    assert recompute.main(written, 1) == 0
    scores = written / "val" / "attention" / "seed1" / "scores.json"
    times = scores.stat().st_mtime_ns
    again = yolo_mha.run_recipe(written / "recipe.yaml", project=written.parent)  # as `commands` names it
    assert (again.save_dir, again.contrasts) == (found.save_dir, found.contrasts)
    assert scores.stat().st_mtime_ns == times


@pytest.mark.slow
def test_compare__has_no_verdict_where_given_runs_were_changed_after_a_look(finished, tmp_path):
    """Other runs are another folder, and the looks in the folders beside it count."""
    result, settings, _ = finished
    pattern, arms = given(Path(result.save_dir), "predictions"), {"plain": "baseline", "attention": "attention"}
    files = {name: {seed: pattern.format(arm=arm, seed=seed) for seed in range(3)} for name, arm in arms.items()}
    words = {"data": settings["data"], "baseline": "plain", "bad": "repair"}
    fewer = {arm: {seed: own[seed] for seed in (0, 1)} for arm, own in files.items()}
    first = yolo_mha.compare(predictions=fewer, **words)
    assert first.contrasts[0].effects["AP"].scope == "images"
    assert any("Fewer than 3 seeds" in note for note in first.notes)
    more = yolo_mha.compare(predictions=files, **words)
    assert Path(more.save_dir).name == "compare-2"
    assert "seed 2 was added after a look at the results of seeds 0, 1" in more.objections[0]
    assert more.contrasts[0].deltas == result.contrasts[0].deltas
    assert more.contrasts[0].verdict.word == "no verdict"
