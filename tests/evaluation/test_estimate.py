import json

import pytest
from rich.console import Console

import yolo_mha
from yolo_mha.evaluation import estimate as module
from yolo_mha.evaluation.estimate import ArmEstimate, Estimate, duration, estimate_table, measure_plan
from yolo_mha.evaluation.plan import build_arms, prepare
from yolo_mha.evaluation.recipe import Arm, Recipe, recipe_from_settings
from yolo_mha.profiling.footprint import RESERVE, Footprint, Step


def test_estimate__measures_and_writes_nothing(beacons, tiny, tmp_path, monkeypatch):
    """The processes that measure a step are left out; a dry run of `compare` and `doctor` have them."""
    asked = {}
    step = Footprint(Step(100.0, 0.1), Step(110.0, 0.2), {}, 700.0)
    monkeypatch.setattr(module, "footprints", lambda cases, progress: asked.update(cases) or dict.fromkeys(cases, step))
    arms = {"baseline": Arm("demo-baseline.yaml")}
    train = {**tiny, "imgsz": 60, "epochs": 10, "batch": 2, "fraction": 0.5}
    plan = Recipe("x", str(beacons), arms, train, seeds=(0, 1, 2), jobs=2)
    found = measure_plan(prepare(plan))
    assert not list(tmp_path.iterdir())
    (case,) = asked.values()
    assert (case.imgsz, case.optimizer, case.precision, case.args.batch) == (64, "AdamW", "float32", 2)
    assert (found.runs, found.epochs, found.steps, found.images) == (3, 10, 4, {"train": 8, "val": 8})
    (arm,) = found.arms.values()
    assert arm.parameters == sum(p.numel() for p in yolo_mha.YOLO("demo-baseline.yaml").model.parameters())
    assert arm.step_seconds == 0.2
    assert arm.image_seconds > 0
    assert arm.seconds == pytest.approx(10 * 4 * 0.2 + 11 * 8 * arm.image_seconds)
    assert arm.peak_mib == pytest.approx(RESERVE * 800)
    assert found.seconds == pytest.approx(3 * arm.seconds)
    assert found.peak_mib == pytest.approx(2 * arm.peak_mib)
    assert found.fits == (found.peak_mib <= found.free_mib)
    assert found.ok
    assert json.loads(json.dumps(found.as_dict()))["arms"]["baseline"]["seconds"] == arm.seconds


def test_estimate_table__says_what_is_matched():
    settings = {"model": "demo-baseline.yaml", "at": "neck", "data": "x.yaml", "seeds": (0, 1)}
    plan = recipe_from_settings(settings)
    (match,) = build_arms(plan)["control"].substitutes
    arms = {
        name: ArmEstimate(name, 1234567, [match] if name == "control" else [], 0.5, 0.1, 7200, 2048)
        for name in plan.arms
    }
    found = Estimate(plan, arms, 6, 10, 8, {"train": 16, "val": 8}, "cpu", 43200, 2048, 1024)
    assert not found.fits
    assert found.as_dict()["arms"]["control"]["substitutes"][0]["difference"] == match.difference
    console = Console(record=True, width=160)
    console.print(estimate_table(found))
    shown = console.export_text()
    for words in ("1,234,567", "0.5 s", "2 h 0 min", "12 h 0 min", "2.00 GiB", "2 seeds"):
        assert words in shown
    assert f"row {match.row}: {match.own:,} for {match.parameters:,} ({match.difference:+.2%})" in shown


@pytest.mark.parametrize(
    ("seconds", "words"), [(50.4, "50 s"), (3600, "60 min"), (3 * 3600 + 1200, "3 h 20 min"), (187200, "2 d 4 h")]
)
def test_duration__in_words(seconds, words):
    assert duration(seconds) == words
