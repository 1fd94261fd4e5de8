"""Layers with small weights written from their formulas: plain NumPy, independent of fastrnn.

As reference.py. The order of reading is: bfloat16, a fused multiply-add, int8, the pre-activations
of each cell, one step.

  bfloat16  the upper half of a float32 number: 8 bits of precision, the exponents of float32.
  int8      of weights, for each row j of a matrix, s_j = max_k |w_jk| / 127 and
            q_jk = round(w_jk / s_j); of a vector a of inputs or states, s_a = max_k |a_k| / 127 and
            q_k = round(a_k (127 / max)); a product adds s_a s_j sum_k q_jk q_k, the sum exact, by
            one fused multiply-add. All in float32, round to even. Dynamic quantisation, as
            PyTorch's quantize_dynamic and ONNX Runtime's DynamicQuantizeLSTM, but for a scale per
            row of the weights and integers that are symmetric about 0.

Dimensions: B rows, I inputs, H units. Weights carry PyTorch's names and layout.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from reference import sigmoid

F = np.float32
MOST = F(127)


# --------------------------------------------------------------------------------------- bfloat16


def round_to_bf16(a):
    """The nearest number of 8 bits, of two the even one, as float32: by the spacing of such numbers
    between two powers of two."""
    a = np.asarray(a, F)
    with np.errstate(over="ignore", invalid="ignore"):
        _, exponent = np.frexp(a.astype(np.float64))
        spacing = np.ldexp(1.0, np.maximum(exponent, -125) - 8)  # -125: of subnormal numbers
        return (np.rint(a / spacing) * spacing).astype(F)


# ------------------------------------------------------------------------------------------- int8


def fma(a, b, c):
    """a * b + c in float32, rounded once.

    In float64 the product is exact. The sum is rounded to odd (Boldo & Melquiond 2008, "Emulation
    of FMA and correctly rounded sums"): where it is not exact, of both neighbours the one whose
    last bit is 1, which no later rounding takes for a tie.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        p, c = np.broadcast_arrays(a.astype(np.float64) * b, c.astype(np.float64))
        s = p + c
        t = s - p
        error = (p - (s - t)) + (c - t)
        even = (s.view(np.int64) & 1) == 0
        odd = np.nextafter(s, np.where(error > 0, np.inf, -np.inf))
        return np.where(even & (error != 0) & np.isfinite(s), odd, s).astype(F)


class Int8(NamedTuple):
    """A matrix (rows, columns): integers, and the scale of each row."""

    q: np.ndarray
    scale: np.ndarray


def quantize_rows(w):
    w = np.asarray(w, F)
    scale = np.abs(w).max(axis=1) / MOST
    q = np.zeros(w.shape, np.int8)
    for row in np.flatnonzero(scale > 0):
        q[row] = np.clip(np.rint(w[row] / scale[row]), -127, 127)
    return Int8(q, scale)


def quantize_vector(a):
    """Integers (I,) and their scale. A vector of zeros, or of numbers too small to divide by, has
    the scale 0; one that is not finite NaN."""
    most = np.abs(a).max()
    if not np.isfinite(a).all():
        return np.zeros(len(a), np.int64), F(np.nan)
    with np.errstate(divide="ignore", over="ignore"):
        factor = MOST / most
    if not np.isfinite(factor):
        return np.zeros(len(a), np.int64), F(0)
    return np.rint(a * factor).astype(np.int64), most / MOST


def add_product(z, a, weight):
    """z + a weight^T for rows a (B, I), z (B, rows) or (rows,)."""
    quantized = [quantize_vector(row) for row in a]
    q = np.stack([q for q, _ in quantized])
    scale = np.stack([scale for _, scale in quantized])
    sums = (q @ weight.q.T.astype(np.int64)).astype(F)
    return fma(sums, scale[:, None] * weight.scale, np.broadcast_to(z, sums.shape))


# -------------------------------------------------------------------------------- pre-activations


class Weights(NamedTuple):
    """Of one layer in one direction, matrices as Int8."""

    weight_ih: Int8
    weight_hh: Int8
    bias_ih: np.ndarray
    bias_hh: np.ndarray


def rows_of(matrix, rows):
    return Int8(matrix.q[rows], matrix.scale[rows])


def pre_activations(w, x, h):
    """What the gates of an RNN or an LSTM take, (B, G H): both biases, the input, the state."""
    z = add_product(w.bias_ih + w.bias_hh, x, w.weight_ih)
    return add_product(z, h, w.weight_hh)


def gru_pre_activations(w, x, h):
    """Of r and z (B, 2 H), of n what the input gives, and what the state gives."""
    H = h.shape[1]
    gates, n = slice(0, 2 * H), slice(2 * H, None)
    z = add_product((w.bias_ih + w.bias_hh)[gates], x, rows_of(w.weight_ih, gates))
    z = add_product(z, h, rows_of(w.weight_hh, gates))
    n_x = add_product(w.bias_ih[n], x, rows_of(w.weight_ih, n))
    return z, n_x, add_product(w.bias_hh[n], h, rows_of(w.weight_hh, n))


# --------------------------------------------------------------------------------------- one step


def rnn_step(w, x, state):
    return (np.tanh(pre_activations(w, x, state[0])),)


def lstm_step(w, x, state):
    h, c = state
    i, f, g, o = np.split(pre_activations(w, x, h).astype(np.float64), 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def gru_step(w, x, state):
    (h,) = state
    gates, n_x, n_h = (a.astype(np.float64) for a in gru_pre_activations(w, x, h))
    r, z = np.split(sigmoid(gates), 2, axis=-1)
    n = np.tanh(n_x + r * n_h)
    return ((1 - z) * n + z * h,)


def gru_original_step(w, x, state):
    """r is a float32 number before the product that it goes into: another rounding of it may be
    another integer, so that here, and here alone, one step may be off by more than rounding."""
    (h,) = state
    H = h.shape[1]
    gates, n_x, _ = gru_pre_activations(w, x, h)
    r, z = np.split(sigmoid(gates.astype(np.float64)), 2, axis=-1)
    n = slice(2 * H, None)
    n_x = add_product((w.bias_ih + w.bias_hh)[n], x, rows_of(w.weight_ih, n))
    n = np.tanh(add_product(n_x, (r.astype(F) * h), rows_of(w.weight_hh, n)).astype(np.float64))
    return ((1 - z) * n + z * h,)


STEPS = {"RNN": rnn_step, "LSTM": lstm_step, "GRU": gru_step, "GRU before": gru_original_step}
