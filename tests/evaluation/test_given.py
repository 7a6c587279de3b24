import json
import re
from pathlib import Path

import pytest
import yaml

from yolo_mha.errors import ConfigError
from yolo_mha.evaluation.given import Given, chosen_baseline, read_runs
from yolo_mha.evaluation.recipe import Recipe, read_recipe, recipe_of_given


@pytest.fixture
def files(tmp_path) -> Path:
    """Predictions of two arms with two seeds, which hold different things, below the working directory."""
    for arm in ("baseline", "with-dash-2"):
        for seed in (0, 11):
            file = tmp_path / "runs" / f"{arm}-{seed}.json"
            file.parent.mkdir(exist_ok=True)
            file.write_text(json.dumps([arm, seed]))
    return tmp_path / "runs"


PATTERN = "runs/{arm}-{seed}.json"


def test_read_runs__of_a_pattern(files):
    (files / "baseline-x.json").write_text("no seed")
    (files / "baseline-12.json").mkdir()
    expected = {
        arm: Given("predictions", {seed: str(files / f"{arm}-{seed}.json") for seed in (0, 11)})
        for arm in ("baseline", "with-dash-2")
    }
    assert read_runs("predictions", PATTERN) == expected
    assert read_runs("predictions", f"./{PATTERN}") == expected
    assert read_runs("predictions", files / "{arm}-{seed}.json") == expected


def test_read_runs__of_a_pattern_with_a_name_twice_and_signs_of_a_glob(tmp_path):
    for arm in ("a", "b"):
        folder = tmp_path / "runs[1]" / arm
        folder.mkdir(parents=True)
        for name in (f"{arm}3.pt", f"other{arm}3.pt"):
            (folder / name).write_text(name)
    found = read_runs("models", "runs[1]/{arm}/{arm}{seed}.pt")
    assert {arm: list(own.files) for arm, own in found.items()} == {"a": [3], "b": [3]}


def test_read_runs__of_a_yaml_whose_paths_are_relative_to_it(files, monkeypatch, tmp_path):
    content = {arm: {seed: f"{arm}-{seed}.json" for seed in (0, 11)} for arm in ("with-dash-2", "baseline")}
    (files / "mine.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    found = read_runs("predictions", PATTERN)
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert read_runs("predictions", "../runs/mine.yaml") == found
    monkeypatch.chdir(files)
    assert read_runs("predictions", content) == found


@pytest.mark.parametrize(
    ("value", "problem", "said"),
    [
        ("runs/x-{seed}.json", "has no {arm}", "{arm} and {seed}"),
        ("runs/{arm}.json", "has no {seed}", "{arm} and {seed}"),
        ("runs/x.json", "has no {arm} and no {seed}", "YAML file"),
        ("none/{arm}-{seed}.json", "No file matches", "none/baseline-0.json"),
        ("nowhere.yaml", "is not a file", "nowhere.yaml"),
        ({"a": {0: "nowhere.json"}}, "file of a, seed 0, does not exist", "nowhere.json"),
        ({"a": ["runs/baseline-0.json"]}, "is not a mapping", "arm: {seed: path}"),
        ({"a": {"0": "runs/baseline-0.json"}}, "is not a mapping", "arm: {seed: path}"),
        ({"a": {}}, "is not a mapping", "arm: {seed: path}"),
        ({"a": {0: 5}}, "is not a path", "predictions of a, seed 0"),
    ],
)
def test_read_runs__refuses(files, value, problem, said):
    with pytest.raises(ConfigError, match=re.escape(problem)) as refused:
        read_runs("predictions", value)
    assert said in str(refused.value)


def test_read_runs__refuses_a_run_that_fits_twice(files):
    (files / "baseline-00.json").write_text("[]")
    with pytest.raises(ConfigError, match="Two files match baseline, seed 0") as refused:
        read_runs("predictions", PATTERN)
    assert "baseline-0.json" in refused.value.given
    assert "baseline-00.json" in refused.value.given


def test_chosen_baseline__is_never_guessed():
    runs = {name: Given("models", {0: name}) for name in ("one", "two", "three")}
    assert chosen_baseline(runs, "two", "one") == "two"
    for baseline, primary, said in ((None, "one", "baseline=NAME"), ("tow", "one", "two"), ("two", None, "one, three")):
        with pytest.raises(ConfigError, match=r"baseline is unknown|primary is missing") as refused:
            chosen_baseline(runs, baseline, primary)
        assert "arms: one, two, three" in refused.value.given
        assert said in refused.value.expected


def given(**settings) -> Recipe:
    return recipe_of_given({"predictions": PATTERN, "data": "x.yaml", **settings})


def test_recipe_of_given__is_the_same_when_it_is_read_again(files, tmp_path):
    found = given(margin=0.02, baseline="with-dash-2", metric="AP50")
    assert list(found.arms) == ["with-dash-2", "baseline"]
    assert (found.given, found.seeds, found.primary) == ("predictions", (0, 11), "baseline")
    (tmp_path / "saved.yaml").write_text(yaml.safe_dump(found.as_dict(), sort_keys=False))
    assert read_recipe("saved.yaml", {}) == found
    for override in ({"seeds": (0,)}, {"epochs": 3}, {"jobs": 2}, {"imgsz": 64}):
        with pytest.raises(ConfigError, match=f"does not take {next(iter(override))}"):
            read_recipe("saved.yaml", override)


@pytest.mark.parametrize(
    "other",
    [
        {"epochs": 3}, {"at": "P5"}, {"attention": "a.yaml"}, {"control": False}, {"seeds": (0, 11)}, {"looks": (3,)},
        {"jobs": 2}, {"dry_run": True}, {"conclude": True}, {"imgsz": 640}, {"num_heads": 4}, {"keep_best": True},
    ],
)  # fmt: skip
def test_recipe_of_given__refuses_settings_of_training(files, other):
    with pytest.raises(ConfigError, match=f"compare predictions= does not take {next(iter(other))}") as refused:
        given(**other)
    assert "margin" in refused.value.expected


@pytest.mark.parametrize("other", [{"model": "yolov8n.pt"}, {"recipe": "demo.yaml"}, {"models": PATTERN}])
def test_recipe_of_given__takes_one_kind_of_runs(files, other):
    with pytest.raises(ConfigError, match="exactly one of these settings") as refused:
        given(**other)
    assert next(iter(other)) in refused.value.given


def test_recipe_of_given__needs_data(files):
    with pytest.raises(ConfigError, match="data is missing"):
        given(data=None)


def test_read_recipe__mixes_no_given_and_trained_arms(files):
    arms = {"baseline": "yolov8n.yaml", "given": {"predictions": {0: "runs/baseline-0.json"}}}
    Path("mixed.yaml").write_text(yaml.safe_dump({"data": "x.yaml", "arms": arms}, sort_keys=False))
    with pytest.raises(ConfigError, match="different kinds"):
        read_recipe("mixed.yaml", {})
