"""Recurrent networks written from their formulas: plain, slow, and independent of fastrnn.

Everything here is NumPy; nothing imports fastrnn, so that a mistake cannot be shared. The order of
reading is: the three cells (one time step forward, and directly below it one step backward), one
direction (the loop over time), the network (layers, directions, lengths).

Dimensions: T steps, N rows, I inputs, H units, L layers, D directions. A state is a tuple of
arrays (N, H): (h,) for RNN and GRU, (h, c) for LSTM. Parameters carry PyTorch's names and layout:
the rows of weight_ih (G*H, I), weight_hh (G*H, H) and of both biases (G*H,) are blocks of H, one
per gate, in the order i, f, g, o (LSTM) or r, z, n (GRU).

Sources of the formulas:
  RNN   Elman, Finding structure in time, Cognitive Science 14, 1990
  LSTM  Hochreiter and Schmidhuber, Long short-term memory, Neural Computation 9, 1997, with the
        forget gate of Gers, Schmidhuber and Cummins, Learning to forget, Neural Computation 12,
        2000
  GRU   Cho et al., Learning phrase representations using RNN encoder-decoder, 2014
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


def sigmoid(a):
    """1 / (1 + exp(-a)), by way of tanh because that cannot overflow."""
    return 0.5 * (1.0 + np.tanh(0.5 * a))


class Weights(NamedTuple):
    """The parameters of one layer in one direction. The same tuple holds their gradients."""

    weight_ih: np.ndarray  # (G*H, I)
    weight_hh: np.ndarray  # (G*H, H)
    bias_ih: np.ndarray  # (G*H,)
    bias_hh: np.ndarray  # (G*H,)


# ------------------------------------------------------------------------------------------- RNN


def rnn_tanh_step(w, x, state):
    """h' = tanh(W_ih x + b_ih + W_hh h + b_hh)."""
    (h,) = state
    h_new = np.tanh(x @ w.weight_ih.T + w.bias_ih + h @ w.weight_hh.T + w.bias_hh)
    return (h_new,), (x, h, h_new)


def rnn_tanh_step_back(w, grad, saved, d_state):
    x, h, h_new = saved
    (d_h_new,) = d_state
    d_a = d_h_new * (1.0 - h_new**2)
    return _rnn_back(w, grad, x, h, d_a)


def rnn_relu_step(w, x, state):
    """h' = max(0, W_ih x + b_ih + W_hh h + b_hh)."""
    (h,) = state
    h_new = np.maximum(x @ w.weight_ih.T + w.bias_ih + h @ w.weight_hh.T + w.bias_hh, 0.0)
    return (h_new,), (x, h, h_new)


def rnn_relu_step_back(w, grad, saved, d_state):
    x, h, h_new = saved
    (d_h_new,) = d_state
    d_a = np.where(h_new > 0.0, d_h_new, 0.0)
    return _rnn_back(w, grad, x, h, d_a)


def _rnn_back(w, grad, x, h, d_a):
    grad.weight_ih[...] += d_a.T @ x
    grad.weight_hh[...] += d_a.T @ h
    grad.bias_ih[...] += d_a.sum(axis=0)
    grad.bias_hh[...] += d_a.sum(axis=0)
    return d_a @ w.weight_ih, (d_a @ w.weight_hh,)


# ------------------------------------------------------------------------------------------ LSTM


def lstm_step(w, x, state):
    """i, f, o = sigmoid(...), g = tanh(...), each of W_ih x + b_ih + W_hh h + b_hh;
    c' = f * c + i * g, h' = o * tanh(c')."""
    h, c = state
    a = x @ w.weight_ih.T + w.bias_ih + h @ w.weight_hh.T + w.bias_hh
    a_i, a_f, a_g, a_o = np.split(a, 4, axis=-1)
    i, f, g, o = sigmoid(a_i), sigmoid(a_f), np.tanh(a_g), sigmoid(a_o)
    c_new = f * c + i * g
    h_new = o * np.tanh(c_new)
    return (h_new, c_new), (x, h, c, i, f, g, o, c_new)


def lstm_step_back(w, grad, saved, d_state):
    x, h, c, i, f, g, o, c_new = saved
    d_h_new, d_c_new = d_state
    tanh_c = np.tanh(c_new)
    d_c_new = d_c_new + d_h_new * o * (1.0 - tanh_c**2)
    d_i, d_f, d_g, d_o = d_c_new * g, d_c_new * c, d_c_new * i, d_h_new * tanh_c
    d_a = np.concatenate(
        [d_i * i * (1.0 - i), d_f * f * (1.0 - f), d_g * (1.0 - g**2), d_o * o * (1.0 - o)], axis=-1
    )
    grad.weight_ih[...] += d_a.T @ x
    grad.weight_hh[...] += d_a.T @ h
    grad.bias_ih[...] += d_a.sum(axis=0)
    grad.bias_hh[...] += d_a.sum(axis=0)
    return d_a @ w.weight_ih, (d_a @ w.weight_hh, d_c_new * f)


# ------------------------------------------------------------------------------------------- GRU


def gru_step(w, x, state):
    """The variant of cuDNN and PyTorch, reset after the matrix product:

    r, z = sigmoid(W_ih x + b_ih + W_hh h + b_hh)
    n = tanh(W_in x + b_in + r * (W_hn h + b_hn))
    h' = (1 - z) * n + z * h
    """
    (h,) = state
    x_r, x_z, x_n = np.split(x @ w.weight_ih.T + w.bias_ih, 3, axis=-1)
    h_r, h_z, h_n = np.split(h @ w.weight_hh.T + w.bias_hh, 3, axis=-1)
    r, z = sigmoid(x_r + h_r), sigmoid(x_z + h_z)
    n = np.tanh(x_n + r * h_n)
    h_new = (1.0 - z) * n + z * h
    return (h_new,), (x, h, r, z, n, h_n)


def gru_step_back(w, grad, saved, d_state):
    x, h, r, z, n, h_n = saved
    (d_h_new,) = d_state
    d_z, d_n = d_h_new * (h - n), d_h_new * (1.0 - z)
    d_a_n = d_n * (1.0 - n**2)
    d_a_z = d_z * z * (1.0 - z)
    d_a_r = d_a_n * h_n * r * (1.0 - r)
    d_x_part = np.concatenate([d_a_r, d_a_z, d_a_n], axis=-1)  # of W_ih x + b_ih
    d_h_part = np.concatenate([d_a_r, d_a_z, d_a_n * r], axis=-1)  # of W_hh h + b_hh
    grad.weight_ih[...] += d_x_part.T @ x
    grad.weight_hh[...] += d_h_part.T @ h
    grad.bias_ih[...] += d_x_part.sum(axis=0)
    grad.bias_hh[...] += d_h_part.sum(axis=0)
    return d_x_part @ w.weight_ih, (d_h_part @ w.weight_hh + d_h_new * z,)


def gru_original_step(w, x, state):
    """The variant of Cho et al., reset before the matrix product:

    r, z = sigmoid(W_ih x + b_ih + W_hh h + b_hh)
    n = tanh(W_in x + b_in + W_hn (r * h) + b_hn)
    h' = (1 - z) * n + z * h
    """
    (h,) = state
    w_hr, w_hz, w_hn = np.split(w.weight_hh, 3)
    b_hr, b_hz, b_hn = np.split(w.bias_hh, 3)
    x_r, x_z, x_n = np.split(x @ w.weight_ih.T + w.bias_ih, 3, axis=-1)
    r = sigmoid(x_r + h @ w_hr.T + b_hr)
    z = sigmoid(x_z + h @ w_hz.T + b_hz)
    n = np.tanh(x_n + (r * h) @ w_hn.T + b_hn)
    h_new = (1.0 - z) * n + z * h
    return (h_new,), (x, h, r, z, n)


def gru_original_step_back(w, grad, saved, d_state):
    x, h, r, z, n = saved
    (d_h_new,) = d_state
    w_hr, w_hz, w_hn = np.split(w.weight_hh, 3)
    d_z, d_n = d_h_new * (h - n), d_h_new * (1.0 - z)
    d_a_n = d_n * (1.0 - n**2)
    d_a_z = d_z * z * (1.0 - z)
    d_rh = d_a_n @ w_hn  # of the product r * h
    d_a_r = d_rh * h * r * (1.0 - r)
    d_a = np.concatenate([d_a_r, d_a_z, d_a_n], axis=-1)
    grad.weight_ih[...] += d_a.T @ x
    grad.weight_hh[...] += np.concatenate([d_a_r.T @ h, d_a_z.T @ h, d_a_n.T @ (r * h)])
    grad.bias_ih[...] += d_a.sum(axis=0)
    grad.bias_hh[...] += d_a.sum(axis=0)
    return d_a @ w.weight_ih, (d_a_r @ w_hr + d_a_z @ w_hz + d_rh * r + d_h_new * z,)


class Cell(NamedTuple):
    gates: int
    states: int
    step: object  # (weights, x, state) -> (new state, saved)
    step_back: object  # (weights, gradients to add to, saved, d_state) -> (d_x, d_state before)


CELLS = {
    "rnn_tanh": Cell(1, 1, rnn_tanh_step, rnn_tanh_step_back),
    "rnn_relu": Cell(1, 1, rnn_relu_step, rnn_relu_step_back),
    "lstm": Cell(4, 2, lstm_step, lstm_step_back),
    "gru": Cell(3, 1, gru_step, gru_step_back),
    "gru_original": Cell(3, 1, gru_original_step, gru_original_step_back),
}


# --------------------------------------------------------------------------------- one direction


def run_direction(cell, w, x, state):
    """Forward over time. x (T, N, I) -> y (T, N, H), the last state, what backward needs."""
    y = np.zeros((*x.shape[:2], w.weight_hh.shape[1]))
    tape = []
    for t in range(len(x)):
        state, saved = cell.step(w, x[t], state)
        y[t] = state[0]
        tape.append(saved)
    return y, state, tape


def run_direction_back(cell, w, grad, tape, d_y, d_state):
    """Backward through time. d_y (T, N, H) -> d_x (T, N, I), the gradient of the first state."""
    d_x = np.zeros((*d_y.shape[:2], w.weight_ih.shape[1]))
    for t in reversed(range(len(d_y))):
        d_h, *d_rest = d_state
        d_x[t], d_state = cell.step_back(w, grad, tape[t], (d_h + d_y[t], *d_rest))
    return d_x, d_state


# ----------------------------------------------------------------------------------- the network


@dataclass(frozen=True)
class Network:
    """What is to be computed: the cell and the sizes."""

    cell: str
    input_size: int
    hidden_size: int
    num_layers: int = 1
    bidirectional: bool = False
    bias: bool = True

    @property
    def directions(self):
        return ("", "_reverse") if self.bidirectional else ("",)

    @property
    def num_states(self):
        return CELLS[self.cell].states

    @property
    def output_size(self):
        return self.hidden_size * len(self.directions)

    def state_shape(self, batch):
        return (self.num_layers * len(self.directions), batch, self.hidden_size)

    def parameter_shapes(self):
        """Names as in PyTorch's state_dict, in its order, to shapes."""
        rows = CELLS[self.cell].gates * self.hidden_size
        shapes = {}
        for layer in range(self.num_layers):
            width = self.output_size if layer else self.input_size
            for direction in self.directions:
                suffix = f"_l{layer}{direction}"
                shapes["weight_ih" + suffix] = (rows, width)
                shapes["weight_hh" + suffix] = (rows, self.hidden_size)
                if self.bias:
                    shapes["bias_ih" + suffix] = shapes["bias_hh" + suffix] = (rows,)
        return shapes

    def weights(self, arrays, suffix):
        """The Weights of one layer and direction; without biases they are zeros."""
        none = np.zeros(CELLS[self.cell].gates * self.hidden_size)
        return Weights(*(arrays.get(name + suffix, none) for name in Weights._fields))


class Forward(NamedTuple):
    y: np.ndarray  # (T, B, D*H), zero past the end of a row
    state: tuple  # of (L*D, B, H)
    tape: list


class Backward(NamedTuple):
    d_x: np.ndarray  # (T, B, I), zero past the end of a row
    d_state: tuple  # of (L*D, B, H)
    grads: dict


def rows_of_equal_length(lengths):
    """Rows of one length need no padding: they are run together as an ordinary batch."""
    return [(length, np.flatnonzero(lengths == length)) for length in np.unique(lengths)]


def forward(net, parameters, x, state=None, lengths=None, masks=None):
    """Run the network in float64.

    x (T, B, I); state: a tuple of (L*D, B, H), zeros if None; lengths (B,), T each if None; masks:
    for each layer but the first, what its input (T, B, D*H) is multiplied with (dropout).
    """
    cell = CELLS[net.cell]
    parameters = {name: np.asarray(array, np.float64) for name, array in parameters.items()}
    layer_input = np.asarray(x, np.float64)
    steps, batch = layer_input.shape[:2]
    if state is None:
        state = (np.zeros(net.state_shape(batch)),) * net.num_states
    last = tuple(np.array(s, np.float64) for s in state)  # a row without steps keeps its state
    lengths = np.full(batch, steps) if lengths is None else np.asarray(lengths)
    tape = []
    for layer in range(net.num_layers):
        if layer and masks is not None:
            layer_input = layer_input * masks[layer - 1]
        y = np.zeros((steps, batch, net.output_size))
        for d, direction in enumerate(net.directions):
            w = net.weights(parameters, f"_l{layer}{direction}")
            k = layer * len(net.directions) + d
            units = slice(d * net.hidden_size, (d + 1) * net.hidden_size)
            for length, rows in rows_of_equal_length(lengths):
                inputs = layer_input[:length, rows]
                if direction:
                    inputs = inputs[::-1]
                first = tuple(np.asarray(s, np.float64)[k, rows] for s in state)
                outputs, end, saved = run_direction(cell, w, inputs, first)
                y[:length, rows, units] = outputs[::-1] if direction else outputs
                for s, value in zip(last, end, strict=True):
                    s[k, rows] = value
                tape.append((layer, direction, k, units, w, length, rows, saved))
        layer_input = y
    return Forward(layer_input, last, [layer_input.shape, lengths, tape, masks])


def backward(net, tape, d_y, d_state=None):
    """The gradient of sum(d_y * y) + sum(d_state * state) of that forward pass."""
    cell = CELLS[net.cell]
    (steps, batch, _), _, directions_run, masks = tape
    if d_state is None:
        d_state = (np.zeros(net.state_shape(batch)),) * net.num_states
    d_first = tuple(np.array(s, np.float64) for s in d_state)
    grads = {name: np.zeros(shape) for name, shape in net.parameter_shapes().items()}
    d_output = np.asarray(d_y, np.float64)
    for layer in reversed(range(net.num_layers)):
        width = net.output_size if layer else net.input_size
        d_input = np.zeros((steps, batch, width))
        for of_layer, direction, k, units, w, length, rows, saved in directions_run:
            if of_layer != layer:
                continue
            d_outputs = d_output[:length, rows, units]
            if direction:
                d_outputs = d_outputs[::-1]
            d_end = tuple(np.asarray(s, np.float64)[k, rows] for s in d_state)
            grad = net.weights(grads, f"_l{layer}{direction}")
            d_inputs, d_start = run_direction_back(cell, w, grad, saved, d_outputs, d_end)
            d_input[:length, rows] += d_inputs[::-1] if direction else d_inputs
            for s, value in zip(d_first, d_start, strict=True):
                s[k, rows] = value
        if layer and masks is not None:
            d_input = d_input * masks[layer - 1]
        d_output = d_input
    return Backward(d_output, d_first, grads)


def central_difference(function, array, step=1e-5):
    """The gradient of a scalar function of a float64 array, entry by entry: (f(a+s) - f(a-s)) / 2s.

    `function` takes no argument: it reads `array`, which is changed in place and restored.
    """
    gradient = np.zeros_like(array)
    for index in np.ndindex(array.shape):
        value = array[index]
        array[index] = value + step
        above = function()
        array[index] = value - step
        below = function()
        array[index] = value
        gradient[index] = (above - below) / (2.0 * step)
    return gradient


def one_hot(ids, size):
    """Token ids (...,) -> one-hot vectors (..., size)."""
    return np.eye(size)[np.asarray(ids)]
