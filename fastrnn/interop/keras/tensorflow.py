"""The layer for Keras on TensorFlow: a function of NumPy within TensorFlow's, with its gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ... import _core
from ...base import FLOAT32

__all__ = ["layer"]

Tensor = Any
Arrays = list[NDArray[Any]]
CORE_WEIGHTS = 11  # as `_core.pack_cell` takes them, of which Keras's cells have the first four


def layer(
    kind: str,
    x: Tensor,
    weights: Sequence[tuple[Tensor | None, ...]],
    h0: Tensor,
    c0: Tensor | None = None,
    lengths: Tensor | None = None,
    *,
    batch_first: bool = True,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Run one direction, as `fastrnn.interop.torch.layer` does; batch first only.

    The gradient runs the layer again, as nothing but tensors can be kept of the first run. It has
    no gradient of its own.
    """
    assert batch_first
    assert len(weights) == 1
    own = [w for w in weights[0] if w is not None]
    # A variable would be taken for one that the function captures.
    given = [tf.convert_to_tensor(t) for t in (x, h0, *([] if c0 is None else [c0]), *own)]
    extra = [] if lengths is None else [lengths]
    bias = len(own) == 4
    results = _differentiable(kind, bias, extra)(*given)
    return (*results, None) if c0 is None else tuple(results)


def _differentiable(kind: str, bias: bool, extra: list[Tensor]) -> Any:
    """Return the layer as a function of tensors x, h0, c0 of an LSTM, and the weights."""
    states = 2 if kind == "lstm" else 1

    @tf.custom_gradient
    def run(*given: Tensor) -> Any:
        x, h0 = given[:2]
        results = tf.numpy_function(
            lambda *arrays: _infer(kind, bias, *arrays),
            [*given, *extra],
            [x.dtype] * (1 + states),
            stateful=False,
        )
        shapes = [(*x.shape[:2], h0.shape[2])] + [h0.shape] * states
        for result, shape in zip(results, shapes, strict=True):
            result.set_shape(shape)

        def gradient(*d_results: Tensor) -> Any:
            return _gradients(kind, bias, extra, len(given))(*given, *d_results)

        return tuple(results), gradient

    return run


def _gradients(kind: str, bias: bool, extra: list[Tensor], count: int) -> Any:
    @tf.custom_gradient
    def run(*given: Tensor) -> Any:
        inputs = given[:count]
        results = tf.numpy_function(
            lambda *arrays: _vjp(kind, bias, count, *arrays),
            [*given, *extra],
            [t.dtype for t in inputs],
            stateful=False,
        )
        for result, tensor in zip(results, inputs, strict=True):
            result.set_shape(tensor.shape)

        def second(*_: Tensor) -> Any:
            raise NotImplementedError(
                "fastrnn's layers have no gradients of gradients on TensorFlow: "
                "take fastrnn.interop.keras.restore(model) before"
            )

        return tuple(results), second

    return run


# --- the same on NumPy arrays ---------------------------------------------------------------------


def _parts(kind: str, bias: bool, arrays: Sequence[NDArray[Any]]) -> tuple[Any, ...]:
    """Return x (B, T, I), h0, c0, the weights and the lengths; c0 and lengths may be None."""
    x, h0, *rest = map(np.ascontiguousarray, arrays)
    c0 = rest.pop(0) if kind == "lstm" else None
    number = 4 if bias else 2
    return x, h0, c0, rest[:number], rest[number] if len(rest) > number else None


def _cell(kind: str, weights: Arrays, training: bool) -> Any:
    missing = [None] * (CORE_WEIGHTS - len(weights))
    return _core.pack_cell(kind, (*weights, *missing), None, training)


def _infer(kind: str, bias: bool, *arrays: NDArray[Any]) -> Arrays:
    """Return y (B, T, H), h_n and, of an LSTM, c_n (1, B, H)."""
    x, h0, c0, weights, lengths = _parts(kind, bias, arrays)
    stack = _core.StackFloat32 if x.dtype == FLOAT32 else _core.StackFloat64
    state = h0 if c0 is None else (h0, c0)
    result = stack([(_cell(kind, weights, False),)]).call(x, state, lengths, True)
    if result is None:
        raise ValueError(f"expected the sizes of the weights, got {x.shape} and {h0.shape}")
    y, last = result
    return [y, *(last if type(last) is tuple else (last,))]


def _vjp(kind: str, bias: bool, count: int, *arrays: NDArray[Any]) -> Arrays:
    """Return the gradients of the first `count` arrays; after them come those of the results."""
    results = 3 if kind == "lstm" else 2
    d_y, d_h, *d_c = map(np.ascontiguousarray, arrays[count : count + results])
    x, h0, c0, weights, lengths = _parts(kind, bias, arrays[:count] + arrays[count + results :])
    h_n = np.empty_like(h0)
    c_n = None if c0 is None else np.empty_like(c0)
    _, tape = _core.layer_forward(
        (_cell(kind, weights, True),),
        x.swapaxes(0, 1),
        h0,
        c0,
        lengths,
        h_n,
        c_n,
        True,
        0,
        (None, None, None, None),
    )
    gradients = [np.zeros_like(w) for w in weights]
    missing = [None] * (CORE_WEIGHTS - len(weights))
    dx, dh0, dc0, _ = tape.backward(
        d_y.swapaxes(0, 1), d_h, d_c[0] if d_c else None, [(*gradients, *missing)], True
    )
    assert dx is not None
    return [dx.swapaxes(0, 1), dh0, *([] if dc0 is None else [dc0]), *gradients]
