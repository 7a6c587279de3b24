"""What `train` did to a model before it trained it, kept in the run's folder."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..data.files import write_text
from ..surgery import Transfer

FILE = "attention.json"


@dataclass
class Record:
    """A training callback that writes ``attention.json``, and the model's YAML, into the run's folder.

    Attributes:
        base: The model that the user named.
        freeze_base: Number of first epochs in which the blocks train alone.
        rows: Indices of the rows that do.
        at: Places where blocks were put, if any.
        yaml: Name and text of the model's YAML with these blocks.
        transfers: What became of pretrained weights.
    """

    base: str
    freeze_base: int = 0
    rows: list[int] = field(default_factory=list)
    at: list[str] = field(default_factory=list)
    yaml: tuple[str, str] | None = None
    transfers: list[Transfer] = field(default_factory=list)

    def __call__(self, trainer: Any) -> None:
        """Write, once the run's folder is there and the weights are loaded."""
        folder = Path(trainer.save_dir)
        content = {
            "base": self.base,
            "at": self.at,
            "rows": self.rows,
            "freeze_base": self.freeze_base,
            "yaml": self.yaml and self.yaml[0],
            "transfer": self.transfers[-1].as_dict() if self.transfers else None,
        }
        write_text(folder / FILE, json.dumps(content, indent=2))
        if self.yaml:
            write_text(folder / self.yaml[0], self.yaml[1])


def recorded(folder: Path) -> dict[str, Any]:
    """Return what a run's record says, or nothing where there is none."""
    try:
        content = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
