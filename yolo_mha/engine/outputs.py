"""What prediction writes: one small class a kind of file, each written while results come and closed in every case."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, count, repeat
from pathlib import Path
from typing import Any

import cv2
from PIL import Image
from ultralytics.utils.plotting import save_one_box

from ..data.files import whole_file
from ..errors import RunError, one_line
from ..text import cell, printable
from .signals import held_back
from .sources import Frame
from .video import DISK_FIX, VideoWriter

JSONL = "predictions.jsonl"
LONGEST_NAME = 150  # bytes
CSV_COLUMNS = ("source", "frame", "class", "name", "score", "x1", "y1", "x2", "y2", "id")


@dataclass(frozen=True)
class Detection:
    """One object that was found.

    Attributes:
        name: Name of its class.
        index: Index of its class.
        score: Score.
        box: x1, y1, x2, y2 in pixels.
        id: The object that it is of, where objects are followed; None otherwise.
    """

    name: str
    index: int
    score: float
    box: list[float]
    id: int | None = None


@dataclass(frozen=True)
class Item:
    """A result on its way to the files.

    Attributes:
        frame: What was looked at.
        result: Ultralytics' result for it.
        base: Name of the source; what comes of it is unlike the names of all others in this run.
        drawing: Ultralytics' settings of `Results.plot`.
    """

    frame: Frame
    result: Any
    base: str
    drawing: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The base, and for a frame of a video or stream its index."""
        return self.base if self.frame.fps is None else f"{self.base}_{self.frame.index}"

    @cached_property
    def detections(self) -> list[Detection]:
        """What was found."""
        boxes, names = self.result.boxes, self.result.names
        ids = map(int, boxes.id.tolist()) if boxes.is_track else repeat(None)
        columns = zip(boxes.cls.tolist(), boxes.conf.tolist(), boxes.xyxy.tolist(), ids, strict=False)
        return [Detection(names[int(index)], int(index), *rest) for index, *rest in columns]

    @cached_property
    def drawn(self) -> Any:
        """The picture with boxes, BGR."""
        return self.result.plot(**self.drawing)


class Output(ABC):
    """A kind of file.

    Attributes:
        kind: What it is called in the answer.
        path: The file or folder, None where there is none yet.
    """

    kind: str
    path: Path | None = None

    @abstractmethod
    def write(self, item: Item) -> None:
        """Add a result."""

    def close(self) -> None:  # noqa: B027  (most have nothing open)
        """Finish the file, where one is open."""


class Growing(Output):
    """A text file that is whole at any moment: each text is in it or not, also where the disk gets full.

    Args:
        path: The file; one that is there is replaced.
        start: What it begins with.
        end: What it ends with.
    """

    def __init__(self, path: Path, start: str = "", end: str = "") -> None:
        self._end = end.encode()
        self._length = len(start.encode())  # without the end
        with whole_file(path) as temporary:
            temporary.write_bytes(start.encode() + self._end)
        self.path, self._file = path, path.open("r+b", buffering=0)

    def add(self, text: str) -> None:
        """Add a text before the end.

        Raises:
            OSError: It cannot be written; the file is as it was.
        """
        data = text.encode()
        try:
            self._put(data + self._end)
        except OSError:
            self._file.truncate(self._length)
            self._put(self._end)
            raise
        self._length += len(data)

    def close(self) -> None:
        self._file.close()

    def _put(self, data: bytes) -> None:
        self._file.seek(self._length)
        while data:
            data = data[self._file.write(data) :]


class JsonLines(Growing):
    """``predictions.jsonl``: one object an image or frame."""

    kind = "jsonl"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / JSONL)

    def write(self, item: Item) -> None:
        height, width = item.result.orig_shape
        found = [
            {"name": d.name, "class": d.index, "score": d.score, "box": d.box, **({} if d.id is None else {"id": d.id})}
            for d in item.detections
        ]
        record = {"source": item.frame.source, "frame": item.frame.index, "name": item.name}
        self.add(json.dumps({**record, "width": width, "height": height, "detections": found}) + "\n")


class CocoJson(Growing):
    """``predictions.json``: COCO results, which `val` reads; ``file_name`` and ``category_name`` tell them apart.

    An image id is the name of the picture or frame, as a number where it is one; a category id is the class index.
    """

    kind = "json"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "predictions.json", "[", "\n]\n")
        self._separator = "\n"

    def write(self, item: Item) -> None:
        entries = []
        for found in item.detections:
            x1, y1, x2, y2 = found.box
            entry = {
                "image_id": _image_id(item.name),
                "category_id": found.index,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "score": found.score,
                "file_name": Path(item.frame.source).name,
                "category_name": found.name,
                **({} if item.frame.fps is None else {"frame": item.frame.index}),
                **({} if found.id is None else {"track_id": found.id}),
            }
            entries.append(json.dumps(entry))
        if entries:
            self.add(self._separator + ",\n".join(entries))
            self._separator = ",\n"


class Csv(Growing):
    """``predictions.csv``: one row a detection."""

    kind = "csv"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "predictions.csv", _csv([CSV_COLUMNS]))

    def write(self, item: Item) -> None:
        where = cell(printable(item.frame.source)), item.frame.index
        self.add(
            _csv(
                (*where, d.index, cell(d.name), d.score, *d.box, "" if d.id is None else d.id) for d in item.detections
            )
        )


def _csv(rows: Iterable[tuple[Any, ...]]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue()


class Labels(Output):
    """``labels/``: Ultralytics' label files, with scores if wanted and ids when tracking."""

    kind = "labels"

    def __init__(self, folder: Path, save_conf: bool) -> None:
        self.path: Path = folder / self.kind
        self.path.mkdir(exist_ok=True)
        self._save_conf = save_conf

    def write(self, item: Item) -> None:
        file = self.path / f"{item.name}.txt"
        if not item.detections:
            file.unlink(missing_ok=True)
            return
        with whole_file(file) as temporary:
            item.result.save_txt(temporary, save_conf=self._save_conf)


class Crops(Output):
    """``crops/CLASS/NAME_0.jpg``: the cut-out detections, by their position in ``detections``.

    Ultralytics' own numbers are ambiguous: ``x2.jpg`` may be the second one of ``x`` or the first one of ``x2``.
    """

    kind = "crops"

    def __init__(self, folder: Path) -> None:
        self.path: Path = folder / self.kind
        self.path.mkdir(exist_ok=True)
        self._earlier: dict[str, list[Path]] = {}  # of a run in the same folder
        for file in self.path.glob("*/*_*.jpg"):
            self._earlier.setdefault(file.stem.rpartition("_")[0], []).append(file)

    def write(self, item: Item) -> None:
        for file in self._earlier.pop(item.name, []):
            file.unlink(missing_ok=True)
        for i, found in enumerate(item.detections):
            crop = save_one_box(item.result.boxes.xyxy[i], item.result.orig_img.copy(), BGR=True, save=False)
            with whole_file(self.path / _folder_name(found.name) / f"{item.name}_{i}.jpg") as temporary:
                rgb = crop[..., 0] if crop.shape[-1] == 1 else crop[..., ::-1]
                Image.fromarray(rgb).save(temporary, quality=95, subsampling=0)  # as Ultralytics does


class Several(Output):
    """Files or folders below one folder; the path is that of the only one, or of the folder where there are more."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _note(self, path: Path) -> Path:
        self.path = path if self.path in (None, path) else self._folder
        return path


class Drawn(Several):
    """Pictures with boxes as ``.jpg``, videos with boxes at the rate and size of theirs, without sound."""

    kind = "annotated"

    def __init__(self, folder: Path, stride: int) -> None:
        super().__init__(folder)
        self._stride = stride
        self._open: dict[str, VideoWriter] = {}
        self.videos = 0

    def write(self, item: Item) -> None:
        if item.frame.fps is None:
            _write_picture(self._note(self._folder / f"{item.base}.jpg"), item.drawn)
            return
        if item.base not in self._open:
            if not item.frame.live:
                self.close()  # files come one after the other
            height, width = item.drawn.shape[:2]
            rate = item.frame.fps / self._stride
            self._open[item.base] = VideoWriter(self._folder / item.base, rate, width, height)
            self._note(self._open[item.base].path)
            self.videos += 1
        self._open[item.base].write(item.drawn)

    def close(self) -> None:
        while self._open:
            self._open.popitem()[1].close()


class DrawnFrames(Several):
    """``NAME_frames/``: each frame of a video or stream with boxes, as ``.jpg``."""

    kind = "frames"

    def write(self, item: Item) -> None:
        if item.frame.fps is not None:
            folder = self._note(self._folder / f"{item.base}_frames")
            folder.mkdir(exist_ok=True)
            _write_picture(folder / f"{item.name}.jpg", item.drawn)


class Names:
    """Names for sources, so that no two pictures or frames of a run have the same name or the same COCO image id.

    A picture has the name of its source, a frame ``SOURCE_INDEX``; a source that would give a name for the second time
    gets -2, as in Ultralytics.
    """

    def __init__(self) -> None:
        self._videos: dict[str, str] = {}  # names by source
        self._taken: set[str | int] = set()  # by sources, as image ids
        self._before_index: set[str | None] = set()  # v, where a picture is called v_0

    def base(self, frame: Frame) -> str:
        """Name the source of a frame."""
        is_video = frame.fps is not None
        if is_video and frame.source in self._videos:
            return self._videos[frame.source]
        stem = shortened(frame.source if frame.live else Path(frame.source).stem)
        bases = chain([stem], (f"{stem}-{number}" for number in count(2)))
        base = next(base for base in bases if self._is_free(base, is_video))
        self._taken.add(_image_id(base))
        if is_video:
            self._videos[frame.source] = base
        else:
            self._before_index.add(_video_of(base))
        return base

    def _is_free(self, base: str, is_video: bool) -> bool:
        if _image_id(base) in self._taken:
            return False
        return base not in self._before_index if is_video else _video_of(base) not in self._videos.values()


def _image_id(name: str) -> str | int:
    """Return a name as COCO results have it: as a number where it is one."""
    return int(name) if name.isascii() and name.isdecimal() else name


def _video_of(name: str) -> str | None:
    """Return the name of the video of which a frame could have this name, if there can be one."""
    match = re.fullmatch(r"(.*)_(?:0|[1-9][0-9]*)", name, re.DOTALL)
    return match and match[1]


class Outputs:
    """All kinds of files that were asked for, in one folder.

    Args:
        folder: Where they go; it is made.
        settings: Ultralytics' settings ``save``, ``save_txt``, ``save_conf``, ``save_crop``, ``save_json``,
            ``save_frames``, ``vid_stride`` and those of drawing; and ``save_csv``.

    Attributes:
        folder: Where they go.
        drawing: What is drawn.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.drawing = {name: settings.get(f"show_{name}", True) for name in ("conf", "labels", "boxes")}
        self.drawing["line_width"] = settings.get("line_width")
        self._names = Names()
        self._all: list[Output] = []
        kinds: tuple[tuple[object, Callable[[], Output]], ...] = (
            (True, lambda: JsonLines(folder)),
            (settings.get("save_json"), lambda: CocoJson(folder)),
            (settings.get("save_csv"), lambda: Csv(folder)),
            (settings.get("save_txt"), lambda: Labels(folder, bool(settings.get("save_conf")))),
            (settings.get("save_crop"), lambda: Crops(folder)),
            (settings.get("save"), lambda: Drawn(folder, settings.get("vid_stride") or 1)),
            (settings.get("save_frames"), lambda: DrawnFrames(folder)),
        )
        with ExitStack() as opened:
            for wanted, make in kinds:
                if wanted:
                    self._all.append(make())
                    opened.callback(self._all[-1].close)
            self._closing = opened.pop_all()

    def __enter__(self) -> Outputs:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with held_back():
            try:
                with self._writing():
                    self._closing.close()
            except RunError:
                if kind is None or not issubclass(kind, Exception):
                    raise  # otherwise the first error says more

    def write(self, frame: Frame, result: Any) -> Item:
        """Write a result to all files, and return it with its detections.

        Raises:
            RunError: A file cannot be written, such as on a full disk.
        """
        item = Item(frame, result, self._names.base(frame), self.drawing)
        with self._writing():
            for output in self._all:
                output.write(item)
        return item

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as e:
            raise RunError("The results cannot be written.", given=f"{self.folder}: {one_line(e)}", fix=DISK_FIX) from e

    @property
    def paths(self) -> dict[str, str]:
        """File or folder by kind, of what there is."""
        return {output.kind: str(output.path) for output in self._all if output.path is not None}

    @property
    def videos(self) -> int:
        """Number of videos that were written."""
        return sum(output.videos for output in self._all if isinstance(output, Drawn))


def shortened(name: str) -> str:
    """Return a name with room for what is added to it: a file system takes 255 bytes."""
    content = os.fsencode(name)
    return name if len(content) <= LONGEST_NAME else content[:LONGEST_NAME].decode(errors="ignore")


def _folder_name(name: str) -> str:
    """Return a class name without what would lead to another folder."""
    return shortened(re.sub(r"[/\\:\0]|^\.+", "_", name)) or "_"


def _write_picture(file: Path, image: Any) -> None:
    with whole_file(file) as temporary:
        temporary.write_bytes(cv2.imencode(file.suffix, image)[1].tobytes())  # cv2.imwrite does not report a full disk
