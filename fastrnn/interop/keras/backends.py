"""The innermost call, the one piece that differs by Keras's backend."""

from __future__ import annotations

import importlib
from typing import Any

import keras

__all__ = ["BACKENDS", "reason_against_tensor", "run_layer"]

BACKENDS = ("torch", "jax", "tensorflow")


def reason_against_tensor(x: Any) -> str | None:
    """Return why the kernels cannot run on a tensor like this, or None if they can."""
    backend = keras.backend.backend()
    if backend == "torch":
        return _reason_of_torch(x)
    if backend == "jax":
        import jax

        device = jax.default_backend()
    elif backend == "tensorflow":
        import tensorflow

        device = "gpu" if tensorflow.config.list_logical_devices("GPU") else "cpu"
    else:
        return f"Keras runs on the backend {backend}"
    return None if device == "cpu" else f"a tensor on the device {device}"


def _reason_of_torch(x: Any) -> str | None:
    from ..torch.reasons import surroundings

    if x.device.type != "cpu":  # "meta" where Keras asks for shapes
        return f"a tensor on the device {x.device}"
    return surroundings()


def run_layer(
    kind: str, x: Any, weights: Any, h0: Any, c0: Any, lengths: Any
) -> tuple[Any, Any, Any]:
    """Run one direction over whole sequences, differentiable as the backend's own functions are.

    Parameters
    ----------
    kind : str
        "rnn_tanh", "rnn_relu", "lstm", "gru" or "gru_reset_before".
    x : tensor, shape (B, T, I)
    weights : tuple of tensors
        w_ih, w_hh, b_ih or None, b_hh or None, in PyTorch's shapes and order of gates.
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
    h0, c0 = h0[None], None if c0 is None else c0[None]
    if lengths is not None and keras.backend.backend() != "jax":  # which may have no int64
        lengths = keras.ops.cast(lengths, "int64")
    y, h_n, c_n = _layer()(kind, x, [(*weights, None)], h0, c0, lengths, batch_first=True)
    return y, h_n[0], None if c_n is None else c_n[0]


def _layer() -> Any:
    """Return the function `layer` of the backend."""
    backend = keras.backend.backend()
    place = ".tensorflow" if backend == "tensorflow" else f"..{backend}"
    return importlib.import_module(place, __package__).layer
