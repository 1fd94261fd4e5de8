"""Models as ONNX graphs: `export_model`.

Recurrent layers become ONNX's operators RNN, GRU and LSTM
(https://onnx.ai/onnx/operators/onnx__LSTM.html and its neighbours), one for each layer of a stack.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ..activations import ReLU, Sigmoid, Tanh
from ..base import Layer, RealArray, check_flag
from ..layers import Dropout, Embedding, Linear, Sequential, VariationalDropout
from ..normalization import LayerNorm
from ..pooling import LastStep, MaxPooling, MeanPooling
from ..recurrent import GRU, LSTM, RNN
from ..recurrent_options import ACTIVATIONS, check_activation
from ..serialization import library_version, write_atomically

__all__ = ["export_model"]

OPSET = 17  # the first with LayerNormalization; ONNX Runtime has it since 1.12
IR_VERSION = 8
MOST_BYTES = 2**31 - 2**20  # a protobuf message ends at 2 GiB

AnyRecurrent = RNN | LSTM | GRU

# ONNX's blocks of rows as places in fastrnn's: LSTM i, o, f, c of i, f, g, o; GRU z, r, h of
# r, z, n. With coupled gates i, g, o; what stands for f is not used.
BLOCKS = {RNN: (0,), GRU: (1, 0, 2), LSTM: (0, 3, 1, 2)}
COUPLED_BLOCKS = (0, 2, 0, 1)
PEEPHOLES = (0, 2, 1)  # i, o, f of i, f, o
COUPLED_PEEPHOLES = (0, 1, 0)
MERGES = {"sum": "ReduceSum", "mean": "ReduceMean", "mul": "ReduceProd"}
# What has no counterpart in the operators, with the value that it must have.
PLAIN = {
    "proj_size": 0,
    "layer_norm": False,
    "cell_clip": None,
    "zoneout": 0.0,
    "go_backwards": False,
    "learned_state": False,
}


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
    graph = _Graph(check_flag("states", states))
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


class _Value(NamedTuple):
    """An array in the graph: its name, and its shape with names for what is free."""

    name: str
    shape: tuple[int | str, ...]

    def of_features(self, size: int, layer: str, wanted: int) -> _Value:
        """Return the array with another last axis, having checked this one."""
        if self.shape[-1] != wanted:
            raise ValueError(f"model: {layer} expects {wanted} features, gets {self.shape[-1]}")
        return _Value(self.name, (*self.shape[:-1], size))


class _Graph:
    """An ONNX graph in the making."""

    def __init__(self, states: bool) -> None:
        try:
            self.onnx = importlib.import_module("onnx")
        except ImportError:
            raise ImportError(
                "ONNX models need the package onnx: pip install 'fastrnn[onnx]'"
            ) from None
        self.states = states
        self.suffixes: dict[str, str] = {}  # of the names of states, by layer
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []
        self.type: int = self.onnx.TensorProto.FLOAT

    def first_input(self, layers: Sequence[tuple[str, Layer]], ids: bool) -> _Value:
        """Declare the model's input, as its layers want it; return it as numbers."""
        kinds = [layer for _, layer in layers]
        arrays = [p.data for layer in kinds for p in layer.parameters().values()]
        dtype = np.result_type(*arrays) if arrays else np.dtype(np.float32)
        self.type = self.onnx.helper.np_dtype_to_tensor_dtype(dtype)
        with_states = [name for name, layer in layers if layer.recurrent]
        several = len(with_states) > 1
        self.suffixes = {n: "_" + n.replace(".", "_") if several else "" for n in with_states}
        batch_first = any(getattr(layer, "batch_first", False) for layer in kinds)
        axes = ("B", "T") if batch_first else ("T", "B")
        first = next((layer for layer in kinds if _features(layer)), None)
        if first is None:
            raise ValueError("model: expected a layer that has a number of features")
        size = _features(first)
        if isinstance(first, Embedding):
            return self.input("ids", axes, self.onnx.TensorProto.INT64)
        if not ids:
            return self.input("x", (*axes, size))
        if kinds[0] is not first or not first.recurrent:
            raise ValueError("ids: expected a model that begins with RNN, GRU or LSTM")
        tokens = self.input("ids", axes, self.onnx.TensorProto.INT64).name
        depth = self.constant("depth", np.array(size, np.int64))
        values = self.constant("off_on", np.array([0, 1], dtype))
        return _Value(self.node("OneHot", [tokens, depth, values], axis=-1), (*axes, size))

    def input(self, name: str, shape: tuple[int | str, ...], kind: int | None = None) -> _Value:
        """Declare an input of the model."""
        info = self.onnx.helper.make_tensor_value_info(name, kind or self.type, shape)
        self.inputs.append(info)
        return _Value(name, shape)

    def output(self, name: str, value: _Value) -> None:
        """Give an array to the caller under a name."""
        self.nodes.append(self.onnx.helper.make_node("Identity", [value.name], [name]))
        info = self.onnx.helper.make_tensor_value_info(name, self.type, value.shape)
        self.outputs.append(info)

    def constant(self, name: str, array: ArrayLike) -> str:
        """Return the name of an array that is part of the model."""
        plain = np.ascontiguousarray(array) if np.ndim(array) else np.asarray(array)
        self.constants[name] = self.onnx.numpy_helper.from_array(plain, name)
        return name

    def node(self, operator: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Return the name of an operator's only output."""
        return self.split(operator, inputs, 1, **attributes)[0]

    def split(
        self, operator: str, inputs: Sequence[str], count: int, **attributes: Any
    ) -> list[str]:
        """Return the names of an operator's outputs."""
        name = f"{operator}_{len(self.nodes)}"
        outputs = [name] if count == 1 else [f"{name}_{i}" for i in range(count)]
        self.nodes.append(self.onnx.helper.make_node(operator, inputs, outputs, name, **attributes))
        return outputs

    def finish(self, value: _Value, metadata: Mapping[str, str]) -> Any:
        """Return the checked model whose main output is `value`."""
        helper = self.onnx.helper
        states, self.outputs = self.outputs, []
        self.output("y", value)
        graph = helper.make_graph(
            self.nodes,
            "fastrnn",
            self.inputs,
            [*self.outputs, *states],
            list(self.constants.values()),
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="fastrnn",
            producer_version=library_version(),
        )
        helper.set_model_props(model, dict(metadata))
        self.onnx.checker.check_model(model, full_check=True)
        return model


def _features(layer: Layer) -> int:
    """Return the size of the last axis of a layer's input, the ids of an Embedding; 0: any."""
    names = ("input_size", "in_features", "normalized_shape", "num_embeddings")
    return next((getattr(layer, name) for name in names if hasattr(layer, name)), 0)


# --- recurrent layers -----------------------------------------------------------------------------


def _recurrent(graph: _Graph, layer: AnyRecurrent, name: str, x: _Value) -> _Value:
    """Add a node for each layer of the stack; the states are inputs and outputs of the model."""
    _check_plain(layer)
    D = 2 if layer.bidirectional else 1
    y = x.of_features(
        layer.hidden_size * (D if layer.merge_mode == "concat" else 1),
        type(layer).__name__,
        layer.input_size,
    )
    letters = "hc" if isinstance(layer, LSTM) else "h"
    shape = (layer.num_layers * D, "B", layer.hidden_size)
    before = [_state_parts(graph, layer, f"{s}0{graph.suffixes[name]}", shape) for s in letters]
    last: list[list[str]] = [[] for _ in letters]
    current = graph.node("Transpose", [x.name], perm=[1, 0, 2]) if layer.batch_first else x.name
    for index in range(layer.num_layers):
        arrays = _arrays(layer, index)
        names = [graph.constant(f"{name}.l{index}.{k}", arrays[k]) for k in ("W", "R")]
        names += [graph.constant(f"{name}.l{index}.B", arrays["B"]) if layer.bias else "", ""]
        names += [parts[index] for parts in before]
        if "P" in arrays:
            names.append(graph.constant(f"{name}.l{index}.P", arrays["P"]))
        kind = "GRU" if isinstance(layer, GRU) else type(layer).__name__
        outputs = graph.split(kind, [current, *names], 1 + len(letters), **_attributes(layer))
        current = _merge_directions(graph, layer, outputs[0])
        for parts, output in zip(last, outputs[1:], strict=True):
            parts.append(output)
    if graph.states:
        for letter, parts in zip(letters, last, strict=True):
            whole = graph.node("Concat", parts, axis=0)
            graph.output(f"{letter}n{graph.suffixes[name]}", _Value(whole, shape))
    back = graph.node("Transpose", [current], perm=[1, 0, 2]) if layer.batch_first else current
    return _Value(back, y.shape)


def _check_plain(layer: AnyRecurrent) -> None:
    """Raise ValueError for what ONNX's operators cannot do."""
    config, name = layer.config(), type(layer).__name__
    for option, plain in PLAIN.items():
        value = config.get(option, plain)
        if value != plain and value != [plain, plain]:
            raise ValueError(f"{option}: expected {plain} in {name} for ONNX, got {value}")
    if config.get("nonlinearity") == "prelu":
        raise ValueError(f"nonlinearity: expected another than 'prelu' in {name} for ONNX")


def _state_parts(
    graph: _Graph, layer: AnyRecurrent, name: str, shape: tuple[int | str, ...]
) -> list[str]:
    """Return the names of each layer's part of an initial state."""
    count = layer.num_layers
    if not graph.states:
        return [""] * count
    whole = graph.input(name, shape).name
    sizes = graph.constant(f"{name}_sizes", np.full(count, 1 + layer.bidirectional, np.int64))
    return graph.split("Split", [whole, sizes], count, axis=0)


def _merge_directions(graph: _Graph, layer: AnyRecurrent, y: str) -> str:
    """Return y (T, B, F) of an operator's Y (T, D, B, H)."""
    if not layer.bidirectional:
        return graph.node("Squeeze", [y, graph.constant("axis_1", np.array([1], np.int64))])
    if layer.merge_mode == "concat":
        swapped = graph.node("Transpose", [y], perm=[0, 2, 1, 3])
        return graph.node("Reshape", [swapped, graph.constant("flat", np.array([0, 0, -1]))])
    if layer.merge_mode == "sum":  # which takes its axes as an input, unlike the others
        axes = graph.constant("axis_1", np.array([1], np.int64))
        return graph.node("ReduceSum", [y, axes], keepdims=0)
    return graph.node(MERGES[layer.merge_mode], [y], axes=[1], keepdims=0)


def _arrays(layer: AnyRecurrent, index: int) -> dict[str, RealArray]:
    """Return the inputs W, R, B and P of an operator, as far as the layer has them."""
    parameters = layer.parameters()
    coupled = isinstance(layer, LSTM) and layer.coupled
    order = COUPLED_BLOCKS if coupled else BLOCKS[type(layer)]

    def array(name: str, blocks: Sequence[int] = order) -> RealArray:
        rows = [
            _blocks(parameters[f"{name}_l{index}{suffix}"].data, blocks, layer.hidden_size)
            for suffix in ("", "_reverse")[: 1 + layer.bidirectional]
        ]
        return np.stack(rows)

    arrays = {"W": array("weight_ih"), "R": array("weight_hh")}
    if layer.bias:
        arrays["B"] = np.concatenate([array("bias_ih"), array("bias_hh")], axis=1)
    if isinstance(layer, LSTM) and layer.peephole:
        arrays["P"] = array("peephole", COUPLED_PEEPHOLES if coupled else PEEPHOLES)
    return arrays


def _blocks(matrix: RealArray, order: Sequence[int], size: int) -> RealArray:
    """Return rows (G * H, ...) with the blocks of H in another order."""
    parts = matrix.reshape(-1, size, *matrix.shape[1:])
    joined: RealArray = np.concatenate([parts[place] for place in order])
    return joined


def _attributes(layer: AnyRecurrent) -> dict[str, Any]:
    """Return an operator's attributes; those that are as ONNX's own defaults are left out."""
    config = layer.config()
    attributes: dict[str, Any] = {"hidden_size": layer.hidden_size}
    if layer.bidirectional:
        attributes["direction"] = "bidirectional"
    if config.get("clip") is not None:
        attributes["clip"] = float(config["clip"])
    if config.get("coupled"):
        attributes["input_forget"] = 1
    if isinstance(layer, GRU):
        attributes["linear_before_reset"] = int(layer.reset_after)
    functions = config["activations"] if "activations" in config else [config["nonlinearity"]]
    if functions in (["sigmoid", "tanh", "tanh"], ["sigmoid", "tanh"], ["tanh"]):
        return attributes
    return {**attributes, **_functions(functions, 1 + layer.bidirectional)}


def _functions(functions: Sequence[Any], directions: int) -> dict[str, Any]:
    """Return the attributes that say which functions an operator applies, with their numbers."""
    names, alphas, betas = [], [], []
    for name, alpha, beta in [check_activation("", value) for value in functions] * directions:
        names.append(name.title().replace("_", ""))
        alphas += [alpha] * (len(ACTIVATIONS[name]) > 0)
        betas += [beta] * (len(ACTIVATIONS[name]) > 1)
    lists = {"activations": names, "activation_alpha": alphas, "activation_beta": betas}
    return {name: values for name, values in lists.items() if values}


# --- other layers ---------------------------------------------------------------------------------


def _linear(graph: _Graph, layer: Linear, name: str, x: _Value) -> _Value:
    y = x.of_features(layer.out_features, "Linear", layer.in_features)
    weight = graph.constant(f"{name}.W", layer.weight.data.T)
    product = graph.node("MatMul", [x.name, weight])
    if layer.bias is None:
        return y._replace(name=product)
    bias = graph.constant(f"{name}.B", layer.bias.data)
    return y._replace(name=graph.node("Add", [product, bias]))


def _embedding(graph: _Graph, layer: Embedding, name: str, x: _Value) -> _Value:
    weight = graph.constant(f"{name}.W", layer.weight.data)
    return _Value(graph.node("Gather", [weight, x.name]), (*x.shape, layer.embedding_dim))


def _layer_norm(graph: _Graph, layer: LayerNorm, name: str, x: _Value) -> _Value:
    y = x.of_features(layer.normalized_shape, "LayerNorm", layer.normalized_shape)
    inputs = [x.name, graph.constant(f"{name}.scale", layer.weight.data)]
    if layer.bias is not None:
        inputs.append(graph.constant(f"{name}.B", layer.bias.data))
    return y._replace(name=graph.node("LayerNormalization", inputs, axis=-1, epsilon=layer.eps))


def _function(graph: _Graph, layer: Layer, name: str, x: _Value) -> _Value:
    names: dict[type[Layer], str] = {Tanh: "Tanh", Sigmoid: "Sigmoid", ReLU: "Relu"}
    operator = names[type(layer)]
    return x._replace(name=graph.node(operator, [x.name]))


def _dropout(graph: _Graph, layer: Dropout, name: str, x: _Value) -> _Value:
    return x


def _pooling(
    graph: _Graph, layer: LastStep | MeanPooling | MaxPooling, name: str, x: _Value
) -> _Value:
    axis = 1 if layer.batch_first else 0
    if isinstance(layer, LastStep):
        last = graph.constant("last", np.array(-1, np.int64))
        y = graph.node("Gather", [x.name, last], axis=axis)
    else:
        operator = "ReduceMean" if isinstance(layer, MeanPooling) else "ReduceMax"
        y = graph.node(operator, [x.name], axes=[axis], keepdims=0)
    return _Value(y, (*x.shape[:axis], *x.shape[axis + 1 :]))


CONVERTERS: dict[type[Layer], Callable[[_Graph, Any, str, _Value], _Value]] = {
    RNN: _recurrent,
    LSTM: _recurrent,
    GRU: _recurrent,
    Linear: _linear,
    Embedding: _embedding,
    LayerNorm: _layer_norm,
    Tanh: _function,
    Sigmoid: _function,
    ReLU: _function,
    Dropout: _dropout,
    VariationalDropout: _dropout,
    LastStep: _pooling,
    MeanPooling: _pooling,
    MaxPooling: _pooling,
}
