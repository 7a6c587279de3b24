import sys
from pathlib import Path

import pytest
import torch
import yaml

import yolo_mha
from yolo_mha import registry
from yolo_mha.engine.settings import parse
from yolo_mha.errors import CheckpointError, ConfigError, ModelError, UnsupportedTaskError
from yolo_mha.evaluation.plan import build_arms, prepare
from yolo_mha.evaluation.recipe import Arm, Control, read_recipe, recipe_from_settings
from yolo_mha.paths import shipped
from yolo_mha.surgery.insertion import Insertion

DEMO = shipped("weights") / "demo-baseline.pt"
TWO = "data: x.yaml\narms: {a: yolov8n.yaml, b: yolov8n-mha-p5.yaml}\n"


def written(text: str) -> Path:
    path = Path("r.yaml")
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("arms: [", "not readable"),
        ("- 1", "holds no settings"),
        ("data: x.yaml\narmz: {}", "did you mean arms"),
        ("data: x.yaml", "lacks 'arms'"),
        ("data: x.yaml\narms: {a: x}\ntrain: [1]", "is not a mapping"),
        (f"{TWO}train: {{seeds: 3}}", "is not a training setting"),
        (f"{TWO}train: {{data: other.yaml}}", "is not a training setting"),
        ("data: x.yaml\narms: {a: yolov8n.yaml, b: {model: yolov8n.yaml, block: S2Attention}}", "need at"),
        (f"{TWO}blocks: [1]", "blocks has an unusable value"),
        (f"{TWO}blocks: {{a: b}}", "blocks has an unusable value"),
        ("[" * 3000, "more than 50 deep"),
        ("data: x.yaml\narms: {a: yolov8n.yaml}", "at least two arms"),
        (TWO + "train: {epoch: 1}", "did you mean epochs"),
        (TWO + "jobs: 0", "positive integer"),
        (TWO + "looks: 2", "looks has an unusable value"),
        (TWO + "seeds: [0, 1, 2]\nlooks: 3", "looks has an unusable value"),
        (TWO + "seeds: [0, 1, 2, 3, 4, 5, 6]\nlooks: [5, 3]", "looks has an unusable value"),
        (TWO + "metric: mAP", "No such metric"),
        (TWO + "contrasts: [nothing]", "No arm 'nothing'"),
        (TWO + "contrasts: [b]", "named twice"),
        (TWO + "contrasts: 5", "contrasts has an unusable value"),
        (TWO + "contrasts: [5]", "contrasts has an unusable value"),
        (TWO + "contrasts: 'b vs a: APsmall;'", "contrasts has an unusable value"),
        (TWO + "metric: 7", "No such metric"),
        (TWO + "keep_best: sometimes", "True or False"),
        (TWO + "train: {resume: true}", "itself, for each run"),
        (TWO + "train: {seed: 1}", "seeds=0,1,2"),
        (TWO + "train: {batch: -1}", "one batch size"),
        (TWO + "train: {time: 1}", "same number of epochs"),
        (TWO + "seeds: [0, 0]", "different whole numbers"),
        (TWO + "seeds: [-1]", "different whole numbers"),
        (TWO + "seeds: []", "different whole numbers"),
        (TWO + "seeds: 1.5", "different whole numbers"),
        (TWO + "seeds: true", "different whole numbers"),
        (TWO + "seeds: three", "different whole numbers"),
        (TWO + "primary: a", "expected: *one of b"),
        (TWO + "primary: c", "expected: *one of b"),
        (TWO + "split: train", "expected: *val or test"),
        (TWO + "margin: 0", "above 0 and below 1"),
        (TWO + "margin: 1", "above 0 and below 1"),
        (TWO + "margin: true", "above 0 and below 1"),
        (
            "data: x.yaml\narms:\n  a: yolov8n.yaml\n  b: yolov8s.yaml\n  b: yolov8m.yaml",
            "'b' comes twice .*\n.*lines 4 and 5",
        ),
        (TWO + "train: {epochs: 1, lr0: 0.1, epochs: 2}", "'epochs' comes twice"),
        ("data: x.yaml\narms: {a: yolov8n.yaml, b: {match: a}}", "that can have a control"),
        ("data: x.yaml\narms: {a: {match: b}, b: yolov8n.yaml}", "that can have a control"),
        ("data: x.yaml\narms: {a: yolov8n.yaml, b: {match: b}}", "that can have a control"),
        ("data: x.yaml\narms: {a: yolov8n.yaml, b: {match: [1]}}", "that can have a control"),
        ("data: x.yaml\narms: {a: yolov8n.yaml, b: {model: yolov8n.yaml, att: P5}}", "did you mean at"),
        ("data: x.yaml\narms: {a: yolov8n.yaml, b: }", "has no model"),
    ],
)
def test_recipe__says_what_is_wrong(content, words):
    with pytest.raises(ConfigError, match=words):
        build_arms(read_recipe(written(content), {}))


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"model": "yolov8n.yaml", "at": "P5", "data": "x", "pretrained": "a.pt"}, CheckpointError),
        ({"model": "yolov8n.yaml", "at": "P5", "data": "x", "pretrained": str(DEMO)}, ModelError),
        (
            {"model": "demo-baseline.yaml", "attention": "yolov8n.yaml", "data": "x", "pretrained": str(DEMO)},
            ModelError,
        ),
        ({"model": "yolov8n.yaml", "attention": "yolov8n-mha-p5.yaml", "at": "P5", "data": "x"}, ConfigError),
        ({"model": "yolov8n.yaml", "at": "P9", "data": "x"}, ConfigError),
        ({"model": "yolov8n.yaml", "at": "P5", "freeze_base": -1, "data": "x"}, ConfigError),
        ({"model": "yolov8n.yaml", "attention": "yolov8n.yaml", "freeze_base": 1, "data": "x"}, ConfigError),
        ({"model": "yolov8n.yaml", "attention": "yolov8n-mha-p5.yaml", "num_heads": 4, "data": "x"}, ConfigError),
        ({"model": "yolov8n.yaml", "at": "P5", "num_heads": 7, "data": "x"}, ModelError),
        ({"model": "yolov8n.yaml", "at": "P5", "num_haeds": 4, "data": "x"}, ConfigError),
        ({"model": "yolov8n.yaml", "attention": "yolov8n-mha-p5.yaml", "data": "x", "imgsz": [64, 96]}, ConfigError),
        ({"model": "yolov8n.yaml", "attention": "nowhere.pt", "data": "x"}, CheckpointError),
        ({"model": "yolov8n.yaml", "attention": "yolov8n-mha-p5.yaml", "data": "x", "name": "../up"}, ConfigError),
        ({}, ConfigError),
        ({"model": "yolov8n.yaml"}, ConfigError),
        ({"model": "yolov8n.yaml", "attention": "yolov8n-mha-p5.yaml"}, ConfigError),
        ({"model": "yolov8n.yaml", "attention": "nowhere.yaml", "data": "x.yaml"}, ModelError),
        ({"model": "yolov8n-seg.yaml", "attention": "yolov8n-seg.yaml", "data": "x.yaml"}, UnsupportedTaskError),
        ({"model": "yolov8n.yaml", "at": "P5", "data": "x", "control": "nowhere.yaml"}, ModelError),
    ],
)
def test_settings__are_refused(settings, error):
    with pytest.raises(error):
        build_arms(recipe_from_settings(settings))


def test_read_recipe__missing():
    with pytest.raises(ConfigError, match="not found"):
        read_recipe("nowhere.yaml", {})


@pytest.mark.parametrize(("word", "seeds"), [("0,1,2", (0, 1, 2)), ("3", (3,)), ("[5,4]", (5, 4))])
def test_seeds__as_words_and_in_yaml(word, seeds):
    settings = parse(["model=yolov8n.yaml", "at=P5", "data=x.yaml", f"seeds={word}"])
    assert recipe_from_settings(settings).seeds == seeds
    assert read_recipe(written(f"{TWO}seeds: {word}"), {}).seeds == seeds
    assert read_recipe(written(TWO), parse([f"seeds={word}"])).seeds == seeds


def test_settings__make_a_control_where_they_insert():
    plan = recipe_from_settings({"model": "yolov8n.yaml", "at": "P5", "num_heads": 4, "data": "x.yaml", "epochs": 5})
    assert plan.arms == {
        "baseline": Arm("yolov8n.yaml"),
        "attention": Arm("yolov8n.yaml", Insertion(("P5",), options={"num_heads": 4})),
        "control": Control("attention"),
    }
    assert (plan.seeds, plan.primary, plan.margin, plan.train) == ((0, 1, 2), "attention", 0.01, {"epochs": 5})
    build_arms(plan)
    assert str(plan.arms["attention"]) == "yolov8n.yaml at=P5 num_heads=4"
    assert "attention" in str(plan.arms["control"])


@pytest.mark.parametrize(
    ("block", "arm"),
    [
        ({"block": "ConvBlock", "hidden": 64}, "ConvBlock"),
        ({"block": "S2Attention"}, "attention"),
        ({"block": "SpatialMHABlock"}, "attention"),
    ],
)
def test_settings__name_the_arm_after_what_it_is(block, arm):
    plan = recipe_from_settings({"model": "yolov8n.yaml", "at": "P5", "data": "x.yaml", **block})
    assert list(plan.arms) == ["baseline", arm, "control"]
    assert (plan.primary, plan.arms["control"]) == (arm, Control(arm))
    build_arms(plan)


@pytest.mark.parametrize(
    ("settings", "control"),
    [
        ({"at": "P5", "control": False}, None),
        ({"at": "P5", "control": "yolov8s.yaml"}, Arm("yolov8s.yaml")),
        ({"attention": "yolov8n-mha-p5.yaml"}, None),
        ({"attention": "yolov8n-mha-p5.yaml", "control": True}, Control("attention")),
    ],
)
def test_settings__say_what_the_control_is(settings, control):
    plan = recipe_from_settings({"model": "yolov8n.yaml", "data": "x.yaml", **settings})
    assert plan.arms.get("control") == control
    build_arms(plan)


def test_saved_recipe__gives_the_same_plan(tmp_path, monkeypatch):
    Path("mine.yaml").write_text("nc: 1\nbackbone: [[-1, 1, Conv, [32, 3, 2]]]\nhead: [[[0], 1, Detect, [nc]]]")
    words = ["model=mine.yaml", "at=layer:0", "data=x.yaml", "seeds=4,2", "margin=0.02", "jobs=2", "freeze=0", "name=n"]
    plan = recipe_from_settings(parse(words))
    path = tmp_path / "other" / "recipe.yaml"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump(plan.as_dict(), sort_keys=False))
    monkeypatch.chdir(path.parent)  # from another folder too
    again = read_recipe("recipe.yaml", {})
    assert again == plan
    build_arms(again)


def test_recipe__imports_no_blocks_by_itself(tmp_path, monkeypatch):
    (tmp_path / "strange.py").write_text("open('ran', 'w')")
    for blocks in ("strange", str(tmp_path / "strange.py")):
        with pytest.raises(ConfigError, match="a recipe cannot import code") as refused:
            read_recipe(written(f"{TWO}blocks: [{blocks}]"), {})
        assert f"add blocks={blocks} to the command" in refused.value.fix
    with pytest.raises(ConfigError, match="a recipe cannot import code"):
        read_recipe(written(f"{TWO}blocks: strange"), {})
    assert not Path("ran").exists()
    monkeypatch.setitem(sys.modules, "strange", sys)
    assert read_recipe(written(f"{TWO}blocks: [{tmp_path}/strange.py]"), {}).blocks == (f"{tmp_path}/strange.py",)


def test_settings__that_are_none_are_as_not_given():
    settings = {"model": "yolov8n.yaml", "at": "P5", "data": "x.yaml"}
    nothing = {"seeds": None, "margin": None, "primary": None, "control": None, "attention": None, "name": None}
    assert recipe_from_settings({**settings, **nothing}) == recipe_from_settings(settings)
    path = written(f"{TWO}seeds: [5]\nmargin: 0.1")
    assert read_recipe(path, {"seeds": None, "margin": None}) == read_recipe(path, {})


def test_seeds__as_a_range():
    assert recipe_from_settings({"model": "yolov8n.yaml", "at": "P5", "data": "x", "seeds": range(5)}).seeds == (
        0, 1, 2, 3, 4,
    )  # fmt: skip
    with pytest.raises(ConfigError, match="different whole numbers"):
        recipe_from_settings({"model": "yolov8n.yaml", "at": "P5", "data": "x", "seeds": range(0)})


def test_demo__is_one_seed_with_a_matched_control():
    plan = read_recipe("demo.yaml", {})
    assert plan.seeds == (0,)
    assert plan.is_control("convolution", of="attention")
    assert all(arm.extends for arm in build_arms(plan).values())


def test_checkpoint__with_the_weights_of_the_baseline_is_an_arm(tmp_path):
    yolo_mha.insert(DEMO, "neck", num_heads=2, out=tmp_path / "same.pt")
    build_arms(recipe_from_settings({"model": DEMO, "attention": tmp_path / "same.pt", "data": "x"}))


def test_checkpoint__with_weights_of_its_own_is_refused(tmp_path):
    yolo_mha.insert(DEMO, "neck", num_heads=2, out=tmp_path / "other.pt")
    content = torch.load(tmp_path / "other.pt", weights_only=False)
    torch.nn.init.zeros_(content["model"].model[0].conv.weight)
    torch.save(content, tmp_path / "other.pt")
    for baseline in (DEMO, "demo-baseline.yaml"):
        plan = recipe_from_settings({"model": baseline, "attention": tmp_path / "other.pt", "data": "x"})
        with pytest.raises(ConfigError, match="starts from other weights than the baseline"):
            build_arms(plan)
    settings = {"model": "demo-baseline.yaml", "attention": tmp_path / "other.pt", "data": "x", "pretrained": str(DEMO)}
    build_arms(recipe_from_settings(settings))  # the weights are those of `pretrained` then


def test_block_of_the_calling_script__is_refused(monkeypatch):
    monkeypatch.setattr(registry, "_blocks", dict(registry._blocks))
    block = type("InScript", (torch.nn.Identity,), {"__module__": "__main__"})
    with pytest.warns(UserWarning, match="only this script can open its checkpoints"):
        yolo_mha.register(block)
    settings = {"model": "demo-baseline.yaml", "at": "neck", "block": "InScript", "control": False, "data": "x"}
    with pytest.raises(ConfigError, match="defined in the calling script"):
        build_arms(recipe_from_settings(settings))


def test_match__may_name_an_arm_that_yaml_reads_as_a_number():
    arms = "arms: {1: yolov8n.yaml, 2: {model: yolov8n.yaml, at: P5}, 3: {match: 2}}"
    assert read_recipe(written(f"data: x.yaml\n{arms}"), {}).arms["3"] == Control("2")


def test_contrasts__of_a_class_with_a_semicolon_in_its_name():
    recipe = read_recipe(written(TWO + """contrasts: 'b: AP["x; y"]; b: APsmall'"""), {})
    assert [named.metric for named in recipe.named()] == ["AP", 'AP["x; y"]', "APsmall"]
    recipe = read_recipe(written(TWO + """contrasts: 'b: APsmall; b: AP[5" pipe]'"""), {})
    assert [named.metric for named in recipe.named()] == ["AP", "APsmall", 'AP[5" pipe]']


def test_metric__of_a_class_without_an_object_in_the_scored_images_is_refused(beacons, tmp_path):
    content = yaml.safe_load(beacons.read_text())
    names = {**content["names"], len(content["names"]): "lane"}
    data = tmp_path / "more.yaml"
    data.write_text(yaml.safe_dump({**content, "names": names, "path": str(beacons.parent)}))
    recipe = read_recipe(
        written(f"data: {data}\nmetric: AP[lane,{names[0]}]\narms: {{a: demo-baseline.yaml, b: demo-mha.yaml}}"), {}
    )
    with pytest.raises(ConfigError, match="The val images hold no object of lane"):
        prepare(recipe)


def test_primary__is_no_matched_control_unless_it_is_named():
    arms = {"a": "yolov8n.yaml", "control": {"match": "b"}, "b": {"model": "yolov8n.yaml", "at": "P5"}}
    path = written(yaml.safe_dump({"data": "x.yaml", "arms": arms}, sort_keys=False))
    assert read_recipe(path, {}).primary == "b"
    assert read_recipe(path, {"primary": "control"}).primary == "control"
