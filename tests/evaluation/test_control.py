import pytest
import torch
import yaml

import yolo_mha
from yolo_mha.errors import ConfigError
from yolo_mha.evaluation.plan import build_arms
from yolo_mha.evaluation.recipe import Recipe, read_arm, read_recipe, recipe_from_settings
from yolo_mha.registry import build
from yolo_mha.surgery.graft import renamed
from yolo_mha.surgery.transfer import align


def arms(attention: dict, baseline: str = "yolov8n.yaml") -> dict:
    return {"baseline": {"model": baseline}, "attention": attention, "control": {"match": "attention"}}


def built_arms(attention: dict, baseline: str) -> dict:
    words = arms(attention, baseline)
    return build_arms(Recipe("x", "x.yaml", {name: read_arm(name, arm) for name, arm in words.items()}))


@pytest.mark.parametrize(
    ("attention", "count"),
    [
        ({"model": "yolov8n.yaml", "at": "P3,P4,P5"}, 3),  # 64, 128 and 256 channels
        pytest.param(
            {"model": "yolov8s.yaml", "at": "P5", "mlp_ratio": 2.0, "gate_init": 0.5}, 1, marks=pytest.mark.slow
        ),
        ({"model": "yolov8n.yaml", "at": "P4", "block": "S2Attention"}, 1),
        ({"model": "yolov8n.yaml", "at": "P5", "block": "CrossScaleMHA", "context": "P3"}, 1),
        pytest.param({"model": "yolo11n-mha-p5.yaml"}, 1, marks=pytest.mark.slow),
    ],
)
def test_control__has_as_many_parameters_at_each_place(attention, count):
    baseline = attention["model"].replace("-mha-p5", "")
    built = built_arms(attention, baseline)
    base, arm, control = (built[name].network for name in built)
    assert len(built["control"].substitutes) == count
    for match in built["control"].substitutes:
        block, own = arm.model[match.row], control.model[match.row]
        assert type(own) is yolo_mha.ConvBlock
        counts = [sum(p.numel() for p in layer.parameters()) for layer in (block, own)]
        assert [match.parameters, match.own] == counts
        assert abs(counts[1] / counts[0] - 1) <= 0.02
        assert own.gate.weight[0] == attention.get("gate_init", 0)
    places = align(base.yaml, control.yaml)  # everything else is the baseline
    state = control.state_dict()
    assert all(state[renamed(k, places)].shape == v.shape for k, v in base.state_dict().items())
    assert all(arm_built.extends for arm_built in built.values())
    assert control.eval()(torch.zeros(1, 3, 64, 64))[0].shape == base.eval()(torch.zeros(1, 3, 64, 64))[0].shape


def test_control__repeats_as_the_block_does(tmp_path):
    content = yaml.safe_load(
        "nc: 2\nbackbone: [[-1, 1, Conv, [32, 3, 2]], [-1, 3, SpatialMHABlock, []]]\nhead: [[[1], 1, Detect, [nc]]]"
    )
    (tmp_path / "m.yaml").write_text(yaml.safe_dump(content))
    content["backbone"].pop()
    (tmp_path / "b.yaml").write_text(yaml.safe_dump({**content, "head": [[[0], 1, "Detect", ["nc"]]]}))
    built = built_arms({"model": "m.yaml"}, "b.yaml")
    layers = [built[name].network.model[1] for name in ("attention", "control")]
    assert [len(layer) for layer in layers] == [3, 3]
    assert abs(built["control"].substitutes[0].difference) <= 0.02
    assert build(built["control"].network.yaml)


@pytest.mark.parametrize(
    ("attention", "words"),
    [
        ({"model": "narrow.yaml", "at": "layer:0", "num_heads": 1}, "to within 2%"),
        ({"model": "yolov8n.yaml", "at": "P5"}, "differs from the baseline"),
        ({"model": "narrow.yaml"}, "has no blocks"),
    ],
)
def test_control__that_cannot_be_matched_is_refused(tmp_path, attention, words):
    (tmp_path / "narrow.yaml").write_text("nc: 1\nbackbone: [[-1, 1, Conv, [8, 3, 2]]]\nhead: [[[0], 1, Detect, [nc]]]")
    recipe = {"data": "x.yaml", "arms": arms(attention, "narrow.yaml")}
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    with pytest.raises(ConfigError, match=words):
        build_arms(read_recipe(tmp_path / "r.yaml", {}))


def test_control__that_would_train_other_rows_first_is_refused():
    inserted = {"model": "demo-mha.yaml", "at": "neck", "num_heads": 2, "freeze_base": 1, "data": "x"}
    with pytest.raises(ConfigError, match="would train other rows at first"):
        build_arms(recipe_from_settings(inserted))
    build_arms(recipe_from_settings({**inserted, "control": False}))
    build_arms(recipe_from_settings({**inserted, "model": "demo-baseline.yaml"}))
