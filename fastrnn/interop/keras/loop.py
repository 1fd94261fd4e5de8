"""Keras's inner loop by the kernels: which layers and calls they take, masks and directions.

One piece for all backends, in the functions of `keras.ops`; what differs is in `backends`.

A mask becomes lengths: the real steps of each row move together to the front, the kernels run, and
the output at step t is that of the last real step up to t, found by counting them.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from . import backends
from .cells import reason_against_cell

__all__ = ["FallbackError", "cells_of", "reason_against", "run"]


class FallbackError(Exception):
    """Raised for a call that is left to Keras, with the reason."""


def cells_of(layer: Any) -> list[Any]:
    """Return the cells of an RNN layer, the lowest first."""
    cell = layer.cell
    return list(cell.cells) if isinstance(cell, keras.layers.StackedRNNCells) else [cell]


def reason_against(layer: Any) -> str | None:
    """Return why the kernels can run no call of this RNN layer, or None if they can."""
    cells = cells_of(layer)
    if len(cells) == 1 and cells[0] is not layer.cell:
        return "a stack of one cell"
    for cell in cells:
        reason = reason_against_cell(cell)
        if reason is not None:
            return reason
        if cell.compute_dtype != layer.compute_dtype:
            return f"its dtype is {layer.compute_dtype} and that of its cell {cell.compute_dtype}"
    if getattr(layer, "use_cudnn", None) is True:
        return "use_cudnn=True asks for cuDNN"
    return None


def run(layer: Any, sequences: Any, initial_state: Any, mask: Any, training: Any) -> Any:
    """Return what an RNN layer's `inner_loop` returns: last output, outputs, states.

    Raises
    ------
    FallbackError
        If the kernels cannot run this call.
    """
    mask = keras.tree.flatten(mask)[0] if mask is not None else None
    states = [s if keras.tree.is_nested(s) else [s] for s in _by_cell(layer, initial_state)]
    _check_call(layer, sequences, states, mask, training)
    x = sequences
    if keras.backend.standardize_dtype(x.dtype) != layer.compute_dtype:  # integers
        x = ops.cast(x, layer.compute_dtype)
    if layer.stateful:  # its variables are assigned in place before a backward pass reads them
        states = [[ops.copy(s) for s in state] for state in states]
    if layer.go_backwards:
        x, mask = ops.flip(x, axis=1), None if mask is None else ops.flip(mask, axis=1)
    steps = None if mask is None else RealSteps(mask)
    if steps is not None:
        x = steps.to_front(x)
    y, new_states = _run_cells(layer, x, states, None if steps is None else steps.lengths, training)
    last, outputs = _outputs(layer, y, new_states[-1][0], states[-1][0], steps)
    if len(states) == 1:
        return last, outputs, new_states[0]
    return (
        last,
        outputs,
        keras.tree.pack_sequence_as(list(initial_state), keras.tree.flatten(new_states)),
    )


def _by_cell(layer: Any, initial_state: Any) -> list[Any]:
    if len(cells_of(layer)) > 1:
        return list(initial_state)
    return [initial_state]


def _check_call(layer: Any, x: Any, states: list[Any], mask: Any, training: Any) -> None:
    """Raise FallbackError if the kernels cannot run this call of a layer that they can run."""
    reason = reason_against(layer) or backends.reason_against_tensor(x)
    if reason is not None:
        raise FallbackError(reason)
    if len(x.shape) != 3 or 0 in x.shape or x.shape[2] != layer_inputs(layer):
        raise FallbackError(f"an input of the shape {tuple(x.shape)}")
    for cell, state in zip(cells_of(layer), states, strict=True):
        if any(tuple(s.shape) != (x.shape[0], cell.units) for s in state):
            raise FallbackError("an initial state of another shape than (batch, units)")
        if training and (cell.recurrent_dropout or not 0.0 <= cell.dropout < 1.0):
            raise FallbackError("recurrent dropout in training")
        if training and cell.dropout and getattr(cell, "implementation", 2) == 1:
            raise FallbackError("dropout of its own for each gate (implementation=1) in training")
    dtype = keras.backend.standardize_dtype(x.dtype)
    if dtype != layer.compute_dtype and "float" in dtype:
        raise FallbackError(f"an input of {dtype}")
    if mask is not None and (layer.unroll or tuple(mask.shape) != tuple(x.shape[:2])):
        # Backends differ in what an unrolled layer gives at masked steps.
        raise FallbackError("a mask of an unrolled layer, or of another shape than (batch, steps)")


def layer_inputs(layer: Any) -> int:
    """Return the features that a built layer takes."""
    return int(cells_of(layer)[0].kernel.shape[0])


def _run_cells(
    layer: Any, x: Any, states: list[Any], lengths: Any, training: Any
) -> tuple[Any, list[list[Any]]]:
    """Return the highest cell's outputs (B, T, H), and each cell's states after the last step."""
    new_states = []
    for cell, (h, *c) in zip(cells_of(layer), states, strict=True):
        if training and cell.dropout:  # one mask for all steps, drawn by Keras
            x = x * ops.expand_dims(cell.get_dropout_mask(x[:, 0, :]), 1)
        x, h_n, c_n = backends.run_cell(cell, x, h, c[0] if c else None, lengths)
        new_states.append([h_n, c_n] if c else [h_n])
    return x, new_states


def _outputs(layer: Any, y: Any, h_n: Any, h0: Any, steps: RealSteps | None) -> tuple[Any, Any]:
    """Return the last output (B, H) and all (B, T, H), where only it is wanted the last again."""
    if steps is None:
        return h_n, y if layer.return_sequences else h_n
    # Before the first real step: zeros in PyTorch and TensorFlow, the initial state in JAX.
    before = h0 if keras.backend.backend() == "jax" else ops.zeros_like(h0)
    if layer.zero_output_for_mask:
        last = ops.where(steps.real[:, -1:], h_n, ops.zeros_like(h_n))
    else:
        last = ops.where(steps.count[:, -1:] > 0, h_n, before)
    if not layer.return_sequences:
        return last, last
    y = steps.back(y)
    if layer.zero_output_for_mask:
        return last, ops.where(steps.real[:, :, None], y, ops.zeros_like(y))
    return last, ops.where(steps.count[:, :, None] > 0, y, before[:, None])


class RealSteps:
    """Where the real steps of a batch are.

    Attributes
    ----------
    real : tensor of bool, shape (B, T)
    count : tensor of int32, shape (B, T)
        Real steps of the row up to and with each step.
    lengths : tensor of int32, shape (B,)
        Real steps of each row.
    """

    def __init__(self, mask: Any) -> None:
        self.real = ops.cast(mask, "bool")
        self.count = ops.cumsum(ops.cast(self.real, "int32"), axis=1)
        self.lengths = self.count[:, -1]

    def to_front(self, x: Any) -> Any:
        """Return x (B, T, I) with the real steps of each row first, in order."""
        T = ops.shape(x)[1]
        steps = ops.arange(T, dtype="int32")
        order = ops.argsort(ops.where(self.real, steps, steps + T), axis=1)
        return ops.take_along_axis(x, order[:, :, None], axis=1)

    def back(self, y: Any) -> Any:
        """Return y (B, T, H) at each step as of the last real one up to it; before, anything."""
        return ops.take_along_axis(y, ops.maximum(self.count - 1, 0)[:, :, None], axis=1)
