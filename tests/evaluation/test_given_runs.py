import json
import shutil
from pathlib import Path

import pytest
import torch

import yolo_mha
from yolo_mha.cli import main
from yolo_mha.data.beacons import generate
from yolo_mha.data.files import sha256
from yolo_mha.engine.checkpoint import check_checkpoint
from yolo_mha.errors import CheckpointError, ConfigError, DataError, UnsupportedTaskError, YoloMHAError
from yolo_mha.evaluation.declared import read_declarations
from yolo_mha.evaluation.folder import open_folder
from yolo_mha.evaluation.given_runs import prepare_given
from yolo_mha.evaluation.recipe import recipe_of_given
from yolo_mha.paths import shipped

ARMS = {"baseline": "demo-baseline.pt", "attention": "demo-mha.pt"}
PATTERN = "runs/{arm}/seed{seed}/last.pt"


def write(arm: str, number: int, epoch: int = -1, **changes) -> Path:
    """Write a checkpoint of the demo as that of a run; changes are those of its training settings."""
    content = dict(check_checkpoint(shipped("weights") / ARMS[arm]))
    content |= {"epoch": epoch, "train_args": {**content["train_args"], "seed": number, **changes}}
    file = Path("runs", arm, f"seed{number}", "last.pt")
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, file)
    return file


@pytest.fixture
def models(tmp_path):
    """Checkpoints of two arms with two seeds below the working directory."""
    return {(arm, seed): write(arm, seed) for arm in ARMS for seed in (0, 1)}


def prepared(data, models=PATTERN, **settings):
    return prepare_given(recipe_of_given({"models": models, "data": str(data), **settings}))


def notes(data, models=PATTERN, **settings) -> str:
    return "\n".join(prepared(data, models, **settings)[0].origin_notes)


def test_prepare_given__says_what_checkpoints_record(beacons, models):
    plan, runs = prepared(beacons)
    assert [(run.arm, run.seed) for run in runs] == [(arm, seed) for seed in (0, 1) for arm in ARMS]
    assert plan.recipe.train == {"imgsz": 192}  # as all of them record
    assert list(plan.samples) == ["val"]
    assert runs[0].sources == {}
    assert list(runs[1].sources) == ["SpatialMHABlock"]
    said = "\n".join(plan.origin_notes)
    assert "All checkpoints record epochs=12, imgsz=192, batch=32" in said
    assert "differ in model: demo-baseline.yaml in baseline seeds 0, 1" in said
    for word in ("other seeds", "best.pt", "file names", "is over the seeds", "training ended"):
        assert word not in said


def test_prepare_given__says_where_checkpoints_differ(beacons, models):
    write("attention", 1, seed=0, epochs=50, data="/home/me/other.yaml")
    write("attention", 0, epoch=6)
    write("attention", 3)
    said = notes(beacons)
    assert "differ in epochs: 50 in attention seed 1; 12 in the others." in said
    assert "differ in data: other.yaml in attention seed 1" in said
    assert "other seeds than were given: attention seed 1 records seed 0." in said
    assert "attention seed 0 was saved before its training ended, after 7 epochs." in said
    assert "attention - baseline is over the seeds that both have: baseline has no seed 3." in said


def test_prepare_given__says_what_is_known_of_the_choice_of_checkpoints(beacons, models):
    for (arm, seed), file in models.items():
        shutil.copy(file, file.with_name("best.pt"))
        shutil.copy(file, file.with_name("x.pt"))
        models[arm, seed] = file.parent
    both = notes(beacons, PATTERN.replace("last", "best"))
    assert "best.pt was chosen on the validation images of its training (all runs)." in both
    assert "baseline and arm alike are too high" in both
    assert "not treated alike" not in both
    assert "do not say whether a checkpoint was chosen" in notes(beacons, PATTERN.replace("last", "x"))
    one = {
        arm: {seed: models[arm, seed] / f"{'last' if arm == 'baseline' else 'best'}.pt" for seed in (0, 1)}
        for arm in ARMS
    }
    some = notes(beacons, one)
    assert "(attention seeds 0, 1)." in some
    assert "Some runs are scored with best.pt and others are not" in some


def test_prepare_given__scores_at_one_size(beacons, models):
    write("attention", 1, imgsz=320)
    with pytest.raises(ConfigError, match="imgsz is missing") as refused:
        prepared(beacons)
    assert refused.value.given == "the checkpoints record 192, 320"
    assert prepared(beacons, imgsz=64)[0].recipe.train == {"imgsz": 64}


def test_prepare_given__refuses_a_run_that_is_there_twice(beacons, models):
    shutil.copy(models["baseline", 0], models["attention", 1])
    with pytest.raises(ConfigError, match="have the same file") as refused:
        prepared(beacons)
    assert str(models["baseline", 0].resolve()) in refused.value.given
    assert str(models["attention", 1].resolve()) in refused.value.given


def test_prepare_given__refuses_arms_without_a_seed_in_common(beacons, models):
    files = {"baseline": {0: models["baseline", 0]}, "attention": {1: models["attention", 1]}}
    with pytest.raises(ConfigError, match="no seed in common") as refused:
        prepared(beacons, files)
    assert refused.value.given == "baseline 0; attention 1"


def test_open_folder__is_another_for_another_checkpoint_in_the_same_place(beacons, models):
    """The same runs take up the same folder; the plan knows them by content, not by path."""
    folders = []
    for spoil in (None, None, 50):
        if spoil:
            write("attention", 1, epochs=spoil)
        with open_folder(prepared(beacons)[0]) as folder:
            folders.append(folder.name)
    assert folders == ["compare", "compare", "compare-2"]
    plan = read_declarations(folder)[-1].plan
    assert plan["arms"]["attention"]["models"]["1"] == sha256(models["attention", 1])
    assert set(plan["inputs"]) == {"classes", "data val", "source of SpatialMHABlock"}


def _segmentation(file: Path) -> None:
    yolo_mha.YOLO("yolov8n-seg.yaml").save(file)


def _other_classes(file: Path) -> None:
    content = dict(check_checkpoint(file))
    content["model"].names = {0: "cat", 1: "dog"}
    torch.save(content, file)


@pytest.mark.parametrize(
    ("spoil", "error", "said"),
    [
        (lambda file: file.write_bytes(b"cut"), CheckpointError, "last.pt"),
        (_segmentation, UnsupportedTaskError, "task 'segment'"),
        (_other_classes, DataError, "model: cat, dog"),
    ],
)
def test_compare__refuses_a_model_that_does_not_fit(beacons, models, spoil, error, said):
    """One error that names the file, and nothing of the comparison is written."""
    spoil(models["attention", 1])
    with pytest.raises(error) as refused:
        yolo_mha.compare(models=PATTERN, data=beacons)
    assert str(models["attention", 1].resolve()) in str(refused.value)
    assert said in str(refused.value)
    assert not Path("runs", "compare").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[{", "not valid JSON"),
        ("{}", "not in COCO results format"),
        ('[{"image_id": 99, "category_id": 0, "bbox": [0, 0, 1, 1], "score": 0.5}]', "99"),
        ('[{"image_id": 0, "category_id": 0, "bbox": [0, 0, 1], "score": 0.5}]', "Prediction 0"),
    ],
)
def test_compare__refuses_predictions_that_cannot_be_read(beacons, content, said):
    for arm in ARMS:
        Path(f"{arm}-0.json").write_text(json.dumps([]) + " " * len(arm))
    Path("attention-0.json").write_text(content)
    with pytest.raises(DataError) as refused:
        yolo_mha.compare(predictions="{arm}-{seed}.json", data=beacons)
    assert str(Path("attention-0.json").resolve()) in str(refused.value)
    assert said in str(refused.value)
    assert not Path("runs", "compare").exists()


def test_compare__says_how_much_networks_rely_on_their_blocks(tmp_path, models):
    data = generate(tmp_path / "data", train=2, val=12)
    found = yolo_mha.compare(models=PATTERN, data=data)
    yolo_mha.remove(models["attention", 0], out="without.pt")
    ap = yolo_mha.val("without.pt", data, imgsz=192, plots=False).coco.metrics["AP"]
    baseline, attention = (found.arms[arm] for arm in ARMS)
    assert (baseline.without_blocks, attention.without_blocks) == (None, pytest.approx(ap))
    assert ap < attention.metrics["AP"] - 0.1  # the demo's blocks are what it finds its classes with
    change = f"{ap - attention.metrics['AP']:+.3f}: the network relies on them, which does not show that they help."
    assert f"Taking the blocks out of attention, seed 0, changes its AP by {change}" in found.notes


def test_compare__scores_given_predictions_with_what_is_unusual_about_each(tmp_path, capsys):
    """By the command: two seeds in both arms, the test images, and one arm whose faint detections were cut off."""
    data = generate(tmp_path / "data", train=2, val=12)
    data.write_text(data.read_text() + "test: images/val\n")
    for arm, lowest, last in (("plain", 0.001, 2), ("attention", 0.3, 7)):
        for seed in (0, 1, last):
            found = [
                {"image_id": i, "category_id": i % 2, "bbox": [seed, 5, 40, 40], "score": lowest + i / 20}
                for i in range(12)
            ]
            Path(f"{arm}-{seed}.json").write_text(json.dumps(found))
    words = ["predictions={arm}-{seed}.json", f"data={data}", "split=test", "margin=0.05", "baseline=plain", "--json"]
    with pytest.raises(SystemExit) as ended:
        main(["compare", *words])
    assert ended.value.code == 0
    found = json.loads(capsys.readouterr().out)
    cut = "attention seed 0, attention seed 1, attention seed 7: No prediction scores"
    assert any(note.startswith(cut) for note in found["notes"])
    assert any("attention has no seed 2; plain has no seed 7" in note for note in found["notes"])
    assert found["contrasts"][0]["seeds"] == [0, 1]
    assert found["settings"] == {"split": "test", "backend": "pycocotools"}
    assert "Scored are the given predictions, on images" in found["estimand"]
    assert "the test images are a sample of" in found["estimand"]
    assert (found["recipe"]["margin"], found["contrasts"][0]["verdict"]["word"]) == (0.05, "no verdict")
    assert " predictions=" in found["commands"][1]


def test_compare__of_predictions_on_some_of_the_images_and_of_runs_that_found_nothing(tmp_path, capsys):
    """Two seeds that found nothing are not one file; half of the images were not predicted; no object is large."""
    data = generate(tmp_path / "data", train=2, val=12)
    found = [{"image_id": i, "category_id": 0, "bbox": [0, 5, 40, 40], "score": 0.001 + i / 20} for i in range(12)]
    for arm, images in (("plain", 12), ("attention", 6)):
        Path(f"{arm}-0.json").write_text(json.dumps(found[:images]))
        for seed in (1, 2):
            Path(f"{arm}-{seed}.json").write_text("[]")
    words = ["predictions={arm}-{seed}.json", f"data={data}", "metric=APlarge", "baseline=plain", "--json"]
    with pytest.raises(SystemExit) as ended:
        main(["compare", *words])
    assert ended.value.code == 0
    content = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert (content["contrasts"][0]["deltas"], content["contrasts"][0]["best"]) == ([], 0)
    said = "Of 12 images 0 have no prediction in plain seed 0, and 12 in plain seed 1."
    assert any(note.startswith(said) for note in content["notes"])
    shutil.copy("plain-0.json", "attention-0.json")
    with pytest.raises(ConfigError, match="Two runs have the same file"):
        yolo_mha.compare(predictions="{arm}-{seed}.json", data=data, baseline="plain")


@pytest.mark.parametrize("word", ["dry_run=True", "demo.yaml", "model=yolov8n.yaml", "seeds=0,1,2", "conclude=True"])
def test_compare__refuses_what_does_not_go_with_given_runs(word, beacons, capsys, tmp_path):
    with pytest.raises(SystemExit) as ended:
        main(["compare", word, f"models={PATTERN}", f"data={beacons}"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(("error: compare models= does not take", "error: A comparison needs exactly one"))
    assert word.partition("=")[0].replace("demo.yaml", "recipe") in said
    assert not list(tmp_path.iterdir())


def test_estimate__of_given_runs_is_refused(beacons, models):
    Path("given.yaml").write_text(json.dumps(recipe_of_given({"models": PATTERN, "data": str(beacons)}).as_dict()))
    for call in (lambda: yolo_mha.estimate("given.yaml"), lambda: yolo_mha.estimate(models=PATTERN, data=beacons)):
        with pytest.raises(YoloMHAError):
            call()
