"""Windows of a series for a network that reads the past and goes on through the horizon."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import losses
from ..base import FLOAT32, RealArray

__all__ = ["Windows", "horizon_loss", "make_windows"]


FLAT = 1e-2  # the variance that a window without any is taken to have, the series having 1


class Windows(NamedTuple):
    """What the network reads for each of n origins, and the scale of what it says there.

    Attributes
    ----------
    inputs : ndarray of float32, shape (n, past + horizon, D + E + 1)
        A step has the features [z, x, future]: before the origin the series, the exogenous inputs
        and 0; from the origin on zeros in place of the series, the exogenous inputs, which are
        known ahead, and 1.
    level, spread : ndarray of float32, shape (n, 1, D)
        The series in `inputs` is (z - level) / spread, and so are the outputs.
    """

    inputs: RealArray
    level: RealArray
    spread: RealArray


def make_windows(
    z: RealArray,
    x: RealArray | None,
    origins: NDArray[np.int64],
    past: int,
    horizon: int,
    by_window: bool,
) -> Windows:
    """Return the windows of `past` steps before each origin and `horizon` after.

    Parameters
    ----------
    z : ndarray of float32, shape (N, D)
    x : ndarray of float32, shape (N, E), optional
        Up to the end of the last horizon.
    origins : ndarray of int64, shape (n,)
        Number of values of the series that are known; from `past` to N.
    past, horizon : int
    by_window : bool
        Whether level and spread are the mean and the standard deviation of each window's past,
        else 0 and 1. Kim et al. (2022), "Reversible instance normalization for accurate time-series
        forecasting against distribution shift", without its learned part.
    """
    steps = origins[:, None] + np.arange(-past, horizon)
    known = z[steps[:, :past]]
    level = np.zeros((len(origins), 1, z.shape[1]), FLOAT32)
    spread = np.ones_like(level)
    if by_window:
        level = known.mean(axis=1, keepdims=True)
        spread = np.sqrt(known.var(axis=1, keepdims=True) + FLAT)
    D, E = z.shape[1], 0 if x is None else x.shape[1]
    inputs = np.zeros((*steps.shape, D + E + 1), FLOAT32)
    inputs[:, :past, :D] = (known - level) / spread
    if x is not None:
        inputs[:, :, D : D + E] = x[steps]
    inputs[:, past:, -1] = 1.0
    return Windows(inputs, level, spread)


def horizon_loss(outputs: RealArray, targets: RealArray, mask: Any = None) -> tuple[float, Any]:
    """Return the squared error of the last steps (T, B, D) against targets (B, H, D); d_outputs.

    What the network says while it reads the past counts for nothing.
    """
    horizon = targets.shape[1]
    loss, d_last = losses.mse(outputs[-horizon:], np.ascontiguousarray(targets.swapaxes(0, 1)))
    d_outputs = np.zeros_like(outputs)
    d_outputs[-horizon:] = d_last
    return loss, d_outputs
