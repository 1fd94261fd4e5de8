"""Normalisation between layers: `LayerNorm` and `BatchNorm`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

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
from .pooling import check_lengths, real_steps

__all__ = ["BatchNorm", "LayerNorm"]

Mask = NDArray[np.bool_]


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


class BatchNorm(Layer):
    """Each feature to mean 0 and variance 1 over a batch's real steps, then scaled and shifted.

    y = (x - mean) / sqrt(var + eps) * weight + bias: Ioffe & Szegedy (2015), "Batch normalization",
    algorithm 1. Mean and variance are taken over batch and time together, "sequence-wise" (Laurent
    et al. 2016, "Batch normalized recurrent neural networks", eq. 8 and 9), and only of the real
    steps: those past a row's end are left out, and zero in y.

    `vjp` uses the statistics of the batch and moves the running ones towards them; a call uses the
    running ones.

    Parameters
    ----------
    num_features : int
        Size F of the last axis.
    eps : float, default 1e-5
        Added to the variance.
    momentum : float or None, default 0.1
        Share of the batch in the new running statistics; None for the mean over all batches.
    affine : bool, default True
        Whether there are weight and bias.
    track_running_stats : bool, default True
        Whether there are running statistics; without them a call uses those of its batch.
    batch_first : bool, default False
        Whether x is (B, T, F) where lengths are given.
    dtype : {"float32", "float64"}

    Attributes
    ----------
    weight, bias : Parameter of shape (F,), or None
        Start as ones and zeros.
    running_mean, running_var : Parameter of shape (F,), or None
        Start as zeros and ones; var with n - 1 in the denominator. They require no gradient.
    num_batches_tracked : Parameter of shape (), or None

    Notes
    -----
    Statistics are summed in float64. In `vjp` a row's result depends on the rest of its batch; in a
    call, by running statistics, it does not.
    """

    uses_lengths = True
    _plain_arguments = ("num_features",)

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        batch_first: bool = False,
        *,
        dtype: DTypeLike = "float32",
    ) -> None:
        super().__init__()
        self.num_features = check_size("num_features", num_features)
        self.eps = check_number("eps", eps, 0.0)
        self.momentum = None if momentum is None else check_number("momentum", momentum, 0.0, 1.0)
        self.affine = check_flag("affine", affine)
        self.track_running_stats = check_flag("track_running_stats", track_running_stats)
        self.batch_first = check_flag("batch_first", batch_first)
        self.dtype = check_dtype(dtype)
        for name, shape in self.parameter_shapes(self.config()):
            start = 1.0 if name in ("weight", "running_var") else 0.0
            learned = name in ("weight", "bias")
            self._parameters[name] = Parameter(np.full(shape, start, self.dtype), learned)
        self.weight = self._parameters.get("weight")
        self.bias = self._parameters.get("bias")
        self.running_mean = self._parameters.get("running_mean")
        self.running_var = self._parameters.get("running_var")
        self.num_batches_tracked = self._parameters.get("num_batches_tracked")

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            "num_features": self.num_features,
            "eps": self.eps,
            "momentum": self.momentum,
            "affine": self.affine,
            "track_running_stats": self.track_running_stats,
            "batch_first": self.batch_first,
            "dtype": self.dtype.name,
        }

    @classmethod
    def parameter_shapes(cls, config: Mapping[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield name and shape of each parameter; see `Layer.parameter_shapes`."""
        features = check_size("num_features", config.get("num_features"))
        if check_flag("affine", config.get("affine", True)):
            yield "weight", (features,)
            yield "bias", (features,)
        if check_flag("track_running_stats", config.get("track_running_stats", True)):
            yield "running_mean", (features,)
            yield "running_var", (features,)
            yield "num_batches_tracked", ()

    def __call__(self, x: ArrayLike, lengths: ArrayLike | None = None) -> RealArray:
        """Return y for x, both of shape (..., F).

        Parameters
        ----------
        x : array_like, shape (..., F)
            (T, B, F), or (B, T, F) with `batch_first`, where lengths are given.
        lengths : array_like of int, shape (B,), optional
            Steps of each row, 0 <= length <= T. Past a row's end y is zero, whatever x is there.
        """
        array, real = self._input(x, lengths)
        rows = _rows(array, real)
        if self.running_mean is None or self.running_var is None:
            mean, var = _moments(rows)
        else:
            mean, var = self.running_mean._array, self.running_var._array
        return _spread(self._affine((rows - mean) * self._rstd(var)), array.shape, real)

    def vjp(
        self, x: ArrayLike, lengths: ArrayLike | None = None
    ) -> tuple[RealArray, Callable[[ArrayLike], RealArray]]:
        """Return y by the batch's statistics and the pullback from dy to dx, all of x's shape.

        Moves the running statistics. ValueError if there are fewer than two real steps, as there
        is no variance then. The pullback refers to the weights: changed ones are a RuntimeError.
        """
        array, real = self._input(x, lengths)
        rows, shape = _rows(array, real), array.shape
        if len(rows) < 2:
            raise ValueError(f"x: expected at least two real steps to train with, got {len(rows)}")
        mean, var = _moments(rows)
        rstd = self._rstd(var)
        normal = (rows - mean) * rstd
        self._track(mean, var * (len(rows) / (len(rows) - 1)))
        weight, bias = self.weight, self.bias
        version = 0 if weight is None else weight.version

        def pullback(dy: ArrayLike) -> RealArray:
            d_rows = _rows(check_gradient(dy, shape, self.dtype), real)
            d_normal = d_rows
            if weight is not None and bias is not None:
                check_unchanged(weight, version)
                if weight.requires_grad:
                    _add(weight, d_rows * normal)
                if bias.requires_grad:
                    _add(bias, d_rows)
                d_normal = d_rows * weight._array
            along = _mean(d_normal)
            across = _mean(d_normal * normal)
            return _spread(rstd * (d_normal - along - normal * across), shape, real)

        return _spread(self._affine(normal), shape, real), pullback

    def _input(self, x: ArrayLike, lengths: ArrayLike | None) -> tuple[RealArray, Mask | None]:
        """Return x and the mask of its real steps, of its leading axes; None if all are real."""
        array = real_array("x", x, self.dtype)
        features = self.num_features
        if array.ndim == 0 or array.shape[-1] != features:
            raise ValueError(f"x: expected the shape (..., {features}), got {array.shape}")
        if lengths is None:
            return array, None
        if array.ndim != 3:
            axes = "B, T" if self.batch_first else "T, B"
            raise ValueError(
                f"x: expected the shape ({axes}, {features}) with lengths, got {array.shape}"
            )
        T, B = array.shape[1::-1] if self.batch_first else array.shape[:2]
        mask = real_steps(check_lengths(lengths, T, B), T)
        return array, mask.T if self.batch_first else mask

    def _rstd(self, var: RealArray) -> RealArray:
        rstd: RealArray = (1.0 / np.sqrt(var + self.dtype.type(self.eps))).astype(self.dtype)
        return rstd

    def _affine(self, normal: RealArray) -> RealArray:
        if self.weight is None or self.bias is None:
            return normal.copy()  # the pullback keeps the other
        return normal * self.weight._array + self.bias._array

    def _track(self, mean: RealArray, var: RealArray) -> None:
        """Move the running statistics towards those of a batch."""
        if self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.data = count = self.num_batches_tracked.data + 1.0
        share = 1.0 / float(count) if self.momentum is None else self.momentum
        for running, new in ((self.running_mean, mean), (self.running_var, var)):
            running.data = running.data + share * (new - running.data)


def _mean(rows: RealArray) -> RealArray:
    total: RealArray = rows.sum(axis=0, dtype=np.float64)
    return (total / max(len(rows), 1)).astype(rows.dtype)


def _moments(rows: RealArray) -> tuple[RealArray, RealArray]:
    """Return mean and variance of each column; the variance about the mean, by a second pass."""
    mean = _mean(rows)
    return mean, _mean(np.square(rows - mean))


def _add(parameter: Parameter, gradients: RealArray) -> None:
    parameter.ensure_grad()[...] += gradients.sum(axis=0, dtype=np.float64).astype(gradients.dtype)


def _rows(array: RealArray, real: Mask | None) -> RealArray:
    """Return the vectors of the real steps, shape (N, F)."""
    return array.reshape(-1, array.shape[-1]) if real is None else array[real]


def _spread(rows: RealArray, shape: tuple[int, ...], real: Mask | None) -> RealArray:
    """Return an array of `shape` with `rows` at the real steps, and zeros at the others."""
    if real is None:
        return rows.reshape(shape)
    out = np.zeros(shape, rows.dtype)
    out[real] = rows
    return out
