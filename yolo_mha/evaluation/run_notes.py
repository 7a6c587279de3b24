"""What a report says of its runs: the versions that trained them, and their gates."""

from __future__ import annotations

from collections.abc import Sequence

from .run_code import installed
from .runs import Run


def gate_notes(runs: Sequence[Run]) -> list[str]:
    """Say how far the gates of each arm have opened, and which never did."""
    notes = []
    for arm in dict.fromkeys(run.arm for run in runs if run.gates):
        own = [run for run in runs if run.arm == arm and run.gates]
        rows = {row: {run.seed: run.gates[row] for run in own if row in run.gates} for row in own[0].gates}
        seeds = ", ".join(str(run.seed) for run in own)
        values = "; ".join(f"row {row} {', '.join(f'{v:.4f}' for v in found.values())}" for row, found in rows.items())
        notes.append(f"Gates of {arm} at the end, mean absolute weight, seeds {seeds}: {values}.")
        for row, found in rows.items():
            if closed := [str(seed) for seed, value in found.items() if value == 0]:
                notes.append(
                    f"The block of row {row} of {arm} never opened with seed {', '.join(closed)}: its gates are 0, and "
                    "the model computes what it would without it."
                )
    return notes


def version_notes(runs: Sequence[Run]) -> list[str]:
    """Say in one line where versions differ among runs, or from those that are installed now."""
    said = []
    for package, now in installed().items():
        trained: dict[str, list[Run]] = {}
        for run in runs:
            if own := run.versions.get(package):
                trained.setdefault(", then ".join(own), []).append(run)
        if set(trained) <= {now}:
            continue
        *fewer, most = sorted(trained, key=lambda version: len(trained[version]))
        words = [f"{version} trained {_named(trained[version])}" for version in fewer]
        words.append(f"{most} {'the others' if fewer else 'trained all runs'}")
        said.append(f"{package} {', '.join(words)}, and {now} is installed now")
    return [f"Versions differ: {'; '.join(said)}."] if said else []


def _named(runs: Sequence[Run]) -> str:
    """Name runs by arm: attention seeds 0, 1."""
    arms: dict[str, list[str]] = {}
    for run in runs:
        arms.setdefault(run.arm, []).append(str(run.seed))
    return ", ".join(f"{arm} seed{'s' * (len(own) > 1)} {', '.join(own)}" for arm, own in arms.items())
