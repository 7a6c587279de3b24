"""Frames in batches, in the shape in which Ultralytics' predictor takes its input."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Generator, Iterator
from itertools import chain, groupby, islice
from typing import Any

from ultralytics.data.loaders import LoadImagesAndVideos, SourceTypes

from .sources import Frame, Skipped, Source, read


class Loader(LoadImagesAndVideos):
    """Feeds Ultralytics' predictor, in place of its own loader, which ends a video in silence at the first bad frame.

    Batches are made as Ultralytics makes them: none spans pictures and a video, or two videos, so numbers are the
    same. On a GPU the predictor reads the next batch while the network works on this one.

    Args:
        source: What to read.
        batch: Frames in a batch.
        stride: Of videos and streams, every so many frames only.
        buffer: Of streams, keep all frames instead of the latest.
        max_pixels: Of the largest picture that is read; 0 for any.

    Attributes:
        channels: Of the model's images, set before reading begins.
        pending: Frames that were handed out, until their results come.
        skipped: What could not be read.
    """

    def __init__(self, source: Source, batch: int, stride: int, buffer: bool, max_pixels: int) -> None:
        # Ultralytics' own constructor opens the first video, which may be the broken one
        self.source, self.vid_stride, self.buffer, self.max_pixels = source, stride, buffer, max_pixels
        self.channels = 3
        self.pending: deque[Frame] = deque()
        self.skipped = Skipped()
        self.ni, self.nf = len(source.pictures), len(source.pictures) + len(source.videos)
        self.video_flag = [False] * self.ni + [True] * len(source.videos)
        self.mode = "stream" if source.stream else "image" if source.pictures else "video"
        self.bs = source.slots or batch
        self.source_type = SourceTypes(stream=bool(source.stream))
        self.count = 0
        self._batches: Generator[list[Frame], None, None] | None = None
        self._keys: dict[str, str] = {}

    def __iter__(self) -> Loader:
        self._batches = self._read()
        return self

    def __next__(self) -> tuple[list[str], list[Any], list[str]]:
        """Return keys, images and empty remarks; frames of one sequence have one key, by which trackers start anew."""
        frames = next(self._batches)  # type: ignore[arg-type]
        self.pending.extend(frames)
        if not frames[0].live:
            self.mode = "image" if frames[0].fps is None else "video"
        self.count += len(frames)
        keys = [self._keys.setdefault(f.sequence, f"sequence {len(self._keys)}") for f in frames]
        return keys, [f.image for f in frames], [""] * len(frames)

    def __len__(self) -> int:
        return math.ceil(self.nf / self.bs)

    def close(self) -> None:
        """Let go of files, cameras and streams."""
        if self._batches is not None:
            self._batches.close()

    def frames(self) -> Iterator[Frame]:
        """Read frame by frame, without batches."""
        return chain.from_iterable(self._read())

    def _read(self) -> Generator[list[Frame], None, None]:
        frames = read(
            self.source,
            self.skipped,
            stride=self.vid_stride,
            buffer=self.buffer,
            channels=self.channels,
            max_pixels=self.max_pixels,
        )
        for _, together in groupby(chain.from_iterable(frames), _video):
            while batch := list(islice(together, self.bs)):
                yield batch


def _video(frame: Frame) -> str | None:
    """Name the video file that a frame is of; pictures are of none."""
    return None if frame.fps is None or frame.live else frame.sequence
