"""A study from nothing: data, base, comparison, and what is kept of it."""

import hashlib
import json
import shutil
import sys
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
import study
import study_tables


@pytest.fixture
def small(beacons, tiny, tmp_path, monkeypatch):
    """The folder of a study whose base is trained for one or two epochs."""
    shutil.copytree(beacons.parent, tmp_path / "shared" / "small")
    monkeypatch.setenv("YOLO_MHA_TEST_DATA", str(tmp_path / "shared"))
    monkeypatch.setattr(study, "WORK", tmp_path / ".study")
    monkeypatch.setattr(study, "STUDIES", tmp_path / "studies")
    folder = tmp_path / "studies" / "small"
    folder.mkdir(parents=True)
    base = {"model": "demo-baseline.yaml", "data": "data/small", **tiny, "epochs": [1, 2]}
    (folder / "study.yaml").write_text(yaml.safe_dump({"data": "small", "base": base, "comparisons": ["one"]}))
    arms = {"baseline": "base/small.pt", "attention": {"model": "base/small.pt", "at": "neck"}}
    recipe = {"data": "data/small", "arms": arms, "seeds": [0], "train": tiny}
    (folder / "one.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    return folder


@pytest.mark.slow
def test_study__from_nothing_and_again(small, tmp_path):
    study.main("small", [])
    found = yaml.safe_load((small / "base-found.yaml").read_text())
    base = tmp_path / ".study" / "base" / "small.pt"
    assert hashlib.sha256(base.read_bytes()).hexdigest() == found["sha256"]
    assert (found["taken"], set(found["AP by epochs"])) == (1, {1, 2})  # neither learns a thing
    kept = (small / "one" / "compare.json").read_text()
    assert json.loads(kept)["arms"].keys() == {"baseline", "attention"}
    assert str(tmp_path) not in kept + (small / "one" / "report.md").read_text()
    hashes = (small / "one" / "predictions.sha256").read_text().splitlines()
    assert [line.split("  ")[1] for line in hashes] == ["val-attention-seed0.json", "val-baseline-seed0.json"]
    times = {file: file.stat().st_mtime_ns for file in (tmp_path / ".study").rglob("*.pt")}
    study.main("small", ["one"])
    assert times == {file: file.stat().st_mtime_ns for file in (tmp_path / ".study").rglob("*.pt")}


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
