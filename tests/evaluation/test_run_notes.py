from dataclasses import replace
from pathlib import Path

from yolo_mha.evaluation.comparison import RunResult
from yolo_mha.evaluation.run_code import installed
from yolo_mha.evaluation.run_notes import (
    gate_notes,
    hardware_notes,
    learning_notes,
    reliance_notes,
    uneven_groups,
    version_notes,
)
from yolo_mha.evaluation.runs import Run
from yolo_mha.scoring.intervals import Interval


def test_version_notes__name_the_runs_that_differ():
    now = installed()

    def run(arm: str, seed: int, *torch: str) -> Run:
        return Run(arm, seed, Path(), versions={name: [version] for name, version in now.items()} | {"torch": [*torch]})

    same = [run(arm, seed, now["torch"]) for seed in range(3) for arm in ("baseline", "attention")]
    assert version_notes(same) == version_notes([]) == version_notes([Run("baseline", 0, Path())]) == []
    old = [run("attention", seed, "1.0") for seed in (0, 1)]
    assert version_notes([*old, *same[4:], same[0], same[2]]) == [
        f"Versions differ: torch 1.0 trained attention seeds 0, 1, {now['torch']} the others, and {now['torch']} is "
        "installed now."
    ]
    assert version_notes(old) == [f"Versions differ: torch 1.0 trained all runs, and {now['torch']} is installed now."]
    assert "torch 1.0, then 2.0 trained control seed 4, " in version_notes([*same, run("control", 4, "1.0", "2.0")])[0]


def test_uneven_groups__are_told():
    interval = Interval(0.01, 0.0, 0.02, "seeds and images", 3, 40, 0.01, 0.01, None, 16, 1.05)
    (note,) = uneven_groups(interval)
    assert note.startswith("The groups differ much in size: 16 groups (40 images) count as 1.1 groups")
    assert uneven_groups(replace(interval, effective_groups=12.0)) == []
    assert uneven_groups(replace(interval, groups=None, effective_groups=None)) == uneven_groups(None) == []


def test_hardware_notes__say_where_the_arms_of_a_seed_differ():
    def run(arm: str, seed: int, *device: str, threads: str = "8") -> Run:
        return Run(arm, seed, Path(), hardware={"device": [*device], "driver": [""], "threads": [threads]})

    same = [run(arm, seed, f"GPU {seed}") for seed in range(2) for arm in ("baseline", "attention")]
    assert hardware_notes(same) == hardware_notes([Run("baseline", 0, Path())]) == []
    other = [run("control", 0, "GPU 1"), run("control", 1, "GPU 1", "GPU 2", threads="4")]
    assert hardware_notes([*same, *other]) == [
        "The arms of seed 0 were not trained on the same device (GPU 0: baseline, attention; GPU 1: control), nor "
        "were those of seed 1. Their differences may come from that.",
        "The arms of seed 1 were not trained on the same number of threads (8: baseline, attention; 4: control). "
        "Their differences may come from that.",
    ]


def test_reliance_notes__say_what_a_network_hardly_uses():
    results = [RunResult("attention", seed, "done", None, "", {"AP": 0.4}, {}, 5, 1.0, 0, 10.0, []) for seed in (7, 8)]
    said = "Taking the blocks out of attention, seed 7, changes its AP by"
    assert reliance_notes({"attention": 0.3999}, results, 0.01) == [f"{said} -0.0001: the network hardly uses them."]
    assert reliance_notes({"attention": 0.39}, results, 0.01)[0].startswith(
        f"{said} -0.010: the network relies on them"
    )
    assert reliance_notes({}, results, 0.01) == []


def test_gate_notes__say_what_never_opened():
    runs = [Run("baseline", 0, Path())] + [
        Run("attention", seed, Path(), gates={"5": 0.0 if seed == 1 else 0.01, "8": 0.02}) for seed in range(3)
    ]
    values, closed = gate_notes(runs)
    assert values == (
        "Gates of attention at the end, mean absolute weight, seeds 0, 1, 2: row 5 0.0100, 0.0000, 0.0100; row 8 "
        "0.0200, 0.0200, 0.0200."
    )
    assert closed.startswith("The gates of the block in row 5 of attention are still 0 with seed 1: ")
    assert gate_notes(runs[:1]) == []


def test_learning_notes__name_classes_that_no_run_has_learned():
    def result(seed: int, *scores: float) -> RunResult:
        per_class = {name: {"AP": score} for name, score in zip("abcd", scores, strict=True)}
        return RunResult("baseline", seed, "done", None, "", {}, per_class, 5, 1.0, 0, 10.0, [])

    learned = [result(0, 0.5, 0.0, 0.0, -1.0), result(1, 0.4, 0.002, 0.01, -1.0)]  # d has no object
    (note,) = learning_notes(learned, 0.01)
    assert note.startswith("No run has learned b (AP below 0.005)")
    assert learning_notes([learned[0], result(2, 0.1, 0.1, 0.1, -1.0)], 0.01) == []


def test_learning_notes__say_when_the_curves_still_rise():
    def run(*curve: float) -> RunResult:
        return RunResult("baseline", 0, "done", None, "", {}, {}, len(curve), 1.0, 0, 10.0, list(curve))

    rising = run(*(0.02 * epoch for epoch in range(10)))
    flat = run(*[0.1, 0.2, 0.3, 0.4, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5])
    (note,) = learning_notes([rising], 0.01)
    assert "was 0.040 higher, on average" in note
    assert learning_notes([rising, flat, flat, flat], 0.01) == []  # 0.01 on average
    assert learning_notes([run(*rising.curve[:9])], 0.01) == []  # too few epochs to tell
    assert learning_notes([run(*[0.0] * 19, 0.5)], 0.01) == []  # with val=False only the last one was scored
