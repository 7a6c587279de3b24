import hashlib
import json

from yolo_mha.evaluation.declared import PLAN, declare, plan_changes, planned, read_declarations
from yolo_mha.evaluation.recipe import Arm, Recipe

ARMS = {"baseline": Arm("a.yaml"), "attention": Arm("b.yaml")}


def recipe(**changes) -> Recipe:
    return Recipe(**{"name": "x", "data": "d.yaml", "arms": ARMS, **changes})


def test_declare__keeps_every_plan_with_date_and_hash(tmp_path):
    first = planned(recipe(), {"data val": "1"})
    for plan in (first, planned(recipe(jobs=4, name="y", seeds=(2, 0, 1)), {"data val": "1"})):  # no other plan
        declare(tmp_path, plan)
    declare(tmp_path, planned(recipe(margin=0.02, seeds=(0, 1, 2, 3)), {"data val": "1"}))
    one, two = read_declarations(tmp_path)
    canonical = json.dumps(json.loads((tmp_path / PLAN).read_text())[0]["plan"], sort_keys=True, separators=(",", ":"))
    assert one.sha256 == hashlib.sha256(canonical.encode()).hexdigest()
    assert one.sha256 != two.sha256
    assert one.plan == first
    assert one.date.endswith("+00:00")
    (said,) = plan_changes([one, two])
    assert "seeds from 0, 1, 2 to 0, 1, 2, 3; margin from 0.01 to 0.02" in said
