"""What `benchmark.py` found: cases, bounds, tables, the picture."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from speed_peers import ATTENTION, BARE, MHA, OURS, PEERS, PLOTTED, TIMM

UNITS = {
    "block": "ms, and SpatialMHA's time by the contender's",
    "pairs": "ms, and SpatialMHA's time by the contender's",
    "scopes": "ms, and the time by that of global attention",
    "model": "ms, and the time by that of Ultralytics' own network",
    "onnx": "ms, and the time by that of the first row",
    "memory": "MB, and bytes by bytes of the input",
    "growth": "bytes by bytes",
}

# Cases and bounds ----------------------------------------------------------------------------------------------------


@dataclass
class Cell:
    """One contender in one case.

    Attributes:
        ratio: Median over rounds of the ratio of times; of memory, bytes by bytes of the input, or their growth.
        iqr: First and third quartile of the ratios.
        median_ms: Time of one pass.
        bytes: Peak memory of one pass.
        note: Why there are no numbers.
    """

    ratio: float | None = None
    iqr: tuple[float, float] | None = None
    median_ms: float | None = None
    bytes: float | None = None
    note: str = ""

    def __str__(self) -> str:
        if self.ratio is None:
            return self.note or "-"
        amount = f"{self.median_ms:.1f} ms, " if self.median_ms is not None else ""
        amount += f"{self.bytes / 1e6:.1f} MB, " if self.bytes is not None else ""
        return f"{amount}{self.ratio:.2f}" + (
            f" ({self.iqr[0]:.2f}-{self.iqr[1]:.2f})" if self.iqr and self.iqr[0] < self.iqr[1] else ""
        )


@dataclass
class Case:
    """What was measured side by side: a column of a table.

    Attributes:
        level: One of `UNITS`.
        table: What all columns of the table have in common.
        column: What this one has of its own.
        cells: By contender.
        rounds: How many counted.
        aa: Median ratio of two instances of the same module.
        void: Whether that is too far from 1, so that nothing is shown.
        attempts: Rounds and A/A ratio of every try; the last one counts.
    """

    level: str
    table: str
    column: str
    cells: dict[str, Cell]
    rounds: int | None = None
    aa: float | None = None
    void: bool = False
    attempts: list[dict[str, float]] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{self.table} {self.column}"


@dataclass(frozen=True)
class Bound:
    """What a ratio must not exceed.

    Attributes:
        device: The kind of device it holds for; "*" for any.
        level: One of `UNITS`.
        cases: Pattern of case names, as in a shell.
        contender: The one whose ratio counts.
        limit: The largest ratio that is well.
    """

    device: str
    level: str
    cases: str
    contender: str
    limit: float

    def holds_for(self, level: str, case: str, device: str) -> bool:
        """Say whether it is for a case."""
        return self.device in ("*", device) and self.level == level and fnmatch.fnmatchcase(case, self.cases)


BOUNDS = (
    Bound("cpu", "pairs", "* P[34] * batch 1 forward", MHA, 0.50),
    Bound("cpu", "pairs", "* P[34] * batch 1 forward", ATTENTION, 0.65),
    Bound("cpu", "pairs", "* P[34] * batch 1 forward", TIMM, 1.08),
    Bound("cpu", "pairs", "* P5 * batch 1 forward", ATTENTION, 1.15),
    Bound("cpu", "pairs", "* P5 * batch 8 forward", ATTENTION, 0.85),
    Bound("cpu", "pairs", "* P4 * C256 batch 1 forward+backward", MHA, 1.05),
    Bound("cpu", "pairs", "* P4 * C256 batch 1 forward+backward", ATTENTION, 0.70),
    Bound("cuda", "pairs", "* P3 * batch 1 forward*", BARE, 1.25),
    Bound("cpu", "scopes", "* forward", "window 10", 0.10),
    Bound("cpu", "scopes", "* forward", "axial", 0.10),
    Bound("cpu", "scopes", "* forward", "kv_stride 2", 0.35),
    Bound("cpu", "scopes", "* forward", "kv_stride 4", 0.12),
    Bound("cpu", "model", "*", "mha-p5", 1.10),
    Bound("cpu", "model", "*", "mha-p4p5", 1.40),
    Bound("cpu", "model", "*", "mha-p4kv-p5", 1.20),
    Bound("cpu", "model", "*", "mha-p3", 1.45),
    Bound("cpu", "onnx", "* px, batch 1 *", "mha-p5", 1.10),
    Bound("cpu", "onnx", "* px, batch 1 *", "mha-p4kv-p5", 1.20),
    Bound("cpu", "onnx", "* px, batch 1 *", "mha-p4p5", 1.50),
    Bound("cpu", "onnx", "* SpatialMHABlock, batch 1 P4 *", "fuse_attention", 0.80),
    Bound("*", "memory", "P? * forward", OURS, 8.0),
    Bound("*", "memory", "P? * forward+backward", OURS, 14.0),
    Bound("*", "growth", "*", OURS, 4.5),
)


@dataclass(frozen=True)
class Verdict:
    """A bound in one case; ``reached`` is yes, no, void, not measured, or peer skipped, which is no fault of ours."""

    case: str
    contender: str
    value: float | None
    bound: float
    reached: str

    @property
    def well(self) -> bool:
        return self.reached in ("yes", "peer skipped")


def verdicts(cases: Sequence[Case], device: str, bounds: Sequence[Bound] = BOUNDS) -> list[Verdict]:
    """Hold what was measured against the bounds."""
    found = []
    for bound in bounds:
        for case in cases:
            other_pair = case.level == "pairs" and bound.contender not in case.cells
            if bound.holds_for(case.level, case.name, device) and not other_pair:
                cell = case.cells.get(bound.contender, Cell())
                if cell.ratio is None:
                    reached = "peer skipped" if cell.note.startswith("skipped") else "not measured"
                else:
                    reached = "void" if case.void else "yes" if cell.ratio <= bound.limit else "no"
                found.append(Verdict(case.name, bound.contender, cell.ratio, bound.limit, reached))
    return found


# Tables --------------------------------------------------------------------------------------------------------------

Table = tuple[str, list[list[str]]]  # a title, and rows of which the first is the head


def tables(cases: Sequence[Case], bounds: Sequence[Verdict] | None) -> list[Table]:
    """Lay out the cases side by side where they have a table in common, and then the bounds."""
    grouped: dict[tuple[str, str], list[Case]] = {}
    for case in cases:
        grouped.setdefault((case.level, case.table), []).append(case)
    found: list[Table] = []
    for (level, table), group in grouped.items():
        rows = [["", *(f"{case.column}{', VOID' if case.void else ''}" for case in group)]]
        for name in dict.fromkeys(name for case in group for name in case.cells):
            note = PEERS[name].note if name in PEERS else ""
            cells = [str(case.cells.get(name, Cell())) for case in group]
            rows.append([f"{name} ({note})" if note else name, *cells])
        if any(case.rounds for case in group):
            rows.append(["rounds", *(str(case.rounds or "-") for case in group)])
        found.append((f"{table} ({UNITS[level]})", rows))
    retried = [case for case in cases if len(case.attempts) > 1 or case.void]
    if retried:
        rows = [["case", "A/A ratio by tries", "outcome"]]
        for case in retried:
            tries = "; ".join(f"{a['aa']:.3f} in {a['rounds']:.0f} rounds" for a in case.attempts)
            rows.append([case.name, tries, "VOID" if case.void else "shown"])
        found.append(("Too noisy at first, or to the end", rows))
    if bounds is not None:
        rows = [["case", "against", "value", "bound", "reached"]]
        for v in bounds:
            value = "-" if v.value is None else f"{v.value:.3f}"
            rows.append([v.case, v.contender, value, f"<= {v.bound:.2f}", v.reached])
        found.append(("Bounds", rows))
    return found


def markdown(environment: dict[str, Any], laid_out: Sequence[Table], remarks: Sequence[str]) -> str:
    """Return the tables in Markdown."""
    lines = ["# Benchmark", "", "; ".join(f"{k} {v}" for k, v in environment.items() if v is not None), ""]
    for title, (head, *rows) in laid_out:
        lines += [f"**{title}**", "", _line(head), "|" + "---|" * len(head), *map(_line, rows), ""]
    return "\n".join([*lines, *(f"{remark}\n" for remark in remarks)])


def _line(words: Sequence[str]) -> str:
    return "| " + " | ".join(word.replace("|", "\\|") for word in words) + " |"


# Picture -------------------------------------------------------------------------------------------------------------


def draw(cases: Sequence[Case], path: Path) -> bool:
    """Draw time and peak memory against the number of positions, one line for each contender.

    Args:
        cases: All of them; taken are batch 1 and, for every number of positions, the map of a YOLO n.
        path: The PNG to write.

    Returns:
        Whether there was something to draw; if not, nothing is written.
    """
    maps = {str(m): m for m in PLOTTED}
    panels: dict[tuple[str, str], dict[str, list[tuple[int, float]]]] = {}
    for case in cases:
        m = maps.get(case.table.removesuffix(" batch 1"))
        if m is None or case.level not in ("block", "memory"):
            continue
        for name, cell in case.cells.items():
            value = cell.bytes / 1e6 if cell.bytes is not None else cell.median_ms
            if value is not None and name in PEERS:
                panels.setdefault((case.level, case.column), {}).setdefault(name, []).append((m.tokens, value))
    if not panels:
        return False
    figure = Figure(figsize=(11, 4.2 * -(-len(panels) // 2)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(-(-len(panels) // 2), 2, squeeze=False).flat
    labels = [f"{m.tokens}\n{m.place} C{m.channels}" for m in PLOTTED]
    for axis, ((level, column), lines) in zip(axes, panels.items(), strict=False):
        for i, name in enumerate(PEERS):
            if name in lines:
                style = {"color": "black", "linewidth": 2.5, "zorder": 3} if name == OURS else {"color": f"C{i}"}
                axis.plot(*zip(*lines[name], strict=True), "o-", label=name, **style)
        axis.set(xscale="log", yscale="log", title=column, ylabel="ms" if level == "block" else "peak MB")
        axis.set_xticks([m.tokens for m in PLOTTED], labels)
        axis.set_xticks([], minor=True)
        axis.set_xlabel("positions N, batch 1")
        axis.grid(alpha=0.3)
    for axis in axes:  # a panel that is left over
        axis.axis("off")
    handles = {label: h for axis in figure.axes for h, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(path, dpi=130, format="png")
    return True
