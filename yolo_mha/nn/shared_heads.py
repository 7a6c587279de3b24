"""Multi-head attention whose heads share their projections, as tutorials write it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import check_flag
from .attend import attend
from .heads import resolve_heads
from .masks import check_sequences, combine_masks
from .sequence import MultiHeadAttention


class SharedHeadAttention(nn.Module):
    """Attention whose heads each take their own slice of the channels through the same three small projections.

    This is the form of the tutorial "Transformer from scratch" (Persson 2020): one ``head_dim x head_dim`` matrix each
    for query, key and value, the same in all heads, then a projection of the joined heads. It equals a
    `MultiHeadAttention` whose query, key and value weights are block-diagonal with equal blocks, which `expand`
    returns; so a head sees only its slice of the channels, with ``3 * head_dim^2`` instead of ``3 * dim^2`` weights.

    The tutorial divides the scores by ``sqrt(dim)``. Here they are divided by ``sqrt(head_dim)``, as in the equation
    (Vaswani et al. 2017, eq. 1).

    Args:
        dim: Channels of the queries, of the keys, of the values and of the output.
        num_heads: Number of heads; None takes heads of 32 channels.
        bias: Whether the shared projections have a bias; the projection of the joined heads always has one.

    Raises:
        ConfigError: An argument is out of range, or the heads do not divide ``dim``.
    """

    def __init__(self, dim: int, num_heads: int | None = None, *, bias: bool = False) -> None:
        super().__init__()
        self.num_heads, self.head_dim = resolve_heads(dim, num_heads)
        check_flag("bias", bias)
        self.scale = self.head_dim**-0.5
        self.q = nn.Linear(self.head_dim, self.head_dim, bias=bias)
        self.k = nn.Linear(self.head_dim, self.head_dim, bias=bias)
        self.v = nn.Linear(self.head_dim, self.head_dim, bias=bias)
        self.proj = nn.Linear(dim, dim)

    def forward(
        self, query: Tensor, key: Tensor | None = None, value: Tensor | None = None, *, mask: Tensor | None = None
    ) -> Tensor:
        """Attend from each query to the keys that the mask leaves it.

        Args:
            query: Sequence of shape (B, Nq, dim).
            key: Sequence of shape (B, Nk, dim); None takes the query: self-attention.
            value: Sequence of shape (B, Nk, dim); None takes the key.
            mask: True where a query may attend a key, or floats to add to the scores, see `MultiHeadAttention.forward`.

        Returns:
            Output of shape (B, Nq, dim), exactly zero for a query without any key.

        Raises:
            ConfigError: A sequence or the mask does not fit.
        """
        key = query if key is None else key
        value = key if value is None else value
        dim = self.proj.in_features
        check_sequences(query, key, value, (dim, dim, dim), self.q.weight.dtype)
        slices = (x.view(*x.shape[:2], self.num_heads, self.head_dim) for x in (query, key, value))  # (B, N, h, d)
        q, k, v = (project(x).transpose(1, 2) for project, x in zip((self.q, self.k, self.v), slices, strict=True))
        scores_bias = keyless = None
        if mask is not None:
            scores_bias, keyless = combine_masks(mask, None, q, k)
        heads = attend(q, k, v, scores_bias, scale=self.scale)
        heads = heads if keyless is None else heads.masked_fill(keyless, 0.0)  # (B, h, Nq, d)
        out: Tensor = self.proj(heads.transpose(1, 2).flatten(2))  # (B, Nq, hd) -> (B, Nq, dim)
        return out if keyless is None else out.masked_fill(keyless.all(1), 0.0)

    @torch.no_grad()
    def expand(self) -> MultiHeadAttention:
        """Return the `MultiHeadAttention` that equals this one, with copies of the weights."""
        full = MultiHeadAttention(self.proj.in_features, self.num_heads)
        full.to(device=self.q.weight.device, dtype=self.q.weight.dtype)
        blocks = torch.eye(self.num_heads, device=self.q.weight.device, dtype=self.q.weight.dtype)
        for shared, wide in ((self.q, full.q), (self.k, full.k), (self.v, full.v)):
            wide.weight.copy_(torch.kron(blocks, shared.weight))
            wide.bias.copy_(torch.zeros_like(wide.bias) if shared.bias is None else shared.bias.repeat(self.num_heads))
        full.proj.load_state_dict(self.proj.state_dict())
        return full.train(self.training)
