"""Whether the arms of a seed began alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from ..engine.start_record import read_start
from ..errors import ModelError
from ..surgery.graft import renamed
from ..surgery.transfer import align
from .comparison import StartCheck
from .runs import Run


def shared_start(runs: Sequence[Run]) -> list[StartCheck]:
    """Say of each seed whether its arms began alike.

    Args:
        runs: Of one comparison, the baseline first in each seed; those that never began are left out.

    Returns:
        One check a seed.
    """
    checks = []
    for seed, group in groupby(runs, key=lambda run: run.seed):
        began = {run.arm: start for run in group if (start := read_start(run.folder)) is not None}
        base = began.get(runs[0].arm)
        batches = {arm: start["batch"] for arm, start in began.items()}
        checks.append(
            StartCheck(
                seed=seed,
                first_batch=batches,
                same_batches=len(set(batches.values())) == 1,
                shared={arm: _shared(base, start) for arm, start in began.items()} if base else {},
                tensors=len(base["tensors"]) if base else 0,
            )
        )
    return checks


def _shared(base: Mapping[str, Any], start: Mapping[str, Any]) -> int:
    """Count the tensors of the baseline that a run began with."""
    try:
        places = align(base["model"], start["model"])
    except ModelError:  # another model
        return 0
    own = start["tensors"]
    return sum(own.get(renamed(name, places)) == found for name, found in base["tensors"].items())
