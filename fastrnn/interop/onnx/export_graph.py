"""An ONNX graph in the making."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ...base import Layer
from ...layers import Embedding
from ...serialization import library_version

OPSET = 17  # the first with LayerNormalization; ONNX Runtime has it since 1.12
IR_VERSION = 8


class Value(NamedTuple):
    """An array in the graph: its name, and its shape with names for what is free."""

    name: str
    shape: tuple[int | str, ...]

    def of_features(self, size: int, layer: str, wanted: int) -> Value:
        """Return the array with another last axis, having checked this one."""
        if self.shape[-1] != wanted:
            raise ValueError(f"model: {layer} expects {wanted} features, gets {self.shape[-1]}")
        return Value(self.name, (*self.shape[:-1], size))


class Graph:
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

    def first_input(self, layers: Sequence[tuple[str, Layer]], ids: bool) -> Value:
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
        return Value(self.node("OneHot", [tokens, depth, values], axis=-1), (*axes, size))

    def input(self, name: str, shape: tuple[int | str, ...], kind: int | None = None) -> Value:
        """Declare an input of the model."""
        info = self.onnx.helper.make_tensor_value_info(name, kind or self.type, shape)
        self.inputs.append(info)
        return Value(name, shape)

    def output(self, name: str, value: Value) -> None:
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

    def finish(self, value: Value, metadata: Mapping[str, str]) -> Any:
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
