"""LayerNorm against its formula, and its promises."""

import itertools

import numpy as np
import pytest

from fastrnn.normalization import LayerNorm
from reference import central_difference

DTYPES = ["float32", "float64"]
LEADING = [(), (0,), (1,), (7,), (3, 4), (0, 4), (2, 3, 2)]
WIDTHS = [1, 2, 15, 16, 17, 40]


def normal(*shape, seed=0, dtype="float64", mean=0.0):
    return (mean + np.random.default_rng(seed).standard_normal(shape)).astype(dtype)


def assert_close(got, want, tolerance):
    assert got.shape == want.shape
    if want.size:
        assert np.abs(got - want).max() <= tolerance * max(1.0, np.abs(want).max())


def drawn(layer, seed=5):
    """The layer with weights that are not those it starts with."""
    rng = np.random.default_rng(seed)
    for parameter in layer.parameters().values():
        parameter.data = rng.normal(size=parameter.shape)
    return layer


def check_gradients(layer, x, dy, tolerance=1e-7):
    """dx and the gradients of all weights against differences of sum(y dy)."""

    def loss():
        return float(np.sum(layer.vjp(x)[0] * dy))

    dx = layer.vjp(x)[1](dy)
    assert_close(dx, central_difference(loss, x), tolerance)
    for parameter in layer.parameters().values():
        if parameter.requires_grad:
            array = parameter.data.copy()

            def value(parameter=parameter, array=array):
                parameter.data = array
                return loss()

            assert_close(parameter.grad, central_difference(value, array), tolerance)
            parameter.data = array


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
    check_gradients(layer, normal(2, 3, width), normal(2, 3, width, seed=2))


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
