"""The control of an arm: a convolution with as many parameters at each place where the arm has a block."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import nn

from ..errors import ConfigError, ModelError
from ..nn.conv_block import ConvBlock, matched_hidden
from ..registry import ModelYAML, Network
from ..surgery.places import layers
from ..surgery.rows import blocks
from ..surgery.transfer import align

TOLERANCE = 0.02  # largest difference in parameters, as a fraction of the block's


@dataclass(frozen=True)
class Substitute:
    """A convolution in the place of a block.

    Attributes:
        row: Its index in the model.
        block: Class name of the block.
        channels: Channels of the map that both read and give.
        parameters: Number of parameters of the block.
        hidden: Hidden width of the convolution.
        own: Number of parameters of the convolution.
        difference: Parameters more than the block's, as a fraction of them.
    """

    row: int
    block: str
    channels: int
    parameters: int
    hidden: int
    own: int
    difference: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "difference", self.own / max(self.parameters, 1) - 1)


def matched_control(baseline: Network, arm: Network, name: str) -> tuple[ModelYAML, list[Substitute]]:
    """Put a `ConvBlock` in the place of every block that an arm has beyond the baseline.

    It reads the block's first input, starts with the same gate, and repeats as often.

    Args:
        baseline: The baseline's network.
        arm: The arm's.
        name: The arm's name, for messages.

    Returns:
        The content of the control's model YAML, and what they are.

    Raises:
        ConfigError: The arm is no baseline with blocks, or a block's number of parameters cannot be met.
    """
    content = arm.yaml
    try:
        kept = align(baseline.yaml, content).values()
    except ModelError as e:
        raise ConfigError(
            "No control can be made for an arm that differs from the baseline in more than its blocks.",
            given=f"{name}: {e.given}",
            expected="the baseline with blocks inserted",
            fix="control=False, or control=my-model.yaml",
        ) from e
    new = [row for row in blocks(content) if row not in kept]
    if not new:
        raise ConfigError(
            f"No control can be made: arm '{name}' has no blocks.",
            given=name,
            expected="an arm with at least one block more than the baseline",
        )
    rows, described, substitutes = [*content["backbone"], *content["head"]], layers(arm), []
    for row in new:
        source, repeats, block, arguments = rows[row]
        substitute = _substitute(row, str(block), described[row].channels or 0, arm.model[row], name)
        named = arguments[-1] if isinstance(arguments, list) and arguments and isinstance(arguments[-1], dict) else {}
        gate = [{"gate_init": named["gate_init"]}] if "gate_init" in named else []
        first = source[0] if isinstance(source, list) else source
        rows[row] = [first, repeats, ConvBlock.__name__, [substitute.hidden, *gate]]
        substitutes.append(substitute)
    boundary = len(content["backbone"])
    return {**content, "backbone": rows[:boundary], "head": rows[boundary:]}, substitutes


def _substitute(row: int, block: str, channels: int, layer: nn.Module, name: str) -> Substitute:
    count = len(layer) if type(layer) is nn.Sequential else 1  # a row that repeats
    parameters = sum(p.numel() for p in layer.parameters())
    hidden = matched_hidden(channels, parameters // count)
    own = count * sum(p.numel() for p in ConvBlock(channels, hidden).parameters())
    substitute = Substitute(row, block, channels, parameters, hidden, own)
    if not parameters or abs(substitute.difference) > TOLERANCE:
        raise ConfigError(
            f"No convolution has as many parameters as this block, to within {TOLERANCE:.0%}.",
            given=f"{name}, row {row}: {block} on {channels} channels with {parameters:,} parameters; the nearest is "
            f"{own:,} with {hidden} hidden channels",
            expected="a block with more parameters",
            fix="control=False, or control=my-model.yaml; in a recipe, leave the matched arm out",
        )
    return substitute
