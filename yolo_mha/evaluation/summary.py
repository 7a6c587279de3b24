"""The answer of a comparison for readers who know detection and no statistics, and the one thing to do next."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from ..scoring.power import LEAST_SEEDS
from ..text import duration
from .comparison import Contrast, RunResult, Summary
from .figures import figure, size
from .given import PREDICTIONS
from .interim import Stage
from .recipe import Recipe
from .run_notes import interim_note, last_rise
from .runs import FAILED, epochs_of
from .verdict import HELPS, HURTS, INCONCLUSIVE, LEARNED, NONE, SAME, word_of

ANSWERS = {
    HELPS: "Yes.",
    HURTS: "No, it is worse.",
    SAME: "There is no difference that matters.",
    INCONCLUSIVE: "One cannot tell yet.",
    NONE: "There is no verdict.",
}

DECIDED = (HELPS, HURTS, SAME)
LONGER = "Train longer, or look at the data."
LEAST_EPOCHS = 30  # of the next try, where nothing was learned: from random weights a few epochs give an AP of 0


@dataclass(frozen=True)
class Next:
    """What a next step depends on, beside the verdict.

    Attributes:
        again: The command that gives the same comparison again.
        stage: Which of the declared looks this is; None between them.
        unfinished: Declared seeds that are not trained yet.
        fresh: Seeds for another comparison; none where this one has its answer.
        tests: Whether the dataset has test images that were not scored.
        weights: The first finished checkpoint by arm.
    """

    again: str
    stage: Stage | None
    unfinished: Sequence[int]
    fresh: Sequence[int]
    tests: bool
    weights: Mapping[str, Path]


def seeds_wanted(recipe: Recipe, primary: Contrast, objections: Sequence[str]) -> int:
    """Return the number of fresh seeds that another comparison should have; 0 where seeds are not what is missing."""
    if objections or min(len(recipe.seeds), len(primary.seeds)) < LEAST_SEEDS:
        return max(len(recipe.seeds), LEAST_SEEDS)
    return primary.verdict.seeds_needed or 0


def summarize(recipe: Recipe, primary: Contrast, headline: str, runs: Sequence[RunResult], given: Next) -> Summary:
    """Say in plain words what was found, and what to do next.

    Args:
        recipe: What was run.
        primary: The primary contrast.
        headline: What is known of the arm and its matched control.
        runs: All runs.
        given: What the next step depends on.
    """
    step, command = _next_step(recipe, primary, runs, given)
    return Summary(
        question=f"Is {primary.arm} better than {primary.against}?",
        answer=ANSWERS[primary.verdict.word],
        finding=" ".join(filter(None, (_finding(primary, recipe.margin), headline))),
        next_step=step,
        command=command,
    )


def _finding(primary: Contrast, margin: float) -> str:
    """Say what was found."""
    effect, word = primary.interval, primary.verdict.word
    two = primary.with_failures or (primary.without_rare and word in DECIDED)  # differences that the verdict rests on
    if effect is None or word == NONE or two or word != word_of(effect, margin):
        reason = primary.verdict.sentence.removeprefix(f"No verdict on {primary.arm} against {primary.against}: ")
        return reason[0].upper() + reason[1:]
    higher = effect.delta >= 0
    side, other = (primary.best, primary.best - effect.delta) if higher else (primary.best + effect.delta, primary.best)
    found = (
        f"{primary.metric} is {size(abs(effect.delta), margin)} {'higher' if higher else 'lower'} with {primary.arm}: "
        f"{side:.3f} against {other:.3f}, each the mean of {effect.seeds} trainings."
    )
    if not effect.delta:
        found = f"{primary.metric} is the same with both, {side:.3f}, the mean of {effect.seeds} trainings."
    low, high = (figure(end, margin) for end in (effect.low, effect.high))
    sure = f"With 95 % confidence the true difference is between {low} and {high}"
    if word == SAME:
        return f"{found} {sure}, so a difference of {margin:g} or more is excluded."
    if word == INCONCLUSIVE:
        return f"{found} Chance alone may have done that: {sure[0].lower()}{sure[1:]}."
    small = (
        f" That is less than the {margin:g} that was said to matter." if max(effect.high, -effect.low) < margin else ""
    )
    return f"{found} {sure}.{small}"


def _next_step(recipe: Recipe, primary: Contrast, runs: Sequence[RunResult], given: Next) -> tuple[str, str | None]:
    """Say what to do next, and return the command for it where there is one."""
    verdict, again = primary.verdict, given.again
    if given.unfinished:
        return (
            f"Train the other seeds ({len(given.unfinished)} of {len(recipe.seeds)}): the same command goes on.",
            again,
        )
    if any(run.state == FAILED for run in runs):
        return "Some runs failed. Find out why in their logs below arms/; the same command tries them again.", again
    if given.stage and given.stage.next and verdict.word not in DECIDED:
        return interim_note(given.stage), None if given.stage.stop else again
    if primary.best < LEARNED:
        return LONGER, _longer(recipe, given, LEAST_EPOCHS)
    if verdict.word not in DECIDED and last_rise(runs) > recipe.margin:
        return "The runs were still learning. Train longer before you train more seeds.", _longer(recipe, given)
    if given.fresh:
        reason = verdict.next_step or f"A verdict takes {LEAST_SEEDS} seeds or more that were not looked at before."
        if recipe.given:
            others = (
                f"Give runs with other seeds, {LEAST_SEEDS} or more of each arm, not chosen by their results. Together "
                "with those that were looked at they get no verdict."
            )
            return f"{reason} {others}", None
        name = f"{re.sub(r'-seed[0-9]+$', '', recipe.name)}-seed{given.fresh[0]}"
        added = (
            "Seeds that are added to this comparison would leave it without a verdict: adding seeds until an answer "
            "comes out makes errors more frequent."
        )
        each = mean(run.seconds for run in runs) / recipe.jobs
        time = f"It takes about {duration(each * len(recipe.arms) * len(given.fresh))}, as these trainings did."
        return f"{reason} {added} {time}", f"{again} name={name} seeds={','.join(map(str, given.fresh))}"
    if primary.interval is None:
        return "Test on more images, or on more groups of them.", None
    if verdict.word == NONE:
        return LONGER, _longer(recipe, given)
    if verdict.word not in DECIDED:
        return verdict.next_step, None
    if given.tests and recipe.split == "val" and recipe.given != PREDICTIONS:
        words = "split=test" if recipe.given else "split=test conclude=True"
        return "Score the same trainings on the test images, once.", f"{again} {words}"
    chosen = primary.arm if verdict.word == HELPS else primary.against
    done = f"The question is answered. Use {chosen}."
    model = None if recipe.given == PREDICTIONS else given.weights.get(chosen)
    return done, None if model is None else f"yolo-mha export {shlex.quote(f'model={model}')} format=onnx"


def _longer(recipe: Recipe, given: Next, least: int = 0) -> str | None:
    """Return the command for the same comparison with twice the epochs, ``least`` or more; None for given runs."""
    if recipe.given:
        return None
    seeds = given.fresh[: max(len(recipe.seeds), LEAST_SEEDS)]
    words = [
        f"epochs={max(2 * epochs_of(recipe.train), least)}",
        *([f"seeds={','.join(map(str, seeds))}"] if seeds else []),
    ]
    return f"{given.again} name={recipe.name}-longer {' '.join(words)}"
