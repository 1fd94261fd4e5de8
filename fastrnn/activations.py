"""Functions of single values as layers: `Tanh`, `Sigmoid` and `ReLU`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from . import _core
from .base import Layer, RealArray, check_gradient, real_array

__all__ = ["ReLU", "Sigmoid", "Tanh"]


class _Activation(Layer):
    """A function of each value, whose derivative is one of its result."""

    def _function(self, x: RealArray) -> RealArray:
        raise NotImplementedError

    def _times_derivative(self, dy: RealArray, y: RealArray) -> RealArray:
        raise NotImplementedError

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments: none."""
        return {}

    @classmethod
    def parameter_shapes(cls, config: Mapping[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield nothing: there are no parameters."""
        return iter(())

    def __call__(self, x: ArrayLike) -> RealArray:
        """Return the function of x, float32 or float64 of any shape."""
        return self._function(real_array("x", x))

    def vjp(self, x: ArrayLike) -> tuple[RealArray, Callable[[ArrayLike], RealArray]]:
        """Return y, read-only as the pullback needs it, and the pullback from dy to dx."""
        y = self(x)
        y.flags.writeable = False

        def pullback(dy: ArrayLike) -> RealArray:
            return self._times_derivative(check_gradient(dy, y.shape, y.dtype), y)

        return y, pullback


class Tanh(_Activation):
    """The hyperbolic tangent of each value."""

    def _function(self, x: RealArray) -> RealArray:
        return _core.tanh(x.reshape(-1)).reshape(x.shape)

    def _times_derivative(self, dy: RealArray, y: RealArray) -> RealArray:
        return dy * (1.0 - y * y)


class Sigmoid(_Activation):
    """The logistic function of each value, 1 / (1 + exp(-x))."""

    def _function(self, x: RealArray) -> RealArray:
        return _core.sigmoid(x.reshape(-1)).reshape(x.shape)

    def _times_derivative(self, dy: RealArray, y: RealArray) -> RealArray:
        return dy * (y * (1.0 - y))


class ReLU(_Activation):
    """max(x, 0) of each value; the derivative at 0 is 0."""

    def _function(self, x: RealArray) -> RealArray:
        return np.asarray(np.maximum(x, x.dtype.type(0)))

    def _times_derivative(self, dy: RealArray, y: RealArray) -> RealArray:
        return np.where(y > 0, dy, dy.dtype.type(0))
