"""The command line: parse, call, print. The one place where faults become messages."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import json as jsonlib
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .errors import ConfigError, RunError, YoloMHAError, check_flag

app = typer.Typer(
    name="yolo-mha",
    help="Spatial multi-head attention for Ultralytics YOLO: insert, train, score, compare, predict, export. "
    "With blocks=my_module a command imports your own registered blocks first.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
Words = Annotated[list[str] | None, typer.Argument(metavar="[key=value]...", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print the answer as JSON on standard output.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit.

    Exit codes: 0 done; 1 a check failed, something was skipped, or the work itself failed; 2 bad input; 130 and 143
    after Ctrl-C and SIGTERM.

    Args:
        arguments: The words after the program's name; those of the process if not given.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what is open is closed, as after Ctrl-C
    app(args=arguments, prog_name="yolo-mha")


def _run(
    function: Callable[..., Any],
    words: list[str] | None,
    show: Callable[[Any, Console], None],
    *,
    json: bool,
    debug: bool,
    positional: str | None = None,
    passed: Callable[[Any], bool] = lambda result: True,
    needs: tuple[str, ...] = (),
) -> None:
    """Call a command's function with its settings and print the answer; everything else goes to standard error."""
    from .engine.settings import parse

    try:
        settings = parse(words or [], positional)
        _import_blocks(settings.pop("blocks", ""))
        for key in needs:
            if key not in settings:
                raise ConfigError(f"{key} is missing.", expected=f"{key}=...", fix="see --help")
        with _standard_output_kept():
            result = function(**settings)
    except YoloMHAError as e:
        _fail(e.as_dict(), f"error: {e}", json, debug, code=1 if isinstance(e, RunError) else 2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise typer.Exit(130) from None
    except OSError as e:  # a full disk, a folder that may not be written to
        fault = {"type": type(e).__name__, "problem": str(e)}
        _fail(
            fault,
            f"error: The system refused.\n  given:    {e}\n  fix:      look at the disk and the folder",
            json,
            debug,
            code=1,
        )
    except Exception as e:  # a fault that nobody foresaw; the traceback is for us, the sentence for the user
        fault = {"type": type(e).__name__, "problem": str(e)}
        text = (
            f"unexpected error: {type(e).__name__}: {e}\n  fix:      run it again with --debug and report what it shows"
        )
        _fail(fault, text, json, debug, code=1)
    else:
        if json:
            print(jsonlib.dumps(result.as_dict(), indent=2))
        else:
            show(result, Console(markup=False))
        if not passed(result):
            raise typer.Exit(1)


def _import_blocks(modules: object) -> None:
    """Import the user's modules that register blocks, also from the working directory.

    The working directory may be a stranger's, so nothing is found there unless the user names modules.
    """
    names = [name for name in str(modules).split(",") if name]
    if names:
        sys.path.append(str(Path.cwd()))
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError as e:
            raise ConfigError(
                "A module of blocks cannot be imported.",
                given=f"blocks={name}: {e}",
                expected="modules in the working directory or on Python's path, separated by commas",
            ) from e


@contextlib.contextmanager
def _standard_output_kept() -> Iterator[None]:
    """Send what Ultralytics logs and prints to standard error, so that standard output holds the answer alone."""
    from ultralytics.utils import LOGGER

    moved = [h for h in LOGGER.handlers if getattr(h, "stream", None) in (sys.stdout, sys.__stdout__)]
    for handler in moved:
        handler.stream = sys.stderr
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        for handler in moved:
            handler.stream = sys.stdout


def _fail(fault: dict[str, Any], text: str, json: bool, debug: bool, code: int) -> None:
    if debug:
        traceback.print_exc()
    if json:
        print(jsonlib.dumps({"error": fault}, indent=2))
    print(text, file=sys.stderr)
    raise typer.Exit(code)


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(metadata.version("yolo-mha"))
        raise typer.Exit()


@app.command()
def insert(settings: Words = None, json: AsJson = False, debug: Debug = False) -> None:
    """Put attention into a model YAML or a checkpoint, with every pretrained weight kept.

    at= names places, separated by commas: P2 to P6 (behind the last backbone layer of stride 4 to 64), neck (behind
    every layer that feeds the head), neck:P3 (one of them), after:SPPF, layer:9. Own settings: model, at, out,
    exist_ok, trust, block (the class name of a registered block), and the block's options: num_heads, mlp_ratio,
    gate_init, head_dim, qkv_bias, qk_norm, attn_drop, proj_drop, position, scope, window, kv_stride. At P3 take
    scope=window, scope=axial or kv_stride=4. block=CrossScaleMHA also reads a second layer: context=P5.

    [bold]Examples[/bold]

      yolo-mha insert model=yolo11n.yaml at=P5

      yolo-mha insert model=yolov8s.pt at=P4,P5 out=yolov8s-attention.pt

      yolo-mha insert model=my.yaml at=neck:P3,after:SPPF num_heads=8 mlp_ratio=2

      yolo-mha insert model=yolo11n.pt at=P3 scope=window window=10

      yolo-mha insert model=yolo11n.pt at=neck:P3 block=CrossScaleMHA context=P5
    """
    from .engine.insert import insert as function

    _run(function, settings, _show_surgery, json=json, debug=debug, needs=("model", "at"))


@app.command()
def remove(settings: Words = None, json: AsJson = False, debug: Debug = False) -> None:
    """Take attention out of a model YAML or a checkpoint: the inverse of insert.

    Own settings: model, at (as for insert, or layer:10 with a block's own index; all blocks if not given), out,
    exist_ok, trust.

    [bold]Examples[/bold]

      yolo-mha remove model=best.pt out=plain.pt

      yolo-mha remove model=yolo11n-mha-p4p5.yaml at=P4 out=yolo11-mha-p5.yaml
    """
    from .engine.insert import remove as function

    _run(function, settings, _show_surgery, json=json, debug=debug, needs=("model",))


@app.command()
def train(settings: Words = None, json: AsJson = False, debug: Debug = False) -> None:
    """Train a detector, with attention or without.

    Own settings: model, data, trust, and resume=last.pt to go on with an interrupted run; at= with block and its
    options, to put attention into the model first (see insert --help); freeze_base=3 to train the new blocks alone for
    three epochs. All others are Ultralytics' training settings: https://docs.ultralytics.com/usage/cfg

    [bold]Examples[/bold]

      yolo-mha train model=yolo11n.pt at=P5 data=my.yaml

      yolo-mha train model=yolo11n.pt at=P4,P5 num_heads=4 freeze_base=3 data=my.yaml epochs=100 imgsz=640

      yolo-mha train model=yolo11n-mha-p5.yaml pretrained=yolo11n.pt data=my.yaml

      yolo-mha train model=yolov8s-mha-p5.yaml data=my.yaml optimizer=AdamW lr0=0.001 device=0

      yolo-mha train model=demo-mha.yaml data=beacons epochs=3 imgsz=192

      yolo-mha train resume=runs/detect/train/weights/last.pt
    """
    from .engine.train import train as function

    _run(function, settings, _show_train, json=json, debug=debug)


@app.command()
def val(settings: Words = None, json: AsJson = False, debug: Debug = False) -> None:
    """Score box detection as COCO does: the twelve COCO numbers, AP by class, and precision-recall curves.

    What is scored: model, a checkpoint or an export such as best.onnx, or predictions, a COCO results JSON. Against
    what: data, or for predictions also annotations, a COCO instances JSON. data is a YOLO data.yaml; a COCO folder with
    annotations/instances_val*.json, or valid/_annotations.coco.json; or a Pascal VOC folder with Annotations,
    JPEGImages and ImageSets/Main. A COCO or VOC dataset is first mirrored in YOLO format below runs/datasets, where
    training can use it too. The answer says which objects were left out, and how names and ids were matched.

    Other own settings: backend=pycocotools or faster-coco-eval, trust. All others are Ultralytics' validation settings,
    such as split, imgsz, conf and iou: https://docs.ultralytics.com/usage/cfg

    [bold]Examples[/bold]

      yolo-mha val model=runs/detect/train/weights/best.pt data=my.yaml

      yolo-mha val model=best.onnx data=coco/ imgsz=640

      yolo-mha val model=best.pt data=VOCdevkit/VOC2007 split=test --json

      yolo-mha val predictions=results.json data=my.yaml split=test

      yolo-mha val predictions=results.json annotations=instances.json backend=faster-coco-eval plots=False
    """
    from .scoring.val import val as function

    _run(function, settings, _show_val, json=json, debug=debug)


@app.command()
def predict(settings: Words = None, json: AsJson = False, debug: Debug = False) -> None:
    """Detect objects in pictures, videos, cameras and streams, and draw them.

    source is an image or video file, a folder, a glob in quotes, a .txt or .csv file that lists these (# lines and a
    heading are left out), a camera index, a stream address (rtsp://, http://, ...), or a .streams file with several.
    model is a .pt, or an exported model. Written are predictions.jsonl and, with save=False to leave them out, the
    annotated pictures and videos (mp4 at the same rate and size, without sound). On demand: save_txt with save_conf
    (YOLO labels), save_json (COCO results, for val predictions=...; take conf=0.001 for that), save_csv, save_crop,
    save_frames. Frames keep their number in the video, from 0.

    slice=640 predicts tile by tile, for objects that are small in large pictures; slice=480,640 gives height and width.
    Tiles repeat overlap=0.2 of their neighbour. Other own settings: trust. All others are Ultralytics' prediction
    settings, such as conf, imgsz, classes, batch and vid_stride: https://docs.ultralytics.com/usage/cfg. Without
    settings the demo's model looks at a sample image.

    Broken files and frames are named and skipped, and the exit code is then 1. After Ctrl-C all files are complete up
    to there, and it is 130.

    [bold]Examples[/bold]

      yolo-mha predict

      yolo-mha predict model=best.pt source=images/ conf=0.4 save_txt=True save_conf=True

      yolo-mha predict model=best.onnx source=street.mp4 classes=0,2 vid_stride=2

      yolo-mha predict model=best.pt source='photos/**/*.jpg' save_csv=True save_crop=True save=False

      yolo-mha predict model=best.pt source=aerial.tif slice=640 overlap=0.2

      yolo-mha predict model=best.pt source=rtsp://192.168.0.9/stream
    """
    from .engine.predict import predict as function

    _run(_finished(function), settings, _show_predict, json=json, debug=debug, passed=_passed)


@app.command()
def track(settings: Words = None, json: AsJson = False, debug: Debug = False) -> None:
    """Follow objects through a video, a camera or a stream: predict, with an id for each object.

    tracker is one of Ultralytics' (botsort, bytetrack, ocsort, deepocsort, fasttrack, tracktrack) or a tracker YAML.
    Ids begin at 1 in each video; the pictures of a folder, sorted by name, are taken as one video. All else is as for
    predict, without slice; conf is 0.1 if not given, because trackers use faint detections too.

    [bold]Examples[/bold]

      yolo-mha track model=best.pt source=street.mp4

      yolo-mha track model=best.onnx source=street.mp4 tracker=bytetrack save_csv=True

      yolo-mha track model=best.pt source=0 classes=0 show=True
    """
    from .engine.predict import track as function

    _run(_finished(function), settings, _show_predict, json=json, debug=debug, passed=_passed)


def _finished(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make an interrupted prediction return what it did up to there; the exit code tells."""

    def call(**settings: Any) -> Any:
        try:
            return function(**settings)
        except (KeyboardInterrupt, SystemExit) as stop:
            if (result := getattr(stop, "result", None)) is None:
                raise
            return result

    return call


def _passed(result: Any) -> bool:
    if result.interrupted:
        raise typer.Exit(result.exit_code)
    return bool(result.exit_code == 0)


@app.command()
def export(settings: Words = None, json: AsJson = False, debug: Debug = False) -> None:
    """Export a model, and prove that it does what the checkpoint does.

    ONNX, TorchScript and OpenVINO models are run beside PyTorch in their own runtime: with dynamic=True at four sizes
    and batches of 1 and 3, otherwise at the exported shape. With data= the AP of both is taken too. A model out of
    tolerance is kept under a name that says so, and the exit code is 1; so it is where nothing could be compared: half
    precision and nms=True need pictures in which the model finds something, which data= gives. Other formats (TensorRT,
    CoreML, ...) are made by Ultralytics alone and not proved.

    Own settings: model, format (onnx if not given), data, half=True; for ONNX also int8=True (8-bit convolutions,
    calibrated on the training images of data=, attention left in floating point) and fuse_attention=True (attention as
    ONNX Runtime's own operator: faster at P4 and P3, and no N x N matrix; other runtimes do not have it); trust. All
    others are Ultralytics' export settings, such as imgsz, dynamic, batch, opset, nms and simplify:
    https://docs.ultralytics.com/usage/cfg

    Beside an ONNX model lies onnx_infer.py, one file that runs it with numpy, OpenCV and ONNX Runtime alone.

    [bold]Examples[/bold]

      yolo-mha export model=best.pt format=onnx dynamic=True

      yolo-mha export model=best.pt dynamic=True fuse_attention=True data=my.yaml

      yolo-mha export model=best.pt int8=True data=my.yaml

      yolo-mha export model=best.pt format=openvino half=True

      yolo-mha export model=best.pt format=torchscript imgsz=480,640
    """
    from .deploy.export import export as function

    _run(function, settings, _show_export, json=json, debug=debug, passed=lambda r: r.ok)


@app.command()
def benchmark(settings: Words = None, json: AsJson = False, debug: Debug = False) -> None:
    """Measure latency, throughput, memory and AP of a model in several formats, beside its baseline.

    Each format of each model runs in a process of its own; all are timed in turn, round by round, and a second process
    with the same model (A/A) shows how much of a difference is noise. Exits with 1 if a format cannot be made or run.

    Own settings: model; baseline, another model (the same without its attention blocks if not given); formats, some of
    pytorch, torchscript, onnx, openvino, onnx-fused (attention as ONNX Runtime's own operator), onnx-fp16 and, with
    data=, onnx-int8, all exported for any size; sizes and batches, separated by commas; rounds (30); data, for AP in
    each format; trust. Of Ultralytics' settings: device (cpu if not
    given), split, project, name and exist_ok.

    [bold]Examples[/bold]

      yolo-mha benchmark model=best.pt

      yolo-mha benchmark model=best.pt formats=onnx,onnx-fused,openvino sizes=320,640 batches=1,8 data=my.yaml

      yolo-mha benchmark model=yolo11n-mha-p5.yaml baseline=yolo11n.yaml formats=onnx rounds=100 --json
    """
    from .deploy.benchmark import benchmark as function

    _run(function, settings, _show_benchmark, json=json, debug=debug, passed=lambda r: r.ok)


@app.command()
def compare(settings: Words = None, json: AsJson = False, debug: Debug = False) -> None:
    """Train a baseline, its attention variant and a control with several seeds, and say what that shows.

    Arms x seeds: all arms of a seed start from the same weights and see the same batches; a convolution with as many
    parameters as the attention tells "attention" from "more parameters". The answer has AP with intervals over seeds
    and images, a verdict in words, cost, and a report as a page, Markdown and JSON. Run it again after an interruption
    and it goes on; finished runs are never trained again.

    Own settings: model (the baseline); at with block, its options and freeze_base, to put attention into it (see insert
    and train), or attention, another model; control (False, or a model of your own); data, seeds, margin (the smallest
    difference in AP that matters), primary (the arm that the verdict is about), name, jobs (runs at the same time),
    dry_run=True for the plan with an estimate of time and memory; or a recipe YAML with the keys name, data, arms,
    train, seeds, primary, margin and jobs. All others are Ultralytics' training settings, the same for every arm:
    https://docs.ultralytics.com/usage/cfg

    [bold]Examples[/bold]

      yolo-mha compare demo.yaml

      yolo-mha compare model=yolov8n.pt at=P5 data=my.yaml seeds=0,1,2 epochs=50

      yolo-mha compare model=yolov8n.pt at=P5 data=my.yaml seeds=0,1,2 epochs=50 dry_run=True

      yolo-mha compare model=yolov8n.yaml attention=my-variant.yaml data=my.yaml epochs=50

      yolo-mha compare my-recipe.yaml jobs=2
    """
    _run(
        _compare,
        settings,
        _show_compare,
        json=json,
        debug=debug,
        positional="recipe",
        passed=lambda r: not getattr(r, "failed", []),  # a plan has none
    )


def _compare(recipe: Any = None, *, dry_run: bool = False, **settings: Any) -> Any:
    """Run, continue or estimate a comparison of a recipe or of settings."""
    from .evaluation.compare import compare, estimate, run_recipe

    check_flag("dry_run", dry_run)
    if dry_run:
        return estimate(recipe, **settings)
    if recipe is not None:
        return run_recipe(recipe, **settings)
    for key in ("model", "data"):
        if settings.get(key) is None:
            raise ConfigError(f"{key} is missing.", expected=f"{key}=..., or a recipe YAML", fix="see --help")
    return compare(**settings)


@app.command()
def doctor(settings: Words = None, json: AsJson = False, debug: Debug = False) -> None:
    """Examine a model, a dataset and this machine before hours of training; exits with 1 if something would fail.

    One page: registration, heads, image sizes, a real forward and backward pass, memory and time of a training step
    with attention and without, the dataset, an export. Own settings: model, data, trust, and at with block and its
    options, for what train at= would train. All others are Ultralytics' training settings, such as imgsz, batch,
    device and amp: https://docs.ultralytics.com/usage/cfg

    [bold]Examples[/bold]

      yolo-mha doctor model=yolo11n.pt at=P5 data=my.yaml imgsz=640 batch=16

      yolo-mha doctor model=best.pt data=my.yaml imgsz=1280 batch=8 device=0 --json
    """
    from .diagnosis.doctor import doctor as function

    _run(function, settings, _show_doctor, json=json, debug=debug, passed=lambda r: r.ok)


for _command in app.registered_commands:  # of paragraphs, where every line end would be kept
    _command.help = re.sub(r"(?<=\S)\n(?=\S)", " ", inspect.cleandoc(str(getattr(_command.callback, "__doc__", ""))))


# Answers for people --------------------------------------------------------------------------------------------------


def _number(value: float) -> str:
    return "-" if value < 0 else f"{value:.3f}"


def _show_surgery(result: Any, console: Console) -> None:
    table = Table("", "row", "from", "module", "channels", "stride", "parameters", title=result.base)
    for column in table.columns[4:]:
        column.justify = "right"
    for layer in result.layers:
        new = layer.index in result.new
        cells = (layer.index, layer.source, layer.module, layer.channels or "", layer.stride or "")
        style = "bold green" if new else None
        table.add_row("+" if new else "", *map(str, cells), f"{layer.parameters:,}", style=style)
        if layer is result.layers[-1] or layer.section == result.layers[layer.index + 1].section:
            continue
        table.add_section()
    console.print(table)
    if result.removed:
        console.print(f"taken out: rows {', '.join(map(str, result.removed))} of {result.base}")
    if result.checkpoint:
        same = "equal to" if result.identical else "not equal to"
        kept = f"{result.kept} of {result.tensors} other tensors kept; outputs {same} those of {result.base}"
        console.print(kept, soft_wrap=True)
        console.print(f"written: {result.checkpoint}", soft_wrap=True)
    name = "" if result.yaml.endswith(result.open_as) else f", to be opened as {result.open_as}"
    console.print(f"written: {result.yaml}{name}", soft_wrap=True)


def _show_train(result: Any, console: Console) -> None:
    if result.transfer:
        console.print(str(result.transfer), soft_wrap=True)
    console.print(f"{result.epochs} epochs, best checkpoint: {result.best}", soft_wrap=True)
    console.print(f"score it: yolo-mha val model={result.best} data=...", soft_wrap=True)


def _show_val(result: Any, console: Console) -> None:
    scores, audit = result.coco, result.audit
    table = Table("COCO metric", "value", title=f"{scores.images} images, {scores.objects} objects")
    for name, value in scores.metrics.items():
        table.add_row(name, _number(value))
    console.print(table)
    columns = ("AP", "AP50", "APsmall", "APmedium", "APlarge")
    table = Table("class", "objects", *columns)
    for name, values in scores.per_class.items():
        table.add_row(name, f"{values['objects']:,}", *(_number(values[column]) for column in columns))
    console.print(table)
    if result.ultralytics:
        own = result.ultralytics
        console.print(
            f"Ultralytics' own, same detections: mAP50-95 {own['mAP50-95']:.3f}, mAP50 {own['mAP50']:.3f}"
            " (another interpolation; compare like with like)."
        )
    console.print(", ".join(f"{k}={v}" for k, v in result.settings.items()), soft_wrap=True)
    aside = f", {audit.crowd} crowd regions and {audit.ignored} ignored objects count neither way"
    console.print(f"ground truth: {audit.format}{aside if audit.crowd or audit.ignored else ''}")
    if audit.prediction_ids:
        console.print(f"ids of the predictions: {audit.prediction_ids}")
    for note in audit.notes:
        console.print(f"note: {note}", style="yellow", soft_wrap=True)
    console.print(f"predictions: {result.predictions}", soft_wrap=True)
    if result.curves:
        console.print(f"curves: {result.curves}", soft_wrap=True)


KINDS = {
    "jsonl": "predictions",
    "json": "COCO results",
    "csv": "table",
    "labels": "labels",
    "crops": "crops",
    "annotated": "annotated",
    "frames": "frames",
}


def _show_predict(result: Any, console: Console) -> None:
    if result.interrupted:
        console.print("interrupted; what was written up to there is complete", style="yellow")
    found = ", ".join(f"{n} {name}" for name, n in sorted(result.found.items())) or "nothing"
    followed = "" if result.tracks is None else f"; {result.tracks} objects followed"
    console.print(f"{result.images} images or frames: {found}{followed}")
    for kind, path in result.outputs.items():
        console.print(f"{KINDS[kind]}: {path}", soft_wrap=True)
    for note in result.notes:
        console.print(f"note: {note}", soft_wrap=True)
    if result.skipped:
        console.print(f"skipped {result.skipped_count} files or frames that could not be read:", style="yellow")
    for name in result.skipped:
        console.print(f"  {name}", soft_wrap=True)


def _show_export(result: Any, console: Console) -> None:
    console.print(f"written: {result.file} ({result.precision})", soft_wrap=True)
    if result.agreement:
        columns = ("batch", "height", "width", "boxes, px", "scores", "boxes compared", "")
        table = Table(*columns, title="Largest difference to PyTorch")
        words = {
            True: "ok",
            False: "OUT OF TOLERANCE",
            None: "judged by AP" if result.precision == "int8" else "no object",
        }
        for a in result.agreement:
            differences = ["-" if d is None else f"{d:.1e}" for d in (a.boxes, a.scores)]
            word = f"{words[a.ok]} {a.problem}".strip()
            table.add_row(str(a.batch), str(a.height), str(a.width), *differences, f"{a.compared:,}", word)
        console.print(table)
    if result.scores:
        s = result.scores
        table = Table(f"{s.data}, {s.split}, {s.imgsz} px", "AP", "AP50")
        for name, values in (("checkpoint", s.trained), ("exported", s.exported)):
            table.add_row(name, *(_number(values[metric]) for metric in ("AP", "AP50")))
        console.print(table)
    for note in result.notes:
        console.print(f"note: {note}", style="yellow", soft_wrap=True)
    style = {"proved": "green", "out of tolerance": "bold red"}.get(result.verdict, "yellow")
    console.print(f"verdict: {result.verdict.upper() if not result.ok else result.verdict}", style=style)
    console.print(f"proof: {result.proof}", soft_wrap=True)
    if result.standalone:
        console.print(f"without PyTorch: python {result.standalone} {result.file} picture.jpg", soft_wrap=True)


def _show_benchmark(result: Any, console: Console) -> None:
    from .deploy.benchmark_report import terminal_table

    console.print(terminal_table(result))
    for note in result.notes:
        style = {"FAILED": "red", "NOISY,": "yellow"}.get(note.partition(" ")[0])
        console.print(note, style=style, soft_wrap=True)
    console.print(f"written: {Path(result.save_dir) / 'benchmark.json'}, .md and .png", soft_wrap=True)


def _show_compare(result: Any, console: Console) -> None:
    if not hasattr(result, "contrasts"):
        return _show_plan(result, console)
    table = Table("", *result.arms, title=f"{result.recipe.name}: {result.recipe.data}")
    for column in table.columns[1:]:
        column.justify = "right"
    arms = result.arms.values()
    for metric in next(a.metrics for a in arms if a.metrics):
        table.add_row(metric, *(_number(a.metrics.get(metric, -1)) for a in arms))
    table.add_section()
    costs = [a.cost for a in arms]
    table.add_row("parameters", *(f"{c.parameters:,}" if c else "-" for c in costs))
    table.add_row("GFLOPs", *(f"{c.gflops:.2f}" if c else "-" for c in costs))
    table.add_row("CPU latency, ms", *(f"{c.latency_ms:.1f} (x{c.latency_ratio:.2f})" if c else "-" for c in costs))
    table.add_row("memory, MiB", *(f"{c.memory_mib:.1f}" if c else "-" for c in costs))
    table.add_row("training, s", *(f"{a.train_seconds:.0f}" for a in arms))
    console.print(table)
    table = Table("difference in AP", "", "95 % interval", "smallest detectable", "")
    for contrast in result.contrasts:
        effect, verdict = contrast.effects["AP"], contrast.verdict
        role = "primary" if contrast.primary else "exploratory"
        cells = ["-", "-", "-"]
        if effect:
            cells = [f"{effect.delta:+.3f}", f"{effect.low:+.3f} to {effect.high:+.3f}"]
            cells.append("-" if effect.smallest_detectable is None else f"{effect.smallest_detectable:.3f}")
        word = f"{role}: {verdict.word if verdict else 'no verdict'}"
        table.add_row(f"{contrast.arm} - {contrast.against}", *cells, word)
    console.print(table)
    for contrast in result.contrasts:
        control = result.recipe.is_control(contrast.against, of=contrast.arm)
        if contrast.verdict and (contrast.primary or control):
            console.print(contrast.verdict.sentence, style="bold" if contrast.primary else None, soft_wrap=True)
    for note in result.notes:
        console.print(note, soft_wrap=True)
    folder = Path(result.save_dir)
    console.print(f"numbers: {folder / 'compare.json'}\ntext:    {folder / 'report.md'}", soft_wrap=True)
    console.print(f"report:  {(folder / 'report.html').as_uri()}", soft_wrap=True)
    return None


def _show_plan(result: Any, console: Console) -> None:
    from .evaluation.estimate import duration, estimate_table

    recipe = result.recipe
    console.print(estimate_table(result))
    console.print(
        f"primary contrast: AP of {recipe.primary} less AP of {next(iter(recipe.arms))}, seeds "
        f"{', '.join(map(str, recipe.seeds))}; a difference below {recipe.margin:g} does not matter",
        soft_wrap=True,
    )
    console.print(
        f"about {duration(result.seconds)} in the networks alone, without loading images; nothing was trained",
        style="bold",
    )


MARKS = {"ok": "[green]ok[/]", "warning": "[yellow]look[/]", "failed": "[red]FAILED[/]", "skipped": "[dim]skipped[/]"}


def _show_doctor(result: Any, console: Console) -> None:
    table = Table("", "check", "", title=", ".join(f"{k}={v}" for k, v in result.settings.items()))
    for check in result.checks:
        table.add_row(Text.from_markup(MARKS[check.status]), check.name, check.message)
    console.print(table)
    for check in result.checks:
        if check.fix and check.status != "ok":
            console.print(f"{check.name}: {check.fix}", soft_wrap=True)
    if result.footprints:
        _show_cost(result, console)


def _show_cost(result: Any, console: Console) -> None:
    table = Table("", *result.footprints, title="What it costs: estimated from small batches, then measured")
    for column in table.columns[1:]:
        column.justify = "right"
    steps = [(f.estimated, f.measured, f.errors) for f in result.footprints.values()]
    rows = (("training step, memory", "mib", "{:.0f} MiB"), ("training step, time", "seconds", "{:.3g} s"))
    for label, key, form in rows:
        cells = []
        for estimated, measured, errors in steps:
            values = " / ".join(form.format(getattr(step, key)) for step in (estimated, measured) if step)
            cells.append(values + (f" ({errors[key]:+.0%})" if errors else ", not measured"))
        table.add_row(label, *cells)
    table.add_row("inference, one image", *(f"{result.latency_ms[name]:.1f} ms" for name in result.footprints))
    console.print(table)
    if result.blocks:
        table = Table("block", "row", "training time", "training memory", "inference", title="Share of the network")
        for b in result.blocks:
            table.add_row(b.block, str(b.row), *(f"{share:.1%}" for share in (b.training, b.memory, b.inference)))
        console.print(table)
