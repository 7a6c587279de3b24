import importlib
import json
import math
import os
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from yolo_mha import registry
from yolo_mha.data.beacons import generate
from yolo_mha.errors import ConfigError
from yolo_mha.evaluation import folder
from yolo_mha.evaluation.declared import read_declarations
from yolo_mha.evaluation.folder import fingerprint, open_folder
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
    settings["control"] = False
    recipe = recipe_from_settings(settings)
    first = opened(recipe)
    assert first == tmp_path / "runs" / "compare" / "compare"
    assert opened(replace(recipe, jobs=3)) == first
    assert opened(replace(recipe, bad="repair")) == first  # of what is as it should be
    assert opened(read_recipe(first / "recipe.yaml", {})) == first
    for other in ({"epochs": 3}, {"num_heads": 2}):
        assert opened(recipe_from_settings({**settings, **other})) != first
    swapped = replace(recipe, arms=dict(reversed(recipe.arms.items())), primary="baseline")
    assert opened(swapped).name == "compare-4"  # another baseline
    assert opened(recipe) == first
    assert len(list(first.parent.iterdir())) == 4  # one for what is trained, and nothing else
    saved = yaml.safe_load((first / "recipe.yaml").read_text())
    assert saved["seeds"] == [0, 1]
    assert opened(replace(recipe, seeds=(0, 1, 2))) == first
    assert yaml.safe_load((first / "recipe.yaml").read_text())["seeds"] == [0, 1, 2]


def test_open_folder__is_the_same_for_another_plan_of_the_same_runs(data):
    """Margin, primary, split and seeds change nothing that is trained; the plan is declared anew."""
    data.write_text(data.read_text() + "test: images/train\n")
    settings = {"model": "demo-baseline.yaml", "at": "neck", "data": str(data), "seeds": (0, 1)}
    first = opened(recipe_from_settings(settings))
    others = ({"seeds": (4, 5)}, {"margin": 0.02}, {"primary": "control"}, {"split": "test"}, {})
    for other in others:
        assert opened(recipe_from_settings({**settings, **other})) == first
    plans = [each.plan for each in read_declarations(first)]
    assert [[key for key in each if each[key] != plans[0][key]] for each in plans] == [
        [],
        ["seeds"],
        ["margin"],
        ["primary"],
        ["split", "inputs"],
        [],
    ]
    assert opened(recipe_from_settings({**settings, "device": "cpu", "workers": 1, "batch": 16})) == first
    image = next((data.parent / "images" / "train").glob("*.png"))
    test = json.loads((first / "inputs.json").read_text())
    assert test["data test"] == test["data train"]  # the same images by another name
    image.write_bytes(image.read_bytes() + b"\n")
    assert opened(recipe_from_settings(settings)) != first


def test_open_folder__of_what_was_begun(data, monkeypatch):
    """With other code of a block since, too, which is a new comparison when something is to be trained."""
    recipe = recipe_from_settings({"model": "demo-baseline.yaml", "at": "neck", "data": str(data)})
    with pytest.raises(ConfigError, match="no comparison with this recipe"), open_folder(prepare(recipe), begun=True):
        pass
    assert not Path("runs", "compare").exists()
    monkeypatch.setattr(folder, "fingerprint", lambda plan: {**fingerprint(plan), "source of Own": "1"})
    first = opened(recipe)
    monkeypatch.setattr(folder, "fingerprint", lambda plan: {**fingerprint(plan), "source of Own": "2"})
    with open_folder(prepare(recipe), begun=True) as found:
        assert found == first
    assert json.loads((first / "inputs.json").read_text())["source of Own"] == "1"
    assert len(read_declarations(first)) == 1
    assert opened(recipe).name == "compare-2"


def test_open_folder__refuses_a_damaged_record_before_training(data):
    recipe = recipe_from_settings({"model": "demo-baseline.yaml", "at": "neck", "data": str(data)})
    (opened(recipe) / "looks.json").write_text("[")
    with pytest.raises(ConfigError, match="damaged"):
        opened(recipe)


def test_open_folder__of_a_model_that_is_downloaded_when_it_is_prepared(data, tmp_path, monkeypatch):
    """The recipe has its name, and the folder its path; the second call finds it."""
    kept = (shipped("weights") / "demo-baseline.pt").read_bytes()

    def download(name: str) -> Path:
        (tmp_path / name).write_bytes(kept)
        return tmp_path / name

    monkeypatch.setattr("yolo_mha.engine.model.fetched", download)
    settings = {"model": "yolo11n.pt", "at": "neck", "data": str(data), "control": False}
    first = opened(recipe_from_settings(settings))
    assert opened(recipe_from_settings(settings)) == first
    assert [p.name for p in first.parent.iterdir()] == ["compare"]


def test_open_folder__refuses_a_recipe_that_is_never_the_one_that_was_written(data, tmp_path):
    recipe = recipe_from_settings({"model": "demo-baseline.yaml", "at": "neck", "data": str(data), "box": math.nan})
    with pytest.raises(ConfigError, match="recipe cannot be kept") as caught:
        opened(recipe)
    assert caught.value.given == "train"
    assert not list((tmp_path / "runs" / "compare").iterdir())


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


BLOCK = """
import torch
import yolo_mha

@yolo_mha.register
class Fixed(torch.nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.c = torch.nn.Conv2d(dim, dim, 1)

    def forward(self, x):
        return x + 0 * self.c(x)
"""


def test_open_folder__is_a_new_one_for_another_source_of_a_block(data, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(registry, "_blocks", dict(registry._blocks))
    monkeypatch.syspath_prepend(str(tmp_path))
    file = tmp_path / "fixed_block.py"
    file.write_text(BLOCK)
    importlib.import_module("fixed_block")
    settings = {"model": "demo-baseline.yaml", "at": "neck", "block": "Fixed", "control": False, "data": str(data)}
    first = opened(recipe_from_settings(settings))
    assert yaml.safe_load((first / "recipe.yaml").read_text())["blocks"] == [str(file)]
    assert opened(read_recipe(first / "recipe.yaml", {})) == first
    file.write_text(BLOCK.replace("0 *", "5 *"))
    assert opened(recipe_from_settings(settings)).name == "compare-2"
    assert "it differs in source of Fixed" in caplog.text
    file.write_text(BLOCK)
    assert opened(recipe_from_settings(settings)) == first


def test_open_folder__is_for_one_at_a_time(data):
    recipe = recipe_from_settings({"model": "demo-baseline.yaml", "at": "neck", "data": str(data)})
    with open_folder(prepare(recipe)) as folder:
        with pytest.raises(ConfigError, match="Another process") as refused:
            opened(recipe)
        assert refused.value.given.startswith(f"{folder}, locked by process {os.getpid()} on ")
        assert "name=" in refused.value.fix
        assert opened(replace(recipe, name="other")) != folder
    assert opened(recipe) == folder


def test_open_folder__goes_where_project_says(data, tmp_path):
    recipe = recipe_from_settings({"model": "demo-baseline.yaml", "at": "neck", "data": str(data), "name": "mine"})
    with open_folder(prepare(recipe), "elsewhere") as folder:
        assert folder == tmp_path / "elsewhere" / "mine"
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"), open_folder(prepare(recipe), "file"):
        pass


def test_open_folder__is_the_same_with_another_table_of_groups(data, tmp_path, monkeypatch):
    (tmp_path / "g.csv").write_text("0000.png,a\n0001.png,b\n")
    settings = {"model": "demo-baseline.yaml", "at": "neck", "data": str(data), "group": "g.csv"}
    recipe = recipe_from_settings(settings)
    assert recipe.group == str((tmp_path / "g.csv").resolve())
    first = opened(recipe)
    assert opened(read_recipe(first / "recipe.yaml", {})) == first
    (tmp_path / "g.csv").write_text("0000.png,b\n0001.png,a\n")
    assert opened(recipe) == first  # what is trained does not depend on it; what may be concluded does, see looks


@pytest.mark.parametrize(
    ("group", "note"),
    [
        (r"(\d)\.", "2 groups (2 images) are too few for an interval"),
        ("image", None),
        (None, None),
    ],
)
def test_prepare__notes_groups_that_are_too_few(data, group, note):
    settings = {"model": "demo-baseline.yaml", "at": "neck", "data": str(data), "group": group}
    notes = prepare(recipe_from_settings(settings)).data_notes
    assert notes == [] if note is None else note in notes[0]


def test_prepare__proposes_groups_for_names_like_those_of_frames(data):
    for kind, suffix in (("images", "png"), ("labels", "txt")):
        for split in ("train", "val"):
            for file in sorted((data.parent / kind / split).glob(f"*.{suffix}")):
                for copy in range(2):
                    file.with_name(f"street{file.stem}_{copy}.{suffix}").write_bytes(file.read_bytes())
                file.unlink()
    settings = {"model": "demo-baseline.yaml", "at": "neck", "data": str(data)}
    (note,) = prepare(recipe_from_settings(settings)).data_notes
    assert "4 of 4 images, such as street0000_0.png, form 2 sets" in note
    assert prepare(recipe_from_settings({**settings, "group": "image"})).data_notes == []
