"""What a forecaster is made of: the series, its windows, the network's forecasts and errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..base import RealArray, check_flag, check_number, check_size
from ..data import SequenceLoader
from ..layers import Sequential
from ._sklearn import check_array, check_is_fitted
from .base import NetworkEstimator
from .calendar import Calendar
from .conformal import conformal_widths, scores_from_json
from .differencing import Differencing
from .network import build_network, check_choice, check_network
from .sequences import Standardizer
from .windows import Windows, horizon_loss, make_windows

__all__ = ["ForecasterBase"]

SCALINGS = ("window", "series", "none")
PREDICTION_BATCH = 256  # windows at once, where nothing is kept for a pullback


class ForecasterBase(NetworkEstimator):
    """Base of `TimeSeriesForecaster`: all but what its users call.

    In here observations are always (n, D) and exogenous inputs (n, E), float64. Of the series only
    the end is kept, as long as forecasts and errors of later ones look back.
    """

    window: int
    horizon: int
    difference: int
    seasonal_period: int | None
    scaling: str
    calibration_fraction: float

    n_outputs_: int
    n_observations_: int
    _loss = staticmethod(horizon_loss)
    _values: RealArray
    _past_inputs: RealArray | None
    _scores: list[RealArray]
    _calendar: Calendar | None

    def _check_settings(self) -> None:
        super()._check_settings()
        check_size("window", self.window)
        check_size("horizon", self.horizon)
        check_size("difference", self.difference, 0)
        if self.seasonal_period is not None:
            check_size("seasonal_period", self.seasonal_period)
        check_choice("scaling", self.scaling, SCALINGS)
        if check_number("calibration_fraction", self.calibration_fraction, 0.0, 1.0) == 1.0:
            raise ValueError("calibration_fraction: expected a number below 1, got 1.0")

    @property
    def _differencing(self) -> Differencing:
        return Differencing(self.difference, self.seasonal_period or 0)

    def _read(self, y: Any, X: Any, first: bool) -> tuple[RealArray, RealArray | None]:
        """Return observations (n, D) and exogenous inputs (n, E), or None, as float64."""
        values = _table("y", y)
        inputs = None if X is None else _table("X", X)
        if first:
            self._flat, self.n_outputs_ = np.ndim(y) == 1, values.shape[1]
            self._exogenous = 0 if inputs is None else inputs.shape[1]
        if values.shape[1] != self.n_outputs_:
            raise ValueError(f"y: expected {self.n_outputs_} series, got {values.shape[1]}")
        self._check_exogenous(inputs, len(values))
        return values, None if inputs is None else inputs[: len(values)]

    def _check_exogenous(self, inputs: RealArray | None, rows: int) -> None:
        found = (rows, 0) if inputs is None else inputs.shape
        if found[1] != self._exogenous or found[0] < rows:
            raise ValueError(f"X: expected the shape {(rows, self._exogenous)}, got {found}")

    @property
    def _features(self) -> int:
        """Features of a step of a window."""
        return self.n_outputs_ + self._exogenous + 1

    def _network(self) -> Sequential:
        return build_network(
            self.cell,
            self._features,
            self.hidden_size,
            self.num_layers,
            self.n_outputs_,
            dropout=self.dropout,
            seed=self._seed(),
        )

    def _scale(self, values: RealArray, inputs: RealArray | None) -> None:
        """Learn scales from the part that is trained on."""
        z = self._differencing(values) if len(values) > self._differencing.lost else values
        self._scaler = Standardizer.none(self.n_outputs_)
        self._input_scaler = Standardizer.none(self._exogenous)
        if self.scaling != "none":
            self._scaler = Standardizer.of(z)
            if inputs is not None:
                self._input_scaler = Standardizer.of(inputs)

    def _prepared(
        self, values: RealArray, inputs: RealArray | None
    ) -> tuple[RealArray, RealArray | None]:
        """Return scaled differences (N, D), zeros where there is none, and scaled inputs."""
        z = np.zeros(values.shape, np.float32)
        z[self._differencing.lost :] = self._scaler(self._differencing(values))
        return z, None if inputs is None else self._input_scaler(inputs)

    def _split(self, origins: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the origins to train on and those to validate on, whose horizons do not meet."""
        if not self.early_stopping:
            return origins, origins[:0]
        kept = origins[len(origins) - max(1, round(self.validation_fraction * len(origins))) :]
        train = origins[origins + self.horizon <= kept[0]]
        if not len(train):
            raise ValueError("validation_fraction: expected less, no windows are left to train on")
        return train, kept

    def _loader(
        self, z: RealArray, x: RealArray | None, origins: NDArray[np.int64], seed: int | None
    ) -> SequenceLoader:
        """Return the windows of these origins as a loader, shuffled if there is a seed."""
        windows = self._windows(z, x, origins)
        targets = z[origins[:, None] + np.arange(self.horizon)]
        return SequenceLoader(
            windows.inputs,
            (targets - windows.level) / windows.spread,
            batch_size=self.batch_size,
            shuffle=seed is not None,
            seed=seed or 0,
            per_step=False,
        )

    def _windows(self, z: RealArray, x: RealArray | None, origins: NDArray[np.int64]) -> Windows:
        return make_windows(z, x, origins, self.window, self.horizon, self.scaling == "window")

    def _steps(self, horizon: int | None) -> int:
        check_is_fitted(self)
        steps = self.horizon if horizon is None else check_size("horizon", horizon)
        if steps > self.horizon:
            raise ValueError(f"horizon: expected at most {self.horizon} as fitted, got {steps}")
        return steps

    def _forecast(self, horizon: int | None, X: ArrayLike | None) -> tuple[RealArray, RealArray]:
        """Return the next values (horizon, D), and their spread (D,)."""
        steps = self._steps(horizon)
        inputs = None if X is None else _table("X", X)
        self._check_exogenous(inputs, steps)
        if inputs is not None and self._past_inputs is not None:
            inputs = np.concatenate([self._past_inputs, inputs[:steps]])
        origins = np.array([len(self._values)])
        values, spread = self._forecasts(self._values, inputs, origins)
        return values[0, :steps], spread[0]

    def _forecasts(
        self, values: RealArray, inputs: RealArray | None, origins: NDArray[np.int64]
    ) -> tuple[RealArray, RealArray]:
        """Return forecasts (n, H, D) from origins, and how far the series spreads there (n, D).

        Inputs that are missing at the end are zeros: they are only missing for steps that nobody
        asks for, and no step depends on later ones.
        """
        z, x = self._prepared(values, inputs)
        if x is not None:
            missing = max(int(origins.max()) + self.horizon - len(x), 0)
            x = np.concatenate([x, np.zeros((missing, x.shape[1]), x.dtype)])
        lost, parts, spreads = self._differencing.lost, [], []
        for start in range(0, len(origins), PREDICTION_BATCH):
            part = origins[start : start + PREDICTION_BATCH]
            windows = self._windows(z, x, part)
            outputs, _ = self.model_(np.ascontiguousarray(windows.inputs.swapaxes(0, 1)))
            level, spread = windows.level.swapaxes(0, 1), windows.spread.swapaxes(0, 1)
            differences = self._scaler.undo(outputs[-self.horizon :] * spread + level)
            before = values[part - lost + np.arange(lost)[:, None]]
            parts.append(self._differencing.undo(differences, before))
            spreads.append(spread[0] * self._scaler.scale)
        return np.concatenate(parts, axis=1).swapaxes(0, 1), np.concatenate(spreads)

    def _errors(self, values: RealArray, inputs: RealArray | None, first: int) -> list[RealArray]:
        """Return |forecast - value| / spread of each step, for the values from number `first` on.

        All that the network was not trained on, and no forecast is from before its first window.
        """
        least = self._differencing.lost + self.window
        origins = np.arange(max(first - self.horizon + 1, least), len(values))
        forecasts, spread = self._forecasts(values, inputs, origins)
        errors = []
        for step in range(self.horizon):
            targets = origins + step
            there = (targets >= first) & (targets < len(values))
            difference = forecasts[there, step] - values[targets[there]]
            errors.append(np.abs(difference) / spread[there])
        return errors

    def _widths(self, steps: int, level: float) -> RealArray:
        if not self._scores:
            raise ValueError("calibration_fraction: expected above 0 for intervals, got 0")
        return conformal_widths(self._scores[:steps], level)

    def _remember(self, values: RealArray, inputs: RealArray | None, y: Any) -> None:
        """Keep what later forecasts and updates look at: the end of the series."""
        needed = self._differencing.lost + self.window + self.horizon - 1
        self._values = values[-needed:].copy()
        self._past_inputs = None if inputs is None else inputs[-needed:].copy()
        self._calendar = Calendar.of(y, self.n_observations_)

    def _given(self, values: RealArray) -> Any:
        """Return values (H, D) in the shape and the kind of the observations."""
        values = values[:, 0] if self._flat else values
        return values if self._calendar is None else self._calendar.frame(values)

    # --- files --------------------------------------------------------------------------------

    def _describe(self) -> dict[str, Any]:
        inputs = self._past_inputs
        return {
            "flat": self._flat,
            "outputs": self.n_outputs_,
            "exogenous": self._exogenous,
            "observations": self.n_observations_,
            "scaling": self._scaler.as_json(),
            "input_scaling": self._input_scaler.as_json(),
            "values": self._values.tolist(),
            "inputs": None if inputs is None else inputs.tolist(),
            "scores": [errors.tolist() for errors in self._scores],
            "calendar": None if self._calendar is None else self._calendar._asdict(),
        }

    def _restore(self, model: Any, metadata: Mapping[str, Any]) -> None:
        self._flat = check_flag("flat", metadata["flat"])
        self.n_outputs_ = check_size("outputs", metadata["outputs"])
        self._exogenous = check_size("exogenous", metadata["exogenous"], 0)
        self._scaler = Standardizer.from_json(metadata["scaling"], self.n_outputs_)
        self._input_scaler = Standardizer.from_json(metadata["input_scaling"], self._exogenous)
        series = metadata["values"], metadata["inputs"]
        self._values, self._past_inputs = self._read(*series, first=False)
        needed = self._differencing.lost + self.window + self.horizon - 1
        if len(self._values) != needed:
            raise ValueError(f"values: expected {needed}, got {len(self._values)}")
        self.n_observations_ = check_size("observations", metadata["observations"], needed)
        self._scores = scores_from_json(metadata["scores"], self.horizon, self.n_outputs_)
        self._calendar = Calendar.from_json(metadata["calendar"])
        self._set_model(check_network(model, self._features, self.n_outputs_))


def _table(name: str, value: Any) -> RealArray:
    """Return the argument `name` as float64 (n, D); ValueError for gaps and other shapes."""
    array = check_array(
        value, ensure_2d=False, dtype=np.float64, ensure_min_samples=1, input_name=name
    )
    if array.ndim > 2:
        raise ValueError(f"{name}: expected 1 or 2 dimensions, got the shape {array.shape}")
    table: RealArray = array.reshape(len(array), -1)
    return table
