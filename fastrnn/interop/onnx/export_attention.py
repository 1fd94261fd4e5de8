"""Attention layers as nodes of a graph; inside, the batch is the first axis, as in `Memory`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ...attention import (
    AdditiveAttention,
    Attention,
    DotAttention,
    GeneralAttention,
    MultiHeadAttention,
    SelfAttentivePooling,
)
from .export_graph import Graph, Shape, Value, joined_name
from .export_layers import linear


class Memory(NamedTuple):
    """A prepared memory: keys and values (B, T_m, .) or (B, N, T_m, .), mask (B, T_m) or ""."""

    keys: str
    values: str
    mask: str


def attention(graph: Graph, layer: Attention) -> None:
    """Add an attention layer alone: query and memory in, context and weights out."""
    if graph.options.step:
        raise ValueError(f"method: expected 'call' for {type(layer).__name__}, got 'step'")
    first = layer.batch_first

    def sequences(T: str, size: int) -> Shape:
        return ("B", T, size) if first else (T, "B", size)

    query = graph.input("query", sequences("T", layer.query_size))
    memory = memory_input(graph, layer)
    prepared = prepare(graph, layer, "", memory.name)
    context, weights = read(graph, layer, "", query.name, prepared)
    shape = sequences("T", layer.context_size)
    graph.output("context", Value(context, shape))
    graph.output("weights", Value(weights, weights_shape(layer, "T", "T_m")))


def memory_input(graph: Graph, layer: Attention) -> Value:
    """Declare the input "memory", and "lengths" if there are to be any."""
    axes = ("B", "T_m") if layer.batch_first else ("T_m", "B")
    memory = graph.input("memory", (*axes, layer.memory_size))
    graph.lengths_input()
    return memory


def weights_shape(layer: Attention, T: str, T_m: str) -> Shape:
    """Return the shape of the weights."""
    axes = ("B", T) if layer.batch_first else (T, "B")
    if isinstance(layer, MultiHeadAttention) and not layer.average_attn_weights:
        return (*axes, layer.num_heads, T_m)
    return (*axes, T_m)


def memory_shapes(layer: Attention, T_m: str) -> dict[str, Shape]:
    """Return the shapes of keys, values and mask of a prepared memory."""
    if isinstance(layer, MultiHeadAttention):
        heads: Shape = ("B", layer.num_heads, T_m, layer.embed_dim // layer.num_heads)
        return {"keys": heads, "values": heads, "mask": ("B", T_m)}
    size = layer.attention_size if isinstance(layer, AdditiveAttention) else layer.memory_size
    return {
        "keys": ("B", T_m, size),
        "values": ("B", T_m, layer.memory_size),
        "mask": ("B", T_m),
    }


def prepare(graph: Graph, layer: Attention, name: str, memory: str) -> Memory:
    """Return what does not depend on the query, of a memory in the layer's layout."""
    rows, mask = graph.swapped(memory, not layer.batch_first), ""
    if graph.lengths:
        real = graph.real_steps(rows, 1)
        rows = graph.where(real, rows)
        mask = graph.node("Squeeze", real, graph.integers(2))
    if isinstance(layer, MultiHeadAttention):
        keys, values = (_heads(graph, layer, name, i, rows) for i in (1, 2))
        return Memory(keys, values, mask)
    keys = rows
    if isinstance(layer, AdditiveAttention):
        keys = part(graph, layer, name, "memory_layer", rows)
    return Memory(keys, rows, mask)


def read(graph: Graph, layer: Attention, name: str, query: str, memory: Memory) -> tuple[str, str]:
    """Return context and weights of a query in the layer's layout, and in that."""
    rows = graph.swapped(query, not layer.batch_first)
    scores = SCORES[type(layer)](graph, layer, name, rows, memory.keys)
    mask = memory.mask
    if mask:
        axes = (1, 2) if isinstance(layer, MultiHeadAttention) else (1,)
        mask = graph.node("Unsqueeze", mask, graph.integers(*axes))
    context, weights = attend(graph, scores, memory.values, mask)
    if isinstance(layer, MultiHeadAttention):
        context = graph.node("Transpose", context, perm=[0, 2, 1, 3])
        context = graph.node("Reshape", context, graph.integers(0, 0, -1))
        context = part(graph, layer, name, "out_proj", context)
        if layer.average_attn_weights:
            weights = graph.node("ReduceMean", weights, axes=[1], keepdims=0)
        else:
            weights = graph.node("Transpose", weights, perm=[0, 2, 1, 3])
    rank = len(weights_shape(layer, "", ""))
    swap = not layer.batch_first
    return graph.swapped(context, swap), graph.swapped(weights, swap, rank)


def attend(graph: Graph, scores: str, values: str, mask: str) -> tuple[str, str]:
    """Return the weighted sums of values, and the weights; those of an empty row are all 0.

    `mask` has the scores' axes; "" where all steps are real.
    """
    if not mask:
        weights = graph.node("Softmax", scores, axis=-1)
    else:
        masked = graph.where(mask, scores, float("-inf"))
        top = graph.node("ReduceMax", masked, axes=[-1], keepdims=1)
        finite = graph.node("Max", top, graph.number(float(np.finfo(graph.dtype).min)))
        powers = graph.node("Exp", graph.node("Sub", masked, finite))
        total = graph.node("ReduceSum", powers, graph.integers(-1), keepdims=1)
        some = graph.node("Greater", total, graph.number(0.0))
        weights = graph.node("Div", powers, graph.where(some, total, 1.0))
    return graph.node("MatMul", weights, values), weights


def self_attentive_pooling(graph: Graph, layer: SelfAttentivePooling) -> None:
    """Add the pooling alone: x in, y and weights out."""
    if graph.options.step:
        raise ValueError("method: expected 'call' for SelfAttentivePooling, got 'step'")
    axes = ("B", "T") if layer.batch_first else ("T", "B")
    x = graph.input("x", (*axes, layer.in_features))
    graph.lengths_input()
    rows, mask = graph.swapped(x.name, not layer.batch_first), ""
    if graph.lengths:
        real = graph.real_steps(rows, 1)
        rows = graph.where(real, rows)
        mask = graph.node("Transpose", real, perm=[0, 2, 1])
    hidden = graph.node("Tanh", part(graph, layer, "", "hidden_layer", rows))
    scores = part(graph, layer, "", "hop_layer", hidden)
    turned = graph.node("Transpose", scores, perm=[0, 2, 1])
    sums, weights = attend(graph, turned, rows, mask)
    y = graph.node("Reshape", sums, graph.integers(0, -1))
    graph.output("y", Value(y, ("B", layer.hops * layer.in_features)))
    graph.output("weights", Value(weights, ("B", layer.hops, "T")))


# --- what the kinds of attention differ in --------------------------------------------------------


def part(graph: Graph, layer: Any, name: str, child: str, x: str) -> str:
    """Return the output of a Linear layer that is a part of a layer, under the name `child`."""
    inner = layer.children()[child]
    return linear(graph, inner, joined_name(name, child), Value(x, (inner.in_features,))).name


def _products(graph: Graph, q: str, keys: str, scale: float) -> str:
    turned = graph.node("Transpose", keys, perm=[0, 2, 1])
    return _scaled(graph, graph.node("MatMul", q, turned), scale)


def _scaled(graph: Graph, scores: str, scale: float) -> str:
    return scores if scale == 1.0 else graph.node("Mul", scores, graph.number(scale))


def _dot(graph: Graph, layer: DotAttention, name: str, q: str, keys: str) -> str:
    return _products(graph, q, keys, layer.size**-0.5 if layer.scaled else 1.0)


def _general(graph: Graph, layer: GeneralAttention, name: str, q: str, keys: str) -> str:
    return _products(graph, part(graph, layer, name, "query_layer", q), keys, 1.0)


def _additive(graph: Graph, layer: AdditiveAttention, name: str, q: str, keys: str) -> str:
    projected = part(graph, layer, name, "query_layer", q)
    each = graph.node("Unsqueeze", projected, graph.integers(2))
    every = graph.node("Unsqueeze", keys, graph.integers(1))
    hidden = graph.node("Tanh", graph.node("Add", each, every))
    scores = part(graph, layer, name, "attention_v", hidden)
    return graph.node("Squeeze", scores, graph.integers(-1))


def _multi_head(graph: Graph, layer: MultiHeadAttention, name: str, q: str, keys: str) -> str:
    turned = graph.node("Transpose", keys, perm=[0, 1, 3, 2])
    scores = graph.node("MatMul", _heads(graph, layer, name, 0, q), turned)
    return _scaled(graph, scores, (layer.embed_dim // layer.num_heads) ** -0.5)


def _heads(graph: Graph, layer: MultiHeadAttention, name: str, which: int, x: str) -> str:
    """Return the heads (B, N, T, E / N) of queries, keys or values (which: 0, 1, 2)."""
    parameters, E, N = layer.parameters(), layer.embed_dim, layer.num_heads
    rows, letter = slice(which * E, which * E + E), "qkv"[which]
    if "in_proj_weight" in parameters:
        matrix = parameters["in_proj_weight"].data[rows]
    else:
        matrix = parameters[f"{letter}_proj_weight"].data
    weight = graph.constant(joined_name(name, f"{letter}.W"), matrix.T)
    y = graph.node("MatMul", x, weight)
    if layer.bias:
        bias = parameters["in_proj_bias"].data[rows]
        y = graph.node("Add", y, graph.constant(joined_name(name, f"{letter}.B"), bias))
    split = graph.node("Reshape", y, graph.integers(0, 0, N, E // N))
    return graph.node("Transpose", split, perm=[0, 2, 1, 3])


SCORES: dict[type, Callable[[Graph, Any, str, str, str], str]] = {
    DotAttention: _dot,
    GeneralAttention: _general,
    AdditiveAttention: _additive,
    MultiHeadAttention: _multi_head,
}
