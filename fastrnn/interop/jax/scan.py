"""A recurrent layer in plain JAX, by `jax.lax.scan`: what runs where the kernels cannot.

It is also what derivatives beyond the first are taken of, and what the tests compare with.

The operands of every function here and in `primitives` are arrays in one order: x, h0, c0,
lengths, and for each direction w_ih, w_hh, b_ih, b_hh, w_hr. One that is not there is an array of
shape (0,), so that their number says only how many directions there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from .shards import vary_alike

__all__ = ["GATES", "KINDS", "is_absent", "run"]

Array = Any
Step = Callable[[Array, Array, Array, Array, Array], tuple[Array, Array]]

# In the order of CellKind in src/types.h, by which the compiled code knows them.
KINDS = ("rnn_tanh", "rnn_relu", "lstm", "gru", "gru_reset_before")
GATES = dict(zip(KINDS, (1, 1, 4, 3, 3), strict=True))

WEIGHTS = 5  # of a direction


def is_absent(operand: Array) -> bool:
    """Whether it stands for an operand that is not there."""
    return bool(operand.shape == (0,))


def run(kind: str, batch_first: bool, *operands: Array) -> tuple[Array, Array, Array]:
    """Return y, h_n and c_n (absent but for an LSTM) of a layer."""
    x, h0, c0, lengths, *weights = operands
    if batch_first:
        x = jnp.swapaxes(x, 0, 1)
    alive = None
    if not is_absent(lengths):
        alive = (jnp.arange(x.shape[0])[:, None] < lengths)[:, :, None]
        x = jnp.where(alive, x, 0)  # so that what stands in padding reaches no gradient
    outputs, hs, cs = [], [], []
    for d in range(len(weights) // WEIGHTS):
        own = weights[d * WEIGHTS : (d + 1) * WEIGHTS]
        first = tuple(None if is_absent(s) else s[d] for s in (h0, c0))
        y, h, c = _direction(kind, x, first, alive, own, reverse=d == 1)
        outputs.append(y)
        hs.append(h)
        cs.append(c)
    y = outputs[0] if len(outputs) == 1 else jnp.concatenate(outputs, axis=-1)
    c_n = jnp.stack(cs) if kind == "lstm" else jnp.zeros((0,), x.dtype)
    return (jnp.swapaxes(y, 0, 1) if batch_first else y), jnp.stack(hs), c_n


def _direction(
    kind: str,
    x: Array,
    first: Sequence[Array | None],
    alive: Array | None,
    weights: Sequence[Array],
    reverse: bool,
) -> tuple[Array, Array, Array]:
    w_ih, w_hh, b_ih, b_hh, w_hr = weights
    B, H, P = x.shape[1], w_ih.shape[0] // GATES[kind], w_hh.shape[1]
    z = x @ w_ih.T if is_absent(b_ih) else x @ w_ih.T + b_ih
    b = jnp.zeros((), x.dtype) if is_absent(b_hh) else b_hh
    h, c = first
    h = jnp.zeros((B, P), x.dtype) if h is None else h
    c = jnp.zeros((B, H), x.dtype) if c is None else c

    def step(state: tuple[Array, Array], at: tuple[Array, Array | None]) -> tuple[Any, Array]:
        z_t, alive_t = at
        h, c = STEPS[kind](z_t, *state, w_hh, b)
        h = h if is_absent(w_hr) else h @ w_hr.T
        if alive_t is None:
            return (h, c), h
        kept = jnp.where(alive_t, h, state[0]), jnp.where(alive_t, c, state[1])
        return kept, jnp.where(alive_t, h, 0)

    h, c, _ = vary_alike(h, c, z)
    (h, c), y = jax.lax.scan(step, (h, c), (z, alive), reverse=reverse)
    return y, h, c


# One step each: z = W_ih x + b_ih of its gates, (h, c) before -> (h, c) after. The formulas are
# those of the classes RNN, LSTM and GRU of fastrnn.


def _tanh(z: Array, h: Array, c: Array, w: Array, b: Array) -> tuple[Array, Array]:
    return jnp.tanh(z + h @ w.T + b), c


def _relu(z: Array, h: Array, c: Array, w: Array, b: Array) -> tuple[Array, Array]:
    return jax.nn.relu(z + h @ w.T + b), c


def _lstm(z: Array, h: Array, c: Array, w: Array, b: Array) -> tuple[Array, Array]:
    i, f, g, o = jnp.split(z + h @ w.T + b, 4, axis=-1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


def _gru(z: Array, h: Array, c: Array, w: Array, b: Array) -> tuple[Array, Array]:
    x_r, x_z, x_n = jnp.split(z, 3, axis=-1)
    h_r, h_z, h_n = jnp.split(h @ w.T + b, 3, axis=-1)
    update = jax.nn.sigmoid(x_z + h_z)
    n = jnp.tanh(x_n + jax.nn.sigmoid(x_r + h_r) * h_n)
    return n + update * (h - n), c


def _gru_reset_before(z: Array, h: Array, c: Array, w: Array, b: Array) -> tuple[Array, Array]:
    H = h.shape[-1]
    b = jnp.broadcast_to(b, (3 * H,))
    x_r, x_z, x_n = jnp.split(z, 3, axis=-1)
    h_r, h_z = jnp.split(h @ w[: 2 * H].T + b[: 2 * H], 2, axis=-1)
    update = jax.nn.sigmoid(x_z + h_z)
    n = jnp.tanh(x_n + (jax.nn.sigmoid(x_r + h_r) * h) @ w[2 * H :].T + b[2 * H :])
    return n + update * (h - n), c


STEPS: dict[str, Step] = dict(
    zip(KINDS, (_tanh, _relu, _lstm, _gru, _gru_reset_before), strict=True)
)
