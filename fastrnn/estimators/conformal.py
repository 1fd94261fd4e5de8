"""Prediction intervals from the errors of forecasts that were not trained on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..base import RealArray, check_number

__all__ = ["conformal_widths", "scores_from_json"]


def conformal_widths(scores: Sequence[RealArray], level: float) -> RealArray:
    """Return the half width of an interval for each step of a forecast.

    Split conformal prediction: of n absolute errors, the ceil((n + 1) level)-th smallest. If these
    and the next error are exchangeable, the interval holds the truth with a probability of at least
    `level`: Lei, G'Sell, Rinaldo, Tibshirani & Wasserman (2018), "Distribution-free predictive
    inference for regression". Each step of the horizon by itself, as in Stankeviciute, Alaa & van
    der Schaar (2021), "Conformal time-series forecasting", but without their correction for all
    steps at once.

    Parameters
    ----------
    scores : sequence of ndarray, each (n, D)
        Absolute errors, for each step of the horizon.
    level : float
        Above 0, below 1.

    Returns
    -------
    ndarray, shape (horizon, D)

    Raises
    ------
    ValueError
        If there are too few errors for the level: 1 / (1 - level) - 1 at least.
    """
    if not 0.0 < check_number("level", level, 0.0, 1.0) < 1.0:
        raise ValueError(f"level: expected a number above 0 and below 1, got {level}")
    widths = []
    for number, errors in enumerate(scores, 1):
        rank = math.ceil((len(errors) + 1) * level - 1e-9)
        if rank > len(errors):
            raise ValueError(
                f"level: expected more errors of step {number} than {len(errors)} for {level}; "
                "a larger calibration_fraction or a longer series gives more"
            )
        widths.append(np.sort(errors, axis=0)[rank - 1])
    return np.stack(widths)


def scores_from_json(value: Any, horizon: int, size: int) -> list[RealArray]:
    """Return scores that were read from a file; ValueError if they do not fit."""
    scores: list[RealArray] = [np.asarray(errors, np.float64).reshape(-1, size) for errors in value]
    if len(scores) not in (0, horizon) or any(not (errors >= 0).all() for errors in scores):
        raise ValueError(f"scores: expected absolute errors of {horizon} steps")
    return scores
