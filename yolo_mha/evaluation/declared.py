"""What a comparison was planned to be, and when: ``plan.json`` in its folder, written before the first training."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from ..data.files import write_text
from ..data.records import damaged, read_record
from .given import Given
from .one_run import END
from .recipe import Recipe

Record = TypeVar("Record")
PLAN = "plan.json"
NOT_PLANNED = ("name", "jobs", "keep_best", "blocks", "bad")  # they have no part in the result, or one that is an input
USUAL: dict[str, Any] = {"looks": [], "metric": "AP", "contrasts": []}  # not written down


@dataclass(frozen=True)
class Declaration:
    """A plan with its date.

    Attributes:
        date: When it was written, in UTC, ISO 8601.
        sha256: SHA-256 of the plan as JSON with sorted keys and without spaces.
        plan: The recipe without names of folders and modules, with ``baseline`` as the name of that arm, and as
            ``inputs`` the SHA-256 of what it names, by name; given runs have theirs in the place of their paths.
        trained: Seeds of which a run had ended by then: AP of each epoch is shown while they are trained.
    """

    date: str
    sha256: str
    plan: dict[str, Any]
    trained: list[int] = field(default_factory=list)


def planned(recipe: Recipe, inputs: Mapping[str, str]) -> dict[str, Any]:
    """Return the plan that a recipe declares, in JSON types.

    Args:
        recipe: The recipe.
        inputs: The SHA-256 of what it names.
    """
    content = {key: value for key, value in recipe.as_dict().items() if key not in NOT_PLANNED}
    content = {key: value for key, value in content.items() if key not in USUAL or value != USUAL[key]}
    given = {name: arm for name, arm in recipe.arms.items() if isinstance(arm, Given)}
    content["arms"] |= {name: arm.by_content(inputs) for name, arm in given.items()}
    files = {file for arm in given.values() for file in arm.files.values()}
    inputs = {name: digest for name, digest in inputs.items() if name not in files}
    content |= {"baseline": recipe.baseline, "seeds": sorted(recipe.seeds), "inputs": inputs}
    plan: dict[str, Any] = json.loads(json.dumps(content))
    return plan


def declare(folder: Path, plan: dict[str, Any]) -> None:
    """Append a plan to ``plan.json`` with the date of now, unless the last one there is the same.

    Args:
        folder: The comparison's, opened by this process.
        plan: From `planned`.
    """
    before = read_declarations(folder)
    digest = _sha256(plan)
    if not before or before[-1].sha256 != digest:
        runs = (re.fullmatch(r"seed(\d+)", file.parent.name) for file in folder.glob(f"arms/*/seed*/{END}"))
        trained = {int(run[1]) for run in runs if run}  # others were moved aside
        content = [asdict(each) for each in (*before, Declaration(now(), digest, plan, sorted(trained)))]
        write_text(folder / PLAN, json.dumps(content, indent=2))


def read_declarations(folder: Path) -> list[Declaration]:
    """Return the plans of a comparison, the last one being what holds; none where it was not begun.

    Args:
        folder: The comparison's.

    Raises:
        ConfigError: The file is damaged.
    """
    return read_plans(folder / PLAN, Declaration)


def plan_changes(declarations: Sequence[Declaration]) -> list[str]:
    """Say in words when a plan was changed, and what in it.

    Args:
        declarations: The plans in the order of their dates.
    """
    said = []
    for before, after in pairwise(declarations):
        plans = [{**USUAL, **each.plan} for each in (before, after)]
        keys = [key for key in plans[1] if key != "inputs" and plans[0].get(key) != plans[1][key]]
        words = [f"{key} from {in_words(plans[0].get(key))} to {in_words(plans[1][key])}" for key in keys]
        said.append(f"The plan was changed on {date_in_words(after.date)}: {'; '.join(words) or 'other inputs'}.")
    return said


def seeds_chosen_late(declarations: Sequence[Declaration]) -> list[str]:
    """Say where seeds were added or left out after some were trained, which is a look at their AP without a report.

    Args:
        declarations: The plans in the order of their dates, the last one being what holds.
    """
    seeds = declarations[-1].plan["seeds"]
    first = next(i for i, each in enumerate(declarations) if each.plan["seeds"] == seeds)
    chosen = declarations[first]
    for before in declarations[:first]:
        known = sorted({*chosen.trained} & {*before.plan["seeds"]})
        if known and {*seeds} & {*before.plan["seeds"]}:
            change = f"seeds were changed from {in_words(before.plan['seeds'])} to {in_words(seeds)}"
            return [f"{change} when {in_words(known)} had been trained ({date_in_words(chosen.date)})"]
    return []


def read_plans(file: Path, kind: Callable[..., Record]) -> list[Record]:
    """Read records of a plan from a JSON file; an empty list where there is no file.

    Args:
        file: The file.
        kind: The class of a record, with ``plan`` and its ``sha256``.

    Raises:
        ConfigError: The file is damaged.
    """
    content = read_record(file, list[kind]) or []  # type: ignore[valid-type]
    if any(record["sha256"] != _sha256(record["plan"]) for record in content):
        raise damaged(file, "sha256 is not that of the plan")
    return [kind(**record) for record in content]


def _sha256(plan: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(plan, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def now() -> str:
    """Return the date of now, in UTC."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def date_in_words(date: str) -> str:
    """Return a date as people read it."""
    return f"{date[:16].replace('T', ' ')} UTC"


def in_words(value: object) -> str:
    """Return a value of a plan as people write it."""
    if isinstance(value, dict):
        value = [f"{key}={own}" for key, own in value.items()]
    return "none" if value in (None, []) else ", ".join(map(str, value)) if isinstance(value, list) else str(value)
