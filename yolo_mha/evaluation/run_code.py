"""The code that trains a run: the source of its blocks, and the versions of the packages."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, TypedDict

from ultralytics.utils import RANK
from ultralytics.utils.torch_utils import unwrap_model

from ..data.files import write_text
from ..data.records import read_record
from ..engine.block_modules import block_sources, source_files
from ..errors import ConfigError

CODE = "code.json"
PACKAGES = ("torch", "ultralytics", "yolo-mha")
SOURCE = "source of "  # begins the names of inputs that stand for the code of a block
Sources = Mapping[str, str]  # SHA-256 by block


class Code(TypedDict):
    """Content of ``code.json``."""

    sources: dict[str, str]
    versions: dict[str, list[str]]


class CodeRecord:
    """A training callback that writes ``code.json`` into the run's folder, and refuses other code than was planned.

    It holds the SHA-256 of the source of each block, and the versions of ``PACKAGES`` in all attempts of the run.

    Args:
        planned: The sources with which the comparison was planned.
    """

    def __init__(self, planned: Sources) -> None:
        self.planned = planned

    def __call__(self, trainer: Any) -> None:
        """Compare and write."""
        if RANK not in (-1, 0):
            return
        network = unwrap_model(trainer.model)
        sources, files = block_sources(network), source_files(network)
        changed = [name for name in sources if sources[name] != self.planned.get(name)]
        if changed:
            raise ConfigError(
                "The source of a block changed after the comparison was planned.",
                given="; ".join(f"{name} of {', '.join(map(str, files[name].values()))}" for name in changed),
                expected="the same code for all runs",
                fix="undo the change, or call compare again: with other code it begins another folder",
            )
        folder = Path(trainer.save_dir)
        before = read_code(folder)["versions"]
        versions = {name: list(dict.fromkeys([*before.get(name, []), now])) for name, now in installed().items()}
        write_text(folder / CODE, json.dumps({"sources": sources, "versions": versions}, indent=2))


def read_code(folder: Path) -> Code:
    """Return what `CodeRecord` has written, empty where a run never began.

    Args:
        folder: The run's folder.
    """
    code: Code | None = read_record(folder / CODE, Code)
    return code or {"sources": {}, "versions": {}}


def installed() -> dict[str, str]:
    """Return the versions of ``PACKAGES`` that are installed."""
    return {name: metadata.version(name) for name in PACKAGES}


def source_inputs(arms: Iterable[Sources]) -> dict[str, str]:
    """Return the inputs of a comparison that stand for the source of its blocks.

    Args:
        arms: Sources of the blocks of each arm. Options may give a block other parts in one arm than in another; then
            there are several hashes.
    """
    found: dict[str, set[str]] = {}
    for sources in arms:
        for name, digest in sources.items():
            found.setdefault(f"{SOURCE}{name}", set()).add(digest)
    return {key: " ".join(sorted(digests)) for key, digests in sorted(found.items())}


def as_planned(sources: Sources, inputs: Mapping[str, str]) -> bool:
    """Say whether the blocks of a run have the source that a comparison's inputs state.

    Args:
        sources: Of the run.
        inputs: From `source_inputs`, among others.
    """
    return all(digest in inputs.get(f"{SOURCE}{name}", "").split() for name, digest in sources.items())
