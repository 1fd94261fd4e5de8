"""Models as ONNX graphs: `export_model`.

Recurrent layers become ONNX's operators RNN, GRU and LSTM
(https://onnx.ai/onnx/operators/onnx__LSTM.html and its neighbours), one for each layer of a stack,
where these have all that a layer does, else a Scan.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from ...activations import ReLU, Sigmoid, Softmax, Tanh
from ...attention import (
    AdditiveAttention,
    DotAttention,
    GeneralAttention,
    MultiHeadAttention,
    SelfAttentivePooling,
)
from ...base import Layer, check_flag
from ...layers import Dropout, Embedding, Linear, Sequential, VariationalDropout
from ...normalization import BatchNorm, LayerNorm
from ...pooling import LastStep, MaxPooling, MeanPooling
from ...recurrent import AUGRU, GRU, LSTM, RNN, IndRNN, Recurrent
from ...seq2seq import EncoderDecoder, InputFeedingDecoder, LuongDecoder, PlainDecoder
from ...serialization import write_atomically
from ...wrappers import Highway, Residual
from .export_attention import attention, self_attentive_pooling
from .export_graph import Converter, Graph, Options, Value, joined_name
from .export_layers import (
    batch_norm,
    dropout,
    embedding,
    function,
    highway,
    layer_norm,
    linear,
    pooling,
    residual,
    sequential,
    softmax,
)
from .export_recurrent import augru, first_input, recurrent
from .export_seq2seq import decoder, encoder_decoder

__all__ = ["export_model"]

MOST_BYTES = 2**31 - 2**20  # a protobuf message ends at 2 GiB
METHODS = ("call", "step", "start")

# Layers from one array to one, which may be parts of others.
CONVERTERS: dict[type[Layer], Converter] = {
    Sequential: sequential,
    Residual: residual,
    Highway: highway,
    **dict.fromkeys((RNN, LSTM, GRU, IndRNN), recurrent),
    Linear: linear,
    Embedding: embedding,
    LayerNorm: layer_norm,
    BatchNorm: batch_norm,
    **dict.fromkeys((Tanh, Sigmoid, ReLU), function),
    Softmax: softmax,
    **dict.fromkeys((Dropout, VariationalDropout), dropout),
    **dict.fromkeys((LastStep, MeanPooling, MaxPooling), pooling),
}
# Those that take or give more than one array: alone.
ALONE: dict[type[Layer], Callable[[Graph, Any], None]] = {
    AUGRU: augru,
    **dict.fromkeys(
        (DotAttention, GeneralAttention, AdditiveAttention, MultiHeadAttention), attention
    ),
    SelfAttentivePooling: self_attentive_pooling,
    **dict.fromkeys((PlainDecoder, LuongDecoder, InputFeedingDecoder), decoder),
    EncoderDecoder: encoder_decoder,
}
TAKING_LENGTHS = {kind for kind in ALONE if kind is not AUGRU}  # or raising errors of their own
SEES_TIME = (Recurrent, LastStep, MeanPooling, MaxPooling)
# What cannot be a graph, and why.
REASONS = {
    "RecurrentLoop": "its cells are Python code",
    "Cell": "it is Python code",
    "Bridge": "it is exported as a part of an EncoderDecoder",
}


def export_model(
    model: Layer,
    path: str | os.PathLike[str] | IO[bytes] | None = None,
    *,
    method: str = "call",
    ids: bool = False,
    lengths: bool | str = False,
    states: bool = True,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Any:
    """Return a model as an ONNX model, and write it to a file.

    The number of steps T and of rows B are free in the graph. Its inputs are "x" (T, B, F), or
    "ids" (T, B), "lengths" (B,) if wanted, and the states "h0" and, of an LSTM, "c0",
    (num_layers * D, B, H); its outputs "y", "hn" and "cn". Where several layers have states, their
    positions in the model follow: "h0_0", "h0_2". With `batch_first` x and y are (B, T, F).

    Parameters
    ----------
    model : Layer
        Any but `RecurrentLoop`, whose cells are Python. Dropout is left out, as in a call.
    path : str, os.PathLike or binary file, optional
        Usually "....onnx".
    method : {"call", "step", "start"}
        What of the model the graph is: a call, of whole sequences; one time step, without the axis
        of time, x (B, F) or ids (B,), for streaming; or, of an `EncoderDecoder`, what comes before
        the first step.
    ids : bool, default False
        Whether the model's first layer, a recurrent one, is given token ids: their one-hot vectors
        are made in the graph. (The input of an `Embedding` is ids in any case.)
    lengths : bool or {"int64", "int32"}, default False
        Whether the number of steps of each row is an input, 0 <= length <= T; True is "int64".
    states : bool, default True
        Whether states are inputs and outputs; without, sequences start from zeros or learned
        states. An input whose initial state is learned may be left out.
    input_names, output_names : sequence of str, optional
        In place of those above, in the graph's order: x or ids, lengths, states; y, states.
    metadata : mapping of str to str, optional
        For the model's ``metadata_props``.

    Returns
    -------
    onnx.ModelProto
        Checked by ``onnx.checker``.

    Raises
    ------
    TypeError
        If `model` is, or has in it, a layer that cannot be a graph, or layers of several dtypes.
    ValueError
        For layers that do not fit one another, an option that the model has no use for, or a model
        of 2 GiB or more.
    OSError
        If the file cannot be written.
    ImportError
        If the package onnx is missing.

    Notes
    -----
    An RNN, GRU or LSTM is ONNX's operator of that name, but with `proj_size`, `layer_norm`,
    `cell_clip`, `zoneout` or "prelu", and in float64, which ONNX Runtime has not in these
    operators: such layers, and all other cells, are a Scan over the steps.

    Other inputs and outputs: `AUGRU` takes "attention" (T, B) beside x. Attention layers take
    "query" and "memory", and "lengths" of the memory, and give "context" and "weights". Decoders
    take "x" and "memory" and give "y" and "weights". An `EncoderDecoder` takes "source" and
    "inputs", and "lengths" of the source, and gives "logits" and "weights". Its "start" takes
    "source" and "lengths" and gives what its "step" takes beside "tokens" (B,): the prepared memory
    "keys", "values" and, with lengths, "mask", and the states; a step gives "logits", "weights" and
    the new states.
    """
    options = _options(method, ids, lengths, states, input_names, output_names)
    if not isinstance(model, Layer):
        raise TypeError(f"model: expected a Layer, got {type(model).__name__}")
    graph = Graph(_dtype(model), options, CONVERTERS)
    _check_options(model, options)
    if type(model) in ALONE:
        ALONE[type(model)](graph, model)
    else:
        _chain(graph, model)
    proto = graph.finish(metadata or {})
    if path is not None:
        _write(path, proto.SerializeToString())
    return proto


def _options(
    method: str, ids: bool, lengths: bool | str, states: bool, *names: Sequence[str] | None
) -> Options:
    if method not in METHODS:
        raise ValueError(f"method: expected one of {', '.join(METHODS)}, got {method!r}")
    if not isinstance(lengths, str):
        lengths = "int64" if check_flag("lengths", lengths) else ""
    elif lengths not in ("int64", "int32"):
        raise ValueError(f"lengths: expected True, False, 'int64' or 'int32', got {lengths!r}")
    flags = check_flag("ids", ids), lengths, check_flag("states", states)
    for which, given in zip(("input_names", "output_names"), names, strict=True):
        texts = isinstance(given, Sequence) and all(isinstance(name, str) for name in given)
        if given is not None and (isinstance(given, str) or not texts):
            raise TypeError(f"{which}: expected a sequence of str, got {given!r}")
        if given is not None and len(set(given)) < len(given):
            raise ValueError(f"{which}: expected different names, got {given!r}")
    return Options(method, *flags, *names)


def _dtype(model: Layer) -> np.dtype[Any]:
    """Return the dtype of a model, of at most 2 GiB."""
    parameters = model.parameters().values()
    bytes_of_weights = sum(parameter.data.nbytes for parameter in parameters)
    if bytes_of_weights > MOST_BYTES:
        raise ValueError(f"model: expected less than 2 GiB, got {bytes_of_weights:,} bytes")
    dtypes = {parameter.dtype for parameter in parameters}
    dtypes |= {layer.dtype for _, layer in _walk(model, "") if hasattr(layer, "dtype")}
    if len(dtypes) > 1:
        raise TypeError("model: expected layers of one dtype, got float32 and float64")
    return dtypes.pop() if dtypes else np.dtype(np.float32)


def _check_options(model: Layer, options: Options) -> None:
    """Raise ValueError for options that the model has no use for."""
    method, kind = options.method, type(model).__name__
    if method == "start" and kind != "EncoderDecoder":
        raise ValueError(f"method: expected 'call' or 'step' for {kind}, got 'start'")
    layers = [layer for _, layer in _walk(model, "")]
    if method != "call" and not options.states and any(layer.recurrent for layer in layers):
        raise ValueError(f"states: expected True with method {method!r}, got False")
    if options.lengths and type(model) not in TAKING_LENGTHS:
        if method == "step":
            raise ValueError("lengths: expected False with method 'step'")
        if not any(layer.recurrent or layer.uses_lengths for layer in layers):
            raise ValueError("lengths: expected False, the model has no layer that uses them")
    first = next((layer for layer in layers if type(layer) is not Sequential), None)
    if options.ids and not isinstance(first, (Recurrent, EncoderDecoder)):
        raise ValueError("ids: expected a model that begins with RNN, GRU or LSTM")


def _walk(layer: Layer, name: str) -> Iterator[tuple[str, Layer]]:
    """Yield a layer and what it is made of, with the names that parameters begin with."""
    yield name, layer
    for child, part in layer.children().items():
        yield from _walk(part, joined_name(name, child))


def _chain(graph: Graph, model: Layer) -> None:
    """Add layers of one input and one output, and the model's input and output."""
    layers = list(_walk(model, ""))
    for _, layer in layers:
        if type(layer) not in CONVERTERS:
            raise TypeError(f"model: {_why_not(layer)}")
    graph.suffixes = _suffixes([name for name, layer in layers if isinstance(layer, Recurrent)])
    x = _first_value(graph, [layer for _, layer in layers])
    graph.lengths_input()
    graph.output("y", graph.convert(model, "", x))


def _suffixes(names: Sequence[str]) -> dict[str, str]:
    """Return what follows the names of states, by the names of their layers."""
    if len(names) == 1:
        return {names[0]: ""}
    return {name: "_" + name.replace(".", "_") for name in names}


def _first_value(graph: Graph, layers: Sequence[Layer]) -> Value:
    """Declare the model's input as the first layer that cares wants it."""
    seeing = [layer for layer in layers if isinstance(layer, SEES_TIME)]
    others = [layer for layer in layers if getattr(layer, "batch_first", False)]
    like = next(iter(seeing + others), None)
    sized = next((layer for layer in layers if _features(layer)), None)
    if not isinstance(sized, Embedding):
        return first_input(graph, like, _features(sized) if sized else "F")
    axes = ("B", "T") if getattr(like, "batch_first", False) else ("T", "B")
    return graph.input("ids", ("B",) if graph.options.step else axes, np.int64)


def _features(layer: Layer) -> int:
    """Return the size of the last axis of a layer's input, the ids of an Embedding; 0: any."""
    names = ("input_size", "in_features", "normalized_shape", "num_embeddings", "num_features")
    return next((getattr(layer, name) for name in names if hasattr(layer, name)), 0)


def _why_not(layer: Layer) -> str:
    kind = type(layer).__name__
    reasons = (REASONS.get(base.__name__) for base in type(layer).__mro__)
    reason = next(filter(None, reasons), None)
    if reason:
        return f"{kind} cannot be exported: {reason}"
    if type(layer) in ALONE:
        return f"{kind} is exported alone: it takes or gives more than one array"
    known = ", ".join(sorted(kind.__name__ for kind in (*CONVERTERS, *ALONE)))
    return f"expected one of {known}, got {kind}"


def _write(path: str | os.PathLike[str] | IO[bytes], content: bytes) -> None:
    if isinstance(path, (str, os.PathLike)):
        write_atomically(Path(path), content)
    else:
        path.write(content)
