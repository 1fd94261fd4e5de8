"""Models as ONNX graphs: `export_model`.

Recurrent layers become ONNX's operators RNN, GRU and LSTM
(https://onnx.ai/onnx/operators/onnx__LSTM.html and its neighbours), one for each layer of a stack.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ...activations import ReLU, Sigmoid, Tanh
from ...base import Layer, check_flag
from ...layers import Dropout, Embedding, Linear, Sequential, VariationalDropout
from ...normalization import LayerNorm
from ...pooling import LastStep, MaxPooling, MeanPooling
from ...recurrent import GRU, LSTM, RNN
from ...serialization import write_atomically
from .export_graph import Graph, Value
from .export_layers import dropout, embedding, function, layer_norm, linear, pooling
from .export_recurrent import recurrent

__all__ = ["export_model"]

MOST_BYTES = 2**31 - 2**20  # a protobuf message ends at 2 GiB


def export_model(
    model: Layer,
    path: str | os.PathLike[str] | None = None,
    *,
    ids: bool = False,
    states: bool = True,
    metadata: Mapping[str, str] | None = None,
) -> Any:
    """Return a model as an ONNX model, and write it to a file.

    The number of steps T and of rows B are free in the graph. Its inputs are "x" (T, B, F), or
    "ids" (T, B), and the states "h0" and, of an LSTM, "c0", (num_layers * D, B, H); its outputs
    "y", "hn" and "cn". Where several layers have states, their positions in the model follow:
    "h0_0", "h0_2". With `batch_first` x and y are (B, T, F).

    Parameters
    ----------
    model : Layer
        A `Sequential`, or a single layer, of `RNN`, `GRU`, `LSTM`, `Linear`, `Embedding`,
        `LayerNorm`, `LastStep`, `MeanPooling`, `MaxPooling`, `Tanh`, `Sigmoid`, `ReLU` and dropout,
        which is left out.
    path : str or os.PathLike, optional
        Usually "....onnx".
    ids : bool, default False
        Whether the model's first layer, a recurrent one, is given token ids: their one-hot vectors
        are made in the graph. (The input of an `Embedding` is ids in any case.)
    states : bool, default True
        Whether states are inputs and outputs; without, sequences start from zeros.
    metadata : mapping of str to str, optional
        For the model's ``metadata_props``.

    Returns
    -------
    onnx.ModelProto
        Checked by ``onnx.checker``.

    Raises
    ------
    TypeError
        If `model` is, or has in it, a layer that is not in the list above.
    ValueError
        For an option of a layer that ONNX's operators do not have (proj_size, layer_norm,
        cell_clip, zoneout, go_backwards, learned_state, "prelu"), layers that do not fit one
        another, or a model of 2 GiB or more.
    OSError
        If the file cannot be written.
    ImportError
        If the package onnx is missing.

    Notes
    -----
    ONNX Runtime runs these operators in float32; a float64 model is exported as it is.
    """
    check_flag("ids", ids)
    graph = Graph(check_flag("states", states))
    layers = list(_flat(model, ""))
    bytes_of_weights = sum(parameter.data.nbytes for parameter in model.parameters().values())
    if bytes_of_weights > MOST_BYTES:
        raise ValueError(f"model: expected less than 2 GiB, got {bytes_of_weights:,} bytes")
    value = graph.first_input(layers, ids)
    for name, layer in layers:
        value = CONVERTERS[type(layer)](graph, layer, name, value)
    proto = graph.finish(value, metadata or {})
    if path is not None:
        write_atomically(path, proto.SerializeToString())
    return proto


def _flat(layer: Any, name: str) -> Iterator[tuple[str, Layer]]:
    """Yield the layers of nested Sequentials with the names that their parameters begin with."""
    if type(layer) is Sequential:
        for index, part in enumerate(layer):
            yield from _flat(part, f"{name}.{index}" if name else str(index))
    elif type(layer) in CONVERTERS:
        yield name or "0", layer
    else:
        known = ", ".join(sorted(kind.__name__ for kind in CONVERTERS))
        raise TypeError(f"model: expected a Sequential of {known}, got {type(layer).__name__}")


CONVERTERS: dict[type[Layer], Callable[[Graph, Any, str, Value], Value]] = {
    RNN: recurrent,
    LSTM: recurrent,
    GRU: recurrent,
    Linear: linear,
    Embedding: embedding,
    LayerNorm: layer_norm,
    Tanh: function,
    Sigmoid: function,
    ReLU: function,
    Dropout: dropout,
    VariationalDropout: dropout,
    LastStep: pooling,
    MeanPooling: pooling,
    MaxPooling: pooling,
}
