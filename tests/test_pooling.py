"""Poolings over time against plain loops, and what padding may not do."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrnn.layers import Linear, Sequential
from fastrnn.pooling import LastStep, MaxPooling, MeanPooling
from fastrnn.recurrent import GRU, LSTM
from layer_checks import assert_close, check_gradients, normal

POOLINGS = {
    LastStep: lambda steps: steps[-1],
    MeanPooling: lambda steps: steps.mean(0),
    MaxPooling: lambda steps: steps.max(0),
}
LENGTHS = [5, 0, 2, 1]
each = pytest.mark.parametrize("kind", POOLINGS)


def pooled(kind, x, lengths):
    """What a loop over the rows gives."""
    rows = [x[:length, row] for row, length in enumerate(lengths)]
    return np.array([POOLINGS[kind](r) if len(r) else np.zeros(x.shape[2]) for r in rows])


@each
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_pooling_is_its_formula(kind, dtype, batch_first, lengths):
    x = normal(5, 4, 3, dtype=dtype)
    given_x = x.swapaxes(0, 1) if batch_first else x
    y = kind(batch_first)(given_x, lengths)
    assert y.dtype == np.dtype(dtype)
    assert_close(y, pooled(kind, x, lengths or [5] * 4), 1e-6 if dtype == "float32" else 1e-15)


@each
def test_pooling_of_one_sequence_is_that_of_a_batch_of_one(kind):
    x, dy = normal(5, 3), normal(3, seed=1)
    for layer in (kind(), kind(batch_first=True)):
        y, pullback = layer.vjp(x)
        want, pull_want = kind().vjp(x[:, None])
        assert np.array_equal(y, want[0])
        assert np.array_equal(pullback(dy), pull_want(dy[None])[:, 0])


@each
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_pooling_gradients(kind, batch_first, lengths):
    layer = kind(batch_first)
    x = normal(*((4, 5, 3) if batch_first else (5, 4, 3)))
    check_gradients(lambda x: layer.vjp(x, lengths), layer, x, normal(4, 3, seed=1), 1e-8)


@each
def test_pooling_of_no_steps_is_zero(kind):
    x = np.zeros((0, 2, 3), np.float32)
    y, pullback = kind().vjp(x)
    assert np.array_equal(y, np.zeros((2, 3)))
    assert pullback(y).shape == (0, 2, 3)
    assert kind()(x, [0, 0]).shape == (2, 3)
    assert kind()(np.zeros((4, 0, 3), np.float32)).shape == (0, 3)


def test_max_pooling_gives_the_gradient_to_the_first_of_equal_values():
    dx = MaxPooling().vjp(np.ones((3, 1, 2)))[1](np.array([[5.0, 7.0]]))
    assert np.array_equal(dx[:, 0], [[5, 7], [0, 0], [0, 0]])


def test_max_pooling_shows_nan():
    x = normal(4, 1, 2)
    x[2, 0, 1] = np.nan
    assert np.isnan(MaxPooling()(x)).tolist() == [[False, True]]


@given(data=st.data())
@each
def test_pooling_never_sees_the_padding(kind, data):
    """Neither its values nor its length, bit for bit."""
    T, B, F = (data.draw(st.integers(1, n)) for n in (20, 4, 3))
    lengths = np.array(data.draw(st.lists(st.integers(0, T), min_size=B, max_size=B)))
    x, dy = normal(T, B, F, dtype="float32"), normal(B, F, seed=1, dtype="float32")
    want, pullback = kind().vjp(x, lengths)
    want_dx = pullback(dy)
    padding = np.arange(T)[:, None] >= lengths
    assert not want_dx[padding].any()
    for value in (0.0, np.nan, np.inf):
        x[padding] = value
        y, pullback = kind().vjp(x, lengths)
        assert np.array_equal(y, want)
        assert np.array_equal(pullback(dy), want_dx)
    for row, length in enumerate(lengths):
        assert np.array_equal(kind()(x[:length, row]), want[row])


@each
@pytest.mark.parametrize(
    ("x", "lengths", "error", "message"),
    [
        (np.zeros((4, 2, 3)), [5, 1], ValueError, "lengths: expected numbers from 0 to 4, got 5"),
        (np.zeros((4, 2, 3)), [-1, 1], ValueError, "lengths: expected numbers from 0 to 4, got -1"),
        (np.zeros((4, 2, 3)), [1], ValueError, r"lengths: expected the shape \(2,\), got \(1,\)"),
        (np.zeros((4, 2, 3)), [1.0, 1.0], TypeError, "lengths: expected an array of integers"),
        (np.zeros((4, 2)), [1, 1], ValueError, r"x: expected the shape \(T, B, F\), got \(4, 2\)"),
        (np.zeros(4), None, ValueError, r"x: expected the shape \(T, B, F\) or \(T, F\), got"),
        (np.zeros((4, 2, 3), int), None, TypeError, "x: expected an array of float32 or float64"),
    ],
)
def test_pooling_refuses(kind, x, lengths, error, message):
    for function in (kind(), kind().vjp):
        with pytest.raises(error, match=message):
            function(x, lengths)


@each
def test_pooling_pullback_refuses(kind):
    _, pullback = kind().vjp(np.zeros((4, 2, 3)))
    with pytest.raises(ValueError, match=r"dy: expected the output's shape \(2, 3\)"):
        pullback(np.zeros((4, 2, 3)))


# In models


@each
@pytest.mark.parametrize("nested", [True, False])
def test_models_pool_the_real_steps(kind, nested):
    lstm, out = LSTM(3, 4, dtype="float64", seed=1), Linear(4, 2, dtype="float64", seed=2)
    model = Sequential(Sequential(lstm, kind()), out) if nested else Sequential(lstm, kind(), out)
    x = normal(5, 4, 3)
    y, _ = model(x, lengths=LENGTHS)
    want = out(pooled(kind, lstm(x, lengths=LENGTHS)[0], LENGTHS))
    assert_close(y, want, 1e-14)
    (y, _), _ = model.vjp(x, lengths=LENGTHS)
    assert_close(y, want, 1e-14)


@each
def test_models_without_recurrent_layers_take_lengths(kind):
    first, out = Linear(3, 4, dtype="float64", seed=1), Linear(4, 2, dtype="float64", seed=2)
    for model in (Sequential(first, kind(), out), Sequential(first, Sequential(kind(), out))):
        assert not model.recurrent
        x = normal(5, 4, 3)
        assert_close(model(x, lengths=LENGTHS), out(pooled(kind, first(x), LENGTHS)), 1e-14)
        check_gradients(
            lambda x, m=model: m.vjp(x, lengths=LENGTHS), model, x, normal(4, 2, seed=1), 1e-7
        )
        with pytest.raises(TypeError, match="state: expected None"):
            model(x, ())


@each
def test_lengths_end_at_the_pooling(kind):
    """What it gives is one vector a row: a pooling behind it sees a sequence of rows."""
    model = Sequential(kind(), MeanPooling())
    x = normal(5, 4, 3)
    assert_close(model(x, lengths=LENGTHS), pooled(kind, x, LENGTHS).mean(0), 1e-14)


@each
def test_a_model_that_pools_takes_no_single_steps(kind):
    model = Sequential(GRU(3, 4), kind())
    with pytest.raises(ValueError, match=rf"step: expected layers that .* got {kind.__name__}"):
        model.step(np.zeros((2, 3), np.float32))
