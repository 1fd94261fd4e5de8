"""Keras's cells as the kernels know them: their kinds, and their weights in PyTorch's layout.

Keras multiplies from the right, x W + h U, so its kernels are the transposed ones. The gates of its
LSTM come as i, f, c, o, PyTorch's order; those of its GRU as z, r, h, where PyTorch has r, z, n.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import activations, ops

__all__ = ["cell_weights", "kind_of", "reason_against_cell"]

TANH = (activations.tanh, ops.tanh)
RELU = (activations.relu, ops.relu)
SIGMOID = (activations.sigmoid, ops.sigmoid)
LSTMCell, GRUCell = keras.layers.LSTMCell, keras.layers.GRUCell
CELLS = (keras.layers.SimpleRNNCell, LSTMCell, GRUCell)


def kind_of(cell: Any) -> str:
    """Return what the kernels call a cell that `reason_against_cell` has nothing against."""
    if type(cell) is LSTMCell:
        return "lstm"
    if type(cell) is GRUCell:
        return "gru" if cell.reset_after else "gru_reset_before"
    return "rnn_relu" if cell.activation in RELU else "rnn_tanh"


def reason_against_cell(cell: Any) -> str | None:
    """Return why the kernels cannot run this cell, or None if they can."""
    if type(cell) not in CELLS:  # a subclass may compute something else
        return f"its cell is a {type(cell).__name__}"
    gated = type(cell) is not CELLS[0]
    if cell.activation not in (TANH if gated else TANH + RELU):
        return f"activation={_name(cell.activation)}"
    if gated and cell.recurrent_activation not in SIGMOID:
        return f"recurrent_activation={_name(cell.recurrent_activation)}"
    if cell.activity_regularizer is not None:
        return "its cell has an activity_regularizer"
    if cell.compute_dtype not in ("float32", "float64"):
        return f"its dtype is {cell.compute_dtype}"
    if cell.variable_dtype != cell.compute_dtype:
        return f"its variables are {cell.variable_dtype} and it computes in {cell.compute_dtype}"
    return None


def _name(function: Any) -> str:
    return str(getattr(function, "__name__", None) or type(function).__name__)


def cell_weights(cell: Any) -> tuple[Any, Any, Any, Any]:
    """Return w_ih, w_hh, b_ih, b_hh of a built cell as tensors; without a bias both are None."""
    gru = type(cell) is GRUCell
    w_ih, w_hh = (ops.transpose(_gates(w, gru)) for w in (cell.kernel, cell.recurrent_kernel))
    if cell.bias is None:
        return w_ih, w_hh, None, None
    bias = _gates(cell.bias, gru)
    if gru and cell.reset_after:
        return w_ih, w_hh, bias[0], bias[1]
    return w_ih, w_hh, bias, ops.zeros_like(bias)


def _gates(weight: Any, gru: bool) -> Any:
    """Return a weight as a tensor, its gates along the last axis in PyTorch's order."""
    tensor = ops.convert_to_tensor(weight)
    if not gru:
        return tensor
    z, r, n = ops.split(tensor, 3, axis=-1)
    return ops.concatenate([r, z, n], axis=-1)
