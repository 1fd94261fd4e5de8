"""What the tests of layers share: random numbers, weights, and gradients by differences."""

import numpy as np

from reference import central_difference


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
        if parameter.requires_grad:
            parameter.data = rng.normal(size=parameter.shape)
    return layer


def check_gradients(run, layer, x, dy, tolerance=1e-7):
    """dx and the gradients of all weights against differences of the sum of y * dy.

    run(x) returns y and a pullback from dy to dx.
    """

    def loss():
        return float(np.sum(run(x)[0] * dy))

    layer.zero_grad()
    dx = run(x)[1](dy)
    assert_close(dx, central_difference(loss, x), tolerance)
    for parameter in layer.parameters().values():
        if parameter.requires_grad:
            array = parameter.data.copy()

            def value(parameter=parameter, array=array):
                parameter.data = array
                return loss()

            assert_close(parameter.grad, central_difference(value, array), tolerance)
            parameter.data = array
    return dx
