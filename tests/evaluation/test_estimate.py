import json

import pytest

import yolo_mha
from yolo_mha.data.dataset import load_dataset
from yolo_mha.evaluation.estimate import estimate
from yolo_mha.evaluation.recipe import Recipe


def test_estimate__measures_and_writes_nothing(beacons, tiny, tmp_path):
    arms = {"baseline": {"model": "demo-baseline.yaml"}}
    plan = Recipe("x", str(beacons), arms, {**tiny, "epochs": 10, "batch": 2}, seeds=(0, 1, 2), jobs=2)
    found = estimate(plan, load_dataset(beacons))
    assert not list(tmp_path.iterdir())
    assert (found.runs, found.epochs, found.steps, found.images) == (3, 10, 8, {"train": 16, "val": 8})
    (arm,) = found.arms.values()
    assert arm.parameters == sum(p.numel() for p in yolo_mha.YOLO("demo-baseline.yaml").model.parameters())
    assert arm.seconds == pytest.approx(10 * 8 * arm.step_seconds + 11 * 8 * arm.image_seconds)
    assert arm.peak_mib > 100
    assert found.seconds == pytest.approx(3 * arm.seconds)
    assert found.peak_mib == pytest.approx(2 * arm.peak_mib)
    assert found.fits == (found.peak_mib <= found.free_mib)
    assert json.loads(json.dumps(found.as_dict()))["arms"]["baseline"]["seconds"] == arm.seconds
