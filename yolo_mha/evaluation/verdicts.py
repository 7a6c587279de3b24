"""The verdicts of a comparison: on the primary contrast at its look, on those that are named, and on all others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..scoring.intervals import corrected, share_needed
from ..scoring.power import ALPHA
from .comparison import Contrast
from .interim import FUTILE, Stage, chance_to_settle
from .named import holm
from .recipe import Recipe
from .verdict import HELPS, HURTS, INCONCLUSIVE, SAME, judge, word_of

FUTILITY = "futility"


def with_verdicts(contrasts: Sequence[Contrast], margin: float, stage: Stage) -> list[Contrast]:
    """Judge every contrast that has an interval.

    The primary one has the probability of error of the look. Those that are named share the same among them (Holm) if
    the primary one leaves zero out; otherwise they are exploratory, as all others are.

    Args:
        contrasts: The primary one first, then those that are named.
        margin: The smallest difference that matters.
        stage: The look.
    """
    primary, *others = (_judged(contrast, margin, stage, 1.0) for contrast in contrasts)
    if primary.verdict.word not in (HELPS, HURTS):
        return [primary, *(replace(contrast, named=False) for contrast in others)]
    family = [i for i, each in enumerate(others) if each.named and each.effect and each.effect.scope != "images"]
    shares = holm([max(share_needed(each, stage.error, ALPHA) for each in others[i].counted) for i in family])
    for i, share in zip(family, shares, strict=True):
        others[i] = _judged(others[i], margin, stage, share)
    return [primary, *others]


def stopping(primary: Contrast, margin: float, stage: Stage) -> str:
    """Return why a comparison stops at a look although seeds are left: a verdict, or "futility".

    Args:
        primary: The primary contrast of the look.
        margin: The smallest difference that matters.
        stage: The look.

    Returns:
        The reason; empty where it goes on, and at the last look.
    """
    if stage.next is None or primary.effect is None:
        return ""
    if primary.verdict.word in (HELPS, HURTS, SAME):
        return primary.verdict.word
    if primary.verdict.word != INCONCLUSIVE:
        return ""
    if primary.rare and not primary.without_rare:
        return FUTILITY
    agreeing = [interval for interval in (primary.effect, primary.without_rare) if interval]
    return FUTILITY if chance_to_settle(agreeing, stage, margin) < FUTILE else ""


def headline(contrasts: Sequence[Contrast], recipe: Recipe, stage: Stage) -> str:
    """Say whether the primary arm is better than the baseline, and than its matched control.

    To be better than both is one statement, which needs no correction: each must hold at the full probability of error
    (intersection-union test, Berger 1982).

    Args:
        contrasts: The primary one first.
        recipe: The recipe.
        stage: The look.
    """
    primary = contrasts[0]
    control = next((c for c in contrasts if _is_its_control(c, primary, recipe)), None)
    if control is None or control.effect is None or primary.verdict.word != HELPS:
        return ""
    better = all(word_of(corrected(each, stage.error, ALPHA), recipe.margin) == HELPS for each in control.counted)
    its = f"its control of as many parameters, {control.against}"
    if better:
        return f"{primary.arm} is better than {primary.against} and than {its}."
    return (
        f"{primary.arm} is better than {primary.against}. That it is better than {its}, is not shown, so the gain may "
        "come from the parameters."
    )


def _is_its_control(contrast: Contrast, primary: Contrast, recipe: Recipe) -> bool:
    same = (contrast.arm, contrast.metric) == (primary.arm, primary.metric)
    return same and recipe.is_control(contrast.against, of=contrast.arm)


def _judged(contrast: Contrast, margin: float, stage: Stage, share: float) -> Contrast:
    """Judge a contrast with a share of the probability of error of a look."""
    if contrast.effect is None:
        return contrast
    failures, common, effect = contrast.with_failures, contrast.without_rare, contrast.effect
    reasons = [str(stage)] if stage.looks > 1 else []
    reasons += [f"{round(1 / share)} named contrasts"] if share < 1 else []
    told = f"; interval corrected for {' and '.join(reasons)}" if reasons else ""
    if told:
        effect = corrected(effect, stage.error * share, ALPHA * share)
        failures = failures and corrected(failures, stage.error * share, ALPHA * share)
        common = common and corrected(common, stage.error * share, ALPHA * share)
    verdict = judge(
        effect,
        contrast.arm,
        contrast.against,
        margin,
        best=contrast.best,
        with_failures=failures,
        rare=contrast.rare,
        without_rare=common,
        primary=contrast.primary and stage.next is None,
        metric=contrast.metric,
        told=told,
    )
    return replace(contrast, verdict=verdict, judged=effect if told else None)
