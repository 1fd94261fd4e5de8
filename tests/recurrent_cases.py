"""What the tests of the recurrent layers share: cases, their data, running them, comparing.

A Case says which layer on which shapes. Its data is always time-major here, (T, B, ...), with
states as tuples, as in reference.py; `run` translates to and from what a user passes (batch_first,
unbatched, a bare h). Results are dictionaries from the names of the arrays to the arrays, so that
a failure names the tensor.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

import fastrnn
import reference

LAYERS: dict[str, Any] = {
    "rnn_tanh": fastrnn.RNN,
    "rnn_relu": partial(fastrnn.RNN, nonlinearity="relu"),
    "lstm": fastrnn.LSTM,
    "gru": fastrnn.GRU,
    "gru_original": partial(fastrnn.GRU, reset_after=False),
}
CELLS = tuple(LAYERS)
DTYPES = ("float32", "float64")

# One unit, less than a vector, one below, at and above a group of 16 lanes, the same for 64.
SIZES = (1, 3, 15, 16, 17, 63, 65)


@dataclass(frozen=True)
class Case:
    cell: str = "lstm"
    dtype: str = "float32"
    steps: int = 5
    batch: int = 4
    input_size: int = 3
    hidden_size: int = 5
    num_layers: int = 1
    bidirectional: bool = False
    bias: bool = True
    batch_first: bool = False
    unbatched: bool = False
    lengths: tuple[int, ...] | None = None

    def __str__(self):
        sizes = (
            f"T{self.steps}-B{self.batch}-I{self.input_size}-H{self.hidden_size}-L{self.num_layers}"
        )
        flags = {
            "bidirectional": self.bidirectional,
            "no_bias": not self.bias,
            "batch_first": self.batch_first,
            "unbatched": self.unbatched,
            "lengths": self.lengths is not None,
        }
        return "-".join([self.cell, self.dtype, sizes, *(name for name in flags if flags[name])])

    @property
    def network(self):
        return reference.Network(
            self.cell,
            self.input_size,
            self.hidden_size,
            self.num_layers,
            self.bidirectional,
            self.bias,
        )

    def layer(self, seed=1, **changes):
        arguments = {
            "num_layers": self.num_layers,
            "bias": self.bias,
            "batch_first": self.batch_first,
            "bidirectional": self.bidirectional,
            "dtype": self.dtype,
            "seed": seed,
        }
        return LAYERS[self.cell](self.input_size, self.hidden_size, **(arguments | changes))

    def data(self, seed=2):
        """Random numbers everywhere: all states and gradients non-zero and distinct."""
        rng = np.random.default_rng(seed)

        def normal(*shape):
            return rng.normal(size=shape).astype(self.dtype)

        net = self.network
        states = (net.state_shape(self.batch),) * net.num_states
        return Data(
            x=normal(self.steps, self.batch, self.input_size),
            state=tuple(normal(*shape) for shape in states),
            lengths=None if self.lengths is None else np.array(self.lengths, np.int64),
            dy=normal(self.steps, self.batch, net.output_size),
            dstate=tuple(normal(*shape) for shape in states),
        )

    def tolerance(self):
        """Bound of the error of any number a case gives, relative to the largest of its array.

        Rounding errors add up along the longest chain of operations that leads to a number: a step
        is a sum of I + H products (a later layer: D*H + H) and less than 32 roundings in the gates,
        a forward pass is L*T steps, and backward walks the same chain again. A weight's gradient is
        a sum of T*B more terms. Each rounding is at most eps/2; the other half is for the errors
        that forward left in what backward multiplies. That the chain does not amplify errors is
        seen to by the weights, uniform within 1/sqrt(H), whose matrix shrinks a vector on average.
        """
        directions = 2 if self.bidirectional else 1
        width = max(self.input_size, directions * self.hidden_size) + self.hidden_size + 32
        chain = 2 * self.num_layers * max(self.steps, 1) * width + self.steps * self.batch
        return chain * np.finfo(self.dtype).eps


class Data(NamedTuple):
    """Time-major arrays of the case's dtype; lengths (B,) or None."""

    x: np.ndarray
    state: tuple
    lengths: np.ndarray | None
    dy: np.ndarray
    dstate: tuple


def name_states(prefix, state):
    return dict(zip((prefix + "h", prefix + "c"), state, strict=False))


def to_user(case, array):
    """(T, B, ...) to the layout that the layer takes."""
    if case.unbatched:
        return array[:, 0]
    return array.swapaxes(0, 1) if case.batch_first else array


def from_user(case, array):
    if case.unbatched:
        return array[:, None]
    return array.swapaxes(0, 1) if case.batch_first else array


def state_to_user(case, state):
    """A tuple of (L*D, B, H) to what the layer takes: h or (h, c), without B if unbatched."""
    if case.unbatched:
        state = tuple(s[:, 0] for s in state)
    return state if len(state) == 2 else state[0]


def state_from_user(case, state):
    state = state if isinstance(state, tuple) else (state,)
    return tuple(s[:, None] for s in state) if case.unbatched else state


def infer(case, layer, data):
    """y and the final state of a call."""
    x, state = to_user(case, data.x), state_to_user(case, data.state)
    y, state = layer(x, state, data.lengths)
    return {"y": from_user(case, y)} | name_states("last ", state_from_user(case, state))


def run(case, layer, data, checkpoint_every=None):
    """y, the final state and all gradients, through vjp; the layer's gradients start anew."""
    outputs, pullback = forward(case, layer, data, checkpoint_every)
    return outputs | pull(case, layer, pullback, data)


def forward(case, layer, data, checkpoint_every=None):
    """The outputs of vjp, and its pullback."""
    x, state = to_user(case, data.x), state_to_user(case, data.state)
    (y, state), pullback = layer.vjp(x, state, data.lengths, checkpoint_every)
    outputs = {"y": from_user(case, y)} | name_states("last ", state_from_user(case, state))
    return outputs, pullback


def pull(case, layer, pullback, data):
    """All gradients a pullback gives; the layer's gradients start anew."""
    layer.zero_grad()
    dx, dstate = pullback(to_user(case, data.dy), state_to_user(case, data.dstate))
    gradients = {} if dx is None else {"dx": from_user(case, dx)}
    gradients |= name_states("d first ", state_from_user(case, dstate))
    return gradients | {f"grad {name}": p.grad for name, p in layer.parameters().items()}


def run_reference(case, parameters, data, masks=None):
    """The same dictionary from the reference, in float64."""
    net = case.network
    y, state, tape = reference.forward(net, parameters, data.x, data.state, data.lengths, masks)
    back = reference.backward(net, tape, data.dy, data.dstate)
    gradients = {"dx": back.d_x} | name_states("d first ", back.d_state)
    gradients |= {f"grad {name}": gradient for name, gradient in back.grads.items()}
    return {"y": y} | name_states("last ", state) | gradients


def assert_close(got, want, tolerance):
    """Each array within tolerance of the one of the same name, relative to its largest entry,
    or to 1 if that is smaller: then the terms that were added up are not."""
    assert got.keys() == want.keys()
    for name in want:
        assert got[name].shape == want[name].shape, name
        if want[name].size:
            error = np.abs(got[name] - want[name]).max() / max(1.0, np.abs(want[name]).max())
            assert error <= tolerance, f"{name}: error {error:.3g}, allowed {tolerance:.3g}"


def assert_same_bits(got, want):
    """Each array equal to the one of the same name, byte by byte."""
    assert got.keys() == want.keys()
    for name in want:
        assert got[name].dtype == want[name].dtype, name
        assert got[name].shape == want[name].shape, name
        if got[name].tobytes() != want[name].tobytes():
            different = got[name] != want[name]
            where = np.argwhere(different)[:3].tolist()
            raise AssertionError(
                f"{name}: {different.sum()} of {different.size} differ, at {where}"
            )
