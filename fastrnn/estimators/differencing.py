"""Differences of a series, and back: what makes a trend or a season small."""

from __future__ import annotations

import numpy as np

from ..base import RealArray

__all__ = ["Differencing"]


class Differencing:
    """Seasonal, then ordinary differences: z = (1 - B)^order (1 - B^period) y.

    B is the backshift operator, as in Box & Jenkins (1970), "Time series analysis: forecasting and
    control".

    Parameters
    ----------
    order : int
        How often y_t - y_{t-1} is taken.
    period : int
        Length of a season; 0 for no seasonal difference.
    """

    def __init__(self, order: int, period: int) -> None:
        self.order, self.period = order, period

    @property
    def lost(self) -> int:
        """Number of values at the beginning that have no difference."""
        return self.order + self.period

    def __call__(self, y: RealArray) -> RealArray:
        """Return z (N - lost, ...) of y (N, ...)."""
        w = y[self.period :] - y[: -self.period] if self.period else y
        z: RealArray = np.diff(w, self.order, axis=0)
        return z

    def undo(self, z: RealArray, before: RealArray) -> RealArray:
        """Return y (H, ...) whose differences are z (H, ...), after `before` (lost, ...)."""
        w = before[self.period :] - before[: self.order] if self.period else before
        y = z
        for k in reversed(range(self.order)):
            y = np.cumsum(y, axis=0) + np.diff(w, k, axis=0)[-1]
        if self.period:
            known = list(before[self.order :])  # a season, and then what follows it
            for step in y:
                known.append(step + known[-self.period])
            y = np.stack(known[self.period :])
        return y
