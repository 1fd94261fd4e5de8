"""The index of a pandas series, and how it goes on."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..base import RealArray

__all__ = ["Calendar"]


class Calendar(NamedTuple):
    """Where a pandas series ends, in words that JSON takes too.

    Attributes
    ----------
    kind : {"datetime", "period", "range"}
    last : str or int
        The last entry of the index; for no regular index the number of the last observation.
    step : str or int
        From one entry to the next: pandas' name of a frequency, or a number.
    zone : str, optional
        Of times.
    names : list
        Of the columns; of a Series, its name alone.
    """

    kind: str
    last: str | int
    step: str | int
    zone: str | None
    names: list[Any]

    @classmethod
    def of(cls, y: Any, count: int) -> Calendar | None:
        """Return that of a pandas Series or DataFrame of which `count` rows are known, or None."""
        if not (hasattr(y, "index") and hasattr(y, "to_numpy")):
            return None
        names = [_plain(name) for name in (y.columns if y.ndim == 2 else [y.name])]
        return cls(*_end(y.index, count), names)

    def frame(self, values: RealArray) -> Any:
        """Return forecasts (H,) as a Series or (H, D) as a DataFrame, with the index going on."""
        import pandas as pd

        index = self._next(pd, len(values))
        if values.ndim == 1:
            return pd.Series(values, index=index, name=self.names[0])
        return pd.DataFrame(values, index=index, columns=self.names)

    def _next(self, pd: Any, count: int) -> Any:
        if self.kind == "range":
            last, step = int(self.last), int(self.step)
            return pd.RangeIndex(last + step, last + step * (count + 1), step)
        if self.kind == "period":
            last = pd.Period(self.last, freq=self.step)
            return pd.period_range(last, periods=count + 1, freq=self.step)[1:]
        last = pd.Timestamp(self.last)
        if self.zone is not None:
            last = last.tz_convert(self.zone)
        return pd.date_range(last, periods=count + 1, freq=self.step)[1:]

    @classmethod
    def from_json(cls, value: Any) -> Calendar | None:
        """Return what `_asdict` described; ValueError if it is not that."""
        if value is None:
            return None
        calendar = cls(**value)
        number = int if calendar.kind == "range" else str
        if (
            calendar.kind not in ("datetime", "period", "range")
            or not isinstance(calendar.last, number)
            or not isinstance(calendar.step, number)
            or not isinstance(calendar.zone, (str, type(None)))
            or not isinstance(calendar.names, list)
        ):
            raise ValueError(f"calendar: expected the end of an index, got {value}")
        return calendar


def _end(index: Any, count: int) -> tuple[str, str | int, str | int, str | None]:
    """Return kind, last entry, step and time zone of an index."""
    import pandas as pd

    if isinstance(index, pd.PeriodIndex):
        return "period", str(index[-1]), index.freqstr, None
    if isinstance(index, pd.DatetimeIndex):
        step = index.freqstr or (pd.infer_freq(index) if len(index) > 2 else None)
        if step is not None:
            zone = None if index.tz is None else str(index.tz)
            return "datetime", index[-1].isoformat(), step, zone
    elif pd.api.types.is_integer_dtype(index.dtype):
        steps = np.unique(np.diff(index.to_numpy()))
        if len(steps) == 1 and steps[0]:
            return "range", int(index[-1]), int(steps[0]), None
        if isinstance(index, pd.RangeIndex):
            return "range", int(index[-1]), int(index.step), None
    return "range", count - 1, 1, None


def _plain(name: Any) -> Any:
    """Return a name as JSON takes it."""
    name = name.item() if isinstance(name, np.generic) else name
    return name if isinstance(name, (str, int, float, type(None))) else str(name)
