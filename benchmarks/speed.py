"""Measure time and peak memory of the attention against what PyTorch, Ultralytics and timm offer for the same place.

Six levels: `block`, the bare attention on the maps of a YOLO, all contenders in turn; `pairs`, the same with one
contender at a time, each pair in a fresh process; `scopes`, its cheaper scopes against global attention; `model`, whole
networks against Ultralytics' own; `onnx`, networks and the block in ONNX Runtime, as exported and with fused attention;
`memory`, the peak of a forward and of a backward pass.

Why pairs: glibc gives large pieces of freed memory back to the system, or keeps them, depending on what the process has
freed before. A module that builds N x N matrices of tens of MB so pays page faults for them at every pass, or none,
depending on what ran earlier; at P4 that is a factor of two. Bounds are held against pairs, where nothing else ran.

Time: every round runs every contender once, and a ratio is taken within a round, so that drift of the machine cancels.
A second instance of the same module runs along: where its median ratio to the first is off by more than 3 %, the
machine was too noisy and the case is VOID, after two more tries. The output names voids and tries, all of them.

Memory, on a CPU: the highest sum of all tensors and buffers that PyTorch's allocator has handed out during the pass,
less what lived before it. So the output and the input's gradient count; the input, the parameters and the gradients
that they keep (a pass beforehand has made them) do not. What oneDNN and MKL allocate for themselves is not seen; in
1x1 convolutions and matrix products that is packed blocks of weights and tiles, which do not grow with the map. The
process's resident memory rises by as much in a forward pass, and by up to a fifth more in a backward pass, for pages
that are freed go back to the system late. On a GPU it is the caching allocator's own peak.
"""

from __future__ import annotations

import argparse
import dataclasses
import fnmatch
import gc
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import speed_onnx
import speed_peers
import torch
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table as RichTable
from speed_peers import (
    BASELINE,
    FORWARD,
    GLOBAL,
    GROWTH,
    MAPS,
    MODES,
    OURS,
    P3,
    P5,
    PEERS,
    SCOPES,
    Map,
    Run,
    peers,
    runner,
)
from speed_report import BOUNDS, Case, Cell, Table, draw, markdown, tables, verdicts

import yolo_mha
from yolo_mha.data.files import whole_file
from yolo_mha.engine.memory import allocator_peak_bytes

EXAMPLES = """examples:
  python benchmarks/speed.py                              everything; about 55 minutes on two idle cores
  python benchmarks/speed.py --quick                      a look: three rounds, small maps, no verdict
  python benchmarks/speed.py --only model                 whole networks alone
  python benchmarks/speed.py --only block --case 'P5 *'   the cases whose names match
  python benchmarks/speed.py --device cuda                on a GPU, in fp32 and bf16

exit codes: 0 all bounds reached; 1 a bound is missed or not shown, or a case is void; 2 a peer or a GPU is missing,
or no case matches"""

LEVELS = ("block", "pairs", "scopes", "model", "onnx", "memory")
FAMILIES = ("yolov8n", "yolo11n", "yolo12n", "yolo26n")
VARIANTS = ("mha-p5", "mha-p4p5", "mha-p4kv-p5", "mha-p3", "mha-cross")
IMGSZ = 640

VOID_ABOVE, RETRIES, MORE_ROUNDS = 0.03, 2, 1.5
LEAST_ROUNDS, MOST_ROUNDS, SECONDS, PAIR_SECONDS = 15, 200, 25.0, 12.0
FEWEST_ROUNDS, MOST_SECONDS = 5, 100.0  # where a round takes so long that LEAST_ROUNDS would pass MOST_SECONDS
QUICK_ROUNDS, QUICK_TOKENS = 3, 1600


# Time ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """A case to be measured.

    Attributes:
        level: One of `LEVELS`.
        table: What all columns of its table have in common.
        column: What this one has of its own.
        build: Makes the passes by contender's name, or says why there is none. The first two are the subject and its
            second instance.
        inverse: Ratios are of the others by the first, not of the first by the others.
        seconds: How long all rounds may take, where so few are enough.
    """

    level: str
    table: str
    column: str
    build: Callable[[], dict[str, Run | str]]
    inverse: bool = False
    seconds: float = SECONDS

    @property
    def name(self) -> str:
        return f"{self.table} {self.column}"


def again(name: str) -> str:
    """Name the second instance of a module."""
    return f"{name} again (A/A)"


def interleave(runs: Mapping[str, Run], rounds: int, warmup: int, synchronize: Run) -> dict[str, list[float]]:
    """Time every contender once a round, in milliseconds.

    The order is drawn anew for every second round and reversed in between. A rotation will not do: in it the same
    neighbour always comes before, and what it leaves in caches and allocator is worth 10 % at P5.

    Args:
        runs: Passes by name.
        rounds: How many to keep.
        warmup: How many to run and drop before.
        synchronize: Waits for the device.
    """
    order, shuffle = list(runs), random.Random(0).shuffle
    times: dict[str, list[float]] = {name: [] for name in runs}
    gc.collect()
    gc.disable()
    try:
        for done in range(warmup + rounds):
            order.reverse() if done % 2 else shuffle(order)
            for name in order:
                synchronize()
                start = time.perf_counter()
                runs[name]()
                synchronize()
                times[name].append((time.perf_counter() - start) * 1e3)
    finally:
        gc.enable()
    return {name: own[warmup:] for name, own in times.items()}


def ratios(own: Sequence[float], other: Sequence[float]) -> tuple[float, tuple[float, float]]:
    """Return the median and the quartiles of the ratios taken round by round."""
    each = [a / b for a, b in zip(own, other, strict=True)]
    first, median, third = statistics.quantiles(each, n=4, method="inclusive") if len(each) > 1 else each * 3
    return median, (first, third)


def is_void(aa: float) -> bool:
    """Say whether two instances of the same module differ so much that nothing is shown."""
    return abs(aa - 1) > VOID_ABOVE


def rounds_for(seconds: float, budget: float = SECONDS) -> int:
    """Return how many rounds a case is given whose rounds take so long."""
    within = [int(limit / max(seconds, 1e-6)) for limit in (budget, MOST_SECONDS)]
    return min(max(within[0], min(within[1], LEAST_ROUNDS), FEWEST_ROUNDS), MOST_ROUNDS)


def measure(job: Job, settings: argparse.Namespace) -> Case:
    """Time one case, and once more with more rounds while it is void."""
    contenders = job.build()
    runs = {name: run for name, run in contenders.items() if not isinstance(run, str)}
    synchronize = torch.cuda.synchronize if settings.device == "cuda" else lambda: None
    case = Case(job.level, job.table, job.column, {})
    first, twin = list(contenders)[:2]
    if first not in runs:
        case.cells = {name: Cell(note=note if isinstance(note, str) else "") for name, note in contenders.items()}
        return case
    interleave(runs, 1, 0, synchronize)
    seconds = sum(t[0] for t in interleave(runs, 1, 0, synchronize).values()) / 1e3
    wanted = settings.rounds or (QUICK_ROUNDS if settings.quick else rounds_for(seconds, job.seconds))
    for attempt in range(1 if settings.quick else 1 + RETRIES):
        case.rounds = round(wanted * MORE_ROUNDS**attempt)
        times = interleave(runs, case.rounds, 1, synchronize)
        case.aa = ratios(times[first], times[twin])[0]
        case.void = is_void(case.aa)
        case.attempts.append({"rounds": case.rounds, "aa": case.aa})
        if not case.void:
            break
    for name, run in contenders.items():
        if isinstance(run, str):
            case.cells[name] = Cell(note=run)
            continue
        pair = (times[name], times[first]) if job.inverse and name != twin else (times[first], times[name])
        case.cells[name] = Cell(*ratios(*pair), median_ms=statistics.median(times[name]))
    return case


def block_jobs(settings: argparse.Namespace) -> Iterable[Job]:
    """Give the cases of the bare attention."""
    for m in maps_of(settings):
        for batch in settings.batch or ((1, 8) if m == P5 else (1,)):
            for mode in MODES:
                for precision in ("fp32", "bf16") if settings.device == "cuda" else ("fp32",):

                    def build(m: Map = m, batch: int = batch, mode: str = mode, to: str = precision) -> dict[str, Any]:
                        x, passes = m.tensor(batch, settings.device), {}
                        for name, peer in peers(settings.device).items():
                            missing = peer.missing(m, batch, mode)
                            passes[name] = missing or runner(peer.build(m), x, mode, to)
                            if name == OURS:
                                passes[again(name)] = runner(peer.build(m), x, mode, to)
                        return passes

                    column = mode if settings.device == "cpu" else f"{mode} {precision}"
                    yield Job("block", f"{m} batch {batch}", column, build)


@dataclass(frozen=True)
class Pair:
    """One contender beside the subject, and nothing else in the process."""

    peer: str
    map: Map
    batch: int
    mode: str
    precision: str

    @property
    def table(self) -> str:
        return f"{self.peer} alone beside {OURS}"

    @property
    def column(self) -> str:
        return f"{self.map} batch {self.batch} {self.mode}{'' if self.precision == 'fp32' else ' ' + self.precision}"

    @property
    def name(self) -> str:
        return f"{self.table} {self.column}"

    def in_a_process(self, settings: argparse.Namespace) -> Case:
        """Time both in a fresh process."""
        words = ["--pair-of", self.peer, str(self.map), str(self.batch), self.mode, self.precision]
        found = in_a_process(words, settings)
        if isinstance(found, str):
            return Case("pairs", self.table, self.column, {self.peer: Cell(note=found)})
        return Case(**{**found, "cells": {name: Cell(**cell) for name, cell in found["cells"].items()}})

    def measure(self, settings: argparse.Namespace) -> Case:
        """Time both in this process."""

        def build() -> dict[str, Run | str]:
            x = self.map.tensor(self.batch, settings.device)
            names = {OURS: OURS, again(OURS): OURS, self.peer: self.peer}
            return {
                name: PEERS[peer].missing(self.map, self.batch, self.mode)
                or runner(PEERS[peer].build(self.map), x, self.mode, self.precision)
                for name, peer in names.items()
            }

        return measure(Job("pairs", self.table, self.column, build, seconds=PAIR_SECONDS), settings)


def pairs(settings: argparse.Namespace) -> list[Pair]:
    """Give the pairs that a bound is for."""
    found = []
    for m in maps_of(settings):
        for batch in settings.batch or ((1, 8) if m == P5 else (1,)):
            for mode in MODES:
                for precision in ("fp32", "bf16") if settings.device == "cuda" else ("fp32",):
                    found += [Pair(peer, m, batch, mode, precision) for peer in peers(settings.device) if peer != OURS]
    return [
        pair
        for pair in found
        if any(b.contender == pair.peer and b.holds_for("pairs", pair.name, settings.device) for b in BOUNDS)
    ]


def scope_jobs(settings: argparse.Namespace) -> Iterable[Job]:
    """Give the cases of the scopes, against global attention."""
    for mode in MODES:

        def build(mode: str = mode) -> dict[str, Run | str]:
            x = P3.tensor(1, settings.device)
            modules = {GLOBAL: {}, again(GLOBAL): {}, **SCOPES}
            return {
                name: runner(yolo_mha.SpatialMHA(P3.channels, P3.heads, **arguments), x, mode)
                for name, arguments in modules.items()
            }

        yield Job("scopes", f"{P3} batch 1", mode, build, inverse=True)


def model_jobs(settings: argparse.Namespace) -> Iterable[Job]:
    """Give the cases of whole networks, against Ultralytics' own."""
    for family in FAMILIES:

        def build(family: str = family) -> dict[str, Run | str]:
            x = torch.rand(1, 3, IMGSZ, IMGSZ, device=settings.device)
            yamls = {BASELINE: family, again(BASELINE): family, **{v: f"{family}-{v}" for v in VARIANTS}}
            networks = {name: yolo_mha.YOLO(f"{yaml}.yaml").model for name, yaml in yamls.items()}
            return {name: runner(n.fuse(verbose=False).eval(), x, FORWARD) for name, n in networks.items()}

        yield Job("model", f"{IMGSZ} px, batch 1, fused", family, build, inverse=True)


def onnx_jobs(settings: argparse.Namespace) -> Iterable[Job]:
    """Give the cases in ONNX Runtime: blocks with fused attention against plain ones, networks against the baseline."""
    if settings.device != "cpu":
        return
    absent = speed_onnx.missing()
    for m in speed_onnx.BLOCK_MAPS:

        def build(m: Map = m) -> dict[str, Run | str]:
            names = (speed_onnx.DECOMPOSED, again(speed_onnx.DECOMPOSED), speed_onnx.FUSED)
            if absent:
                return dict.fromkeys(names, absent)
            plain, fused = speed_onnx.block(m)
            image = m.tensor(1, "cpu").numpy()
            models = zip(names, (plain, plain, fused), strict=True)
            return {name: speed_onnx.runner(model, image, settings.threads) for name, model in models}

        yield Job("onnx", "ONNX Runtime, SpatialMHABlock, batch 1", str(m), build, inverse=True, seconds=PAIR_SECONDS)
    for family in () if settings.quick else FAMILIES:

        def build_networks(family: str = family) -> dict[str, Run | str]:
            names = (BASELINE, again(BASELINE), *VARIANTS)
            if absent:
                return dict.fromkeys(names, absent)
            return speed_onnx.networks(family, VARIANTS, IMGSZ, settings.threads)

        yield Job("onnx", f"ONNX Runtime, {IMGSZ} px, batch 1", family, build_networks, inverse=True)


# Memory --------------------------------------------------------------------------------------------------------------


def memory_of(map_name: str, peer: str, device: str) -> dict[str, float | str]:
    """Measure the passes of one contender in this process, by mode: bytes, or why it does not run."""
    m = next(m for m in MAPS if str(m) == map_name)
    found: dict[str, float | str] = {}
    for mode in MODES:
        if missing := PEERS[peer].missing(m, 1, mode):
            found[mode] = missing
            continue
        x = m.tensor(1, device)
        run = runner(PEERS[peer].build(m), x, mode)
        run()  # gradients of parameters, and what libraries keep
        found[mode] = allocator_peak_bytes(run, device)
    return found


def memory_cases(settings: argparse.Namespace, maps: Sequence[Map], step: Callable[[str], None]) -> list[Case]:
    """Measure every contender on every map, each in a process of its own, and how much it grows with the map."""
    cases: dict[str, Case] = {}
    for m in maps:
        own = {mode: Case("memory", str(m), mode, {}) for mode in MODES}
        cases.update({case.name: case for case in own.values()})
        for name in peers(settings.device):
            step(f"memory: {m}, {name}")
            measured = in_a_process(["--memory-of", str(m), name], settings)
            for mode in MODES:
                found = measured if isinstance(measured, str) else measured[mode]
                if isinstance(found, str):
                    own[mode].cells[name] = Cell(note=found)
                else:
                    own[mode].cells[name] = Cell(found / m.tensor(1, "cpu").nbytes, bytes=found)
    for small, large in GROWTH:
        for mode in MODES:
            before, after = (cases.get(f"{m} {mode}") for m in (small, large))
            if before and after:
                column = f"{small.side}x{small.side} to {large.side}x{large.side} C{small.channels} {mode}"
                case = Case("growth", "Peak memory when N grows 4 times", column, {})
                for name, cell in after.cells.items():
                    least = before.cells[name].bytes
                    case.cells[name] = Cell(cell.bytes / least if cell.bytes and least else None, note=cell.note)
                cases[case.name] = case
    return list(cases.values())


def in_a_process(words: Sequence[str], settings: argparse.Namespace) -> dict[str, Any] | str:
    """Run this file in a fresh process, and return the JSON that it prints, or why it failed."""
    given = ["--device", settings.device, "--threads", str(settings.threads)]
    given += ["--quick"] * settings.quick + (["--rounds", str(settings.rounds)] if settings.rounds else [])
    done = subprocess.run(
        [sys.executable, __file__, *words, *given],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": str(settings.threads)},
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit code {done.returncode}"]
        return f"failed: {lines[-1][:200]}"
    return dict(json.loads(done.stdout.splitlines()[-1]))


# Run -----------------------------------------------------------------------------------------------------------------


def environment(settings: argparse.Namespace) -> dict[str, Any]:
    """Return what the numbers depend on."""
    cpu = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        cpu = names[0] if names else cpu
    return {
        "torch": torch.__version__,
        **{name: _version(name) for name in ("ultralytics", "timm", "yolo-mha")},
        "cpu": f"{cpu}, {torch.backends.cpu.get_cpu_capability()}",
        "threads": settings.threads,
        "gpu": torch.cuda.get_device_name() if settings.device == "cuda" else None,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def run_all(settings: argparse.Namespace, console: Console) -> list[Case]:
    """Measure every case that is asked for."""
    levels = [settings.only] if settings.only else LEVELS
    kinds = {"block": block_jobs, "scopes": scope_jobs, "model": model_jobs, "onnx": onnx_jobs}
    jobs = [job for level in levels if level in kinds for job in kinds[level](settings)]
    jobs = [job for job in jobs if wanted(job.name, settings)]
    together = [pair for pair in pairs(settings) if "pairs" in levels and wanted(pair.name, settings)]
    maps = [m for m in maps_of(settings) if any(wanted(f"{m} {mode}", settings) for mode in MODES)]
    maps = maps if "memory" in levels else []
    cases = []
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("", total=len(jobs) + len(together) + len(maps) * len(peers(settings.device)))

        def step(text: str) -> None:
            progress.update(task, description=escape(text), advance=1)

        for job in jobs:
            step(f"{job.level}: {job.name}")
            cases.append(measure(job, settings))
        for pair in together:
            step(f"pairs: {pair.name}")
            cases.append(pair.in_a_process(settings))
        return cases + memory_cases(settings, maps, step)


def wanted(name: str, settings: argparse.Namespace) -> bool:
    """Say whether a case is asked for."""
    return fnmatch.fnmatchcase(name, settings.case)


def maps_of(settings: argparse.Namespace) -> list[Map]:
    """Return the maps of a run; a quick one leaves large ones out."""
    return [m for m in MAPS if m.tokens <= QUICK_TOKENS or not settings.quick]


def rich_table(table: Table) -> RichTable:
    """Return a table for the terminal."""
    title, (head, *rows) = table
    shown = RichTable(title=escape(title), title_justify="left")
    for word in head:
        shown.add_column(escape(word))
    for row in rows:
        shown.add_row(*map(escape, row))
    return shown


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="three rounds, maps of up to 1600 positions in block and memory")
    add("--only", choices=LEVELS, help="one of the six levels")
    add("--case", default="*", metavar="PATTERN", help="cases whose names match, as in a shell; default all")
    add("--rounds", type=int, help="of every case; default as many as fit in about 25 s, 15 to 200, 5 if very slow")
    add("--batch", type=int, nargs="+", help="of the block level; default 1, and 8 for P5 too")
    add("--threads", type=int, default=2, help="of PyTorch; default %(default)s")
    add("--device", choices=("cpu", "cuda"), default="cpu", help="default %(default)s")
    add("--out", type=Path, default=Path("runs/speed"), help="folder of the results; default %(default)s")
    add("--json", action="store_true", help="print what goes into speed.json, and no tables")
    add("--memory-of", nargs=2, help=argparse.SUPPRESS)
    add("--pair-of", nargs=5, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark and return the exit code.

    Args:
        arguments: The words after the script's name; those of the process if not given.
    """
    settings = parse(arguments)
    torch.set_num_threads(settings.threads)
    if settings.memory_of:
        print(json.dumps(memory_of(*settings.memory_of, settings.device)))
        return 0
    if settings.pair_of:
        peer, name, batch, *passes = settings.pair_of
        pair = Pair(peer, next(m for m in MAPS if str(m) == name), int(batch), *passes)
        print(json.dumps(dataclasses.asdict(pair.measure(settings))))
        return 0
    if speed_peers.Attention2d is None:
        print("timm is not installed: pip install 'yolo-mha[benchmark]'", file=sys.stderr)
        return 2
    if settings.device == "cuda" and not torch.cuda.is_available():
        print("PyTorch sees no GPU here: --device cpu", file=sys.stderr)
        return 2
    about = environment(settings)
    cases = run_all(settings, Console(stderr=True))
    if not cases:
        print(f"No case matches --case {settings.case!r}.", file=sys.stderr)
        return 2
    found = None if settings.quick else verdicts(cases, settings.device)
    void = [case.name for case in cases if case.void]
    remarks = [f"VOID: {', '.join(void)}" if void else "No case is void."]
    if settings.quick:
        remarks.append("A quick run: no verdict on bounds.")
    if settings.device == "cpu":
        remarks.append("GPU: not measured.")

    laid_out = tables(cases, found)
    report = {
        "environment": about,
        "quick": settings.quick,
        "cases": [{"name": case.name, **dataclasses.asdict(case)} for case in cases],
        "bounds": [dataclasses.asdict(verdict) for verdict in found or ()],
        "void": void,
    }
    text = json.dumps(report, indent=1)
    for name, content in (("json", text), ("md", markdown(about, laid_out, remarks))):
        with whole_file(settings.out / f"speed.{name}") as file:
            file.write_text(content, encoding="utf-8")
    picture = settings.out / "speed.png"
    picture.unlink(missing_ok=True)  # not that of another run
    draw(cases, picture)
    if settings.json:
        print(text)
    else:
        console = Console()
        for table in laid_out:
            console.print(rich_table(table))
        console.print(*remarks, f"Results are in {settings.out}.", sep="\n", markup=False)
    well = not void and all(verdict.well for verdict in found or ())
    return 0 if well or settings.quick else 1


if __name__ == "__main__":
    sys.exit(main())
