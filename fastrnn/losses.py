"""Losses: each returns its value and the gradient that a pullback takes."""

from __future__ import annotations

import math
from typing import Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _core
from .base import RealArray, check_size, integer_array, real_array

__all__ = ["cross_entropy", "mse"]

Reduction = Literal["mean", "sum", "none"]


def _check_reduction(reduction: str) -> None:
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction: expected 'mean', 'sum' or 'none', got {reduction!r}")


def _check_mask(mask: ArrayLike, shape: tuple[int, ...], meaning: str) -> NDArray[np.bool_]:
    array = np.asarray(mask)
    if array.dtype != np.bool_:
        raise TypeError(f"mask: expected an array of bool, got {array.dtype}")
    if array.shape != shape:
        raise ValueError(f"mask: expected {meaning} {shape}, got {array.shape}")
    return array


@overload
def cross_entropy(
    logits: ArrayLike,
    targets: ArrayLike,
    *,
    mask: ArrayLike | None = ...,
    ignore_index: int = ...,
    reduction: Literal["mean", "sum"] = ...,
) -> tuple[float, RealArray]: ...
@overload
def cross_entropy(
    logits: ArrayLike,
    targets: ArrayLike,
    *,
    mask: ArrayLike | None = ...,
    ignore_index: int = ...,
    reduction: Literal["none"],
) -> tuple[RealArray, RealArray]: ...
def cross_entropy(
    logits: ArrayLike,
    targets: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
) -> tuple[float | RealArray, RealArray]:
    """Negative log-likelihood of the targets under softmax(logits), in nats, and its gradient.

    loss = log(sum_k exp(logits_k)) - logits_target; d loss / d logits = softmax(logits) - onehot.
    As PyTorch's `cross_entropy`, but with the classes on the last axis.

    Parameters
    ----------
    logits : array_like of float32 or float64, shape (..., C)
    targets : array_like of int, shape (...)
        Class indices from 0 to C - 1, or `ignore_index`.
    mask : array_like of bool, shape (...), optional
        True where a target counts. Where it does not, loss and gradient are exactly zero.
    ignore_index : int, default -100
        A target that does not count either.
    reduction : {"mean", "sum", "none"}
        Mean over the targets that count (NaN if there are none, as in PyTorch), their sum, or
        nothing.

    Returns
    -------
    loss : float; for "none" an ndarray of shape (...)
    dlogits : ndarray, shape (..., C)
        Gradient of the loss; for "none", of the sum of the losses.

    Raises
    ------
    IndexError
        If a target that counts is no class.
    TypeError, ValueError
        If a dtype or a shape does not fit.
    """
    _check_reduction(reduction)
    ignore_index = check_size("ignore_index", ignore_index, minimum=-(2**63))
    scores = real_array("logits", logits)
    labels = integer_array("targets", targets)
    if scores.ndim == 0 or scores.shape[-1] == 0:
        raise ValueError(f"logits: expected the shape (..., C), got {scores.shape}")
    classes = scores.shape[-1]
    if labels.shape != scores.shape[:-1]:
        raise ValueError(f"targets: expected the shape {scores.shape[:-1]}, got {labels.shape}")
    shape, labels = labels.shape, labels.reshape(-1)

    counted = labels != ignore_index
    if mask is not None:
        counted &= _check_mask(mask, shape, "the targets' shape").reshape(-1)
    wrong = labels[counted & (labels.view(np.uint64) >= classes)]  # negative ones are huge
    if wrong.size:
        raise IndexError(
            f"targets: expected classes from 0 to {classes - 1} or ignore_index {ignore_index}, "
            f"got {wrong[0]}"
        )
    count = int(np.count_nonzero(counted))
    if count < labels.size:
        labels = np.where(counted, labels, ignore_index)
    weight = 1.0 / count if reduction == "mean" and count else 1.0
    weights = None if weight == 1.0 else np.full(labels.size, weight, scores.dtype)
    losses, dlogits = _core.cross_entropy(
        scores.reshape(-1, classes), labels, weights, ignore_index, True
    )
    assert dlogits is not None  # it was asked for
    dlogits = dlogits.reshape(scores.shape)
    if reduction == "none":
        return losses.reshape(shape), dlogits
    total = float(losses.sum(dtype=np.float64))
    if reduction == "sum":
        return total, dlogits
    return total / count if count else math.nan, dlogits


@overload
def mse(
    prediction: ArrayLike,
    target: ArrayLike,
    *,
    mask: ArrayLike | None = ...,
    reduction: Literal["mean", "sum"] = ...,
) -> tuple[float, RealArray]: ...
@overload
def mse(
    prediction: ArrayLike,
    target: ArrayLike,
    *,
    mask: ArrayLike | None = ...,
    reduction: Literal["none"],
) -> tuple[RealArray, RealArray]: ...
def mse(
    prediction: ArrayLike,
    target: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    reduction: Reduction = "mean",
) -> tuple[float | RealArray, RealArray]:
    """Squared error (prediction - target)^2, and its gradient 2 (prediction - target).

    Parameters
    ----------
    prediction, target : array_like of float32 or float64, shape (...)
        Of one shape and one dtype.
    mask : array_like of bool, optional
        Of the shape of `prediction` or of its leading axes, as (T, B) for (T, B, F): True where
        the elements count. Where they do not, loss and gradient are exactly zero.
    reduction : {"mean", "sum", "none"}
        Mean over the elements that count (NaN if there are none, as in PyTorch), their sum, or
        nothing.

    Returns
    -------
    loss : float; for "none" an ndarray of shape (...)
    dprediction : ndarray, shape (...)
        Gradient of the loss; for "none", of the sum of the losses.

    Raises
    ------
    TypeError, ValueError
        If a dtype or a shape does not fit.
    """
    _check_reduction(reduction)
    guess = real_array("prediction", prediction)
    truth = real_array("target", target, guess.dtype)
    if truth.shape != guess.shape:
        raise ValueError(
            f"target: expected the prediction's shape {guess.shape}, got {truth.shape}"
        )
    error = np.asarray(guess - truth)
    count = error.size
    if mask is not None:
        axes = np.ndim(mask)
        counted = _check_mask(mask, guess.shape[:axes], "the prediction's leading axes")
        error[~counted] = 0.0
        count = int(np.count_nonzero(counted)) * math.prod(guess.shape[axes:])
    if reduction == "none":
        losses = error * error
        error *= 2.0
        return losses, error
    total = _core.sum_of_squares(error)
    if reduction == "sum":
        error *= 2.0
        return total, error
    error *= 2.0 / max(count, 1)
    return total / count if count else math.nan, error
