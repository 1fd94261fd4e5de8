"""What X may be, and how it becomes sequences of steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..base import FLOAT32, RealArray, check_size
from ._sklearn import check_array

__all__ = ["Sequences", "Standardizer", "kind_of", "read_sequences", "split_windows", "take"]

Array = NDArray[Any]
Sequences = list[Array] | Array  # each (length, F) or (length,) ids; or all of one length, stacked


def kind_of(X: Any, tokens: bool) -> str:
    """Return what X is: "tokens", "windows" (rows of a table), or "sequences".

    Lists of arrays are sequences, as are tables of three dimensions and lists of lists of different
    lengths. All else is taken as a table of two dimensions, which scikit-learn's checks judge.
    """
    if tokens:
        return "tokens"
    if getattr(X, "dtype", None) == np.dtype(object) and X.ndim == 1:
        X = list(X)  # one array in each place
    if isinstance(X, (list, tuple)):
        if any(isinstance(item, np.ndarray) and item.ndim for item in X):
            return "sequences"
        shapes = {np.shape(item)[:1] if _regular(item) else None for item in X}
        deep = any(_regular(item) and np.ndim(item) == 2 for item in X)
        ragged = len(shapes) > 1 and all(isinstance(item, (list, tuple)) for item in X)
        return "sequences" if deep or ragged else "windows"
    return "sequences" if getattr(X, "ndim", 2) == 3 else "windows"


def _regular(item: Any) -> bool:
    try:
        np.shape(item)
    except ValueError:
        return False
    return True


def read_sequences(X: Any, tokens: bool) -> Sequences:
    """Return X of the kind "sequences" or "tokens", checked.

    Returns
    -------
    list of ndarray, each (length, F), or ndarray (N, T, F)
        Of float64 or float32; without the last axis and of int64 for token ids.

    Raises
    ------
    ValueError
        For no sequence, one without steps, numbers of features that differ, or NaN and infinities.
    TypeError
        For what is no sequence of numbers.
    """
    axes = 2 if tokens else 3
    if hasattr(X, "__array__") and getattr(X, "dtype", np.dtype(float)).kind != "O":
        array = np.asarray(X)
        if array.ndim == 2 and not tokens:
            array = array[:, :, None]
        if array.ndim != axes or 0 in array.shape:
            wanted = "(N, T)" if tokens else "(N, T, F)"
            raise ValueError(f"X: expected an array {wanted} with no axis of 0, got {array.shape}")
        return _numbers("X", array, tokens)
    items = list(X)
    if not items:
        raise ValueError("X: expected at least one sequence, got none")
    sequences = [_sequence(f"X[{index}]", item, tokens) for index, item in enumerate(items)]
    for index, sequence in enumerate(sequences):
        if sequence.shape[1:] != sequences[0].shape[1:]:
            raise ValueError(
                f"X[{index}]: expected {sequences[0].shape[1:]} features as the first, "
                f"got {sequence.shape[1:]}"
            )
    return sequences


def _sequence(name: str, item: Any, tokens: bool) -> Array:
    array = np.asarray(item)
    if array.ndim == 1 and not tokens:
        array = array[:, None]
    if array.ndim != (1 if tokens else 2) or 0 in array.shape:
        wanted = "(length,)" if tokens else "(length, F)"
        raise ValueError(f"{name}: expected the shape {wanted} with no 0, got {array.shape}")
    return _numbers(name, array, tokens)


def _numbers(name: str, array: Array, tokens: bool) -> Array:
    if tokens:
        if array.dtype.kind not in "iu":
            raise TypeError(f"{name}: expected token ids (integers), got {array.dtype}")
        return array.astype(np.int64)
    checked: Array = check_array(
        array,
        dtype=(np.float64, np.float32),
        allow_nd=True,
        ensure_2d=False,
        input_name=name,
    )
    return checked


def split_windows(table: Array, n_steps: int | None) -> Array:
    """Return rows (N, F) cut into `n_steps` steps each: (N, n_steps, F / n_steps).

    Without `n_steps` each column is a step.
    """
    rows, columns = table.shape
    steps = columns if n_steps is None else check_size("n_steps", n_steps)
    if columns % steps:
        raise ValueError(f"n_steps: expected a divisor of {columns} features, got {steps}")
    return table.reshape(rows, steps, columns // steps)


def take(values: Any, indices: NDArray[np.int64]) -> Any:
    """Return some of the sequences or targets, in the order of `indices`."""
    return [values[i] for i in indices] if isinstance(values, list) else values[indices]


def each(function: Callable[[Array], Array], sequences: Sequences) -> Sequences:
    """Return the function of each sequence, or of all where they are one array."""
    return [function(s) for s in sequences] if isinstance(sequences, list) else function(sequences)


class Standardizer:
    """Mean and standard deviation of each feature, over all rows that it was made from.

    Computed in float64; a feature that is constant is only centred.

    Parameters
    ----------
    mean, scale : ndarray of float64, shape (F,)
    """

    def __init__(self, mean: RealArray, scale: RealArray) -> None:
        self.mean, self.scale = mean, scale

    @classmethod
    def of(cls, values: Array) -> Standardizer:
        """Return that of values (..., F)."""
        rows = values.reshape(-1, values.shape[-1]).astype(np.float64)
        scale = rows.std(axis=0)
        constant = scale <= 10 * np.finfo(np.float64).eps * np.abs(rows).max(axis=0)
        return cls(rows.mean(axis=0), np.where(constant, 1.0, scale))

    @classmethod
    def none(cls, size: int) -> Standardizer:
        """Return that which changes nothing."""
        return cls(np.zeros(size), np.ones(size))

    def __call__(self, values: Array) -> RealArray:
        """Return (values - mean) / scale, as float32."""
        scaled: RealArray = ((values - self.mean) / self.scale).astype(FLOAT32)
        return scaled

    def undo(self, values: Array) -> RealArray:
        """Return the values of which these are the standardised ones, as float64."""
        return values * self.scale + self.mean

    def as_json(self) -> list[list[float]]:
        """Return mean and scale as JSON takes them."""
        return [self.mean.tolist(), self.scale.tolist()]

    @classmethod
    def from_json(cls, value: Any, size: int) -> Standardizer:
        """Return what `as_json` described; ValueError if it is not of `size` features."""
        arrays = np.asarray(value, np.float64)
        if arrays.shape != (2, size) or not np.isfinite(arrays).all() or (arrays[1] <= 0).any():
            raise ValueError(f"expected means and positive scales of {size} features, got {value}")
        return cls(*arrays)
