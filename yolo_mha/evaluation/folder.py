"""The folder of a comparison: found again by what it compares, and used by one process at a time."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout
from ultralytics.data.utils import img2label_paths
from ultralytics.utils import LOGGER

from ..data.dataset import Dataset, image_files
from ..data.files import write_text
from ..engine.model import existing
from ..engine.progress import with_bar
from ..errors import ConfigError
from ..registry import find_model_yaml
from .recipe import Recipe

RECIPE, INPUTS, LOCK = "recipe.yaml", "inputs.json", ".lock"
SPLITS = ("train", "val")


@contextmanager
def open_folder(plan: Recipe, dataset: Dataset, root: str | Path = "runs/compare") -> Iterator[Path]:
    """Give the folder of a comparison to this process alone: the one where it was begun, or a new one.

    A folder is taken up again if its recipe is the same in everything but ``jobs`` and added seeds, and the files that
    it names (models, checkpoints, images and labels) still have the same content. Otherwise it is left alone, and the
    next free one of ``name``, ``name2``, ... is made.

    Args:
        plan: The recipe.
        dataset: What it is trained on.
        root: Where the folders of all comparisons are.

    Raises:
        ConfigError: Another process works in the folder.
    """
    root = Path(root).resolve()
    root.mkdir(parents=True, exist_ok=True)
    inputs = fingerprint(plan, dataset)
    folder = _find_or_make(plan, inputs, root)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as e:
        raise ConfigError(
            "Another process works on this comparison.",
            given=str(folder),
            expected="one at a time",
            fix="wait until it is done, or give another name=",
        ) from e
    try:
        write_text(folder / RECIPE, _text(plan))
        yield folder
    finally:
        lock.release()


def fingerprint(plan: Recipe, dataset: Dataset) -> dict[str, str]:
    """Return the SHA-256 of what a recipe names: each model and checkpoint file, and the dataset.

    Args:
        plan: The recipe.
        dataset: The images and labels of ``train`` and ``val`` are read in full.
    """
    named = {arm["model"] for arm in plan.arms.values() if "model" in arm}
    if isinstance(pretrained := plan.train.get("pretrained"), str):
        named.add(pretrained)
    files = {name: find_model_yaml(name) if name.endswith((".yaml", ".yml")) else existing(name) for name in named}
    files |= {f"annotations of {split}": file for split, file in dataset.annotations.items()}
    found = {name: hashlib.sha256(Path(str(files[name])).read_bytes()).hexdigest() for name in sorted(files)}
    return {**found, "classes": _digest(dataset.names.values()), "data": _digest(_contents(dataset))}


def _contents(dataset: Dataset) -> Iterator[str]:
    """Yield name and content of every image and label of the dataset."""
    for split in SPLITS:
        images = [str(file) for file in image_files(dataset, split)]
        pairs = list(zip(images, img2label_paths(images), strict=True))
        with ThreadPoolExecutor() as pool:
            found = with_bar(pool.map(_content, pairs), f"fingerprint of {split}", len(pairs))
            for image, contents in zip(images, found, strict=True):
                yield f"{split} {os.path.basename(image)} {contents}"


def _content(files: tuple[str, str]) -> str:
    return " ".join(hashlib.sha256(Path(f).read_bytes()).hexdigest() if os.path.isfile(f) else "-" for f in files)


def _digest(lines: Iterable[str]) -> str:
    found = hashlib.sha256()
    for line in lines:
        found.update(f"{line}\n".encode())
    return found.hexdigest()


def _find_or_make(plan: Recipe, inputs: dict[str, str], root: Path) -> Path:
    written = {RECIPE: _text(plan), INPUTS: json.dumps(inputs, indent=2)}
    wanted = yaml.safe_load(written[RECIPE])
    number = 1
    while True:
        folder = root / (plan.name if number == 1 else f"{plan.name}{number}")
        if not folder.exists():
            _make(folder, written)
        found = {name: _read(folder / name) for name in written}
        other = _other_keys(found[RECIPE], wanted)
        if not other and found[INPUTS] == inputs:
            return folder
        changed = other or [key for key, value in inputs.items() if (found[INPUTS] or {}).get(key) != value]
        LOGGER.warning(f"{folder} differs in {', '.join(changed)}, so it is left as it is")
        number += 1


def _make(folder: Path, written: dict[str, str]) -> None:
    """Make a folder with its first files at once, so that another process never finds it half-made."""
    aside = folder.with_name(f".{folder.name}-{os.getpid()}")
    for name, text in written.items():
        write_text(aside / name, text)
    try:
        os.rename(aside, folder)
    except OSError:  # another process was faster
        shutil.rmtree(aside)


def _read(file: Path) -> Any:
    """Return the content of a YAML or JSON file, or None where there is none."""
    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return None


def _text(plan: Recipe) -> str:
    return yaml.safe_dump(asdict(plan), sort_keys=False)


def _other_keys(saved: Any, wanted: dict[str, Any]) -> list[str]:
    """Name what of a saved recipe decides on its results and is not as wanted; seeds may have been added."""
    if not isinstance(saved, dict) or not isinstance(saved.get("seeds"), list):
        return [RECIPE]
    other = [key for key in wanted if key not in ("jobs", "seeds") and saved.get(key) != wanted[key]]
    return other + ["seeds"] * (not set(saved["seeds"]) <= set(wanted["seeds"]))
