"""Recurrent layers in a graph: as ONNX's operators RNN, GRU and LSTM, or step by step by Scan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...base import RealArray
from ...recurrent import AUGRU, GRU, LSTM, RNN, Recurrent
from ...recurrent_options import ACTIVATIONS, check_activation
from .export_cells import CELLS
from .export_graph import Graph, Names, Shape, Value

# ONNX's blocks of rows as places in fastrnn's: LSTM i, o, f, c of i, f, g, o; GRU z, r, h of
# r, z, n. With coupled gates i, g, o; what stands for f is not used.
BLOCKS: dict[type, tuple[int, ...]] = {RNN: (0,), GRU: (1, 0, 2), LSTM: (0, 3, 1, 2)}
COUPLED_BLOCKS = (0, 2, 0, 1)
PEEPHOLES = (0, 2, 1)  # i, o, f of i, f, o
COUPLED_PEEPHOLES = (0, 1, 0)
MERGES = {"mean": "ReduceMean", "mul": "ReduceProd"}
# What has no counterpart in the operators, with the value that it must have there.
PLAIN = {"proj_size": 0, "layer_norm": False, "cell_clip": None, "zoneout": 0.0}


def recurrent(graph: Graph, layer: Any, name: str, x: Value) -> Value:
    """Add a recurrent layer; its states are inputs and outputs of the model."""
    return _recurrent(graph, layer, name, x, "")


def augru(graph: Graph, layer: AUGRU) -> None:
    """Add an AUGRU, which takes attention scores beside x."""
    x = first_input(graph, layer, layer.input_size)
    attention = graph.input("attention", x.shape[:-1])
    graph.lengths_input()
    scores = attention.name
    if not graph.options.step:
        scores = graph.swapped(scores, layer.batch_first, 2)
    rest = graph.node("Sub", graph.number(1.0), scores)
    kept = graph.node("Unsqueeze", rest, graph.integers(-1))
    graph.output("y", _recurrent(graph, layer, "", x, kept))


def first_input(
    graph: Graph, layer: Any, size: int | str, name: str = "x", ids: str = "ids", T: str = "T"
) -> Value:
    """Declare sequences, or a step, as the model's input; ids are made one-hot vectors."""
    axes: tuple[str, ...] = ("B", T) if getattr(layer, "batch_first", False) else (T, "B")
    if graph.options.step:
        axes = ("B",)
    if graph.options.ids:
        return one_hot(graph, graph.input(ids, axes, np.int64), size)
    return graph.input(name, (*axes, size))


def one_hot(graph: Graph, ids: Value, size: int | str) -> Value:
    """Return the one-hot vectors of ids."""
    depth = graph.constant(f"depth_{size}", np.array(size, np.int64))
    values = graph.constant("off_on", np.array([0, 1], np.float32))  # ONNX Runtime has no other
    vectors = graph.node("OneHot", ids.name, depth, values, axis=-1)
    if graph.dtype != np.float32:
        vectors = graph.cast(vectors, graph.dtype)
    return Value(vectors, (*ids.shape, size))


def state_sizes(layer: Recurrent) -> dict[str, int]:
    """Return the sizes of h and, of an LSTM, c."""
    h = getattr(layer, "proj_size", 0) or layer.hidden_size
    return {"h": h, "c": layer.hidden_size} if isinstance(layer, LSTM) else {"h": h}


def state_shapes(layer: Recurrent) -> dict[str, Shape]:
    """Return the shapes of h and, of an LSTM, c."""
    rows = layer.num_layers * (1 + layer.bidirectional)
    return {letter: (rows, "B", size) for letter, size in state_sizes(layer).items()}


def first_states(
    graph: Graph, layer: Recurrent, inputs: bool, suffix: str, like: str, axis: int
) -> Names:
    """Return the initial states, inputs if they are to be that; "" for zeros.

    `like` has B as its axis `axis`. A learned state is what an input is where it is left out.
    """
    states = []
    for letter, shape in state_shapes(layer).items():
        name, learned = f"{letter}0{suffix}", None
        if layer.learned_state:
            learned = layer.parameters()[f"{letter}_0"].data[:, None]
        if inputs:
            name = graph.input(name, shape, default=learned).name
        if learned is not None:
            given = name if inputs else graph.constant(f"{name}_learned{suffix}", learned)
            states.append(graph.repeated(given, like, axis))
        else:
            states.append(name if inputs else "")
    return states


def last_states(graph: Graph, layer: Recurrent, suffix: str, states: Names) -> None:
    """Give the last states to the caller, if there are to be any."""
    if graph.options.states:
        for (letter, shape), state in zip(state_shapes(layer).items(), states, strict=True):
            graph.last_state(f"{letter}n{suffix}", Value(state, shape))


def _recurrent(graph: Graph, layer: Any, name: str, x: Value, kept: str) -> Value:
    step, kind = graph.options.step, type(layer).__name__
    size = state_sizes(layer)["h"] * _outputs(layer)
    y = x.of_features(size, kind, layer.input_size)
    _check_sequences(graph, layer, x)
    suffix, batch = graph.suffixes.get(name, ""), 0 if step or layer.batch_first else 1
    states = first_states(graph, layer, graph.options.states, suffix, x.name, batch)
    sequences = x.name if step else graph.swapped(x.name, layer.batch_first)
    stack = Stack(graph, layer, name, step, graph.lengths)
    outputs, states = stack.run(sequences, states, kept)
    last_states(graph, layer, suffix, states)
    return Value(outputs if step else graph.swapped(outputs, layer.batch_first), y.shape)


def _outputs(layer: Any) -> int:
    """Return how many directions are side by side in y."""
    return 2 if layer.bidirectional and layer.merge_mode == "concat" else 1


def _check_sequences(graph: Graph, layer: Any, x: Value) -> None:
    kind = type(layer).__name__
    if graph.options.step:
        if layer.bidirectional or layer.go_backwards:
            what = "a bidirectional layer" if layer.bidirectional else "one that goes backwards"
            raise ValueError(f"method: expected 'call' for {what} ({kind}), got 'step'")
        return
    if len(x.shape) != 3:
        raise ValueError(f"model: {kind} expects sequences, gets the shape {x.shape}")
    check_layout(layer, x)


def check_layout(layer: Any, x: Value) -> None:
    """Raise ValueError if a layer takes another axis for time than the ones before it."""
    first = "B" if layer.batch_first else "T"
    if x.shape[0] != first:
        kind = type(layer).__name__
        raise ValueError(
            f"batch_first: expected the same in all layers, got {layer.batch_first} in {kind}"
        )


class Stack:
    """The layers of a recurrent layer on their way into a graph.

    Arrays are time first, (T, B, .); with `step`, (B, .).
    """

    def __init__(
        self, graph: Graph, layer: Any, name: str, step: bool = False, lengths: str = ""
    ) -> None:
        self._graph, self._layer, self._name = graph, layer, name
        self._step, self._lengths = step, lengths
        self._suffixes = ("", "_reverse")[: 1 + layer.bidirectional]
        self._directions = len(self._suffixes)

    def run(self, x: str, states: Names, kept: str = "") -> tuple[str, Names]:
        """Return y and the last states; initial ones may be "", which is zeros.

        `kept`: of an AUGRU, 1 - attention, (T, B, 1).
        """
        graph, layer = self._graph, self._layer
        L, current = layer.num_layers, x
        if layer.go_backwards:
            current = self._turned(current)
        before = [graph.parts(s, L, 0) if s else [""] * L for s in states]
        after: list[Names] = [[] for _ in states]
        add = self._operator if is_operator(layer) else self._cells
        for index in range(L):
            current, new = add(index, current, [parts[index] for parts in before], kept)
            for parts, part in zip(after, new, strict=True):
                parts.append(part)
        return current, [graph.joined(parts, 0) for parts in after]

    def _turned(self, x: str) -> str:
        """Return each row from its last step to its first."""
        graph = self._graph
        if self._lengths:
            return graph.node("ReverseSequence", x, self._lengths, time_axis=0, batch_axis=1)
        backwards = (-1,), (np.iinfo(np.int64).min,), (0,), (-1,)  # from, to, axis, by
        return graph.node("Slice", x, *(graph.integers(*numbers) for numbers in backwards))

    # --- by ONNX's operators ------------------------------------------------------------------

    def _operator(self, index: int, x: str, states: Names, kept: str) -> tuple[str, Names]:
        """Add one layer as an operator; states are (D, B, H)."""
        graph, layer = self._graph, self._layer
        arrays = operator_arrays(layer, index)
        name = f"{self._name or '0'}.l{index}"
        names = {key: graph.constant(f"{name}.{key}", array) for key, array in arrays.items()}
        lengths = graph.cast(self._lengths, np.int32) if self._lengths else ""
        sequences = graph.node("Unsqueeze", x, graph.integers(0)) if self._step else x
        inputs = [sequences, names["W"], names["R"], names.get("B", ""), lengths, *states]
        inputs += [name for key, name in names.items() if key == "P"]
        y, *after = graph.nodes(type(layer).__name__, inputs, 1 + len(states), **_attributes(layer))
        if self._lengths:
            after = self._without_empty_rows(states, after)
        if self._step:
            return graph.node("Squeeze", y, graph.integers(0, 1)), after
        return self._merged(y), after

    def _without_empty_rows(self, before: Names, after: Names) -> Names:
        """Return the last states; those of rows without steps are the first, not zeros."""
        graph = self._graph
        none = graph.node("Equal", self._lengths, graph.integers(0))
        empty = graph.node("Unsqueeze", none, graph.integers(1))
        zero = graph.number(0.0)
        pairs = zip(before, after, strict=True)
        return [graph.node("Where", empty, first or zero, last) for first, last in pairs]

    def _merged(self, y: str) -> str:
        """Return y (T, B, F) of the directions' outputs (T, D, B, H)."""
        graph, merge_mode = self._graph, self._layer.merge_mode
        if self._directions == 1:
            return graph.node("Squeeze", y, graph.integers(1))
        if merge_mode == "concat":
            swapped = graph.node("Transpose", y, perm=[0, 2, 1, 3])
            return graph.node("Reshape", swapped, graph.integers(0, 0, -1))
        if merge_mode == "sum":  # which takes its axes as an input, unlike the others
            return graph.node("ReduceSum", y, graph.integers(1), keepdims=0)
        return graph.node(MERGES[merge_mode], y, axes=[1], keepdims=0)

    # --- step by step -------------------------------------------------------------------------

    def _cells(self, index: int, x: str, states: Names, kept: str) -> tuple[str, Names]:
        """Add one layer as cells, one for each direction; states are (D, B, .)."""
        graph, D = self._graph, self._directions
        parts = [self._rows(s, i, x) for i, s in enumerate(states)]
        ys, after = [], []
        for d, suffix in enumerate(self._suffixes):
            name = f"{self._name or '0'}.l{index}{suffix}"
            cell = CELLS[type(self._layer)](graph, self._layer, index, suffix, name)
            items = [*cell.projected(x), *[kept] * bool(kept)]
            first = [part[d] for part in parts]
            if self._step:
                last = cell.step(items, first)
                y = last[0]
            else:
                y, last = self._scanned(cell, first, items, d == 1)
            ys.append(y)
            after.append([graph.node("Unsqueeze", s, graph.integers(0)) for s in last])
        joined = [graph.joined(s, 0) for s in zip(*after, strict=True)]
        if D == 1:
            return ys[0], joined
        both = [graph.node("Unsqueeze", y, graph.integers(1)) for y in ys]
        return self._merged(graph.joined(both, 1)), joined

    def _scanned(self, cell: Any, states: Names, items: Names, reverse: bool) -> tuple[str, Names]:
        def body(before: Names, items_t: Names) -> tuple[Names, Names]:
            after = cell.step(items_t, before)
            return after, after[:1]

        real = self._graph.real_steps(items[0], 0) if self._lengths else ""
        last, (y,) = self._graph.scan(body, states, items, real, reverse)
        return y, last

    def _rows(self, state: str, which: int, x: str) -> Names:
        """Return a state (D, B, .) as (B, .) of each direction; zeros for ""."""
        graph = self._graph
        if not state:
            size = list(state_sizes(self._layer).values())[which]
            state = graph.zeros(self._directions, size, x, 0 if self._step else 1)
        parts = graph.parts(state, self._directions, 0)
        return [graph.node("Squeeze", part, graph.integers(0)) for part in parts]


# --- the operators' inputs and attributes ---------------------------------------------------------


def is_operator(layer: Any) -> bool:
    """Return whether ONNX's RNN, GRU or LSTM is the layer, as ONNX Runtime has it: in float32."""
    config = layer.config()
    plain = all(config.get(n, value) in (value, [value, value]) for n, value in PLAIN.items())
    prelu = config.get("nonlinearity") == "prelu"
    return type(layer) in BLOCKS and plain and not prelu and layer.dtype == np.float32


def operator_arrays(layer: Any, index: int) -> dict[str, RealArray]:
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


def _attributes(layer: Any) -> dict[str, Any]:
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
