"""Whether the arms of a seed began alike."""

from __future__ import annotations

import hashlib
import operator
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
        own = {arm: _in_place(base, start) for arm, start in began.items()} if base else {}
        batches = {arm: start["batch"] for arm, start in began.items()}
        checks.append(
            StartCheck(
                seed=seed,
                first_batch=batches,
                same_batches=len(set(batches.values())) == 1,
                shared={arm: sum(map(operator.eq, found, own[runs[0].arm])) for arm, found in own.items()},
                weights={
                    arm: hashlib.sha256(" ".join(map(str, found)).encode()).hexdigest() for arm, found in own.items()
                },
                tensors=len(base["tensors"]) if base else 0,
            )
        )
    return checks


def _in_place(base: Mapping[str, Any], start: Mapping[str, Any]) -> list[str | None]:
    """Return the hash of the tensor that a run began with in the place of each of the baseline's."""
    try:
        places = align(base["model"], start["model"])
    except ModelError:  # another model
        return []
    return [start["tensors"].get(renamed(name, places)) for name in base["tensors"]]
