"""Looks at the results of a comparison: each is recorded, and a plan that was changed after one gets no verdict.

A 95 % interval misses the true difference in 5 of 100 comparisons if the plan was fixed before the results were seen.
If seeds are added until an answer comes out (optional stopping), it misses more often: with a look after each seed from
3 to 10, and noise of seeds alone, a difference of zero is reported as real in 17 of 100. So each look is recorded in
``looks.json`` before any result is shown.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ultralytics.cfg import DEFAULT_CFG_DICT

from ..data.files import write_text
from ..data.groups import IMAGE
from .declared import USUAL, Declaration, date_in_words, in_words, now, read_plans
from .given import KINDS
from .verdict import NONE, Verdict

LOOKS = "looks.json"
TEST = "data test"  # the input that identifies the test images; missing if they were not scored yet
# beside the seeds, what could be changed until an answer comes out
CHOICES = ("primary", "margin", "group", "looks", "metric", "contrasts", "train")
# settings with which the same is trained, as far as a difference of arms goes
SAME_TRAINING = (
    "device", "workers", "cache", "plots", "verbose", "save_period", "show", "save_json", "save_txt", "save_conf",
    "save_crop", "save_frames", "line_width", "show_boxes", "show_conf", "show_labels", "visualize", "patience",
)  # fmt: skip
SCORED_WITH = ("conf", "iou", "max_det", "half", "agnostic_nms", "augment")  # of these, what scores depend on


@dataclass(frozen=True)
class Look:
    """A conclusion that was drawn: the scores of the arms were seen.

    Attributes:
        date: When, in UTC, ISO 8601.
        sha256: That of the plan, see `Declaration`.
        plan: The plan.
        finished: The seeds that were finished, by arm.
    """

    date: str
    sha256: str
    plan: dict[str, Any]
    finished: dict[str, list[int]]


@dataclass(frozen=True)
class Review:
    """What earlier looks mean for a plan.

    Attributes:
        objections: Why it gets no verdict.
        remarks: What a reader should know and what does no harm.
    """

    objections: list[str]
    remarks: list[str]


def read_looks(folder: Path) -> list[tuple[str, Look]]:
    """Return the looks at a comparison and at those beside it, by date.

    Args:
        folder: The comparison's; the others are beside it.

    Returns:
        The name of each look's folder, empty for this one, and the look.

    Raises:
        ConfigError: A file is damaged.
    """
    files = [folder / LOOKS, *sorted(file for file in folder.parent.glob(f"*/{LOOKS}") if file.parent != folder)]
    found = [
        ("" if file.parent == folder else file.parent.name, look) for file in files for look in read_plans(file, Look)
    ]
    return sorted(found, key=lambda each: each[1].date)


def record_look(folder: Path, plan: Declaration, finished: Mapping[str, list[int]]) -> list[Look]:
    """Note a look, unless it is the same as the last one; to be called before results are shown or written.

    Args:
        folder: The comparison's, opened by this process.
        plan: The plan that holds.
        finished: The seeds that are finished, by arm.

    Returns:
        All looks at this comparison, this one too.
    """
    looks = read_plans(folder / LOOKS, Look)
    look = Look(now(), plan.sha256, plan.plan, dict(finished))
    if not looks or replace(looks[-1], date=look.date) != look:
        looks.append(look)
        write_text(folder / LOOKS, json.dumps([asdict(each) for each in looks], indent=2))
    return looks


def review(plan: Mapping[str, Any], earlier: Sequence[tuple[str, Look]]) -> Review:
    """Say what earlier looks mean for the verdict on a plan.

    Looks at the same difference on the same images count: there is no verdict where some of the seeds were seen with
    others or without some, or where the primary arm, the margin or the groups were others. The first look at a plan
    decides: looks after it do not take its verdict away. Looks at other seeds alone, or at another split, are told, and
    looks at other given runs of arms with the same names.

    Args:
        plan: What is to be concluded, see `planned`.
        earlier: From `read_looks`.
    """
    found = Review([], [])
    about = [(where, look) for where, look in earlier if _same_difference(look.plan, plan)]
    first = next((i for i, (_, look) in enumerate(about) if _same_choices(look.plan, plan)), len(about))
    known: list[tuple[str, Mapping[str, Any]]] = []
    for i, (where, look) in enumerate(about):
        if any(where == other and _same_choices(look.plan, seen) for other, seen in known):
            continue
        known.append((where, look.plan))
        when = date_in_words(look.date) + (f", {where}" if where else "")
        seeds = in_words(look.plan["seeds"])
        if _same_choices(look.plan, plan):
            if where:
                found.remarks.append(f"The same was concluded before ({when}).")
        elif _scored(look.plan) != _scored(plan):
            found.remarks.append(f"Seeds {seeds} were scored on the {look.plan['split']} images before ({when}).")
        elif not set(look.plan["seeds"]) & set(plan["seeds"]) and not _runs(plan, plan["primary"]):
            found.remarks.append(f"The same arms were concluded before with other seeds, {seeds} ({when}).")
        elif i < first:
            found.objections.extend(_objections(look.plan, plan, when))
        else:
            found.remarks.append(f"It was concluded again later with another plan, seeds {seeds} ({when}).")
    names = [plan["baseline"], plan["primary"]]
    for where, look in earlier:
        other = [look.plan["baseline"], look.plan["primary"]] == names and _scored(look.plan) == _scored(plan)
        if other and (where, look) not in about and _runs(plan, names[1]) and _runs(look.plan, names[1]):
            when = date_in_words(look.date) + (f", {where}" if where else "")
            found.remarks.append(
                f"{names[1]} and {names[0]} were concluded before from other files, seeds "
                f"{in_words(look.plan['seeds'])} ({when}). If those hold the same runs, runs were chosen after a look, "
                "and the verdict does not count."
            )
    if plan["split"] == "test":
        found.remarks.extend(_scored_before(plan, [each for each in earlier if each not in about]))
    return found


def withhold(verdict: Verdict, arm: str, against: str, objections: Sequence[str]) -> Verdict:
    """Return "no verdict" with the first reason in place of a verdict, where there is one.

    Args:
        verdict: As the interval allows it.
        arm: Name of the arm.
        against: Name of what it is compared with.
        objections: The reasons.
    """
    if verdict.word == NONE or not objections:
        return verdict
    return Verdict(NONE, f"No verdict on {arm} against {against}: {objections[0]}.")


def fresh_seeds(plan: Mapping[str, Any], earlier: Sequence[tuple[str, Look]], number: int) -> list[int]:
    """Return seeds that were neither planned nor seen.

    Args:
        plan: The plan.
        earlier: From `read_looks`.
        number: How many.
    """
    plans = [plan, *(look.plan for _, look in earlier if _same_difference(look.plan, plan))]
    first = 1 + max(seed for each in plans for seed in each["seeds"])
    return list(range(first, first + number))


def _same_difference(one: Mapping[str, Any], plan: Mapping[str, Any]) -> bool:
    """Say whether the primary contrast of a plan is in another plan too: the same arms by any name, trained alike.

    Given runs are trained alike whatever they are scored with; an arm is the same if it has a run that the other has.
    """
    groups = (one.get("group"), plan.get("group"))  # a file, maybe
    shared = {key for key in one["inputs"] if key in plan["inputs"] and key not in groups}
    others, wanted = (arm for arm in one["arms"] if arm != one["baseline"]), _arms(plan, plan["primary"])
    if _runs(plan, plan["primary"]):
        same = any(_share_runs(one, arm, plan) for arm in others)
    else:
        same = _trained(one) == _trained(plan) and any(_arms(one, arm) == wanted for arm in others)
    return same and all(one["inputs"][key] == plan["inputs"][key] for key in shared)


def _share_runs(one: Mapping[str, Any], arm: str, plan: Mapping[str, Any]) -> bool:
    """Say whether an arm and its baseline have given runs of those that the primary contrast of a plan compares."""
    a, b = _runs(one, arm), _runs(one, one["baseline"])
    c, d = _runs(plan, plan["primary"]), _runs(plan, plan["baseline"])
    return bool((a & c and b & d) or (a & d and b & c))


def _runs(plan: Mapping[str, Any], arm: str) -> set[str]:
    """Return the SHA-256 of an arm's given runs; none where it is trained."""
    return {digest for kind in KINDS for digest in plan["arms"].get(arm, {}).get(kind, {}).values()}


def training(train: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that decide on what is trained and scored, with Ultralytics' defaults."""
    return {key: value for key, value in {**DEFAULT_CFG_DICT, **train}.items() if key not in SAME_TRAINING}


def _trained(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that decide on what is trained, a file by its content."""
    settings = {key: value for key, value in training(plan["train"]).items() if key not in SCORED_WITH}
    return _by_content(settings, "pretrained", plan)


def _by_content(settings: Mapping[str, Any], key: str, plan: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with the SHA-256 of a file in the place of its path."""
    found = {**settings}
    if isinstance(name := found.get(key), str):
        found[key] = plan["inputs"].get(name, name)
    return found


def _arms(plan: Mapping[str, Any], arm: str) -> list[Any]:
    """Return what the baseline, an arm, and the arm whose control it is, train, whatever names and paths they have."""
    arms = {name: _by_content(own, "model", plan) for name, own in plan["arms"].items()}
    own = arms.get(arm, {})
    rest = {key: value for key, value in own.items() if key != "match"}
    pair = sorted([arms[plan["baseline"]], rest], key=str)  # either way round it is the same difference
    return [*pair, arms.get(own.get("match"))]


def _same_choices(one: Mapping[str, Any], plan: Mapping[str, Any]) -> bool:
    return (
        one["seeds"] == plan["seeds"]
        and _scored(one) == _scored(plan)
        and all(_choice(one, key) == _choice(plan, key) for key in CHOICES)
    )


def _scored(plan: Mapping[str, Any]) -> str:
    """Return an identifier of the scored images: the SHA-256 of their content, independent of the split's name."""
    return str(plan["inputs"].get(f"data {plan['split']}", plan["split"]))


def _choice(plan: Mapping[str, Any], key: str) -> Any:
    """Return what a choice comes to: that of groups by the content of a file, and no groups by either word."""
    value = plan.get(key, USUAL.get(key))
    if key in ("primary", "train"):
        return _arms(plan, plan["primary"]) if key == "primary" else training(plan["train"])
    return None if value == IMAGE else plan["inputs"].get(value, value) if key == "group" else value


def _objections(then: Mapping[str, Any], plan: Mapping[str, Any], when: str) -> list[str]:
    """Say what of a plan was changed after a look at some of its seeds."""
    said = []
    before, after = set(then["seeds"]), set(plan["seeds"])
    for seeds, what in ((after - before, "added"), (before - after, "left out")):
        if seeds:
            some = f"seed {min(seeds)} was" if len(seeds) == 1 else f"seeds {in_words(sorted(seeds))} were"
            said.append(f"{some} {what} after a look at the results of seeds {in_words(then['seeds'])} ({when})")
    for key in CHOICES:
        if _choice(then, key) == _choice(plan, key):
            continue
        before_it, after_it = (each.get(key, USUAL.get(key)) for each in (then, plan))
        if before_it != after_it:
            old, new = in_words(before_it), in_words(after_it)
            said.append(f"{key} was {old} when the results were looked at ({when}), and is {new} now")
        elif key == "primary" and before == after:
            said.append(f"the primary contrast was between other runs when the results were looked at ({when})")
        elif key == "group":
            said.append(f"the file that group names had another content when the results were looked at ({when})")
    return said


def _scored_before(plan: Mapping[str, Any], others: Sequence[tuple[str, Look]]) -> list[str]:
    """Name the other comparisons that were scored on the same test images, each with its first look."""
    images = plan["inputs"][TEST]
    first: dict[str, str] = {}
    for where, look in others:
        if look.plan["split"] == "test" and look.plan["inputs"].get(TEST) == images:
            first.setdefault(where, date_in_words(look.date))
    return [f"The test images were scored before ({when}, {where})." for where, when in first.items()]
