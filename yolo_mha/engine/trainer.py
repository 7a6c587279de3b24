"""Ultralytics' detection trainer with checkpoints that are written whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ultralytics.models.yolo.detect import DetectionTrainer

from ..data.files import write_text


class Trainer(DetectionTrainer):
    """Train as Ultralytics does; a kill at any moment leaves ``last.pt`` and ``best.pt`` readable.

    That the class lives in this package is what makes Ultralytics' processes for several GPUs import it, and with it
    the blocks.
    """

    wdir: Path
    last: Path
    best: Path

    @contextmanager
    def _whole_weights(self, keep: bool) -> Iterator[None]:
        """Let Ultralytics write checkpoints into a folder aside, then move them into place one by one.

        Args:
            keep: Copy the present checkpoints there first, for a step that changes them.
        """
        final = self.wdir
        aside = final.with_name(".weights-unfinished")
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        if keep:
            for name in (self.last, self.best):
                if name.exists():
                    shutil.copy2(name, aside / name.name)
        self._set_weights_dir(aside)
        try:
            yield
            for written in aside.iterdir():
                os.replace(written, final / written.name)
        finally:
            self._set_weights_dir(final)
            shutil.rmtree(aside, ignore_errors=True)

    def _set_weights_dir(self, folder: Path) -> None:
        self.wdir, self.last, self.best = folder, folder / self.last.name, folder / self.best.name

    def save_model(self) -> bool:
        """Save ``last.pt``, and ``best.pt`` where this epoch is the best so far."""
        with self._whole_weights(keep=False):
            return bool(super().save_model())

    def resume_training(self, ckpt: dict[str, Any] | None) -> None:
        """Go on from a checkpoint, and drop the rows of ``results.csv`` that were written after it.

        An epoch's row is written before its checkpoint; a kill between the two would leave the row twice.
        """
        super().resume_training(ckpt)
        if ckpt is None or not self.resume or not self.csv.exists():
            return
        header, *rows = self.csv.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [row for row in rows if row.endswith("\n") and float(row.split(",")[0]) <= self.start_epoch]
        write_text(self.csv, header + "".join(kept))

    def final_eval(self) -> None:
        """Strip the optimizer from the checkpoints and validate the best one."""
        with self._whole_weights(keep=True):
            super().final_eval()
