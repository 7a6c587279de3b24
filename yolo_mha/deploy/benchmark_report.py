"""What `benchmark` found, as a table, as Markdown and as a picture."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

from matplotlib.figure import Figure

from ..data.files import whole_file
from ..fonts import legible
from ..result import Result

MOST_NOISE = 1.1  # of one model by itself; more is named
COLOURS = "#d1495b", "#4b5563"  # of the model, and of what it is compared with


@dataclass(frozen=True)
class Row:
    """One model in one format at one shape.

    Attributes:
        size: Height and width in pixels.
        batch: Number of images.
        format: Name of the format.
        arm: "model", "baseline", or "without-blocks" where no baseline was given.
        p50_ms: Median time of a pass, in milliseconds.
        p95_ms: 95th percentile of it.
        images_per_s: Images in a second, from the median.
        memory_mib: The most memory that the process held, input and weights included, beyond what it held before it
            opened the model, in MiB; None on a GPU.
        ratio: Median over the rounds of its time by the baseline's in the same format and round.
        aa: The same for a second process with the same file: how far this ratio is from 1 is noise.
        ap: COCO AP on the dataset, at this size; None without one, as below.
        ap50: COCO AP50.
    """

    size: int
    batch: int
    format: str
    arm: str
    p50_ms: float
    p95_ms: float
    images_per_s: float
    memory_mib: float | None = None
    ratio: float | None = None
    aa: float | None = None
    ap: float | None = None
    ap50: float | None = None


@dataclass(frozen=True)
class Made:
    """A file that was measured.

    Attributes:
        arm: "model", "baseline", or "without-blocks" where no baseline was given.
        format: Name of the format.
        file: Its path.
        agrees: Whether its outputs are those of PyTorch, as `export` compares them; None where it does not.
        notes: What `export` says about it.
    """

    arm: str
    format: str
    file: str
    agrees: bool | None = None
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Failure:
    """What could not be measured.

    Attributes:
        arm: As in `Row`, or "again", the second process with the model.
        format: Name of the format.
        step: What was being done.
        reason: Why it failed.
    """

    arm: str
    format: str
    step: str
    reason: str


@dataclass(frozen=True)
class BenchmarkResult(Result):
    """What was measured, of what, and on what machine.

    Attributes:
        save_dir: Folder with ``benchmark.json``, ``benchmark.md``, ``benchmark.png`` and the exported models.
        arms: What was compared.
        rows: The numbers.
        files: What was measured.
        failed: What could not be.
        rounds: How often each was timed.
        machine: Processor, threads, device, and versions of the runtimes.
    """

    save_dir: str
    arms: dict[str, str]
    rows: list[Row]
    files: list[Made]
    failed: list[Failure]
    rounds: int
    machine: dict[str, str | int | None]

    @property
    def ok(self) -> bool:
        """Whether all was measured, of files that agree with PyTorch."""
        return not self.failed and all(m.agrees is not False for m in self.files)

    @property
    def notes(self) -> list[str]:
        """What a reader of the table should know."""
        wrong = [f"{m.arm} {m.format}" for m in self.files if m.agrees is False]
        machine = ", ".join(f"{k} {v}" for k, v in self.machine.items())
        noisy = [r for r in self.rows if r.aa is not None and not 1 / MOST_NOISE <= r.aa <= MOST_NOISE]
        restless = [f"{r.format} {r.size} px batch {r.batch}: {r.aa:.2f}" for r in noisy]
        return [
            *(f"FAILED {f.format}, {f.arm}, {f.step}: {f.reason}" for f in self.failed),
            *([f"FAILED the proof against PyTorch: {', '.join(wrong)}"] if wrong else []),
            *([f"NOISY, A/A far from 1, so smaller ratios say nothing: {'; '.join(restless)}"] if restless else []),
            *(f"{m.arm} {m.format}: {note}" for m in self.files for note in m.notes),
            *(f"{arm}: {text}" for arm, text in self.arms.items()),
            f"{self.rounds} rounds, each timed once a round, noise images; {machine}",
        ]


COLUMNS = {  # header and format
    "size": ("px", ""),
    "batch": ("batch", ""),
    "format": ("format", ""),
    "arm": ("arm", ""),
    "p50_ms": ("p50 ms", ".1f"),
    "p95_ms": ("p95 ms", ".1f"),
    "images_per_s": ("img/s", ".4g"),
    "memory_mib": ("MiB", ".0f"),
    "ratio": ("ratio", ".2f"),
    "aa": ("A/A", ".2f"),
    "ap": ("AP", ".3f"),
    "ap50": ("AP50", ".3f"),
}


def cells(rows: list[Row]) -> list[list[str]]:
    """Return the table, header first, without columns that hold nothing."""
    shown = [k for k in COLUMNS if any(getattr(row, k) is not None for row in rows)]
    values = [[(getattr(row, k), COLUMNS[k][1]) for k in shown] for row in rows]
    lines = [["-" if value is None else format(value, form) for value, form in line] for line in values]
    return [[COLUMNS[k][0] for k in shown], *lines]


def markdown(result: BenchmarkResult) -> str:
    """Return the table and its notes as Markdown."""
    header, *lines = cells(result.rows)
    rule = ["---" if i < 4 else "---:" for i in range(len(header))]
    table = "\n".join(f"| {' | '.join(line)} |" for line in [header, rule, *lines])
    return f"# Benchmark\n\n{table}\n\n" + "".join(f"- {note}\n" for note in result.notes)


@legible()
def draw(result: BenchmarkResult, file: Path) -> Path:
    """Draw the median time by format, arms beside each other, a line up to the 95th percentile; a panel a shape."""
    rows = result.rows
    sizes, batches = sorted({r.size for r in rows}), sorted({r.batch for r in rows})
    formats, arms = list(dict.fromkeys(r.format for r in rows)), list(dict.fromkeys(r.arm for r in rows))
    figure = Figure(figsize=(1.5 + 0.9 * len(formats) * len(sizes), 2.6 * len(batches) + 0.6), layout="constrained")
    panels = figure.subplots(len(batches), len(sizes), squeeze=False)
    width = 0.8 / len(arms)
    for (batch, size), axes in zip(product(batches, sizes), panels.flat, strict=True):
        for k, arm in enumerate(arms):
            own = [r for r in rows if (r.size, r.batch, r.arm) == (size, batch, arm)]
            places = [formats.index(r.format) + (k + 0.5) * width - 0.4 for r in own]
            tails = [[0.0] * len(own), [r.p95_ms - r.p50_ms for r in own]]
            heights = [r.p50_ms for r in own]
            axes.bar(places, heights, width, yerr=tails, color=COLOURS[k], ecolor="0.5", label=arm)
        axes.set_xticks(range(len(formats)), formats, rotation=30)
        axes.set_title(f"{size} px, batch {batch}", fontsize="medium")
        axes.set_ylabel("ms" if size == sizes[0] else "")
        axes.grid(axis="y", alpha=0.3)
    figure.legend(
        *panels[0][0].get_legend_handles_labels(), loc="outside lower center", frameon=False, fontsize="small"
    )
    with whole_file(file) as temporary:
        figure.savefig(temporary, dpi=120)
    return file
