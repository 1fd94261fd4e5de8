"""Losses: each returns its value and the gradient that a pullback takes."""

from __future__ import annotations

import math
from typing import Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _core, _ctc
from .base import (
    RealArray,
    check_flag,
    check_lengths,
    check_size,
    integer_array,
    real_array,
)

__all__ = ["cross_entropy", "ctc_loss", "mse"]

IGNORE_INDEX = -100  # a target that does not count, as in PyTorch

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
    ignore_index: int = IGNORE_INDEX,
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


@overload
def ctc_loss(
    logits: ArrayLike,
    targets: ArrayLike,
    input_lengths: ArrayLike | None = ...,
    target_lengths: ArrayLike | None = ...,
    blank: int = ...,
    reduction: Literal["mean", "sum"] = ...,
    zero_infinity: bool = ...,
) -> tuple[float, RealArray]: ...
@overload
def ctc_loss(
    logits: ArrayLike,
    targets: ArrayLike,
    input_lengths: ArrayLike | None = ...,
    target_lengths: ArrayLike | None = ...,
    blank: int = ...,
    *,
    reduction: Literal["none"],
    zero_infinity: bool = ...,
) -> tuple[RealArray, RealArray]: ...
def ctc_loss(
    logits: ArrayLike,
    targets: ArrayLike,
    input_lengths: ArrayLike | None = None,
    target_lengths: ArrayLike | None = None,
    blank: int = 0,
    reduction: Reduction = "mean",
    zero_infinity: bool = False,
) -> tuple[float | RealArray, RealArray]:
    """Negative log-likelihood of label sequences whose alignment to the frames is unknown, in nats.

    Connectionist temporal classification, Graves et al. (2006), sections 3 and 4: the probability
    of a label sequence is the sum over all alignments, one class per frame, that become it when
    repetitions are merged and blanks then taken out; that of an alignment is the product of its
    classes' softmax(logits). d loss / d logits = softmax(logits) - occupation, where the occupation
    of a class in a frame is the posterior probability that the alignment is there.

    As PyTorch's `ctc_loss` after a `log_softmax`, which is part of this function. Log-probabilities
    are taken as well, as log_softmax leaves them as they are (numbers that are not normalised are
    normalised). The gradient is then softmax - occupation, too: with respect to the logits that
    they come from, so that it must not go back through log_softmax, though it would pass it
    unchanged. It is also what PyTorch returns as the gradient of its log_probs.

    Parameters
    ----------
    logits : array_like of float32 or float64, shape (T, B, C), or (T, C) unbatched
    targets : array_like of int, shape (B, S), or (sum of target_lengths,), or (S,) unbatched
        Labels from 0 to C - 1 other than `blank`: one row for each sequence, of which what is past
        its length is not looked at, or one sequence after the other without padding.
    input_lengths : array_like of int, shape (B,), or () unbatched, optional
        Number of frames of each sequence, from 0 to T; all T by default. Frames past them have a
        gradient of exactly zero.
    target_lengths : array_like of int, shape (B,), or () unbatched, optional
        Number of labels of each sequence, from 0; by default all S of padded targets.
    blank : int, default 0
    reduction : {"mean", "sum", "none"}
        Mean over the batch of each loss divided by its number of labels (by 1 if it has none), as
        in PyTorch; their sum; or nothing.
    zero_infinity : bool, default False
        Whether a sequence without any alignment, mostly as it has fewer frames than labels (plus
        one for each label that is the same as the one before), counts as a loss of zero with a
        gradient of zeros. Otherwise they are infinite and NaN.

    Returns
    -------
    loss : float; for "none" an ndarray of shape (B,), or () unbatched
    dlogits : ndarray, shape of the logits
        Gradient of the loss; for "none", of the sum of the losses.

    Raises
    ------
    IndexError
        If a target is no label, or `blank` no class.
    TypeError, ValueError
        If a dtype, a shape or a length does not fit.
    """
    _check_reduction(reduction)
    zero_infinity = check_flag("zero_infinity", zero_infinity)
    scores = real_array("logits", logits)
    labels = integer_array("targets", targets)
    shape = scores.shape
    if len(shape) not in (2, 3) or shape[-1] == 0:
        raise ValueError(f"logits: expected the shape (T, B, C) or (T, C), got {shape}")
    if len(shape) == 2:
        if labels.ndim != 1:
            raise ValueError(f"targets: expected the shape (S,), got {labels.shape}")
        scores, labels = scores[:, np.newaxis], labels[np.newaxis]
    T, B, C = scores.shape
    blank = check_size("blank", blank, 0)
    if blank >= C:
        raise IndexError(f"blank: expected a class from 0 to {C - 1}, got {blank}")
    frames = check_lengths("input_lengths", T if input_lengths is None else input_lengths, B, T)
    labels, starts, counts = _ctc_targets(labels, target_lengths, B)
    _check_labels(labels, starts, counts, C, blank)

    divisors = np.maximum(counts, 1) * max(B, 1) if reduction == "mean" else np.ones(B)
    losses, dlogits = _ctc.ctc_loss(
        scores, frames, labels, starts, counts, blank, 1.0 / divisors, zero_infinity
    )
    dlogits = dlogits.reshape(shape)
    if reduction == "none":
        return losses.astype(scores.dtype).reshape(shape[1:-1]), dlogits
    total = float((losses / divisors).sum())
    return math.nan if reduction == "mean" and B == 0 else total, dlogits


def _ctc_targets(
    labels: NDArray[np.int64], target_lengths: ArrayLike | None, B: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the labels in one row, and where in it each sequence starts and how many it has."""
    if labels.ndim == 2 and len(labels) == B:
        S = labels.shape[1]
        counts = check_lengths(
            "target_lengths", S if target_lengths is None else target_lengths, B, S
        )
        return labels.reshape(-1), np.arange(B) * S, counts
    if labels.ndim != 1:
        raise ValueError(f"targets: expected the shape ({B}, S) or (N,), got {labels.shape}")
    if target_lengths is None:
        raise TypeError("target_lengths: needed for targets that are not padded, got None")
    counts = check_lengths("target_lengths", target_lengths, B, labels.size)
    if counts.sum() != labels.size:
        raise ValueError(
            f"target_lengths: expected the sum {labels.size}, the targets' size, got {counts.sum()}"
        )
    return labels, np.cumsum(counts) - counts, counts


def _check_labels(
    labels: NDArray[np.int64],
    starts: NDArray[np.int64],
    counts: NDArray[np.int64],
    C: int,
    blank: int,
) -> None:
    wrong = (labels < 0) | (labels >= C) | (labels == blank)
    for index in np.flatnonzero(wrong):
        if np.any((starts <= index) & (index < starts + counts)):  # it is no padding
            raise IndexError(
                f"targets: expected labels from 0 to {C - 1} other than the blank {blank}, "
                f"got {labels[index]}"
            )
