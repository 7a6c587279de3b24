from pathlib import Path

from yolo_mha.evaluation.run_code import installed
from yolo_mha.evaluation.run_notes import gate_notes, hardware_notes, version_notes
from yolo_mha.evaluation.runs import Run


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
