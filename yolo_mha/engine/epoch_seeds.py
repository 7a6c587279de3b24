"""The same batches in every run of a seed: all random numbers of an epoch follow from the seed and the epoch."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from ultralytics.utils import RANK

from ..errors import RunError


class EpochSeeds:
    """A training callback that seeds order and augmentation anew at the start of every epoch.

    Ultralytics seeds once. What a model draws (its initial weights, dropout) then shifts all later random numbers, so
    two models of one seed see other images; and a resumed run begins the order again. From here on they depend on the
    seed, the epoch and the process alone. The loader's workers are started anew, as they fetch ahead into the next
    epoch.

    Args:
        seed: The run's seed.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.batch: int | None = None

    def __call__(self, trainer: Any) -> None:
        """Seed, at the start of an epoch.

        Raises:
            RunError: Ultralytics has made the batch smaller for want of memory.
        """
        if self.batch not in (None, trainer.batch_size):
            raise RunError(
                f"A batch of {self.batch} does not fit into memory.",
                given=f"Ultralytics continued with {trainer.batch_size}",
                expected="the same batch in all runs",
                fix=f"batch={trainer.batch_size} for all of them",
            )
        self.batch = trainer.batch_size
        state = int(np.random.SeedSequence([self.seed, trainer.epoch, RANK + 1]).generate_state(1)[0])  # 32 bits
        random.seed(state)
        np.random.seed(state)
        torch.manual_seed(state)
        loader = trainer.train_loader
        dataset = loader.dataset
        for i in dataset.buffer:  # recent images that mosaics are made of; after a resume they would be others
            dataset.ims[i] = dataset.im_hw0[i] = dataset.im_hw[i] = None
        dataset.buffer.clear()
        loader.generator.manual_seed(state)  # gives the order, and the seeds of the workers
        loader.reset()
