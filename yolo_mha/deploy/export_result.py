"""What an export gives: the file, what the proof showed, and how both are put in their place."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..data.files import write_text
from ..errors import ConfigError
from ..result import Result
from .agreement import Agreement
from .export_settings import PROVED_FORMATS
from .proof import Scores

STANDALONE = "onnx_infer.py"
OUT_OF_TOLERANCE = "out of tolerance"


@dataclass(frozen=True)
class ExportResult(Result):
    """An exported model and the proof of it.

    Attributes:
        file: The exported model; its name says so where it is out of tolerance.
        format: Its format.
        precision: "fp32", "fp16", "int8", or another of Ultralytics' schemes.
        settings: Image size and the settings that were given.
        agreement: Differences to PyTorch by input shape; empty where none could be taken.
        scores: AP of the checkpoint and of the exported model, where data was given.
        notes: What was done to the model beyond Ultralytics' export, and what was not proved.
        metadata: Whether the file holds the names, stride and task that Ultralytics reads back.
        proof: All this as a JSON file beside the model.
        standalone: A file that runs an ONNX model without PyTorch, also beside it.
    """

    file: str
    format: str
    precision: str
    settings: dict[str, bool | int | float | str | list[int]]
    agreement: list[Agreement]
    scores: Scores | None
    notes: list[str]
    metadata: bool
    proof: str = ""
    standalone: str = ""

    @property
    def verdict(self) -> str:
        """What the proof showed.

        "proved"; "out of tolerance"; "nothing compared", where the pictures show no object to judge by; "not covered",
        for a format, task or precision that is not proved here.
        """
        evidence = [a.ok for a in self.agreement] + ([self.scores.ok] if self.scores else [])
        if False in evidence or (self.format in PROVED_FORMATS and not self.metadata):
            return OUT_OF_TOLERANCE
        if True in evidence:
            return "proved"
        return "nothing compared" if self.agreement else "not covered"

    @property
    def ok(self) -> bool:
        """Whether it is proved, as far as such a model can be."""
        return self.verdict in ("proved", "not covered")

    def with_notes(self, *notes: str) -> ExportResult:
        """Return the result with more notes."""
        return replace(self, notes=[*self.notes, *notes])

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "verdict": self.verdict, "ok": self.ok}


def require_no_dynamic(folder: Path, name: str, format: str) -> None:
    """Make sure that an export of one size does not replace a proved one of any size.

    Args:
        folder: Where the new export goes.
        name: Its name, within that of the file.
        format: Its format.

    Raises:
        ConfigError: There is such an export.
    """
    for proof in folder.glob("*.proof.json"):
        file = proof.with_name(proof.name.removesuffix(".proof.json"))
        earlier = _read_proof(proof)
        if earlier is None or (file.stem != name and file.name != f"{name}_{format}_model"):
            continue
        if earlier["format"] == format and earlier["settings"].get("dynamic") and earlier["verdict"] == "proved":
            raise ConfigError(
                "An export of one image size would replace one that takes all sizes and is proved.",
                given=f"{file}; this call has no dynamic=True",
                expected="dynamic=True, or a folder without that file",
                fix=f"to replace it, remove it first, with {proof.name}",
            )


def deliver(result: ExportResult, made: Path, folder: Path, name: str, *, standalone: bool) -> ExportResult:
    """Put an export in its place, under a name that says so where it is out of tolerance, with its proof beside it.

    Args:
        result: The export and its proof.
        made: Where it lies.
        folder: Where it goes.
        name: Its name, within that of the file.
        standalone: Whether a file that runs the model without PyTorch goes beside it.

    Returns:
        The result with the paths of what was written.
    """
    good, bad = folder / made.name, folder / made.name.replace(name, f"{name}_{OUT_OF_TOLERANCE.replace(' ', '_')}", 1)
    file, other = (bad, good) if result.verdict == OUT_OF_TOLERANCE else (good, bad)
    result = replace(result, file=str(file), proof=f"{file}.proof.json")
    notes = _notes_on_replaced(result)
    if other.exists():
        notes.append(f"{other} is of an earlier export")
    Path(result.proof).unlink(missing_ok=True)  # of what goes now; never beside another file
    if file.is_dir():
        os.replace(file, made.with_name("earlier"))  # it goes with the folder of the new one
    os.replace(made, file)
    if standalone:
        target, text = folder / STANDALONE, Path(__file__).with_name(STANDALONE).read_text(encoding="utf-8")
        own = target.read_bytes() if target.is_file() else None
        if target.exists() and own != text.encode():  # what the user has changed stays
            notes.append(f"{target} is another file than the one that comes with this version, and was left as it is")
        else:
            write_text(target, text)
        result = replace(result, standalone=str(target))
    result = result.with_notes(*notes)
    write_text(result.proof, json.dumps(result.as_dict(), indent=2))
    return result


def _notes_on_replaced(result: ExportResult) -> list[str]:
    """Name what was other in an earlier export that goes now, if there is one."""
    if not Path(result.file).exists():
        return []
    proof = _read_proof(Path(result.proof))
    if proof is None:
        return ["replaces a file of this name, whose settings are not known"]
    earlier, now = proof["settings"], result.settings
    other = [key for key in sorted({*earlier, *now}) if earlier.get(key) != now.get(key)]
    words = [f"{key}={earlier[key]}" if key in earlier else f"no {key}" for key in other]
    notes = [f"replaces an earlier export with {', '.join(words)}"] if words else []
    return [*notes, "replaces one that was proved"] if proof["verdict"] == "proved" != result.verdict else notes


def _read_proof(file: Path) -> dict[str, Any] | None:
    """Return what a proof says; None where it cannot be read."""
    try:
        proof: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return proof if isinstance(proof["settings"], dict) and {"format", "verdict"} <= proof.keys() else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
