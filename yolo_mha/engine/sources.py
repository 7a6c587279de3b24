"""What there is to look at: pictures, video files, cameras and streams, one frame after another."""

from __future__ import annotations

import csv
import glob
import io
import re
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import cv2
import numpy as np
from ultralytics.data.loaders import LoadStreams
from ultralytics.data.utils import IMG_FORMATS, VID_FORMATS

from ..data.pictures import MOST_PIXELS
from ..errors import ConfigError, DataError, nearest, one_line
from ..paths import can_be_path
from .pictures import flags_for, read_picture, remark, skipped_name
from .video import Image, count_frames, read_video, usable_fps

OPEN_TIMEOUT_MS = 5000
MOST_VIDEOS_COUNTED = 100  # of more, frames are not counted beforehand: every file would have to be opened
PATH_HEADINGS = {"source", "path", "image", "file", "filename", "filepath"}  # of columns of a CSV file
PATH_HEADINGS |= {"imagepath", "imagefile", "video", "videopath"}
MAX_RANGES_NAMED = 20  # of lost frames


@dataclass(frozen=True)
class Source:
    """Files in the order in which they are read, or streams.

    Attributes:
        pictures: Absolute paths.
        videos: Absolute paths, or addresses of video files.
        stream: A camera index, a stream address, or a ``.streams`` file of several that are read side by side.
        slots: Number of streams.
        missing: Entries of a list that do not exist or hold no image and no video.
    """

    pictures: list[str] = field(default_factory=list)
    videos: list[str] = field(default_factory=list)
    stream: str = ""
    slots: int = 0
    missing: list[str] = field(default_factory=list)

    def require_outside(self, folder: Path) -> None:
        """Make sure that results in a folder do not replace what they are made of.

        Raises:
            ConfigError: A picture or video is in the folder, or below it.
        """
        for parent in {Path(file).parent for file in (*self.pictures, *self.videos)}:
            if folder in (real := parent.resolve(), *real.parents):
                raise ConfigError(
                    "The source is in the folder that the results go to, where they would replace it.",
                    given=f"source in {parent}, results in {folder}",
                    expected="another folder for the results",
                    fix="leave exist_ok out, or name another folder with project= and name=",
                )

    def total(self, stride: int) -> int | None:
        """Return the number of pictures and frames that will come, None where it is not known."""
        if self.stream or len(self.videos) > MOST_VIDEOS_COUNTED:
            return None
        counts = [count_frames(video) for video in self.videos]
        known = [count for count in counts if count is not None]
        return len(self.pictures) + sum(c // stride for c in known) if len(known) == len(counts) else None


@dataclass(frozen=True)
class Frame:
    """A picture, or a frame of a video or stream.

    Attributes:
        source: Path or address.
        image: BGR, of shape (H, W, 3); other channels for a model that was trained on others.
        index: Position in the video or stream, from 0.
        fps: Frames per second of the video or stream; None for a picture.
        live: Whether it comes from a camera or stream.
        silent: Whether it replaces a frame that a stream did not deliver.
        sequence: The same for what belongs together: the frames of a video or stream, the pictures of a folder.
    """

    source: str
    image: Image
    index: int = 0
    fps: float | None = None
    live: bool = False
    silent: bool = False
    sequence: str = ""


@dataclass
class Skipped:
    """What could not be read: whole files, frames of videos, and how often a stream was silent."""

    files: list[str] = field(default_factory=list)
    frames: list[str] = field(default_factory=list)
    silent: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    remarks: list[str] = field(default_factory=list)  # on pictures that were read all the same

    def add_frames(self, path: str, lost: list[range], total: int) -> None:
        """Take note of frames of a video; where none are named, of all of it."""
        if not lost:
            self.files.append(path)
            return
        number = sum(map(len, lost))
        named = [f"{r.start}-{r.stop - 1}" if len(r) > 1 else str(r.start) for r in lost[:MAX_RANGES_NAMED]]
        more = ", ..." if len(lost) > MAX_RANGES_NAMED else ""
        share = f"{number} of {total}" if total else str(number)
        self.frames.append(f"{path}: frames {', '.join(named)}{more} ({share})")
        self.lost += number

    @property
    def count(self) -> int:
        """Number of files and frames."""
        return len(self.files) + self.lost + self.silent.total()

    @property
    def names(self) -> list[str]:
        """Everything by name."""
        silent = [f"{address}: {n} frames without a signal" for address, n in self.silent.items()]
        return [*sorted(self.files), *self.frames, *silent]


def find(source: Any, max_pixels: int = MOST_PIXELS) -> Source:
    """Find out what a source is, and that something in it can be read, before a model is loaded.

    Args:
        source: An image or video file, a folder, a glob, a ``.txt`` or ``.csv`` file or a Python list of these; a
            camera index, a stream address, or a ``.streams`` file with several.
        max_pixels: Of the largest picture that is read; 0 for any.

    Raises:
        DataError: It is missing, empty, or nothing in it can be read.
    """
    if source is None or (isinstance(source, str) and not source.strip()):
        raise DataError("source is missing.", expected="source=image.jpg, a folder, a video, a camera or a stream")
    several = isinstance(source, (list, tuple))
    if others := [part for part in (source if several else [source]) if not isinstance(part, (str, int, Path))]:
        given = type(others[0]).__name__ + (" in a list" if several else "")
        expected = "a path, a list of paths, a camera index or a stream address"
        raise DataError("source has an unsupported type.", given=given, expected=expected)
    if several:
        return _readable(_listed(map(str, source), Path.cwd()), max_pixels)
    text, path = str(source), Path(str(source))
    if text.startswith("file://"):
        return find(url2pathname(urlsplit(text).path), max_pixels)
    if "://" in text:
        return _address(text)
    if not can_be_path(text):
        raise DataError("source is not a valid path.", given=text[:80], expected="the path of a file or folder")
    if text.isascii() and text.isdecimal() and not path.exists():
        return _address(text)
    if path.suffix.lower() in (".txt", ".csv", ".streams") and path.is_file():
        entries = _entries(path)
        if path.suffix.lower() != ".streams":
            return _readable(_listed(entries, path.absolute().parent), max_pixels)
        for address in entries:
            _probe(address)
        return Source(stream=text, slots=len(entries))
    files = _files(text)
    if not any(map(_is_media, files)):
        if path.exists():
            expected = "files such as x.jpg, x.png, x.mp4"
            raise DataError("The source has no image or video.", given=f"source={text}", expected=expected)
        raise DataError("Source not found.", given=f"source={text}", expected=_near(path))
    return _readable(_by_kind(files), max_pixels)


def read(
    source: Source,
    skipped: Skipped,
    *,
    stride: int = 1,
    buffer: bool = False,
    channels: int = 3,
    max_pixels: int = MOST_PIXELS,
) -> Generator[list[Frame], None, None]:
    """Read pictures, then videos, or streams side by side; what cannot be read is noted and left out.

    Args:
        source: From `find`.
        skipped: Takes note of what was left out.
        stride: Of videos and streams, every so many frames only.
        buffer: Of streams, keep all frames instead of the latest.
        channels: Of the model's images: 3 for BGR, 1 for gray, others as the file has them.
        max_pixels: Of the largest picture that is read; 0 for any.

    Yields:
        One frame; of streams, one of each.

    Raises:
        DataError: A camera or stream cannot be opened.
    """
    skipped.files += source.missing
    for path in source.pictures:
        picture = read_picture(path, flags_for(channels), max_pixels)
        if picture is None:
            skipped.files.append(skipped_name(path, max_pixels))
        else:
            skipped.remarks += filter(None, [remark(path)])
            yield [Frame(path, picture, sequence=str(Path(path).parent))]
    for path in source.videos:
        for index, fps, image in read_video(path, stride, skipped.add_frames):
            gray = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)[..., None] if channels == 1 else image
            yield [Frame(path, np.asarray(gray), index, fps, sequence=path)]
    if source.stream:
        yield from _read_streams(source.stream, stride, buffer, channels)


def _read_streams(address: str, stride: int, buffer: bool, channels: int) -> Iterator[list[Frame]]:
    try:
        streams = LoadStreams(address, vid_stride=stride, buffer=buffer, channels=channels)
    except Exception as e:  # a camera in use, a wrong address, a missing package for YouTube
        raise _unreachable(address, e) from e
    try:
        for index, (names, images, _) in enumerate(streams):
            yield [
                Frame(name, image, index, usable_fps(fps), live=True, silent=not image.any(), sequence=name)
                for name, image, fps in zip(names, images, streams.fps, strict=True)
            ]  # Ultralytics gives a black image where a stream is silent
    finally:
        streams.close()


def _address(text: str) -> Source:
    """Look at a camera index or an address: a file on the web is read like a file, anything else as a stream."""
    suffix = Path(urlsplit(text).path).suffix[1:].lower()
    if text.startswith(("http://", "https://")) and suffix in IMG_FORMATS:
        raise DataError(
            "Images are not downloaded.", given=f"source={text}", expected="a local file", fix="download it yourself"
        )
    _probe(text)
    if text.startswith(("http://", "https://")) and suffix in VID_FORMATS:
        return Source(videos=[text])
    return Source(stream=text, slots=1)


def _probe(address: str) -> None:
    """Make sure within seconds that a camera or stream opens; OpenCV's own timeout is half a minute."""
    if "youtu" in (urlsplit(address).hostname or ""):
        return  # Ultralytics asks there for the address of the video itself
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, OPEN_TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, OPEN_TIMEOUT_MS]
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # the error below says it in a sentence
    opened = False
    try:
        with suppress(cv2.error):  # a number that no camera can have
            index = address.isdigit()
            capture = cv2.VideoCapture(int(address)) if index else cv2.VideoCapture(address, cv2.CAP_ANY, limits)
            opened = capture.isOpened()
            capture.release()
    finally:
        cv2.utils.logging.setLogLevel(level)
    if not opened:
        raise _unreachable(address, "no answer, or nothing that can be decoded")


def _unreachable(address: str, reason: object) -> DataError:
    kind = "camera" if address.isdigit() else "stream"
    return DataError(
        f"The {kind} cannot be opened.",
        given=f"source={address}: {one_line(reason)}",
        expected="a camera index such as 0, or an address that a video player on this machine can open",
    )


def _entries(path: Path) -> list[str]:
    """Read the entries of a list file, as Ultralytics does: a line each, or the cells of a CSV file.

    Left out are lines that begin with # and name nothing, and the heading of a CSV file with its other columns.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as e:
        raise DataError("The list cannot be read.", given=f"{path}: {e}", expected="a text file of paths") from e
    folder = path.absolute().parent
    if path.suffix.lower() == ".csv":
        first = text.lstrip().partition("\n")[0]
        delimiter = next((mark for mark in ",;\t" if mark in first), ",")
        try:
            entries = _cells(csv.reader(io.StringIO(text), delimiter=delimiter), folder)
        except csv.Error as e:
            raise DataError("The list cannot be read.", given=f"{path}: {e}", expected="a table in CSV") from e
    elif path.suffix.lower() == ".streams":
        entries = text.split()
    else:
        entries = [line.strip() for line in text.splitlines() if not _is_remark(line, folder)]
    entries = [entry for entry in entries if entry]
    if not entries:
        raise DataError("The list is empty.", given=f"source={path}", expected="a path or an address in each line")
    return entries


def _cells(rows: Iterable[list[str]], folder: Path) -> list[str]:
    """Return the cells of a table: of the column of paths, where a heading says which that is, or else all."""
    table = [[cell.strip() for cell in row] for row in rows if any(row) and not _is_remark(row[0], folder)]
    heading, rest = table[0] if table else [], table[1:]
    for column, name in enumerate(heading):
        cells = [row[column] for row in rest if column < len(row)]
        if re.sub("[ _-]", "", name.lower()) in PATH_HEADINGS and any(_lookup(cell, folder) for cell in cells):
            return cells
    is_heading = rest and not any(re.search(r"[/\\*.]", name) or _lookup(name, folder) for name in heading)
    return [cell for row in (rest if is_heading else table) for cell in row]


def _is_remark(line: str, folder: Path) -> bool:
    line = line.strip()
    return line.startswith("#") and not _lookup(line, folder)


def _lookup(entry: str, folder: Path) -> list[str]:
    """List the files of an entry, from the working directory or else from the folder of the list."""
    return _files(entry) or _files(str(folder / entry))


def _listed(entries: Iterable[str], folder: Path) -> Source:
    """Look up the entries of a list, from the working directory or else from the folder of the list."""
    found = {entry: _lookup(entry, folder) for entry in sorted(set(entries))}
    missing = [entry for entry, files in found.items() if not any(map(_is_media, files))]
    return _by_kind(chain.from_iterable(found.values()), missing)


def _near(path: Path) -> str:
    """Name what has nearly the same name in the same folder, if there is such a thing."""
    if not path.parent.is_dir():
        return f"a path that exists; there is no folder {path.parent}"
    near = nearest(path.name, [p.name for p in path.parent.iterdir()])
    where = "" if path.parent == Path() else f" (in {path.parent})"
    return near + where if near.startswith("did you mean") else "an image, a video, a folder of them, or a glob"


def _files(text: str) -> list[str]:
    """List the absolute paths of a file, of the files in a folder, or of the matches of a glob."""
    if not can_be_path(text):
        return []
    path = Path(text).absolute()
    if path.is_file():
        return [str(path)]
    pattern = str(Path(glob.escape(str(path))) / "*.*") if path.is_dir() else str(path)
    return sorted(glob.glob(pattern, recursive=True))


def _is_media(file: str, formats: set[str] = IMG_FORMATS | VID_FORMATS) -> bool:
    return Path(file).suffix[1:].lower() in formats


def _by_kind(files: Iterable[str], missing: Iterable[str] = ()) -> Source:
    """Put pictures before videos, as Ultralytics does, and leave out other files and what is there already."""
    files = {file: Path(file).is_file() for file in files}  # a pipe would be waited for
    pictures, videos = ([f for f in files if files[f] and _is_media(f, kind)] for kind in (IMG_FORMATS, VID_FORMATS))
    return Source(pictures, videos, missing=[*missing, *(f for f in files if not files[f] and _is_media(f))])


def _readable(source: Source, max_pixels: int) -> Source:
    """Make sure that a file can be read; normally the first one can, so that this is quick."""
    pictures = (read_picture(f, most=max_pixels) for f in source.pictures)
    if any(p is not None for p in pictures) or any(count_frames(v) != 0 for v in source.videos):
        return source
    files = [*source.pictures, *source.videos]
    raise DataError(
        "No image or video of the source can be read." if files else "The source has no image or video.",
        given=", ".join([*(skipped_name(f, max_pixels) for f in files[:5]), *source.missing][:5]),
        expected="intact files",
    )
