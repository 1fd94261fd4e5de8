"""Layers without states, and those around others, as nodes of a graph."""

from __future__ import annotations

import numpy as np

from ...activations import ReLU, Sigmoid, Softmax, Tanh
from ...base import Layer
from ...layers import Dropout, Embedding, Linear, Sequential
from ...normalization import BatchNorm, LayerNorm
from ...pooling import LastStep, MaxPooling, MeanPooling
from ...wrappers import Highway, Residual
from .export_graph import Graph, Value, joined_name
from .export_recurrent import check_layout

FUNCTIONS: dict[type[Layer], str] = {Tanh: "Tanh", Sigmoid: "Sigmoid", ReLU: "Relu"}


def sequential(graph: Graph, layer: Sequential, name: str, x: Value) -> Value:
    """Add layers one after the other."""
    for child, part in layer.children().items():
        x = graph.convert(part, joined_name(name, child), x)
    return x


def residual(graph: Graph, layer: Residual, name: str, x: Value) -> Value:
    """Add a layer, and its input to its output."""
    y = _like(x, graph.convert(layer.layer, joined_name(name, "layer"), x))
    return y._replace(name=graph.node("Add", x.name, y.name))


def highway(graph: Graph, layer: Highway, name: str, x: Value) -> Value:
    """Add a layer, and a gate between its input and its output."""
    y = _like(x, graph.convert(layer.layer, joined_name(name, "layer"), x))
    scores = linear(graph, layer.gate, joined_name(name, "gate"), x)
    gate = graph.node("Sigmoid", scores.name)
    change = graph.node("Mul", gate, graph.node("Sub", y.name, x.name))
    return y._replace(name=graph.node("Add", x.name, change))


def _like(x: Value, y: Value) -> Value:
    if x.shape[:-1] != y.shape[:-1] or (
        x.shape[-1] != y.shape[-1] and isinstance(x.shape[-1], int)
    ):
        raise ValueError(f"layer: expected an output of its input's shape {x.shape}, got {y.shape}")
    return y


def linear(graph: Graph, layer: Linear, name: str, x: Value) -> Value:
    """Add x W^T + b."""
    y = x.of_features(layer.out_features, "Linear", layer.in_features)
    weight = graph.constant(joined_name(name, "W"), layer.weight.data.T)
    product = graph.node("MatMul", x.name, weight)
    if layer.bias is None:
        return y._replace(name=product)
    bias = graph.constant(joined_name(name, "B"), layer.bias.data)
    return y._replace(name=graph.node("Add", product, bias))


def embedding(graph: Graph, layer: Embedding, name: str, x: Value) -> Value:
    """Add a look-up of ids."""
    if x.shape[-1] not in ("T", "B"):
        raise ValueError("model: Embedding expects token ids, gets numbers of a layer before it")
    weight = graph.constant(joined_name(name, "W"), layer.weight.data)
    return Value(graph.node("Gather", weight, x.name), (*x.shape, layer.embedding_dim))


def layer_norm(graph: Graph, layer: LayerNorm, name: str, x: Value) -> Value:
    """Add a LayerNormalization."""
    y = x.of_features(layer.normalized_shape, "LayerNorm", layer.normalized_shape)
    inputs = [x.name, graph.constant(joined_name(name, "scale"), layer.weight.data)]
    if layer.bias is not None:
        inputs.append(graph.constant(joined_name(name, "B"), layer.bias.data))
    return y._replace(name=graph.node("LayerNormalization", *inputs, axis=-1, epsilon=layer.eps))


def batch_norm(graph: Graph, layer: BatchNorm, name: str, x: Value) -> Value:
    """Add the normalisation by running statistics or, without them, by those of the input."""
    y = x.of_features(layer.num_features, "BatchNorm", layer.num_features)
    real = _real_steps(graph, layer, x)
    if layer.running_mean is not None and layer.running_var is not None:
        mean = graph.constant(joined_name(name, "mean"), layer.running_mean.data)
        var = layer.running_var.data + layer.dtype.type(layer.eps)
        deviation = graph.constant(joined_name(name, "deviation"), np.sqrt(var))
        normal = graph.node("Div", graph.node("Sub", x.name, mean), deviation)
    else:
        mean = _mean(graph, x, x.name, real)
        centred = graph.node("Sub", x.name, mean)
        var = _mean(graph, x, graph.node("Mul", centred, centred), real)
        shifted = graph.node("Add", var, graph.number(layer.eps))
        normal = graph.node("Div", centred, graph.node("Sqrt", shifted))
    if layer.weight is not None and layer.bias is not None:
        weight = graph.constant(joined_name(name, "scale"), layer.weight.data)
        bias = graph.constant(joined_name(name, "B"), layer.bias.data)
        normal = graph.node("Add", graph.node("Mul", normal, weight), bias)
    return y._replace(name=graph.where(real, normal) if real else normal)


def _real_steps(
    graph: Graph, layer: BatchNorm | LastStep | MeanPooling | MaxPooling, x: Value
) -> str:
    """Return which steps are before their row's end, laid out as x; "" for all."""
    if not graph.lengths or len(x.shape) != 3:
        return ""
    check_layout(layer, x)
    return graph.real_steps(x.name, int(layer.batch_first))


def _mean(graph: Graph, x: Value, values: str, real: str) -> str:
    """Return the mean of `values`, of the shape of x, over all axes but the last."""
    axes = graph.integers(*range(len(x.shape) - 1))
    if not real:
        total = graph.node("ReduceSum", values, axes, keepdims=0)
        sizes = graph.node("Shape", values, start=0, end=len(x.shape) - 1)
        count = graph.node("ReduceProd", sizes, keepdims=1)
    else:
        total = graph.node("ReduceSum", graph.where(real, values), axes, keepdims=0)
        count = graph.node("ReduceSum", graph.lengths, keepdims=1)
    least = graph.node("Max", graph.cast(count, graph.dtype), graph.number(1.0))
    return graph.node("Div", total, least)


def function(graph: Graph, layer: Layer, name: str, x: Value) -> Value:
    """Add a function of each value."""
    return x._replace(name=graph.node(FUNCTIONS[type(layer)], x.name))


def softmax(graph: Graph, layer: Softmax, name: str, x: Value) -> Value:
    """Add a softmax along the layer's axis."""
    return x._replace(name=graph.node("Softmax", x.name, axis=layer.dim))


def dropout(graph: Graph, layer: Dropout, name: str, x: Value) -> Value:
    """Add nothing: at inference nothing is dropped."""
    return x


def pooling(graph: Graph, layer: LastStep | MeanPooling | MaxPooling, name: str, x: Value) -> Value:
    """Add what makes one vector of a sequence."""
    kind = type(layer).__name__
    if graph.options.step:
        raise ValueError(f"method: expected 'call' for a model with {kind}, got 'step'")
    if len(x.shape) != 3:
        raise ValueError(f"model: {kind} expects sequences, gets the shape {x.shape}")
    check_layout(layer, x)
    axis = int(layer.batch_first)
    pool = _pooled_ragged if graph.lengths else _pooled
    y = pool(graph, layer, x, axis)
    return Value(y, (*x.shape[:axis], *x.shape[axis + 1 :]))


def _pooled(graph: Graph, layer: Layer, x: Value, axis: int) -> str:
    if isinstance(layer, LastStep):
        last = graph.constant("last", np.array(-1, np.int64))
        return graph.node("Gather", x.name, last, axis=axis)
    operator = "ReduceMean" if isinstance(layer, MeanPooling) else "ReduceMax"
    return graph.node(operator, x.name, axes=[axis], keepdims=0)


def _pooled_ragged(graph: Graph, layer: Layer, x: Value, axis: int) -> str:
    """Return the pooling of the real steps; zeros for a row without any."""
    axes = graph.integers(axis)
    if isinstance(layer, LastStep):
        ends = graph.node("Sub", graph.lengths, graph.integers(1))
        steps = graph.node("Unsqueeze", graph.steps(x.name, axis), graph.integers(1 - axis, 2))
        last = graph.node("Equal", steps, graph.node("Unsqueeze", ends, graph.integers(axis, 2)))
        return graph.node("ReduceSum", graph.where(last, x.name), axes, keepdims=0)
    real = graph.real_steps(x.name, axis)
    if isinstance(layer, MeanPooling):
        total = graph.node("ReduceSum", graph.where(real, x.name), axes, keepdims=0)
        count = graph.cast(graph.node("Max", graph.lengths, graph.integers(1)), graph.dtype)
        return graph.node("Div", total, graph.node("Unsqueeze", count, graph.integers(1)))
    largest = graph.where(real, x.name, float("-inf"))
    most = graph.node("ReduceMax", largest, axes=[axis], keepdims=0)
    some = graph.node(
        "Unsqueeze", graph.node("Greater", graph.lengths, graph.integers(0)), graph.integers(1)
    )
    return graph.where(some, most)
