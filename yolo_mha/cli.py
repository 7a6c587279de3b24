"""The command line: parse, call, print. The one place where faults become messages."""

from __future__ import annotations

import contextlib
import inspect
import json as jsonlib
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
    """Complete the names of a command's own settings; bash makes three words of name=value, and completes files."""
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
    "With blocks=my_module a command imports your own registered blocks first.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
Words = Annotated[
    list[str] | None,
    typer.Argument(metavar="[key=value]...", help="Settings.", show_default=False, autocompletion=_complete),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the answer as JSON on standard output.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit.

    Exit codes: 0 done; 1 a check failed, something was skipped, or the work itself failed; 2 bad input; 130, 143
    and 129 after Ctrl-C, SIGTERM and the end of the terminal.

    Args:
        arguments: The words after the program's name; those of the process if not given.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what is open is closed, as after Ctrl-C
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:  # nohup ignores it
        signal.signal(signal.SIGHUP, lambda *_: sys.exit(129))
    app(args=arguments, prog_name="yolo-mha")


def _command(function: str) -> Callable[[Callable[[], None]], None]:
    """Make a command of a function of this package, which is imported when it is called, and of a described name."""

    def add(described: Callable[[], None]) -> None:
        def call(settings: Words = None, json: AsJson = False, debug: Debug = False) -> None:
            _run(described.__name__, function, settings or [], json, debug)

        call.__name__, call.__doc__ = described.__name__, described.__doc__
        app.command()(call)

    return add


def _run(command: str, function: str, words: list[str], json: bool, debug: bool) -> None:
    """Call a command's function with its settings and print the answer; everything else goes to standard error."""
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
        result = done  # of a prediction, up to there
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


def _fail(error: Exception, json: bool, debug: bool) -> NoReturn:
    """Print an error, and exit with the code that stands for it."""
    fault: Mapping[str, str | None] = {"type": type(error).__name__, "problem": str(error)}
    code = 1
    if isinstance(error, YoloMHAError):
        fault, text = error.as_dict(), f"error: {error}"
        code = 1 if isinstance(error, RunError) else 2
    elif disk_is_full(error):
        text = f"error: {DISK_FULL}\n  given:    {error}\n  fix:      {FREE_SPACE}"
    elif isinstance(error, OSError):  # a folder that may not be written to
        text = f"error: A file or folder cannot be used.\n  given:    {error}\n"
        text += "  fix:      make sure that it exists and that you may read and write there"
    else:  # a fault that nobody foresaw; the traceback is for us, the sentence for the user
        text = f"unexpected error: {type(error).__name__}: {error}\n"
        text += "  fix:      run it again with --debug and report what it shows, with the output of yolo-mha version"
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
    """Put attention into a model YAML or a checkpoint, with every pretrained weight kept.

    [bold]Examples[/bold]

      yolo-mha insert model=yolo11n.yaml at=P5

      yolo-mha insert model=yolov8s.pt at=P4,P5 out=yolov8s-attention.pt

      yolo-mha insert model=my.yaml at=neck:P3,after:SPPF num_heads=8 mlp_ratio=2

      yolo-mha insert model=yolo11n.pt at=P3 scope=window window=10

      yolo-mha insert model=yolo11n.pt at=neck:P3 block=CrossScaleMHA context=P5
    """


@_command("engine.insert:remove")
def remove() -> None:
    """Take attention out of a model YAML or a checkpoint: the inverse of insert.

    [bold]Examples[/bold]

      yolo-mha remove model=best.pt out=plain.pt

      yolo-mha remove model=yolo11n-mha-p4p5.yaml at=P4 out=yolo11-mha-p5.yaml
    """


@_command("engine.train:train")
def train() -> None:
    """Train a detector, with attention or without.

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
    """Score box detection as COCO does: the twelve COCO numbers, AP by class, and precision-recall curves.

    What is scored: model, a checkpoint or an export such as best.onnx, or predictions, a COCO results JSON. Against
    what: data, or for predictions also annotations. A COCO or VOC dataset is first mirrored in YOLO format below
    runs/datasets, where training can use it too. The answer says which objects were left out, and how names and ids
    were matched.

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

    Lists leave out # lines and a heading. Written are predictions.jsonl and, with save=False to leave them out, the
    annotated pictures and videos (mp4 at the same rate and size, without sound). On demand: save_txt with save_conf
    (YOLO labels), save_json (COCO results, for val predictions=...; take conf=0.001 for that), save_csv, save_crop,
    save_frames. Frames keep their number in the video, from 0. slice=640 is for objects that are small in large
    pictures. Without settings the demo's model looks at a sample image.

    Broken files and frames are named and skipped, and the exit code is then 1. After Ctrl-C all files are complete up
    to there, and it is 130.

    With engine=ray a large folder of pictures is predicted on a Ray cluster that is running, into JSON Lines by shard;
    the same call again skips the shards that are done. Needs pip install 'yolo-mha\[ray]' there and here.

    [bold]Examples[/bold]

      yolo-mha predict

      yolo-mha predict model=best.pt source=images/ conf=0.4 save_txt=True save_conf=True

      yolo-mha predict model=best.onnx source=street.mp4 classes=0,2 vid_stride=2

      yolo-mha predict model=best.pt source='photos/**/*.jpg' save_csv=True save_crop=True save=False

      yolo-mha predict model=best.pt source=aerial.tif slice=640 overlap=0.2

      yolo-mha predict model=best.pt source=rtsp://192.168.0.9/stream

      yolo-mha predict model=best.pt source='archive/**/*.jpg' engine=ray gpus_per_worker=0.5 name=archive
    """


# settings that a cluster has
WORKERS, RUNS = ("address", "gpus_per_worker", "cpus_per_worker", "shard"), ("address", "gpus_per_run", "cpus_per_run")


def _predict(**settings: Any) -> Result:
    """Predict here or on a cluster."""
    from .cluster.ray_predict import predict_on_ray
    from .engine.predict import predict

    return predict_on_ray(**settings) if _on_ray(settings, WORKERS) else predict(**settings)


def _on_ray(settings: dict[str, Any], only: tuple[str, ...]) -> bool:
    """Take the engine out of settings, and say whether it is Ray.

    Raises:
        ConfigError: There is no such engine, or a setting is for a cluster only.
    """
    engine = settings.pop("engine", "local")
    if engine not in ("local", "ray"):
        raise ConfigError("There is no such engine.", given=f"engine={engine}", expected="local or ray")
    if engine == "local" and (idle := [key for key in only if key in settings]):
        raise ConfigError(f"{idle[0]} is for a cluster.", given=f"{idle[0]}={settings[idle[0]]}", fix="engine=ray")
    return bool(engine == "ray")


@_command("engine.predict:track")
def track() -> None:
    """Follow objects through a video, a camera or a stream: predict, with an id for each object.

    Ids begin at 1 in each video; the pictures of a folder, sorted by name, are taken as one video. conf is 0.1 if not
    given, because trackers use faint detections too.

    [bold]Examples[/bold]

      yolo-mha track model=best.pt source=street.mp4

      yolo-mha track model=best.onnx source=street.mp4 tracker=bytetrack save_csv=True

      yolo-mha track model=best.pt source=0 classes=0 show=True
    """


@_command("cli:_explain")
def explain() -> None:
    """Say and draw where each detection looked: per attention block, per head and together.

    Which positions of a block count for a detection is told by the gradient of its score. Drawn are attention, and its
    effect: attention times the norm of what is read there, behind the gate, so that a head whose gate is near 0 shows
    no effect. Written are a PNG sheet of each detection in a picture, pictures and videos with all effects laid over
    them, report.html, and explain.json with shares inside the box, around it, on other objects and on padding, entropy
    and mean distance.

    With data= in place of source= it measures whether such maps may be believed for this model, and says yes or no: the
    score of a detection while the pixels that its map marks most are blanked, or shown alone, beside a random map, a
    centre prior, the box itself and LayerCAM, with 95 % intervals over images.

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
            f"{idle[0]} is for {'pictures' if with_data else 'a dataset'}.",
            given=" ".join(f"{key}={settings[key]}" for key in (*idle, *(["data"] if with_data else []))),
            expected="source=..., to draw where detections looked, or data=..., to measure whether that is true",
        )
    return faithfulness(**settings) if with_data else explain(**settings)


@_command("inspection.explore:explore")
def explore() -> None:
    r"""Serve a page that shows what detections attend to, until Ctrl-C.

    Choose a picture and a detection, and see where each block and head looks, what becomes of the score when the
    positions that a map marks most are blanked, and what is lost when heads are silenced. other= shows a second model
    beside it. The page is served to this machine alone, and asks no other host for anything; with host=0.0.0.0 whoever
    reaches the port can use it, without a password. Needs pip install 'yolo-mha\[ui]'.

    [bold]Examples[/bold]

      yolo-mha explore

      yolo-mha explore model=best.pt other=earlier.pt conf=0.4

      yolo-mha explore model=best.pt host=0.0.0.0 port=8000
    """


@_command("inspection.heads:heads")
def heads() -> None:
    """Say which attention heads matter, and how alike they are.

    Each head is measured in two ways: by the gradient of the loss by a gate on it, and by the AP that is lost when it
    is silenced, which takes a validation for each head. Both come with 95 % intervals over images, with their ranks,
    and with the rank correlation of the two. How alike the heads of a block are is the correlation of their attention
    maps. Written are heads.json and heads.png.

    [bold]Examples[/bold]

      yolo-mha heads

      yolo-mha heads model=best.pt data=my.yaml

      yolo-mha heads model=best.pt data=my.yaml split=test imgsz=640 --json
    """


@_command("inspection.prune:prune")
def prune() -> None:
    """Cut attention heads out of a checkpoint.

    Weights leave for real, and the row says how many heads are left, so the new checkpoint loads, trains on, resumes
    and exports as any other. Before any more training it gives what the model gives with these heads silenced. A block
    whose heads all go is removed, with its MLP.

    A share takes the heads that matter least on the training images of data=, and AP before and after is taken on its
    validation images. heads=auto takes as many as keep AP within margin= on one half of these, and reports AP on the
    other. Both are compared with as many heads at random (up to five draws) and with those of least weight norm, and AP
    and latency in PyTorch and ONNX Runtime are measured against the number of heads removed, also as a picture. That
    takes about 15 validations.
    With epochs= the pruned model is trained further, into a checkpoint of its own.

    [bold]Examples[/bold]

      yolo-mha prune model=best.pt heads=10:0,10:3 out=smaller.pt

      yolo-mha prune model=best.pt heads=0.5 data=my.yaml out=smaller.pt

      yolo-mha prune model=best.pt heads=auto margin=0.01 data=my.yaml group=folder

      yolo-mha prune model=best.pt heads=auto data=my.yaml epochs=10 out=smaller.pt
    """


@_command("deploy.export:export")
def export() -> None:
    """Export a model, and prove that it does what the checkpoint does.

    ONNX, TorchScript and OpenVINO models are run beside PyTorch in their own runtime: with dynamic=True at four sizes
    and batches of 1 and 3, otherwise at the exported shape. With data= the AP of both is taken too. A model out of
    tolerance is kept under a name that says so, and the exit code is 1; so it is where nothing could be compared: half
    precision and nms=True need pictures in which the model finds something, which data= gives. Other formats (TensorRT,
    CoreML, ...) are made by Ultralytics alone and not proved.

    int8=True calibrates on the training images of data=. fuse_attention=True is faster at P4 and P3 and has no N x N
    matrix, but only ONNX Runtime has its operator. Beside an ONNX model lies onnx_infer.py, one file that runs it with
    numpy, OpenCV and ONNX Runtime alone.

    [bold]Examples[/bold]

      yolo-mha export model=best.pt format=onnx dynamic=True

      yolo-mha export model=best.pt dynamic=True fuse_attention=True data=my.yaml

      yolo-mha export model=best.pt int8=True data=my.yaml

      yolo-mha export model=best.pt format=openvino half=True

      yolo-mha export model=best.pt format=torchscript imgsz=480,640
    """


@_command("deploy.benchmark:benchmark")
def benchmark() -> None:
    """Measure latency, throughput, memory and AP of a model in several formats, beside its baseline.

    Each format of each model runs in a process of its own; all are timed in turn, round by round, and a second process
    with the same model (A/A) shows how much of a difference is noise. Exits with 1 if a format cannot be made or run.

    onnx-fused is attention as ONNX Runtime's own operator; all formats are exported for any size.

    [bold]Examples[/bold]

      yolo-mha benchmark model=best.pt

      yolo-mha benchmark model=best.pt formats=onnx,onnx-fused,openvino sizes=320,640 batches=1,8 data=my.yaml

      yolo-mha benchmark model=yolo11n-mha-p5.yaml baseline=yolo11n.yaml formats=onnx rounds=100 --json
    """


@_command("cli:_compare")
def compare() -> None:
    r"""Train a baseline, its attention variant and a control with several seeds, and say what that shows.

    Arms x seeds: all arms of a seed start from the same weights and see the same batches; a convolution with as many
    parameters as the attention tells "attention" from "more parameters". The answer has AP with intervals over seeds
    and images, a verdict in words, cost, and a report as a page, Markdown and JSON. Run it again after an interruption
    and it goes on; finished runs are never trained again.

    On several machines with the same files, only=ARM/SEED trains one run, conclude=True scores and reports, and
    emit=slurm writes a job array of such commands; status=True says what runs where. With engine=ray each run goes to a
    machine of a Ray cluster that is running, and goes on elsewhere if its machine is lost. Needs
    pip install 'yolo-mha\[ray]' there and here.

    With models or predictions nothing is trained: runs that you already have, by arm and seed, are scored and compared
    in the same way, and the report says what is not known of how they were trained.

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
    """Run, continue or estimate a comparison of a recipe or of settings."""
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
        raise ConfigError("These do not go together.", given=" ".join(asked), expected="one of them")
    if status:
        if idle := [key for key in settings if key not in ("name", "project")]:
            given, expected = f"{idle[0]}={settings[idle[0]]}", "a recipe or name=, and project="
            raise ConfigError("status does not take this.", given=given, expected=expected)
        return comparison_status(recipe, **settings)
    if "only" in settings:
        return train_run(recipe, **settings)
    if on_ray:
        return compare_on_ray(recipe, **settings)
    if "emit" in settings:
        return emit_jobs(recipe, **settings)
    if {"models", "predictions"} & settings.keys():  # with which neither goes, as it says
        settings |= {key: value for key, value in (("recipe", recipe), ("dry_run", dry_run)) if value}
        return compare(**settings)
    if dry_run:
        return estimate(recipe, **settings)
    if planning := [key for key in PLANNING if key in settings]:
        given = " ".join(f"{key}={settings[key]}" for key in planning)
        raise ConfigError(f"{planning[0]} is for planning.", given=given, expected="dry_run=True beside it")
    if recipe is not None:
        return run_recipe(recipe, **settings)
    return compare(settings.pop("model", None), settings.pop("data", None), **settings)  # it says what is missing


@_command("diagnosis.prepare:prepare_data")
def data() -> None:
    r"""Say what a folder of labelled images is, and write a data.yaml of it that train, val and compare take.

    Known are YOLO, COCO, Pascal VOC, CVAT, CSV tables with a file name and two corners, LabelMe and Ultralytics NDJSON,
    with labels in any folder or beside the images. The answer has classes, counts, sizes, images without labels, files
    that cannot be used, and images of different splits that look alike. A dataset without a split gets one: every class
    has its share in each part, and near duplicates stay together. The folder is only read, and no image is copied where
    links can be made. Beside data.yaml lie labels.jpg, a sheet of images with their labels, and histograms.png. Exits
    with 1 if files were skipped.

    [bold]Examples[/bold]

      yolo-mha data source=kangaroo/

      yolo-mha data source=photos/ ratios=0.7,0.15,0.15 group='(video\d+)' out=datasets/photos

      yolo-mha data source=export/boxes.csv --json

      yolo-mha data source=mixed/ format=voc
    """


@_command("diagnosis.doctor:doctor")
def doctor() -> None:
    """Examine a model, a dataset and this machine before hours of training; exits with 1 if something would fail.

    One page: registration, heads, image sizes, a real forward and backward pass, memory and time of a training step
    with attention and without, the dataset, an export.

    [bold]Examples[/bold]

      yolo-mha doctor model=yolo11n.pt at=P5 data=my.yaml imgsz=640 batch=16

      yolo-mha doctor model=best.pt data=my.yaml imgsz=1280 batch=8 device=0 --json
    """


@app.command()
def version(json: AsJson = False, debug: Debug = False) -> None:
    """Print what belongs in a bug report: versions, the device, and which extras are installed.

    [bold]Examples[/bold]

      yolo-mha version --json
    """
    _run("version", "diagnosis.environment:version", [], json, debug)


for _registered in app.registered_commands:
    text = inspect.cleandoc(str(getattr(_registered.callback, "__doc__", "")))
    _registered.help = re.sub(r"(?<=\S)\n(?=\S)", " ", text)  # of paragraphs, where every line end would be kept
    _registered.cls = _Command
