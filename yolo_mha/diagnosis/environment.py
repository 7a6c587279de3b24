"""What a bug report should hold: versions, the device, and which extras are installed."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata

import torch
from packaging.requirements import Requirement
from ultralytics.utils.torch_utils import get_cpu_info

from ..result import Result

OURS = "yolo-mha"
PACKAGES = (OURS, "ultralytics", "torch", "torchvision", "opencv-python", "numpy", "pycocotools")
MISSING = "not installed"


@dataclass(frozen=True)
class Environment(Result):
    """Versions and machine.

    Attributes:
        packages: Version by name; "not installed" where there is none.
        python: Version of Python.
        system: Operating system.
        cpu: Processor and numbers of cores and of PyTorch's threads.
        gpus: Names of the GPUs that PyTorch sees.
        extras: For each extra of yolo-mha what is missing, or older than it must be.
    """

    packages: dict[str, str]
    python: str
    system: str
    cpu: str
    gpus: list[str]
    extras: dict[str, list[str]]


def version() -> Environment:
    """Return what to paste into a bug report."""
    extras = metadata.metadata(OURS).get_all("Provides-Extra") or []
    return Environment(
        packages={name: _version(name) for name in PACKAGES},
        python=platform.python_version(),
        system=platform.platform(),
        cpu=f"{get_cpu_info()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
        gpus=[torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        extras={extra: list(dict.fromkeys(_missing(extra))) for extra in extras},
    )


def _version(package: str) -> str:
    """Return the version of a package; OpenCV is distributed under several names."""
    names = metadata.packages_distributions().get("cv2", [package]) if package == "opencv-python" else [package]
    try:
        return metadata.version(names[0])
    except metadata.PackageNotFoundError:
        return MISSING


def _missing(extra: str) -> Iterator[str]:
    """Yield what an extra needs and is not there; an extra may consist of others."""
    for requirement in map(Requirement, metadata.requires(OURS) or []):
        if requirement.marker is None or not requirement.marker.evaluate({"extra": extra}):
            continue
        if requirement.name == OURS:
            for part in sorted(requirement.extras):
                yield from _missing(part)
            continue
        found = _version(requirement.name)
        if found == MISSING or not requirement.specifier.contains(found, prereleases=True):
            yield f"{requirement.name} {found}"
