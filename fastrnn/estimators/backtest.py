"""Forecasts from many origins against what came, and the baseline to beat."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..base import RealArray, check_size

__all__ = ["Backtest", "seasonal_naive"]


class Backtest(NamedTuple):
    """Forecasts from several origins, each with all that was known there.

    Attributes
    ----------
    origins : ndarray of int64, shape (n,)
        Number of new observations that were known.
    actual, forecast : ndarray, shape (n, H) or (n, H, D)
    lower, upper : ndarray of the same shape, optional
        Bounds of the prediction intervals.
    """

    origins: NDArray[np.int64]
    actual: RealArray
    forecast: RealArray
    lower: RealArray | None = None
    upper: RealArray | None = None

    @property
    def mae(self) -> float:
        """Mean absolute error, in units of the series."""
        return float(np.abs(self.forecast - self.actual).mean())

    @property
    def rmse(self) -> float:
        """Root of the mean squared error, in units of the series."""
        return math.sqrt(float(np.square(self.forecast - self.actual).mean()))

    @property
    def coverage(self) -> float:
        """Share of the observations inside their interval; NaN without intervals."""
        if self.lower is None or self.upper is None:
            return math.nan
        inside = (self.lower <= self.actual) & (self.actual <= self.upper)
        return float(inside.mean())


def seasonal_naive(y: ArrayLike, horizon: int, period: int = 1) -> NDArray[Any]:
    """Return the forecast that the last season comes again: the baseline of any other.

    y_{N+h} = y_{N+h-m ceil(h/m)} with the period m; for m = 1 the last value. Hyndman &
    Athanasopoulos (2021), "Forecasting: principles and practice", 3rd edition, section 5.2.

    Parameters
    ----------
    y : array_like, shape (N,) or (N, D)
        At least a period long.
    horizon : int
    period : int, default 1

    Returns
    -------
    ndarray, shape (horizon,) or (horizon, D)

    Raises
    ------
    ValueError
        For a series shorter than a period.

    Examples
    --------
    >>> seasonal_naive([1, 2, 3, 4, 5, 6], horizon=5, period=3)
    array([4, 5, 6, 4, 5])
    """
    values = np.asarray(y)
    steps, m = check_size("horizon", horizon), check_size("period", period)
    if values.ndim not in (1, 2) or len(values) < m:
        raise ValueError(f"y: expected at least a period of {m} values, got {values.shape}")
    return values[len(values) - m + np.arange(steps) % m]
