"""Multi-head attention between sequences."""

from __future__ import annotations

from torch import Tensor, nn

from ..errors import ConfigError, check_flag
from .attend import HeadNorm, attend
from .checks import check_positive, check_probability
from .heads import resolve_heads
from .masks import check_sequences, combine_masks
from .torch_state import from_torch_state, to_torch_state


class MultiHeadAttention(nn.Module):
    """Multi-head attention of a query sequence over a key and a value sequence (Vaswani et al. 2017, section 3.2.2).

    Each head attends with ``softmax(q k^T / sqrt(head_dim)) v``; the heads are joined and projected to ``dim``.

    Args:
        dim: Channels of the queries and of the output.
        num_heads: Number of heads; None takes heads of 32 channels.
        key_dim: Channels of the keys; None takes ``dim``.
        value_dim: Channels of the values; None takes those of the keys.
        head_dim: Channels of one head; with ``num_heads`` it sets the inner width freely.
        bias: Whether the four projections have a bias.
        qk_norm: Whether each head of queries and keys is normed, see `HeadNorm`.
        attn_drop: Dropout probability on the attention weights.
        proj_drop: Dropout probability on the output.

    Raises:
        ConfigError: An argument is out of range, or the heads do not divide ``dim``.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int | None = None,
        *,
        key_dim: int | None = None,
        value_dim: int | None = None,
        head_dim: int | None = None,
        bias: bool = True,
        qk_norm: bool = False,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_heads, self.head_dim = resolve_heads(dim, num_heads, head_dim)
        key_dim = dim if key_dim is None else key_dim
        value_dim = key_dim if value_dim is None else value_dim
        check_positive(key_dim=key_dim, value_dim=value_dim)
        check_flag("bias", bias)
        check_flag("qk_norm", qk_norm)
        check_probability(attn_drop=attn_drop, proj_drop=proj_drop)
        inner = self.num_heads * self.head_dim
        self.scale = self.head_dim**-0.5
        self.q = nn.Linear(dim, inner, bias=bias)
        self.k = nn.Linear(key_dim, inner, bias=bias)
        self.v = nn.Linear(value_dim, inner, bias=bias)
        self.q_norm, self.k_norm = (HeadNorm(self.head_dim) if qk_norm else nn.Identity() for _ in range(2))
        self.proj = nn.Linear(inner, dim, bias=bias)
        self.attn_drop = nn.Dropout(attn_drop)
        self.proj_drop = nn.Dropout(proj_drop)

    def forward(
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        valid_lens: Tensor | None = None,
        need_weights: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Attend from each query to the keys that the masks leave it.

        A query that the masks leave no key gets weights and an output of exactly zero.

        Args:
            query: Sequence of shape (B, Nq, dim).
            key: Sequence of shape (B, Nk, key_dim); None takes the query: self-attention.
            value: Sequence of shape (B, Nk, value_dim); None takes the key.
            mask: Booleans, True where a query may attend a key, as in ``F.scaled_dot_product_attention`` (the boolean
                masks of ``nn.MultiheadAttention`` mean the opposite: give ``~attn_mask``, and for a key_padding_mask
                ``~key_padding_mask[:, None, None]``); or floats to add to the scores, where -inf forbids. Causal
                attention is ``torch.ones(Nq, Nk, dtype=torch.bool).tril()``. Of shape (Nq, Nk), (B, Nq, Nk) or
                (B or 1, h or 1, Nq or 1, Nk).
            valid_lens: Integers of shape (B,) or (B, Nq): only so many keys, from the first on, may be attended (Zhang
                et al., Dive into Deep Learning, section 11.5; 10.5 in older editions). Holds in addition to ``mask``.
                Their range is checked, which waits for the GPU; a compiled or exported graph does not check it.
            need_weights: Whether to return the attention weights too, which builds the Nq x Nk matrix of each head.

        Returns:
            Output of shape (B, Nq, dim), or with ``need_weights`` a pair of it and of the weights of shape
            (B, h, Nq, Nk), as they are before dropout.

        Raises:
            ConfigError: A sequence or a mask does not fit, or a length is out of range.
        """
        key = query if key is None else key
        value = key if value is None else value
        widths = (self.q.in_features, self.k.in_features, self.v.in_features)
        check_sequences(query, key, value, widths, self.q.weight.dtype)
        projected = (self.q(query), self.k(key), self.v(value))
        # views (B, h, N, d) of (B, N, hd); the last stride stays 1, which the fused kernels need
        q, k, v = (x.view(*x.shape[:2], self.num_heads, self.head_dim).transpose(1, 2) for x in projected)
        q, k = self.q_norm(q), self.k_norm(k)
        bias = keyless = weights = None
        if mask is not None or valid_lens is not None:
            bias, keyless = combine_masks(mask, valid_lens, q, k)
        if need_weights:
            scores = (q * self.scale) @ k.transpose(2, 3)  # (B, h, Nq, Nk)
            weights = (scores if bias is None else scores + bias).softmax(-1)
            weights = weights if keyless is None else weights.masked_fill(keyless, 0.0)
            out = self.attn_drop(weights) @ v  # (B, h, Nq, d)
        else:
            out = attend(q, k, v, bias, scale=self.scale, dropout=self.attn_drop.p if self.training else 0.0)
            out = out if keyless is None else out.masked_fill(keyless, 0.0)  # (B, h, Nq, d)
        out = self.proj_drop(self.proj(out.transpose(1, 2).flatten(2)))  # (B, Nq, hd) -> (B, Nq, dim)
        if keyless is not None:
            out = out.masked_fill(keyless.all(1), 0.0)  # without a key in any head: no bias of the projection either
        return out if weights is None else (out, weights)

    @classmethod
    def from_torch(cls, module: nn.MultiheadAttention) -> MultiHeadAttention:
        """Return the same attention as PyTorch's module, with copies of its weights.

        The batch comes first here, whatever ``module.batch_first`` is.

        Args:
            module: Module to convert; its dtype, device, dropout and training mode are kept.

        Raises:
            ConfigError: It is another module, or has an option without a counterpart here.
        """
        if not isinstance(module, nn.MultiheadAttention):
            raise ConfigError(
                "This is not PyTorch's attention module.",
                given=type(module).__name__,
                expected="an nn.MultiheadAttention",
            )
        if module.add_zero_attn:
            raise ConfigError(
                "MultiHeadAttention does not support an extra key and value of zeros.",
                given="add_zero_attn=True",
                expected="a module with add_zero_attn=False",
            )
        state = from_torch_state(module.state_dict())
        ours = cls(
            module.embed_dim,
            module.num_heads,
            key_dim=module.kdim,
            value_dim=module.vdim,
            bias="q.bias" in state,
            attn_drop=module.dropout,
        )
        ours.to(device=state["q.weight"].device, dtype=state["q.weight"].dtype).load_state_dict(state)
        return ours.train(module.training)

    def to_torch(self) -> nn.MultiheadAttention:
        """Return the same attention as a PyTorch module with ``batch_first=True``, with copies of the weights.

        Raises:
            ConfigError: An option has no counterpart there: a norm, an output dropout, an inner width that is not
                ``dim``.
        """
        state = to_torch_state(self.state_dict())
        if self.proj_drop.p:
            raise ConfigError(
                "nn.MultiheadAttention has no dropout on its output.",
                given=f"proj_drop={self.proj_drop.p}",
                expected="proj_drop=0",
            )
        theirs = nn.MultiheadAttention(
            self.q.in_features,
            self.num_heads,
            dropout=self.attn_drop.p,
            bias=self.q.bias is not None,
            kdim=self.k.in_features,
            vdim=self.v.in_features,
            batch_first=True,
            device=self.q.weight.device,
            dtype=self.q.weight.dtype,
        )
        theirs.load_state_dict(state)
        return theirs.train(self.training)
