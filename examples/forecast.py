"""A forecast with intervals: sunspots, eleven years ahead
=======================================================

The number of sunspots rises and falls in some eleven years. ``TimeSeriesForecaster`` reads the last
33 years and gives the next 11 at once, with intervals that hold 80 % of what comes (as far as the
future errs as the past did)::

    python examples/forecast.py    (needs scikit-learn, and statsmodels for its bundled data)

Its rival is the seasonal-naive forecast: the last eleven years again. Both are measured from every
year of the last forty on, always knowing all years before.
"""

import warnings

import numpy as np
from statsmodels.datasets import sunspots

from fastrnn.estimators import TimeSeriesForecaster, seasonal_naive

PERIOD, TEST = 11, 40


def load():
    """Return years (N,) and numbers of sunspots (N,), from 1700 to 2008."""
    with warnings.catch_warnings():  # of pandas, within statsmodels
        warnings.simplefilter("ignore")
        data = sunspots.load_pandas().data
    return data["YEAR"].to_numpy(int), data["SUNACTIVITY"].to_numpy(float)


def naive_error(series) -> float:
    """Return the mean absolute error of the seasonal-naive forecasts of the test's origins."""
    origins = range(len(series) - TEST, len(series) - PERIOD + 1)
    errors = [
        np.abs(seasonal_naive(series[:n], PERIOD, PERIOD) - series[n : n + PERIOD]) for n in origins
    ]
    return float(np.mean(errors))


def plot(years, series, forecaster) -> None:
    """Draw the last century, and forecasts from three origins with their intervals."""
    try:
        import matplotlib.pyplot as plt
    except ImportError:  # the picture is an extra
        return
    found = forecaster.backtest(series[-TEST:], level=0.8)
    _, axes = plt.subplots(figsize=(9, 3.8))
    axes.plot(years[-100:], series[-100:], color="black", linewidth=1, label="observed")
    for number, origin in enumerate((0, 14, len(found.origins) - 1)):
        ahead = years[-TEST + origin :][:PERIOD]
        label = "forecast, 80 % interval" if number == 0 else None
        axes.plot(ahead, found.forecast[origin], color="tab:blue", label=label)
        axes.fill_between(
            ahead, found.lower[origin], found.upper[origin], color="tab:blue", alpha=0.2
        )
        axes.axvline(ahead[0] - 0.5, color="gray", linestyle=":", linewidth=1)
    axes.set(xlabel="year", ylabel="sunspots", title="Eleven years ahead, made at the dotted lines")
    axes.legend(loc="upper left")
    plt.show()


def main(epochs: int = 60, draw: bool = False) -> tuple[float, float]:
    """Train, print, and return the mean absolute errors of the forecaster and its rival."""
    years, series = load()
    forecaster = TimeSeriesForecaster(
        window=3 * PERIOD, horizon=PERIOD, hidden_size=32, max_epochs=epochs, random_state=0
    )
    forecaster.fit(series[:-TEST])
    found = forecaster.backtest(series[-TEST:], level=0.8)
    naive = naive_error(series)
    print(f"{len(series) - TEST} years to learn from, {years[0]} to {years[-TEST] - 1}")
    print(f"mean absolute error of {len(found.origins)} forecasts: {found.mae:.1f} sunspots")
    print(f"seasonal naive: {naive:.1f} sunspots")
    print(f"inside the 80 % intervals: {found.coverage:.0%}")
    if draw:
        plot(years, series, forecaster)
    return found.mae, naive


if __name__ == "__main__":
    main(draw=True)
