"""Training only the attention blocks for the first epochs, then everything."""

from __future__ import annotations

from typing import Any

from ultralytics.utils import LOGGER
from ultralytics.utils.torch_utils import unwrap_model

from ..errors import ConfigError
from .own_settings import FREEZE_BASE


def check_freeze_base(epochs: object, rows: list[int], freeze: object = None) -> None:
    """Check that the base can be frozen, before anything is started.

    Args:
        epochs: For how many epochs.
        rows: Indices of the blocks that would train.
        freeze: Ultralytics' setting of that name.

    Raises:
        ConfigError: The number of epochs is unusable, there is no block, or ``freeze`` is given too.
    """
    FREEZE_BASE.check(epochs)
    if epochs and not rows:
        raise ConfigError(
            "freeze_base needs attention blocks to train, and this model has none.",
            given=f"freeze_base={epochs}",
            expected="a model with blocks, or at=P5 to insert one",
        )
    if epochs and freeze:
        raise ConfigError(
            "freeze and freeze_base cannot be combined.",
            given=f"freeze={freeze} freeze_base={epochs}",
            expected="one of them",
        )


class FreezeBase:
    """Training callbacks that freeze all layers except the given ones for the first epochs.

    Neither the parameters nor the running BatchNorm statistics of frozen layers change.

    Args:
        epochs: For how many epochs.
        rows: Indices of the rows that train from the start.
    """

    def __init__(self, epochs: int, rows: list[int]) -> None:
        self.epochs, self.rows = epochs, rows
        self.frozen: list[str] = []
        self.layers: list[str] = []

    def start(self, trainer: Any) -> None:
        """Freeze, before the first epoch."""
        if trainer.start_epoch >= self.epochs:
            return
        network = unwrap_model(trainer.model)
        trained = tuple(f"model.{row}." for row in self.rows)
        for name, parameter in network.named_parameters():
            if parameter.requires_grad and not name.startswith(trained):
                parameter.requires_grad = False
                self.frozen.append(name)
        self.layers = [f"model.{i}." for i in range(len(network.model)) if i not in self.rows]
        trainer.freeze_layer_names = [*trainer.freeze_layer_names, *self.layers]  # their norms stay in eval mode
        LOGGER.info(f"Only the attention blocks (rows {self.rows}) train for the first {self.epochs} epochs")

    def end(self, trainer: Any) -> None:
        """Release what was frozen, when its epochs are over."""
        if not self.frozen or trainer.epoch < self.epochs:
            return
        parameters = dict(unwrap_model(trainer.model).named_parameters())
        for name in self.frozen:
            parameters[name].requires_grad = True
        self.frozen = []
        trainer.freeze_layer_names = [n for n in trainer.freeze_layer_names if n not in self.layers]
        LOGGER.info("All layers train from here on")
