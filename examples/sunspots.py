"""Sunspots: six cycles forecast, with intervals
=============================================

::

    python examples/sunspots.py    (needs scikit-learn, and statsmodels for its bundled data)

The yearly numbers from 1700 on. A forecaster learns from all but the last 66 years, six cycles of
the sun. Then it forecasts from each of these years, knowing those before it, as does the
seasonal-naive baseline, which says that the last eleven years come again.
"""

import argparse
import time

import numpy as np

from fastrnn.estimators import TimeSeriesForecaster, seasonal_naive

PERIOD = 11  # years of a cycle
HELD_OUT = 6 * PERIOD


def load() -> np.ndarray:
    """Return the yearly numbers of sunspots, from 1700 on."""
    try:
        from statsmodels.datasets import sunspots
    except ImportError:
        raise SystemExit("this example needs the package statsmodels, for its data") from None
    return sunspots.load_pandas().data["SUNACTIVITY"].to_numpy()


def baseline(series: np.ndarray, first: int) -> np.ndarray:
    """Return the mean absolute error of the seasonal-naive forecast from the same origins."""
    origins = range(first, len(series) - PERIOD + 1)
    errors = [
        seasonal_naive(series[:origin], PERIOD, PERIOD) - series[origin : origin + PERIOD]
        for origin in origins
    ]
    return np.abs(errors).mean()


def draw(series: np.ndarray, forecaster: TimeSeriesForecaster, path: str) -> None:
    """Draw the forecasts of each held-out cycle, made before its first year."""
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        print("no figure: matplotlib is missing")
        return
    first = len(series) - HELD_OUT
    result = forecaster.backtest(series[first:], step=PERIOD, level=0.9)
    figure, axes = plt.subplots(figsize=(8, 3.5), layout="constrained")
    years = 1700 + np.arange(len(series))
    axes.plot(years[first - 3 * PERIOD :], series[first - 3 * PERIOD :], "k.-", label="observed")
    for row, origin in enumerate(result.origins):
        ahead = years[first + origin :][:PERIOD]
        names = ("forecast", "90 % interval") if row == 0 else (None, None)
        axes.plot(ahead, result.forecast[row], "C0", label=names[0])
        lower, upper = np.maximum(result.lower[row], 0), result.upper[row]
        axes.fill_between(ahead, lower, upper, color="C0", alpha=0.2, label=names[1])
    axes.set(xlabel="year", ylabel="sunspots")
    axes.legend(loc="upper left")
    figure.savefig(path)
    print(f"figure: {path}")


def main(
    series: np.ndarray | None = None, max_epochs: int = 30, path: str | None = "sunspots.png"
) -> tuple[float, float, float]:
    """Return the errors of forecaster and baseline, and the coverage of the intervals."""
    series = load() if series is None else series
    first = len(series) - HELD_OUT
    forecaster = TimeSeriesForecaster(
        window=3 * PERIOD, horizon=PERIOD, max_epochs=max_epochs, random_state=0
    )
    start = time.perf_counter()
    forecaster.fit(series[:first])
    seconds = time.perf_counter() - start
    result = forecaster.backtest(series[first:], level=0.9)
    naive = baseline(series, first)
    print(f"{len(result.origins)} forecasts of {PERIOD} years; {first} years were known")
    print(f"mean absolute error: forecaster {result.mae:.1f}, seasonal naive {naive:.1f}")
    print(f"coverage of the 90 % intervals: {result.coverage:.1%}")
    print(f"training: {seconds:.1f} s")
    if path is not None:
        draw(series, forecaster, path)
    return result.mae, naive, result.coverage


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", default="sunspots.png", help="file of the figure")
    main(path=parser.parse_args().out)
