"""Layers without states as ONNX nodes."""

from __future__ import annotations

import numpy as np

from ...activations import ReLU, Sigmoid, Tanh
from ...base import Layer
from ...layers import Dropout, Embedding, Linear
from ...normalization import LayerNorm
from ...pooling import LastStep, MaxPooling, MeanPooling
from .export_graph import Graph, Value


def linear(graph: Graph, layer: Linear, name: str, x: Value) -> Value:
    """Add x W^T + b."""
    y = x.of_features(layer.out_features, "Linear", layer.in_features)
    weight = graph.constant(f"{name}.W", layer.weight.data.T)
    product = graph.node("MatMul", [x.name, weight])
    if layer.bias is None:
        return y._replace(name=product)
    bias = graph.constant(f"{name}.B", layer.bias.data)
    return y._replace(name=graph.node("Add", [product, bias]))


def embedding(graph: Graph, layer: Embedding, name: str, x: Value) -> Value:
    """Add a look-up of ids."""
    weight = graph.constant(f"{name}.W", layer.weight.data)
    return Value(graph.node("Gather", [weight, x.name]), (*x.shape, layer.embedding_dim))


def layer_norm(graph: Graph, layer: LayerNorm, name: str, x: Value) -> Value:
    """Add a LayerNormalization."""
    y = x.of_features(layer.normalized_shape, "LayerNorm", layer.normalized_shape)
    inputs = [x.name, graph.constant(f"{name}.scale", layer.weight.data)]
    if layer.bias is not None:
        inputs.append(graph.constant(f"{name}.B", layer.bias.data))
    return y._replace(name=graph.node("LayerNormalization", inputs, axis=-1, epsilon=layer.eps))


def function(graph: Graph, layer: Layer, name: str, x: Value) -> Value:
    """Add a function of each value."""
    names: dict[type[Layer], str] = {Tanh: "Tanh", Sigmoid: "Sigmoid", ReLU: "Relu"}
    operator = names[type(layer)]
    return x._replace(name=graph.node(operator, [x.name]))


def dropout(graph: Graph, layer: Dropout, name: str, x: Value) -> Value:
    """Add nothing: at inference nothing is dropped."""
    return x


def pooling(graph: Graph, layer: LastStep | MeanPooling | MaxPooling, name: str, x: Value) -> Value:
    """Add what makes one vector of a sequence."""
    axis = 1 if layer.batch_first else 0
    if isinstance(layer, LastStep):
        last = graph.constant("last", np.array(-1, np.int64))
        y = graph.node("Gather", [x.name, last], axis=axis)
    else:
        operator = "ReduceMean" if isinstance(layer, MeanPooling) else "ReduceMax"
        y = graph.node(operator, [x.name], axes=[axis], keepdims=0)
    return Value(y, (*x.shape[:axis], *x.shape[axis + 1 :]))
