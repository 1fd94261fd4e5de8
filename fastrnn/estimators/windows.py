"""Windows of a series for a network that reads the past and goes on through the horizon."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import losses
from ..base import FLOAT32, RealArray

__all__ = ["horizon_loss", "make_windows"]


def make_windows(
    z: RealArray, x: RealArray | None, origins: NDArray[np.int64], past: int, horizon: int
) -> RealArray:
    """Return what the network reads, for each origin: `past` steps before it and `horizon` after.

    A step has the features [z, x, future]: before the origin the series, the exogenous inputs and
    0; from the origin on zeros in place of the series, the exogenous inputs, which are known ahead,
    and 1.

    Parameters
    ----------
    z : ndarray, shape (N, D)
    x : ndarray, shape (N, E) or more rows, optional
        Up to the end of the last horizon.
    origins : ndarray of int64, shape (n,)
        Number of values of the series that are known; from `past` to N.
    past, horizon : int

    Returns
    -------
    ndarray of float32, shape (n, past + horizon, D + E + 1)
    """
    steps = origins[:, None] + np.arange(-past, horizon)
    D, E = z.shape[1], 0 if x is None else x.shape[1]
    windows = np.zeros((*steps.shape, D + E + 1), FLOAT32)
    windows[:, :past, :D] = z[steps[:, :past]]
    if x is not None:
        windows[:, :, D : D + E] = x[steps]
    windows[:, past:, -1] = 1.0
    return windows


def horizon_loss(outputs: RealArray, targets: RealArray, mask: Any = None) -> tuple[float, Any]:
    """Return the squared error of the last steps (T, B, D) against targets (B, H, D), and d_outputs.

    What the network says while it reads the past counts for nothing.
    """
    horizon = targets.shape[1]
    loss, d_last = losses.mse(outputs[-horizon:], np.ascontiguousarray(targets.swapaxes(0, 1)))
    d_outputs = np.zeros_like(outputs)
    d_outputs[-horizon:] = d_last
    return loss, d_outputs
