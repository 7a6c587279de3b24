"""AP and latency against the number of heads that are gone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ..data.files import whole_file
from ..engine.progress import with_bar
from ..errors import ConfigError
from ..profiling.cost import Latency
from ..registry import Network
from ..surgery.heads import prune_heads
from .pruning_controls import Control
from .pruning_latency import in_onnx, in_pytorch
from .silenced_scores import Name, SilencedScores, WithInterval, by_block

POINTS = 8  # beside the whole model; each takes a validation


@dataclass(frozen=True)
class Point:
    """A model without so many heads, those with the least gradient first.

    Attributes:
        removed: How many heads are gone.
        parameters: Number of parameters.
        ap: AP on the images that are reported.
        lost: How much less that is than with all heads.
        lost_choosing: The same on the other half of the images, on which ``heads=auto`` chooses; None for a share.
        pytorch: Time of an image on the CPU in PyTorch; the ratio is to the whole model.
        onnx: The same in ONNX Runtime; None where there is none.
    """

    removed: int
    parameters: int
    ap: float
    lost: WithInterval
    lost_choosing: float | None
    pytorch: Latency
    onnx: Latency | None


def counts(heads: int, *wanted: int) -> list[int]:
    """Return numbers of heads to take out, from none to all, evenly spaced where there are many.

    Args:
        heads: How many there are.
        *wanted: Numbers that are to be among them.
    """
    return sorted({0, *wanted, *np.linspace(1, heads, min(heads, POINTS)).round().astype(int).tolist()})


def pruned_networks(
    model: Network, order: Sequence[Name], number: int, others: Iterable[int] = ()
) -> dict[int, Network]:
    """Return a model without ever more heads, by their number; what its rows cannot say is left out.

    Where a row repeats, each of its blocks has to have as many heads left.

    Args:
        model: The model.
        order: All its heads in the order in which they go.
        number: How many are to be among the numbers.
        others: Further numbers.

    Raises:
        ConfigError: The rows cannot say what is left without ``number`` heads.
    """
    found = {}
    for count in counts(len(order), number, *others):
        try:
            found[count], _ = prune_heads(model, by_block(order[:count]))
        except ConfigError:
            if count == number:
                raise
    return found


def measure_curve(
    model: Network,
    order: Sequence[Name],
    number: int,
    score: SilencedScores,
    imgsz: int,
    others: Iterable[int] = (),
) -> tuple[list[Point], list[str]]:
    """Measure AP and latency with ever fewer heads, and note what could not be measured.

    Args:
        model: The model as `YOLO` opens it, not fused.
        order: All its heads in the order in which they go.
        number: How many are to be among the points.
        score: Scores the model without heads.
        imgsz: Height and width of the image that is timed, in pixels.
        others: Further numbers of heads among the points.

    Raises:
        ConfigError: See `pruned_networks`.
    """
    networks = pruned_networks(model, order, number, others)
    scored = {count: score(order[:count]) for count in with_bar(list(networks), "scoring", len(networks))}
    pytorch = in_pytorch(networks, imgsz)
    onnx, note = in_onnx(networks, score.network, imgsz, with_bar)
    points = []
    for count, network in networks.items():
        (*choosing, whole), (*chosen, left) = scored[0], scored[count]
        points.append(
            Point(
                removed=count,
                parameters=sum(p.numel() for p in network.parameters()),
                ap=left.ap,
                lost=whole.lost(left),
                lost_choosing=choosing[0].ap - chosen[0].ap if choosing else None,
                pytorch=pytorch[count],
                onnx=onnx.get(count),
            )
        )
    return points, [note] if note else []


def draw_curve(points: Sequence[Point], removed: int, controls: Sequence[Control], path: Path) -> None:
    """Draw AP with its intervals, and latency.

    Args:
        points: From the whole model to the one without heads.
        removed: How many heads were taken out in the end.
        controls: What as many others cost.
        path: The picture.
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    x, whole = [point.removed for point in points], points[0].ap
    left.plot(x, [point.ap for point in points], "o-", color="steelblue", label="least gradient first")
    for point in points:
        if point.lost.low is not None and point.lost.high is not None:
            ends = [whole - point.lost.high, whole - point.lost.low]
            left.plot([point.removed] * 2, ends, color="steelblue", lw=1)
    for control, marker, colour in zip(controls, "x_", ("#d1495b", "#4b5563"), strict=True):
        left.plot([removed] * len(control.aps), control.aps, marker, color=colour, ls="", ms=8, label=control.name)
    interval = "; 95 % intervals of the difference to the whole" if points[-1].lost.low is not None else ""
    left.set(ylabel="AP", title=f"AP{interval}")
    for name, label, colour in (("pytorch", "PyTorch", "#d1495b"), ("onnx", "ONNX Runtime", "#4b5563")):
        times = [getattr(point, name) for point in points]
        if None not in times:
            label = f"{label}, whole {times[0].ms:.1f} ms"
            right.plot(x, [time.ratio for time in times], "o-", color=colour, label=label)
            right.vlines(x, *zip(*(time.ratio_range for time in times), strict=True), color=colour, lw=1)
    right.set(
        ylabel="time by that of the whole model",
        title="latency of one image on the CPU; 96 % intervals",
        ylim=(0, None),
    )
    for axes in (left, right):
        axes.axvline(removed, color="0.8", lw=4, zorder=0)
        axes.set(xlabel="heads removed", xticks=x)
        axes.legend(frameon=False, fontsize=8, loc="lower left")
    with whole_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)
