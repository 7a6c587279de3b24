"""Attention of each block and head, recorded while a model runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..nn import CrossScaleMHA, SpatialMHA
from ..nn.fold import GatedBlock, affine
from ..nn.positions import coordinates, grid_within
from ..nn.scopes import cells, from_windows
from ..surgery.heads import attentions

CHUNK_BYTES = 2**26  # of the maps that are held at a time where they are only summed
COPIES = 4  # of the maps of some queries that are held at once while they are computed


@dataclass(frozen=True)
class WeightedMaps:
    """Attention of weighted queries, as a map of the keys.

    Attributes:
        attention: Attention, the mean over the queries by their weights, of shape (h, H, W); each head sums to 1.
        effect: Attention times the norm of what is read at the key, the sum over the queries by their weights, of
            shape (h, H, W), see `Recorded.norms`.
        attention_distance: Mean distance from query to key, by attention, of shape (h,), in positions of the queries.
        effect_distance: The same by effect; NaN for a head without any.
    """

    attention: Tensor
    effect: Tensor
    attention_distance: Tensor
    effect_distance: Tensor


@dataclass
class Recorded:
    """One attention module, and what it was given when the model ran last.

    Its maps are computed when they are asked for, in float32, from the module's own input and weights. So the pass
    itself takes the fused kernel that it always takes, and only rows of the attention matrix that are asked for exist.
    With ``position="dwconv"`` they leave out the convolution of the values, which is no attention.

    Attributes:
        name: The block's row in the model, "10", or "10.1" for the second block of a row that repeats; in another
            module than a model of Ultralytics, the path of the attention.
        module: The module.
        owner: Its block, if that is one of this package; otherwise the module itself.
        inputs: What the module was given: one feature map, or two; empty before the first pass.
        output: What the gate gave, with its place in the graph of the gradients, where the recorder keeps it.
        in_pass: Whether the recorded model is running as a whole.
    """

    name: str
    module: SpatialMHA | CrossScaleMHA
    owner: nn.Module
    inputs: tuple[Tensor, ...] = ()
    output: Tensor | None = None
    in_pass: bool = field(default=False, repr=False)
    _known: dict[int, tuple[Tensor, ...]] = field(default_factory=dict, repr=False)

    @property
    def ran(self) -> bool:
        """Whether it ran in the last pass that was recorded."""
        return bool(self.inputs)

    @property
    def gate(self) -> nn.Module:
        """The gate after it: an identity if the gate is folded, the module itself if there is no gate."""
        return getattr(self.owner, "gate", self.module)

    @property
    def num_heads(self) -> int:
        """Number of heads h."""
        return self.module.num_heads

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the map of queries, in positions."""
        return tuple(self._given[0].shape[2:])  # type: ignore[return-value]

    @property
    def key_size(self) -> tuple[int, int]:
        """Height and width of the map of keys in positions: that of the queries, or of the context."""
        return tuple(self._given[-1].shape[2:])  # type: ignore[return-value]

    def memory(self, queries: int) -> int:
        """Return the bytes that `attention` takes for so many queries, at most."""
        (H, W), gathered, fill = self.key_size, 0, 0
        if self._scope == "axial":
            gathered = 2 * W  # queries and keys of a row
        elif self._scope == "window":
            fill = self.module.window  # type: ignore[assignment]
            gathered = fill**2
        maps = COPIES * (H + fill) * (W + fill)
        return 4 * queries * self.num_heads * (maps + 2 * gathered * self.module.head_dim)

    @torch.no_grad()
    def attention(self, queries: Tensor, image: int = 0) -> Tensor:
        """Return the attention of some queries.

        Args:
            queries: Positions ``row * W + column``, of shape (n,).
            image: Which image of the batch.

        Returns:
            Attention of shape (h, n, H, W), H and W those of ``key_size``; the sum over all keys is 1. What goes to a
            pooled key is divided among its positions. With ``scope="axial"``, where a query reaches a position by way
            of its own row and that position's column, it is the product of both.

        Raises:
            ConfigError: There is no such query or image, or the block has not run.
        """
        positions = self.size[0] * self.size[1]
        if queries.dim() != 1 or queries.is_floating_point() or not ((queries >= 0) & (queries < positions)).all():
            given, expected = f"queries: {queries.tolist()}"[:80], f"whole numbers from 0 to {positions - 1}"
            raise ConfigError("There is no such query.", given=given, expected=expected)
        q, k, _ = self._heads(image)
        scale = self.module.scale
        if isinstance(self.module, CrossScaleMHA):
            return _all_keys(q, k, queries, scale)
        if self.module.scope == "axial":
            return _axial(q, k, queries, scale)
        if self.module.scope == "window":
            mask = self.module.mask(self._input(0, image))
            return _windows(q, k, queries, scale, self.size, None if mask is None else mask.float())
        return _spread(_all_keys(q, k, queries, scale), self.size, self.module.kv_stride)

    @torch.no_grad()
    def norms(self, image: int = 0) -> Tensor:
        """Return the norm of what each head reads at each key: its value, projected and gated.

        A head reads at a key the vector ``attention * gate * proj(value)``, and a block adds the sum of these vectors
        (and the same bias at all positions). So these norms weigh attention by what it brings (Kobayashi et al. 2020,
        "Attention is not only a weight", eq. 5), and are 0 behind a gate of 0.

        Args:
            image: Which image of the batch.

        Returns:
            Norms of shape (h, H, W), H and W those of ``key_size``.
        """
        v = self._heads(image)[2]
        weight = self.module.proj.weight.float().flatten(1)  # (C, hd)
        if isinstance(self.gate, nn.BatchNorm2d):
            weight = affine(self.gate)[0].float()[:, None] * weight
        per_head = weight.view(len(weight), self.num_heads, -1).unbind(1)  # h of (C, d)
        norms = torch.stack([(v[..., i, :] @ w.T).norm(dim=-1) for i, w in enumerate(per_head)], 1)  # (B', h, H, W)
        if self._scope == "window":
            norms = from_windows(norms, self.size, self.module.window)  # type: ignore[arg-type]
        stride, (H, W) = getattr(self.module, "kv_stride", 1), self.key_size
        return norms[0].repeat_interleave(stride, 1).repeat_interleave(stride, 2)[:, :H, :W]

    @torch.no_grad()
    def weighted(self, weights: Tensor, image: int = 0) -> WeightedMaps:
        """Sum the attention of queries by weights; only queries with a weight are computed, a few at a time.

        Args:
            weights: Weight of each query, 0 or more, of shape (H, W) as ``size``.
            image: Which image of the batch.
        """
        weights = weights.float().flatten()
        chosen, (H, W), (Hk, Wk) = weights.nonzero()[:, 0], self.size, self.key_size
        where = torch.cartesian_prod(coordinates(H, weights), coordinates(W, weights))  # (H * W, 2)
        keys = where
        if isinstance(self.module, CrossScaleMHA):
            keys = torch.cartesian_prod(*grid_within(*self.inputs))
        total = weights.new_zeros(self.num_heads, Hk * Wk)
        travelled = torch.zeros_like(total)  # weight times attention times distance
        for some in torch.split(chosen, max(CHUNK_BYTES // self.memory(1), 1)):
            maps = self.attention(some, image).flatten(2) * weights[some, None]  # (h, n, Hk * Wk)
            total += maps.sum(1)
            travelled += (maps * torch.cdist(where[some], keys)).sum(1)
        norms = self.norms(image).flatten(1)
        effect = total * norms
        return WeightedMaps(
            (total / weights.sum()).view(-1, Hk, Wk),
            effect.view(-1, Hk, Wk),
            travelled.sum(1) / total.sum(1),
            (travelled * norms).sum(1) / effect.sum(1),
        )

    @property
    def _given(self) -> tuple[Tensor, ...]:
        if not self.inputs:
            raise ConfigError(
                "This block did not run while it was recorded.",
                given=f"block {self.name}",
                expected="a forward pass of the recorded model itself",
                fix="call the model, as in model(images); predict and val of Ultralytics run a copy of it",
            )
        return self.inputs

    @property
    def _scope(self) -> str:
        return getattr(self.module, "scope", "global")

    def _input(self, which: int, image: int) -> Tensor:
        weights: Tensor = self.module.proj.weight
        return self._given[which][image : image + 1].to(weights.dtype)  # under autocast they differ

    def _heads(self, image: int) -> tuple[Tensor, ...]:
        """Return queries, keys and values of an image in float32, see `SpatialMHA.heads`."""
        if not 0 <= image < len(self._given[0]):
            expected = f"0 to {len(self._given[0]) - 1}"
            raise ConfigError("There is no such image in the batch.", given=f"image={image}", expected=expected)
        if image not in self._known:
            parts = [self._input(which, image) for which in range(len(self._given))]
            self._known[image] = tuple(t.float() for t in self.module.heads(*parts))
        return self._known[image]

    def _take(self, given: tuple[Any, ...]) -> None:
        """Keep what the module is given.

        Raises:
            ConfigError: It ran in this pass of the model before.
        """
        if self.in_pass and self.ran:
            raise ConfigError(
                "This attention runs more than once in a forward pass, so it cannot be explained.",
                given=f"block {self.name}",
                expected="a block that calls its attention once",
                fix="give the block an attention module for each call",
            )
        maps = given[0] if isinstance(given[0], (list, tuple)) else (given[0],)
        self.inputs, self.output = tuple(x.detach() for x in maps), None
        self._known.clear()


class Recorder:
    """Records what the attention modules of a model were given, while the block runs.

    Outputs stay bit for bit what they are without it, as nothing is computed until a map is asked for; see `Recorded`.
    At the end no hook is left in the model, and the maps of the last pass can still be asked for. The model is to be in
    evaluation mode: attention is computed without dropout, and gates with their running statistics. An attention that
    runs twice in one pass of the model is refused with a `ConfigError`.

    Example:
        >>> with Recorder(model) as recorder:
        ...     model(images)
        >>> maps = recorder["10"].attention(torch.tensor([0]))  # of the query at the top left: (h, 1, H, W)

    Args:
        model: The model, or any module with attention in it.
        gradients: Whether to keep what the gates give, so that gradients with respect to it can be taken. Where
            nothing before it needs a gradient, the graph begins there.

    Attributes:
        blocks: The attention modules by name; empty where there is none.
    """

    def __init__(self, model: nn.Module, *, gradients: bool = False) -> None:
        self.gradients = gradients
        self.blocks: dict[str, Recorded] = {}
        self._hooks: list[Any] = []
        self._model = model
        owners = {m.attn: m for m in model.modules() if isinstance(m, GatedBlock) and hasattr(m, "attn")}
        for name, module in attentions(model).items():
            self.blocks[name] = Recorded(name, module, owners.get(module, module))

    def __getitem__(self, name: str) -> Recorded:
        return self.blocks[name]

    def __enter__(self) -> Recorder:
        for block in self.blocks.values():
            self._hooks.append(self._model.register_forward_pre_hook(_Begin(block)))
            self._hooks.append(self._model.register_forward_hook(_End(block), always_call=True))
            self._hooks.append(block.module.register_forward_pre_hook(_Take(block)))
            if self.gradients:
                self._hooks.append(block.gate.register_forward_hook(_Keep(block)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._hooks:
            self._hooks.pop().remove()


class _Hook:
    """A hook that does nothing in a copy of the model, which Ultralytics makes to predict."""

    def __init__(self, block: Recorded | None) -> None:
        self.block = block

    def __deepcopy__(self, _: object) -> _Hook:
        return type(self)(None)


class _Begin(_Hook):
    def __call__(self, _: nn.Module, __: object) -> None:
        if self.block is not None:
            self.block.inputs, self.block.output, self.block.in_pass = (), None, True


class _End(_Hook):
    def __call__(self, _: nn.Module, __: object, ___: object) -> None:
        if self.block is not None:
            self.block.in_pass = False


class _Take(_Hook):
    def __call__(self, _: nn.Module, given: tuple[Any, ...]) -> None:
        if self.block is not None:
            self.block._take(given)


class _Keep(_Hook):
    def __call__(self, _: nn.Module, __: Any, output: Tensor) -> None:
        if self.block is not None:
            self.block.output = output if output.requires_grad else output.requires_grad_()


# Attention by scope --------------------------------------------------------------------------------------------------


def _all_keys(q: Tensor, k: Tensor, queries: Tensor, scale: float) -> Tensor:
    """Return the attention of some queries to all keys, (h, n, Hk, Wk); the grids are (1, H, W, h, d)."""
    _, Hk, Wk, _, _ = k.shape
    scores = torch.einsum("nhd,khd->hnk", q[0].flatten(0, 1)[queries], k[0].flatten(0, 1)) * scale
    return scores.softmax(-1).view(*scores.shape[:2], Hk, Wk)


def _spread(maps: Tensor, size: tuple[int, int], stride: int) -> Tensor:
    """Spread the attention of each pooled cell evenly over its positions; edge cells can be smaller."""
    if stride == 1:
        return maps
    H, W = size
    rows, columns = (
        (length - stride * coordinates(cells(length, stride), maps)).clamp(max=stride) for length in (H, W)
    )
    maps = maps / (rows[:, None] * columns)
    return maps.repeat_interleave(stride, -2)[..., :H, :].repeat_interleave(stride, -1)[..., :W]


def _axial(q: Tensor, k: Tensor, queries: Tensor, scale: float) -> Tensor:
    """Return attention along the rows times attention along the columns, see `attend_along_axes`."""
    W = q.shape[2]
    rows, columns = queries // W, queries % W
    along_row = (torch.einsum("nhd,nwhd->hnw", q[0, rows, columns], k[0, rows]) * scale).softmax(-1)
    maps = (torch.einsum("nwhd,ywhd->hnyw", q[0, rows], k[0]) * scale).softmax(2)
    return maps * along_row[:, :, None]


def _windows(q: Tensor, k: Tensor, queries: Tensor, scale: float, size: tuple[int, int], mask: Tensor | None) -> Tensor:
    """Return attention within the window of each query, 0 elsewhere; the grids are those of the windows."""
    (H, W), side = size, q.shape[1]
    down, across = cells(H, side), cells(W, side)
    rows, columns = queries // W, queries % W
    window = rows // side * across + columns // side
    at = rows % side * side + columns % side
    scores = torch.einsum("nhd,nkhd->hnk", q.flatten(1, 2)[window, at], k.flatten(1, 2)[window]) * scale
    if mask is not None:
        scores += mask.expand(len(q), scores.shape[0], side**2, side**2)[window, :, at].transpose(0, 1)
    h, n, _ = scores.shape
    maps = scores.new_zeros(h, n, down * across, side**2)
    maps[:, torch.arange(n, device=queries.device), window] = scores.softmax(-1)
    maps = maps.view(h, n, down, across, side, side).transpose(3, 4)  # (h, n, down, side, across, side)
    return maps.reshape(h, n, down * side, across * side)[..., :H, :W]
