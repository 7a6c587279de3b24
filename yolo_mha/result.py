"""What every command returns: one small protocol for programs, reports and exit codes."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any


class Result:
    """Base of the results of commands, which are dataclasses."""

    @property
    def ok(self) -> bool:
        """Whether all that was asked for was done, and no check failed."""
        return True

    @property
    def exit_code(self) -> int:
        """What the command line exits with."""
        return 0 if self.ok else 1

    def as_dict(self) -> dict[str, Any]:
        """Return the result as JSON holds it."""
        return asdict(self)  # type: ignore[call-overload, no-any-return]
