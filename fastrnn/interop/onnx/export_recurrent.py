"""Recurrent layers as ONNX's operators RNN, GRU and LSTM, one for each layer of a stack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...base import RealArray
from ...recurrent import GRU, LSTM, RNN
from ...recurrent_options import ACTIVATIONS, check_activation
from .export_graph import Graph, Value

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


def recurrent(graph: Graph, layer: AnyRecurrent, name: str, x: Value) -> Value:
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
            graph.output(f"{letter}n{graph.suffixes[name]}", Value(whole, shape))
    back = graph.node("Transpose", [current], perm=[1, 0, 2]) if layer.batch_first else current
    return Value(back, y.shape)


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
    graph: Graph, layer: AnyRecurrent, name: str, shape: tuple[int | str, ...]
) -> list[str]:
    """Return the names of each layer's part of an initial state."""
    count = layer.num_layers
    if not graph.states:
        return [""] * count
    whole = graph.input(name, shape).name
    sizes = graph.constant(f"{name}_sizes", np.full(count, 1 + layer.bidirectional, np.int64))
    return graph.split("Split", [whole, sizes], count, axis=0)


def _merge_directions(graph: Graph, layer: AnyRecurrent, y: str) -> str:
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
