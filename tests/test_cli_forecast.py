"""``fastrnn forecast``: files read, times that go on, errors, and what is written."""

import csv
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from fastrnn import cli
from fastrnn.cli.common import CommandError
from fastrnn.cli.table import as_times, later, read_table, rising

pytest.importorskip("sklearn")
from fastrnn.estimators import TimeSeriesForecaster, seasonal_naive

N, SEASON = 120, 6
QUICK = ("--hidden", "4", "--epochs", "2", "--threads", "1")

pytestmark = pytest.mark.usefixtures("set_num_threads")


def values():
    t = np.arange(N)
    noise = np.random.default_rng(0).normal(0, 0.3, N)
    return 10 + 3 * np.sin(2 * np.pi * t / SEASON) + noise


def write(path, names, rows):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([names, *rows])


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    """A folder of its own, with a series by months and some files that are bad."""
    monkeypatch.chdir(tmp_path)
    months = [f"{2010 + i // 12}-{i % 12 + 1:02d}-01" for i in range(N + 8)]
    write("s.csv", ["month", "sold"], zip(months, values(), strict=False))
    price = np.random.default_rng(1).normal(size=N + 8).round(3)
    known = [*values(), *[""] * 8]
    write("x.csv", ["month", "price", "sold"], zip(months, price, known, strict=True))


def forecast(*arguments):
    return cli.main(["forecast", "s.csv", "--column", "sold", *QUICK, *arguments])


def table(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_it_is_the_estimators_forecast(capsys):
    arguments = ("--time", "month", "--season", "6", "--horizon", "8", "--level", "0.8")
    assert forecast(*arguments, "--seasonal-difference", "--window", "12", "--json") == 0
    out, err = capsys.readouterr()
    report = json.loads(out.splitlines()[-1])
    y = values()
    twin = TimeSeriesForecaster(
        12, 8, hidden_size=4, max_epochs=2, seasonal_period=6, random_state=1
    ).fit(y[:-16])
    found = twin.backtest(y[-16:], level=0.8)
    assert (report["mae"], report["rmse"]) == (found.mae, found.rmse)
    assert report["coverage"] == found.coverage
    naive = np.array(
        [seasonal_naive(y[: N - 16 + n], 8, 6) - y[N - 16 + n :][:8] for n in range(9)]
    )
    assert report["naive_mae"] == pytest.approx(np.abs(naive).mean())
    assert report["naive_rmse"] == pytest.approx(math.sqrt(np.square(naive).mean()))
    twin.update(y[-16:])
    rows = table("forecast.csv")
    assert [row["month"] for row in rows] == [f"2020-{m:02d}-01" for m in range(1, 9)]
    lower, upper = twin.predict_interval(level=0.8)
    for name, expected in (("sold", twin.predict()), ("lower", lower), ("upper", upper)):
        np.testing.assert_allclose([float(row[name]) for row in rows], expected, rtol=1e-9)
    for part in ("s.csv: 120 values of sold\n", "held out: 16 rows, 9 forecasts of 8\n"):
        assert part in out
    assert f"80% intervals held {found.coverage:.1%} of the values\n" in out
    assert "epoch 2/2: loss " in err


def test_what_is_kept_makes_the_same_forecast_again():
    arguments = ("--season", "6", "--horizon", "3", "--out", "a.csv")
    assert forecast(*arguments) == 0
    assert cli.main(["forecast", "s.csv", "--config", "a.toml", "--out", "b.csv"]) == 0
    assert Path("a.csv").read_bytes() == Path("b.csv").read_bytes()
    assert Path("a.toml").read_bytes() == Path("b.toml").read_bytes()
    assert [row["step"] for row in table("a.csv")] == ["1", "2", "3"]


def test_exogenous_inputs_of_the_rows_ahead(capsys):
    names = ("--exog", "price", "--time", "month", "--horizon", "5", "--window", "10")
    assert cli.main(["forecast", "x.csv", "--column", "sold", *QUICK, *names]) == 0
    price = np.array([float(row["price"]) for row in table("x.csv")])[:, None]
    y = values()
    twin = TimeSeriesForecaster(10, 5, hidden_size=4, max_epochs=2, random_state=1)
    twin.fit(y[:-12], price[: N - 12]).update(y[-12:], price[N - 12 : N])
    rows = table("forecast.csv")
    expected = twin.predict(X=price[N : N + 5])
    np.testing.assert_allclose([float(row["sold"]) for row in rows], expected, rtol=1e-9)
    assert [row["month"] for row in rows] == [f"2020-{m:02d}-01" for m in range(1, 6)]


def test_missing_values_are_interpolated_and_said(capsys):
    y = values()
    column = [f"{v:.6f}" for v in y]
    for row, text in ((0, ""), (1, "NA"), (40, "nan"), (41, "")):
        column[row] = text
    write("s.csv", ["day", "sold"], zip(range(N), column, strict=True))
    assert forecast("--horizon", "3", "--out", "a.csv") == 0
    out = capsys.readouterr().out
    assert "s.csv: 118 values of sold\n" in out
    assert "The series begins in line 4" in out
    assert "sold: 2 missing values are interpolated (lines 42, 43).\n" in out
    whole = np.round(y[2:], 6)
    whole[38:40] = np.interp([1, 2], [0, 3], whole[[37, 40]])
    write("s.csv", ["sold"], [[v] for v in whole])
    assert forecast("--horizon", "3", "--out", "b.csv") == 0
    ours, theirs = ([float(r["sold"]) for r in table(f"{name}.csv")] for name in "ab")
    assert ours == pytest.approx(theirs, rel=1e-9)


@pytest.mark.parametrize("end", ["png", "svg", "pdf"])
def test_the_picture(end, capsys):
    pytest.importorskip("matplotlib")
    picture = Path(f"p.{end}")
    assert forecast("--time", "month", "--horizon", "4", "--plot", str(picture)) == 0
    assert f"Wrote forecast.csv, forecast.toml, {picture}.\n" in capsys.readouterr().out
    signature = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[end]
    assert picture.read_bytes().startswith(signature)


def test_the_picture_shows_what_is_written(monkeypatch):
    pytest.importorskip("matplotlib")
    from matplotlib.axes import Axes

    drawn = {}
    plot, fill = Axes.plot, Axes.fill_between

    def note_plot(self, x, y, **options):
        drawn[options.get("label")] = (x, y)
        return plot(self, x, y, **options)

    def note_fill(self, x, low, high, **options):
        drawn[options["label"]] = (x, low, high)
        return fill(self, x, low, high, **options)

    monkeypatch.setattr(Axes, "plot", note_plot)
    monkeypatch.setattr(Axes, "fill_between", note_fill)
    arguments = ("--time", "month", "--season", "6", "--horizon", "4", "--plot", "p.png")
    assert forecast(*arguments) == 0
    rows = table("forecast.csv")
    dates = [date.strftime("%Y-%m-%d") for date in drawn["forecast"][0]]
    assert dates == [row["month"] for row in rows]
    for label, index, name in (
        ("forecast", 1, "sold"),
        ("90% interval", 1, "lower"),
        ("90% interval", 2, "upper"),
    ):
        expected = [float(row[name]) for row in rows]
        np.testing.assert_allclose(drawn[label][index], expected, rtol=1e-9)
    np.testing.assert_array_equal(drawn["observed"][1], values()[-40:])
    np.testing.assert_array_equal(drawn["seasonal naive"][1], values()[-6:-2])


# --- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("a,b\n1,2\n3,4.5\n", [2, 4.5]),
        ("\ufeffa;b\r\n1;2\r\n3;4,5\r\n", [2, 4.5]),
        ("a\tb\n1\t2\n\n3\t 4.5 \n", [2, 4.5]),
        ("a|b\n1|-2e3\n3|NaN", [-2000, math.nan]),
        ('a,b\n"x, y",2\n"two\nlines",4.5\n', [2, 4.5]),
    ],
)
def test_files_of_many_kinds(content, expected):
    Path("t.csv").write_text(content, encoding="utf-8", newline="")
    np.testing.assert_array_equal(read_table("t.csv").numbers("b", "--column"), expected)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n1,2\n1,x\n", "t.csv: line 3, column b: expected a number, got 'x'"),
        ("a,b\n\n1,2\n1,inf\n", "t.csv: line 4, column b: expected a number, got 'inf'"),
        ("a,b\n1,2\n1\n", "t.csv: line 3: expected 2 values, got 1"),
        ("a,b\n1,2,3\n", "t.csv: line 2: expected 2 values, got 3"),
        ("b, b\n1,2\n", "t.csv: line 1: two columns are named 'b'"),
        ("a,b\n", "t.csv: expected a line of names and rows of values"),
        ('a,b\n1,"2\n', "t.csv: line 2: not CSV"),
        ('a,b\n1,"2"x\n', "t.csv: line 2: not CSV"),
        ("a,c\n1,2\n", "--column: expected a column of t.csv (a, c), got b"),
    ],
)
def test_bad_files_are_named_with_line_and_column(content, message):
    Path("t.csv").write_text(content)
    with pytest.raises(CommandError) as error:
        read_table("t.csv").numbers("b", "--column")
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("texts", "ahead"),
    [
        ("2023-12-31 2024-01-31 2024-02-29", ["2024-03-31", "2024-04-30"]),
        ("2023-11-30 2023-12-31 2024-01-31", ["2024-02-29", "2024-03-31"]),
        ("2023-12-15 2024-01-15 2024-02-15", ["2024-03-15", "2024-04-15"]),
        ("2024-10 2024-11 2024-12", ["2025-01", "2025-02"]),
        ("2023-03-01 2023-06-01 2023-09-01", ["2023-12-01", "2024-03-01"]),
        ("2024-02-27 2024-02-28 2024-02-29", ["2024-03-01", "2024-03-02"]),
        ("2024-01-05 2024-01-12 2024-01-19", ["2024-01-26", "2024-02-02"]),
        ("2024-01-01T22:00 2024-01-01T23:00 2024-01-02T00:00",
         ["2024-01-02T01:00", "2024-01-02T02:00"]),
        ("2020-02-29 2021-02-28 2022-02-28", ["2023-02-28", "2024-02-29"]),
        ("2006 2007 2008", ["2009", "2010"]),
        ("0.1 0.2 0.3", ["0.4", "0.5"]),
        ("1 2 4", ["+1", "+2"]),
        ("2024-01-01 2024-01-02 2024-01-05", ["+1", "+2"]),
        ("a b c", ["+1", "+2"]),
        ("1 2", ["+1", "+2"]),
        ("9999-10-01 9999-11-01 9999-12-01", ["+1", "+2"]),
    ],
)  # fmt: skip
def test_times_go_on(texts, ahead):
    assert later(as_times(texts.split()), texts.split(), 2) == ahead


@pytest.mark.parametrize(
    ("times", "line"),
    [(["1", "2", "2"], 4), (["3", "1"], 3), (["2024-02-01", "2024-01-01"], 3), (["1", "nan"], 3)],
)
def test_times_must_rise(times, line):
    write("t.csv", ["when", "v"], [(time, 1) for time in times])
    with pytest.raises(CommandError, match=f"^t.csv: line {line}, column when: expected a time af"):
        rising(read_table("t.csv"), "when")


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("none.csv --column sold", "none.csv: No such file or directory"),
        ("s.csv", "--column: expected the name of what to forecast, got none"),
        ("s.csv --column price", "--column: expected a column of s.csv (month, sold), got price"),
        ("s.csv --column sold --time day", "--time: expected a column of s.csv"),
        ("s.csv --column sold --exog price", "--exog: expected a column of s.csv"),
        ("s.csv --column sold --exog month", "s.csv: line 2, column month: expected a number"),
        ("s.csv --column sold --horizon 0", "--horizon: expected at least 1, got 0"),
        ("s.csv --column sold --horizon 999999999999", "--horizon: expected at most the 120 val"),
        ("s.csv --column sold --season 0", "--season: expected at least 1, got 0"),
        ("s.csv --column sold --level 1", "--level: expected a number above 0 and below 1, got 1"),
        ("s.csv --column sold --lr 0", "--lr: expected a number above 0, got 0.0"),
        ("s.csv --column sold --cell x", "--cell: expected one of lstm, gru, rnn, got 'x'"),
        ("s.csv --column sold --seed -1", "--seed: expected at least 0, got -1"),
        ("s.csv --column sold --seasonal-difference", "--seasonal-difference: expected --season"),
        ("s.csv --column sold --test 3", "--test: expected at least the horizon, 12, got 3"),
        ("s.csv --column sold --plot p.jpg", "--plot: expected a name that ends in .png, .svg, .p"),
        ("s.csv --column sold --out no/f.csv", "--out: no/f.csv: No such file or directory"),
        ("s.csv --column sold --out s.csv", "--out: s.csv: this is the series itself"),
        ("s.csv --column sold --out .", "--out: .: Is a directory"),
        (
            "x.csv --column sold --exog price --horizon 9",
            "--exog: expected 9 rows at the end of x.csv with price and without what is to be "
            "forecast, got 8",
        ),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments, message, capsys):
    before = sorted(Path().rglob("*"))
    assert cli.main(["forecast", *arguments.split()]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"fastrnn forecast: {message}")
    assert err.count("\n") == 1
    assert sorted(Path().rglob("*")) == before


def test_a_value_that_should_be_known_ahead(capsys):
    rows = [list(row.values()) for row in table("x.csv")]
    rows[N + 2][1] = "NA"
    write("x.csv", ["month", "price", "sold"], rows)
    arguments = ("--column", "sold", "--exog", "price", "--horizon", "4")
    assert cli.main(["forecast", "x.csv", *arguments]) == 2
    message = "x.csv: line 124, column price: expected a number, as it is known ahead, got none"
    assert message in capsys.readouterr().err


def test_a_series_that_is_too_short(capsys):
    write("s.csv", ["sold"], [[i] for i in range(30)])
    assert forecast() == 2
    err = capsys.readouterr().err
    assert "fastrnn forecast: s.csv: column sold: expected at least 36 values to train on" in err
    write("s.csv", ["sold", "b"], [["", 1]] * 30)
    assert forecast() == 2
    assert "fastrnn forecast: s.csv: column sold: no values\n" in capsys.readouterr().err


def test_too_few_errors_for_the_level(capsys):
    assert forecast("--level", "0.999") == 2
    assert "fastrnn forecast: --level: expected more errors of step 1" in capsys.readouterr().err
    assert not Path("forecast.csv").exists()


@pytest.mark.parametrize(
    ("module", "extra", "arguments"),
    [("sklearn", "estimators", ()), ("matplotlib", "viz", ("--plot", "p.png"))],
)
def test_a_missing_extra_is_named(module, extra, arguments, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    assert forecast(*arguments) == 2
    name = {"sklearn": "scikit-learn"}.get(module, module)
    expected = f"fastrnn forecast: needs {name}: pip install 'fastrnn[{extra}]'\n"
    assert capsys.readouterr().err == expected
