"""Initial weights: their distributions, shapes and sources."""

import numpy as np
import pytest

from fastrnn import init
from fastrnn.base import Parameter
from fastrnn.recurrent import GRU, LSTM, RNN, IndRNN

MATRIX = (60, 80)


def parameter(*shape, dtype="float32"):
    return Parameter(np.full(shape, np.nan, dtype))


# name: arguments, mean and variance of what is drawn from, its bound
BOUND = np.sqrt(6.0 / 140.0)
DRAWN = {
    "uniform_": ((-1.0, 2.0), 0.5, 0.75, 2.0),
    "normal_": ((1.0, 0.5), 1.0, 0.25, np.inf),
    "xavier_uniform_": ((2.0,), 0.0, 4.0 * BOUND**2 / 3.0, 2.0 * BOUND),
    "xavier_normal_": ((2.0,), 0.0, 8.0 / 140.0, np.inf),
    "kaiming_uniform_": ((1.0,), 0.0, 1.0 / 80.0, np.sqrt(3.0 / 80.0)),
}


@pytest.mark.parametrize("name", DRAWN)
def test_drawn_values_have_the_distribution(name):
    arguments, mean, variance, bound = DRAWN[name]
    weight = parameter(*MATRIX, dtype="float64")
    assert getattr(init, name)(weight, *arguments, seed=1) is weight
    values, n = weight.data, weight.size
    assert np.abs(values).max() <= bound
    assert abs(values.mean() - mean) < 5.0 * np.sqrt(variance / n)
    assert abs(values.var() - variance) < 5.0 * variance * np.sqrt(2.0 / n)


@pytest.mark.parametrize("name", [*DRAWN, "orthogonal_"])
def test_drawn_values_follow_the_seed_and_the_dtype(name):
    def draw(seed, dtype="float32"):
        return getattr(init, name)(parameter(*MATRIX, dtype=dtype), seed=seed).data

    assert np.array_equal(draw(1), draw(np.random.default_rng(1)))
    assert np.array_equal(draw(1), draw(1, "float64").astype("float32"))
    assert not np.array_equal(draw(1), draw(2))
    assert not np.array_equal(draw(None), draw(None))


def test_constants():
    weight = parameter(3, 4)
    version = weight.version
    assert (init.zeros_(weight).data == 0).all()
    assert (init.ones_(weight).data == 1).all()
    assert (init.constant_(weight, -2.5).data == -2.5).all()
    assert np.array_equal(init.eye_(weight).data, np.eye(3, 4))
    assert weight.version == version + 4  # layers must pack them anew


@pytest.mark.parametrize("shape", [(5, 5), (9, 4), (4, 9), (1, 3)])
def test_orthogonal(shape):
    matrix = init.orthogonal_(parameter(*shape, dtype="float64"), 3.0, seed=1).data / 3.0
    gram = matrix @ matrix.T if shape[0] < shape[1] else matrix.T @ matrix
    assert np.abs(gram - np.eye(len(gram))).max() < 1e-14


def test_orthogonal_is_evenly_distributed():
    """Of 2 x 2 matrices: first columns in all directions, rotations as often as reflections."""
    matrices = [init.orthogonal_(parameter(2, 2), seed=seed).data for seed in range(400)]
    quadrants = np.array([(m[0, 0] > 0) + 2 * (m[1, 0] > 0) for m in matrices])
    assert np.bincount(quadrants).min() > 60
    assert 150 < sum(np.linalg.det(m) > 0 for m in matrices) < 250


@pytest.mark.parametrize("kind", [RNN, LSTM, GRU])
def test_recurrent_orthogonal_is_so_for_each_gate(kind):
    layer = kind(3, 7, 2, bidirectional=True, dtype="float64", seed=1)
    before = layer.state_dict()
    assert init.recurrent_orthogonal_(layer, 2.0, seed=1) is layer
    blocks = []
    for name, weight in layer.parameters().items():
        if name.startswith("weight_hh"):
            blocks += list(weight.data.reshape(-1, 7, 7) / 2.0)
        else:
            assert np.array_equal(weight.data, before[name])
    assert len(blocks) == 4 * layer._gates
    for block in blocks:
        assert np.abs(block @ block.T - np.eye(7)).max() < 1e-14
    assert len({block.tobytes() for block in blocks}) == len(blocks)
    again = init.recurrent_orthogonal_(
        kind(3, 7, 2, bidirectional=True, dtype="float64"), 2.0, seed=1
    )
    name = "weight_hh_l1_reverse"
    assert np.array_equal(again.parameters()[name].data, layer.parameters()[name].data)


def test_irnn():
    layer = RNN(30, 8, 2, "relu", seed=1)
    assert init.irnn_(layer, 0.5, seed=1) is layer
    for name, weight in layer.parameters().items():
        if name.startswith("weight_hh"):
            assert np.array_equal(weight.data, 0.5 * np.eye(8))
        elif name.startswith("bias"):
            assert not weight.data.any()
        else:
            assert abs(weight.data.std() / 0.001 - 1.0) < 0.5
    h0 = np.abs(np.random.default_rng(1).normal(size=(2, 3, 8))).astype("float32")
    init.irnn_(layer, std=0.0)
    _, h = layer(np.zeros((100, 3, 30), np.float32), h0)
    assert np.array_equal(h[0], h0[0])  # it keeps its state


def test_forget_bias():
    layer = LSTM(3, 4, 2, bidirectional=True, seed=1)
    before = layer.state_dict()
    assert init.forget_bias_(layer, 1.5) is layer
    for name, weight in layer.parameters().items():
        want = before[name]
        if name.startswith("bias"):
            want[4:8] = 1.5 if "ih" in name else 0.0
        assert np.array_equal(weight.data, want)


def test_forget_bias_of_coupled_gates_is_that_of_the_input_gate():
    layer = init.forget_bias_(LSTM(3, 4, coupled=True, seed=1), 1.5)
    assert (layer.parameters()["bias_ih_l0"].data[:4] == -1.5).all()
    assert not layer.parameters()["bias_hh_l0"].data[:4].any()
    init.forget_bias_(layer, 50.0)
    c = np.ones((1, 2, 4), np.float32)
    assert np.array_equal(layer(np.zeros((9, 2, 3), np.float32), (0 * c, c))[1][1], c)


def test_recurrent_orthogonal_with_projection_has_orthonormal_columns():
    layer = init.recurrent_orthogonal_(LSTM(3, 7, proj_size=4, dtype="float64"), seed=1)
    for block in layer.parameters()["weight_hh_l0"].data.reshape(4, 7, 4):
        assert np.abs(block.T @ block - np.eye(4)).max() < 1e-14


def test_a_layer_notices_its_new_weights():
    layer, x = LSTM(3, 4, seed=1), np.ones((2, 1, 3), np.float32)
    before = layer(x)[0]
    init.forget_bias_(layer, 5.0)
    assert not np.array_equal(layer(x)[0], before)


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (lambda: init.eye_(parameter(3)), ValueError, r"parameter: expected a matrix, got .*\(3,"),
        (lambda: init.orthogonal_(parameter(3)), ValueError, "parameter: expected a matrix"),
        (lambda: init.xavier_uniform_(parameter(2, 2, 2)), ValueError, "expected a matrix"),
        (lambda: init.normal_(parameter(3), std=-1.0), ValueError, "std: expected at least 0"),
        (lambda: init.uniform_(parameter(3), 2.0, 1.0), ValueError, "b: expected at least 2.0"),
        (lambda: init.constant_(parameter(3), "1"), TypeError, "val: expected a number"),
        (lambda: init.irnn_(RNN(3, 4)), ValueError, "layer: expected the nonlinearity 'relu'"),
        (lambda: init.irnn_(GRU(3, 4)), TypeError, "layer: expected an RNN, got GRU"),
        (lambda: init.recurrent_orthogonal_(IndRNN(3, 4)), ValueError, "expected a matrix"),
        (lambda: init.forget_bias_(GRU(3, 4)), TypeError, "layer: expected an LSTM, got GRU"),
        (lambda: init.forget_bias_(LSTM(3, 4, bias=False)), ValueError, "an LSTM with biases"),
        (lambda: init.recurrent_orthogonal_(parameter(3)), TypeError, "got Parameter"),
    ],
)
def test_bad_arguments_are_refused(function, error, message):
    with pytest.raises(error, match=message):
        function()
