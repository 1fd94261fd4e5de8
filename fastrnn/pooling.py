"""From sequences to one vector each: `LastStep`, `MeanPooling` and `MaxPooling`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .base import Layer, RealArray, check_flag, check_gradient, integer_array, real_array

__all__ = ["LastStep", "MaxPooling", "MeanPooling", "check_lengths", "real_steps"]

Integers = NDArray[np.int64]
Pooled = tuple[RealArray, Callable[[RealArray], RealArray]]


def check_lengths(lengths: ArrayLike | None, T: int, B: int) -> Integers:
    """Return `lengths` as a new array (B,), T for each row where it is None."""
    if lengths is None:
        return np.full(B, T, np.int64)
    array = integer_array("lengths", lengths)
    if array.shape != (B,):
        raise ValueError(f"lengths: expected the shape ({B},), got {array.shape}")
    if B and (array.min() < 0 or array.max() > T):
        wrong = array.min() if array.min() < 0 else array.max()
        raise ValueError(f"lengths: expected numbers from 0 to {T}, got {wrong}")
    return array.copy()


def real_steps(lengths: Integers, T: int) -> NDArray[np.bool_]:
    """Return the mask (T, B): True at the steps before each row's end."""
    mask: NDArray[np.bool_] = np.arange(T)[:, None] < lengths
    return mask


class _Pooling(Layer):
    """One vector of each sequence: x (T, B, F) to y (B, F)."""

    uses_lengths = True
    pools_time = True

    def __init__(self, batch_first: bool = False) -> None:
        super().__init__()
        self.batch_first = check_flag("batch_first", batch_first)

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"batch_first": self.batch_first}

    @classmethod
    def parameter_shapes(cls, config: Mapping[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield nothing: there are no parameters."""
        return iter(())

    def _pool(self, x: RealArray, lengths: Integers) -> Pooled:
        """Return y (B, F) of x (T, B, F) with T > 0, and the pullback from dy to dx."""
        raise NotImplementedError

    def __call__(self, x: ArrayLike, lengths: ArrayLike | None = None) -> RealArray:
        """Return one vector for each sequence.

        Parameters
        ----------
        x : array_like, shape (T, B, F)
            (B, T, F) with `batch_first`; (T, F) for one sequence.
        lengths : array_like of int, shape (B,), optional
            Steps of each row, 0 <= length <= T. A row without steps gives zeros.

        Returns
        -------
        ndarray, shape (B, F), or (F,) for one sequence
        """
        return self.vjp(x, lengths)[0]

    def vjp(
        self, x: ArrayLike, lengths: ArrayLike | None = None
    ) -> tuple[RealArray, Callable[[ArrayLike], RealArray]]:
        """Return y and the pullback from dy to dx, which is zero at the steps past a row's end."""
        array = real_array("x", x)
        if array.ndim not in (2, 3) or (array.ndim == 2 and lengths is not None):
            axes = "B, T" if self.batch_first else "T, B"
            one = "" if lengths is not None else " or (T, F)"
            raise ValueError(f"x: expected the shape ({axes}, F){one}, got {array.shape}")
        rows = array[:, None] if array.ndim == 2 else array
        swapped = self.batch_first and array.ndim == 3
        rows = rows.swapaxes(0, 1) if swapped else rows
        T, B, F = rows.shape
        steps = check_lengths(lengths, T, B)
        if T == 0:
            pooled: Pooled = np.zeros((B, F), array.dtype), lambda dy: np.zeros((0, B, F), dy.dtype)
        else:
            pooled = self._pool(rows, steps)
        y = pooled[0][0] if array.ndim == 2 else pooled[0]

        def pullback(dy: ArrayLike) -> RealArray:
            dx = pooled[1](check_gradient(dy, y.shape, y.dtype).reshape(B, F))
            return dx.swapaxes(0, 1) if swapped else dx.reshape(array.shape)

        return y, pullback


class LastStep(_Pooling):
    """The last real step of each sequence: x (T, B, F) to y (B, F).

    Behind a recurrent layer with one direction, what it has seen of the whole sequence. (With two
    directions the last step is the first of the one that runs backwards: take `MeanPooling`,
    `MaxPooling` or the final state there.)

    Parameters
    ----------
    batch_first : bool, default False
        Whether x is (B, T, F).
    """

    def _pool(self, x: RealArray, lengths: Integers) -> Pooled:
        rows, shape = np.flatnonzero(lengths), x.shape
        last = lengths[rows] - 1
        y = np.zeros(shape[1:], x.dtype)
        y[rows] = x[last, rows]

        def pullback(dy: RealArray) -> RealArray:
            dx = np.zeros(shape, dy.dtype)
            dx[last, rows] = dy[rows]
            return dx

        return y, pullback


class MeanPooling(_Pooling):
    """The mean of each sequence's real steps: x (T, B, F) to y (B, F).

    Parameters
    ----------
    batch_first : bool, default False
        Whether x is (B, T, F).
    """

    def _pool(self, x: RealArray, lengths: Integers) -> Pooled:
        mask = real_steps(lengths, len(x))[..., None]
        count = np.maximum(lengths, 1)[:, None].astype(x.dtype)
        # Step after step, and not by sum, whose order depends on the shape.
        total = np.cumsum(np.where(mask, x, 0), axis=0)[-1] + x.dtype.type(0)
        return total / count, lambda dy: np.where(mask, dy / count, 0)


class MaxPooling(_Pooling):
    """The largest value of each feature among a sequence's real steps: x (T, B, F) to y (B, F).

    Of equal values the first gets the gradient. NaN counts as largest.

    Parameters
    ----------
    batch_first : bool, default False
        Whether x is (B, T, F).
    """

    def _pool(self, x: RealArray, lengths: Integers) -> Pooled:
        mask, some, shape = real_steps(lengths, len(x)), (lengths > 0)[:, None], x.shape
        at = np.where(mask[..., None], x, -np.inf).argmax(axis=0)[None]
        y = np.where(some, np.take_along_axis(x, at, axis=0)[0], 0)

        def pullback(dy: RealArray) -> RealArray:
            dx = np.zeros(shape, dy.dtype)
            np.put_along_axis(dx, at, np.where(some, dy, 0)[None], axis=0)
            return dx

        return y, pullback
