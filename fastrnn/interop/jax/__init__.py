"""Recurrent layers for JAX: `layer`."""

try:
    import jax as _jax  # noqa: F401
except ImportError as error:
    raise ImportError(
        "fastrnn.interop.jax needs the package jax: pip install 'fastrnn[jax]'"
    ) from error

from .layer import layer

__all__ = ["layer"]
