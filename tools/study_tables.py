"""Write the tables of studies/README.md and docs/images/studies.svg from what the studies found.

Usage: python tools/study_tables.py [--check]

Every figure comes out of a compare.json or a benchmark.json. With --check nothing is written, and it exits with 1 where
the page does not hold what they say.
"""

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from yolo_mha.evaluation.figures import figures, size
from yolo_mha.evaluation.named import Named, read_contrast
from yolo_mha.scoring.intervals import Interval

STUDIES = Path(__file__).resolve().parents[1] / "studies"
CHART = STUDIES.parent / "docs" / "images" / "studies.svg"
# Comparisons with a protocol, and what is added to the name of the study
CONFIRMED = {"confirm": "", "repeated": ", repeated from nothing", "scratch": ", from scratch"}
BEGIN, END = "<!-- {} -->", "<!-- end of {} -->"


def read(file: Path) -> dict[str, Any] | None:
    """Return the content of a JSON file; None where there is none yet."""
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None


def scores(found: dict[str, Any], arm: str) -> str:
    """Write AP of an arm as mean and standard deviation over seeds."""
    values = [run["metrics"]["AP"] for run in found["runs"] if run["arm"] == arm and run["metrics"]]
    return f"{np.mean(values):.3f}" + (f" ± {size(float(np.std(values, ddof=1)))}" if len(values) > 1 else "")


def difference(found: dict[str, Any], contrast: dict[str, Any]) -> str:
    """Write the difference of a contrast with its interval."""
    effect = contrast["judged"] or contrast["effects"][contrast["metric"]]
    return "{} [{}]".format(*figures(Interval(**effect), found["recipe"]["margin"])) if effect else "-"


def core_hours(found: dict[str, Any]) -> float:
    """Return the hours of all trainings, each on one core."""
    return sum(run["seconds"] for run in found["runs"]) / 3600


def costs(folder: Path, arm: str) -> tuple[str, str]:
    """Write what latency is multiplied by, and the memory without and with an arm, in PyTorch and in ONNX Runtime."""
    measured = read(folder / f"benchmark-{arm}.json")
    if measured is None:
        return "-", "-"
    rows = {(row["format"], row["arm"]): row for row in measured["rows"]}
    forms = {"pytorch": "PyTorch", "onnx": "ONNX Runtime"}
    ratios = [f"{name} x {rows[form, 'model']['ratio']:.2f}" for form, name in forms.items()]
    memory = [
        f"{name} {' to '.join(format(rows[form, side]['memory_mib'], '.0f') for side in ('baseline', 'model'))}"
        for form, name in forms.items()
    ]
    return ", ".join(ratios), ", ".join(memory)


def confirmed() -> Iterable[tuple[str, str, dict[str, Any]]]:
    """Yield study, comparison and its content for each comparison that was confirmed."""
    for folder in sorted(file.parent for file in STUDIES.glob("*/study.yaml")):
        for name in CONFIRMED:
            if found := read(folder / name / "compare.json"):
                yield folder.name, name, found


def label(study: str, name: str) -> str:
    """Return how a comparison is called."""
    return study + CONFIRMED[name]


def draw(file: Path) -> None:
    """Draw the difference that attention made in each confirmed comparison, with its interval and the margin."""
    shown = [(label(study, name), found) for study, name, found in confirmed()]
    axes = Figure(figsize=(8, 1.1 + 0.5 * len(shown)), layout="constrained").subplots()
    for row, (_, found) in enumerate(reversed(shown)):
        primary = found["contrasts"][0]
        effect, margin = primary["judged"] or primary["effects"][primary["metric"]], found["recipe"]["margin"]
        axes.barh(row, 2 * margin, 0.9, -margin, color="0.92", zorder=0)
        axes.plot([effect["low"], effect["high"]], [row, row], color="#2e86ab", lw=3, solid_capstyle="round")
        axes.plot(effect["delta"], row, "D", color="#2e86ab", markersize=7, markeredgecolor="white")
        axes.annotate(primary["verdict"]["word"], (1.02, row), xycoords=("axes fraction", "data"), va="center")
    axes.axvline(0, color="0.3", lw=1)
    axes.set_yticks(range(len(shown)), [name for name, _ in reversed(shown)])
    axes.locator_params(axis="x", nbins=5)
    axes.set_xlabel("AP with attention less AP without\nline: 95 % interval; band: differences that do not matter")
    with matplotlib.rc_context({"svg.hashsalt": "yolo-mha"}):  # the same chart is the same file
        axes.figure.savefig(file, metadata={"Date": None})


def answers() -> Iterable[tuple[str, ...]]:
    """Yield one row a confirmed comparison."""
    yield (
        "study", "verdict", "attention less without [95 %]", "AP without", "with attention", "with the control",
        "attention less control [95 %]", "scored on", "seeds", "latency", "memory, MiB", "core-hours",
    )  # fmt: skip
    for study, name, found in confirmed():
        primary = found["contrasts"][0]
        arm, base = primary["arm"], primary["against"]
        control = next(c for c in found["contrasts"] if c["arm"] == arm and c["against"] == "control")
        images = primary["effects"]["AP"]
        groups = f"{images['groups']} writers, " if images["groups"] else ""
        yield (
            label(study, name),
            primary["verdict"]["word"],
            difference(found, primary),
            *(scores(found, a) for a in (base, arm, "control")),
            difference(found, control),
            f"{groups}{images['images']} {found['recipe']['split']} images",
            str(len(found["recipe"]["seeds"])),
            *costs(STUDIES / study / (name if name == "repeated" else ""), arm),
            f"{core_hours(found):.1f}",
        )


def explored() -> Iterable[tuple[str, ...]]:
    """Yield one row an option of the exploring runs, the best first."""
    yield ("option", "what is put in", "AP", "less baseline [95 %, images only]", "parameters", "latency")
    found = read(STUDIES / "hdbpmn" / "explore" / "compare.json")
    if found is None:
        return
    base = next(iter(found["arms"]))
    to_base = {c["arm"]: c for c in found["contrasts"] if c["against"] == base}
    for name, arm in sorted(found["arms"].items(), key=lambda item: -item[1]["metrics"]["AP"]):
        words = " ".join(word for word in arm["model"].split() if "=" in word) or "nothing"
        more = difference(found, to_base[name]) if name != base else "-"
        cost = arm["cost"]
        yield (
            name,
            f"`{words}`",
            f"{arm['metrics']['AP']:.3f}",
            more,
            f"{cost['parameters']:,}",
            f"x {cost['latency_ratio']:.2f}",
        )


def named() -> Iterable[tuple[str, ...]]:
    """Yield one row a contrast that was named beside the primary one; see `yolo_mha.evaluation.named`."""
    yield ("study", "contrast", "difference [95 %]", "verdict")
    for study, name, found in confirmed():
        declared = [read_contrast(text, list(found["arms"])) for text in found["recipe"]["contrasts"]]
        for contrast in found["contrasts"]:
            arm, against, metric = contrast["arm"], contrast["against"], contrast["metric"]
            if Named(arm, against, metric) in declared:
                word = ("" if contrast["named"] else "exploratory: ") + contrast["verdict"]["word"]
                yield label(study, name), f"{arm} less {against}, `{metric}`", difference(found, contrast), word


def table(rows: Iterable[tuple[str, ...]]) -> str:
    """Return rows as a Markdown table, the first one being its head."""
    head, *rest = rows
    lines = [head, ("---",) * len(head), *rest] if rest else [("not there yet",), ("---",)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def filled(page: str, tables: dict[str, Callable[[], Iterable[tuple[str, ...]]]]) -> str:
    """Return a page with the tables between their marks."""
    for name, rows in tables.items():
        begin, end = BEGIN.format(name), END.format(name)
        before, rest = page.split(begin)
        page = f"{before}{begin}\n{table(rows())}\n{end}{rest.split(end)[1]}"
    return page


def main(check: bool) -> int:
    """Fill the page, or say whether it is filled."""
    file = STUDIES / "README.md"
    page = file.read_text(encoding="utf-8")
    wanted = filled(page, {"answers": answers, "named contrasts": named, "exploring": explored})
    if check:
        return int(page != wanted)
    file.write_text(wanted, encoding="utf-8")
    if any(confirmed()):
        draw(CHART)
    return 0


if __name__ == "__main__":
    raise SystemExit(main("--check" in sys.argv[1:]))
