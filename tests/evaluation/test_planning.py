import json
import math
import re
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

import yolo_mha
from yolo_mha.errors import ConfigError, DataError
from yolo_mha.evaluation.plan import prepare
from yolo_mha.evaluation.planning import draw_power, find_power
from yolo_mha.evaluation.recipe import Arm, Recipe
from yolo_mha.scoring.intervals import paired_interval
from yolo_mha.scoring.power import Spread, power, seeds_needed
from yolo_mha.scoring.truth import read_truth


@pytest.fixture(scope="module")
def plan(beacons, tiny):
    """A comparison of the demo's models with three seeds, scored on eight images."""
    arms = {"baseline": Arm("demo-baseline.yaml"), "attention": Arm("demo-mha.yaml")}
    return prepare(Recipe("x", str(beacons), arms, tiny))


def write_pilot(folder: Path, seeds: int = 3, images: int = 32, arm: str = "attention") -> Path:
    """Write what `find_power` reads of a comparison, and return its interval."""
    rng = np.random.default_rng(0)
    effects = rng.normal(0.0, 0.01, (seeds, 1)) + rng.normal(0.0, 0.03, (1, images))
    weights = rng.multinomial(images, np.full(images, 1 / images), size=400).T / images
    interval = paired_interval(effects.mean(axis=1), effects @ weights, images)
    contrast = {"arm": arm, "against": "baseline", "effects": {"AP": asdict(interval), "APsmall": None}}
    folder.mkdir(exist_ok=True)
    (folder / "compare.json").write_text(json.dumps({"contrasts": [contrast]}))
    return interval


def test_find_power__of_a_pilot_scales_the_images(plan, tmp_path):
    interval = write_pilot(tmp_path / "pilot")
    found = find_power(plan, pilot=tmp_path / "pilot")
    held = sum(len(sample.classes) > 0 for sample in plan.samples["val"])
    assert found.tested == f"{held} images"
    assert found.spread.sd_seeds == interval.sd_seeds
    assert found.spread.se_images == pytest.approx(interval.se_images * math.sqrt(32 / held))
    assert found.sd_upper == pytest.approx(2.117 * interval.sd_seeds, rel=1e-3)  # the square root of 2 / 0.446
    assert any(f"32 images, scaled to {held}" in note for note in found.notes)
    assert any("too few for an interval" in note for note in found.notes)
    assert "attention - baseline, 3 seeds" in found.source
    assert find_power(plan, pilot=tmp_path / "pilot" / "compare.json") == found


def test_find_power__counts_the_images_with_objects_of_the_size(plan):
    truth = read_truth(plan.dataset, "val", plan.samples["val"]).coco
    with_small = len({a["image_id"] for a in truth["annotations"] if a["bbox"][2] * a["bbox"][3] <= 32**2})
    assert with_small > 0
    for metric, images in (("APsmall", with_small), ("APlarge", 0)):
        found = find_power(replace(plan, recipe=replace(plan.recipe, metric=metric)), sd_seeds=0.01)
        assert found.tested == f"{images} images"


def test_find_power__of_stated_numbers(plan):
    found = find_power(plan, sd_seeds=0.01)
    own = next(point for point in found.points if point.seeds == 3)
    spread = Spread(0.01, 0.0, found.spread.df)
    assert own.finds == own.finds_upper == power(spread, 3, 0.01)
    assert found.needed == found.needed_upper == seeds_needed(spread, 0.01)
    assert [point.finds for point in found.points] == sorted(point.finds for point in found.points)
    first, second, third, needed = found.sentences(plan.recipe)
    assert first.endswith(f"a true difference of 0.01 in AP is found with probability {own.finds:.2f}.")
    assert f"{own.smallest_detectable:.3f} is found with probability 0.8" in second
    assert "one of 0.01 or more is excluded" in third
    assert needed == f"A difference of 0.01 takes about {found.needed} seeds."
    assert "se_images is not given" in found.notes[0]


def test_find_power__says_where_no_number_of_seeds_suffices(plan):
    found = find_power(plan, sd_seeds=0.0, se_images=0.05)
    assert found.needed is None
    assert "Even 30 seeds find only differences of" in found.sentences(plan.recipe)[-1]
    more = replace(plan, recipe=replace(plan.recipe, seeds=list(range(40))))
    said = find_power(more, sd_seeds=0.0, se_images=0.05).sentences(more.recipe)
    least = re.search("A difference of (.+) is found", said[1]).group(1)
    assert said[-1].startswith(f"Even 40 seeds find only differences of {least} or more")


def test_find_power__takes_the_last_look(plan, tmp_path):
    write_pilot(tmp_path / "pilot")
    looked = replace(plan, recipe=replace(plan.recipe, seeds=tuple(range(10)), looks=(3,)))
    plain = replace(plan, recipe=replace(plan.recipe, seeds=tuple(range(10))))
    with_looks, without = (find_power(p, pilot=tmp_path / "pilot").points for p in (looked, plain))
    assert all(a.finds < b.finds for a, b in zip(with_looks, without, strict=True))
    few, enough = 0, 0
    for sd in (
        0.008,
        0.009,
        0.0098,
        0.011,
    ):  # with looks, a number of seeds is enough only where it reaches 0.8 with them
        found = find_power(looked, sd_seeds=sd, se_images=0.0005)
        own = next(point for point in found.points if point.seeds == 10)
        assert (found.needed is not None and found.needed <= 10) == (own.finds >= 0.8)
        few, enough = few + (own.finds < 0.8), enough + (own.finds >= 0.8)
    assert few
    assert enough


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"sd_seeds": -1.0}, "out of range"),
        ({"sd_seeds": "much"}, "out of range"),
        ({"sd_seeds": 0.01, "se_images": 2}, "out of range"),
        ({"se_images": 0.01}, "needs sd_seeds"),
        ({"pilot": "pilot", "sd_seeds": 0.01}, "pilot cannot be combined"),
    ],
)
def test_find_power__refuses_other_numbers(plan, settings, match):
    with pytest.raises(ConfigError, match=match):
        find_power(plan, **settings)


def test_find_power__refuses_what_is_no_pilot(plan, tmp_path):
    with pytest.raises(DataError, match="missing"):
        find_power(plan, pilot=tmp_path)
    for content in ("[]", '{"contrasts": 3}', '{"contrasts": [{"arm": "a"}]}'):
        (tmp_path / "compare.json").write_text(content)
        with pytest.raises(ConfigError, match="not a comparison"):
            find_power(plan, pilot=tmp_path)
    write_pilot(tmp_path)
    file = tmp_path / "compare.json"
    file.write_text(re.sub(r'"sd_seeds": [0-9.e-]+', '"sd_seeds": "much"', file.read_text()))
    with pytest.raises(ConfigError, match="not a comparison"):
        find_power(plan, pilot=tmp_path)
    write_pilot(tmp_path, seeds=2)
    with pytest.raises(ConfigError, match="cannot tell how much AP varies"):
        find_power(plan, pilot=tmp_path)
    write_pilot(tmp_path)
    with pytest.raises(ConfigError, match="how much APsmall varies"):
        find_power(replace(plan, recipe=replace(plan.recipe, metric="APsmall")), pilot=tmp_path)


def test_find_power__takes_the_pilots_own_contrast_where_arms_have_other_names(plan, tmp_path):
    write_pilot(tmp_path, arm="p5-rope")
    assert "p5-rope - baseline" in find_power(plan, pilot=tmp_path).source


def test_draw_power__writes_a_picture(plan, tmp_path):
    draw_power(find_power(plan, sd_seeds=0.01), plan.recipe, tmp_path / "power.png")
    assert (tmp_path / "power.png").read_bytes().startswith(b"\x89PNG")


def test_estimate__refuses_a_wrong_pilot_before_it_measures(beacons, tiny):
    with pytest.raises(DataError, match="pilot file is missing"):
        yolo_mha.estimate(model="demo-baseline.yaml", at="neck", data=str(beacons), pilot="nowhere", **tiny)
    assert not Path("runs", "compare").exists()
