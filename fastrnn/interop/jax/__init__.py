"""Recurrent layers for JAX: `rnn`, `lstm`, `gru`, `init`, and `layer`, which they are made of."""

try:
    import jax as _jax  # noqa: F401
except ImportError as error:
    raise ImportError(
        "fastrnn.interop.jax needs the package jax: pip install 'fastrnn[jax]'"
    ) from error

from .layer import layer
from .networks import gru, init, lstm, rnn

__all__ = ["gru", "init", "layer", "lstm", "rnn"]
