"""A study from nothing: data, base, comparison, and what is kept of it."""

import hashlib
import json
import sys
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
import study
import study_tables
import study_weights

import yolo_mha
from yolo_mha.data.beacons import generate


@pytest.fixture
def small(tiny, tmp_path, monkeypatch):
    """The folder of a study whose base is trained for one or two epochs."""
    generate(tmp_path / "shared" / "small", train=16, val=12)
    monkeypatch.setenv("YOLO_MHA_TEST_DATA", str(tmp_path / "shared"))
    monkeypatch.setattr(study, "WORK", tmp_path / ".study")
    monkeypatch.setattr(study, "STUDIES", tmp_path / "studies")
    folder = tmp_path / "studies" / "small"
    folder.mkdir(parents=True)
    base = {"model": "demo-baseline.yaml", "data": "data/small", **tiny, "epochs": [1, 2]}
    content = {"data": "small", "about": "Drawn shapes.", "license": "none", "base": base, "comparisons": ["confirm"]}
    (folder / "study.yaml").write_text(yaml.safe_dump(content))
    arms = {"baseline": "base/small.pt", "attention": {"model": "base/small.pt", "at": "neck"}}
    recipe = {"data": "data/small", "arms": arms, "seeds": [0, 1], "train": tiny}
    (folder / "confirm.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    return folder


def trained() -> dict[Path, int]:
    """When each checkpoint below .study/ was written, but for what was made to be measured."""
    files = [file for file in study.WORK.rglob("*.pt") if "benchmark" not in file.parts]
    return {file: file.stat().st_mtime_ns for file in files}


@pytest.mark.slow
def test_study__from_nothing_and_again(small, tmp_path, monkeypatch):
    study.main("small", [])
    found = yaml.safe_load((small / "base-found.yaml").read_text())
    base = tmp_path / ".study" / "base" / "small.pt"
    assert hashlib.sha256(base.read_bytes()).hexdigest() == found["sha256"]
    assert (found["taken"], set(found["AP by epochs"])) == (1, {1, 2})  # neither learns a thing
    kept = (small / "confirm" / "compare.json").read_text()
    assert json.loads(kept)["arms"].keys() == {"baseline", "attention"}
    assert str(tmp_path) not in kept + (small / "confirm" / "report.md").read_text()
    assert len(list((small / "confirm").glob("charts/*.svg"))) == 3
    hashes = (small / "confirm" / "predictions.sha256").read_text().splitlines()
    assert [line.split("  ")[1] for line in hashes] == [
        f"val-{arm}-seed{seed}.json" for arm in ("attention", "baseline") for seed in (0, 1)
    ]
    rows = json.loads((small / "benchmark-attention.json").read_text())["rows"]
    assert {(row["format"], row["arm"]) for row in rows} == {
        (form, arm) for form in ("pytorch", "onnx") for arm in ("model", "baseline")
    }
    assert all("PyTorch " in cell and "ONNX Runtime " in cell for cell in study_tables.costs(small, "attention"))
    times = trained()
    study.main("small", ["confirm"])
    assert times == trained()

    # its weights
    monkeypatch.setattr(study_weights, "STUDIES", small.parent)
    monkeypatch.setattr(study_weights, "WEIGHTS", tmp_path / "weights")
    study_weights.release("small", study.WORK / "runs" / "small" / "confirm")
    (name, card), *others = study_weights.read_cards().items()
    assert (name, others) == ("small.pt", [])
    means = card["AP on validation images by arm (Ultralytics' mAP50-95, mean over seeds)"]
    assert means[card["arm"]] == max(means.values())
    assert hashlib.sha256((tmp_path / "weights" / name).read_bytes()).hexdigest() == card["sha256"]
    model = yolo_mha.YOLO(tmp_path / "weights" / name).model
    assert sum(p.numel() for p in model.parameters()) == card["parameters"]
    text = (tmp_path / "weights" / "README.md").read_text()
    assert card["sha256"] in text
    assert str(tmp_path) not in text + (tmp_path / "weights" / "cards.json").read_text()


def test_set_aside__divides_the_training_images(small, tmp_path):
    study.copy_data("small")
    written = study.WORK / study.set_aside("data/small", 10)
    parts = {split: set(written.with_name(f"{split}.txt").read_text().split()) for split in ("train", "val")}
    source = yaml.safe_load((study.WORK / "data" / "small" / "data.yaml").read_text())
    images = sorted(map(str, (study.WORK / "data" / "small" / source["train"]).iterdir()))
    assert sorted(parts["train"] | parts["val"]) == images
    assert not parts["train"] & parts["val"]
    assert len(parts["val"]) == len(images[::10])
    assert yaml.safe_load(written.read_text())["names"] == source["names"]


def test_study__without_its_data_says_where_that_is_looked_for(small, monkeypatch):
    monkeypatch.delenv("YOLO_MHA_TEST_DATA")
    with pytest.raises(SystemExit, match="let YOLO_MHA_TEST_DATA name the folder"):
        study.main("small", [])


def test_tables__are_what_the_comparisons_found():
    assert study_tables.main(check=True) == 0, "run python tools/study_tables.py"
