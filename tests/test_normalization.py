"""LayerNorm and BatchNorm against their formulas, and their promises."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrnn.normalization import BatchNorm, LayerNorm
from layer_checks import assert_close, check_gradients, drawn, normal

DTYPES = ["float32", "float64"]
LEADING = [(), (0,), (1,), (7,), (3, 4), (0, 4), (2, 3, 2)]
WIDTHS = [1, 2, 15, 16, 17, 40]


# LayerNorm


def layer_norm(x, weight, bias, eps):
    x = x.astype(np.float64)
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps) * weight + bias


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_layer_norm_is_its_formula(width, bias, dtype):
    layer = drawn(LayerNorm(width, 0.01, bias, dtype=dtype))
    for leading in LEADING:
        x = normal(*leading, width, dtype=dtype, mean=10)
        want = layer_norm(x, layer.weight.data, layer.bias.data if bias else 0.0, 0.01)
        y = layer(x)
        assert y.dtype == np.dtype(dtype)
        assert_close(y, want, {"float32": 2e-5, "float64": 1e-13}[dtype])
        assert np.array_equal(layer.vjp(x)[0], y)


@pytest.mark.parametrize("width", [2, 16, 23])
@pytest.mark.parametrize("bias", [True, False])
def test_layer_norm_gradients(width, bias):
    layer = drawn(LayerNorm(width, bias=bias, dtype="float64"))
    check_gradients(layer.vjp, layer, normal(2, 3, width), normal(2, 3, width, seed=2))


def test_layer_norm_keeps_digits_where_the_mean_is_large():
    """E[x^2] - E[x]^2 in float32 would leave no digit of the variance."""
    x = normal(4, 64, dtype="float32") + np.float32(4096)
    assert_close(LayerNorm(64)(x), layer_norm(x, 1.0, 0.0, 1e-5), 1e-3)


@pytest.mark.parametrize("dtype", DTYPES)
def test_layer_norm_rows_have_the_same_bits_in_any_batch(set_num_threads, dtype):
    layer = drawn(LayerNorm(611, dtype=dtype))
    x, dy = normal(267, 611, dtype=dtype), normal(267, 611, seed=1, dtype=dtype)
    set_num_threads(1)
    alone = np.concatenate([layer(row[None]) for row in x])
    y, pullback = layer.vjp(x)
    dx = pullback(dy)
    gradients = [p.grad.copy() for p in layer.parameters().values()]
    assert np.array_equal(y, alone)
    assert np.array_equal(dx[7:8], layer.vjp(x[7:8])[1](dy[7:8]))
    for threads, rows in itertools.product((2, 3), (1, 5, 267)):
        set_num_threads(threads)
        assert np.array_equal(layer(x[-rows:]), alone[-rows:])
    layer.zero_grad()
    assert np.array_equal(layer.vjp(x)[1](dy), dx)
    for parameter, gradient in zip(layer.parameters().values(), gradients, strict=True):
        assert np.array_equal(parameter.grad, gradient)


def test_layer_norm_gradients_add_up_and_frozen_ones_stay_away():
    layer = drawn(LayerNorm(5, dtype="float64"))
    x, dy = normal(7, 5), normal(7, 5, seed=1)
    layer.weight.requires_grad = False
    for _ in range(2):
        layer.vjp(x)[1](dy)
    assert layer.weight.grad is None
    assert_close(layer.bias.grad, 2 * dy.sum(0), 1e-14)


def test_layer_norm_takes_any_strides_and_lists():
    layer = drawn(LayerNorm(4))
    x = normal(6, 8, dtype="float32")
    assert np.array_equal(layer(x[:, ::2]), layer(x[:, ::2].copy()))
    assert np.array_equal(layer([1, 2, 3, 4]), layer(np.array([1, 2, 3, 4], np.float32)))


def test_layer_norm_of_nan_is_nan_in_that_row_alone():
    x = normal(3, 20, dtype="float32")
    x[1, 3] = np.nan
    y = LayerNorm(20)(x)
    assert np.isnan(y[1]).all()
    assert np.isfinite(y[[0, 2]]).all()


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (np.zeros((2, 4), np.float32), ValueError, r"x: expected the shape \(..., 5\), got \(2, 4"),
        (np.float32(1.0), ValueError, r"x: expected the shape \(..., 5\), got \(\)"),
        (np.zeros((2, 5)), TypeError, "x: expected an array of float32, got float64"),
    ],
)
def test_layer_norm_refuses_inputs(x, error, message):
    layer = LayerNorm(5)
    for function in (layer, layer.vjp):
        with pytest.raises(error, match=message):
            function(x)


def test_layer_norm_pullback_refuses_and_writes_nothing():
    layer = LayerNorm(5)
    _, pullback = layer.vjp(normal(3, 5, dtype="float32"))
    with pytest.raises(ValueError, match=r"dy: expected the output's shape \(3, 5\)"):
        pullback(np.zeros((3, 4), np.float32))
    layer.weight.data = np.full(5, 2.0)
    with pytest.raises(RuntimeError, match="weights changed"):
        pullback(np.zeros((3, 5), np.float32))
    assert layer.weight.grad is layer.bias.grad is None


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"normalized_shape": 0}, ValueError, "normalized_shape: expected at least 1, got 0"),
        ({"normalized_shape": (3,)}, TypeError, "normalized_shape: expected an integer"),
        ({"normalized_shape": 3, "eps": -1.0}, ValueError, "eps: expected at least 0"),
        ({"normalized_shape": 3, "bias": 1}, TypeError, "bias: expected True or False"),
        ({"normalized_shape": 3, "dtype": "int8"}, TypeError, "dtype: expected float32 or"),
    ],
)
def test_layer_norm_refuses_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        LayerNorm(**arguments)


# BatchNorm

LENGTHS = [5, 0, 2, 4]


def steps(x, lengths):
    """The real steps of (T, B, F), one after the other."""
    return np.concatenate([x[:length, row] for row, length in enumerate(lengths)])


def batch_norm(rows, mean, var, layer):
    rows = rows.astype(np.float64)
    weight = 1.0 if layer.weight is None else layer.weight.data
    bias = 0.0 if layer.bias is None else layer.bias.data
    return (rows - mean) / np.sqrt(var + layer.eps) * weight + bias


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_batch_norm_is_its_formula_over_the_real_steps(affine, dtype):
    tolerance = {"float32": 2e-5, "float64": 1e-13}[dtype]
    layer = drawn(BatchNorm(3, 0.01, affine=affine, dtype=dtype))
    x = normal(5, 4, 3, dtype=dtype, mean=4)
    rows = steps(x, LENGTHS).astype(np.float64)
    y, _ = layer.vjp(x, LENGTHS)
    assert y.dtype == np.dtype(dtype)
    assert_close(steps(y, LENGTHS), batch_norm(rows, rows.mean(0), rows.var(0), layer), tolerance)
    assert_close(layer.running_mean.data, 0.1 * rows.mean(0), tolerance)
    assert_close(layer.running_var.data, 0.9 + 0.1 * rows.var(0, ddof=1), tolerance)
    assert layer.num_batches_tracked.data == 1.0
    running = [layer.running_mean.data.astype(float), layer.running_var.data.astype(float)]
    assert_close(steps(layer(x, LENGTHS), LENGTHS), batch_norm(rows, *running, layer), tolerance)
    assert layer.num_batches_tracked.data == 1.0
    padding = np.arange(5)[:, None] >= np.array(LENGTHS)
    assert not y[padding].any()
    assert not layer(x, LENGTHS)[padding].any()


def test_batch_norm_without_lengths_takes_every_step():
    layer = drawn(BatchNorm(3, dtype="float64"))
    x = normal(5, 4, 3, mean=4)
    for shape in ((5, 4, 3), (20, 3), (2, 10, 1, 3)):
        y, _ = layer.vjp(x.reshape(shape))
        want = batch_norm(x.reshape(20, 3), x.mean((0, 1)), x.var((0, 1)), layer)
        assert_close(y, want.reshape(shape), 1e-13)


def test_batch_norm_without_momentum_is_the_mean_of_all_batches():
    layer = BatchNorm(3, momentum=None, dtype="float64")
    batches = [normal(6, 3, seed=seed) for seed in range(4)]
    for batch in batches:
        layer.vjp(batch)
    assert_close(layer.running_mean.data, np.mean([b.mean(0) for b in batches], axis=0), 1e-14)
    assert_close(layer.running_var.data, np.mean([b.var(0, ddof=1) for b in batches], 0), 1e-14)


def test_batch_norm_without_running_statistics_uses_those_of_the_batch():
    layer = BatchNorm(3, track_running_stats=False, dtype="float64")
    x = normal(5, 4, 3, mean=4)
    assert list(layer.parameters()) == ["weight", "bias"]
    assert np.array_equal(layer(x, LENGTHS), layer.vjp(x, LENGTHS)[0])


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_batch_norm_gradients(affine, batch_first, lengths):
    layer = drawn(BatchNorm(3, affine=affine, batch_first=batch_first, dtype="float64"))
    shape = (4, 5, 3) if batch_first else (5, 4, 3)
    x, dy = normal(*shape), normal(*shape, seed=1)
    dx = check_gradients(lambda x: layer.vjp(x, lengths), layer, x, dy, 1e-6)
    if lengths:
        padding = np.arange(5)[:, None] >= np.array(lengths)
        assert not dx[padding.T if batch_first else padding].any()


@given(data=st.data())
def test_batch_norm_never_sees_the_padding(data):
    T, B = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 4))
    lengths = data.draw(
        st.lists(st.integers(0, T), min_size=B, max_size=B).filter(lambda n: sum(n) > 1)
    )
    padding = np.arange(T)[:, None] >= np.array(lengths)
    x, dy = normal(T, B, 2), normal(T, B, 2, seed=1)
    results = []
    for value in (0.0, np.nan, 1e30):
        layer = drawn(BatchNorm(2, dtype="float64"))
        x[padding] = dy[padding] = value
        y, pullback = layer.vjp(x, lengths)
        gradients = [pullback(dy), layer.weight.grad, layer.bias.grad]
        results.append([y, layer(x, lengths), *gradients, layer.running_var.data])
    for other in results[1:]:
        assert all(map(np.array_equal, results[0], other))


def test_batch_norm_running_statistics_are_saved_and_not_trained():
    layer = BatchNorm(3, dtype="float64")
    layer.vjp(normal(9, 3, mean=2))[1](normal(9, 3))
    assert (
        layer.running_mean.grad is layer.running_var.grad is layer.num_batches_tracked.grad is None
    )
    other = BatchNorm(3, dtype="float64")
    other.load_state_dict(layer.state_dict())
    x = normal(4, 3)
    assert np.array_equal(layer(x), other(x))
    assert not np.array_equal(BatchNorm(3, dtype="float64")(x), other(x))


def test_batch_norm_pullback_owns_what_it_needs():
    x, dy = normal(6, 3), normal(6, 3, seed=1)
    for affine in (True, False):
        layer = BatchNorm(3, affine=affine, dtype="float64")
        want = layer.vjp(x)[1](dy)
        given_x = x.copy()
        y, pullback = layer.vjp(given_x)
        y[:] = given_x[:] = 0.0
        assert np.array_equal(pullback(dy), want)


def test_batch_norm_of_no_steps_is_empty_or_zero():
    for track in (True, False):
        layer = BatchNorm(3, track_running_stats=track)
        assert layer(np.zeros((0, 3), np.float32)).shape == (0, 3)
        assert not layer(np.ones((4, 2, 3), np.float32), [0, 0]).any()


def test_batch_norm_refuses():
    layer = BatchNorm(3)
    x = np.zeros((4, 2, 3), np.float32)
    for function in (layer, layer.vjp):
        with pytest.raises(ValueError, match=r"x: expected the shape \(..., 3\), got \(4, 2\)"):
            function(x[..., 0])
        with pytest.raises(ValueError, match=r"x: expected the shape \(T, B, 3\) with lengths"):
            function(x[0], [1, 1])
        with pytest.raises(ValueError, match="lengths: expected numbers from 0 to 4, got 5"):
            function(x, [1, 5])
        with pytest.raises(ValueError, match=r"lengths: expected the shape \(2,\), got \(3,\)"):
            function(x, [1, 2, 3])
        with pytest.raises(TypeError, match="x: expected an array of float32, got float64"):
            function(x.astype(float))
    with pytest.raises(ValueError, match=r"x: expected at least two real steps .* got 1"):
        layer.vjp(x, [1, 0])
    assert layer.num_batches_tracked.data == 0.0
    _, pullback = layer.vjp(normal(4, 2, 3, dtype="float32"))
    with pytest.raises(ValueError, match="dy: expected the output's shape"):
        pullback(x[0])
    with pytest.raises(ValueError, match="momentum: expected a number from 0"):
        BatchNorm(3, momentum=2.0)
