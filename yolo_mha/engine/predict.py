"""Detection and tracking in pictures, videos, cameras and streams."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import cv2
import torch
from ultralytics.utils.checks import check_imshow

from ..data.beacons import draw
from ..data.files import clear_unfinished, whole_file
from ..data.labels import MAX_NAMED
from ..data.pictures import MOST_PIXELS
from ..errors import ConfigError, DataError, run_failed
from ..guard import guarded
from ..result import Result
from . import settings as config
from .inference import by_batch, by_tile
from .loader import Loader
from .model import YOLO, require_detection
from .outputs import JSONL, Outputs
from .own_settings import checked
from .progress import bar
from .run_folder import cannot_write, run_folder, taken
from .signals import held_back, stopped_code
from .slicing import check_tiles, wanted
from .sources import Frame, Skipped, find
from .tracking import find_tracker

DEMO_MODEL = "demo-mha.pt"
SAMPLE = Path("runs/datasets/sample.png")
OWN_SETTINGS = ("save_csv", "max_pixels", "slice", "overlap")
TILE_OVERLAP = 0.2
# What is written here, and not by the predictor
FILE_SETTINGS = ("save", "save_txt", "save_conf", "save_crop", "save_json", "save_frames")


@dataclass(frozen=True)
class PredictResult(Result):
    """What was detected, and which files were written.

    Attributes:
        save_dir: Folder of all that was written.
        predictions: JSON Lines, one object an image or frame: ``source``, ``frame``, ``name`` by which its other
            files go, ``width``, ``height`` and ``detections`` of ``name``, ``class``, ``score``, ``box`` (x1, y1, x2,
            y2 in pixels) and, when tracking, ``id``. Frames count from 0 in each
            file; with ``vid_stride`` and after damage they keep their number.
        images: Number of images and frames.
        found: Number of detections by class name.
        skipped: Files that could not be read, and files with the frames that were lost.
        skipped_count: Number of these files and frames.
        outputs: File or folder of each kind of output that there is.
        notes: What else is good to know.
        tracks: Number of objects that were followed; None without tracking.
        interrupted: Whether Ctrl-C or SIGTERM ended it. What was written up to there is complete.
        exit_code: 0; 1 where something was skipped; 130 after Ctrl-C; that of the signal's handler after SIGTERM.
    """

    save_dir: str
    predictions: str
    images: int
    found: dict[str, int]
    skipped: list[str]
    skipped_count: int
    outputs: dict[str, str]
    notes: list[str]
    tracks: int | None = None
    interrupted: bool = False
    exit_code: int = 0


@checked
def predict(
    model: str | Path = DEMO_MODEL,
    source: str | Path | int | list[str | Path] | None = None,
    *,
    trust: bool = False,
    **settings: Any,
) -> PredictResult:
    """Detect objects and draw them.

    Args:
        model: Checkpoint or exported model; the demo's attention model if not given.
        source: Image, folder, glob, list of these (``.txt``, ``.csv`` or a Python list), video, camera index, stream
            address, or a ``.streams`` file of several; a sample image if not given and the model is the demo's.
        trust: Open also what could run code, for files that you made yourself, see `YOLO`.
        **settings: Ultralytics' prediction settings: ``conf``, ``imgsz``, ``classes``, ``batch``, ``vid_stride``,
            ``save``, ``save_txt``, ``save_conf``, ``save_crop``, ``save_json``, ``save_frames``, ... Of our own:
            ``save_csv=True``; ``max_pixels``, above which a picture is skipped (150 million; 0 reads all);
            and ``slice``, the side of square tiles or [height, width] in pixels, with ``overlap``
            (0.2), their share that neighbours repeat, to predict tile by tile, see `Slicer`.

    Returns:
        Counts and paths. Results are written while they come, so memory does not grow with the length of a video.

    Raises:
        ConfigError: A setting is unknown or unusable.
        DataError: The source is missing, or nothing in it can be read.
        DependencyError: A package is missing that the model or slicing needs.
        ModelError, CheckpointError: The model cannot be read.
        UnsupportedTaskError: The model is not for box detection.
        KeyboardInterrupt, SystemExit: It was interrupted by Ctrl-C or SIGTERM; what was done is complete, and the
            exception's attribute ``result`` is the answer up to there.
    """
    if source is None and str(model) == DEMO_MODEL:
        config.check(settings, own=OWN_SETTINGS)  # before anything is written
        source = sample_image(SAMPLE.absolute())
    return _predict(model, source, None, trust=trust, **settings)


@checked
def track(
    model: str | Path = DEMO_MODEL,
    source: str | Path | int | list[str | Path] | None = None,
    *,
    tracker: str | Path | None = None,
    trust: bool = False,
    **settings: Any,
) -> PredictResult:
    """Detect objects, follow them from frame to frame, and draw them with their ids.

    Ids begin at 1 in each video, and in each camera or stream. The pictures of a folder, sorted by name, are taken as
    one video.

    Args:
        model: Checkpoint or exported model.
        source: As for `predict`.
        tracker: One of Ultralytics' trackers by name, or a tracker YAML; its own default if not given.
        trust: Open also what could run code, for files that you made yourself, see `YOLO`.
        **settings: As for `predict`, without ``slice``. ``conf`` is 0.1 if not given, as in Ultralytics: trackers use
            faint detections to hold on to an object.

    Returns:
        As `predict`; detections have an ``id``.

    Raises:
        YoloMHAError: As `predict`; a `DependencyError` also where ``lap`` is missing.
    """
    return _predict(model, source, find_tracker(tracker), trust=trust, **settings)


@guarded()
def _predict(model: str | Path, source: Any, tracker: str | None, /, *, trust: bool, **settings: Any) -> PredictResult:
    names = config.class_names(settings)
    passed = check_prediction(tracker, **{k: v for k, v in settings.items() if k != "classes" or not names})
    max_pixels = settings.get("max_pixels", MOST_PIXELS)
    found = find(source, max_pixels)
    command = "track" if tracker else "predict"
    network = open_model(model, trust, command, passed, names)
    stride = passed.get("vid_stride") or 1
    loader = Loader(found, passed.get("batch") or 1, stride, bool(passed.get("stream_buffer")), max_pixels)
    run = Delivery(loader, tracker is not None)
    try:
        with run_folder(passed, command) as folder:
            found.require_outside(folder)
            _require_earlier_run(folder)
            results = look(network, loader, tracker, folder, settings, passed)
            with closing(loader), closing(results):
                delivered = run.delivered(results)
                first = next(delivered, None)
                if first is None:
                    raise nothing_read(source, loader.skipped, stride)
                run.notes += config.imgsz_notes(settings.get("imgsz"), network.predictor.imgsz)
                run.notes += config.own_nms_notes(network.own_nms)
                outputs = Outputs(folder, {"save": True, **settings})
                run.write(outputs, chain([first], delivered), found.total(stride))
    except (KeyboardInterrupt, SystemExit) as stop:
        if run.outputs is not None:
            stop.result = run.answer(run.outputs, stop)  # type: ignore[union-attr]
        raise
    except Exception as e:  # whatever Ultralytics or the source's backend meets
        raise run_failed("Prediction", e) from e
    return run.answer(outputs)


def _require_earlier_run(folder: Path) -> None:
    """Make sure that a folder is new or holds what `predict` has written, which it may replace.

    Raises:
        ConfigError: It holds other files alone.
    """
    found = sorted(file.name for file in folder.iterdir() if not file.name.startswith("."))
    if found and JSONL not in found:
        raise ConfigError(
            "The folder holds files that are not of an earlier prediction, so nothing is written there.",
            given=f"{folder} with {', '.join(found[:MAX_NAMED])}",
            expected=f"a new folder, or one with {JSONL}",
            fix="leave exist_ok out, or name another folder with project= and name=",
        )


def open_model(
    model: str | Path, trust: bool, command: str, passed: Mapping[str, Any], names: Sequence[str] = ()
) -> YOLO:
    """Open a model, and make sure that it can do what is asked for.

    Args:
        model: As for `predict`.
        trust: As for `predict`.
        command: The command.
        passed: Ultralytics' settings.
        names: Classes by name, which no model takes.

    Raises:
        ConfigError: It cannot.
        ModelError, CheckpointError: It cannot be read.
        UnsupportedTaskError: It is not for box detection.
    """
    network = YOLO(model, trust=trust)
    require_detection(network.task, command)
    if names:
        raise config.not_by_name(names, network.names)
    if passed.get("augment") and not isinstance(network.model, torch.nn.Module):
        raise ConfigError("An exported model cannot augment.", given="augment=True", expected="a .pt model")
    return network


def look(
    network: YOLO,
    loader: Loader,
    tracker: str | None,
    folder: Path,
    settings: Mapping[str, Any],
    passed: Mapping[str, Any],
) -> Generator[tuple[Frame, Any], None, None]:
    """Yield frames with Ultralytics' results.

    Args:
        network: The model.
        loader: What it looks at.
        tracker: See `find_tracker`; None to follow nothing.
        folder: Where Ultralytics would write.
        settings: As for `predict`.
        passed: Those of Ultralytics.
    """
    arguments = {"verbose": False, **passed, **dict.fromkeys(FILE_SETTINGS, False), **taken(folder)}
    if wanted(settings.get("slice")):
        return by_tile(network, loader, settings["slice"], settings.get("overlap", TILE_OVERLAP), **arguments)
    return by_batch(network, loader, tracker, **arguments)


class Delivery:
    """Writes results to the files as they arrive, and counts them.

    Args:
        loader: Where they come from.
        following: Whether objects are followed.
    """

    def __init__(self, loader: Loader, following: bool) -> None:
        self.loader, self.following = loader, following
        self.outputs: Outputs | None = None
        self.images = 0
        self.found: Counter[str] = Counter()
        self.followed: set[tuple[str, int]] = set()
        self.quiet: Counter[str] = Counter()
        self.notes: list[str] = []

    def delivered(self, results: Iterator[tuple[Frame, Any]]) -> Iterator[tuple[Frame, Any]]:
        """Leave out the frames that a stream did not deliver, and count them."""
        silent = self.loader.skipped.silent
        begun: set[str] = set()
        for frame, result in results:
            if not frame.silent:
                begun.add(frame.source)
                if quiet := self.quiet.pop(frame.source, 0):
                    silent[frame.source] += quiet
                yield frame, result
            elif frame.source in begun:  # perhaps its end, at which a stream is silent too and nothing is lost
                self.quiet[frame.source] += 1
            else:
                silent[frame.source] += 1

    def write(self, outputs: Outputs, results: Iterator[tuple[Frame, Any]], total: int | None) -> None:
        """Write results as they come."""
        self.outputs = outputs
        with outputs, bar("images") as progress:
            task = progress.add_task("tracking" if self.following else "predicting", total=total)
            for frame, result in results:
                with held_back():  # what is counted is in every file
                    detections = outputs.write(frame, result).detections
                    self.images += 1
                    self.found.update(d.name for d in detections)
                    self.followed.update((frame.sequence, d.id) for d in detections if d.id is not None)
                progress.update(task, advance=1)

    def answer(self, outputs: Outputs, stop: BaseException | None = None) -> PredictResult:
        """Say what was done, up to an interruption."""
        skipped = self.loader.skipped
        return PredictResult(
            save_dir=str(outputs.folder),
            predictions=outputs.paths["jsonl"],
            images=self.images,
            found=dict(self.found),
            skipped=skipped.names,
            skipped_count=skipped.count,
            outputs=outputs.paths,
            notes=[*self.notes, *skipped.remarks, *(["Audio is not kept."] if outputs.videos else [])],
            tracks=len(self.followed) if self.following else None,
            interrupted=stop is not None,
            exit_code=stopped_code(stop) if stop else int(skipped.count > 0),
        )


def check_prediction(tracker: str | None, /, **settings: Any) -> dict[str, Any]:
    """Check all settings, also for what is not done here, and return those of Ultralytics."""
    passed = config.check(settings, own=OWN_SETTINGS)
    config.check_images_at_once(passed)
    tiles = wanted(settings.get("slice"))
    unlabelled, heatmaps = settings.get("save_conf") and not settings.get("save_txt"), passed.get("visualize")
    unseen = passed.get("show") and not check_imshow()
    refused = [
        ("save_conf", unlabelled, "save_conf is of label files.", "save_txt=True beside it", None),
        ("visualize", heatmaps, "Heatmaps are not made here.", "no visualize", "yolo predict visualize=True"),
        ("tracker", passed.get("tracker") is not None, "predict follows nothing.", "no tracker", "yolo-mha track"),
        ("overlap", "overlap" in settings and not tiles, "overlap is of tiles.", "slice=640 beside it", None),
        ("show", unseen, "There is no screen to show anything on.", "no show, or a display", None),
    ]
    if tiles:
        check_tiles(settings["slice"], settings.get("overlap", TILE_OVERLAP))
        for key, given in (("tracker", tracker), ("augment", passed.get("augment")), ("show", passed.get("show"))):
            refused.append(("slice", given, f"slice does not go with {key}.", "one of them", None))
    for key, wrong, problem, expected, fix in refused:
        if wrong:
            raise ConfigError(problem, given=f"{key}={settings[key]}", expected=expected, fix=fix)
    return passed


def nothing_read(source: object, skipped: Skipped, stride: int) -> DataError:
    """Say that nothing in a source could be read.

    Args:
        source: What was given.
        skipped: What could not be read.
        stride: Of videos, every so many frames.
    """
    given = ", ".join(skipped.names[:5]) or f"source={source}"
    if skipped.silent.total():
        return DataError("There was no signal.", given=given, expected="a camera or stream with a picture")
    expected = "images or a video" if stride == 1 else f"images, or videos of {stride} frames or more"
    return DataError("Nothing in the source could be read.", given=given, expected=expected)


def sample_image(path: Path) -> Path:
    """Draw a picture of the demo's task that no model was trained on.

    Raises:
        ConfigError: It cannot be written.
    """
    try:
        clear_unfinished(path.parent)
        with whole_file(path) as temporary:
            cv2.imwrite(str(temporary), draw(seed=1, index=0)[0])
    except OSError as e:
        raise cannot_write(path, e) from e
    return path
