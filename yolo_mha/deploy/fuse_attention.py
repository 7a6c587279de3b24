"""Attention subgraphs of an ONNX model become ONNX Runtime's fused multi-head attention."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import ModelProto, NodeProto, helper, numpy_helper

DOMAIN = "com.microsoft"
SWAP_HEADS_TOKENS = [0, 2, 1, 3]  # (B, h, N, d) to (B, N, h, d) and back
SWAP_TOKENS_DIMS = [0, 1, 3, 2]  # (B, h, N, d) to (B, h, d, N) and back
JOIN_TURNED = [0, 3, 1, 2]  # (B, h, d, N) to (B, N, h, d)
SPLIT_TURNED = [0, 2, 3, 1]  # and back


def fuse_attention(model: ModelProto, height: int, width: int) -> tuple[int, int]:
    """Replace attention without a mask by ``com.microsoft.MultiHeadAttention``, in place.

    ONNX Runtime's kernel for CPUs goes through the keys block by block (FlashAttention, Dao et al. 2022), so that the
    N x N matrix is never in memory. What has a mask, such as attention in windows, is left as it is.

    Args:
        model: The exported model, with one input of images.
        height: Height in pixels of an input that it takes.
        width: Width likewise.

    Returns:
        How many attentions were replaced, and how many were left because they have a mask or another form.
    """
    graph = model.graph
    matched = [a for node in graph.node if node.op_type == "Softmax" and (a := _match(graph, node))]
    masked = sum(node.op_type == "Softmax" and _is_masked(graph, node) for node in graph.node)
    shapes = _run(model, [scores.input[0] for scores, *_ in matched], height, width) if matched else []
    found = [(nodes, shape[1]) for nodes, shape in zip(matched, shapes, strict=True) if _has_heads(nodes[1], shape)]
    for nodes, heads in found:
        _replace(graph, nodes, heads)
    left = masked + len(matched) - len(found)
    if not found:
        return 0, left
    produced = {name for node in graph.node for name in node.output}
    still_there = {v.name: v for v in graph.value_info if v.name in produced}.values()
    del graph.value_info[:]
    graph.value_info.extend(still_there)
    if DOMAIN not in {o.domain for o in model.opset_import}:
        model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    return len(found), left


def _match(graph: Any, softmax: NodeProto) -> list[NodeProto] | None:
    """Find the nodes of ``softmax(q k^T) v`` around a softmax, or None where there is another form, or none at all.

    They are the product of queries (B, h, Nq, d) and keys (B, h, d, Nk), the softmax and the product with the values;
    before the last one a transpose, where values and result are (B, h, d, N), as in Ultralytics' `Attention`, instead
    of (B, h, N, d).
    """
    scores, out = _producer(graph, softmax.input[0]), _only_user(graph, softmax.output[0])
    if scores is None or scores.op_type != "MatMul" or out is None or not _only_user(graph, scores.output[0]):
        return None
    nodes = [scores, softmax]
    turned = out.op_type == "Transpose" and list(out.attribute[0].ints) == SWAP_TOKENS_DIMS
    if turned:
        nodes.append(out)
        out = _only_user(graph, out.output[0])
    if out is None or out.op_type != "MatMul" or out.input[1 if turned else 0] != nodes[-1].output[0]:
        return None
    return [*nodes, out]


def _replace(graph: Any, nodes: list[NodeProto], heads: int) -> None:
    """Put the fused operator where the attention was; ONNX Runtime itself drops transposes that cancel."""
    scores, softmax, *transpose, out = nodes
    name = softmax.name or softmax.output[0]
    new: list[NodeProto] = []

    def add(operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        output = output or f"{name}/fused_{len(new)}"
        new.append(helper.make_node(operator, inputs, [output], name=f"{name}/Fused_{len(new)}", **attributes))
        return output

    def shape(*dims: int) -> str:
        constant = numpy_helper.from_array(np.array(dims, np.int64), f"{name}/shape_{len(dims)}")
        graph.initializer.append(constant)
        return str(constant.name)

    query, key = scores.input
    if transpose:
        values, join, split = out.input[0], JOIN_TURNED, SPLIT_TURNED
    else:
        values, join, split = out.input[1], SWAP_HEADS_TOKENS, SWAP_HEADS_TOKENS
    joined = shape(0, 0, -1)
    q = add("Reshape", add("Transpose", query, perm=SWAP_HEADS_TOKENS), joined)  # (B, Nq, h * d)
    k = add("Reshape", add("Transpose", key, perm=JOIN_TURNED), joined)  # (B, Nk, h * d)
    v = add("Reshape", add("Transpose", values, perm=join), joined)
    # queries and keys are scaled before their product already
    fused = add("MultiHeadAttention", q, k, v, domain=DOMAIN, num_heads=heads, scale=1.0)  # (B, Nq, h * dv)
    maps = add("Reshape", fused, shape(0, 0, heads, -1))
    add("Transpose", maps, output=out.output[0], perm=split)
    at = list(graph.node).index(out)
    for i, node in enumerate(new):
        graph.node.insert(at + i, node)
    for node in nodes:
        graph.node.remove(node)


def _has_heads(softmax: NodeProto, queries: tuple[int, ...]) -> bool:
    """Say whether queries are (B, h, N, d) and the softmax is over the keys."""
    axis = next((a.i for a in softmax.attribute if a.name == "axis"), -1)
    return len(queries) == 4 and axis in (-1, 3)


def _run(model: ModelProto, queries: list[str], height: int, width: int) -> list[tuple[int, ...]]:
    """Run the model once to see the shapes of the queries."""
    probe = ModelProto()
    probe.CopyFrom(model)
    del probe.graph.output[:]
    probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in queries)
    session = onnxruntime.InferenceSession(probe.SerializeToString(), providers=["CPUExecutionProvider"])
    image = session.get_inputs()[0]
    batch = image.shape[0] if isinstance(image.shape[0], int) else 1
    kind = np.float16 if "float16" in image.type else np.float32
    outputs = session.run(None, {image.name: np.zeros((batch, image.shape[1], height, width), kind)})
    return [tuple(q.shape) for q in outputs]


def _producer(graph: Any, name: str) -> NodeProto | None:
    return next((node for node in graph.node if name in node.output), None)


def _only_user(graph: Any, name: str) -> NodeProto | None:
    users = [node for node in graph.node if name in node.input]
    return users[0] if len(users) == 1 else None


def _is_masked(graph: Any, softmax: NodeProto) -> bool:
    """Say whether a softmax is that of scores to which a mask was added."""
    masked = _producer(graph, softmax.input[0])
    added = masked.input if masked and masked.op_type == "Add" else []
    return any((node := _producer(graph, name)) and node.op_type == "MatMul" for name in added)
