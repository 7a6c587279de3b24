"""As many heads as AP allows: chosen on one half of the images, reported on the other."""

from __future__ import annotations

from collections.abc import Sequence

from ..engine.progress import with_bar
from .pruning_curve import Point, counts
from .silenced_scores import Name, SilencedScores


def numbers_between(ranked: Sequence[Name], score: SilencedScores, margin: float) -> range:
    """Return the numbers of heads between the largest on the curve that can go and the next, which are to be tried too.

    Args:
        ranked: All heads, in the order in which they go.
        score: Has the images for choosing first.
        margin: How much AP may be lost.
    """
    on_curve = counts(len(ranked))
    whole, *others = (score(ranked[:n])[0].ap for n in with_bar(on_curve, "choosing", len(on_curve)))
    within = [n for n, ap in zip(on_curve[1:-1], others, strict=False) if whole - ap <= margin]
    most = max(within, default=0)
    return range(most + 1, on_curve[on_curve.index(most) + 1])


def most_within(curve: Sequence[Point], heads: int, margin: float) -> int:
    """Return how many heads can go with no more AP lost, on the images for choosing, than is allowed.

    Args:
        curve: Begins with the whole model.
        heads: How many there are; one of them stays.
        margin: How much AP may be lost.
    """
    return max(point.removed for point in curve if point.removed < heads and _is_within(point, margin))


def describe(
    curve: Sequence[Point], ranked: Sequence[Name], number: int, score: SilencedScores, margin: float
) -> list[str]:
    """Say how many heads are removed, or why none is.

    Args:
        curve: As for `most_within`.
        ranked: All heads, in the order in which they go.
        number: How many are removed.
        score: Has the two halves.
        margin: How much AP may be lost.
    """
    choosing, reported = (part.images for part in score.parts)
    all_go = [p for p in curve if p.removed == len(ranked) and _is_within(p, margin)]
    if number:
        share = f"{number} of {len(ranked)} heads are removed ({number / len(ranked):.0%})"
        notes = [f"{share}, chosen on {choosing} images. AP is reported on the {reported} other images."]
    elif all_go:
        notes = ["AP stays within the margin only if all heads are removed, so nothing is written."]
    else:
        lost = f"without head {':'.join(map(str, ranked[0]))} AP falls by {curve[1].lost_choosing:.4f}"
        notes = [f"No head can be removed within the margin, so nothing is written: {lost} on the {choosing} images."]
    if all_go:
        lost = f"AP falls by {all_go[0].lost_choosing:.4f} on the images used for choosing"
        notes.append(f"Without any head {lost}. To remove all attention, use yolo-mha remove.")
    return notes


def _is_within(point: Point, margin: float) -> bool:
    return point.lost_choosing is not None and point.lost_choosing <= margin
