"""The next values of a series: `TimeSeriesForecaster`."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from ..base import check_size
from ._sklearn import check_is_fitted, r2_score
from .backtest import Backtest
from .forecaster_base import ForecasterBase

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["TimeSeriesForecaster"]


class TimeSeriesForecaster(ForecasterBase):
    """A recurrent network that forecasts several steps of a series, with prediction intervals.

    The network reads a window of the past and goes on through the horizon, where it sees only what
    is known ahead, and gives all steps at once: a direct forecast of multiple outputs, in which no
    step takes the error of the one before for a fact (Ben Taieb, Bontempi, Atiya & Sorjamaa 2012,
    "A review and comparison of strategies for multi-step ahead time series forecasting ..."). It is
    trained by the squared error of all steps.

    Parameters
    ----------
    window : int, default 24
        Steps of the past that are read.
    horizon : int, default 12
        Most steps of a forecast.
    cell : {"lstm", "gru", "rnn"}, default "gru"
    hidden_size : int, default 32
    num_layers : int, default 1
    dropout : float, default 0.0
    difference : int, default 0
        How often differences are taken: 1 for a series with a trend.
    seasonal_period : int, optional
        Where given, the difference to the value a season before is taken first.
    scaling : {"window", "series", "none"}, default "window"
        "series": the series, after the differences, and the exogenous inputs are brought to mean 0
        and standard deviation 1, as they have them in the part that is trained on. "window": then
        also each window of the series by itself, for series whose level or spread changes.
    calibration_fraction : float, default 0.2
        The share of the series, at its end, that is not trained on and whose errors make the
        intervals. 0 trains on all, without intervals.
    lr : float, default 3e-3
    batch_size : int, default 32
        Windows of one step of the optimiser.
    max_epochs : int, default 30
    optimizer, weight_decay, clip_norm, patience, random_state, verbose
        As of `SequenceClassifier`.
    early_stopping, validation_fraction
        As of `SequenceClassifier`; the windows to validate on are the last before the calibration.

    Attributes
    ----------
    model_, history_, n_iter_
        As of `SequenceClassifier`; losses are of standardised differences.
    n_outputs_ : int
        Number D of series.
    n_observations_ : int
        Number of observations known, those of `update` too.

    Notes
    -----
    Intervals are split conformal ones, by the step of the horizon (`conformal_widths` has the
    sources): the probability holds if the errors to come are like those of the calibration.

    In `GridSearchCV` with `TimeSeriesSplit` the series is passed as X and exogenous inputs as y:
    ``search.fit(series, exogenous)``.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.estimators import TimeSeriesForecaster
    >>> t = np.arange(300)
    >>> y = 10 + np.sin(t / 4) + 0.1 * np.random.default_rng(0).normal(size=300)
    >>> forecaster = TimeSeriesForecaster(horizon=8, random_state=0).fit(y[:240])
    >>> forecaster.predict(3).shape
    (3,)
    >>> lower, upper = forecaster.predict_interval(3, level=0.8)
    >>> bool((lower < upper).all())
    True
    >>> forecaster.update(y[240:260]).score(y[260:]) > 0.8
    True
    """

    def __init__(
        self,
        window: int = 24,
        horizon: int = 12,
        *,
        cell: str = "gru",
        hidden_size: int = 32,
        num_layers: int = 1,
        dropout: float = 0.0,
        difference: int = 0,
        seasonal_period: int | None = None,
        scaling: str = "window",
        calibration_fraction: float = 0.2,
        lr: float = 3e-3,
        batch_size: int = 32,
        max_epochs: int = 30,
        optimizer: str = "adam",
        weight_decay: float = 0.0,
        clip_norm: float | None = 1.0,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        patience: int = 10,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self._keep(locals())

    def fit(self, y: ArrayLike, X: ArrayLike | None = None) -> Self:
        """Train anew.

        Parameters
        ----------
        y : array_like of real numbers, shape (N,) or (N, D)
            One series or several, in order of time, without gaps; a pandas Series or DataFrame
            gives its index to the forecasts.
        X : array_like of real numbers, shape (N, E), optional
            Exogenous inputs: what is also known of the future when a forecast is made.

        Returns
        -------
        TimeSeriesForecaster
            Itself.

        Raises
        ------
        ValueError, TypeError
            For a parameter or an argument that does not fit, or a series too short for one window;
            the message names it.
        """
        self._start(first=True)
        values, inputs = self._read(y, X, first=True)
        end = len(values) - round(self.calibration_fraction * len(values))
        self._scale(values[:end], None if inputs is None else inputs[:end])
        z, x = self._prepared(values, inputs)
        first = self._differencing.lost + self.window
        origins = np.arange(first, end - self.horizon + 1)
        if not len(origins):
            raise ValueError(
                f"y: expected at least {first + self.horizon} values to train on (of "
                f"{len(values)}), got {end}: the window, the horizon and what differences take"
            )
        self._set_model(self._network())
        origins, kept = self._split(origins)
        validation = self._loader(z, x, kept, None) if len(kept) else None
        data = self._loader(z, x, origins, self._seed())
        self._train(data, validation, self.max_epochs)
        self._scores = self._errors(values, inputs, end) if end < len(values) else []
        self.n_observations_ = len(values)
        self._remember(values, inputs, y)
        return self

    # --- forecasts ----------------------------------------------------------------------------

    def predict(self, horizon: int | None = None, X: ArrayLike | None = None) -> Any:
        """Return the next values of the series.

        Parameters
        ----------
        horizon : int, optional
            Number of steps, at most the `horizon` of the constructor, which is the default.
        X : array_like, shape (horizon, E), optional
            Exogenous inputs of these steps, needed if `fit` had them. More rows are left out.

        Returns
        -------
        ndarray of float64, shape (horizon,) or (horizon, D)
            A pandas Series or DataFrame, with the index going on, if the observations were one.
        """
        return self._given(self._forecast(horizon, X)[0])

    def predict_interval(
        self, horizon: int | None = None, X: ArrayLike | None = None, *, level: float = 0.9
    ) -> tuple[Any, Any]:
        """Return the bounds between which each of the next values lies with probability `level`.

        Parameters
        ----------
        horizon, X
            As of `predict`.
        level : float, default 0.9
            For each value by itself.

        Returns
        -------
        lower, upper
            Each as `predict` returns the values, which lie in the middle.

        Raises
        ------
        ValueError
            If there are too few errors to know them by, or none (`calibration_fraction` 0).
        """
        values, spread = self._forecast(horizon, X)
        widths = self._widths(len(values), level) * spread
        return self._given(values - widths), self._given(values + widths)

    def update(self, y: ArrayLike, X: ArrayLike | None = None) -> Self:
        """Take new observations in, which follow those known; the network is not trained further.

        Forecasts then start after them, with their index going on, and intervals learn from the
        errors of the forecasts that could have been made of them.

        Parameters
        ----------
        y : array_like, shape (n,) or (n, D)
        X : array_like, shape (n, E), optional

        Returns
        -------
        TimeSeriesForecaster
            Itself.
        """
        check_is_fitted(self)
        values, inputs = self._read(y, X, first=False)
        known = len(self._values)
        values = np.concatenate([self._values, values])
        if inputs is not None:
            inputs = np.concatenate([self._past_inputs, inputs])
        if self._scores:
            errors = self._errors(values, inputs, known)
            self._scores = [np.concatenate(pair) for pair in zip(self._scores, errors, strict=True)]
        self.n_observations_ += len(values) - known
        self._remember(values, inputs, y)
        return self

    def backtest(
        self,
        y: ArrayLike,
        X: ArrayLike | None = None,
        *,
        horizon: int | None = None,
        step: int = 1,
        level: float | None = None,
    ) -> Backtest:
        """Forecast from rolling origins: of new observations, each forecast knows those before it.

        The estimator stays as it is; on the way it learns by `update` alone.

        Parameters
        ----------
        y : array_like, shape (n,) or (n, D)
            Observations that follow those known.
        X : array_like, shape (n, E), optional
        horizon : int, optional
            Steps of each forecast; by default the constructor's.
        step : int, default 1
            From one origin to the next.
        level : float, optional
            Where given, with prediction intervals.

        Returns
        -------
        Backtest

        Raises
        ------
        ValueError
            If there are fewer observations than steps of a forecast.
        """
        other = copy.copy(self)  # update sets attributes and changes none
        values, inputs = self._read(y, X, first=False)
        steps, count = self._steps(horizon), check_size("step", step)
        if len(values) < steps:
            raise ValueError(f"y: expected at least {steps} observations, got {len(values)}")
        origins = np.arange(0, len(values) - steps + 1, count)
        forecasts, widths = [], []
        for origin in origins:
            ahead, new = slice(origin, origin + steps), slice(origin, origin + count)
            inputs_ahead = None if inputs is None else inputs[ahead]
            forecast, spread = other._forecast(steps, inputs_ahead)
            forecasts.append(forecast)
            if level is not None:
                widths.append(other._widths(steps, level) * spread)
            other.update(values[new], None if inputs is None else inputs[new])
        actual = np.stack([values[origin : origin + steps] for origin in origins])
        shape = actual.shape[:2] if self._flat else actual.shape
        actual, middle = actual.reshape(shape), np.stack(forecasts).reshape(shape)
        if level is None:
            return Backtest(origins, actual, middle)
        half = np.stack(widths).reshape(shape)
        return Backtest(origins, actual, middle, middle - half, middle + half)

    def score(self, y: ArrayLike, X: ArrayLike | None = None) -> float:
        """Return R² of forecasts from all origins in new observations, as `backtest` makes them.

        Parameters
        ----------
        y : array_like, shape (n,) or (n, D)
            Observations that follow those known. Where they are fewer than the horizon, forecasts
            are as long as they are.
        X : array_like, shape (n, E), optional

        Returns
        -------
        float
            1 is best; the mean of `y` as a forecast has 0.
        """
        check_is_fitted(self)
        result = self.backtest(y, X, horizon=min(self.horizon, len(np.asarray(y))))
        flat = (-1, self.n_outputs_)
        return float(r2_score(result.actual.reshape(flat), result.forecast.reshape(flat)))
