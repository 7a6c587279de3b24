"""The weights of `MultiHeadAttention` as those of ``torch.nn.MultiheadAttention``, and back."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..errors import ConfigError

SPLIT_WEIGHTS = {"q_proj_weight", "k_proj_weight", "v_proj_weight"}
BIASES = {"in_proj_bias", "out_proj.bias"}


def from_torch_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename and split the tensors of an ``nn.MultiheadAttention`` into those of a `MultiHeadAttention`.

    Args:
        state: State dict with ``in_proj_weight`` (3E, E) or with ``q_proj_weight``, ``k_proj_weight`` and
            ``v_proj_weight``, with ``out_proj.weight``, and with both or none of the biases.

    Returns:
        State dict of a `MultiHeadAttention`; its tensors are views of the given ones.

    Raises:
        ConfigError: A tensor is missing, or one has no counterpart here.
    """
    names = set(state)
    if "bias_k" in names or "bias_v" in names:
        raise ConfigError(
            "MultiHeadAttention does not support a learned extra key and value.",
            given="bias_k, bias_v",
            expected="a module with add_bias_kv=False",
        )
    weights = names - BIASES - {"out_proj.weight"}
    if (
        "out_proj.weight" not in names
        or (weights != {"in_proj_weight"} and weights != SPLIT_WEIGHTS)
        or (names & BIASES and not names >= BIASES)
    ):
        raise ConfigError(
            "This is not the state dict of an nn.MultiheadAttention.",
            given=", ".join(sorted(names)) or "no tensor",
            expected="in_proj_weight or q_proj_weight, k_proj_weight and v_proj_weight; out_proj.weight; "
            "in_proj_bias and out_proj.bias or neither",
        )
    if weights == SPLIT_WEIGHTS:
        ours = {f"{n}.weight": state[f"{n}_proj_weight"] for n in "qkv"}
    else:
        ours = {f"{n}.weight": w for n, w in zip("qkv", state["in_proj_weight"].chunk(3), strict=True)}
    ours["proj.weight"] = state["out_proj.weight"]
    if "in_proj_bias" in names:
        ours.update({f"{n}.bias": b for n, b in zip("qkv", state["in_proj_bias"].chunk(3), strict=True)})
        ours["proj.bias"] = state["out_proj.bias"]
    return ours


def to_torch_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Do the reverse of `from_torch_state`.

    Args:
        state: State dict of a `MultiHeadAttention` whose inner width is ``dim``, without norm of queries and keys.

    Returns:
        State dict of an ``nn.MultiheadAttention``, packed where keys and values are as wide as queries.

    Raises:
        ConfigError: A tensor is missing, or one has no counterpart there.
    """
    names = set(state)
    if any(name.startswith(("q_norm.", "k_norm.")) for name in names):
        raise ConfigError(
            "nn.MultiheadAttention does not normalize queries and keys.", given="qk_norm=True", expected="qk_norm=False"
        )
    weights = {f"{n}.weight" for n in ("q", "k", "v", "proj")}
    biases = {f"{n}.bias" for n in ("q", "k", "v", "proj")}
    if names not in (weights, weights | biases):
        raise ConfigError(
            "This is not the state dict of a MultiHeadAttention.",
            given=", ".join(sorted(names)) or "no tensor",
            expected="the weights of q, k, v and proj, and all of their biases or none",
        )
    q, k, v = (state[f"{n}.weight"] for n in "qkv")
    inner, dim = q.shape
    if inner != dim:
        raise ConfigError(
            "nn.MultiheadAttention has the same inner width as its input.",
            given=f"num_heads * head_dim = {inner}, dim={dim}",
            expected="num_heads * head_dim = dim",
        )
    if q.shape == k.shape == v.shape:
        theirs = {"in_proj_weight": torch.cat((q, k, v))}
    else:
        theirs = {"q_proj_weight": q, "k_proj_weight": k, "v_proj_weight": v}
    theirs["out_proj.weight"] = state["proj.weight"]
    if names >= biases:
        theirs["in_proj_bias"] = torch.cat([state[f"{n}.bias"] for n in "qkv"])
        theirs["out_proj.bias"] = state["proj.bias"]
    return theirs
