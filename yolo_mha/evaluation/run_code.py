"""What trains a run: the source of its blocks, the versions of the packages, and the device."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from ultralytics.utils import RANK
from ultralytics.utils.torch_utils import get_cpu_info, unwrap_model

from ..data.files import write_text
from ..data.records import read_record
from ..engine.block_modules import block_sources, source_files
from ..engine.record import CODE_FILE
from ..errors import ConfigError

PACKAGES = ("torch", "ultralytics", "yolo-mha")
ASK_DRIVER = ("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
SOURCE = "source of "  # prefix of the inputs that identify the code of a block
Sources = Mapping[str, str]  # SHA-256 by block


@dataclass(frozen=True)
class Code:
    """Content of ``code.json``, see `Run`."""

    sources: dict[str, str]
    versions: dict[str, list[str]]
    hardware: dict[str, list[str]] = field(default_factory=dict)


class CodeRecord:
    """A training callback that writes ``code.json`` into the run's folder, and refuses other code than was planned.

    It holds the SHA-256 of the source of each block; and, of all attempts of the run, the versions of ``PACKAGES``, the
    device, its driver and the number of threads.

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
                fix="undo the change, or call compare again: with changed code it starts a new folder",
            )
        folder = Path(trainer.save_dir)
        before = read_code(folder)
        code = Code(
            sources=sources,
            versions=_with(before.versions, installed()),
            hardware=_with(before.hardware, hardware(trainer.device)),
        )
        write_text(folder / CODE_FILE, json.dumps(asdict(code), indent=2))


def _with(before: Mapping[str, list[str]], now: Mapping[str, str]) -> dict[str, list[str]]:
    return {name: list(dict.fromkeys([*before.get(name, []), own])) for name, own in now.items()}


def read_code(folder: Path) -> Code:
    """Return what `CodeRecord` has written, empty where a run never began.

    Args:
        folder: The run's folder.
    """
    return Code(**read_record(folder / CODE_FILE, Code) or {"sources": {}, "versions": {}})


def installed() -> dict[str, str]:
    """Return the versions of ``PACKAGES`` that are installed."""
    return {name: metadata.version(name) for name in PACKAGES}


def hardware(device: torch.device) -> dict[str, str]:
    """Return the kind of a device, its driver, and the number of threads that PyTorch takes.

    Args:
        device: What a run is trained on.
    """
    if device.type != "cuda":
        return {"device": get_cpu_info(), "driver": "", "threads": str(torch.get_num_threads())}
    driver = ""
    with suppress(OSError, subprocess.SubprocessError):  # a device of another maker
        found = subprocess.run(ASK_DRIVER, capture_output=True, text=True, check=True, timeout=30)
        driver = found.stdout.split("\n")[0]
    return {"device": torch.cuda.get_device_name(device), "driver": driver, "threads": str(torch.get_num_threads())}


def source_inputs(arms: Iterable[Sources]) -> dict[str, str]:
    """Return the inputs of a comparison that identify the source of its blocks.

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
