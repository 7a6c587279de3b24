"""Inference on images, folders and video."""

from __future__ import annotations

import glob
import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
from PIL import Image
from ultralytics.data.utils import IMG_FORMATS, VID_FORMATS

from ..data.beacons import draw
from ..data.files import whole_file, write_text
from ..errors import DataError, nearest, run_failed
from ..registry import guarded
from . import settings as config
from .model import YOLO, require_detection
from .progress import bar

DEMO_MODEL = "demo-mha.pt"


@dataclass(frozen=True)
class PredictResult:
    """What was found, and where it is written.

    Attributes:
        save_dir: Folder with the annotated pictures or video.
        predictions: JSON Lines, one object an image or frame: ``source``, ``frame``, ``width``, ``height`` and
            ``detections`` of ``name``, ``class``, ``score`` and ``box`` (x1, y1, x2, y2 in pixels); frames count from 0
            in each file.
        images: Number of images and frames.
        found: Number of detections by class name.
        skipped: Files that could not be read.
    """

    save_dir: str
    predictions: str
    images: int
    found: dict[str, int]
    skipped: list[str]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@guarded()
def predict(
    model: str | Path = DEMO_MODEL, source: str | Path | int | None = None, *, trust: bool = False, **settings: Any
) -> PredictResult:
    """Detect objects and draw them.

    Args:
        model: Checkpoint or exported model; the demo's attention model if not given.
        source: Image, folder, glob, video, camera index or stream address; a sample image if not given and the model
            is the demo's.
        trust: Read the checkpoint with full pickle, for files that you made yourself.
        **settings: Ultralytics' prediction settings: ``conf``, ``imgsz``, ``classes``, ``save``, ``save_txt``, ...

    Returns:
        Counts and paths. Results are written while they come, so memory does not grow with the length of a video.

    Raises:
        ConfigError: A setting is unknown or unusable.
        DataError: The source is missing, or nothing in it can be read.
        ModelError, CheckpointError: The model cannot be read.
        UnsupportedTaskError: The model is not for box detection.
    """
    passed = config.check(settings)
    if source is None and str(model) == DEMO_MODEL:
        source = sample_image(Path.cwd() / "runs" / "sample.png")
    files, frames, broken = _check_source(source)
    network = YOLO(model, trust=trust)
    require_detection(network.task, "predict")
    with tempfile.TemporaryDirectory() as folder:
        if broken:  # Ultralytics stops at a broken video, so it gets a list of the others
            intact = "".join(f"{Path(f).absolute()}\n" for f in files if f not in broken)
            source = write_text(Path(folder) / "intact.txt", intact)
        arguments = {"save": True, "verbose": False, **config.in_working_directory(passed), "source": source}
        try:
            results = network.predict(stream=True, **arguments)
            first = next(results, None)
        except Exception as e:  # whatever Ultralytics or the source's backend meets
            raise run_failed("Prediction", e) from e
        if first is None:
            raise DataError(
                "Nothing in the source could be read.", given=f"source={source}", expected="images or a video"
            )
        save_dir = Path(first.save_dir or network.predictor.save_dir)
        found, seen = _write(_chain(first, results), save_dir / "predictions.jsonl", frames)
    skipped = {*broken, *(f for f in files if str(Path(f).absolute()) not in seen)}
    return PredictResult(str(save_dir), str(save_dir / "predictions.jsonl"), seen.total(), dict(found), sorted(skipped))


def _write(results: Iterator[Any], file: Path, total: int | None) -> tuple[Counter[str], Counter[str]]:
    """Write results as they come; count the detections by class name and the frames by absolute path."""
    found: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    with whole_file(file) as lines, lines.open("w", encoding="utf-8") as out, bar() as progress:
        task = progress.add_task("predicting", total=total)
        for result in results:
            path = str(Path(result.path).absolute())
            record = _record(result, seen[path])
            seen[path] += 1
            found.update(d["name"] for d in record["detections"])
            out.write(json.dumps(record) + "\n")
            progress.update(task, advance=1)
    return found, seen


def _chain(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    with closing(rest):  # type: ignore[type-var]
        yield first
        yield from rest


def _record(result: Any, frame: int) -> dict[str, Any]:
    boxes = result.boxes
    height, width = result.orig_shape
    return {
        "source": str(result.path),
        "frame": frame,
        "width": width,
        "height": height,
        "detections": [
            {"name": result.names[int(c)], "class": int(c), "score": s, "box": box}
            for c, s, box in zip(boxes.cls.tolist(), boxes.conf.tolist(), boxes.xyxy.tolist(), strict=True)
        ],
    }


def _check_source(source: Any) -> tuple[list[str], int | None, list[str]]:
    """List what a source holds, as Ultralytics will, before the model is loaded.

    Returns:
        The image and video files; how many images and frames they hold, None where that is not known; and the files
        that cannot be read.

    Raises:
        DataError: The source is missing, or no image in it can be read.
    """
    text = str(source)
    if source is None or text == "":
        raise DataError("source is missing.", expected="source=image.jpg, a folder, a video, a camera or a stream")
    path = Path(text)
    if text.isdigit() or "://" in text or (path.suffix in (".txt", ".streams", ".csv") and path.is_file()):
        return [], None, []
    if path.is_file():
        files = [text]
    elif path.is_dir():
        files = sorted(glob.glob(str(Path(glob.escape(text)) / "*.*")))
    else:
        files = sorted(glob.glob(text, recursive=True))
    media = [f for f in files if Path(f).suffix[1:].lower() in IMG_FORMATS | VID_FORMATS]
    if not media:
        near = [str(p) for p in (path.parent.glob("*") if path.parent.is_dir() else ())]
        raise DataError(
            "The source has no image or video." if path.exists() else "Source not found.",
            given=f"source={text}",
            expected=nearest(text, near) if near and not path.exists() else "files such as x.jpg, x.png, x.mp4",
        )
    frames, broken = 0, []
    for file in media:
        if Path(file).suffix[1:].lower() in VID_FORMATS:
            video = cv2.VideoCapture(file)
            frames += max(int(video.get(cv2.CAP_PROP_FRAME_COUNT)), 0)
            if not video.isOpened():
                broken.append(file)
            video.release()
        elif _readable(file):
            frames += 1
        else:
            broken.append(file)
    if len(broken) == len(media):
        raise DataError(
            "No image or video of the source can be read.", given=", ".join(broken[:5]), expected="intact files"
        )
    return media, frames, broken


def _readable(file: str) -> bool:
    try:
        with Image.open(file) as image:
            image.verify()
    except Exception:  # PIL raises many kinds for a broken file
        return False
    return True


def sample_image(path: Path) -> Path:
    """Draw a picture of the demo's task that no model was trained on."""
    with whole_file(path) as temporary:
        cv2.imwrite(str(temporary), draw(seed=1, index=0)[0])
    return path
