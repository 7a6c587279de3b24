"""The folder of a comparison: found again by what it compares, and used by one process at a time."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain, count
from pathlib import Path

import yaml
from filelock import FileLock, Timeout
from ultralytics.data.utils import img2label_paths
from ultralytics.utils import LOGGER

from ..data.dataset import Sample
from ..data.files import require_writable, write_text
from ..engine.model import existing
from ..engine.progress import with_bar
from ..engine.run_folder import OTHER_FOLDER, cannot_write
from ..engine.settings import in_working_directory
from ..errors import ConfigError, YoloMHAError
from ..registry import find_model_yaml
from .plan import Plan
from .recipe import Arm, Recipe, read_recipe

RECIPE, INPUTS, LOCK = "recipe.yaml", "inputs.json", ".lock"


@contextmanager
def open_folder(plan: Plan, project: str | Path | None = None) -> Iterator[Path]:
    """Give the folder of a comparison to this process alone: the one where it was begun, or a new one.

    A folder is taken up again if its recipe is the same in everything but ``jobs`` and added seeds, and the files that
    it names (models, checkpoints, images and labels) still have the same content. Otherwise it is left alone, and the
    next free one of ``name``, ``name-2``, ... is made.

    Args:
        plan: The plan.
        project: Where the folders of all comparisons are; ``runs/compare`` if not given.

    Raises:
        ConfigError: Another process works in the folder, or it cannot be written to.
    """
    root = Path(in_working_directory({"project": project}, "runs/compare")["project"]).resolve()
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise cannot_write(root, e) from e
    require_writable(root, OTHER_FOLDER)
    folder = _find_or_make(plan.recipe, fingerprint(plan), root)
    try:
        lock = FileLock(folder / LOCK).acquire(timeout=0)
    except Timeout as e:
        raise ConfigError(
            "Another process works on this comparison.",
            given=str(folder),
            expected="one at a time",
            fix="wait until it is done, or give another name=",
        ) from e
    with lock:
        write_text(folder / RECIPE, _text(plan.recipe))
        yield folder


def fingerprint(plan: Plan) -> dict[str, str]:
    """Return the SHA-256 of what a plan names: each model and checkpoint file, and the images and labels."""
    named = {arm.model for arm in plan.recipe.arms.values() if isinstance(arm, Arm)}
    if isinstance(pretrained := plan.recipe.train.get("pretrained"), str):
        named.add(pretrained)
    files = {name: find_model_yaml(name) if name.endswith((".yaml", ".yml")) else existing(name) for name in named}
    files |= {f"annotations of {split}": file for split, file in plan.dataset.annotations.items()}
    found = {name: hashlib.sha256(Path(str(files[name])).read_bytes()).hexdigest() for name in sorted(files)}
    return {**found, "classes": _digest(plan.dataset.names.values()), "data": _digest(_contents(plan.samples))}


def _contents(samples: Mapping[str, Sequence[Sample]]) -> Iterator[str]:
    """Yield name and content of every image and label."""
    for split, own in samples.items():
        images = [str(sample.image) for sample in own]
        pairs = list(zip(images, img2label_paths(images), strict=True))
        with ThreadPoolExecutor() as pool:
            found = with_bar(pool.map(_content, pairs), f"fingerprint of {split}", len(pairs))
            for image, contents in zip(images, found, strict=True):
                yield f"{split} {os.path.basename(image)} {contents}"


def _content(files: tuple[str, str]) -> str:
    return " ".join(hashlib.sha256(Path(f).read_bytes()).hexdigest() if os.path.isfile(f) else "-" for f in files)


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()


def _find_or_make(recipe: Recipe, inputs: dict[str, str], root: Path) -> Path:
    numbered = re.compile(rf"{re.escape(recipe.name)}(-\d+)?")
    begun = sorted(folder for folder in root.iterdir() if numbered.fullmatch(folder.name))
    names = chain([recipe.name], (f"{recipe.name}-{number}" for number in count(2)))
    candidates = chain(begun, (root / name for name in names if root / name not in begun))
    folder = next(candidates)
    while changed := _changes(folder, recipe, inputs):
        LOGGER.warning(f"{folder} differs in {', '.join(changed)}, so it is left as it is")
        folder = next(candidates)
    return folder


def _text(recipe: Recipe) -> str:
    return yaml.safe_dump(recipe.as_dict(), sort_keys=False)


def _changes(folder: Path, recipe: Recipe, inputs: Mapping[str, str]) -> list[str]:
    """Name what of a folder decides on the results and is not as wanted; seeds may have been added. Made if missing."""
    if not folder.exists():  # with its files at once, so that another process never finds it half-made
        aside = folder.with_name(f".{folder.name}-{os.getpid()}")
        write_text(aside / RECIPE, _text(recipe))
        write_text(aside / INPUTS, json.dumps(inputs, indent=2))
        try:
            os.rename(aside, folder)
        except OSError:  # another process was faster
            shutil.rmtree(aside)
    try:
        saved = read_recipe(folder / RECIPE, {})
        found = json.loads((folder / INPUTS).read_text(encoding="utf-8"))
        known = {key: found.get(key) for key in inputs}
    except (YoloMHAError, OSError, ValueError, AttributeError):
        return [RECIPE]
    one, other = vars(replace(saved, jobs=recipe.jobs, seeds=recipe.seeds)), vars(recipe)
    changed = [key for key in other if one[key] != other[key]]
    changed += ["seeds"] * (not set(saved.seeds) <= set(recipe.seeds))
    return changed or [key for key, value in inputs.items() if known[key] != value]
