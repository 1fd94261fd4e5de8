"""A loop in NumPy, as people write it who want no framework."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..cases import Case
from .base import Array, Peer, Program, UnsupportedError, weight_suffixes


class NumPy(Peer):
    """Inference alone: one product for all inputs, then a loop over time."""

    name = "numpy"
    modules = ("numpy",)
    settings = "input projection in one product, a Python loop over time"

    def prepare(
        self, case: Case, weights: Mapping[str, Array], x: Array, dy: Array, threads: int
    ) -> Program:
        """See `Peer.prepare`."""
        if case.mode == "training":
            raise UnsupportedError("no gradients")
        if case.padding:
            raise UnsupportedError("no lengths")
        transposed = {name: np.ascontiguousarray(w.T) for name, w in weights.items() if w.ndim == 2}
        layers = [
            [
                (
                    transposed["weight_ih" + end],
                    transposed["weight_hh" + end],
                    weights["bias_ih" + end],
                    weights["bias_hh" + end],
                )
                for end in ends
            ]
            for ends in weight_suffixes(case)
        ]
        step_of = {"LSTM": _lstm, "GRU": _gru, "RNN": _rnn}[case.cell]
        states: dict[tuple[int, int], Any] = {}

        def run() -> Any:
            sequence = x
            for i, directions in enumerate(layers):
                outputs = []
                for j, (w, u, b, c) in enumerate(directions):
                    order = slice(None, None, -1 if j else 1)
                    z = (sequence @ w + b)[order]
                    zeros = np.zeros((case.B, case.H), np.float32)
                    state = states.get((i, j), (zeros, zeros))
                    y = np.empty((case.T, case.B, case.H), np.float32)
                    for t in range(case.T):
                        state = step_of(z[t], state, u, c)
                        y[t] = state[0]
                    if case.mode == "step":
                        states[i, j] = state
                    outputs.append(y[order])
                sequence = outputs[0] if len(outputs) == 1 else np.concatenate(outputs, 2)
            return sequence

        return Program(run, lambda y: {"y": y})


def _sigmoid(x: Array) -> Array:
    y: Array = np.float32(0.5) * (np.tanh(np.float32(0.5) * x) + np.float32(1))
    return y


def _lstm(z: Array, state: tuple[Array, Array], u: Array, b: Array) -> tuple[Array, Array]:
    i, f, g, o = np.split(z + state[0] @ u + b, 4, axis=-1)
    c = _sigmoid(f) * state[1] + _sigmoid(i) * np.tanh(g)
    return _sigmoid(o) * np.tanh(c), c


def _gru(z: Array, state: tuple[Array, Array], u: Array, b: Array) -> tuple[Array, Array]:
    h = state[0]
    xr, xz, xn = np.split(z, 3, axis=-1)
    hr, hz, hn = np.split(h @ u + b, 3, axis=-1)
    update = _sigmoid(xz + hz)
    n = np.tanh(xn + _sigmoid(xr + hr) * hn)
    return n + update * (h - n), h


def _rnn(z: Array, state: tuple[Array, Array], u: Array, b: Array) -> tuple[Array, Array]:
    return np.tanh(z + state[0] @ u + b), state[0]
