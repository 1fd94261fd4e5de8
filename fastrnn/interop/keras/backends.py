"""The innermost call, the one piece that differs by Keras's backend."""

from __future__ import annotations

import importlib
from typing import Any

import keras

from .cells import cell_weights, kind_of

__all__ = ["BACKENDS", "reason_against_tensor", "run_cell"]

BACKENDS = ("torch", "jax", "tensorflow")


def reason_against_tensor(x: Any) -> str | None:
    """Return why the kernels cannot run on a tensor like this, or None if they can."""
    backend = keras.backend.backend()
    if backend == "torch":
        from . import torch

        return torch.reason_against_tensor(x)
    if backend == "jax":
        import jax

        device = jax.default_backend()
    elif backend == "tensorflow":
        import tensorflow

        device = "gpu" if tensorflow.config.list_logical_devices("GPU") else "cpu"
    else:
        return f"Keras runs on the backend {backend}"
    return None if device == "cpu" else f"a tensor on the device {device}"


def run_cell(cell: Any, x: Any, h0: Any, c0: Any, lengths: Any) -> tuple[Any, Any, Any]:
    """Run one of Keras's cells over whole sequences.

    Differentiable with respect to its weights, x and the states, as the backend's own functions.

    Parameters
    ----------
    cell : keras.Layer
        Built, and one that `cells.reason_against_cell` has nothing against.
    x : tensor, shape (B, T, I)
    h0, c0 : tensor, shape (B, H)
        c0 is None but for an LSTM.
    lengths : tensor of int32, shape (B,), or None

    Returns
    -------
    y : tensor, shape (B, T, H)
        Zero past the end of a row.
    h_n, c_n : tensor, shape (B, H)
        c_n is None but for an LSTM.
    """
    backend = keras.backend.backend()
    if lengths is not None and backend != "jax":  # which may have no int64
        lengths = keras.ops.cast(lengths, "int64")
    if backend == "torch":
        from . import torch

        if not torch.needs_gradients([x, h0, c0, cell.kernel, cell.recurrent_kernel, cell.bias]):
            return torch.infer_cell(cell, x, h0, c0, lengths)
    weights = [(*cell_weights(cell), None)]
    h0, c0 = h0[None], None if c0 is None else c0[None]
    y, h_n, c_n = _layer()(kind_of(cell), x, weights, h0, c0, lengths, batch_first=True)
    return y, h_n[0], None if c_n is None else c_n[0]


def _layer() -> Any:
    """Return the function `layer` of the backend."""
    backend = keras.backend.backend()
    place = ".tensorflow" if backend == "tensorflow" else f"..{backend}"
    return importlib.import_module(place, __package__).layer
