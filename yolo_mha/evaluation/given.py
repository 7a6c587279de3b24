"""Runs that one already has, by arm and seed: a pattern of paths, a YAML file or a mapping names their files."""

from __future__ import annotations

import glob
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ConfigError, nearest
from ..paths import given_path
from ..yaml_files import read_yaml

MODELS, PREDICTIONS = "models", "predictions"
KINDS = (MODELS, PREDICTIONS)
ARM, SEED = "{arm}", "{seed}"  # placeholders in a pattern
EXAMPLES = {MODELS: "runs/{arm}/seed{seed}/weights/last.pt", PREDICTIONS: "predictions/{arm}-{seed}.json"}
MAPPING = "arm: {seed: path}, with the seeds as whole numbers"


@dataclass(frozen=True)
class Given:
    """An arm that is not trained here.

    Attributes:
        kind: "models" for checkpoints, or "predictions" for COCO results files.
        files: The file of each run by seed, as a full path.
    """

    kind: str
    files: dict[int, str]

    def settings(self) -> dict[str, Any]:
        """Return its entry in a recipe."""
        return {self.kind: dict(self.files)}

    def by_content(self, sha256: Mapping[str, str]) -> dict[str, Any]:
        """Return the same with the SHA-256 of each file in place of its path.

        Args:
            sha256: That of each file.
        """
        return {self.kind: {seed: sha256[file] for seed, file in self.files.items()}}

    def __str__(self) -> str:
        return f"{len(self.files)} given {self.kind}, such as {next(iter(self.files.values()))}"


def read_runs(kind: str, value: object) -> dict[str, Given]:
    """Read which runs there are.

    Args:
        kind: "models" or "predictions".
        value: A pattern of paths with ``{arm}`` and ``{seed}`` in it; a YAML file with ``arm: {seed: path}``, where
            paths are relative to its folder; or such a mapping.

    Returns:
        The arms by name.

    Raises:
        ConfigError: It names no runs, one of them twice, or files that are missing.
    """
    if isinstance(value, Mapping):
        content, folder = value, Path()
    elif str(value).endswith((".yaml", ".yml")):
        file = given_path(value, kind)
        content, folder = read_yaml(file, ConfigError, expected=MAPPING), file.parent
    else:
        content, folder = _found(kind, given_path(value, kind).as_posix()), Path()
    return {str(arm): read_given(str(arm), kind, files, folder) for arm, files in content.items()}


def read_given(arm: str, kind: str, files: object, folder: Path = Path()) -> Given:
    """Read the runs of an arm.

    Args:
        arm: Its name, for messages.
        kind: "models" or "predictions".
        files: The file of each run by seed.
        folder: What relative paths are relative to.

    Raises:
        ConfigError: It is no such mapping, or a file is missing.
    """
    if not isinstance(files, Mapping) or not files or not all(type(seed) is int and seed >= 0 for seed in files):
        raise ConfigError(f"Arm '{arm}' of {kind} is not a mapping.", given=f"{arm}: {files}", expected=MAPPING)
    paths = {seed: folder / given_path(file, f"{kind} of {arm}, seed {seed}") for seed, file in sorted(files.items())}
    for seed, path in paths.items():
        if not path.is_file():
            problem = f"The file of {arm}, seed {seed}, does not exist."
            raise ConfigError(problem, given=path, expected=f"an existing file for each run in {kind}")
    return Given(kind, {seed: str(path.resolve()) for seed, path in paths.items()})


def chosen_baseline(runs: Mapping[str, Given], baseline: object, primary: object) -> str:
    """Return the name of the baseline, after making sure that the arms of the primary contrast are named.

    Args:
        runs: From `read_runs`.
        baseline: Its name; None where it is "baseline".
        primary: The arm that the comparison is about; None where there is only one beside the baseline.

    Raises:
        ConfigError: There is no such arm, or it is not said which one is primary.
    """
    name, arms = str(baseline or "baseline"), ", ".join(runs)
    if name not in runs:
        expected = f"baseline=NAME, {nearest(name, runs)}"
        problem = f"No arm is called '{name}', so the baseline is unknown."
        raise ConfigError(problem, given=f"arms: {arms}", expected=expected)
    if len(others := [arm for arm in runs if arm != name]) > 1 and not primary:
        expected = f"primary=NAME, one of {', '.join(others)}"
        problem = "primary is missing: several arms could be compared with the baseline."
        raise ConfigError(problem, given=f"arms: {arms}", expected=expected)
    return name


def _found(kind: str, pattern: str) -> dict[str, dict[int, str]]:
    """Return the files that fit a pattern by arm and seed; the shortest name of an arm that fits counts."""
    example = f"{kind}={EXAMPLES[kind]}"
    if lacking := [place for place in (ARM, SEED) if place not in pattern]:
        raise ConfigError(
            f"The pattern of {kind} has no {' and no '.join(lacking)}.",
            given=f"{kind}={pattern}",
            expected=f"a path with {ARM} and {SEED} for the arm's name and the seed, such as {example}",
            fix=f"correct the pattern, or give a YAML file with {MAPPING}",
        )
    regex = re.escape(pattern)
    for place, group, fits in ((ARM, "arm", "[^/]+?"), (SEED, "seed", "[0-9]+")):
        first, *again = regex.split(re.escape(place))
        regex = f"{first}(?P<{group}>{fits})" + f"(?P={group})".join(again)
    runs: dict[str, dict[int, str]] = {}
    for file in sorted(glob.glob(glob.escape(pattern).replace(ARM, "*").replace(SEED, "*"))):
        if not (fit := re.fullmatch(regex, Path(file).as_posix())) or not Path(file).is_file():
            continue
        own, seed = runs.setdefault(fit["arm"], {}), int(fit["seed"])
        if seed in own:
            problem = f"Two files match {fit['arm']}, seed {seed}."
            raise ConfigError(problem, given=f"{own[seed]} and {file}", expected="one file per arm and seed")
        own[seed] = file
    if not runs:
        raise ConfigError(
            f"No file matches the pattern of {kind}.",
            given=f"{kind}={pattern}, in {Path.cwd()}",
            expected=f"files such as {pattern.replace(ARM, 'baseline').replace(SEED, '0')}",
        )
    return runs
