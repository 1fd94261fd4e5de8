"""Functions without parameters as layers: `Tanh`, `Sigmoid`, `ReLU` and `Softmax`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from . import _core
from .base import Layer, RealArray, check_gradient, real_array

__all__ = ["ReLU", "Sigmoid", "Softmax", "Tanh"]


class _Activation(Layer):
    """A function without parameters, whose derivative is one of its result."""

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


class Softmax(_Activation):
    """The softmax along an axis, exp(x) / sum(exp(x)).

    Parameters
    ----------
    dim : int, optional
        The axis, from 0 on or from -1 back; the last by default. PyTorch's default, None, means an
        axis that depends on the number of axes, and is not offered.

    Raises
    ------
    TypeError
        If `dim` is no integer.
    IndexError
        When called with an array that lacks that axis.

    Notes
    -----
    The largest value is subtracted first, so that nothing overflows. A row that holds NaN, or
    whose largest value is infinite, becomes NaN, as in PyTorch.
    """

    def __init__(self, dim: int = -1) -> None:
        if isinstance(dim, bool) or not isinstance(dim, int):
            raise TypeError(f"dim: expected an integer, got {dim!r}")
        super().__init__()
        self.dim = dim

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"dim": self.dim}

    def _rows_last(self, x: RealArray) -> RealArray:
        if not -x.ndim <= self.dim < x.ndim:
            raise IndexError(f"x: expected an axis {self.dim}, got an array of shape {x.shape}")
        return x.swapaxes(self.dim, -1)

    def _function(self, x: RealArray) -> RealArray:
        turned = self._rows_last(x)
        rows = np.ascontiguousarray(turned).reshape(-1, turned.shape[-1] or 1)
        return np.ascontiguousarray(
            _core.softmax(rows).reshape(turned.shape).swapaxes(self.dim, -1)
        )

    def _times_derivative(self, dy: RealArray, y: RealArray) -> RealArray:
        dx: RealArray = y * (dy - (dy * y).sum(self.dim, keepdims=True))
        return dx
