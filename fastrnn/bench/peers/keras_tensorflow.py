"""Keras 3 on TensorFlow."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..cases import Case
from .base import Array, Peer, Program, weight_suffixes

# PyTorch's order of gates in Keras' words: LSTM is the same, GRU has z, r, n.
ORDER = {"LSTM": [0, 1, 2, 3], "GRU": [1, 0, 2], "RNN": [0]}


class Keras(Peer):
    """keras.layers in a tf.function."""

    name = "keras"
    modules = ("keras", "tensorflow")
    slow_start = True
    settings = "TensorFlow backend, tf.function, batch first, T = 1 unrolled; first calls not timed"

    def prepare(
        self, case: Case, weights: Mapping[str, Array], x: Array, dy: Array, threads: int
    ) -> Program:
        """See `Peer.prepare`."""
        os.environ["KERAS_BACKEND"] = "tensorflow"
        tf: Any = importlib.import_module("tensorflow")
        keras: Any = importlib.import_module("keras")
        if tf.config.threading.get_intra_op_parallelism_threads() != threads:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(threads)
        inputs, gradient = (tf.constant(np.ascontiguousarray(a.swapaxes(0, 1))) for a in (x, dy))
        stack = _Stack(tf, keras, case, weights)
        if case.mode == "training":
            return _training(tf, stack, inputs, gradient)
        function = tf.function(stack)
        states = stack.zero_states()

        def run() -> Any:
            nonlocal states
            y, after = function(inputs, states)
            if case.mode == "step":
                states = after
            return y

        return Program(run, lambda y: {"y": y.numpy().swapaxes(0, 1)})


class _Stack:
    """Layers and directions, called with the states of each and returning them."""

    def __init__(self, tf: Any, keras: Any, case: Case, weights: Mapping[str, Array]) -> None:
        self._tf = tf
        self._case = case
        self._mask = None
        if case.padding:
            lengths = np.asarray(case.lengths())
            self._mask = tf.constant(np.arange(case.T) < lengths[:, None])
        kind = {"RNN": "SimpleRNN"}.get(case.cell, case.cell)
        self.ends = [end for ends in weight_suffixes(case) for end in ends]
        self.layers = []
        for number, ends in enumerate(weight_suffixes(case)):
            for end in ends:
                layer = getattr(keras.layers, kind)(
                    case.H,
                    return_sequences=True,
                    return_state=True,
                    go_backwards=end.endswith("reverse"),
                    unroll=case.T == 1,
                    zero_output_for_mask=bool(case.padding),
                )
                layer.build((case.B, case.T, case.input_sizes()[number]))
                layer.set_weights(_keras_weights(case, weights, end))
                self.layers.append(layer)

    def zero_states(self) -> Any:
        tf, case = self._tf, self._case
        count = 2 if case.cell == "LSTM" else 1
        return [[tf.zeros((case.B, case.H)) for _ in range(count)] for _ in self.layers]

    def __call__(self, x: Any, states: Any) -> Any:
        after = []
        for first in range(0, len(self.layers), self._case.directions):
            outputs = []
            for i in range(first, first + self._case.directions):
                y, *state = self.layers[i](x, initial_state=states[i], mask=self._mask)
                outputs.append(self._tf.reverse(y, [1]) if self.layers[i].go_backwards else y)
                after.append(state)
            x = outputs[0] if len(outputs) == 1 else self._tf.concat(outputs, -1)
        return x, after


def _keras_weights(case: Case, weights: Mapping[str, Array], end: str) -> list[Array]:
    def reordered(name: str) -> Array:
        blocks = np.split(weights[name + end], case.gates)
        return np.concatenate([blocks[gate] for gate in ORDER[case.cell]])

    b, c = reordered("bias_ih"), reordered("bias_hh")
    bias = np.stack([b, c]) if case.cell == "GRU" else b + c
    return [reordered("weight_ih").T, reordered("weight_hh").T, bias]


def _training(tf: Any, stack: _Stack, inputs: Any, gradient: Any) -> Program:
    variables = [v.value for layer in stack.layers for v in layer.trainable_weights]
    states = stack.zero_states()

    @tf.function  # type: ignore[untyped-decorator]
    def run(inputs: Any, gradient: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            y, _ = stack(inputs, states)
        return y, *tape.gradient(y, [inputs, *variables], gradient)

    def arrays(result: Any) -> dict[str, Any]:
        y, dx = (a.numpy().swapaxes(0, 1) for a in result[:2])
        found = {"y": y, "dx": dx}
        if stack._case.cell != "GRU":  # whose gates would have to be put in order
            for i, end in enumerate(stack.ends):
                found["weight_hh" + end] = result[2 + 3 * i + 1].numpy().T
        return found

    return Program(lambda: run(inputs, gradient), arrays)
