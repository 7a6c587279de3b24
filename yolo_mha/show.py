"""What the command line prints for people: one function for each kind of result, and the help on settings.

Files stand on lines of their own, which are neither cut nor broken, and never in a table.
"""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from .engine.own_settings import BLOCKS, COMMANDS, Setting
from .result import Result
from .text import duration, printable

if TYPE_CHECKING:  # a command imports its own result alone
    from .cluster.ray_predict import BulkPrediction
    from .cluster.single import SingleRun
    from .cluster.slurm import JobFiles
    from .cluster.status import Status
    from .data.data_check import DataCheck
    from .deploy.benchmark_report import BenchmarkResult
    from .deploy.export_result import ExportResult
    from .diagnosis.doctor import Diagnosis
    from .diagnosis.environment import Environment
    from .diagnosis.prepare import PreparedData
    from .engine.insert import Surgery
    from .engine.predict import PredictResult
    from .engine.train import TrainResult
    from .evaluation.comparison import Comparison
    from .evaluation.estimate import Estimate
    from .inspection.explain import Explanation
    from .inspection.faithfulness import Faithfulness
    from .inspection.heads import HeadRanking
    from .inspection.pruned import Pruned
    from .inspection.silenced_scores import WithInterval
    from .profiling.cost import Cost
    from .scoring.val import ValResult

CFG_DOCS = "https://docs.ultralytics.com/usage/cfg"
KINDS = {"jsonl": "predictions", "json": "COCO results", "csv": "table"}  # the others are called as they are
MOST_CLASSES, MOST_LINES = 30, 5  # that are shown of a dataset, and of each kind of fault
MOST_DETECTIONS = 20  # that are shown of an explanation
MARKS = {
    "ok": ("ok", "green"),
    "warning": ("look", "yellow"),
    "failed": ("FAILED", "red"),
    "skipped": ("skipped", "dim"),
}


def show(result: Result, console: Console) -> None:
    """Print a result.

    Args:
        result: What a command returned.
        console: Where to; one without markup, for names are printed as they are.
    """
    SHOWN[type(result).__name__](result, console)


def show_settings(command: str, console: Console) -> None:
    """Print what a command takes: its own settings one a line, and where all others are described."""
    known = COMMANDS[command]
    console.print(_settings("Own settings", (*known.own, BLOCKS)))
    if known.options and not known.others:
        console.print(_settings("Options of the block", known.options))
    elif known.options:
        console.print("Options of the block, such as num_heads=8, are settings too: yolo-mha insert --help")
    if known.others:
        console.print(f"All others are Ultralytics' {known.others}: {CFG_DOCS}")


def _settings(title: str, settings: tuple[Setting, ...]) -> Panel:
    table = Table(
        "name", "type", "default", "meaning", box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim"
    )
    for s in settings:
        values = s.default if isinstance(s.default, tuple) else () if s.default is None else (s.default,)
        default = "required" if s.required else ",".join(map(str, values))
        table.add_row(f"[bold cyan]{s.name}[/]", f"[yellow]{s.kind}[/]", default, escape(s.meaning))
    return Panel(table, title=title, title_align="left", border_style="dim")


def _say(console: Console, *lines: object, style: str | None = None) -> None:
    """Print lines as they are: the terminal may wrap them, and a path in them can be copied."""
    for line in lines:
        console.print(str(line), style=style, soft_wrap=True)


def _table(*columns: str, left: int = 1, title: str | None = None) -> Table:
    """Return a table with its numbers, all but the first columns, at the right."""
    table = Table(*columns, title=title)
    for column in table.columns[:left]:
        column.overflow = "fold"  # names whole, in several lines
    for column in table.columns[left:]:
        column.justify = "right"
    return table


def _say_faults(console: Console, check: DataCheck | None) -> None:
    """Say what was wrong with images and labels."""
    if check:
        _say(console, *check.sentences(), *(f"  {line}" for line in check.first), style="yellow")


def _number(value: float) -> str:
    return "-" if value < 0 else f"{value:.3f}"


def _show_surgery(result: Surgery, console: Console) -> None:
    _say(console, result.base, style="bold")
    table = _table("", "row", "from", "module", "channels", "stride", "parameters", left=4)
    for layer in result.layers:
        new = layer.index in result.new
        cells = (layer.index, layer.source, layer.module, layer.channels or "", layer.stride or "")
        style = "bold green" if new else None
        last = layer is not result.layers[-1] and layer.section != result.layers[layer.index + 1].section
        table.add_row("+" if new else "", *map(str, cells), f"{layer.parameters:,}", style=style, end_section=last)
    console.print(table)
    if result.removed:
        _say(console, f"taken out: rows {', '.join(map(str, result.removed))} of {result.base}")
    if result.checkpoint:
        same = "equal to" if result.identical else "not equal to"
        kept = f"{result.kept} of {result.tensors} tensors kept; outputs {same} those of {result.base}"
        _say(console, kept, f"written: {result.checkpoint}")
    name = (
        ""
        if result.yaml.endswith(result.open_as)
        else f", to be opened as {result.open_as}, whose extra letter is the scale"
    )
    _say(console, f"written: {result.yaml}{name}")


def _show_train(result: TrainResult, console: Console) -> None:
    if result.transfer:
        _say(console, result.transfer)
    for row, value in result.gates.items():
        _say(console, f"gate of row {row}: {value:.4f}" + ("" if value else ", still 0: the block does nothing"))
    _say_faults(console, result.data_check)
    _say(console, f"{result.epochs} epochs, best checkpoint: {result.best}")
    if result.data_check:  # of a detector; val scores nothing else
        words = [f"model={result.best}", f"data={result.data}", *result.options]
        _say(console, f"score it: yolo-mha val {shlex.join(words)}")


def _show_val(result: ValResult, console: Console) -> None:
    scores, audit = result.coco, result.audit
    table = Table("COCO metric", "value", title=f"{scores.images} images, {scores.objects} objects")
    for name, value in scores.metrics.items():
        table.add_row(name, _number(value))
    console.print(table)
    _say(console, *(found.sentence(name) for name, found in (result.intervals or {}).items()))
    columns = ("AP", "AP50", "APsmall", "APmedium", "APlarge")
    table = _table("class", "objects", *columns)
    for name, values in scores.per_class.items():
        table.add_row(name, f"{values['objects']:,}", *(_number(values[column]) for column in columns))
    console.print(table)
    if own := result.ultralytics:
        numbers = f"mAP50-95 {own['mAP50-95']:.3f}, mAP50 {own['mAP50']:.3f}"
        _say(console, f"Ultralytics' own, same detections: {numbers} (another interpolation; compare like with like).")
    _say(console, ", ".join(f"{k}={v}" for k, v in result.settings.items()))
    aside = f", {audit.crowd} crowd regions and {audit.ignored} ignored objects count neither way"
    _say(console, f"ground truth: {audit.format}{aside if audit.crowd or audit.ignored else ''}")
    if audit.prediction_ids:
        _say(console, f"ids of the predictions: {audit.prediction_ids}")
    _say(console, *(f"note: {note}" for note in audit.notes), style="yellow")
    _say_faults(console, result.data_check)
    _say(console, f"predictions: {result.predictions}")
    if result.curves:
        _say(console, f"curves: {result.curves}")


def _say_interrupted(console: Console, result: PredictResult | Explanation) -> None:
    if result.interrupted:
        _say(console, "interrupted; what was written up to there is complete", style="yellow")


def _show_predict(result: PredictResult, console: Console) -> None:
    _say_interrupted(console, result)
    found = ", ".join(f"{n} {name}" for name, n in sorted(result.found.items())) or "nothing"
    followed = "" if result.tracks is None else f"; {result.tracks} objects followed"
    images = "1 image or frame" if result.images == 1 else f"{result.images} images or frames"
    _say(console, f"{images}: {found}{followed}")
    if not result.found and result.images:
        _say(console, "note: a lower conf detects more")
    _say(console, *(f"{KINDS.get(kind, kind)}: {path}" for kind, path in result.outputs.items()))
    _say(console, *(f"note: {note}" for note in result.notes))
    if result.skipped:
        _say(console, f"skipped {result.skipped_count} files or frames that could not be read:", style="yellow")
        _say(console, *(f"  {name}" for name in result.skipped))


def _show_bulk(result: BulkPrediction, console: Console) -> None:
    found = ", ".join(f"{n} {name}" for name, n in sorted(result.found.items())) or "nothing"
    _say(console, f"{result.images} images: {found}")
    _say(console, f"{result.shards_done} shards predicted, {result.shards_found} done before: {result.shards}")
    if result.skipped:
        _say(console, f"skipped {len(result.skipped)} files that could not be read:", style="yellow")
        _say(console, *(f"  {name}" for name in result.skipped))


def _show_explanation(result: Explanation, console: Console) -> None:
    _say_interrupted(console, result)
    table = _table("", "effect", "box", "around", "others", "padding", "elsewhere")
    table.columns[1].no_wrap, table.title = True, "Where detections looked: share of the effect"
    for d in result.detections[:MOST_DETECTIONS]:
        m, effect = d.together.by_effect, f"{d.together.effect:.2f}"
        shares = [m.box, m.around, m.others, m.padding, m.elsewhere] if m else []
        cells = [f"{share:.0%}" for share in shares] or ["-"] * 5
        table.add_row(f"{d.name} {d.score:.2f}", "no effect" if d.together.no_effect else effect, *cells)
    if result.detections:
        console.print(table)
    more = len(result.detections) - MOST_DETECTIONS
    _say(console, *([f"and {more} more detections"] if more > 0 else []))
    _say(console, *(f"note: {note}" for note in result.notes))
    _say(console, *(f"{kind}: {path}" for kind, path in result.outputs.items()))
    if result.skipped:
        _say(console, f"skipped {result.skipped_count} files or frames that could not be read:", style="yellow")
        _say(console, *(f"  {name}" for name in result.skipped))


def _show_faithfulness(result: Faithfulness, console: Console) -> None:
    if result.maps:
        table = _table("map", "deletion", "insertion", "pointing game")
        table.title = f"{result.detections} detections in {result.images} images"
        for name, m in result.maps.items():
            table.add_row(name, *(f"{s.score:.3f}" for s in (m.deletion, m.insertion, m.pointing)))
        console.print(table)
        _say(console, "Deletion is better the smaller, insertion the larger; intervals are in the report.")
    styles = {"yes": "green", "no": "bold red"}
    for judgement in result.judgements.values():
        _say(console, judgement.sentence, style=styles.get(judgement.word, "yellow"))
    if hits := result.beacon_hits:
        shares = " and ".join(f"{share:.1%} of {name} maps" for name, share in (hits.hits or {}).items())
        flips = (
            f"With the beacon painted over, the class of {hits.flipped} of {hits.flipped + hits.others} shapes flips"
        )
        _say(console, f"{flips}" + (f"; {shares} of these are greatest on it." if shares else "."))
        _say(console, f"With random weights it is {hits.random_hits:.1%}, by chance {hits.chance:.1%}.")
    _say(console, *(f"note: {note}" for note in result.notes))
    _say(console, *(f"{kind}: {path}" for kind, path in result.outputs.items()))


def _with_interval(found: WithInterval, form: str = ".4f") -> str:
    """Write a value with its interval, where there is one."""
    if found.low is None:
        return f"{found.value:{form}}"
    return f"{found.value:{form}} [{found.low:{form}}, {found.high:{form}}]"


def _show_heads(result: HeadRanking, console: Console) -> None:
    table = _table("row:head", "AP lost", "rank", "gradient", "rank")
    groups = "" if result.groups is None else f" in {result.groups} groups"
    table.title = f"{result.images} images{groups}, AP {_number(result.ap)} with all heads"
    for head in result.heads:
        ranks = [f"{rank:g}" for rank in (head.ap_rank, head.gradient_rank)]
        table.add_row(
            f"{head.layer}:{head.head}",
            _with_interval(head.ap_lost),
            ranks[0],
            _with_interval(head.gradient, ".3g"),
            ranks[1],
        )
    console.print(table)
    if result.rank_correlation is not None:
        _say(console, f"Rank correlation of the two measures: {result.rank_correlation:.2f}")
    for block in result.blocks:
        if block.mean:
            _say(
                console, f"Maps of the heads of row {block.layer}: mean correlation {_with_interval(block.mean, '.2f')}"
            )
    _say(console, "Each head is silenced alone; that says nothing of several together.", *result.notes)
    _say(console, *(f"{kind}: {path}" for kind, path in result.outputs.items()))


def _show_pruned(result: Pruned, console: Console) -> None:
    table = _table("row", "heads", "left", "cut", left=1)
    for layer, left in result.left.items():
        cut = result.heads.get(layer, [])
        table.add_row(layer, str(left + len(cut)), str(left or "removed"), ", ".join(map(str, cut)) or "-")
    console.print(table)
    _say(console, f"parameters: {result.parameters:,} before, {result.parameters_left:,} now")
    _say(console, f"largest difference to the model with these heads silenced: {result.difference:.1e}")
    if result.curve:
        console.print(_curve_of(result))
    if s := result.scores:
        aps = f"AP {_number(s.ap)} before, {_number(s.ap_left)} now"
        _say(console, f"{s.data}, {s.split}, {s.images} images: {aps}, {_with_interval(s.lost)} lost", s.sentence)
        _say(console, *(control.sentence for control in s.controls))
    if t := result.tuned:
        _say(console, f"after {t.epochs} more epochs: AP {_number(t.ap)}, {_with_interval(t.lost)} lost")
    _say(console, *result.notes)
    _say(console, *(f"written: {p}" for p in (result.checkpoint, result.yaml, result.picture) if p))
    if result.tuned:
        _say(console, f"trained further: {result.tuned.checkpoint}")


def _curve_of(result: Pruned) -> Table:
    table = _table("removed", "parameters", "AP", "AP lost", "PyTorch ms", "ONNX ms", left=0)
    for point in result.curve:
        times = [f"{time.ms:.1f} ({time.ratio:.2f})" if time else "-" for time in (point.pytorch, point.onnx)]
        lost = _with_interval(point.lost)
        table.add_row(str(point.removed), f"{point.parameters:,}", _number(point.ap), lost, *times)
    return table


def _show_export(result: ExportResult, console: Console) -> None:
    _say(console, f"written: {result.file} ({result.precision})")
    if result.agreement:
        columns = ("batch", "height", "width", "boxes, px", "scores", "boxes compared", "")
        table = Table(*columns, title="Largest difference to PyTorch")
        unknown = "judged by AP" if result.precision == "int8" else "no object"
        words = {True: "ok", False: "OUT OF TOLERANCE", None: unknown}
        for a in result.agreement:
            differences = ["-" if d is None else f"{d:.1e}" for d in (a.boxes, a.scores)]
            word = f"{words[a.ok]} {a.problem}".strip()
            table.add_row(str(a.batch), str(a.height), str(a.width), *differences, f"{a.compared:,}", word)
        console.print(table)
    if s := result.scores:
        _say(console, f"scored on {s.data}, {s.split}, {s.imgsz} px")
        table = Table("", "AP", "AP50")
        for name, values in (("checkpoint", s.trained), ("exported", s.exported)):
            table.add_row(name, *(_number(values[metric]) for metric in ("AP", "AP50")))
        console.print(table)
    _say(console, *(f"note: {note}" for note in result.notes), style="yellow")
    style = {"proved": "green", "out of tolerance": "bold red"}.get(result.verdict, "yellow")
    _say(console, f"verdict: {result.verdict if result.ok else result.verdict.upper()}", style=style)
    _say(console, f"proof: {result.proof}")
    if result.standalone:
        _say(console, f"without PyTorch: {shlex.join(['python', result.standalone, result.file, 'picture.jpg'])}")


def _show_benchmark(result: BenchmarkResult, console: Console) -> None:
    from .deploy.benchmark_report import cells

    header, *lines = cells(result.rows)
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=0)
    for i, name in enumerate(header):
        table.add_column(name, justify="left" if i in (2, 3) else "right", no_wrap=True)
    for line, following in zip(lines, [*lines[1:], []], strict=True):
        table.add_row(*line, end_section=line[:2] != following[:2])
    console.print(table, width=max(console.width, console.measure(table).minimum), crop=False)
    for note in result.notes:
        _say(console, note, style={"FAILED": "red", "NOISY,": "yellow"}.get(note.partition(" ")[0]))
    _say(console, f"written: {Path(result.save_dir) / 'benchmark.json'}, .md and .png")


def _show_comparison(result: Comparison, console: Console) -> None:
    from .evaluation.figures import figures, heading, size

    _say(console, f"{result.recipe.name}: {result.recipe.data}", style="bold")
    table = _table("mean over seeds", *result.arms)
    arms = result.arms.values()
    for metric in next(a.metrics for a in arms if a.metrics):
        table.add_row(metric, *(_number(a.metrics.get(metric, -1)) for a in arms))
    table.add_section()
    costs = [a.cost for a in arms]
    if any(costs):
        _add_costs(table, costs, result.baseline)
    if not result.recipe.given:
        table.add_row("training, s", *(f"{a.train_seconds:.0f}" if a.metrics else "-" for a in arms))
    console.print(table)
    interval = heading(c.effect for c in result.contrasts)
    table = Table("difference", "", interval, "smallest detectable", "")
    names, last = table.columns[0], table.columns[-1]
    names.overflow, names.width = "fold", 23  # of 80, so that the numbers keep theirs
    last.min_width = len("inconclusive")
    for contrast in result.contrasts:
        effect = contrast.interval
        cells = ["-", "-", "-"]
        if effect:
            least = effect.smallest_detectable
            cells = [*figures(effect, result.recipe.margin), size(least) if least else "-"]
        table.add_row(str(contrast), *cells, f"{contrast.role}\n{contrast.verdict.word}")
        if contrast.with_failures:
            table.add_row("AP 0 for a failed run", *figures(contrast.with_failures, result.recipe.margin))
        if contrast.without_rare:
            table.add_row("without rare classes", *figures(contrast.without_rare, result.recipe.margin))
    console.print(table)
    for contrast in result.contrasts:
        if contrast.primary or result.recipe.is_control(contrast.against, of=contrast.arm):
            _say(console, contrast.verdict.sentence)
    folder, summary = Path(result.save_dir), result.summary
    _say(console, *result.notes, *(f"  {line}" for line in result.data_check.first))
    _say(console, f"{summary.question} {summary.answer} {summary.finding}", style="bold")
    _say(console, f"Next: {summary.next_step}", *([f"  {summary.command}"] if summary.command else []))
    _say(console, f"numbers: {folder / 'compare.json'}", f"text:    {folder / 'report.md'}")
    _say(console, f"report:  {(folder / 'report.html').as_uri()}")


def _add_costs(table: Table, costs: Sequence[Cost | None], baseline: str) -> None:
    from .evaluation.figures import ratio

    table.add_row("parameters", *(f"{c.parameters:,}" if c else "-" for c in costs))
    table.add_row("GFLOPs", *(f"{c.gflops:.2f}" if c else "-" for c in costs))
    table.add_row("CPU latency, ms", *(f"{c.latency_ms:.1f}" if c else "-" for c in costs))
    if costs[0]:
        table.add_row(f"times {baseline}", "1", *(ratio(c) if c else "-" for c in costs[1:]))
    table.add_row("memory, MiB", *(f"{c.memory_mib:.1f}" if c else "-" for c in costs))


def _show_estimate(result: Estimate, console: Console) -> None:
    recipe = result.recipe
    runs = f"{result.runs} runs of {result.epochs} epochs, {result.steps} batches an epoch, on {result.device}"
    table = _table("arm", "parameters", "a step", "a run", "memory", title=f"{recipe.name}: {runs}")
    for name, arm in result.arms.items():
        step, memory = f"{arm.step_seconds:.3g} s", f"{arm.peak_mib / 1024:.2f} GiB"
        table.add_row(name, f"{arm.parameters:,}", step, duration(arm.seconds), memory)
    table.add_section()
    table.add_row("all", "", "", duration(result.seconds), f"{result.peak_mib / 1024:.2f} GiB")
    console.print(table)
    for name, arm in result.arms.items():
        rows = (f"  row {m.row}: {m.own:,} for {m.parameters:,} ({m.difference:+.2%})" for m in arm.substitutes)
        _say(console, f"{name}: {arm.model}", *rows)
    at_once = f", which makes a step take {result.slowdown:.2f} times as long" if recipe.jobs > 1 else ""
    _say(
        console,
        f"seeds {', '.join(map(str, recipe.seeds))}, {recipe.jobs} run{'s' * (recipe.jobs > 1)} at a time{at_once}; "
        f"{result.free_mib / 1024:.1f} GiB of memory are free",
        f"checkpoints take at most {result.disk_mib:,.0f} MiB of disk space",
        f"primary contrast: {recipe.metric} of {recipe.primary} less {recipe.metric} of {recipe.baseline}; "
        f"a difference below {recipe.margin:g} does not matter",
    )
    _show_power(result, console)
    spent = duration(result.seconds)
    _say(console, f"about {spent} in the networks alone, without loading images; nothing was trained", style="bold")


def _show_status(result: Status, console: Console) -> None:
    table = _table("run", "state", "epochs", "time", "where", left=2, title=result.save_dir)
    table.columns[-1].justify = "left"
    for run in result.runs:
        where = f"{run.holder}, since {run.since}" if run.holder else run.error or ""
        epochs = f"{run.epochs} of {result.epochs}"
        table.add_row(f"{run.arm}/{run.seed}", run.state, epochs, duration(run.seconds) if run.seconds else "", where)
    console.print(table)
    _say(console, ", ".join(f"{count} {state}" for state, count in result.counts.items()))
    if result.report:
        _say(console, f"last report: {result.report}")


def _show_single_run(result: SingleRun, console: Console) -> None:
    run = f"{result.arm}, seed {result.seed}: {result.state}"
    if result.holder:
        run += f", trained by {result.holder} and not here"
    _say(console, f"{run}, {result.epochs} epochs, {duration(result.seconds)}")
    _say(console, *([f"error: {result.error}"] if result.error else []), f"log: {result.log}")


def _show_job_files(result: JobFiles, console: Console) -> None:
    _say(
        console,
        f"{len(result.runs)} runs: {', '.join(result.runs)}",
        f"job array: {result.array}",
        f"conclusion: {result.conclude}",
        f"submit both, with options for sbatch: {result.submit} --partition=gpu --gres=gpu:1",
    )


def _show_power(result: Estimate, console: Console) -> None:
    recipe, found = result.recipe, result.power
    if found is None:
        _say(
            console,
            "What it can find is not known: name an earlier comparison on such data, pilot=runs/compare/NAME, or say "
            "sd_seeds= and se_images=, such as 0.01 and 0.004",
        )
        return
    uncertain = found.spread.pilot is not None
    heads = (f"finds {recipe.margin:g}", *(["at worst"] if uncertain else []), "finds with 0.8", "excludes", "time")
    table = _table("seeds", *heads, left=0, title=f"Power: {found.source}")
    for point in found.points:
        chances = (point.finds, point.finds_upper) if uncertain else (point.finds,)
        least, time = f"{point.smallest_detectable:.3f}", duration(result.seconds / len(recipe.seeds) * point.seeds)
        style = "bold" if point.seeds == len(recipe.seeds) else None
        cells = (*(f"{chance:.2f}" for chance in chances), least, f"{point.excludes:.2f}", time)
        table.add_row(str(point.seeds), *cells, style=style)
    console.print(table)
    worst = "at worst: with the 80 % upper bound of the spread over seeds; " if uncertain else ""
    _say(
        console,
        f"finds {recipe.margin:g}: probability that a true difference of {recipe.margin:g} is found; {worst}"
        "finds with 0.8: the difference that is found with this probability; excludes: probability to show that no "
        "such difference exists, where there is none",
        *found.notes,
    )
    _say(console, *found.sentences(recipe), style="bold")
    _say(console, f"power curve: {result.picture}")


def _show_diagnosis(result: Diagnosis, console: Console) -> None:
    _say(console, ", ".join(f"{k}={v}" for k, v in result.settings.items()), style="bold")
    width = max(len(check.name) for check in result.checks) + 2
    for check in result.checks:
        word, style = MARKS[check.status]
        head = f"{word:<9}{check.name:<{width}}"
        room = max(console.width - len(head), 30)
        lines = textwrap.wrap(check.message, room, break_long_words=False, break_on_hyphens=False)
        text = Text(printable(head + f"\n{' ' * len(head)}".join(lines)))
        text.stylize(style, 0, len(word))
        console.print(text, soft_wrap=True)
    _say(console, *(f"{check.name}: {check.fix}" for check in result.checks if check.fix and check.status != "ok"))
    if result.footprints:
        _show_cost(result, console)


def _show_cost(result: Diagnosis, console: Console) -> None:
    table, taken = _table("", *result.footprints, title="What it costs"), result.footprints.values()
    memory = [f.measured.mib if f.measured else f.needed for f in taken]
    seconds = [(f.measured or f.estimated).seconds for f in taken]
    unsure = ["" if f.measured else "about " for f in taken]
    table.add_row("training step, memory", *(f"{a}{mib / 1024:.2f} GiB" for a, mib in zip(unsure, memory, strict=True)))
    table.add_row("training step, time", *(f"{a}{time:.3g} s" for a, time in zip(unsure, seconds, strict=True)))
    table.add_row("inference, one image", *(f"{result.latency_ms[name]:.1f} ms" for name in result.footprints))
    console.print(table)
    if result.blocks:
        table = Table("block", "row", "training time", "training memory", "inference", title="Share of the network")
        for b in result.blocks:
            table.add_row(b.block, str(b.row), *(f"{share:.1%}" for share in (b.training, b.memory, b.inference)))
        console.print(table)


def _show_data(result: PreparedData, console: Console) -> None:
    _say(console, f"{result.format}: {result.source}", style="bold")
    if result.proposed:
        _say(console, result.proposed)
    table = _table("", *result.splits)
    for label, key in (
        ("images", "images"),
        ("objects", "objects"),
        ("without objects", "background"),
        ("without labels", "without_labels"),
    ):
        table.add_row(label, *(f"{getattr(split, key):,}" for split in result.splits.values()))
    table.add_section()
    classes = sorted(result.classes.items(), key=lambda entry: -sum(entry[1].values()))
    for name, counts in classes[:MOST_CLASSES]:
        table.add_row(name, *(f"{n:,}" for n in counts.values()))
    console.print(table)
    if len(classes) > MOST_CLASSES:
        _say(console, f"and {len(classes) - MOST_CLASSES} more classes")
    for name, (least, median, most) in result.sizes.items():
        _say(console, f"{name.replace('_', ' ')}: {least:g} to {most:g} pixels, median {median:g}")
    _some(
        console,
        f"case{'s' * (len(result.across_splits) > 1)} of two images that look alike in different splits",
        [f"{twins.first} and {twins.second}" for twins in result.across_splits],
    )
    if result.within_splits:
        _say(console, f"{result.within_splits} cases of two images that look alike in one split")
    _some(console, "files cannot be used and are left out", result.skipped)
    _some(console, "annotations have no image, or one that has others already", result.without_image)
    _some(console, "images are named by no annotation and left out", result.not_named)
    _say(console, *(f"note: {note}" for note in result.notes), style="yellow")
    _say(console, f"labels: {result.labels_picture}", f"histograms: {result.histograms}", f"data: {result.data}")
    data = shlex.quote(f"data={result.data}")
    from .engine.assets import switched_off  # loads Ultralytics, which is loaded where data was read

    words = f"model=yolo11n.{'yaml' if switched_off() else 'pt'} at=P5 {data}"
    _say(console, f"train with it:   yolo-mha train {words}")
    _say(console, f"compare with it: yolo-mha compare {words} seeds=0,1,2 dry_run=True")


def _some(console: Console, words: str, lines: list[str]) -> None:
    """Print how many there are of something, and the first few."""
    if lines:
        _say(console, f"{len(lines)} {words}:", style="yellow")
        _say(console, *(f"  {line}" for line in lines[:MOST_LINES]), *(["  ..."] if len(lines) > MOST_LINES else []))


def _show_environment(result: Environment, console: Console) -> None:
    gpus = ", ".join(result.gpus) or "none"
    rows = {**result.packages, "Python": result.python, "system": result.system, "CPU": result.cpu, "GPU": gpus}
    rows |= {f"extra {name}": ", ".join(missing) or "complete" for name, missing in result.extras.items()}
    _say(console, *(f"{name:<17}{value}" for name, value in rows.items()))


SHOWN: dict[str, Callable[[Any, Console], None]] = {
    "Surgery": _show_surgery,
    "TrainResult": _show_train,
    "ValResult": _show_val,
    "PredictResult": _show_predict,
    "BulkPrediction": _show_bulk,
    "Explanation": _show_explanation,
    "Faithfulness": _show_faithfulness,
    "HeadRanking": _show_heads,
    "Pruned": _show_pruned,
    "ExportResult": _show_export,
    "BenchmarkResult": _show_benchmark,
    "Comparison": _show_comparison,
    "Status": _show_status,
    "SingleRun": _show_single_run,
    "JobFiles": _show_job_files,
    "Estimate": _show_estimate,
    "Diagnosis": _show_diagnosis,
    "PreparedData": _show_data,
    "Environment": _show_environment,
}
