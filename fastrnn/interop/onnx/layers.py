"""ONNX models as layers that can be trained: `import_layers`.

The graph is followed from its input to its output, node by node; each has to be a layer of fastrnn,
or the way that exporters write a part of one, as the transposes around a recurrent node.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import numpy as np

from ...activations import ReLU, Sigmoid, Softmax, Tanh
from ...base import Layer
from ...layers import Dropout, Embedding, Linear, Sequential
from ...normalization import LayerNorm
from ...pooling import LastStep, MaxPooling, MeanPooling
from ...recurrent import GRU, LSTM, RNN
from ...recurrent_options import as_config
from .nodes import Array, Node
from .reading import opset_version, read_model
from .recurrent import RecurrentNode, Weights
from .tensors import array_of, attributes_of

__all__ = ["import_layers"]

MERGES = {"ReduceSum": "sum", "ReduceMean": "mean", "ReduceProd": "mul"}
POOLINGS = {"ReduceMean": MeanPooling, "ReduceMax": MaxPooling}
MADE_OF_SHAPES = ("Shape", "Size")


def import_layers(model: str | os.PathLike[str] | bytes | Any) -> Sequential:
    """Return an ONNX model as a `fastrnn.Sequential`, to be trained further, saved, streamed.

    For models that are a chain: Embedding, RNN, LSTM, GRU, Linear, LayerNorm, Tanh, Sigmoid, ReLU,
    Softmax, Dropout, pooling over time, from the first input to the first output, as
    `export_model` and PyTorch write them. Other outputs, such as last states, are no part of it:
    layers return these.

    Parameters
    ----------
    model : str, os.PathLike, bytes or onnx.ModelProto
        As of `import_model`.

    Returns
    -------
    Sequential
        Takes and gives what the model's first input and output are. First states and lengths that
        are inputs of the model are arguments of a call.

    Raises
    ------
    ValueError
        If the graph is no such chain: the node where it ends to be one is named. Also as of
        `import_model`.
    TypeError, OSError, ImportError, onnx.checker.ValidationError
        As of `import_model`.

    See Also
    --------
    import_model : runs any graph, in inference.
    """
    return Sequential(*_Chain(read_model(model)).layers())


class _Chain:
    """A graph, followed from its first input to its first output.

    turned: whether the array followed has its first two axes swapped, as against the input.
    found: makers of layers, that are told at the end whether batches come first.
    """

    def __init__(self, proto: Any) -> None:
        graph = proto.graph
        self.version = opset_version(proto)
        self.constants = {tensor.name: array_of(tensor) for tensor in graph.initializer}
        self.makers: dict[str, Any] = {}
        self.users: dict[str, list[Any]] = {}
        for node in graph.node:
            if node.op_type == "Constant":
                (value,) = attributes_of(node).values()
                self.constants[node.output[0]] = np.asarray(value)
            for name in node.output:
                self.makers[name] = node
            for name in {*node.input}:
                self.users.setdefault(name, []).append(node)
        self.inputs = {i.name for i in graph.input if i.name not in self.constants}
        self.current = next(i.name for i in graph.input if i.name in self.inputs)
        self.end = graph.output[0].name
        self.turned = False
        self.pooled = self.ragged = False
        self.batch_first: bool | None = None
        self.found: list[Callable[[bool], Layer]] = []

    def layers(self) -> list[Layer]:
        """Return the layers of the whole chain."""
        while self.current != self.end:
            node = self._next()
            reader = READERS.get(node.op_type)
            if reader is None:
                self._refuse(node, "expected one that is a layer")
            reader(self, node)
        if self.turned and not self.pooled:
            raise ValueError("model: expected an output laid out as the input")
        return [make(bool(self.batch_first)) for make in self.found]

    def _next(self) -> Any:
        """Return the only node that takes the current array, those aside that take its shape."""
        users = [n for n in self.users.get(self.current, []) if n.op_type not in MADE_OF_SHAPES]
        if len(users) != 1:
            names = ", ".join(f"{n.op_type} {n.name!r}" for n in users) or "none"
            raise ValueError(f"model: expected one node after {self.current!r}, got {names}")
        return users[0]

    def _refuse(self, node: Any, reason: str) -> NoReturn:
        raise ValueError(f"model: node {node.name or node.output[0]!r} ({node.op_type}): {reason}")

    def constant(self, node: Any, index: int) -> Array | None:
        """Return an input of a node if it is a constant."""
        name = node.input[index] if index < len(node.input) else ""
        return self.constants.get(name)

    def _add(self, layer: Layer) -> None:
        self.found.append(lambda batch_first: layer)

    def axes(self, node: Any) -> list[int]:
        """Return the axes of a node, an attribute or its second input."""
        axes = attributes_of(node).get("axes", self.constant(node, 1))
        return [] if axes is None else np.asarray(axes).reshape(-1).tolist()

    # --- readers: each takes a node, adds layers, and goes on to its output -----------------------

    def _pass(self, node: Any) -> None:
        self.current = node.output[0]

    def _dropout(self, node: Any) -> None:
        ratio = attributes_of(node).get("ratio", self.constant(node, 1))
        self._add(Dropout(0.5 if ratio is None else float(ratio)))
        self._pass(node)

    def _function(self, node: Any) -> None:
        kinds: Mapping[str, Callable[[], Layer]] = {"Relu": ReLU, "Sigmoid": Sigmoid, "Tanh": Tanh}
        self._add(kinds[node.op_type]())
        self._pass(node)

    def _softmax(self, node: Any) -> None:
        self._add(Softmax(attributes_of(node).get("axis", -1)))
        self._pass(node)

    def _transpose(self, node: Any) -> None:
        if self.pooled or list(attributes_of(node).get("perm", ())) not in ([1, 0, 2], [1, 0]):
            self._refuse(node, "expected the perm [1, 0, 2]")
        self.turned = not self.turned
        self._pass(node)

    def _gather(self, node: Any) -> None:
        """Read an Embedding, or the choice of the last step."""
        table, axis = self.constant(node, 0), attributes_of(node).get("axis", 0)
        if table is not None and table.ndim == 2 and axis == 0:
            layer = Embedding(*table.shape, dtype=table.dtype)
            layer.weight.data = table
            self._add(layer)
            self._pass(node)
            return
        index = self.constant(node, 1)
        if index is None or index.ndim or int(index) != -1:
            self._refuse(node, "expected a table, or the last step")
        self._pool(node, LastStep, axis)

    def _reduce(self, node: Any) -> None:
        if attributes_of(node).get("keepdims", 1) or len(self.axes(node)) != 1:
            self._refuse(node, "expected one axis, of time, and keepdims 0")
        self._pool(node, POOLINGS[node.op_type], self.axes(node)[0])

    def _pool(self, node: Any, pooling: Callable[[bool], Layer], axis: int) -> None:
        batch_first = bool(self.batch_first) != self.turned  # of the array here
        if self.batch_first is None or self.pooled or axis != (1 if batch_first else 0):
            self._refuse(node, "expected the axis of time of a recurrent node's output")
        if self.ragged:  # layers pool what is within the lengths, the node all
            self._refuse(node, "expected no lengths before it")
        self.found.append(pooling)
        self.pooled, self.turned = True, False
        self._pass(node)

    def _gemm(self, node: Any) -> None:
        attributes = attributes_of(node)
        weight, bias = self.constant(node, 1), self.constant(node, 2)
        plain = all(
            attributes.get(n, d) == d for n, d in (("alpha", 1), ("beta", 1), ("transA", 0))
        )
        if bias is not None and weight is not None:
            plain &= bias.size == weight.shape[0 if attributes.get("transB") else 1]
        if weight is None or not plain or (bias is None and len(node.input) > 2):
            self._refuse(node, "expected a product with constant weights")
        self._linear(weight if attributes.get("transB") else weight.T, bias)
        self._pass(node)

    def _matmul(self, node: Any) -> None:
        """Read a product, and the sum with a constant that follows it."""
        weight, bias = self.constant(node, 1), None
        if weight is None or weight.ndim != 2:
            self._refuse(node, "expected a product with a constant matrix")
        self._pass(node)
        users = self.users.get(self.current, [])
        if len(users) == 1 and users[0].op_type == "Add" and self.current != self.end:
            other = [self.constants.get(name) for name in users[0].input if name != self.current]
            if len(other) == 1 and other[0] is not None and other[0].shape == weight.shape[1:]:
                bias = other[0]
                self._pass(users[0])
        self._linear(weight.T, bias)

    def _linear(self, weight: Array, bias: Array | None) -> None:
        layer = Linear(weight.shape[1], weight.shape[0], bias is not None, dtype=weight.dtype)
        layer.weight.data = weight
        if layer.bias is not None and bias is not None:
            layer.bias.data = bias.reshape(-1)
        self._add(layer)

    def _layer_norm(self, node: Any) -> None:
        attributes = attributes_of(node)
        weight, bias = self.constant(node, 1), self.constant(node, 2)
        last = attributes.get("axis", -1) in (-1, 1 if self.pooled else 2)
        if weight is None or weight.ndim != 1 or not last or (bias is None and len(node.input) > 2):
            self._refuse(node, "expected constant weights of the last axis")
        epsilon = attributes.get("epsilon", 1e-5)
        layer = LayerNorm(len(weight), epsilon, bias is not None, dtype=weight.dtype)
        layer.weight.data = weight
        if layer.bias is not None and bias is not None:
            layer.bias.data = bias
        self._add(layer)
        self._pass(node)

    # --- recurrent nodes --------------------------------------------------------------------------

    def _recurrent(self, node: Any) -> None:
        """Read a node and those that make y (T, B, F) of its Y (T, D, B, H)."""
        constants = [self.constant(node, i) for i in range(len(node.input))]
        given = [bool(name) for name in node.input]
        attributes = attributes_of(node)
        cell = RecurrentNode(
            Node(node.op_type, self.version, attributes, constants, given, 1, lambda graph: None)
        )
        weights = [self.constant(node, i) for i in (1, 2, 3, 7)]
        missing = [i for i in (1, 2, 3, 7) if i < len(given) and given[i] and constants[i] is None]
        if missing or node.input[0] != self.current or cell.batch_first:
            self._refuse(node, "expected constant weights, and layout 0")
        if cell.direction == "reverse" or len({*cell.functions}) > 1:
            self._refuse(node, "expected forward or bidirectional, with the same functions")
        for index in (4, 5, 6):
            if index < len(given) and given[index] and not self._is_start(node.input[index], index):
                self._refuse(node, "expected first states and lengths that are zeros or inputs")
        if self.pooled or self.batch_first not in (None, self.turned):
            self._refuse(node, "expected steps on the first axis")
        self.batch_first = self.turned
        self.ragged |= len(given) > 4 and given[4]
        options = {"merge_mode": self._outputs(node, cell.directions)}
        self.found.append(
            lambda batch_first: _layer(
                cell,
                Weights(*weights),  # type: ignore[arg-type]
                options | {"batch_first": batch_first},
            )
        )

    def _is_start(self, name: str, index: int) -> bool:
        """Return whether an array is an input, or a part of one; a first state may be zeros."""
        value = self.constants.get(name)
        if value is not None:
            return index > 4 and not value.any()
        if name in self.inputs:
            return name != self.current
        node = self.makers[name]
        if node.op_type == "ConstantOfShape":
            return index > 4 and not np.any(attributes_of(node).get("value", 0))
        parts = ("Slice", "Split", "Cast", "Expand", "Identity", "Unsqueeze", "Squeeze")
        return node.op_type in parts and self._is_start(node.input[0], index)

    def _outputs(self, node: Any, directions: int) -> str:
        """Go on to y; return how it is made of the two directions."""
        if not node.output[0]:
            self._refuse(node, "expected the outputs of all steps in use")
        self._pass(node)
        after = self._next()
        if after.op_type in ("Squeeze", *MERGES) and self.axes(after) == [1]:
            self._pass(after)
            if (after.op_type == "Squeeze") == (directions == 1):
                return MERGES.get(after.op_type, "concat")
        elif after.op_type == "Transpose" and attributes_of(after)["perm"] == [0, 2, 1, 3]:
            self._pass(after)
            shaped = self._next()
            sizes = self.constant(shaped, 1)
            if shaped.op_type == "Reshape" and sizes is not None and sizes.tolist() == [0, 0, -1]:
                self._pass(shaped)
                return "concat"
        self._refuse(after, "expected both directions side by side, or merged")


READERS: dict[str, Callable[[_Chain, Any], None]] = {
    **dict.fromkeys(("RNN", "GRU", "LSTM"), _Chain._recurrent),
    **dict.fromkeys(("Relu", "Sigmoid", "Tanh"), _Chain._function),
    "Softmax": _Chain._softmax,
    **dict.fromkeys(POOLINGS, _Chain._reduce),
    "Dropout": _Chain._dropout,
    "Gather": _Chain._gather,
    "Gemm": _Chain._gemm,
    "Identity": _Chain._pass,
    "LayerNormalization": _Chain._layer_norm,
    "MatMul": _Chain._matmul,
    "Transpose": _Chain._transpose,
}


def _layer(cell: RecurrentNode, weights: Weights, options: dict[str, Any]) -> Layer:
    """Return the layer of a recurrent node."""
    functions = [as_config(function) for function in cell.functions[0]]
    options |= {
        "bias": weights.B is not None,
        "bidirectional": cell.directions == 2,
        "clip": None if cell.clip == float("inf") else cell.clip,
        "dtype": weights.W.dtype,
    }
    sizes = weights.W.shape[-1], weights.R.shape[-1]
    layer: RNN | LSTM | GRU
    if cell.operator == "RNN":
        layer = RNN(*sizes, nonlinearity=functions[0], **options)
    elif cell.operator == "GRU":
        layer = GRU(*sizes, reset_after=cell.reset_after, activations=functions, **options)
    else:
        layer = LSTM(
            *sizes,
            peephole=weights.P is not None,
            coupled=cell.coupled,
            activations=functions,
            **options,
        )
    layer.load_state_dict(
        {
            f"{name}_l0{suffix}": array
            for suffix, arrays in zip(("", "_reverse"), cell.arrays(weights), strict=False)
            for name, array in arrays.items()
        }
    )
    return layer
