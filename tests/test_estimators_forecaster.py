"""The forecaster: windows, differences, intervals, updates, indices."""

import copy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, TimeSeriesSplit

from estimator_cases import SMALL, same, waves
from fastrnn.estimators import TimeSeriesForecaster, seasonal_naive
from fastrnn.estimators.conformal import conformal_widths
from fastrnn.estimators.differencing import Differencing
from fastrnn.estimators.windows import horizon_loss, make_windows

TINY = {**SMALL, "window": 6, "horizon": 3}


@pytest.fixture(autouse=True)
def _one_thread(set_num_threads):
    set_num_threads(1)


# --- parts ----------------------------------------------------------------------------------------


@given(st.integers(0, 3), st.integers(0, 5), st.integers(1, 7), st.integers(0, 2**32 - 1))
def test_differences_are_undone(order, period, horizon, seed):
    y = np.random.default_rng(seed).normal(size=(order + period + 4 + horizon, 2))
    differencing = Differencing(order, period)
    z = differencing(y)
    assert len(z) == len(y) - differencing.lost
    start = len(y) - horizon
    back = differencing.undo(z[-horizon:], y[start - differencing.lost : start])
    np.testing.assert_allclose(back, y[-horizon:], atol=1e-11)


def test_differences_by_the_formula():
    y = np.random.default_rng(0).normal(size=20)
    z = Differencing(1, 4)(y)
    np.testing.assert_allclose(z, [y[t] - y[t - 1] - y[t - 4] + y[t - 5] for t in range(5, 20)])


@pytest.mark.parametrize("by_window", [False, True])
def test_windows(by_window):
    rng = np.random.default_rng(0)
    z, x = rng.normal(size=(10, 1)), rng.normal(size=(12, 2))
    origins = np.array([4, 10])
    windows = make_windows(z, x, origins, 4, 2, by_window)
    assert windows.inputs.shape == (2, 6, 4)
    for inputs, level, spread, origin in zip(*windows, origins, strict=True):
        past = z[origin - 4 : origin]
        if by_window:
            np.testing.assert_allclose(level, [past.mean(axis=0)], rtol=1e-6)
            np.testing.assert_allclose(spread, [np.sqrt(past.var(axis=0) + 0.01)], rtol=1e-6)
        np.testing.assert_allclose(inputs[:4, :1], (past - level) / spread, rtol=1e-5)
        assert not inputs[4:, 0].any()
        np.testing.assert_allclose(inputs[:, 1:3], x[origin - 4 : origin + 2], rtol=1e-6)
        assert inputs[:, 3].tolist() == [0, 0, 0, 0, 1, 1]


def test_the_loss_is_of_the_horizon_alone():
    rng = np.random.default_rng(0)
    outputs, targets = rng.normal(size=(7, 3, 2)), rng.normal(size=(3, 4, 2))
    loss, gradient = horizon_loss(outputs, targets)
    errors = outputs[3:] - targets.swapaxes(0, 1)
    np.testing.assert_allclose(loss, np.square(errors).mean())
    np.testing.assert_allclose(gradient[3:], 2 * errors / errors.size)
    assert not gradient[:3].any()


@given(st.integers(9, 60), st.sampled_from([0.5, 0.8, 0.9]), st.integers(0, 2**32 - 1))
def test_conformal_widths_cover_as_many_as_they_say(n, level, seed):
    scores = np.random.default_rng(seed).normal(size=(n, 1)) ** 2
    width = conformal_widths([scores], level)[0, 0]
    inside = np.count_nonzero(scores <= width)
    assert inside >= (n + 1) * level - 1e-6 > inside - 1


def test_conformal_coverage_of_exchangeable_errors():
    # Over 4000 draws the coverage is k / (n + 1) = 0.9 with a standard deviation of 0.005.
    rng = np.random.default_rng(0)
    scores = rng.standard_cauchy((4000, 20)) ** 2
    covered = [row[19] <= conformal_widths([row[:19, None]], 0.9)[0, 0] for row in scores]
    assert abs(np.mean(covered) - 0.9) < 0.025


def test_too_few_errors_for_a_level():
    with pytest.raises(ValueError, match="level: expected more errors of step 1 than 8"):
        conformal_widths([np.ones((8, 1))], 0.9)
    for level in (0, 1, -1, 2):
        with pytest.raises(ValueError, match="level: "):
            conformal_widths([np.ones((8, 1))], level)


def test_seasonal_naive():
    y = np.arange(20).reshape(10, 2)
    np.testing.assert_array_equal(seasonal_naive(y, 5, 3), y[[7, 8, 9, 7, 8]])
    np.testing.assert_array_equal(seasonal_naive(y[:, 0], 2), [18, 18])
    with pytest.raises(ValueError, match="y: expected at least a period of 11"):
        seasonal_naive(y, 1, 11)
    with pytest.raises(ValueError, match="horizon: "):
        seasonal_naive(y, 0)


# --- forecasts ------------------------------------------------------------------------------------


def test_it_learns_a_wave():
    y = waves(400)[:, 0]
    forecaster = TimeSeriesForecaster(horizon=6, lr=1e-2, random_state=0).fit(y[:300])
    result = forecaster.backtest(y[300:], level=0.9)
    assert result.mae < 0.15  # the noise alone has 0.08, the best constant 0.64
    assert forecaster.score(y[300:]) > 0.9
    assert 0.8 <= result.coverage <= 1.0


def test_intervals_cover_a_noisy_series():
    rng = np.random.default_rng(1)
    y = np.sin(np.arange(900) / 3) + rng.normal(size=900)
    forecaster = TimeSeriesForecaster(12, 4, max_epochs=3, calibration_fraction=0.5, random_state=0)
    forecaster.fit(y[:500])
    for level in (0.5, 0.8, 0.95):
        # 1600 errors of 400 observations: a standard deviation of about 0.025 at 0.5.
        found = forecaster.backtest(y[500:], level=level).coverage
        assert abs(found - level) < 0.075


def test_exogenous_inputs_are_used():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 1))
    y = 3 + 2 * X[:, 0] + 0.05 * rng.normal(size=400)
    forecaster = TimeSeriesForecaster(8, 4, lr=1e-2, scaling="series", random_state=0)
    forecaster.fit(y[:300], X[:300])
    assert forecaster.score(y[300:], X[300:]) > 0.95
    assert clone(forecaster).fit(y[:300]).score(y[300:]) < 0.3
    np.testing.assert_allclose(forecaster.predict(X=X[300:]), y[300:304], atol=1)


def test_differences_follow_a_trend():
    y = 0.5 * np.arange(200.0) + waves(200)[:, 0]
    options = {"horizon": 4, "window": 12, "lr": 1e-2, "scaling": "series", "random_state": 0}
    plain = TimeSeriesForecaster(**options).fit(y[:160])
    differenced = TimeSeriesForecaster(**options, difference=1).fit(y[:160])
    seasonal = TimeSeriesForecaster(**options, seasonal_period=19).fit(y[:160])
    errors = [f.backtest(y[160:]).mae for f in (plain, differenced, seasonal)]
    assert errors[1] < errors[0] / 4
    assert errors[2] < errors[0] / 4


def test_a_forecast_by_hand():
    y = waves()[:, 0]
    forecaster = TimeSeriesForecaster(**TINY, scaling="series", difference=1).fit(y)
    z = np.diff(y)
    part = np.diff(y[: 160 - 32])
    scaled = ((z - part.mean()) / part.std()).astype(np.float32)
    inputs = np.zeros((9, 2), np.float32)
    inputs[:6, 0], inputs[6:, 1] = scaled[-6:], 1
    outputs, _ = forecaster.model_(inputs)
    steps = outputs[-3:, 0] * part.std() + part.mean()
    np.testing.assert_allclose(forecaster.predict(), y[-1] + np.cumsum(steps), rtol=1e-6)


def test_shapes_and_horizons():
    y, X = waves(columns=2), waves(170, columns=3)
    forecaster = TimeSeriesForecaster(**TINY).fit(y, X[:160])
    assert forecaster.predict(X=X[160:]).shape == (3, 2)
    assert same(forecaster.predict(2, X[160:162]), forecaster.predict(X=X[160:])[:2])
    lower, upper = forecaster.predict_interval(2, X[160:], level=0.5)
    np.testing.assert_allclose((lower + upper) / 2, forecaster.predict(2, X[160:]))
    assert (lower < upper).all()
    assert forecaster.backtest(y[:9], X[:9], level=0.5, step=2).lower.shape == (4, 3, 2)
    for call in (forecaster.predict, forecaster.predict_interval):
        with pytest.raises(ValueError, match="horizon: expected at most 3 as fitted, got 4"):
            call(4, X)
        with pytest.raises(ValueError, match=r"X: expected the shape \(3, 3\)"):
            call(X=X[:2])
        with pytest.raises(ValueError, match=r"X: expected the shape \(3, 3\)"):
            call()
    with pytest.raises(ValueError, match="y: expected 2 series, got 1"):
        forecaster.update(y[:, :1], X[:160])


def test_the_three_scalings():
    y, X = waves(columns=2), waves(columns=3, seed=1)
    found = [
        TimeSeriesForecaster(**TINY, scaling=scaling).fit(y, X).predict(X=X[:3])
        for scaling in ("window", "series", "none")
    ]
    assert not same(found[0], found[1])
    assert not same(found[1], found[2])


def test_more_windows_than_a_batch_of_predictions():
    y = waves(700)[:, 0]
    forecaster = TimeSeriesForecaster(**TINY, calibration_fraction=0.6).fit(y)
    assert [len(errors) for errors in forecaster._scores] == [420] * 3


def test_the_same_random_state_gives_the_same_bits(set_num_threads):
    y = waves()[:, 0]

    def learn(seed):
        return TimeSeriesForecaster(**{**TINY, "random_state": seed}, dropout=0.2).fit(y).predict()

    one = learn(1)
    set_num_threads(2)
    assert same(one, learn(1))
    assert not same(one, learn(2))


# --- updates and backtests ------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"difference": 1, "seasonal_period": 4}])
def test_update_is_as_if_all_had_been_known(options):
    y, X = waves(), waves(columns=2, seed=1)
    forecaster = TimeSeriesForecaster(**TINY, **options).fit(y[:120], X[:120])
    steps = clone(forecaster).fit(y[:120], X[:120])
    forecaster.update(y[120:150], X[120:150])
    for t in (120, 121, 135):
        end = {120: 121, 121: 135, 135: 150}[t]
        steps.update(y[t:end], X[t:end])
    assert forecaster.n_observations_ == steps.n_observations_ == 150
    assert same(forecaster.predict(X=X[150:]), steps.predict(X=X[150:]))
    for one, other in zip(forecaster._scores, steps._scores, strict=True):
        np.testing.assert_array_equal(np.sort(one, axis=0), np.sort(other, axis=0))
        assert len(one) == 24 + 30


def test_a_backtest_forecasts_from_each_origin():
    y = waves()[:, 0]
    forecaster = TimeSeriesForecaster(**TINY).fit(y[:120])
    before = forecaster.predict()
    result = forecaster.backtest(y[120:], horizon=2, step=5, level=0.8)
    assert result.origins.tolist() == list(range(0, 39, 5))
    for row, origin in enumerate(result.origins):
        known = copy.copy(forecaster)
        if origin:
            known.update(y[120 : 120 + origin])
        assert same(result.forecast[row], known.predict(2))
        assert same([result.lower[row], result.upper[row]], known.predict_interval(2, level=0.8))
        assert same(result.actual[row], y[120 + origin : 122 + origin])
    errors = result.forecast - result.actual
    assert result.mae == pytest.approx(np.abs(errors).mean())
    assert result.rmse == pytest.approx(np.sqrt(np.square(errors).mean()))
    inside = (result.lower <= result.actual) & (result.actual <= result.upper)
    assert result.coverage == inside.mean()
    assert np.isnan(forecaster.backtest(y[120:]).coverage)
    assert same(forecaster.predict(), before)
    with pytest.raises(ValueError, match="y: expected at least 3 observations, got 2"):
        forecaster.backtest(y[:2])


def test_early_stopping_keeps_the_last_windows():
    y = waves()[:, 0]
    forecaster = TimeSeriesForecaster(**TINY, early_stopping=True).fit(y)
    assert "validation_loss" in forecaster.history_[0]
    train, kept = forecaster._split(np.arange(10, 110))
    assert kept.tolist() == list(range(100, 110))
    assert train.max() + 3 == 100


def test_grid_search_over_a_series():
    y, X = waves(), waves(columns=2)
    search = GridSearchCV(
        TimeSeriesForecaster(**TINY), {"hidden_size": [2, 4]}, cv=TimeSeriesSplit(2)
    )
    assert search.fit(y[:, 0]).predict(2).shape == (2,)
    assert search.fit(y, X).best_params_["hidden_size"] in (2, 4)


# --- what does not fit ----------------------------------------------------------------------------


def test_bad_series():
    with pytest.raises(ValueError, match=r"y: expected at least 9 values to train on \(of 10\)"):
        TimeSeriesForecaster(**TINY).fit(np.arange(10.0))
    for y, words in (
        (np.ones((5, 2, 2)), "dim"),
        ([1.0, np.nan] * 20, "y contains NaN"),
        (["a"] * 20, "could not convert"),
        ([], "0 sample|at least"),
    ):
        with pytest.raises(ValueError, match=words):
            TimeSeriesForecaster(**TINY).fit(y)
    with pytest.raises(ValueError, match=r"X: expected the shape \(40, 2\), got \(39, 2\)"):
        TimeSeriesForecaster(**TINY).fit(np.ones(40), np.ones((39, 2)))


def test_a_constant_series():
    forecaster = TimeSeriesForecaster(**TINY).fit(np.full(60, 7.0))
    np.testing.assert_allclose(forecaster.predict(), 7, atol=1)


def test_no_intervals_without_a_calibration():
    forecaster = TimeSeriesForecaster(**TINY, calibration_fraction=0).fit(waves()[:, 0])
    with pytest.raises(ValueError, match="calibration_fraction: "):
        forecaster.predict_interval()
    assert forecaster.update([1.0, 2.0]).predict().shape == (3,)
    with pytest.raises(NotFittedError):
        TimeSeriesForecaster().predict()
    with pytest.raises(NotFittedError):
        TimeSeriesForecaster().update([1.0])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("window", 0),
        ("horizon", 0),
        ("difference", -1),
        ("seasonal_period", 0),
        ("scaling", "log"),
        ("calibration_fraction", 1),
    ],
)
def test_bad_parameters_are_named(name, value):
    with pytest.raises(ValueError, match=f"^{name}: "):
        TimeSeriesForecaster(**{name: value}).fit(np.arange(99.0))


# --- pandas ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make_index",
    [
        lambda pd: pd.date_range("2020-01-31", periods=43, freq="ME"),
        lambda pd: pd.date_range("2020-01-01", periods=43, freq="D", tz="Europe/Berlin"),
        lambda pd: pd.period_range("2020-01", periods=43, freq="Q"),
        lambda pd: pd.RangeIndex(100, 186, 2),
        lambda pd: pd.Index(range(1700, 1743)),
    ],
    ids=["months", "days with a zone", "quarters", "range", "years"],
)
def test_a_forecast_goes_on_with_the_index(make_index, tmp_path):
    pd = pytest.importorskip("pandas")
    index = make_index(pd)
    series = pd.Series(waves(40)[:, 0], index=index[:40], name="spots")
    forecaster = TimeSeriesForecaster(**TINY).fit(series)
    forecaster.save(tmp_path / "x.safetensors")
    plain = TimeSeriesForecaster(**TINY).fit(series.to_numpy()).predict()
    for one in (forecaster, TimeSeriesForecaster.load(tmp_path / "x.safetensors")):
        forecast = one.predict()
        assert forecast.index.equals(index[40:])
        assert forecast.name == "spots"
        assert same(forecast.to_numpy(), plain)
    more = pd.Series([1.0, 2.0], index=index[40:42], name="spots")
    assert forecaster.update(more).predict(1).index.equals(index[42:])


def test_frames_of_pandas_and_indices_without_order():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(waves(40, columns=2), columns=["a", "b"])
    X = pd.DataFrame({"x": np.arange(43.0)})
    forecaster = TimeSeriesForecaster(**TINY).fit(frame, X[:40])
    lower, upper = forecaster.predict_interval(X=X[40:], level=0.5)
    assert list(lower.columns) == list(upper.columns) == ["a", "b"]
    assert lower.index.tolist() == [40, 41, 42]
    days = pd.to_datetime(["2020-01-01", "2020-01-03", "2020-01-04", "2020-01-09"] * 10)
    forecast = TimeSeriesForecaster(**TINY).fit(pd.Series(waves(40)[:, 0], index=days)).predict(2)
    assert forecast.index.tolist() == [40, 41]
