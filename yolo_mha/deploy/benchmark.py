"""`benchmark`: how fast a model is in each format, what attention costs there, and whether the scores stay."""

from __future__ import annotations

import json
import os
import platform
import random
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import metadata
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from ultralytics.utils.torch_utils import get_cpu_info

from ..data.files import whole_file, write_text
from ..engine import settings as config
from ..engine.model import YOLO, require_detection
from ..engine.own_settings import checked
from ..engine.progress import bar, console
from ..engine.run_folder import run_folder
from ..errors import ConfigError, nearest, run_failed
from ..guard import guarded
from ..registry import is_block
from ..scoring.val import score
from ..surgery.graft import without_blocks
from .benchmark_report import BenchmarkResult, Failure, Made, Row, draw, markdown
from .export import export_model
from .export_result import OUT_OF_TOLERANCE, ExportResult
from .splits import Splits
from .worker import Worker, said

LIBRARIES = {"pytorch": "torch", "torchscript": "torch", "onnx": "onnxruntime", "openvino": "openvino"}
OF_ONNX = {"onnx-fused": {"fuse_attention": True}, "onnx-fp16": {"half": True}, "onnx-int8": {"int8": True}}
FORMATS = {**LIBRARIES, **dict.fromkeys(OF_ONNX, "onnxruntime")}  # and what runs them
MODEL, BASELINE, WITHOUT_BLOCKS, MODEL_AGAIN = "model", "baseline", "without-blocks", "again"
# Ultralytics' settings that mean something to a benchmark, and those beside them
BENCHMARK_SETTINGS = ("device", "split", "project", "name", "exist_ok")
OWN_SETTINGS = ("model", "data", "baseline", "formats", "sizes", "batches", "rounds", "trust")
Key = tuple[str, str]  # arm and format


@checked
@guarded()
def benchmark(
    model: str | Path,
    data: str | Path | None = None,
    *,
    baseline: str | Path | None = None,
    formats: str | Iterable[str] | None = None,
    sizes: int | Iterable[int] | None = None,
    batches: int | Iterable[int] = 1,
    rounds: int = 30,
    trust: bool = False,
    **settings: Any,
) -> BenchmarkResult:
    """Measure latency, memory and, with a dataset, AP of a model in several formats, beside its baseline.

    Every format of every model is opened once, in a process of its own, as Ultralytics opens it. In each round all of
    them are timed once, in an order that is drawn anew, so that drift of the machine meets all alike. A second process
    with the model shows how much of a ratio is noise. Memory is measured from the smallest shape to the largest, for
    runtimes keep what they have taken.

    Args:
        model: Checkpoint or model YAML.
        data: Dataset to score each format on, see `val`.
        baseline: Checkpoint or YAML to compare with; by default the model without its attention blocks, if it has any.
        formats: Some of "pytorch", "torchscript", "onnx", "openvino", "onnx-fused" (ONNX Runtime's own operator for
            attention), "onnx-fp16" and "onnx-int8" (with ``data``), see `export`; by default the first four, where
            their packages are installed. All are exported for any size.
        sizes: Heights and widths in pixels; by default the model's image size.
        batches: Numbers of images.
        rounds: How often each is timed.
        trust: Read checkpoints with full pickle, for files that you made yourself.
        **settings: ``device`` ("cpu" if not given, or a GPU), ``split``, ``project``, ``name`` and ``exist_ok``.

    Returns:
        The numbers, which are also written to ``runs/benchmark/<model>`` as JSON, Markdown and a picture. What cannot
        be exported or run is named there with its reason; the others go on.

    Raises:
        ConfigError: A setting is unknown or unusable.
        DataError: The dataset cannot be read, or has other classes.
        ModelError, CheckpointError: A model cannot be read.
        UnsupportedTaskError: A model is not for box detection.
    """
    passed = _check(settings)
    kinds = _formats(formats)
    counts = _numbers("batches", batches)
    arms = _arms(model, baseline, trust)
    pixels = _sizes(sizes, arms)
    if data is None and "onnx-int8" in kinds:
        raise ConfigError("INT8 needs pictures.", given="formats=onnx-int8", expected="data=my.yaml beside it")
    split = passed.get("split") or "val"
    splits = None if data is None else Splits(data, *arms.values())
    if splits:
        splits.to_score(split)  # what is wrong with it is said before hours of work
    with run_folder(passed, Path(str(model)).stem, "runs/benchmark") as folder:
        run = _Run(arms, kinds, pixels, counts, rounds, passed["device"], folder, splits, trust)
        made = _make(run)
        rows, threads = _measure(run, made)
        if splits:
            rows = _score(run, made, rows, splits, split)
        libraries = dict.fromkeys(["torch", *(FORMATS[kind] for kind in kinds), "ultralytics"])
        machine = {"device": run.device, "CPU": get_cpu_info(), "cores": os.cpu_count(), "threads of PyTorch": threads}
        machine |= {"system": platform.platform(), **{name: _version(name) for name in libraries}}
        what = {
            arm: str(model if arm == MODEL else baseline or f"{model} without its blocks, and not trained again")
            for arm in arms
        }
        result = BenchmarkResult(str(folder), what, rows, list(made.values()), run.failed, rounds, machine)
        write_text(folder / "benchmark.json", json.dumps(result.as_dict(), indent=2))
        write_text(folder / "benchmark.md", markdown(result))
        if rows:
            draw(result, folder / "benchmark.png")
        return result


# Settings ------------------------------------------------------------------------------------------------------------


def _check(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Check Ultralytics' settings, of which few mean something here."""
    passed = config.check(settings, own=OWN_SETTINGS)
    for key in passed:
        if key not in BENCHMARK_SETTINGS:
            instead = {"imgsz": "sizes=320,640", "batch": "batches=1,8", "format": "formats=onnx,openvino"}
            expected = instead.get(key) or nearest(key, BENCHMARK_SETTINGS + OWN_SETTINGS)
            raise ConfigError(f"benchmark has no setting '{key}'.", given=f"{key}={passed[key]}", expected=expected)
    device = str(passed.get("device", "cpu")).removeprefix("cuda:")
    if device != "cpu" and not device.isdigit():
        raise ConfigError("One device is measured.", given=f"device={passed['device']}", expected="cpu, or 0 for a GPU")
    return {**passed, "device": device}


def _listed(value: Any) -> list[Any]:
    values = value.split(",") if isinstance(value, str) else value if isinstance(value, Iterable) else [value]
    return list(dict.fromkeys(values))


def _formats(given: Any) -> list[str]:
    names = [] if given is None else _listed(given)
    for name in names:
        if name not in FORMATS:
            raise ConfigError("Unknown format.", given=f"formats={name}", expected=nearest(name, FORMATS))
    return names or [name for name, library in LIBRARIES.items() if find_spec(library)]


def _numbers(key: str, given: Any) -> list[int]:
    values = _listed(given)
    if not values or not all(type(v) is int and v >= 1 for v in values):
        example = {"sizes": "320,640", "batches": "1,8"}[key]
        raise ConfigError(f"{key} has an unusable value.", given=f"{key}={given}", expected=f"{key}={example}")
    return sorted(values)


def _sizes(given: Any, arms: Mapping[str, YOLO]) -> list[int]:
    """Return the image sizes; a stride of at least 32, because Ultralytics rounds up to that where it scores."""
    stride = max(32, *(int(network.model.stride.max()) for network in arms.values()))
    if given is None:
        own = arms[MODEL].overrides.get("imgsz") or 640
        return [-(-max(_listed(own)) // stride) * stride]
    sizes = _numbers("sizes", given)
    if wrong := [s for s in sizes if s % stride]:
        near = " or ".join(str(n) for n in (wrong[0] // stride * stride, -(-wrong[0] // stride) * stride) if n)
        raise ConfigError(
            "A size is no multiple of the model's stride.",
            given=f"sizes={wrong[0]}",
            expected=f"{near}, stride {stride}",
        )
    return sizes


def _arms(model: Any, baseline: Any, trust: bool) -> dict[str, YOLO]:
    """Open the model, and what it is compared with."""
    arms = {MODEL: _open("model", model, trust)}
    if baseline is not None:
        arms[BASELINE] = _open("baseline", baseline, trust)
    elif any(is_block(type(m).__name__) for m in arms[MODEL].model.modules()):
        arms[WITHOUT_BLOCKS] = _open("model", model, trust)
        arms[WITHOUT_BLOCKS].model = without_blocks(arms[WITHOUT_BLOCKS].model)
    return arms


def _open(key: str, model: str | Path, trust: bool) -> YOLO:
    if not str(model).endswith((".pt", ".yaml", ".yml")):
        expected = f"{key}=best.pt, or a model YAML; benchmark exports it itself"
        raise ConfigError("benchmark does not take an exported model.", given=f"{key}={model}", expected=expected)
    network = YOLO(model, trust=trust)
    require_detection(network.task, "benchmark")
    return network


def _version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return "not installed"


# Work ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Run:
    """What is to be done; ``failed`` fills up with what was not."""

    arms: dict[str, YOLO]
    kinds: list[str]
    sizes: list[int]
    batches: list[int]
    rounds: int
    device: str
    folder: Path
    splits: Splits | None
    trust: bool
    failed: list[Failure] = field(default_factory=list)

    def trusts(self, kind: str) -> bool:
        """Say whether a file may be a program: exports were made by this run."""
        return self.trust or kind != "pytorch"

    @contextmanager
    def step(self, key: Key, step: str) -> Iterator[None]:
        """Note an error of what is done with one file, and go on after it."""
        try:
            yield
        except Exception as e:  # every exporter and every runtime fails in its own way
            self.failed.append(Failure(*key, step, said(e)))


def _make(run: _Run) -> dict[Key, Made]:
    """Write every model in every format."""
    made = {}
    for arm, network in run.arms.items():
        checkpoint = run.folder / f"{arm}.pt"
        try:
            with whole_file(checkpoint) as temporary:
                network.save(temporary)
        except Exception as e:  # PyTorch has an error of its own for a full disk
            raise run_failed("Writing a checkpoint", e) from e
        for kind in run.kinds:
            if kind == "pytorch":
                made[arm, kind] = Made(arm, kind, str(checkpoint))
                continue
            console.print(f"exporting {arm} to {kind}")
            with run.step((arm, kind), "export"):
                result = _export(run, arm, kind, checkpoint)
                agrees = {"proved": True, OUT_OF_TOLERANCE: False}.get(result.verdict)
                made[arm, kind] = Made(arm, kind, result.file, agrees, result.notes)
    return made


def _export(run: _Run, arm: str, kind: str, checkpoint: Path) -> ExportResult:
    format = "onnx" if kind in OF_ONNX else kind
    make = partial(export_model, checkpoint, format, dynamic=True, imgsz=run.sizes[0], trust=run.trust)
    try:
        return make(data=run.splits if kind == "onnx-int8" else None, **OF_ONNX.get(kind, {}))
    except ConfigError:
        if arm == MODEL or kind != "onnx-fused":
            raise
        return make()  # a baseline without attention is best as it is


def _measure(run: _Run, made: Mapping[Key, Made]) -> tuple[list[Row], int | None]:
    """Time every file at every shape; return also PyTorch's number of threads."""
    files = {**made, **{(MODEL_AGAIN, kind): file for (arm, kind), file in made.items() if arm == MODEL}}
    shapes = sorted(product(run.sizes, run.batches), key=lambda shape: shape[0] ** 2 * shape[1])
    logs = run.folder / "logs"
    logs.mkdir(exist_ok=True)
    rows = []
    with ExitStack() as stack, bar() as progress:
        task = progress.add_task("opening", total=len(shapes) * run.rounds)
        workers = {}
        for (arm, kind), file in files.items():
            request = {"file": file.file, "device": run.device, "library": FORMATS[kind], "trust": run.trusts(kind)}
            with guarded(run.trusts(kind)):  # the process is restricted as this one is when it starts
                worker = Worker(logs / f"{arm}-{kind}.txt", run.arms[file.arm].model, **request)
            workers[arm, kind] = stack.enter_context(closing(worker))
        opened: dict[Key, Any] = {}
        for key, worker in workers.items():
            with run.step(key, "opening"):
                opened[key] = worker.receive()["threads"]
        for size, batch in shapes:
            progress.update(task, description=f"{size} px, batch {batch}")
            live = {key: workers[key] for key in opened}
            rows += _rows(run, size, batch, *_time(run, live, size, batch, partial(progress.advance, task)))
    return rows, next(iter(opened.values()), None)


def _time(
    run: _Run, workers: Mapping[Key, Worker], size: int, batch: int, advance: Callable[[], None]
) -> tuple[dict[Key, list[float]], dict[Key, float | None]]:
    """Time all of them once a round; return milliseconds by round, and memory in MiB.

    The order is drawn anew for every second round and reversed in between: with a fixed one, or a rotation, the same
    neighbour would always come before.
    """

    def ask(keys: Iterable[Key], do: str, number: str = "", **request: Any) -> dict[Key, Any]:
        answers = {}
        for key in keys:
            with run.step(key, f"{size} px, batch {batch}"):
                workers[key].ask(do, **request)
                answers[key] = workers[key].receive().get(number)
        return answers

    channels = int(run.arms[MODEL].model.yaml.get("channels", 3))
    order = list(ask(workers, "start", batch=batch, channels=channels, size=size))
    times: dict[Key, list[float]] = {key: [] for key in order}
    draw_lots = random.Random(0)
    for done in range(run.rounds):
        if done % 2:
            order.reverse()
        else:
            draw_lots.shuffle(order)
        answers = ask(order, "time", "ms")
        order = list(answers)
        for key, milliseconds in answers.items():
            times[key].append(milliseconds)
        advance()
    memory = ask(order, "finish", "mib")
    return {key: times[key] for key in memory}, memory


def _rows(
    run: _Run, size: int, batch: int, times: Mapping[Key, list[float]], memory: Mapping[Key, float | None]
) -> list[Row]:
    """Turn times into numbers for each format and model."""

    def ratio(one: Key, other: Key) -> float | None:
        if one == other or not {one, other} <= set(times):
            return None
        return statistics.median(a / b for a, b in zip(times[one], times[other], strict=True))

    rows = []
    for kind, arm in product(run.kinds, run.arms):
        if own := times.get((arm, kind)):
            p50, p95 = (float(v) for v in np.percentile(own, (50, 95)))
            slower = ratio((arm, kind), (list(run.arms)[-1], kind))
            noise = ratio((MODEL_AGAIN, kind), (MODEL, kind)) if arm == MODEL else None
            rows.append(Row(size, batch, kind, arm, p50, p95, batch / p50 * 1e3, memory[arm, kind], slower, noise))
    return rows


def _score(run: _Run, made: Mapping[Key, Made], rows: list[Row], splits: Splits, split: str) -> list[Row]:
    """Score every file at every size, and put AP into its rows."""
    scores: dict[tuple[str, str, int], Mapping[str, float]] = {}
    for (arm, kind), size in product(made, run.sizes):
        console.print(f"scoring {arm} in {kind} at {size} px")
        with run.step((arm, kind), f"AP at {size} px"):
            network, samples = YOLO(made[arm, kind].file, trust=run.trusts(kind)), splits.read(split)
            where: dict[str, Any] = {"project": str(run.folder / "val"), "name": f"{arm}-{kind}-{size}"}
            found = score(network, splits.dataset, samples, split, device=run.device, imgsz=size, plots=False, **where)
            scores[arm, kind, size] = found.coco.metrics
    pairs = [(row, scores.get((row.arm, row.format, row.size))) for row in rows]
    return [replace(row, ap=ap["AP"], ap50=ap["AP50"]) if ap else row for row, ap in pairs]
