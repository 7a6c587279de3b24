"""What was done to a model before it was trained, kept in the run's folder."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..data.files import write_text
from ..registry import Network
from ..surgery.insertion import Insertion
from ..surgery.text import edit_text, model_text
from ..surgery.transfer import Transfer

RECORD_FILE = "attention.json"
CODE_FILE = "code.json"  # of a run of a comparison: what trained it


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

    def insert(self, insertion: Insertion, network: Network) -> Network:
        """Put blocks into a network, and take note of them.

        Args:
            insertion: The block and its places.
            network: The network as it is now; it stays so.

        Returns:
            The network with the blocks.
        """
        name, text = self.yaml or (self.base, model_text(self.base, network.yaml))
        made, plan = insertion.apply(network)
        self.yaml = (f"{Path(name).stem}{insertion.suffix}.yaml", edit_text(text, plan))
        made.yaml["yaml_file"] = self.yaml[0]
        earlier = [place for row in self.rows if (place := plan.place[row]) is not None]
        self.rows = sorted([*earlier, *(plan.output[host] for host in plan.hosts)])
        self.at += insertion.at
        return made

    def __call__(self, trainer: Any) -> None:
        """Write, once the run's folder is there and the weights are loaded; remove that of an earlier run there."""
        folder = Path(trainer.save_dir)
        if not (self.at or self.freeze_base):
            (folder / RECORD_FILE).unlink(missing_ok=True)
            return
        content = {
            "base": self.base,
            "at": self.at,
            "rows": self.rows,
            "freeze_base": self.freeze_base,
            "yaml": self.yaml and self.yaml[0],
            "transfer": self.transfers[-1].as_dict() if self.transfers else None,
        }
        write_text(folder / RECORD_FILE, json.dumps(content, indent=2))
        if self.yaml:
            write_text(folder / self.yaml[0], self.yaml[1])

    @classmethod
    def read(cls, folder: Path) -> Record:
        """Return the record of a run, or an empty one if there is none."""
        try:
            content = json.loads((folder / RECORD_FILE).read_text(encoding="utf-8"))
            return cls(content["base"], int(content["freeze_base"]), [int(row) for row in content["rows"]])
        except (OSError, ValueError, KeyError, TypeError):
            return cls("")
