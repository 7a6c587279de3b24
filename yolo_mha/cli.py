"""The command line: parse, call, print. The only place that turns exceptions into messages."""

from __future__ import annotations

import contextlib
import inspect
import json as jsonlib
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from pkgutil import resolve_name
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from typer.core import TyperCommand

from .engine.own_settings import BLOCKS, COMMANDS
from .engine.progress import Terminal
from .errors import DISK_FULL, FREE_SPACE, ConfigError, RunError, YoloMHAError, check_flag, disk_is_full, nearest
from .result import Result
from .show import show, show_settings
from .startup import imported
from .text import printable


class _Command(TyperCommand):
    """A command whose help ends with its settings."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        super().format_help(ctx, formatter)
        if COMMANDS[str(self.name)].own:
            show_settings(str(self.name), Console())


def _complete(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete the names of a command's own settings; bash splits name=value into three words, and completes files."""
    known = COMMANDS[str(ctx.info_name)]
    names = [setting.name for setting in (*known.own, *known.options, BLOCKS)]
    words = ctx.params.get("settings") or [""]
    if words[-1] == "=" or words[-1] in names:
        return []
    given = {word.partition("=")[0] for word in words}
    return [f"{name}=" for name in names if name.startswith(incomplete) and name not in given]


app = typer.Typer(
    name="yolo-mha",
    help="Spatial multi-head attention for Ultralytics YOLO: insert, train, score, compare, predict, export. "
    "With blocks=my_module, a command first imports the module that registers your own blocks.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
Words = Annotated[
    list[str] | None,
    typer.Argument(metavar="[key=value]...", help="Settings.", show_default=False, autocompletion=_complete),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON to standard output.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit.

    Exit codes: 0 done; 1 a check failed, something was skipped, or the work itself failed; 2 bad input; 130 after
    Ctrl-C, 143 after SIGTERM, 129 after the terminal was closed.

    Args:
        arguments: The arguments after the program's name; those of the process if not given.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what is open is closed, as after Ctrl-C
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:  # nohup ignores it
        signal.signal(signal.SIGHUP, lambda *_: sys.exit(129))
    app(args=arguments, prog_name="yolo-mha")


def _command(function: str) -> Callable[[Callable[[], None]], None]:
    """Make a command that imports and calls a function of this package; name and help are those of the decorated one.

    Args:
        function: ``module:function`` within the package.
    """

    def add(described: Callable[[], None]) -> None:
        def call(settings: Words = None, json: AsJson = False, debug: Debug = False) -> None:
            _run(described.__name__, function, settings or [], json, debug)

        call.__name__, call.__doc__ = described.__name__, described.__doc__
        app.command(context_settings={"ignore_unknown_options": True})(call)  # `parse` says how to write them

    return add


def _run(command: str, function: str, words: list[str], json: bool, debug: bool) -> None:
    """Call a command's function with its settings and print the result; everything else goes to standard error."""
    from .engine.block_modules import import_blocks
    from .engine.settings import parse

    called = resolve_name(f"{__package__}.{function}")
    imported()
    try:
        settings = parse(words, "recipe" if command == "compare" else None)
        import_blocks(word for word in str(settings.pop(BLOCKS.name, "")).split(",") if word)
        known = COMMANDS[command]
        names = [setting.name for setting in known.own]
        if not known.others and not known.options and (unknown := [name for name in settings if name not in names]):
            given = f"{unknown[0]}={settings[unknown[0]]}"
            raise ConfigError(f"Unknown setting '{unknown[0]}'.", given=given, expected=nearest(unknown[0], names))
        for setting in known.own:
            if setting.required and setting.name not in settings:
                raise ConfigError(f"{setting.name} is missing.", expected=f"{setting.name}=...", fix="see --help")
        with _standard_output_kept():
            result = called(**settings)
    except (KeyboardInterrupt, SystemExit) as stop:
        if not isinstance(done := getattr(stop, "result", None), Result):
            if isinstance(stop, SystemExit):
                raise
            print("interrupted", file=sys.stderr)
            raise typer.Exit(130) from None
        result = done  # the result of a prediction up to the interruption
    except Exception as e:
        _fail(e, json, debug)
    if json:
        print(jsonlib.dumps(result.as_dict(), indent=2))
    else:
        show(result, Terminal(markup=False))
    if result.exit_code:
        raise typer.Exit(result.exit_code)


@contextlib.contextmanager
def _standard_output_kept() -> Iterator[None]:
    """Send what Ultralytics logs and prints to standard error, so that standard output holds the answer alone.

    That is by the file's number too, to which PyTorch's C++ code writes, such as the graph of an export that fails.
    """
    from ultralytics.utils import LOGGER

    moved = [h for h in LOGGER.handlers if getattr(h, "stream", None) in (sys.stdout, sys.__stdout__)]
    for handler in moved:
        handler.stream = sys.stderr
    kept = None
    with contextlib.suppress(OSError, AttributeError):  # one of them is closed
        sys.stdout.flush()
        kept = os.dup(1)
        os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        if kept is not None:
            os.dup2(kept, 1)
            os.close(kept)
        for handler in moved:
            handler.stream = sys.stdout


def _fail(error: Exception, json: bool, debug: bool) -> NoReturn:
    """Print an error and exit with its code."""
    fault: Mapping[str, str | None] = {"type": type(error).__name__, "problem": str(error)}
    code = 1
    if isinstance(error, YoloMHAError):
        fault, text = error.as_dict(), f"error: {error}"
        code = 1 if isinstance(error, RunError) else 2
    elif disk_is_full(error):
        text = f"error: {DISK_FULL}\n  given:    {error}\n  fix:      {FREE_SPACE}"
    elif isinstance(error, OSError):  # such as a folder without write permission
        text = f"error: A file or folder cannot be used.\n  given:    {error}\n"
        text += "  fix:      make sure that it exists and that you have permission to read and write it"
    else:  # an unforeseen error: the traceback is for developers, the sentence for users
        text = f"unexpected error: {type(error).__name__}: {error}\n"
        text += "  fix:      run it again with --debug and report the output, with that of yolo-mha version"
    if debug:
        traceback.print_exc()
    if json:
        print(jsonlib.dumps({"error": fault}, indent=2))
    print(printable(text), file=sys.stderr)
    raise typer.Exit(code)


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(metadata.version("yolo-mha"))
        raise typer.Exit()


@_command("engine.insert:insert")
def insert() -> None:
    """Insert attention into a model YAML or a checkpoint, and keep every pretrained weight.

    [bold]Examples[/bold]

      yolo-mha insert model=yolo11n.yaml at=P5

      yolo-mha insert model=yolov8s.pt at=P4,P5 out=yolov8s-attention.pt

      yolo-mha insert model=my.yaml at=neck:P3,after:SPPF num_heads=8 mlp_ratio=2

      yolo-mha insert model=yolo11n.pt at=P3 scope=window window=10

      yolo-mha insert model=yolo11n.pt at=neck:P3 block=CrossScaleMHA context=P5
    """


@_command("engine.insert:remove")
def remove() -> None:
    """Remove attention from a model YAML or a checkpoint: the inverse of insert.

    [bold]Examples[/bold]

      yolo-mha remove model=best.pt out=plain.pt

      yolo-mha remove model=yolo11n-mha-p4p5.yaml at=P4 out=yolo11-mha-p5.yaml
    """


@_command("engine.train:train")
def train() -> None:
    """Train a detector, with or without attention.

    [bold]Examples[/bold]

      yolo-mha train model=yolo11n.pt at=P5 data=my.yaml

      yolo-mha train model=yolo11n.pt at=P4,P5 num_heads=4 freeze_base=3 data=my.yaml epochs=100 imgsz=640

      yolo-mha train model=yolo11n-mha-p5.yaml pretrained=yolo11n.pt data=my.yaml

      yolo-mha train model=yolov8s-mha-p5.yaml data=my.yaml optimizer=AdamW lr0=0.001 device=0

      yolo-mha train model=demo-mha.yaml data=beacons epochs=3 imgsz=192

      yolo-mha train resume=runs/detect/train/weights/last.pt
    """


@_command("scoring.val:val")
def val() -> None:
    """Score box detection as COCO does: the twelve COCO numbers, AP per class, and precision-recall curves.

    Give model= (a checkpoint, or an export such as best.onnx) or predictions= (a COCO results JSON). Give the ground
    truth as data=, or for predictions also as annotations=. A COCO or VOC dataset is first mirrored in YOLO format
    under runs/datasets, where training can use it too. The result says which objects were left out, and how names and
    ids were matched.

    [bold]Examples[/bold]

      yolo-mha val model=runs/detect/train/weights/best.pt data=my.yaml

      yolo-mha val model=best.onnx data=coco/ imgsz=640

      yolo-mha val model=best.pt data=VOCdevkit/VOC2007 split=test --json

      yolo-mha val predictions=results.json data=my.yaml split=test

      yolo-mha val predictions=results.json annotations=instances.json backend=faster-coco-eval plots=False
    """


@_command("cli:_predict")
def predict() -> None:
    r"""Detect objects in pictures, videos, cameras and streams, and draw them.

    The detections are written to predictions.jsonl. Annotated pictures and videos (mp4 with the same frame rate and
    size, without sound) are written too, unless save=False. Optional outputs: save_txt with save_conf (YOLO labels),
    save_json (COCO results for val predictions=...; use conf=0.001), save_csv, save_crop and save_frames. Frames keep
    their number in the video, counted from 0. In a source that is a list, a heading and lines that begin with # are
    skipped. slice=640 helps with small objects in large pictures. Without settings, the demo model runs on a sample
    image.

    Files and frames that cannot be read are listed and skipped, and the exit code is 1. After Ctrl-C the files are
    complete up to that point, and the exit code is 130.

    engine=ray predicts a large folder of pictures on a running Ray cluster and writes one JSON Lines file per shard.
    The same command again skips finished shards. Needs pip install 'yolo-mha\[ray]' here and on the cluster.

    [bold]Examples[/bold]

      yolo-mha predict

      yolo-mha predict model=best.pt source=images/ conf=0.4 save_txt=True save_conf=True

      yolo-mha predict model=best.onnx source=street.mp4 classes=0,2 vid_stride=2

      yolo-mha predict model=best.pt source='photos/**/*.jpg' save_csv=True save_crop=True save=False

      yolo-mha predict model=best.pt source=aerial.tif slice=640 overlap=0.2

      yolo-mha predict model=best.pt source=rtsp://192.168.0.9/stream

      yolo-mha predict model=best.pt source='archive/**/*.jpg' engine=ray gpus_per_worker=0.5 name=archive
    """


# settings that only a cluster uses
WORKERS, RUNS = ("address", "gpus_per_worker", "cpus_per_worker", "shard"), ("address", "gpus_per_run", "cpus_per_run")


def _predict(**settings: Any) -> Result:
    """Predict here or on a cluster."""
    from .cluster.ray_predict import predict_on_ray
    from .engine.predict import predict

    return predict_on_ray(**settings) if _on_ray(settings, WORKERS) else predict(**settings)


def _on_ray(settings: dict[str, Any], only: tuple[str, ...]) -> bool:
    """Remove the engine from the settings, and return whether it is Ray.

    Raises:
        ConfigError: The engine is unknown, or a setting needs a cluster.
    """
    engine = settings.pop("engine", "local")
    if engine not in ("local", "ray"):
        raise ConfigError("Unknown engine.", given=f"engine={engine}", expected="local or ray")
    if engine == "local" and (idle := [key for key in only if key in settings]):
        given = f"{idle[0]}={settings[idle[0]]}"
        raise ConfigError(f"{idle[0]} needs engine=ray.", given=given, fix=f"add engine=ray, or leave {idle[0]} out")
    return bool(engine == "ray")


@_command("engine.predict:track")
def track() -> None:
    """Track objects through a video, a camera or a stream: predict, with an id for each object.

    Ids start at 1 in each video. The pictures of a folder, sorted by name, count as one video. conf is 0.1 if not
    given, because trackers also use detections with low scores.

    [bold]Examples[/bold]

      yolo-mha track model=best.pt source=street.mp4

      yolo-mha track model=best.onnx source=street.mp4 tracker=bytetrack save_csv=True

      yolo-mha track model=best.pt source=0 classes=0 show=True
    """


@_command("cli:_explain")
def explain() -> None:
    """Show what each detection attends to: per attention block, per head, and all together.

    Each position of a block is weighted by the gradient of the detection's score. Two maps are drawn: attention, and
    its effect, which is attention times the norm of the vector read, after the gate. So a head whose gate is near 0
    shows no effect. Outputs: a PNG sheet for each detection in a picture; pictures and videos with the sum of all
    effects as an overlay; report.html; and explain.json with the shares inside the box, around it, on other objects and
    on padding, the entropy and the mean distance.

    With data= in place of source=, it measures whether such maps can be trusted for this model, and answers yes or no.
    It blanks the pixels that a map marks most, or shows only these, and records the score of the detection. The map is
    compared with a random map, a centre prior, the box itself and LayerCAM, with 95 % intervals over images.

    [bold]Examples[/bold]

      yolo-mha explain

      yolo-mha explain model=best.pt source=street.jpg

      yolo-mha explain model=best.pt source=street.jpg box=120,40,300,210 layer=10 head=0,3

      yolo-mha explain model=best.pt source=street.mp4 vid_stride=5 classes=0 conf=0.5 --json

      yolo-mha explain model=best.pt data=my.yaml detections=200
    """


# settings of explain
OF_PICTURES, OF_DATA = ("source", "box", "sheets", "max_pixels"), ("detections", "drise", "group")


def _explain(**settings: Any) -> Result:
    """Explain detections in pictures, or measure explanations on a dataset."""
    from .inspection.explain import explain
    from .inspection.faithfulness import faithfulness

    with_data = "data" in settings
    if idle := [key for key in settings if key in (OF_PICTURES if with_data else OF_DATA)]:
        raise ConfigError(
            f"{idle[0]} cannot be combined with data." if with_data else f"{idle[0]} needs data.",
            given=" ".join(f"{key}={settings[key]}" for key in (*idle, *(["data"] if with_data else []))),
            expected="source=... to draw what detections attend to, or data=... to measure whether the maps are right",
        )
    return faithfulness(**settings) if with_data else explain(**settings)


@_command("inspection.explore:explore")
def explore() -> None:
    r"""Serve a web page that shows what detections attend to, until Ctrl-C.

    Choose a picture and a detection. The page shows what each block and head attends to, how the score changes when
    the positions that a map marks most are blanked, and how it changes when heads are silenced. other= shows a second
    model beside the first. The page is served to this machine only and makes no requests to other hosts. With
    host=0.0.0.0 anyone who can reach the port can use it, without a password. Needs pip install 'yolo-mha\[ui]'.

    [bold]Examples[/bold]

      yolo-mha explore

      yolo-mha explore model=best.pt other=earlier.pt conf=0.4

      yolo-mha explore model=best.pt host=0.0.0.0 port=8000
    """


@_command("inspection.heads:heads")
def heads() -> None:
    """Measure which attention heads matter, and how similar they are.

    Each head is measured in two ways: by the gradient of the loss with respect to a gate on the head, and by the AP
    lost when the head is silenced, which takes one validation per head. Both are given with 95 % intervals over images,
    with ranks, and with the rank correlation of the two. The similarity of two heads of a block is the correlation of
    their attention maps. Writes heads.json and heads.png.

    [bold]Examples[/bold]

      yolo-mha heads

      yolo-mha heads model=best.pt data=my.yaml

      yolo-mha heads model=best.pt data=my.yaml split=test imgsz=640 --json
    """


@_command("inspection.prune:prune")
def prune() -> None:
    """Remove attention heads from a checkpoint.

    The weights of the heads are deleted, and the row of the block gives the number of heads left. So the new checkpoint
    loads, trains, resumes and exports like any other. Before further training it gives the same outputs as the model
    with these heads silenced. A block that loses all its heads is removed, with its MLP.

    A share removes the heads that matter least on the training images of data=, and measures AP before and after on
    its validation images. heads=auto removes as many heads as keep AP within margin= on one half of the validation
    images, and reports AP on the other half. Both are compared with removing as many heads at random (up to five draws)
    and those with the smallest weight norm. AP and latency in PyTorch and ONNX Runtime are measured against the number
    of heads removed, and plotted. This takes about 15 validations.
    With epochs= the pruned model is trained further, into a separate checkpoint.

    [bold]Examples[/bold]

      yolo-mha prune model=best.pt heads=10:0,10:3 out=smaller.pt

      yolo-mha prune model=best.pt heads=0.5 data=my.yaml out=smaller.pt

      yolo-mha prune model=best.pt heads=auto margin=0.01 data=my.yaml group=folder

      yolo-mha prune model=best.pt heads=auto data=my.yaml epochs=10 out=smaller.pt
    """


@_command("deploy.export:export")
def export() -> None:
    """Export a model, and check that its outputs are those of the checkpoint.

    ONNX, TorchScript and OpenVINO models are run in their own runtime and compared with PyTorch: with dynamic=True at
    four sizes and batches of 1 and 3, otherwise at the exported shape. With data=, the AP of both is measured too. A
    model outside the tolerance is kept under a name that says so, and the exit code is 1. The exit code is also 1 if
    nothing could be compared. half=True and nms=True can only be compared on pictures in which the model detects
    something; data= provides them. Other formats (TensorRT, CoreML, ...) are exported by Ultralytics and not checked.

    int8=True calibrates on the training images of data=. fuse_attention=True is faster at P4 and P3 and needs no N x N
    matrix, but runs in ONNX Runtime only. With each ONNX model comes onnx_infer.py, a single file that runs the model
    with only numpy, OpenCV and ONNX Runtime.

    [bold]Examples[/bold]

      yolo-mha export model=best.pt format=onnx dynamic=True

      yolo-mha export model=best.pt dynamic=True fuse_attention=True data=my.yaml

      yolo-mha export model=best.pt int8=True data=my.yaml

      yolo-mha export model=best.pt format=openvino half=True

      yolo-mha export model=best.pt format=torchscript imgsz=480,640
    """


@_command("deploy.benchmark:benchmark")
def benchmark() -> None:
    """Measure latency, throughput, memory and AP of a model and its baseline in several formats.

    Each format of each model runs in its own process. All are timed in turn, round by round. A second process with the
    same model (A/A) shows how much of a difference is noise. Exits with 1 if a format cannot be exported or run.

    onnx-fused uses ONNX Runtime's own attention operator. All formats are exported with dynamic image sizes.

    [bold]Examples[/bold]

      yolo-mha benchmark model=best.pt

      yolo-mha benchmark model=best.pt formats=onnx,onnx-fused,openvino sizes=320,640 batches=1,8 data=my.yaml

      yolo-mha benchmark model=yolo11n-mha-p5.yaml baseline=yolo11n.yaml formats=onnx rounds=100 --json
    """


@_command("cli:_compare")
def compare() -> None:
    r"""Train a baseline, its attention variant and a control with several seeds, and compare them.

    All arms of a seed start from the same weights and see the same batches. The control is a convolution with as many
    parameters as the attention: it separates the effect of attention from that of more parameters. The result has AP
    with intervals over seeds and images, a verdict in words, the cost, and a report as HTML, Markdown and JSON. After
    an interruption run the same command again: it continues, and never trains a finished run again.

    On several machines with shared files, only=ARM/SEED trains one run, conclude=True scores the finished runs and
    writes the report, and emit=slurm writes a job array of such commands. status=True shows which runs run where.
    engine=ray sends each run to a machine of a running Ray cluster; if that machine is lost, the run continues on
    another. Needs pip install 'yolo-mha\[ray]' here and on the cluster.

    With models= or predictions=, nothing is trained. Runs that you already have, by arm and seed, are scored and
    compared in the same way, and the report says what is unknown about their training.

    [bold]Examples[/bold]

      yolo-mha compare demo.yaml

      yolo-mha compare model=yolov8n.pt at=P5 data=my.yaml seeds=0,1,2 epochs=50

      yolo-mha compare model=yolov8n.pt at=P5 data=my.yaml seeds=0,1,2 epochs=50 dry_run=True

      yolo-mha compare model=yolov8n.pt at=P5 data=my.yaml seeds=3,4,5,6 dry_run=True pilot=runs/compare/compare

      yolo-mha compare model=yolov8n.yaml attention=my-variant.yaml data=my.yaml epochs=50

      yolo-mha compare my-recipe.yaml jobs=2

      yolo-mha compare my-recipe.yaml only=attention/3

      yolo-mha compare my-recipe.yaml conclude=True

      yolo-mha compare my-recipe.yaml emit=slurm

      yolo-mha compare my-recipe.yaml engine=ray cpus_per_run=4

      yolo-mha compare status=True name=compare

      yolo-mha compare models='runs/{arm}/seed{seed}/weights/last.pt' data=my.yaml

      yolo-mha compare predictions='predictions/{arm}-{seed}.json' data=my.yaml baseline=plain primary=attention
    """


PLANNING = ("pilot", "sd_seeds", "se_images")  # settings of compare that only a dry run has


def _compare(recipe: str | None = None, *, dry_run: bool = False, **settings: Any) -> Result:
    """Run, continue or estimate a comparison, given by a recipe or by settings."""
    from .cluster.ray_runs import compare_on_ray
    from .cluster.single import train_run
    from .cluster.slurm import emit_jobs
    from .cluster.status import comparison_status
    from .evaluation.compare import compare, estimate, run_recipe

    check_flag("dry_run", dry_run)
    check_flag("status", status := settings.pop("status", False))
    on_ray = _on_ray(settings, RUNS)
    instead = {"dry_run": dry_run, "status": status, "engine": "ray" if on_ray else None}
    instead |= {key: settings.get(key) for key in ("conclude", "only", "emit")}
    if len(asked := [f"{key}={value}" for key, value in instead.items() if value]) > 1:
        raise ConfigError("These settings cannot be combined.", given=" ".join(asked), expected="one of them")
    if status:
        if idle := [key for key in settings if key not in ("name", "project")]:
            given, expected = f"{idle[0]}={settings[idle[0]]}", "a recipe or name=, and project="
            raise ConfigError(f"status does not take {idle[0]}.", given=given, expected=expected)
        return comparison_status(recipe, **settings)
    if "only" in settings:
        return train_run(recipe, **settings)
    if on_ray:
        return compare_on_ray(recipe, **settings)
    if "emit" in settings:
        return emit_jobs(recipe, **settings)
    if {"models", "predictions"} & settings.keys():  # compare refuses recipe and dry_run beside these
        settings |= {key: value for key, value in (("recipe", recipe), ("dry_run", dry_run)) if value}
        return compare(**settings)
    if dry_run:
        return estimate(recipe, **settings)
    if planning := [key for key in PLANNING if key in settings]:
        given = " ".join(f"{key}={settings[key]}" for key in planning)
        raise ConfigError(f"{planning[0]} needs dry_run=True.", given=given, expected=f"{given} dry_run=True")
    if recipe is not None:
        return run_recipe(recipe, **settings)
    return compare(settings.pop("model", None), settings.pop("data", None), **settings)  # names a missing setting


@_command("diagnosis.prepare:prepare_data")
def data() -> None:
    r"""Read a folder of labelled images in any common format, and write a data.yaml for train, val and compare.

    The format can be YOLO, COCO, Pascal VOC, CVAT, a CSV table with a file name and a box, LabelMe or Ultralytics
    NDJSON, with labels in any folder or beside the images. The result lists classes, counts, sizes, images without
    labels, files that cannot be used, and images in different splits that look alike. A dataset without a split gets
    one: each class is spread over the parts in proportion, and near duplicates stay together. The folder is only read.
    Images are linked, and copied only where links cannot be made. labels.jpg (a sheet of images with their labels) and
    histograms.png are written beside data.yaml. Exits with 1 if files were skipped.

    [bold]Examples[/bold]

      yolo-mha data source=kangaroo/

      yolo-mha data source=photos/ ratios=0.7,0.15,0.15 group='(video\d+)' out=datasets/photos

      yolo-mha data source=export/boxes.csv --json

      yolo-mha data source=mixed/ format=voc
    """


@_command("diagnosis.doctor:doctor")
def doctor() -> None:
    """Check a model, a dataset and this machine before hours of training. Exits with 1 if something would fail.

    Checks registration of the blocks, heads, image sizes, a real forward and backward pass, memory and time of a
    training step with and without attention, the dataset, and an export.

    [bold]Examples[/bold]

      yolo-mha doctor model=yolo11n.pt at=P5 data=my.yaml imgsz=640 batch=16

      yolo-mha doctor model=best.pt data=my.yaml imgsz=1280 batch=8 device=0 --json
    """


@app.command()
def version(json: AsJson = False, debug: Debug = False) -> None:
    """Print what a bug report needs: versions, the device, and the installed extras.

    [bold]Examples[/bold]

      yolo-mha version --json
    """
    _run("version", "diagnosis.environment:version", [], json, debug)


for _registered in app.registered_commands:
    text = inspect.cleandoc(str(getattr(_registered.callback, "__doc__", "")))
    _registered.help = re.sub(r"(?<=\S)\n(?=\S)", " ", text)  # typer would keep every line end within a paragraph
    _registered.cls = _Command
