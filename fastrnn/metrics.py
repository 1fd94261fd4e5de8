"""Metrics of predictions: sums over batches, and a number from the sums.

A metric keeps nothing between calls: `Metric.measure` turns a batch into sums, sums of batches are
added, and `Metric.result` makes a number of them. So a metric of many batches is that of one large
batch, however it was cut, and padding (where the mask is False) never counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import losses
from .base import check_size

__all__ = [
    "F1",
    "METRICS",
    "Accuracy",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Metric",
    "Perplexity",
    "RootMeanSquaredError",
    "TopKAccuracy",
    "find",
]

Array = NDArray[Any]
Sums = NDArray[np.float64]


class Metric:
    """Base of the metrics.

    A subclass has a `name`, says by `mode` which way is better, and defines `measure` and `result`.

    Attributes
    ----------
    name : str
        In histories and logs.
    mode : {"min", "max"}
        Whether a smaller or a larger number is better.
    """

    name: str = "metric"
    mode: str = "max"

    def measure(self, outputs: Array, targets: Array, mask: NDArray[np.bool_] | None) -> Sums:
        """Return the sums of a batch.

        Parameters
        ----------
        outputs : ndarray
            What the model gave: logits (..., C), or predictions (...).
        targets : ndarray
            Class indices (...), or values (...).
        mask : ndarray of bool, optional
            Of the targets' shape or its leading axes: True where a target counts.

        Returns
        -------
        ndarray of float64, of the same shape for every batch
        """
        raise NotImplementedError(f"{type(self).__name__} does not define measure")

    def result(self, sums: Sums) -> float:
        """Return the metric of added sums; NaN where nothing counted."""
        raise NotImplementedError(f"{type(self).__name__} does not define result")

    def __call__(
        self, outputs: ArrayLike, targets: ArrayLike, mask: ArrayLike | None = None
    ) -> float:
        """Return the metric of one batch; arguments as of `measure`, of array_like."""
        counted = None if mask is None else np.asarray(mask, bool)
        return self.result(self.measure(np.asarray(outputs), np.asarray(targets), counted))

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


def _labels(outputs: Array, targets: Array, mask: NDArray[np.bool_] | None) -> tuple[Array, Array]:
    """Return the logits (N, C) and classes (N,) that count."""
    if targets.dtype.kind not in "iu" or outputs.shape[:-1] != targets.shape:
        raise ValueError(
            f"targets: expected classes of the shape {outputs.shape[:-1]}, "
            f"got {targets.dtype} of {targets.shape}"
        )
    counted = targets != losses.IGNORE_INDEX
    if mask is not None:
        counted &= mask.reshape(mask.shape + (1,) * (counted.ndim - mask.ndim))
    return outputs[counted], targets[counted]


class Accuracy(Metric):
    """Share of the targets that are the class with the largest logit."""

    name = "accuracy"

    def measure(self, outputs: Array, targets: Array, mask: NDArray[np.bool_] | None) -> Sums:
        """Return the numbers of right ones and of all, (2,)."""
        logits, classes = _labels(outputs, targets, mask)
        right = np.count_nonzero(logits.argmax(axis=-1) == classes) if len(classes) else 0
        return np.array([right, len(classes)], np.float64)

    def result(self, sums: Sums) -> float:
        """Return right / all."""
        return _ratio(*sums)


class TopKAccuracy(Metric):
    """Share of the targets that are among the k classes with the largest logits.

    Parameters
    ----------
    k : int, default 5
    """

    def __init__(self, k: int = 5) -> None:
        self.k = check_size("k", k)
        self.name = f"top_{k}_accuracy"

    def measure(self, outputs: Array, targets: Array, mask: NDArray[np.bool_] | None) -> Sums:
        """Return the numbers of right ones and of all, (2,)."""
        logits, classes = _labels(outputs, targets, mask)
        own = np.take_along_axis(logits, classes[:, np.newaxis], axis=-1)
        right = np.count_nonzero((logits > own).sum(axis=-1) < self.k)
        return np.array([right, len(classes)], np.float64)

    def result(self, sums: Sums) -> float:
        """Return right / all."""
        return _ratio(*sums)


class Perplexity(Metric):
    """exp of the mean cross-entropy in nats: how many equally likely classes would be as hard.

    Jelinek et al. (1977), "Perplexity: a measure of the difficulty of speech recognition tasks".
    """

    name = "perplexity"
    mode = "min"

    def measure(self, outputs: Array, targets: Array, mask: NDArray[np.bool_] | None) -> Sums:
        """Return the sum of the cross-entropies and their number, (2,)."""
        logits, classes = _labels(outputs, targets, mask)
        total = losses.cross_entropy(logits, classes, reduction="sum")[0] if len(classes) else 0.0
        return np.array([total, len(classes)], np.float64)

    def result(self, sums: Sums) -> float:
        """Return exp(sum / number), infinite where that is more than a float holds."""
        mean = _ratio(*sums)
        return math.exp(mean) if not mean > 700.0 else math.inf


class F1(Metric):
    """Harmonic mean of precision and recall, 2 TP / (2 TP + FP + FN), over classes.

    Van Rijsbergen (1979), "Information retrieval", chapter 7. Classes that neither occur nor are
    predicted are left out, as in scikit-learn's `f1_score`.

    Parameters
    ----------
    average : {"macro", "micro", "binary"}
        The mean over classes, that of all decisions together, or that of class 1 alone.

    Raises
    ------
    ValueError
        If `average` is another.
    """

    name = "f1"

    def __init__(self, average: str = "macro") -> None:
        if average not in ("macro", "micro", "binary"):
            raise ValueError(f"average: expected 'macro', 'micro' or 'binary', got {average!r}")
        self.average = average

    def measure(self, outputs: Array, targets: Array, mask: NDArray[np.bool_] | None) -> Sums:
        """Return TP, FP and FN of each class, (3, C)."""
        logits, classes = _labels(outputs, targets, mask)
        C = outputs.shape[-1]
        guesses = logits.argmax(axis=-1)
        right = np.bincount(classes[guesses == classes], minlength=C)
        predicted, real = np.bincount(guesses, minlength=C), np.bincount(classes, minlength=C)
        return np.array([right, predicted - right, real - right], np.float64)

    def result(self, sums: Sums) -> float:
        """Return the F1 score by `average`."""
        if self.average == "micro":
            sums = sums.sum(axis=1, keepdims=True)
        elif self.average == "binary":
            sums = sums[:, 1:2]
        right, *wrong = sums
        all_of = 2 * right + wrong[0] + wrong[1]
        occurs = all_of > 0
        return float((2 * right[occurs] / all_of[occurs]).mean()) if occurs.any() else math.nan

    def __repr__(self) -> str:
        return f"F1(average={self.average!r})"


class _Error(Metric):
    """Base of the means over the differences of predictions and values."""

    mode = "min"

    def measure(self, outputs: Array, targets: Array, mask: NDArray[np.bool_] | None) -> Sums:
        """Return the sum over the differences and their number, (2,)."""
        if outputs.shape != targets.shape:
            raise ValueError(
                f"targets: expected the outputs' shape {outputs.shape}, got {targets.shape}"
            )
        error = outputs.astype(np.float64) - targets
        if mask is not None:
            error = error[mask]
        return np.array([self._of(error).sum(), error.size])

    def _of(self, error: Array) -> Array:
        return error * error

    def result(self, sums: Sums) -> float:
        """Return sum / number."""
        return _ratio(*sums)


class MeanAbsoluteError(_Error):
    """Mean absolute difference of prediction and value, in the units of the values."""

    name = "mae"

    def _of(self, error: Array) -> Array:
        return np.abs(error)


class MeanSquaredError(_Error):
    """Mean of (prediction - value)^2."""

    name = "mse"


class RootMeanSquaredError(_Error):
    """Square root of the mean of (prediction - value)^2, in the units of the values."""

    name = "rmse"

    def result(self, sums: Sums) -> float:
        """Return sqrt(sum / number)."""
        return math.sqrt(_ratio(*sums))


METRICS: dict[str, type[Metric]] = {
    metric.name: metric
    for metric in (
        *(Accuracy, Perplexity, F1),
        *(MeanAbsoluteError, MeanSquaredError, RootMeanSquaredError),
    )
}


def find(metrics: Iterable[str | Metric]) -> list[Metric]:
    """Return the metrics, those that are given by name made.

    Parameters
    ----------
    metrics : iterable of str or Metric
        Names are those of `METRICS`.

    Returns
    -------
    list of Metric

    Raises
    ------
    ValueError
        For an unknown name, or one given twice.
    TypeError
        For anything else.
    """
    if isinstance(metrics, (str, Metric)):
        metrics = [metrics]
    found = []
    for metric in metrics:
        if isinstance(metric, str) and metric not in METRICS:
            raise ValueError(f"metrics: expected names of {', '.join(METRICS)}, got {metric!r}")
        if not isinstance(metric, (str, Metric)):
            raise TypeError(f"metrics: expected names or Metric objects, got {metric!r}")
        found.append(METRICS[metric]() if isinstance(metric, str) else metric)
    names = [metric.name for metric in found]
    if len(set(names)) < len(names):
        raise ValueError(f"metrics: expected each name once, got {', '.join(names)}")
    return found


def _ratio(total: float, count: float) -> float:
    return float(total) / float(count) if count else math.nan
