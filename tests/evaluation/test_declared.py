import hashlib
import json

from yolo_mha.evaluation.declared import (
    PLAN,
    Declaration,
    declare,
    plan_changes,
    planned,
    read_declarations,
    seeds_chosen_late,
)
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


def test_declare__knows_which_seeds_were_trained_by_then(tmp_path):
    declare(tmp_path, planned(recipe(), {}))
    for run in ("baseline/seed0", "attention/seed0", "baseline/seed1"):
        (tmp_path / "arms" / run).mkdir(parents=True)
    for run in ("baseline/seed0", "attention/seed0"):
        (tmp_path / "arms" / run / "end.json").touch()
    (tmp_path / "arms" / "attention" / "seed7-moved").mkdir()  # as messages advise
    (tmp_path / "arms" / "attention" / "seed7-moved" / "end.json").touch()
    declare(tmp_path, planned(recipe(seeds=(0, 1)), {}))
    assert [each.trained for each in read_declarations(tmp_path)] == [[], [0]]


def test_seeds_chosen_late__objects_to_seeds_that_were_changed_after_some_were_trained():
    """Without a look: whoever stops the command has seen AP of each epoch."""

    def dated(trained: list[int]) -> list[Declaration]:
        plans = ([0, 1, 2, 3], []), ([0, 1], trained), ([7, 8, 9], [0])
        return [Declaration(f"2026-01-0{day}T00:00", "", {"seeds": s}, t) for day, (s, t) in enumerate(plans, 1)]

    (said,) = seeds_chosen_late(dated([0])[:2])
    assert said == "seeds were changed from 0, 1, 2, 3 to 0, 1 when 0 had been trained (2026-01-02 00:00 UTC)"
    assert seeds_chosen_late(dated([])[:2]) == []
    assert seeds_chosen_late([*dated([0])[:2], dated([0])[0]]) == []  # back to what was planned first
    assert seeds_chosen_late(dated([0])) == []  # fresh seeds
