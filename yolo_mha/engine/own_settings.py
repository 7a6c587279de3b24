"""The commands' own settings: one table that `--help` prints, the shell completes, and values are checked by.

Options of a block are listed here too, and checked by the block when it is built.

All other settings are Ultralytics', see `settings`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ParamSpec, TypeVar

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
        kind: What it is, for people.
        meaning: What it does.
        default: Its value where it is not given.
        required: Whether the command cannot do without it.
        least: The smallest whole number that it may be.
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
    """What a command takes.

    Attributes:
        own: Its own settings.
        others: Which of Ultralytics' settings it takes too.
        options: Options of the block, where one goes somewhere.
    """

    def __init__(self, *own: Setting, others: str = "") -> None:
        self.own, self.others = (*own, DOWNLOAD) if own else (), others
        self.options = BLOCK_OPTIONS if BLOCK in own else ()


DOWNLOAD = Setting("download", FLAG, "fetches Ultralytics' own weights that are named and not here", True)
MODEL = Setting("model", PATH, "model YAML or checkpoint, by path or by the name of one that ships")
NETWORK = replace(MODEL, required=True)
ANY_MODEL = replace(MODEL, meaning="checkpoint or exported model")
DATA = Setting("data", PATH, "dataset YAML; beacons is the demo's")
AT = Setting(
    "at",
    "places",
    "where attention goes, separated by commas: P2 to P6 (behind the last backbone layer of stride 4 to 64), neck "
    "(behind every layer that feeds the head), neck:P3 (one of them), after:SPPF, layer:9",
)
AT_FIRST = replace(AT, meaning="puts attention into the model first, at places as for insert")
BLOCK = Setting("block", "name", "class name of the registered block that goes there", "SpatialMHABlock")
FREEZE_BASE = Setting("freeze_base", COUNT, "number of first epochs in which the new blocks train alone", 0)
TRUST = Setting("trust", FLAG, "opens files that can run code, such as TorchScript, if you made them", False)
WRITTEN = (
    Setting("out", PATH, "file to write, .yaml or .pt as the model; named after model and places if not given"),
    Setting("exist_ok", FLAG, "replaces files that exist", False),
    TRUST,
)
SOURCE = Setting(
    "source",
    "path, number",
    "image or video, folder, glob in quotes, a .txt or .csv list of these, camera index, stream address "
    "(rtsp://, ...) or .streams file; a sample image for the demo's model",
)
MAX_PIXELS = Setting("max_pixels", COUNT, "larger pictures are skipped and named; 0 reads all", 150_000_000)
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
    r"images that are not independent, such as frames of a video, and are resampled together: a pattern of file names, "
    r"such as '(writer\d+)'; a table image,group; folder; or image, each for itself",
)
BAD = Setting(
    "bad",
    "name",
    "what is done about damaged images and labels: stop; skip, which leaves these images out; or repair, which uses "
    "repaired copies and leaves out what cannot be repaired; the dataset itself stays as it is",
    "stop",
)
BLOCKS = Setting("blocks", "modules", "your modules that register blocks, by name or file, separated by commas")

BLOCK_OPTIONS = (
    Setting("num_heads", COUNT, "number of heads; heads of 32 channels if not given"),
    Setting("mlp_ratio", "number", "hidden width of the MLP as a multiple of the channels; 0 leaves it out", 0.0),
    Setting("gate_init", "number", "start value of the gates; with 0 the outputs stay as they were", 0.0),
    Setting("head_dim", COUNT, "channels of one head"),
    Setting("qkv_bias", FLAG, "whether the query, key and value projection has a bias", True),
    Setting("qk_norm", FLAG, "whether queries and keys are normed", False),
    Setting("attn_drop", "number", "dropout probability on the attention weights", 0.0),
    Setting("proj_drop", "number", "dropout probability on the output of the attention", 0.0),
    Setting("position", "name", "none, dwconv, sincos, rope or relative", "none"),
    Setting("scope", "name", "global, window or axial; at P3 take window, axial or kv_stride=4", "global"),
    Setting("window", COUNT, "height and width of a window in positions; 10 if not given"),
    Setting("kv_stride", COUNT, "height and width of the cells that keys and values are pooled to", 1),
    Setting("context", "place", "of block=CrossScaleMHA: the layer that keys and values come from"),
)

ENGINE = Setting("engine", "name", "local; or ray: each run goes to a machine of a running Ray cluster", "local")
ADDRESS = Setting("address", "name", "with ray: auto for the cluster of this machine, or host:port of its head", "auto")
GPUS = Setting("gpus_per_run", "number", "with ray: GPUs for each run, such as 0.5 where two share one; 0 for CPU", 1)
CPUS = Setting("cpus_per_run", COUNT, "with ray: CPU cores and threads for each run", 1, least=1)
COMMANDS = {
    "insert": Command(NETWORK, replace(AT, required=True), BLOCK, *WRITTEN),
    "remove": Command(
        NETWORK,
        replace(AT, meaning="blocks that go, as for insert, or layer:10, a block's own index; all if not given"),
        *WRITTEN,
    ),
    "train": Command(
        MODEL,
        DATA,
        AT_FIRST,
        BLOCK,
        FREEZE_BASE,
        Setting("resume", "path, True", "last.pt of an interrupted run to go on with, in place of model", False),
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
        Setting("annotations", PATH, "COCO instances JSON, for predictions in place of data"),
        Setting("backend", "name", "what computes the scores: pycocotools or faster-coco-eval", "pycocotools"),
        replace(GROUP, meaning=f"gives AP a 95 % interval. {GROUP.meaning}"),
        BAD,
        TRUST,
        others="validation settings, such as split, imgsz, batch, conf, iou and plots",
    ),
    "predict": Command(
        *LOOKED_AT,
        Setting("slice", "pixels", "predicts tile by tile; 640, or 480,640 for height and width"),
        Setting("overlap", "number", "share of a tile that its neighbour repeats", 0.2),
        replace(ENGINE, meaning="local; or ray: many pictures, shard by shard, on a running Ray cluster"),
        ADDRESS,
        replace(GPUS, name="gpus_per_worker", meaning=GPUS.meaning.replace("run", "worker")),
        replace(CPUS, name="cpus_per_worker", meaning=CPUS.meaning.replace("run", "worker")),
        Setting("shard", COUNT, "with ray: pictures of each file of results", 256, least=1),
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
            meaning="in place of source: measures on this dataset whether the maps are true; beacons is the demo's",
        ),
        Setting("layer", "numbers", "rows of the blocks, separated by commas; all if not given"),
        Setting("head", "numbers", "heads, from 0, separated by commas; all if not given"),
        Setting("box", "pixels", "x1,y1,x2,y2: only the detection whose box overlaps this one most"),
        Setting("sheets", COUNT, "number of detections of each picture, by score, that get a sheet", 10),
        Setting("detections", COUNT, "with data: number of detections that are measured", 200, least=1),
        Setting("drise", COUNT, "with data: number of images that are compared with D-RISE, which is slow", 30),
        replace(GROUP, meaning=f"with data: {GROUP.meaning}"),
        MAX_PIXELS,
        TRUST,
        others="settings conf, imgsz, iou, classes, max_det, agnostic_nms, rect, device, project, name, exist_ok, with "
        "source vid_stride and line_width, with data split",
    ),
    "explore": Command(
        replace(MODEL, meaning="checkpoint with attention blocks", default="demo-mha.pt"),
        replace(MODEL, name="other", meaning="a second checkpoint, shown beside it"),
        Setting("host", "address", "address that the page is served at; 0.0.0.0 for other devices too", "127.0.0.1"),
        Setting("port", COUNT, "its port; 0 takes any that is free", 7860),
        TRUST,
        others="settings conf, imgsz and device",
    ),
    "heads": Command(
        replace(MODEL, meaning="checkpoint with attention blocks", default="demo-mha.pt"),
        replace(DATA, meaning="dataset, as for val; beacons is the demo's", default="beacons"),
        TRUST,
        others="settings split, imgsz, batch, device, project, name and exist_ok",
    ),
    "prune": Command(
        replace(NETWORK, meaning="checkpoint with attention blocks"),
        Setting(
            "heads",
            "share, names",
            "share of all heads that goes, such as 0.5: those with the least gradient on the training images of data; "
            "or the heads by row:head, separated by commas, such as 10:0,10:3; or auto, as many as keep AP within "
            "margin on one half of the validation images",
            required=True,
        ),
        replace(DATA, meaning="dataset, needed for a share and for auto; AP is taken on its validation images"),
        Setting("margin", "number", "AP that may be lost", 0.005),
        replace(GROUP, meaning=f"{GROUP.meaning}; they stay in one half"),
        Setting("epochs", COUNT, "epochs that the pruned model is trained on data afterwards; 0 for none", 0),
        replace(WRITTEN[0], meaning="checkpoint to write; named after the model if not given"),
        *WRITTEN[1:],
        others="settings split, imgsz, batch and device, with epochs training settings too",
    ),
    "export": Command(
        NETWORK,
        Setting("format", "name", "onnx, torchscript, openvino, or another of Ultralytics'", "onnx"),
        replace(DATA, meaning="dataset, for AP before and after; its images prove and calibrate"),
        Setting("half", FLAG, "half precision", False),
        Setting("int8", FLAG, "ONNX with 8-bit convolutions, attention in floating point; needs data", False),
        Setting("fuse_attention", FLAG, "ONNX with attention as ONNX Runtime's own operator", False),
        TRUST,
        others="export settings, such as imgsz, dynamic, batch, opset, nms and simplify",
    ),
    "benchmark": Command(
        NETWORK,
        replace(DATA, meaning="dataset, for AP in each format"),
        Setting("baseline", PATH, "model to compare with; the same without its blocks if not given"),
        Setting(
            "formats",
            "names",
            "some of pytorch, torchscript, onnx, openvino, onnx-fused, onnx-fp16, onnx-int8 (needs data); the first "
            "four, where installed, if not given",
        ),
        Setting("sizes", "pixels", "image sizes, separated by commas; the model's if not given"),
        Setting("batches", "numbers", "numbers of images, separated by commas", 1),
        Setting("rounds", COUNT, "how often each is timed", 30, least=3),
        TRUST,
        others="settings device (cpu if not given), split, project, name and exist_ok",
    ),
    "compare": Command(
        Setting(
            "recipe",
            PATH,
            "recipe YAML with name, data, arms, train, seeds, looks, primary, metric, contrasts, margin, split, group, "
            "keep_best and jobs, or demo.yaml; also without recipe=",
        ),
        replace(MODEL, meaning="the baseline, in place of a recipe"),
        Setting(
            "models",
            "pattern, path",
            "checkpoints that you already have, in place of model: a pattern of paths with {arm} and {seed} in it, "
            "such as 'runs/{arm}-{seed}.pt', or a YAML file with arm: {seed: path}",
        ),
        Setting("predictions", "pattern, path", "COCO results JSON by arm and seed, named in the same way"),
        Setting("baseline", "name", "arm of models or predictions that is the baseline, if none is called baseline"),
        replace(AT, meaning="puts attention into the baseline, at places as for insert"),
        BLOCK,
        replace(FREEZE_BASE, meaning=f"{FREEZE_BASE.meaning}, with at"),
        Setting("attention", PATH, "another model, in place of at"),
        Setting(
            "control",
            "True/False, path",
            "whether to train a convolution of as many parameters; or a model; True with at",
        ),
        DATA,
        Setting("project", PATH, "folder for the folders of all comparisons; runs/compare if not given"),
        Setting("name", "name", "name of its folder; name-2, ... where that is taken", "compare"),
        Setting("seeds", "numbers", "each arm is trained with each of them, separated by commas", (0, 1, 2)),
        Setting(
            "looks",
            "numbers",
            "number of seeds after which results are looked at, and training may stop, such as 3,6 with 10 seeds",
        ),
        Setting("jobs", COUNT, "number of runs at the same time, on this machine", 1, least=1),
        ENGINE,
        ADDRESS,
        GPUS,
        CPUS,
        Setting("primary", "name", "arm that the verdict is about; the first that is no control if not given"),
        Setting("metric", "name", "what it compares: AP, AP50, APsmall, APmedium, APlarge or AP[class,...]", "AP"),
        Setting(
            "contrasts", "text", "others that get a verdict, such as 'attention vs control; attention: AP[pool,lane]'"
        ),
        Setting("margin", "number", "smallest difference in AP that matters", 0.01),
        GROUP,
        BAD,
        Setting("split", "name", "images that are scored in the end: val or test", "val"),
        Setting("keep_best", FLAG, "keeps best.pt of each run beside last.pt, which is the one that is scored", False),
        Setting("conclude", FLAG, "trains nothing; scores and reports the runs that are finished", False),
        Setting("only", "name", "trains this run alone, such as attention/3, and concludes nothing; see status"),
        Setting("status", FLAG, "says what of a comparison runs where, since when, how far, and what failed", False),
        Setting("emit", "name", "slurm: writes a job array with a task for each run, and the job that concludes"),
        Setting("dry_run", FLAG, "only the plan, with an estimate of time, memory and disk space", False),
        Setting("pilot", PATH, "folder of an earlier comparison; dry_run=True says what this one can find"),
        Setting("sd_seeds", "number", "in place of pilot: standard deviation of the difference over seeds"),
        Setting("se_images", "number", "with sd_seeds: standard error for the choice of images"),
        others="training settings, the same for every arm",
    ),
    "doctor": Command(
        NETWORK,
        replace(DATA, meaning="dataset YAML; a made-up batch if not given"),
        replace(AT_FIRST, meaning="where train would put attention first, as for insert"),
        BLOCK,
        BAD,
        TRUST,
        others="training settings, such as imgsz, batch, device and amp",
    ),
    "data": Command(
        Setting("source", PATH, "folder with images and labels of boxes, or its annotation file", required=True),
        Setting("out", PATH, "folder to write; one below runs/datasets if not given"),
        Setting(
            "format",
            "name",
            "yolo, coco, voc, cvat, csv, labelme or ndjson, where the folder holds labels in several formats",
        ),
        Setting(
            "ratios",
            "numbers",
            "shares of train, val and test where the dataset has no split; where only val is missing, it is taken out "
            "of train",
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


def checked(command: Callable[P, R]) -> Callable[P, R]:
    """Check a command's own settings by the table before it is called, from Python as from the command line.

    ``download``, which all commands have, is taken here.
    """
    own = COMMANDS[OTHER_NAMES.get(command.__name__, command.__name__)].own
    names = list(inspect.signature(command).parameters)

    @functools.wraps(command)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        for setting in own:
            if setting.name in given:
                setting.check(given[setting.name])
        with downloads_allowed(bool(kwargs.pop(DOWNLOAD.name, True))):
            return command(*args, **kwargs)

    return call
