import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from yolo_mha.data.beacons import generate
from yolo_mha.errors import ConfigError
from yolo_mha.evaluation.folder import open_folder
from yolo_mha.evaluation.plan import prepare
from yolo_mha.evaluation.recipe import read_recipe, recipe_from_settings
from yolo_mha.paths import shipped


@pytest.fixture
def data(tmp_path) -> Path:
    return generate(tmp_path / "data", train=3, val=2, size=96)


def opened(recipe) -> Path:
    with open_folder(prepare(recipe)) as folder:
        return folder


def test_open_folder__finds_the_same_plan_again(data, tmp_path):
    settings = {"model": "demo-baseline.yaml", "at": "neck", "data": str(data), "epochs": 2, "seeds": (0, 1)}
    recipe = recipe_from_settings(settings)
    first = opened(recipe)
    assert first == tmp_path / "runs" / "compare" / "compare"
    assert opened(replace(recipe, jobs=3)) == first
    assert opened(read_recipe(first / "recipe.yaml", {})) == first
    for other in ({"epochs": 3}, {"seeds": (0, 2)}, {"margin": 0.02}, {"num_heads": 2}):
        assert opened(recipe_from_settings({**settings, **other})) != first
    assert opened(recipe) == first
    assert len(list(first.parent.iterdir())) == 5  # one a plan, and nothing else
    saved = yaml.safe_load((first / "recipe.yaml").read_text())
    assert saved["seeds"] == [0, 1]
    assert opened(replace(recipe, seeds=(0, 1, 2))) == first
    assert yaml.safe_load((first / "recipe.yaml").read_text())["seeds"] == [0, 1, 2]


def test_open_folder__leaves_a_stranger_alone(data, tmp_path):
    stranger = tmp_path / "runs" / "compare" / "compare"
    stranger.mkdir(parents=True)
    (stranger / "recipe.yaml").write_text("[")
    recipe = recipe_from_settings({"model": "demo-baseline.yaml", "at": "neck", "data": str(data)})
    assert opened(recipe).name == "compare-2"
    assert [p.name for p in stranger.iterdir()] == ["recipe.yaml"]


@pytest.mark.parametrize("change", ["label", "image", "model", "weights"])
def test_open_folder__is_a_new_one_for_other_content(data, tmp_path, change, caplog):
    (tmp_path / "m.yaml").write_bytes((shipped("cfg") / "models" / "demo-baseline.yaml").read_bytes())
    (tmp_path / "w.pt").write_bytes((shipped("weights") / "demo-baseline.pt").read_bytes())
    settings = {"model": "m.yaml", "at": "neck", "data": str(data), "pretrained": "w.pt"}
    first = opened(recipe_from_settings(settings))
    changed = {
        "label": next((data.parent / "labels" / "train").glob("*.txt")),
        "image": next((data.parent / "images" / "val").glob("*.png")),
        "model": tmp_path / "m.yaml",
        "weights": tmp_path / "w.pt",
    }[change]
    changed.touch()
    assert opened(recipe_from_settings(settings)) == first
    changed.write_bytes(changed.read_bytes() + b"\n")
    assert opened(recipe_from_settings(settings)).name == "compare-2"
    inputs = [json.loads((folder / "inputs.json").read_text()) for folder in (first, first.with_name("compare-2"))]
    assert sum(inputs[0][key] != inputs[1][key] for key in inputs[0]) == 1


def test_open_folder__is_for_one_at_a_time(data):
    recipe = recipe_from_settings({"model": "demo-baseline.yaml", "at": "neck", "data": str(data)})
    with open_folder(prepare(recipe)) as folder:
        with pytest.raises(ConfigError, match="Another process") as refused:
            opened(recipe)
        assert refused.value.given == str(folder)
        assert opened(replace(recipe, name="other")) != folder
    assert opened(recipe) == folder


def test_open_folder__goes_where_project_says(data, tmp_path):
    recipe = recipe_from_settings({"model": "demo-baseline.yaml", "at": "neck", "data": str(data), "name": "mine"})
    with open_folder(prepare(recipe), "elsewhere") as folder:
        assert folder == tmp_path / "elsewhere" / "mine"
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"), open_folder(prepare(recipe), "file"):
        pass
