"""The commands' own settings: one table for `--help`, shell completion and the check of values.

Options of a block are listed here too; the block checks their values when it is built.

All other settings belong to Ultralytics, see `settings`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ParamSpec, TypeVar

import numpy as np

from ..errors import ConfigError, check_flag
from ..paths import given_path
from .assets import downloads_allowed

P = ParamSpec("P")
R = TypeVar("R")
FLAG, PATH, COUNT = "True/False", "path", "whole number"  # kinds that are checked here


@dataclass(frozen=True)
class Setting:
    """One setting.

    Attributes:
        name: What is written before the equals sign.
        kind: The type of its value, as help prints it.
        meaning: What it does, as help prints it.
        default: Its value if it is not given.
        required: Whether it must be given.
        least: The smallest value of a whole number.
    """

    name: str
    kind: str
    meaning: str
    default: object = None
    required: bool = False
    least: int = 0

    def check(self, value: object) -> None:
        """Raise `ConfigError` where a value is not of the setting's kind."""
        if self.kind == FLAG:
            check_flag(self.name, value)
        elif self.kind == PATH and value is not None:
            given_path(value, self.name)
        elif self.kind == COUNT and (type(value) is not int or value < self.least):
            given, expected = f"{self.name}={value!r}", f"{self.least} or more"
            raise ConfigError(f"{self.name} must be a whole number.", given=given, expected=expected)


class Command:
    """The settings of a command.

    Attributes:
        own: Its own settings.
        others: Which of Ultralytics' settings it takes too, in words; empty for none.
        options: Options of the block, for a command that inserts one.
    """

    def __init__(self, *own: Setting, others: str = "") -> None:
        self.own, self.others = (*own, DOWNLOAD) if own else (), others
        self.options = BLOCK_OPTIONS if BLOCK in own else ()


DOWNLOAD = Setting("download", FLAG, "downloads official Ultralytics weights that are missing", True)
MODEL = Setting("model", PATH, "model YAML or checkpoint: a path, or the name of one that comes with the package")
NETWORK = replace(MODEL, required=True)
ANY_MODEL = replace(MODEL, meaning="checkpoint or exported model")
DATA = Setting("data", PATH, "dataset YAML; beacons for the demo dataset")
AT = Setting(
    "at",
    "places",
    "where to insert attention, separated by commas: P2 to P6 (after the last backbone layer of stride 4 to 64), neck "
    "(after every layer that feeds the head), neck:P3 (one of these), after:SPPF, layer:9",
)
AT_FIRST = replace(AT, meaning="inserts attention into the model first; places as for insert")
BLOCK = Setting("block", "name", "class name of the registered block to insert", "SpatialMHABlock")
FREEZE_BASE = Setting("freeze_base", COUNT, "number of epochs at the start in which only the new blocks train", 0)
TRUST = Setting("trust", FLAG, "opens files that can run code, such as TorchScript; only for files you made", False)
WRITTEN = (
    Setting("out", PATH, "file to write, .yaml or .pt like the model; named after model and places if not given"),
    Setting("exist_ok", FLAG, "overwrites existing files", False),
    TRUST,
)
SOURCE = Setting(
    "source",
    "path, number",
    "image or video, folder, glob in quotes, a .txt or .csv list of these, camera index, stream address "
    "(rtsp://, ...) or .streams file; the demo model has a sample image as default",
)
MAX_PIXELS = Setting("max_pixels", COUNT, "larger pictures are skipped and listed; 0 for no limit", 150_000_000)
LOOKED_AT = (
    replace(ANY_MODEL, default="demo-mha.pt"),
    SOURCE,
    Setting("save_csv", FLAG, "writes the detections as a table too", False),
    MAX_PIXELS,
)
TRACKERS = "botsort, bytetrack, ocsort, deepocsort, fasttrack, tracktrack"
GROUP = Setting(
    "group",
    "text",
    r"images that are not independent, such as frames of one video, are resampled together: a pattern for file names "
    r"with the group in brackets, such as '(writer\d+)'; a .csv table image,group; folder, one group per folder; or "
    r"image, one group per image",
)
BAD = Setting(
    "bad",
    "name",
    "what to do about damaged images and labels: stop; skip leaves these images out; repair uses repaired copies and "
    "leaves out what cannot be repaired; the dataset itself is never changed",
    "stop",
)
BLOCKS = Setting("blocks", "modules", "your modules that register blocks, by name or file, separated by commas")

BLOCK_OPTIONS = (
    Setting("num_heads", COUNT, "number of heads; if not given, one per 32 channels"),
    Setting("mlp_ratio", "number", "hidden width of the MLP as a multiple of the channels; 0 for no MLP", 0.0),
    Setting("gate_init", "number", "initial value of the gates; 0 leaves the model's outputs unchanged", 0.0),
    Setting("head_dim", COUNT, "channels of one head"),
    Setting("qkv_bias", FLAG, "whether the query, key and value projection has a bias", True),
    Setting("qk_norm", FLAG, "whether queries and keys are normalized", False),
    Setting("attn_drop", "number", "dropout probability on the attention weights", 0.0),
    Setting("proj_drop", "number", "dropout probability on the output of the attention", 0.0),
    Setting("position", "name", "position encoding: none, dwconv, sincos, rope or relative", "none"),
    Setting("scope", "name", "global, window or axial; at P3 use window, axial or kv_stride=4", "global"),
    Setting("window", COUNT, "height and width of a window in positions; 10 if not given"),
    Setting("kv_stride", COUNT, "keys and values are pooled over cells of this height and width", 1),
    Setting("context", "place", "with block=CrossScaleMHA: the layer that keys and values come from"),
)

ENGINE = Setting("engine", "name", "local, or ray to send each run to a machine of a running Ray cluster", "local")
ADDRESS = Setting("address", "name", "with ray: auto for the cluster of this machine, or host:port of its head", "auto")
GPUS = Setting("gpus_per_run", "number", "with ray: GPUs per run; 0.5 puts two on one GPU, 0 uses the CPU", 1)
CPUS = Setting("cpus_per_run", COUNT, "with ray: CPU cores and threads per run", 1, least=1)
COMMANDS = {
    "insert": Command(NETWORK, replace(AT, required=True), BLOCK, *WRITTEN),
    "remove": Command(
        NETWORK,
        replace(AT, meaning="blocks to remove: places as for insert, or layer:10, a block's index; all if not given"),
        *WRITTEN,
    ),
    "train": Command(
        MODEL,
        DATA,
        AT_FIRST,
        BLOCK,
        FREEZE_BASE,
        Setting("resume", "path, True", "last.pt of the interrupted run to continue, in place of model", False),
        BAD,
        TRUST,
        others="training settings, such as epochs, batch, imgsz, optimizer, lr0 and device",
    ),
    "val": Command(
        ANY_MODEL,
        replace(
            DATA,
            meaning="YOLO data.yaml; COCO folder with annotations/instances_val*.json or "
            "valid/_annotations.coco.json; or Pascal VOC folder with Annotations, JPEGImages and ImageSets/Main",
        ),
        Setting("predictions", PATH, "COCO results JSON, in place of model"),
        Setting("annotations", PATH, "COCO instances JSON, in place of data; only with predictions"),
        Setting("backend", "name", "library that computes the scores: pycocotools or faster-coco-eval", "pycocotools"),
        replace(GROUP, meaning=f"gives AP a 95 % interval; {GROUP.meaning}"),
        BAD,
        TRUST,
        others="validation settings, such as split, imgsz, batch, conf, iou and plots",
    ),
    "predict": Command(
        *LOOKED_AT,
        Setting("slice", "pixels", "tile size, to predict tile by tile: 640, or 480,640 for height and width"),
        Setting("overlap", "number", "share of a tile that overlaps the next one", 0.2),
        replace(ENGINE, meaning="local, or ray to predict many pictures in shards on a running Ray cluster"),
        ADDRESS,
        replace(GPUS, name="gpus_per_worker", meaning=GPUS.meaning.replace("run", "worker")),
        replace(CPUS, name="cpus_per_worker", meaning=CPUS.meaning.replace("run", "worker")),
        Setting("shard", COUNT, "with ray: number of pictures in a shard, which has its own result file", 256, least=1),
        TRUST,
        others="prediction settings, such as conf, imgsz, classes, batch, vid_stride, save, save_txt, save_conf, "
        "save_json, save_crop and save_frames",
    ),
    "track": Command(
        *LOOKED_AT,
        Setting("tracker", "name, path", f"{TRACKERS}, or a tracker YAML; Ultralytics' default if not given"),
        TRUST,
        others="prediction settings, such as conf, imgsz, classes, vid_stride, show and save_txt",
    ),
    "explain": Command(
        replace(MODEL, meaning="checkpoint with attention blocks", default="demo-mha.pt"),
        SOURCE,
        replace(
            DATA,
            meaning="in place of source: measures on this dataset whether the maps can be trusted; beacons for the "
            "demo dataset",
        ),
        Setting("layer", "numbers", "rows of the attention blocks, separated by commas; all if not given"),
        Setting("head", "numbers", "heads, counted from 0, separated by commas; all if not given"),
        Setting("box", "pixels", "x1,y1,x2,y2: explains only the detection that overlaps this box most"),
        Setting("sheets", COUNT, "number of sheets per picture, for the detections with the highest scores", 10),
        Setting("detections", COUNT, "with data: number of detections to measure", 200, least=1),
        Setting("drise", COUNT, "with data: number of images to compare with D-RISE, which is slow", 30),
        replace(GROUP, meaning=f"with data: {GROUP.meaning}"),
        MAX_PIXELS,
        TRUST,
        others="settings conf, imgsz, iou, classes, max_det, agnostic_nms, nms, rect, device, project, name and "
        "exist_ok; with source also vid_stride and line_width; with data also split",
    ),
    "explore": Command(
        replace(MODEL, meaning="checkpoint with attention blocks", default="demo-mha.pt"),
        replace(MODEL, name="other", meaning="a second checkpoint, shown beside it"),
        Setting("host", "address", "address to serve the page at; 0.0.0.0 opens it to other devices", "127.0.0.1"),
        Setting("port", COUNT, "port to serve the page at; 0 for any free port", 7860),
        TRUST,
        others="settings conf, imgsz and device",
    ),
    "heads": Command(
        replace(MODEL, meaning="checkpoint with attention blocks", default="demo-mha.pt"),
        replace(DATA, meaning="dataset, as for val; beacons is the demo dataset", default="beacons"),
        GROUP,
        TRUST,
        others="settings split, imgsz, batch, device, project, name and exist_ok",
    ),
    "prune": Command(
        replace(NETWORK, meaning="checkpoint with attention blocks"),
        Setting(
            "heads",
            "share, names",
            "share of all heads to remove, such as 0.5: those with the smallest gradient on the training images of "
            "data; or the heads themselves as row:head, separated by commas, such as 10:0,10:3; or auto, as many as "
            "keep AP within margin on one half of the validation images",
            required=True,
        ),
        replace(DATA, meaning="dataset, needed for a share and for auto; AP is measured on its validation images"),
        Setting("margin", "number", "AP that may be lost", 0.005),
        replace(GROUP, meaning=GROUP.meaning.replace("are resampled together", "are resampled and halved together")),
        Setting("epochs", COUNT, "number of epochs to train the pruned model on data; 0 for none", 0),
        replace(WRITTEN[0], meaning="checkpoint to write; named after the model if not given"),
        *WRITTEN[1:],
        others="settings split, imgsz, batch and device; with epochs also training settings",
    ),
    "export": Command(
        NETWORK,
        Setting("format", "name", "onnx, torchscript, openvino, or another of Ultralytics'", "onnx"),
        replace(DATA, meaning="dataset for AP before and after export, for the comparison and for calibration"),
        Setting("half", FLAG, "half precision", False),
        Setting("int8", FLAG, "ONNX with 8-bit convolutions and floating-point attention; needs data", False),
        Setting("fuse_attention", FLAG, "ONNX with ONNX Runtime's own attention operator", False),
        TRUST,
        others="export settings, such as imgsz, dynamic, batch, opset, nms and simplify",
    ),
    "benchmark": Command(
        NETWORK,
        replace(DATA, meaning="dataset for AP in each format"),
        Setting("baseline", PATH, "model to compare with; if not given, the same model without its blocks"),
        Setting(
            "formats",
            "names",
            "some of pytorch, torchscript, onnx, openvino, onnx-fused, onnx-fp16, onnx-int8 (needs data); if not "
            "given, those of the first four that are installed",
        ),
        Setting("sizes", "pixels", "image sizes, separated by commas; the model's own if not given"),
        Setting("batches", "numbers", "batch sizes, separated by commas", 1),
        Setting("rounds", COUNT, "number of timings of each model and format", 30, least=3),
        TRUST,
        others="settings device (cpu if not given), split, project, name and exist_ok",
    ),
    "compare": Command(
        Setting(
            "recipe",
            PATH,
            "recipe YAML with name, data, arms, train, seeds, looks, primary, metric, contrasts, margin, split, group, "
            "keep_best and jobs; or demo.yaml; recipe= can be left out",
        ),
        replace(MODEL, meaning="model of the baseline, in place of a recipe"),
        Setting(
            "models",
            "pattern, path",
            "checkpoints that you already have, in place of model: a path pattern with {arm} and {seed}, such as "
            "'runs/{arm}-{seed}.pt', or a YAML file with arm: {seed: path}",
        ),
        Setting("predictions", "pattern, path", "COCO results JSON files by arm and seed, given like models"),
        Setting("baseline", "name", "baseline arm of models or predictions, if no arm is called baseline"),
        replace(AT, meaning="inserts attention into the baseline to make the other arm; places as for insert"),
        BLOCK,
        replace(FREEZE_BASE, meaning=f"with at: {FREEZE_BASE.meaning}"),
        Setting("attention", PATH, "model to compare with the baseline, in place of at"),
        Setting(
            "control",
            "True/False, path",
            "whether to train a control, a convolution with as many parameters as the attention; or a model that is "
            "the control; True with at",
        ),
        DATA,
        Setting("project", PATH, "parent folder of all comparisons; runs/compare if not given"),
        Setting("name", "name", "name of this comparison's folder; name-2, ... if it is taken", "compare"),
        Setting("seeds", "numbers", "training seeds, separated by commas; each arm is trained with each", (0, 1, 2)),
        Setting(
            "looks",
            "numbers",
            "interim analyses: numbers of seeds after which training may stop early, such as 3,6 with 10 seeds",
        ),
        Setting("jobs", COUNT, "number of runs at the same time on this machine", 1, least=1),
        ENGINE,
        ADDRESS,
        GPUS,
        CPUS,
        Setting("primary", "name", "arm that the verdict is about; the first that is not a control if not given"),
        Setting("metric", "name", "metric of the verdict: AP, AP50, APsmall, APmedium, APlarge or AP[class,...]", "AP"),
        Setting(
            "contrasts",
            "text",
            "further contrasts that get a verdict, such as 'attention vs control; attention: AP[pool,lane]'",
        ),
        Setting("margin", "number", "smallest difference in AP that matters", 0.01),
        GROUP,
        BAD,
        Setting("split", "name", "images that the finished runs are scored on: val or test", "val"),
        Setting("keep_best", FLAG, "keeps best.pt of each run beside last.pt; only last.pt is scored", False),
        Setting("conclude", FLAG, "trains nothing; scores the finished runs and writes the report", False),
        Setting("only", "name", "trains only this run, such as attention/3, and writes no report; see status"),
        Setting("status", FLAG, "shows which runs of a comparison run where, their progress, and what failed", False),
        Setting("emit", "name", "slurm: writes a job array with one task per run, and a job for the report"),
        Setting("dry_run", FLAG, "trains nothing; shows the plan and estimates time, memory and disk space", False),
        Setting("pilot", PATH, "with dry_run: folder of an earlier comparison, to estimate the detectable difference"),
        Setting("sd_seeds", "number", "in place of pilot: standard deviation of the difference over seeds"),
        Setting("se_images", "number", "with sd_seeds: standard error of the difference over images"),
        others="training settings, the same for every arm",
    ),
    "doctor": Command(
        NETWORK,
        replace(DATA, meaning="dataset YAML; a generated batch if not given"),
        replace(AT_FIRST, meaning="where train would insert attention; places as for insert"),
        BLOCK,
        BAD,
        TRUST,
        others="training settings, such as imgsz, batch, device and amp",
    ),
    "data": Command(
        Setting("source", PATH, "folder with images and box labels, or its annotation file", required=True),
        Setting("out", PATH, "folder to write; a folder under runs/datasets if not given"),
        Setting(
            "format",
            "name",
            "yolo, coco, voc, cvat, csv, labelme or ndjson, if the folder holds labels in several formats",
        ),
        Setting(
            "ratios",
            "numbers",
            "shares of train, val and test if the dataset has no split; if only val is missing, it is taken from train",
            (0.8, 0.1, 0.1),
        ),
        replace(GROUP, meaning=f"{GROUP.meaning.replace('are resampled together', 'stay together in a new split')}"),
        Setting("seed", COUNT, "seed of a new split", 0),
    ),
    "version": Command(),
}


# commands by function
OTHER_NAMES = dict.fromkeys(
    ("run_recipe", "estimate", "train_run", "compare_on_ray", "emit_jobs", "comparison_status"), "compare"
)
OTHER_NAMES |= {"predict_on_ray": "predict", "prepare_data": "data", "faithfulness": "explain"}


def python_values(value: Any) -> Any:
    """Return numpy's numbers as Python's, also inside lists, tuples and dicts.

    Args:
        value: A setting. Arrays of more than one dimension are images, and stay.
    """
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist() if value.ndim < 2 and value.dtype.kind in "biuf" else value
    if type(value) is dict:
        return {python_values(k): python_values(v) for k, v in value.items()}
    return type(value)(map(python_values, value)) if type(value) in (list, tuple) else value


def checked(command: Callable[P, R]) -> Callable[P, R]:
    """Check a command's own settings against the table before each call, from Python and from the command line.

    Values of numpy become Python's, see `python_values`. All commands have ``download``; it is handled here and not
    passed on.
    """
    own = COMMANDS[OTHER_NAMES.get(command.__name__, command.__name__)].own
    names = list(inspect.signature(command).parameters)

    @functools.wraps(command)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        args, kwargs = python_values(args), python_values(kwargs)
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        for setting in own:
            if setting.name in given:
                setting.check(given[setting.name])
        with downloads_allowed(bool(kwargs.pop(DOWNLOAD.name, True))):
            return command(*args, **kwargs)

    return call
