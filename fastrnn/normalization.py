"""Normalisation between layers: `LayerNorm`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from . import _core
from .base import (
    Layer,
    Parameter,
    RealArray,
    check_dtype,
    check_flag,
    check_gradient,
    check_number,
    check_size,
    check_unchanged,
    real_array,
)

__all__ = ["LayerNorm"]


class LayerNorm(Layer):
    """Each vector to mean 0 and variance 1 over its features, then scaled and shifted.

    y = (x - mean(x)) / sqrt(var(x) + eps) * weight + bias, over the last axis alone: Ba, Kiros &
    Hinton (2016), "Layer normalization", eq. 3 and 4, with eps as in PyTorch. No step and no row
    of a batch sees another, so that lengths make no difference.

    Parameters
    ----------
    normalized_shape : int
        Size F of the last axis.
    eps : float, default 1e-5
        Added to the variance.
    bias : bool, default True
        Whether there is a shift.
    dtype : {"float32", "float64"}

    Attributes
    ----------
    weight : Parameter, shape (F,)
        Starts as ones.
    bias : Parameter of shape (F,), or None
        Starts as zeros.
    """

    bias: Parameter | None

    def __init__(
        self,
        normalized_shape: int,
        eps: float = 1e-5,
        bias: bool = True,
        *,
        dtype: DTypeLike = "float32",
    ) -> None:
        super().__init__()
        self.normalized_shape = check_size("normalized_shape", normalized_shape)
        self.eps = check_number("eps", eps, 0.0)
        self.dtype = check_dtype(dtype)
        self.weight = self._parameters["weight"] = Parameter(np.ones(normalized_shape, self.dtype))
        if check_flag("bias", bias):
            self._parameters["bias"] = Parameter(np.zeros(normalized_shape, self.dtype))
        self.bias = self._parameters.get("bias")

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            "normalized_shape": self.normalized_shape,
            "eps": self.eps,
            "bias": self.bias is not None,
            "dtype": self.dtype.name,
        }

    @classmethod
    def parameter_shapes(cls, config: Mapping[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield name and shape of each parameter; see `Layer.parameter_shapes`."""
        features = check_size("normalized_shape", config.get("normalized_shape"))
        yield "weight", (features,)
        if check_flag("bias", config.get("bias", True)):
            yield "bias", (features,)

    def _normalize(
        self, x: ArrayLike, training: bool
    ) -> tuple[RealArray, RealArray, RealArray, RealArray]:
        """Return x as it was taken, y, and for training mean and 1 / deviation of each row."""
        array = real_array("x", x, self.dtype)
        features = self.normalized_shape
        if array.ndim == 0 or array.shape[-1] != features:
            raise ValueError(f"x: expected the shape (..., {features}), got {array.shape}")
        bias = None if self.bias is None else self.bias._array
        y, mean, rstd = _core.layer_norm_forward(
            array.reshape(-1, features), self.weight._array, bias, self.eps, training
        )
        return array, y.reshape(array.shape), mean, rstd

    def __call__(self, x: ArrayLike) -> RealArray:
        """Return y for x, both of shape (..., F)."""
        return self._normalize(x, False)[1]

    def vjp(self, x: ArrayLike) -> tuple[RealArray, Callable[[ArrayLike], RealArray]]:
        """Return y and the pullback from dy to dx, all of shape (..., F).

        The pullback refers to x and the weights: x must not be changed in between, and changed
        weights are a RuntimeError.
        """
        array, y, mean, rstd = self._normalize(x, True)
        rows, weight, bias = array.reshape(-1, self.normalized_shape), self.weight, self.bias
        version = weight.version

        def pullback(dy: ArrayLike) -> RealArray:
            d_rows = check_gradient(dy, array.shape, self.dtype).reshape(rows.shape)
            check_unchanged(weight, version)
            dx = _core.layer_norm_backward(
                rows,
                weight._array,
                mean,
                rstd,
                d_rows,
                weight.ensure_grad() if weight.requires_grad else None,
                bias.ensure_grad() if bias is not None and bias.requires_grad else None,
            )
            return dx.reshape(array.shape)

        return y, pullback
