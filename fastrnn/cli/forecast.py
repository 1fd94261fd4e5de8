"""``fastrnn forecast``: the next values of a series in a CSV file."""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..base import check_number, check_size
from ..serialization import write_atomically
from .common import (
    CommandError,
    Commands,
    add_command,
    add_running,
    option,
    require,
    set_threads,
)
from .config import add_config, effective
from .table import Numbers, Table, as_times, later, read_table, rising

if TYPE_CHECKING:
    from ..estimators.backtest import Backtest

__all__ = ["add_forecast"]

CELLS = ("lstm", "gru", "rnn")
IMAGES = (".png", ".svg", ".pdf")
CONFIG_NOTE = "# fastrnn forecast FILE --config THIS makes this forecast again.\n"
NOTES = """\
examples:
  fastrnn forecast sunspots.csv --column SUNACTIVITY --time YEAR --season 11 \\
      --horizon 11 --plot sunspots.png
  fastrnn forecast sales.csv --column sold --time day --exog price holiday \\
      --horizon 14 --season 7

The first line of FILE names the columns; the rows are in order of time. A
network learns from all but the held-out end, on which it is measured beside
the seasonal-naive forecast: the last season comes again. It then forecasts what
follows the last row. Rows at the end whose --column is empty are to be
forecast: they hold the times, and the values of --exog. Other missing values
are interpolated, and said.

The forecast is written as CSV with the bounds of its intervals; its name with
.toml holds the flags in effect, for --config.
"""


def add_forecast(commands: Commands) -> None:
    """Add the command ``forecast``."""
    parser = add_command(
        commands,
        "forecast",
        _forecast,
        help="forecast a column of a CSV file, with intervals and a plot",
        usage="fastrnn forecast FILE --column NAME [options]",
        description="Forecast a series: the next values of a column of a CSV file.",
        epilog=NOTES,
    )
    parser.add_argument("file", metavar="FILE", help="CSV in UTF-8")
    add = parser.add_argument_group("data").add_argument
    add("--column", metavar="NAME", help="what to forecast (required)")
    add("--time", metavar="NAME", help="column of times: dates as 2024-12-31, or numbers")
    add("--exog", metavar="NAME", nargs="+", help="columns that are known ahead")
    add("--season", metavar="N", type=int, help="rows of a season, as 12 for months")
    add("--horizon", metavar="N", type=int, default=12, help="rows to forecast (default: 12)")
    add("--level", metavar="P", type=float, default=0.9, help="of the intervals (default: 0.9)")
    add(
        "--test",
        metavar="N",
        type=int,
        help="held-out rows (default: a tenth, two horizons at least)",
    )
    _add_model(parser.add_argument_group("model").add_argument)
    running = add_running(parser)
    add_config(running, "forecast")
    add = running.add_argument
    add("--out", metavar="CSV", default="forecast.csv", help="default: forecast.csv")
    add("--plot", metavar="IMAGE", help="picture of the forecast: .png, .svg or .pdf")


def _add_model(add: Any) -> None:
    add("--cell", metavar="CELL", default="gru", help="lstm, gru or rnn (default: gru)")
    add("--hidden", metavar="N", type=int, default=32, help="units of a layer (default: 32)")
    add("--layers", metavar="N", type=int, default=1, help="recurrent layers (default: 1)")
    add("--window", metavar="N", type=int, help="rows it reads (default: 3 seasons, else 24)")
    add("--epochs", metavar="N", type=int, default=30, help="passes over the rows (default: 30)")
    add("--lr", metavar="X", type=float, default=3e-3, help="learning rate (default: 0.003)")
    add(
        "--difference",
        metavar="N",
        type=int,
        default=0,
        help="learn from differences; 1 for a series with a trend (default: 0)",
    )
    add(
        "--seasonal-difference",
        action="store_true",
        help="learn from differences to the season before",
    )
    add("--seed", metavar="N", type=int, default=1, help="of weights and order (default: 1)")


class Series(NamedTuple):
    """What is read of the file: the known part, and what is ahead."""

    values: Numbers
    inputs: Numbers | None
    inputs_ahead: Numbers | None
    times_ahead: list[str]
    axis: list[Any] | None  # times of the known part as dates or numbers
    said: list[str]  # of missing values


class Forecast(NamedTuple):
    """What comes out: how good it is on the held-out rows, and the values ahead."""

    test: int
    backtest: Backtest
    naive: Backtest
    values: Numbers
    lower: Numbers
    upper: Numbers


def _forecast(arguments: argparse.Namespace) -> int:
    _check(arguments)
    if arguments.print_config:
        print(effective(arguments), end="")
        return 0
    require("sklearn", extra="estimators")
    if arguments.plot is not None:
        require("matplotlib", extra="viz")
    series = _read(arguments)
    _check_outputs(arguments)
    set_threads(arguments.threads)
    print(f"{arguments.file}: {len(series.values):,} values of {arguments.column}", flush=True)
    for line in series.said:
        print(line, flush=True)
    found = _run(series, arguments)
    _say(found, arguments)
    _write(found, series, arguments)
    if arguments.json:
        print(json.dumps(_report(found, series, arguments)))
    return 0


# --- arguments and rows ---------------------------------------------------------------------------


def _check(arguments: argparse.Namespace) -> None:
    """Raise CommandError for what can be seen without the file."""
    if arguments.column is None:
        raise CommandError("--column: expected the name of what to forecast, got none")
    try:
        for name in ("horizon", "season", "test", "hidden", "layers", "window", "epochs"):
            if getattr(arguments, name) is not None:
                check_size(name, getattr(arguments, name))
        for name in ("difference", "seed"):
            check_size(name, getattr(arguments, name), 0)
        for name in ("level", "lr"):
            most = 1.0 if name == "level" else np.inf
            if check_number(name, getattr(arguments, name), 0.0, most) in (0.0, most):
                below = " and below 1" if name == "level" else ""
                got = getattr(arguments, name)
                raise ValueError(f"{name}: expected a number above 0{below}, got {got}")
    except ValueError as error:
        raise CommandError(option(error)) from None
    if arguments.cell not in CELLS:
        raise CommandError(f"--cell: expected one of {', '.join(CELLS)}, got {arguments.cell!r}")
    if arguments.seasonal_difference and arguments.season is None:
        raise CommandError("--seasonal-difference: expected --season with it")
    if arguments.plot is not None and Path(arguments.plot).suffix.lower() not in IMAGES:
        ends = ", ".join(IMAGES)
        raise CommandError(f"--plot: expected a name that ends in {ends}, got {arguments.plot}")
    if arguments.test is not None and arguments.test < arguments.horizon:
        raise CommandError(
            f"--test: expected at least the horizon, {arguments.horizon}, got {arguments.test}"
        )


def _check_outputs(arguments: argparse.Namespace) -> None:
    """Raise CommandError for a file that could not be written, before training."""
    for flag in ("out", "plot"):
        name = getattr(arguments, flag)
        if name is None:
            continue
        path = Path(name)
        if path.is_dir():
            raise CommandError(f"--{flag}: {name}: Is a directory")
        if not path.parent.is_dir():
            raise CommandError(f"--{flag}: {name}: No such file or directory")
        if not os.access(path.parent, os.W_OK):
            raise CommandError(f"--{flag}: {name}: no permission to write there")
        if path.exists() and path.samefile(arguments.file):
            raise CommandError(f"--{flag}: {name}: this is the series itself")


def _read(arguments: argparse.Namespace) -> Series:
    """Return the series; CommandError names file, line and column of what is wrong."""
    table = read_table(arguments.file)
    column = table.numbers(arguments.column, "--column")
    there = np.flatnonzero(~np.isnan(column))
    if not len(there):
        raise CommandError(f"{arguments.file}: column {arguments.column}: no values")
    first, known = int(there[0]), int(there[-1]) + 1
    if arguments.horizon > known - first:
        raise CommandError(
            f"--horizon: expected at most the {known - first} values that there are, "
            f"got {arguments.horizon}"
        )
    values, said = _filled(table, arguments.column, column, first, known)
    inputs, ahead = None, None
    if arguments.exog:
        columns = [_exogenous(table, name, known, arguments.horizon) for name in arguments.exog]
        filled = [
            _filled(table, name, each, first, known)
            for name, each in zip(arguments.exog, columns, strict=True)
        ]
        inputs = np.stack([each for each, _ in filled], axis=1)
        ahead = np.stack([each[known:] for each in columns], axis=1)[: arguments.horizon]
        said += [line for _, lines in filled for line in lines]
    if first:
        said.insert(0, f"The series begins in line {table.lines[first]}: before it is none.")
    texts, axis = None, None
    if arguments.time is not None:
        texts = table.texts(arguments.time, "--time")
        axis = rising(table, arguments.time)
    return Series(
        values, inputs, ahead, *_times(texts, axis, first, known, arguments.horizon), said
    )


def _times(
    texts: list[str] | None, axis: list[Any] | None, first: int, known: int, horizon: int
) -> tuple[list[str], list[Any] | None]:
    """Return the times ahead, and those of the known rows as dates or numbers."""
    if texts is None:
        return [str(step) for step in range(1, horizon + 1)], None
    ahead = texts[known:][:horizon]
    return ahead + later(axis, texts, horizon - len(ahead)), axis and axis[first:known]


def _exogenous(table: Table, name: str, known: int, horizon: int) -> Numbers:
    """Return a column that is known ahead; CommandError if it is not."""
    column = table.numbers(name, "--exog")
    if len(column) < known + horizon:
        raise CommandError(
            f"--exog: expected {horizon} rows at the end of {table.path} with {name} and without "
            f"what is to be forecast, got {len(column) - known}"
        )
    missing = np.flatnonzero(np.isnan(column[known : known + horizon]))
    if len(missing):
        place = table.place(known + int(missing[0]), name)
        raise CommandError(f"{place}: expected a number, as it is known ahead, got none")
    return column


def _filled(
    table: Table, name: str, column: Numbers, first: int, known: int
) -> tuple[Numbers, list[str]]:
    """Return the known part with missing values interpolated, and what is to be said of it."""
    part = column[first:known].copy()
    missing = np.isnan(part)
    if missing.all():
        raise CommandError(f"{table.path}: column {name}: no values")
    places = np.flatnonzero(missing)
    if not len(places):
        return part, []
    part[missing] = np.interp(places, np.flatnonzero(~missing), part[~missing])
    shown = ", ".join(str(table.lines[first + place]) for place in places[:5])
    more = f" and {len(places) - 5} more" if len(places) > 5 else ""
    return part, [f"{name}: {len(places)} missing values are interpolated (lines {shown}{more})."]


# --- the forecast ---------------------------------------------------------------------------------


def _run(series: Series, arguments: argparse.Namespace) -> Forecast:
    """Train, measure, forecast, and print how good it is."""
    from ..estimators import TimeSeriesForecaster, seasonal_naive

    season, horizon = arguments.season, arguments.horizon
    values, inputs = series.values, series.inputs
    test = arguments.test or max(2 * horizon, len(values) // 10)
    if test >= len(values):
        raise CommandError(
            f"{arguments.file}: expected more rows than the {test} that are held out (--test, by "
            f"default two horizons at least), got {len(values)}"
        )
    forecaster = TimeSeriesForecaster(
        arguments.window or 3 * (season or 8),
        horizon,
        cell=arguments.cell,
        hidden_size=arguments.hidden,
        num_layers=arguments.layers,
        difference=arguments.difference,
        seasonal_period=season if arguments.seasonal_difference else None,
        lr=arguments.lr,
        max_epochs=arguments.epochs,
        random_state=arguments.seed,
        verbose=True,
    )
    kept = max(len(values) - test, 0)
    before, after = (None, None) if inputs is None else (inputs[:kept], inputs[kept:])
    try:
        forecaster.fit(values[:kept], before)
        found = forecaster.backtest(values[kept:], after, level=arguments.level)
        forecaster.update(values[kept:], after)
        middle = forecaster.predict(X=series.inputs_ahead)
        bounds = forecaster.predict_interval(X=series.inputs_ahead, level=arguments.level)
    except ValueError as error:
        raise CommandError(_words(error, arguments)) from None
    except FloatingPointError as error:
        raise CommandError(f"{error} Try a lower --lr", 1) from None
    naive = np.stack(
        [seasonal_naive(values[: kept + n], horizon, season or 1) for n in found.origins]
    )
    baseline = found._replace(forecast=naive)
    return Forecast(test, found, baseline, middle, *bounds)


def _words(error: ValueError, arguments: argparse.Namespace) -> str:
    """Return the estimator's message in the words of the command line."""
    name, _, rest = str(error).partition(":")
    if name == "level":
        return f"--level:{rest}"
    return f"{arguments.file}: column {arguments.column}:{rest}" if name == "y" else str(error)


def _say(found: Forecast, arguments: argparse.Namespace) -> None:
    """Print the errors of both, side by side."""
    rows, baseline = found.backtest, found.naive
    print(
        f"held out: {found.test} rows, {len(rows.origins)} forecasts of {arguments.horizon}\n"
        f"{'':16}{'mean absolute error':>22}{'root mean squared':>20}\n"
        f"{'forecast':16}{rows.mae:22.5g}{rows.rmse:20.5g}\n"
        f"{'seasonal naive' if arguments.season else 'last value':16}"
        f"{baseline.mae:22.5g}{baseline.rmse:20.5g}\n"
        f"{arguments.level:.0%} intervals held {rows.coverage:.1%} of the values",
        flush=True,
    )


def _report(found: Forecast, series: Series, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what `--json` prints."""
    return {
        "rows": len(series.values),
        "test": found.test,
        "forecasts": len(found.backtest.origins),
        "mae": found.backtest.mae,
        "rmse": found.backtest.rmse,
        "coverage": found.backtest.coverage,
        "level": arguments.level,
        "naive_mae": found.naive.mae,
        "naive_rmse": found.naive.rmse,
        "times": series.times_ahead,
        "forecast": found.values.tolist(),
        "lower": found.lower.tolist(),
        "upper": found.upper.tolist(),
        "out": arguments.out,
        "plot": arguments.plot,
    }


# --- files ----------------------------------------------------------------------------------------


def _write(found: Forecast, series: Series, arguments: argparse.Namespace) -> None:
    """Write the forecast, the flags in effect, and the picture."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["step" if arguments.time is None else arguments.time, arguments.column, "lower", "upper"]
    )
    for time, *numbers in zip(
        series.times_ahead, found.values, found.lower, found.upper, strict=True
    ):
        writer.writerow([time, *(f"{number:.10g}" for number in numbers)])
    files = {
        arguments.out: text.getvalue().encode(),
        str(Path(arguments.out).with_suffix(".toml")): (
            CONFIG_NOTE + effective(arguments)
        ).encode(),
    }
    if arguments.plot is not None:
        files[arguments.plot] = _picture(found, series, arguments)
    for path, content in files.items():
        try:
            write_atomically(path, content)
        except OSError as error:
            raise CommandError(f"{path}: {error.strerror or error}", 1) from None
    print(f"Wrote {', '.join(files)}.")


def _picture(found: Forecast, series: Series, arguments: argparse.Namespace) -> bytes:
    """Return the picture: the end of the series, the forecast and its interval."""
    from ..estimators import seasonal_naive
    from ..figures import COLOURS, new_figure

    horizon, season = arguments.horizon, arguments.season
    tail = min(len(series.values), max(4 * horizon, 4 * (season or 0), 40))
    x: Any = np.arange(len(series.values) - tail, len(series.values) + horizon)
    ahead = None if series.axis is None else as_times(series.times_ahead)
    if series.axis is not None and ahead is not None:
        x = [*series.axis[-tail:], *ahead]
    figure, axes = new_figure(1, 1, 8.0, 3.6)
    (axis,) = axes.flat
    naive = seasonal_naive(series.values, horizon, season or 1)
    label = "seasonal naive" if season else "last value"
    axis.plot(x[:tail], series.values[-tail:], color="black", linewidth=1, label="observed")
    axis.plot(x[tail:], naive, color="gray", linestyle=":", linewidth=1, label=label)
    axis.fill_between(
        x[tail:],
        found.lower,
        found.upper,
        color=COLOURS[0],
        alpha=0.2,
        linewidth=0,
        label=f"{arguments.level:.0%} interval",
    )
    mark = "o" if horizon == 1 else None
    axis.plot(x[tail:], found.values, color=COLOURS[0], marker=mark, label="forecast")
    axis.set_ylabel(arguments.column)
    axis.set_xlabel("row" if arguments.time is None else arguments.time)
    axis.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=4)
    content = io.BytesIO()
    figure.savefig(content, format=Path(arguments.plot).suffix[1:].lower())
    return content.getvalue()
