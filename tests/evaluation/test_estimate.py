import json

import pytest

import yolo_mha
from yolo_mha.evaluation import estimate as module
from yolo_mha.evaluation.estimate import measure_plan
from yolo_mha.evaluation.plan import prepare
from yolo_mha.evaluation.recipe import Arm, Recipe
from yolo_mha.profiling.footprint import RESERVE, Footprint, Step


def test_estimate__measures_and_writes_nothing(beacons, tiny, tmp_path, monkeypatch, capsys):
    """The processes that measure a step are left out; a dry run of `compare` and `doctor` have them."""
    asked = {}
    step = Footprint(Step(100.0, 0.1), Step(110.0, 0.2), {}, 700.0)
    monkeypatch.setattr(module, "footprints", lambda cases, progress: asked.update(cases) or dict.fromkeys(cases, step))
    monkeypatch.setattr(module, "slowdown", lambda case, jobs: 1 + 0.25 * (jobs - 1))
    arms = {"baseline": Arm("demo-baseline.yaml")}
    train = {**tiny, "imgsz": 60, "epochs": 10, "batch": 2, "fraction": 0.5}
    plan = Recipe("x", str(beacons), arms, train, seeds=(0, 1, 2), jobs=2)
    found = measure_plan(prepare(plan))
    assert "measuring 2 training steps at once\n" in capsys.readouterr().err  # a line each, where there is no terminal
    assert not (tmp_path / "runs" / "compare").exists()
    (case,) = asked.values()
    assert (case.imgsz, case.optimizer, case.precision, case.args.batch) == (64, "AdamW", "float32", 2)
    assert (found.runs, found.epochs, found.steps, found.images) == (3, 10, 4, {"train": 8, "val": 8})
    (arm,) = found.arms.values()
    assert arm.parameters == sum(p.numel() for p in yolo_mha.YOLO("demo-baseline.yaml").model.parameters())
    assert arm.step_seconds == 0.2
    assert arm.image_seconds > 0
    assert arm.seconds == pytest.approx(10 * 4 * 0.2 + 11 * 8 * arm.image_seconds)
    assert arm.peak_mib == pytest.approx(RESERVE * 800)
    assert found.slowdown == 1.25
    assert found.seconds == pytest.approx(2 * 1.25 * arm.seconds)  # two runs at once, then the third
    assert found.peak_mib == pytest.approx(2 * arm.peak_mib)
    runs, begun, under_way = 3 * 2, 3 * 4, 2 * 2 * 10  # bytes for each parameter
    assert found.disk_mib == pytest.approx((runs + begun + under_way) * arm.parameters / 2**20)
    assert found.fits == (found.peak_mib <= found.free_mib)
    assert found.ok
    assert json.loads(json.dumps(found.as_dict()))["arms"]["baseline"]["seconds"] == arm.seconds
