"""The kernels' own exp, tanh and sigmoid: errors, special values, denormals.

The exhaustive measurement is `python tools/measure_nonlinearities.py --exhaustive`.
"""

import numpy as np
import pytest

from fastrnn import _core

pytest.importorskip("mpmath")

from measure_nonlinearities import (
    FUNCTIONS,
    float32_errors,
    float32_patterns,
    float64_errors,
    float64_points,
    largest,
)

# What the documentation promises, in units in the last place.
LIMITS = {
    "float32": {"exp": 2.0, "tanh": 4.0, "sigmoid": 4.0},
    "float64": {"exp": 4.0, "tanh": 4.0, "sigmoid": 4.0},
}
DTYPES = ("float32", "float64")


def call(function, values, dtype):
    return getattr(_core, function)(np.array(values, dtype))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_float32_error(function):
    """Over all exponents and signs: 4096 mantissas of each, NaNs and infinities among them."""
    x = float32_patterns(0, 1 << 32, 2039)  # a prime: the low bits take all values
    error, at = largest(float32_errors(function, x), x)
    assert error <= LIMITS["float32"][function], f"{error} ulp at {at!r}"


@pytest.mark.parametrize("function", FUNCTIONS)
def test_float32_error_where_it_matters(function):
    """Gates live here: half a million neighbours around the ends of the range, and in between."""
    ends = [-104.0, -103.97, -87.34, -40.0, -20.0, -9.01, -1.0, -0.3466, 0.3466, 1.0, 9.01, 20.0]
    ends += [40.0, 88.72, 88.73, 89.0, 104.0]
    steps = np.arange(-15_000, 15_000)
    patterns = np.array(ends, np.float32).view(np.uint32).astype(np.int64)
    x = (patterns[:, None] + steps).astype(np.uint32).view(np.float32).ravel()
    error, at = largest(float32_errors(function, x), x)
    assert error <= LIMITS["float32"][function], f"{error} ulp at {at!r}"


@pytest.mark.parametrize("function", FUNCTIONS)
def test_float64_error(function):
    x = float64_points(1500, seed=1)
    ends = np.array([-745.2, -745.1, -708.4, -40.0, -36.1, -19.1, 19.1, 36.1, 40.0, 709.78, 709.79])
    x = np.concatenate([x, (ends.view(np.int64)[:, None] + np.arange(-20, 20)).view(float).ravel()])
    error, at = largest(float64_errors(function, x), x)
    assert error <= LIMITS["float64"][function], f"{error} ulp at {at!r}"


SPECIAL = {
    "exp": [(np.inf, np.inf), (-np.inf, 0.0), (0.0, 1.0), (-0.0, 1.0), (1e4, np.inf), (-1e4, 0.0)],
    "tanh": [(np.inf, 1.0), (-np.inf, -1.0), (0.0, 0.0), (-0.0, -0.0), (1e4, 1.0), (-1e4, -1.0)],
    "sigmoid": [(np.inf, 1.0), (-np.inf, 0.0), (0.0, 0.5), (-0.0, 0.5), (1e4, 1.0), (-1e4, 0.0)],
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_special_values(function, dtype):
    largest_number = np.finfo(dtype).max
    x, want = zip(*SPECIAL[function], strict=True)
    for _ in range(2):
        got = call(function, x, dtype)
        assert np.array_equal(got, np.array(want, dtype))
        assert np.array_equal(np.signbit(got), np.signbit(want))
        x = np.clip(x, -largest_number, largest_number)  # the same of the largest finite numbers


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_nan_gives_nan_in_every_lane(function, dtype):
    for size in range(1, 36):
        for at in range(size):
            x = np.zeros(size)
            x[at] = -np.nan if at % 2 else np.nan
            assert np.array_equal(np.isnan(call(function, x, dtype)), np.isnan(x))


def denormals(dtype):
    tiny, smallest = np.finfo(dtype).tiny, np.finfo(dtype).smallest_subnormal
    return np.array([smallest, 3 * smallest, 1000 * smallest, tiny / 2, tiny - smallest], dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_denormals_in(dtype):
    x = denormals(dtype)
    assert (x > 0).all()
    for sign in (1, -1):
        assert np.array_equal(call("tanh", sign * x, dtype), sign * x)
        assert np.array_equal(call("exp", sign * x, dtype), np.ones_like(x))
        assert np.array_equal(call("sigmoid", sign * x, dtype), np.full_like(x, 0.5))


@pytest.mark.parametrize("function", ["exp", "sigmoid"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_denormals_out(function, dtype):
    """Not flushed to zero."""
    x = np.log(denormals(dtype)[:-1].astype(np.longdouble)).astype(dtype)
    got = call(function, x, dtype)
    assert (got > 0).all()
    assert (got < np.finfo(dtype).tiny).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_ranges_and_symmetry(dtype):
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(scale=scale, size=20_000) for scale in (1e-3, 1, 10, 100)])
    tanh, sigmoid = call("tanh", x, dtype), call("sigmoid", x, dtype)
    assert np.array_equal(call("tanh", -x, dtype), -tanh)
    assert np.abs(tanh).max() <= 1
    assert (sigmoid >= 0).all()
    assert (sigmoid <= 1).all()
    assert (call("exp", x, dtype) >= 0).all()


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_number_alone_is_as_in_an_array(function, dtype):
    """Tails of vectors are computed as their middles are."""
    x = np.random.default_rng(0).normal(scale=5, size=70)
    whole = call(function, x, dtype)
    assert whole.dtype == dtype
    for size in range(70):
        assert np.array_equal(call(function, x[:size], dtype), whole[:size])


@pytest.mark.parametrize("function", FUNCTIONS)
def test_wrong_arguments(function):
    with pytest.raises((TypeError, ValueError)):
        getattr(_core, function)(np.zeros(3, np.int32))
    with pytest.raises((TypeError, ValueError)):
        getattr(_core, function)(None)
