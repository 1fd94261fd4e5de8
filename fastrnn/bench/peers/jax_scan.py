"""JAX: jit over a scan, with the input projection in one product."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..cases import Case
from .base import Array, Peer, Program, weight_suffixes


class Jax(Peer):
    """What a JAX user writes, as JAX has no recurrent layers of its own for the CPU."""

    name = "jax"
    modules = ("jax",)
    slow_start = True
    settings = "jit; one product for all inputs, lax.scan over time; first calls not timed"

    def prepare(
        self, case: Case, weights: Mapping[str, Array], x: Array, dy: Array, threads: int
    ) -> Program:
        """See `Peer.prepare`."""
        jax: Any = importlib.import_module("jax")
        parameters = {name: jax.device_put(w) for name, w in weights.items()}
        inputs, gradient = jax.device_put(x), jax.device_put(dy)
        layers = _layers(jax, case)

        def training(parameters: Any, inputs: Any, gradient: Any) -> Any:
            y, back = jax.vjp(lambda p, x: layers(p, x, None)[0], parameters, inputs)
            return (y, *back(gradient))

        function = jax.jit(training if case.mode == "training" else layers)
        if case.mode == "training":

            def run_training() -> Any:
                return jax.block_until_ready(function(parameters, inputs, gradient))

            return Program(
                run_training,
                lambda r: {
                    "y": np.asarray(r[0]),
                    "dx": np.asarray(r[2]),
                    **{name: np.asarray(g) for name, g in r[1].items()},
                },
            )
        zero = jax.numpy.zeros((case.B, case.H), np.float32)
        states = [[(zero, zero)] * case.directions] * case.layers

        def run() -> Any:
            nonlocal states
            y, after = jax.block_until_ready(function(parameters, inputs, states))
            if case.mode == "step":
                states = after
            return y

        return Program(run, lambda y: {"y": np.asarray(y)})


def _layers(jax: Any, case: Case) -> Any:
    numpy = jax.numpy
    cell = {"LSTM": _lstm, "GRU": _gru, "RNN": _rnn}[case.cell]
    lengths = np.asarray(case.lengths())
    alive = (np.arange(case.T)[:, None] < lengths)[:, :, None] if case.padding else None

    def direction(p: Any, end: str, x: Any, state: Any, reverse: bool) -> Any:
        z = x @ p["weight_ih" + end].T + p["bias_ih" + end]
        u, b = p["weight_hh" + end].T, p["bias_hh" + end]

        def step(state: Any, at: Any) -> Any:
            z_t, alive_t = at
            after = cell(jax, z_t, state, u, b)
            if alive_t is None:
                return after, after[0]
            after = tuple(numpy.where(alive_t, a, s) for a, s in zip(after, state, strict=True))
            return after, after[0] * alive_t

        state, y = jax.lax.scan(step, state, (z, alive), reverse=reverse)
        return y, state

    def layers(p: Any, x: Any, states: Any) -> Any:
        zero = numpy.zeros((case.B, case.H), np.float32)
        after = []
        for i, ends in enumerate(weight_suffixes(case)):
            given = states[i] if states is not None else [(zero, zero)] * len(ends)
            both = [direction(p, end, x, given[j], j == 1) for j, end in enumerate(ends)]
            x = numpy.concatenate([y for y, _ in both], -1) if len(both) > 1 else both[0][0]
            after.append([state for _, state in both])
        return x, after

    return layers


def _lstm(jax: Any, z: Any, state: Any, u: Any, b: Any) -> Any:
    i, f, g, o = jax.numpy.split(z + state[0] @ u + b, 4, axis=-1)
    sigmoid, tanh = jax.nn.sigmoid, jax.numpy.tanh
    c = sigmoid(f) * state[1] + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(c), c


def _gru(jax: Any, z: Any, state: Any, u: Any, b: Any) -> Any:
    h = state[0]
    xr, xz, xn = jax.numpy.split(z, 3, axis=-1)
    hr, hz, hn = jax.numpy.split(h @ u + b, 3, axis=-1)
    update = jax.nn.sigmoid(xz + hz)
    n = jax.numpy.tanh(xn + jax.nn.sigmoid(xr + hr) * hn)
    return n + update * (h - n), state[1]


def _rnn(jax: Any, z: Any, state: Any, u: Any, b: Any) -> Any:
    return jax.numpy.tanh(z + state[0] @ u + b), state[1]
