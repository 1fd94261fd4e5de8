"""Layers for the tests of fastrnn.interop.jax, with what plain NumPy says of them."""

from dataclasses import dataclass

import numpy as np

import reference

KINDS = ("rnn_tanh", "rnn_relu", "lstm", "gru", "gru_reset_before")
CELLS = dict(zip(KINDS, (*KINDS[:-1], "gru_original"), strict=True))
GATES = dict(zip(KINDS, (1, 1, 4, 3, 3), strict=True))
NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
ENDS = ("_l0", "_l0_reverse")

# Largest difference, relative to the largest number of the array or to 1 if that is smaller.
TOLERANCES = {"float32": 2e-5, "float64": 1e-10}


@dataclass(frozen=True)
class Case:
    kind: str
    T: int = 5
    B: int = 4
    I: int = 3  # noqa: E741
    H: int = 7
    P: int = 0
    D: int = 1
    dtype: str = "float64"
    lengths: tuple | None = None
    batch_first: bool = False
    bias: bool = True

    def data(self, seed=0):
        """x, weights, h0, c0 (None but for an LSTM), as `layer` takes them."""
        rng = np.random.default_rng(seed)
        rows, P = GATES[self.kind] * self.H, self.P or self.H

        def normal(*shape):
            return (0.5 * rng.normal(size=shape)).astype(self.dtype)

        def biases():
            return (normal(rows), normal(rows)) if self.bias else (None, None)

        weights = [
            (
                normal(rows, self.I),
                normal(rows, P),
                *biases(),
                normal(self.P, self.H) if self.P else None,
            )
            for _ in range(self.D)
        ]
        x = normal(*((self.B, self.T) if self.batch_first else (self.T, self.B)), self.I)
        c0 = normal(self.D, self.B, self.H) if self.kind == "lstm" else None
        return x, weights, normal(self.D, self.B, P), c0

    def gradients(self, seed=1):
        """Of y, h_n and, of an LSTM, c_n."""
        rng = np.random.default_rng(seed)
        P = self.P or self.H
        y = (self.B, self.T) if self.batch_first else (self.T, self.B)
        shapes = [(*y, self.D * P), (self.D, self.B, P), (self.D, self.B, self.H)]
        return [rng.normal(size=shape).astype(self.dtype) for shape in shapes[: 2 + self.c]]

    @property
    def c(self):
        return self.kind == "lstm"

    def expected(self, data, gradients):
        """y, h_n, c_n and the gradients of x, weights, h0 and c0, by the formulas."""
        x, weights, h0, c0 = data
        net = reference.Network(
            CELLS[self.kind], self.I, self.H, bidirectional=self.D == 2, bias=self.bias
        )
        named = {
            name + end: w
            for own, end in zip(weights, ENDS, strict=False)
            for name, w in zip(NAMES, own, strict=False)
            if w is not None
        }
        states = (h0, c0) if self.c else (h0,)
        d_y, *d_states = gradients
        if self.batch_first:
            x, d_y = x.swapaxes(0, 1), d_y.swapaxes(0, 1)
        out = reference.forward(net, named, x, states, self.lengths)
        back = reference.backward(net, out.tape, d_y, tuple(d_states))
        y, d_x = out.y, back.d_x
        if self.batch_first:
            y, d_x = y.swapaxes(0, 1), d_x.swapaxes(0, 1)
        d_weights = [
            (*(back.grads.get(name + end) for name in NAMES), None) for end in ENDS[: self.D]
        ]
        d_c0 = back.d_state[1] if self.c else None
        return (y, *out.state), (d_x, d_weights, back.d_state[0], d_c0)


def assert_close(found, expected, tolerance):
    """Arrays in the same nested tuples, lists and dicts; None only where the other is."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        found, expected = list(found.values()), [expected[name] for name in found]
    if isinstance(expected, (tuple, list)):
        assert len(found) == len(expected)
        for f, e in zip(found, expected, strict=True):
            assert_close(f, e, tolerance)
        return
    assert (found is None) == (expected is None)
    if expected is not None:
        found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
        assert found.shape == expected.shape
        scale = max(1.0, np.abs(expected).max(initial=0.0))
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * scale)
