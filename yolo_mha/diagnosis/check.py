"""One line of the doctor's page."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ..errors import YoloMHAError, with_type

Status = Literal["ok", "warning", "failed", "skipped"]


@dataclass(frozen=True)
class Check:
    """What one check found.

    Attributes:
        name: The check.
        status: "ok", "warning" (works, and worth a look), "failed", or "skipped".
        message: One sentence.
        fix: What to do; None where nothing is to be done.
        details: Numbers behind the message.
    """

    name: str
    status: Status
    message: str
    fix: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = {k: str(v) if isinstance(v, float) and not math.isfinite(v) else v for k, v in self.details.items()}
        object.__setattr__(self, "details", known)  # JSON has no NaN


def failed(name: str, error: Exception) -> Check:
    """Turn an error into a failed check: one sentence, one fix.

    Args:
        name: The check.
        error: What was raised.
    """
    if not isinstance(error, YoloMHAError):
        return Check(
            name, "failed", f"Stopped with {with_type(error)}.", "train, val or export with --debug shows where"
        )
    given = f": {error.given}" if error.given else ""
    fix = error.fix or (f"expected is {error.expected}" if error.expected else None)
    return Check(name, "failed", f"{error.problem.rstrip('.')}{given}.", fix, {"expected": error.expected})
