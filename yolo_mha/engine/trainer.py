"""Ultralytics' detection trainer with checkpoints that are written whole."""

from __future__ import annotations

import os
import shutil
import warnings
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ultralytics.engine import trainer as stock
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.utils import dist
from ultralytics.utils.torch_utils import strip_optimizer

from ..data.files import unfinished, whole_file, write_text
from ..errors import DependencyError
from ..guard import guarded, replaced, restricted

# Where Ray is installed, Ultralytics asks it after each epoch whether it tunes something.
warnings.filterwarnings("ignore", "`get_trial_id` is meant to only be called")


class Trainer(DetectionTrainer):
    """Train as Ultralytics does; a kill at any moment leaves ``last.pt`` and ``best.pt`` readable.

    That the class lives in this package is what makes Ultralytics' processes for several GPUs import it, and with it
    the blocks.
    """

    wdir: Path
    last: Path
    best: Path

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        with guarded(trust=not restricted()):  # also in the processes that Ultralytics starts for several GPUs
            super().__init__(*args, **kwargs)

    def train(self) -> None:
        """Train.

        Raises:
            DependencyError: Several GPUs are asked for, and a package for them is missing.
        """
        if self.ddp and find_spec("cloudpickle") is None:  # Ultralytics would install it
            raise DependencyError(
                "cloudpickle is not installed; Ultralytics needs it for several GPUs.",
                fix="pip install 'yolo-mha[ddp]'",
            )
        kept = SimpleNamespace(rmtree=lambda folder: None)  # with the lock that is in it; for several GPUs it would go
        with guarded(trust=not restricted()), replaced((dist, "shutil", kept)):
            super().train()

    def save_model(self) -> bool:
        """Save ``last.pt``, and ``best.pt`` where this epoch is the best so far.

        Ultralytics writes them into a folder aside, from where they are moved into place one by one.
        """
        final, aside = self.wdir, self.wdir.with_name(f"{unfinished()}weights")
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        self.wdir, self.last, self.best = aside, aside / self.last.name, aside / self.best.name
        try:
            saved = bool(super().save_model())
            for written in aside.iterdir():
                os.replace(written, final / written.name)
        finally:
            self.wdir, self.last, self.best = final, final / self.last.name, final / self.best.name
            shutil.rmtree(aside, ignore_errors=True)
        return saved

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
        with replaced((stock, "strip_optimizer", _strip_whole)):
            super().final_eval()


def _strip_whole(f: str | Path, s: str = "", updates: dict[str, Any] | None = None) -> Any:
    """Do what `strip_optimizer` does, whole or not at all."""
    with whole_file(s or f) as temporary:
        content = strip_optimizer(f, s=str(temporary), updates=updates)
        if not content:  # it was no checkpoint, and nothing was written
            shutil.copy2(f, temporary)
    return content
