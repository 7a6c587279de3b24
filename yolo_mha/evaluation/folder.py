"""The folder of a comparison: found again by what it compares, and used by one process at a time."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import chain, count
from pathlib import Path
from typing import Any

import yaml
from ultralytics.data.utils import img2label_paths
from ultralytics.utils import LOGGER

from ..data.dataset import Sample
from ..data.files import clear_unfinished, require_writable, sha256, sha256_of_lines, unfinished, write_text
from ..data.groups import is_table
from ..engine.model import existing
from ..engine.progress import with_bar
from ..engine.run_folder import OTHER_FOLDER, FolderInUseError, cannot_write, locked
from ..engine.settings import in_working_directory
from ..errors import ConfigError, YoloMHAError
from ..registry import find_model_yaml
from .declared import declare, in_words, planned, read_declarations
from .given import Given
from .looks import TEST, read_looks, training
from .plan import Plan
from .recipe import Arm, Recipe, read_recipe
from .run_code import SOURCE, source_inputs

OTHER_NAME = "give another name= (jobs=2 trains two runs of one comparison at a time)"
WAIT, PATIENCE = 2.0, 60.0  # seconds to wait for another process: at a time, and for one that enters a plan
RECIPE, INPUTS, FAULTS = "recipe.yaml", "inputs.json", "bad.csv"
# what is trained does not depend on them; on bad only by the images that are left and their repairs, which are inputs
NOT_TRAINED = (
    "jobs", "seeds", "looks", "primary", "metric", "contrasts", "margin", "split", "group", "keep_best", "blocks",
    "bad",
)  # fmt: skip


@contextmanager
def open_folder(plan: Plan, project: str | Path | None = None, begun: bool = False) -> Iterator[Path]:
    """Give the folder of a comparison to this process alone: the one where it was begun, or a new one.

    A folder is taken up again if its recipe trains the same, so that at most what `NOT_TRAINED` names differs, and the
    files that it names (models, checkpoints, given runs, images and labels) and the source of its blocks are the same.
    Otherwise it is left alone, and the next free one of ``name``, ``name-2``, ... is made. The plan is entered into its
    ``plan.json``.

    Args:
        plan: The plan.
        project: Where the folders of all comparisons are; ``runs/compare`` if not given.
        begun: Take only one that was begun, also where the code of a block was changed since.

    Raises:
        ConfigError: Another process works in the folder, it cannot be written to, or its records are damaged; or none
            was begun.
    """
    root = comparisons(project)
    if not begun:
        _make(root)
    if root.is_dir():
        require_writable(root, OTHER_FOLDER)
        clear_unfinished(root)
    inputs = fingerprint(plan)
    folder = _find(plan.recipe, inputs, root) if begun else _find_or_make(plan.recipe, inputs, root)
    with locked(folder, OTHER_NAME, patience=WAIT, alone=False):
        _enter(plan, inputs, folder)
        yield folder


def join_folder(plan: Plan, project: str | Path | None = None) -> Path:
    """Return the folder of a comparison, to train one of its runs; other processes may work there at the same time.

    Args:
        plan: The plan; it is entered into ``plan.json`` unless it is what holds there.
        project: As for `open_folder`.

    Raises:
        ConfigError: The folder cannot be written to, its records are damaged, or another process works there with
            another plan.
    """
    root = comparisons(project)
    _make(root)
    require_writable(root, OTHER_FOLDER)
    inputs = fingerprint(plan)
    folder = _find_or_make(plan.recipe, inputs, root)
    until = time.monotonic() + PATIENCE
    while not (declared := read_declarations(folder)) or declared[-1].plan != _planned(plan, inputs, folder):
        try:
            with locked(folder, OTHER_NAME, patience=WAIT, alone=False):
                _enter(plan, inputs, folder)
        except FolderInUseError:  # perhaps by a process that enters this very plan
            if time.monotonic() > until:
                raise
    return folder


def _make(root: Path) -> None:
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise cannot_write(root, e) from e


def _enter(plan: Plan, inputs: Mapping[str, str], folder: Path) -> None:
    """Write down what a comparison is planned to be."""
    read_looks(folder)  # a damaged record is reported before hours of training
    declare(folder, _planned(plan, inputs, folder))
    write_text(folder / INPUTS, json.dumps(_known(plan, inputs, folder), indent=2))
    write_text(folder / RECIPE, _text(plan.recipe))
    if plan.data_check.file:
        write_text(folder / FAULTS, Path(plan.data_check.file).read_text(encoding="utf-8"))


def _known(plan: Plan, inputs: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Return the inputs that a folder has, and those that are new."""
    found = json.loads((folder / INPUTS).read_text(encoding="utf-8"))
    return {**inputs, **{key: digest for key, digest in found.items() if key != plan.recipe.group}}


def _planned(plan: Plan, inputs: Mapping[str, str], folder: Path) -> dict[str, Any]:
    known = _known(plan, inputs, folder)
    return planned(plan.recipe, {key: known[key] for key in inputs})


def comparisons(project: str | Path | None) -> Path:
    """Return the folder of the folders of all comparisons: ``project``, or ``runs/compare``."""
    return Path(in_working_directory({"project": project}, "runs/compare")["project"]).resolve()


def fingerprint(plan: Plan) -> dict[str, str]:
    """Return the SHA-256 of what a plan names: models, checkpoints, given runs, source of blocks, images and labels."""
    named = {arm.model for arm in plan.recipe.arms.values() if isinstance(arm, Arm)}
    if isinstance(pretrained := plan.recipe.train.get("pretrained"), str):
        named.add(pretrained)
    files = {name: find_model_yaml(name) if name.endswith((".yaml", ".yml")) else existing(name) for name in named}
    if is_table(plan.recipe.group):
        files[str(plan.recipe.group)] = str(plan.recipe.group)
    for arm in plan.recipe.arms.values():
        files |= {file: file for file in (arm.files.values() if isinstance(arm, Given) else ())}
    files |= {f"annotations of {split}": file for split, file in plan.dataset.annotations.items()}
    found = {name: sha256(str(files[name])) for name in sorted(files)}
    found |= source_inputs(arm.sources for arm in plan.arms.values())
    data = {f"data {split}": sha256_of_lines(_contents(split, own)) for split, own in plan.samples.items()}
    return {**found, "classes": sha256_of_lines(plan.dataset.names.values()), **data}


def _contents(split: str, samples: Sequence[Sample]) -> Iterator[str]:
    """Yield name and content of every image and label, and what was repaired."""
    images = [str(sample.image) for sample in samples]
    pairs = list(zip(images, img2label_paths(images), strict=True))
    with ThreadPoolExecutor() as pool:
        found = with_bar(pool.map(_content, pairs), f"fingerprint of {split}", len(pairs))
        for image, contents, sample in zip(images, found, samples, strict=True):
            yield " ".join([os.path.basename(image), contents, *sample.repairs])


def _content(files: tuple[str, str]) -> str:
    return " ".join(sha256(f) if os.path.isfile(f) else "-" for f in files)


def folders_of(name: str, root: Path) -> list[Path]:
    """Return the folders of comparisons of a name: NAME, NAME-2, ..."""
    numbered = re.compile(rf"{re.escape(name)}(-\d+)?")
    return sorted(folder for folder in root.glob("*") if numbered.fullmatch(folder.name))


def _find(recipe: Recipe, inputs: dict[str, str], root: Path) -> Path:
    """Return the folder where a comparison was begun; changed code of a block is no hindrance."""
    tried = {folder: _changes(folder, recipe, inputs) for folder in folders_of(recipe.name, root)}
    for folder in sorted(tried, key=lambda each: len(tried[each])):
        if all(key.startswith(SOURCE) for key in tried[folder]):
            return folder
    raise ConfigError(
        "There is no comparison with this recipe to conclude.",
        given="; ".join(f"{folder} differs in {', '.join(changed)}" for folder, changed in tried.items())
        or f"no folder {recipe.name} in {root}",
        expected="the recipe of a comparison with finished runs",
        fix="give the recipe.yaml in its folder, and project=; or train it first, without conclude=True",
    )


def _find_or_make(recipe: Recipe, inputs: dict[str, str], root: Path) -> Path:
    known = folders_of(recipe.name, root)
    names = chain([recipe.name], (f"{recipe.name}-{number}" for number in count(2)))
    candidates = chain(known, (root / name for name in names if root / name not in known))
    folder = next(candidates)
    while changed := _changes(folder, recipe, inputs):
        LOGGER.warning(f"{folder} is another comparison, so it is not changed; it differs in {', '.join(changed)}")
        folder = next(candidates)
    return folder


def _text(recipe: Recipe) -> str:
    return yaml.safe_dump(recipe.as_dict(), sort_keys=False)


def _changes(folder: Path, recipe: Recipe, inputs: Mapping[str, str]) -> list[str]:
    """Name what a folder's runs depend on and is not as wanted; the folder is made if it is missing."""
    if not folder.exists():  # with its files at once, so that another process never finds it half-made
        aside = folder.with_name(unfinished() + folder.name)
        write_text(aside / RECIPE, _text(recipe))
        write_text(aside / INPUTS, json.dumps(inputs, indent=2))
        changed = _differences(aside, recipe, inputs)
        with suppress(OSError):  # another process was faster
            if not changed:
                os.rename(aside, folder)
        shutil.rmtree(aside, ignore_errors=True)
        if changed:  # no folder would ever be the one of this recipe
            raise ConfigError(
                "The recipe cannot be kept: it is another one when it is read back.",
                given=in_words(changed),
                expected="settings that YAML can hold, such as numbers and words",
            )
    return _differences(folder, recipe, inputs)


def _differences(folder: Path, recipe: Recipe, inputs: Mapping[str, str]) -> list[str]:
    """Name what the runs of a folder that is there depend on and is not as wanted."""
    try:
        saved = read_recipe(folder / RECIPE, {})
        found = json.loads((folder / INPUTS).read_text(encoding="utf-8"))
        known = {TEST: inputs.get(TEST), **found}  # the test images may be scored for the first time
    except (YoloMHAError, OSError, ValueError, TypeError):
        return [RECIPE]
    one, other = (
        {**vars(each), "arms": list(each.arms.items()), "train": training(each.train)} for each in (saved, recipe)
    )  # the arms in their order
    changed = [key for key in other if key not in NOT_TRAINED and one[key] != other[key]]
    group = recipe.group  # a file, maybe
    return changed + [key for key, digest in inputs.items() if key != group and known.get(key) != digest]
