"""Video files frame by frame: reading past damage, and writing at the same rate and size."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..data.files import unfinished
from ..errors import RunError
from .edit_list import played_share

Image = NDArray[np.uint8]
FRAME_COUNT_SUFFIXES = {".mp4", ".mov", ".m4v", ".avi"}  # of files that hold it; of others OpenCV estimates it
MOST_FAILED_GRABS = 100  # beyond the frames that are announced
DISK_FIX = (
    "look at the folder and the disk; the other files hold all up to there, but a video that is not whole is removed"
)
DEFAULT_FPS = 30.0  # where a file or a camera gives none, as in Ultralytics


def usable_fps(fps: float) -> float:
    """Return a rate in frames per second; the default where a file or a camera says nothing useful."""
    return fps if math.isfinite(fps) and 0 < fps < 1000 else DEFAULT_FPS


def count_frames(path: str) -> int | None:
    """Return how many frames a video announces: None where it says nothing, 0 where it cannot be opened."""
    capture = cv2.VideoCapture(path)
    frames = (_announced(capture, path) or None) if capture.isOpened() else 0
    capture.release()
    return frames


def _announced(capture: cv2.VideoCapture, path: str) -> int:
    """Return how many frames an open video says that it plays, 0 if unknown."""
    return int(max(capture.get(cv2.CAP_PROP_FRAME_COUNT), 0) * played_share(path) + 0.2)  # times are rounded


def read_video(
    path: str, stride: int, on_lost: Callable[[str, list[range], int], None]
) -> Iterator[tuple[int, float, Image]]:
    """Decode a video file.

    OpenCV reports a damaged frame and the end of the file alike, so reading goes on until the announced frames are
    used up. Which ones are lost is told from the time stamps of the others, if these were evenly spaced up to there.
    What a decoder patches up by itself is not noticed.

    Args:
        path: The file, or an address that OpenCV can read like one.
        stride: Give every so many frames only: the last of each ``stride`` frames, as Ultralytics does.
        on_lost: Called at the end, where frames were lost, with the path, their indices and the number of frames
            announced (0 if unknown); with no indices where no frame of the file can be decoded.

    Yields:
        Index of the frame in the file, from 0; frames per second of the file; image, BGR, of shape (H, W, 3).
    """
    capture = cv2.VideoCapture(path)
    try:
        fps = usable_fps(capture.get(cv2.CAP_PROP_FPS))
        announced = _announced(capture, path) if capture.isOpened() else 0
        position = _Position(fps)
        while capture.isOpened():
            if not capture.grab():
                if position.next >= announced or position.failures >= announced - position.next + MOST_FAILED_GRABS:
                    break
                position.failures += 1
                continue
            index = position.advance(capture.get(cv2.CAP_PROP_POS_MSEC))
            if (index + 1) % stride == 0:
                decoded, image = capture.retrieve()
                if decoded and image is not None:
                    yield index, fps, image
                else:
                    position.lose(index, index + 1)
        unseen = announced - position.next
        if unseen > (0 if Path(path).suffix.lower() in FRAME_COUNT_SUFFIXES else fps):
            position.lose(position.next, announced)
        if position.next == 0 or position.lost:
            on_lost(path, position.lost if position.next else [], announced)
    finally:
        capture.release()


class _Position:
    """Where in a file a frame belongs, when some before it were lost."""

    def __init__(self, fps: float) -> None:
        self.fps = fps
        self.next = 0  # index of the frame that should come
        self.failures = 0  # failed grabs since the last frame
        self.damaged = False
        self.even = True  # time stamps agree with the count
        self.start: float | None = None
        self.lost: list[range] = []

    def advance(self, milliseconds: float) -> int:
        """Return the index of a frame that was just grabbed."""
        if self.start is None:
            self.start = 0.0 if self.failures else milliseconds
        by_clock = round((milliseconds - self.start) * self.fps / 1000)
        self.damaged |= self.failures > 0
        if not self.damaged:
            self.even &= by_clock == self.next
            index = self.next
        else:
            index = max(self.next, by_clock) if self.even else self.next + self.failures
        if index > self.next:
            self.lose(self.next, index)
        self.next, self.failures = index + 1, 0
        return index

    def lose(self, start: int, stop: int) -> None:
        """Take note of frames that are lost, as one range with those right before them."""
        if self.lost and self.lost[-1].stop == start:
            start = self.lost.pop().start
        self.lost.append(range(start, stop))


class VideoWriter:
    """A video file without sound: MPEG-4 in ``.mp4``, or Motion JPEG in ``.avi`` where a side is odd.

    OpenCV's other encoders cut odd sides by a pixel.

    Args:
        path: The file, without its suffix.
        fps: Frames per second.
        width: Width of the frames.
        height: Height of the frames.

    Attributes:
        path: The file; it is there once it is closed.

    Raises:
        RunError: It cannot be written.
    """

    def __init__(self, path: Path, fps: float, width: int, height: int) -> None:
        self._odd = bool(width % 2 or height % 2)
        self._fps, self._size = fps, (width, height)
        self.path = path.with_name(path.name + (".avi" if self._odd else ".mp4"))
        self._aside = self.path.with_name(unfinished() + self.path.name)
        api, code = (cv2.CAP_OPENCV_MJPEG, "MJPG") if self._odd else (cv2.CAP_ANY, "mp4v")
        rates = [max(1, round(fps))]  # Motion JPEG knows whole numbers only, and MPEG-4 fractions of 65,535 at most
        for rate in rates if self._odd else [fps, round(fps, 2), round(fps, 1), *rates]:
            self._writer = cv2.VideoWriter(str(self._aside), api, cv2.VideoWriter.fourcc(*code), rate, self._size)
            if self._writer.isOpened():
                break
        else:
            raise self._failed()
        self._frames = 0

    def write(self, image: Any) -> None:
        """Add a frame; one of another size is scaled, because a video has one size."""
        if (image.shape[1], image.shape[0]) != self._size:
            image = cv2.resize(image, self._size)
        self._writer.write(image)
        self._frames += 1

    def close(self) -> None:
        """Finish the file, and make sure that it is whole: the encoder does not say when the disk is full.

        Raises:
            RunError: Frames are missing; the file is removed.
        """
        self._writer.release()
        if (count_frames(str(self._aside)) or 0) < self._frames:
            self._aside.unlink(missing_ok=True)  # no player opens it
            raise self._failed()
        if self._odd and self._fps != round(self._fps):
            _set_avi_rate(self._aside, self._fps)
        os.replace(self._aside, self.path)

    def _failed(self) -> RunError:
        return RunError("The video cannot be written.", given=str(self.path), fix=DISK_FIX)


def _set_avi_rate(path: Path, fps: float) -> None:
    """Write the exact rate into the headers of an AVI file: microseconds per frame, and rate over scale."""
    with path.open("r+b") as file:
        head = file.read(512)
        main, stream = head.find(b"avih"), head.find(b"strh")
        if main < 0 or stream < 0:
            return
        file.seek(main + 8)
        file.write(struct.pack("<I", round(1e6 / fps)))
        file.seek(stream + 8 + 20)
        file.write(struct.pack("<II", 1000, round(fps * 1000)))
