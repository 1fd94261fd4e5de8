"""ONNX Runtime and OpenVINO: the same ONNX model, inference only."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..cases import Case
from .base import Array, Peer, Program, UnsupportedError, weight_suffixes

# Where PyTorch keeps the gates that ONNX wants: LSTM i, o, f, c; GRU z, r, h.
ORDER = {"LSTM": [0, 3, 1, 2], "GRU": [1, 0, 2], "RNN": [0]}


class OnnxRuntime(Peer):
    """ONNX Runtime on its CPU provider."""

    name = "onnxruntime"
    modules = ("onnxruntime", "onnx")
    settings = "CPU provider, inputs and outputs bound once, its own spinning left on"

    def prepare(
        self, case: Case, weights: Mapping[str, Array], x: Array, dy: Array, threads: int
    ) -> Program:
        """See `Peer.prepare`."""
        model, states = _model(case, weights)
        model = self.changed(model)
        ort: Any = importlib.import_module("onnxruntime")
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])

        def value(array: Array) -> Any:
            return ort.OrtValue.ortvalue_from_numpy(array)

        zero = np.zeros((case.directions, case.B, case.H), np.float32)
        inputs, y = value(x), value(np.zeros((case.T, case.B, case.directions * case.H), "f4"))
        # A step reads one set of states and writes the other; the next the other way.
        sets = [{name: value(zero.copy()) for name in states} for _ in range(2)]
        bindings = []
        for before, after in (sets, sets[::-1]):
            binding = session.io_binding()
            binding.bind_ortvalue_input("x", inputs)
            binding.bind_ortvalue_output("y", y)
            for name in states:
                binding.bind_ortvalue_input(name, before[name])
                binding.bind_ortvalue_output(name + "_after", after[name])
            bindings.append(binding)

        def run() -> Any:
            session.run_with_iobinding(bindings[0])
            bindings.reverse()
            return y

        return Program(run, lambda y: {"y": y.numpy()})

    def changed(self, model: bytes) -> bytes:
        """Return the model that is measured."""
        return model


class OpenVino(Peer):
    """OpenVINO's CPU plugin."""

    name = "openvino"
    modules = ("openvino", "onnx")
    settings = "CPU, inference precision f32, LATENCY hint, tensors bound once"

    def prepare(
        self, case: Case, weights: Mapping[str, Array], x: Array, dy: Array, threads: int
    ) -> Program:
        """See `Peer.prepare`."""
        model, states = _model(case, weights)
        ov: Any = importlib.import_module("openvino")
        core = ov.Core()
        compiled = core.compile_model(
            core.read_model(model),
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": "f32",
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_NUM_THREADS": threads,
            },
        )
        requests = [compiled.create_infer_request() for _ in range(2)]
        zero = np.zeros((case.directions, case.B, case.H), np.float32)
        sets = [{name: ov.Tensor(zero.copy()) for name in states} for _ in range(2)]
        inputs = ov.Tensor(x, shared_memory=True)
        for request, before, after in zip(requests, sets, sets[::-1], strict=True):
            request.set_tensor("x", inputs)
            for name in states:
                request.set_tensor(name, before[name])
                request.set_tensor(name + "_after", after[name])

        def run() -> Any:
            request = requests[0]
            request.infer()
            requests.reverse()
            return request

        return Program(run, lambda request: {"y": request.get_tensor("y").data.copy()})


def _model(case: Case, weights: Mapping[str, Array]) -> tuple[bytes, list[str]]:
    """Return the model and, for a step, the names of its state inputs."""
    if case.mode == "training":
        raise UnsupportedError("inference only")
    onnx: Any = importlib.import_module("onnx")
    helper, float_type = onnx.helper, onnx.TensorProto.FLOAT
    width = case.directions * case.H
    nodes: list[Any] = []
    constants = [
        onnx.numpy_helper.from_array(np.array([1], np.int64), "axis"),
        onnx.numpy_helper.from_array(np.array([0, 0, width], np.int64), "joined"),
    ]
    if case.padding:
        lengths = np.asarray(case.lengths(), np.int32)
        constants.append(onnx.numpy_helper.from_array(lengths, "lengths"))
    letters = "hc" if case.cell == "LSTM" else "h"
    states = [
        f"{letter}{layer}" for layer in range(case.layers) for letter in letters
    ]  # h0, c0, h1, ...
    if case.mode != "step":
        states = []
    source = "x"
    for layer, ends in enumerate(weight_suffixes(case)):
        for name, array in zip("WRB", _stacked(case, weights, ends), strict=True):
            constants.append(onnx.numpy_helper.from_array(array, f"{name}{layer}"))
        target = "y" if layer == case.layers - 1 else f"y{layer}"
        nodes += _layer_nodes(helper, case, layer, source, target, letters if states else "")
        source = target
    state_shape = [case.directions, case.B, case.H]

    def value(name: str, shape: list[int]) -> Any:
        return helper.make_tensor_value_info(name, float_type, shape)

    graph = helper.make_graph(
        nodes,
        "recurrent",
        [value("x", [case.T, case.B, case.I]), *(value(s, state_shape) for s in states)],
        [
            value("y", [case.T, case.B, width]),
            *(value(s + "_after", state_shape) for s in states),
        ],
        constants,
    )
    # An old pair of versions, which every runtime of the last years reads.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString(), states


def _layer_nodes(
    helper: Any, case: Case, layer: int, source: str, target: str, letters: str
) -> list[Any]:
    given = [f"{letter}{layer}" for letter in letters]
    lengths = "lengths" if case.padding else ""
    attributes: dict[str, Any] = {"hidden_size": case.H}
    if case.bidirectional:
        attributes["direction"] = "bidirectional"
    if case.cell == "GRU":
        attributes["linear_before_reset"] = 1
    outputs = [f"raw{layer}", *(name + "_after" for name in given)]
    inputs = [source, f"W{layer}", f"R{layer}", f"B{layer}", lengths, *given]
    cell = helper.make_node(case.cell, inputs, outputs, **attributes)
    if not case.bidirectional:
        return [cell, helper.make_node("Squeeze", [f"raw{layer}", "axis"], [target])]
    turned = f"turned{layer}"
    return [
        cell,
        helper.make_node("Transpose", [f"raw{layer}"], [turned], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", [turned, "joined"], [target]),
    ]


def _stacked(case: Case, weights: Mapping[str, Array], ends: list[str]) -> list[Array]:
    """Return ONNX' W, R and B of a layer, directions stacked."""

    def reordered(name: str) -> Array:
        blocks = np.split(weights[name], case.gates)
        return np.concatenate([blocks[gate] for gate in ORDER[case.cell]])

    return [
        np.stack([reordered("weight_ih" + end) for end in ends]),
        np.stack([reordered("weight_hh" + end) for end in ends]),
        np.stack(
            [
                np.concatenate([reordered("bias_ih" + end), reordered("bias_hh" + end)])
                for end in ends
            ]
        ),
    ]
