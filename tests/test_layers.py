"""Embedding, Linear, Dropout, Sequential against their formulas."""

import copy
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrnn.activations import ReLU, Sigmoid, Softmax, Tanh
from fastrnn.layers import (
    LAYER_CLASSES,
    Dropout,
    Embedding,
    Linear,
    Sequential,
    VariationalDropout,
    build_layer,
    describe_layer,
)
from fastrnn.normalization import BatchNorm, LayerNorm
from fastrnn.pooling import LastStep, MaxPooling, MeanPooling
from fastrnn.recurrent import AUGRU, GRU, LSTM, RNN, IndRNN
from fastrnn.wrappers import Highway, Residual
from layer_checks import assert_close, normal
from reference import central_difference

DTYPES = ["float32", "float64"]
LEADING = [(), (0,), (1,), (7,), (3, 4), (0, 4), (3, 0), (2, 3, 2)]
# Largest error allowed to sums of up to some tens of products, relative to the largest result.
TOLERANCE = {"float32": 1e-5, "float64": 1e-13}


def parameter_gradient(parameter, function):
    """Central difference of function() over the weights of a float64 parameter."""
    array = parameter.data.copy()

    def value():
        parameter.data = array
        return function()

    gradient = central_difference(value, array)
    parameter.data = array
    return gradient


def layers_of_all_kinds(dtype="float64"):
    return [
        RNN(3, 4, 2, "relu", bidirectional=True, dtype=dtype, seed=1),
        LSTM(3, 4, num_layers=2, batch_first=True, dropout=0.25, dtype=dtype, seed=2),
        GRU(5, 3, bias=False, reset_after=False, dtype=dtype, seed=3),
        Embedding(7, 3, padding_idx=-2, dtype=dtype, seed=4),
        Linear(3, 5, bias=False, dtype=dtype, seed=5),
        Linear(3, 5, dtype=dtype, seed=5),
        Dropout(0.75, seed=6),
        Sequential(Embedding(7, 3, dtype=dtype), Sequential(GRU(3, 2, dtype=dtype)), Dropout(0.5)),
        Sequential(),
        LayerNorm(5, 0.1, False, dtype=dtype),
        RNN(3, 4, nonlinearity=("leaky_relu", 0.1), clip=2.0, learned_state=True, dtype=dtype),
        RNN(3, 4, nonlinearity="prelu", bidirectional=True, merge_mode="sum", dtype=dtype),
        IndRNN(3, 4, 2, zoneout=0.1, dtype=dtype, seed=7),
        LSTM(3, 5, 2, proj_size=2, peephole=True, coupled=True, zoneout=(0, 0.1), dtype=dtype),
        LSTM(
            3, 4, activations=("hard_sigmoid", ("elu", 0.5), "identity"), cell_clip=1.5, dtype=dtype
        ),
        LSTM(3, 4, peephole=True, layer_norm=True, learned_state=True, dtype=dtype),
        GRU(3, 4, activations=("sigmoid", "softsign"), go_backwards=True, dtype=dtype),
        GRU(3, 4, layer_norm=True, bidirectional=True, dtype=dtype),
        AUGRU(3, 4, reset_after=False, clip=3.0, dtype=dtype, seed=8),
        BatchNorm(5, momentum=None, dtype=dtype),
        BatchNorm(5, affine=False, track_running_stats=False, batch_first=True, dtype=dtype),
        VariationalDropout(0.25, batch_first=True),
        *(LastStep(), MeanPooling(batch_first=True), MaxPooling(), Tanh(), Sigmoid(), ReLU()),
        *(Softmax(), Softmax(0)),
        Residual(Sequential(Linear(3, 2, dtype=dtype), LSTM(2, 3, dtype=dtype))),
        Highway(Residual(GRU(3, 3, dtype=dtype)), 3, -1.0, dtype=dtype, seed=7),
    ]


KINDS = range(len(layers_of_all_kinds()))


# Linear


@pytest.mark.parametrize("leading", LEADING)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_linear_is_x_times_weight_transposed_plus_bias(leading, bias, dtype):
    layer = Linear(5, 3, bias, dtype=dtype, seed=1)
    x = normal(*leading, 5, dtype=dtype)
    want = x.astype(np.float64) @ layer.weight.data.T.astype(np.float64)
    if bias:
        want += layer.bias.data
    y = layer(x)
    assert y.dtype == np.dtype(dtype)
    assert_close(y, want, TOLERANCE[dtype])
    assert np.array_equal(layer.vjp(x)[0], y)


@pytest.mark.parametrize("leading", LEADING)
@pytest.mark.parametrize("bias", [True, False])
def test_linear_gradients(leading, bias):
    layer = Linear(5, 3, bias, dtype="float64", seed=1)
    x, dy = normal(*leading, 5), normal(*leading, 3, seed=2)

    def loss():
        return float(np.sum(layer(x) * dy))

    _, pullback = layer.vjp(x)
    dx = pullback(dy)
    assert_close(dx, central_difference(loss, x), 1e-8)
    for name, parameter in layer.parameters().items():
        assert_close(parameter.grad, parameter_gradient(parameter, loss), 1e-8), name


def test_linear_gradients_add_up():
    layer = Linear(5, 3, dtype="float64", seed=1)
    x, dy = normal(7, 5), normal(7, 3)
    layer.vjp(x)[1](dy)
    once = {name: p.grad.copy() for name, p in layer.parameters().items()}
    layer.vjp(x)[1](dy)
    for name, parameter in layer.parameters().items():
        assert_close(parameter.grad, 2.0 * once[name], 1e-15)


@pytest.mark.parametrize("frozen", ["weight", "bias"])
def test_linear_frozen_parameters_get_no_gradient(frozen):
    layer = Linear(5, 3, seed=1)
    layer.parameters()[frozen].requires_grad = False
    x, dy = normal(7, 5, dtype="float32"), normal(7, 3, dtype="float32")
    dx = layer.vjp(x)[1](dy)
    assert_close(dx, dy @ layer.weight.data, 1e-5)
    for name, parameter in layer.parameters().items():
        assert (parameter.grad is None) == (name == frozen)


@pytest.mark.parametrize("dtype", DTYPES)
def test_linear_takes_any_strides_and_copies_only_if_it_must(dtype):
    layer = Linear(5, 3, dtype=dtype, seed=1)
    x = normal(4, 6, 5, dtype=dtype)
    assert np.shares_memory(layer._rows(x)[0], x)
    strided = np.repeat(x, 2, axis=1)[:, ::2]
    assert not strided.flags.c_contiguous
    assert np.array_equal(layer(strided), layer(x))
    dy = normal(4, 6, 3, dtype=dtype)
    assert np.array_equal(layer.vjp(x)[1](dy), layer.vjp(x)[1](np.asfortranarray(dy)))


def test_linear_converts_lists():
    layer = Linear(2, 1, seed=0)
    assert np.array_equal(layer([[1, 2]]), layer(np.array([[1.0, 2.0]], np.float32)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (17, 65), (64, 16), (130, 33)])
def test_linear_rows_have_the_same_bits_in_any_batch(set_num_threads, dtype, inputs, outputs):
    layer = Linear(inputs, outputs, dtype=dtype, seed=1)
    x = normal(67, inputs, dtype=dtype)
    set_num_threads(1)
    alone = np.concatenate([layer(row[None]) for row in x])
    for threads, rows in itertools.product((1, 2, 3), (1, 2, 5, 13, 67)):
        set_num_threads(threads)
        assert np.array_equal(layer(x[:rows]), alone[:rows])
        assert np.array_equal(layer(x[-rows:]), alone[-rows:])


@pytest.mark.parametrize("dtype", DTYPES)
def test_linear_gradients_have_the_same_bits_with_any_number_of_threads(set_num_threads, dtype):
    layer = Linear(67, 35, dtype=dtype, seed=1)
    x, dy = normal(531, 67, dtype=dtype), normal(531, 35, seed=2, dtype=dtype)
    results = []
    for threads in (1, 2, 3):
        set_num_threads(threads)
        layer.zero_grad()
        dx = layer.vjp(x)[1](dy)
        results.append([dx, *(parameter.grad for parameter in layer.parameters().values())])
    for other in results[1:]:
        assert all(map(np.array_equal, results[0], other))


def test_linear_initial_weights_are_uniform():
    layer = Linear(64, 500, dtype="float64", seed=3)
    bound = 1.0 / np.sqrt(64)
    for parameter, count in ((layer.weight, 32000), (layer.bias, 500)):
        values = parameter.data.ravel() / bound
        assert values.size == count
        assert np.abs(values).max() <= 1.0
        # Mean and variance of the uniform distribution over [-1, 1], within 5 standard errors.
        assert abs(values.mean()) < 5.0 * np.sqrt(1.0 / 3.0 / count)
        assert abs((values**2).mean() - 1.0 / 3.0) < 5.0 * np.sqrt(4.0 / 45.0 / count)


@pytest.mark.parametrize("layer_class", [Linear, Embedding])
def test_initial_weights_follow_the_seed(layer_class):
    def weight(**arguments):
        return layer_class(9, 5, **arguments).weight.data

    assert np.array_equal(weight(seed=1), weight(seed=np.random.default_rng(1)))
    assert not np.array_equal(weight(seed=1), weight(seed=2))
    assert not np.array_equal(weight(), weight())
    assert np.array_equal(weight(seed=1), weight(seed=1, dtype="float64").astype("float32"))


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (np.zeros((2, 4), np.float32), ValueError, r"x: expected the shape \(..., 5\), got \(2, 4"),
        (np.float32(1.0), ValueError, r"x: expected the shape \(..., 5\), got \(\)"),
        (np.zeros((2, 5)), TypeError, "x: expected an array of float32, got float64"),
        (np.zeros((2, 5), np.int64), TypeError, "x: expected an array of float32, got int64"),
        ([["a"] * 5], ValueError, "x: expected an array of float32"),
    ],
)
def test_linear_refuses_inputs(x, error, message):
    layer = Linear(5, 3)
    for function in (layer, layer.vjp):
        with pytest.raises(error, match=f"^{message}"):
            function(x)


@pytest.mark.parametrize(
    ("dy", "error", "message"),
    [
        (np.zeros((2, 4), np.float32), ValueError, r"dy: expected the output's shape \(2, 3\), go"),
        (np.zeros((3, 2), np.float32), ValueError, r"dy: expected the output's shape \(2, 3\), go"),
        (np.zeros((2, 3)), TypeError, "dy: expected an array of float32, got float64"),
    ],
)
def test_linear_refuses_gradients_and_writes_nothing(dy, error, message):
    layer = Linear(5, 3)
    _, pullback = layer.vjp(np.zeros((2, 5), np.float32))
    with pytest.raises(error, match=f"^{message}"):
        pullback(dy)
    assert layer.weight.grad is None
    assert layer.bias.grad is None


def test_linear_pullback_notices_changed_weights():
    layer = Linear(2, 2, seed=0)
    _, pullback = layer.vjp(np.zeros((1, 2), np.float32))
    layer.weight.data = np.zeros((2, 2))
    with pytest.raises(RuntimeError, match="the weights changed between"):
        pullback(np.zeros((1, 2), np.float32))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0, 3), ValueError, "in_features: expected at least 1, got 0"),
        ((3, -1), ValueError, "out_features: expected at least 1, got -1"),
        ((3.0, 1), TypeError, "in_features: expected an integer, got 3.0"),
        ((3, True), TypeError, "out_features: expected an integer, got True"),
        ((3, 1, 1), TypeError, "bias: expected True or False, got 1"),
    ],
)
def test_linear_refuses_arguments(arguments, error, message):
    with pytest.raises(error, match=f"^{message}"):
        Linear(*arguments)


# Embedding


@pytest.mark.parametrize("shape", LEADING)
@pytest.mark.parametrize("dtype", DTYPES)
def test_embedding_looks_vectors_up(shape, dtype):
    layer = Embedding(6, 3, dtype=dtype, seed=1)
    ids = np.random.default_rng(2).integers(0, 6, shape)
    y = layer(ids)
    assert y.shape == (*shape, 3)
    assert y.dtype == np.dtype(dtype)
    for index in np.ndindex(shape):
        assert np.array_equal(y[index], layer.weight.data[ids[index]])
    assert np.array_equal(layer.vjp(ids)[0], y)


@pytest.mark.parametrize("shape", LEADING)
def test_embedding_gradient_adds_repeated_ids_up(shape):
    layer = Embedding(4, 3, dtype="float64", seed=1)
    ids = np.random.default_rng(2).integers(0, 4, shape)
    dy = normal(*shape, 3)
    _, pullback = layer.vjp(ids)
    assert pullback(dy) is None
    want = parameter_gradient(layer.weight, lambda: float(np.sum(layer(ids) * dy)))
    assert_close(layer.weight.grad, want, 1e-8)


@pytest.mark.parametrize("padding_idx", [0, 2, 3, -1, -4])
def test_embedding_padding_starts_as_zeros_and_gets_no_gradient(padding_idx):
    layer = Embedding(4, 3, padding_idx, dtype="float64", seed=1)
    row = padding_idx % 4
    assert layer.padding_idx == row
    assert not layer.weight.data[row].any()
    others = np.arange(4) != row
    assert layer.weight.data[others].all()
    layer.weight.ensure_grad()[:] = 7.0  # what was there stays
    layer.vjp([0, 1, 2, 3, row, 1])[1](np.ones((6, 3)))
    want = np.array([8.0, 9.0, 8.0, 8.0])
    want[1] -= 1.0 if row == 1 else 0.0
    want[row] = 7.0
    assert layer.weight.grad.tolist() == np.repeat(want[:, None], 3, axis=1).tolist()


def test_embedding_frozen_gets_no_gradient():
    layer = Embedding(4, 3, seed=1)
    layer.weight.requires_grad = False
    layer.vjp([1])[1](np.ones((1, 3), np.float32))
    assert layer.weight.grad is None


def test_embedding_gradient_has_the_same_bits_with_any_number_of_threads(set_num_threads):
    layer = Embedding(11, 37, seed=1)
    ids = np.random.default_rng(2).integers(0, 11, 5000)
    dy = normal(5000, 37, dtype="float32")
    grads = []
    for threads in (1, 2, 3):
        set_num_threads(threads)
        layer.zero_grad()
        layer.vjp(ids)[1](dy)
        grads.append(layer.weight.grad)
    assert np.array_equal(grads[0], grads[1])
    assert np.array_equal(grads[0], grads[2])


def test_embedding_initial_weights_are_normal():
    values = Embedding(400, 80, dtype="float64", seed=3).weight.data.ravel()
    assert abs(values.mean()) < 5.0 / np.sqrt(values.size)
    assert abs((values**2).mean() - 1.0) < 5.0 * np.sqrt(2.0 / values.size)


@pytest.mark.parametrize(
    ("ids", "error", "message"),
    [
        ([[0, 4]], IndexError, r"ids: expected ids from 0 to 3 \(num_embeddings is 4\), got 4"),
        ([1, -1], IndexError, r"ids: expected ids from 0 to 3 \(num_embeddings is 4\), got -1"),
        (10**12, IndexError, "ids: expected ids from 0 to 3 .*, got 1000000000000"),
        (np.zeros(2), TypeError, "ids: expected an array of integers, got float64"),
        ([True], TypeError, "ids: expected an array of integers, got bool"),
    ],
)
def test_embedding_refuses_ids(ids, error, message):
    layer = Embedding(4, 3)
    for function in (layer, layer.vjp):
        with pytest.raises(error, match=f"^{message}"):
            function(ids)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "uint64"])
def test_embedding_takes_any_integers(dtype):
    layer = Embedding(4, 3, seed=1)
    assert np.array_equal(layer(np.array([3, 0], dtype)), layer.weight.data[[3, 0]])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0, 3), ValueError, "num_embeddings: expected at least 1, got 0"),
        ((3, 0), ValueError, "embedding_dim: expected at least 1, got 0"),
        ((3, 2, 3), ValueError, "padding_idx: expected less than num_embeddings 3, got 3"),
        ((3, 2, -4), ValueError, "padding_idx: expected at least -3, got -4"),
        ((3, 2, 1.0), TypeError, "padding_idx: expected an integer, got 1.0"),
    ],
)
def test_embedding_refuses_arguments(arguments, error, message):
    with pytest.raises(error, match=f"^{message}"):
        Embedding(*arguments)


# Dropout


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("p", [0.0, 0.25, 0.5, 0.9])
def test_dropout_drops_a_share_and_scales_the_rest(dtype, p):
    x = 1.0 + np.arange(20000, dtype=dtype).reshape(50, 400)
    y, pullback = Dropout(p, seed=1).vjp(x)
    assert y.dtype == np.dtype(dtype)
    kept = y != 0.0
    # Within 5 standard deviations of the binomial distribution.
    assert abs(kept.sum() - (1.0 - p) * x.size) <= 5.0 * np.sqrt(p * (1.0 - p) * x.size)
    assert_close(y, kept * x / (1.0 - p), 1e-6)
    dy = -x
    assert np.array_equal(pullback(dy), -y)


def test_dropout_of_everything_is_zero():
    y, pullback = Dropout(1.0).vjp(np.ones((3, 4)))
    assert not y.any()
    assert not pullback(np.ones((3, 4))).any()


def test_dropout_is_the_identity_in_inference():
    x = normal(3, 4)
    assert np.array_equal(Dropout(0.9)(x), x)


def test_dropout_follows_the_seed_and_draws_anew_each_time():
    x = np.ones(1000)
    one, same, other = Dropout(seed=1), Dropout(seed=1), Dropout(seed=2)
    first = one.vjp(x)[0]
    assert np.array_equal(first, same.vjp(x)[0])
    assert not np.array_equal(first, other.vjp(x)[0])
    assert not np.array_equal(first, one.vjp(x)[0])


@pytest.mark.parametrize("p", [-0.1, 1.1, np.nan, "0.5", True])
def test_dropout_refuses_probabilities(p):
    with pytest.raises((TypeError, ValueError), match=r"^p: expected a number"):
        Dropout(p)


def test_dropout_refuses_integers_and_wrong_gradients():
    with pytest.raises(TypeError, match="x: expected an array of float32 or float64, got int64"):
        Dropout()(np.arange(3))
    _, pullback = Dropout().vjp(np.zeros(3))
    with pytest.raises(ValueError, match=r"dy: expected the output's shape \(3,\), got \(4,\)"):
        pullback(np.zeros(4))


# Sequential


def test_sequential_without_recurrent_layers_is_the_composition():
    layers = Embedding(7, 5, dtype="float64", seed=1), Linear(5, 3, dtype="float64", seed=2)
    model = Sequential(*layers)
    assert not model.recurrent
    ids = np.array([[1, 2, 3], [4, 5, 6]])
    assert np.array_equal(model(ids), layers[1](layers[0](ids)))
    y, pullback = model.vjp(ids)
    assert np.array_equal(y, model(ids))
    dy = normal(2, 3, 3)
    assert pullback(dy) is None
    for parameter in model.parameters().values():
        want = parameter_gradient(parameter, lambda: float(np.sum(model(ids) * dy)))
        assert_close(parameter.grad, want, 1e-8)


def recurrent_model():
    return Sequential(
        Linear(2, 3, dtype="float64", seed=1),
        LSTM(3, 4, num_layers=2, dtype="float64", seed=2),
        Sequential(Linear(4, 3, dtype="float64", seed=3), GRU(3, 2, dtype="float64", seed=4)),
        Linear(2, 5, dtype="float64", seed=5),
    )


def recurrent_state(seed, batch):
    rng = np.random.default_rng(seed)
    lstm = rng.standard_normal((2, batch, 4)), rng.standard_normal((2, batch, 4))
    return lstm, (rng.standard_normal((1, batch, 2)),)


def flat(state):
    """The three arrays of a state of recurrent_model."""
    return [*state[0], state[1][0]]


def test_sequential_passes_states_and_lengths_on():
    model, x = recurrent_model(), normal(6, 3, 2)
    state, lengths = recurrent_state(1, 3), np.array([4, 6, 0])
    assert model.recurrent
    hidden, lstm_state = model[1](model[0](x), state[0], lengths)
    hidden, gru_state = model[2][1](model[2][0](hidden), state[1][0], lengths)
    y, last = model(x, state, lengths)
    assert np.array_equal(y, model[3](hidden))
    for got, want in zip(flat(last), [*lstm_state, gru_state], strict=True):
        assert np.array_equal(got, want)
    zeros = tuple(np.zeros_like(s) for s in state[0]), (np.zeros_like(state[1][0]),)
    for none in (None, (None, None), [None, (None,)]):
        assert np.array_equal(model(x, none)[0], model(x, zeros)[0])


@pytest.mark.parametrize("lengths", [None, [2, 4, 1]])
def test_sequential_gradients_of_input_state_and_parameters(lengths):
    model, x, state = recurrent_model(), normal(4, 3, 2), recurrent_state(1, 3)
    dy, dstate = normal(4, 3, 5, seed=3), recurrent_state(4, 3)

    def loss():
        y, last = model(x, state, lengths)
        products = [np.sum(s * ds) for s, ds in zip(flat(last), flat(dstate), strict=True)]
        return float(np.sum(y * dy) + sum(products))

    (y, last), pullback = model.vjp(x, state, lengths)
    assert np.array_equal(y, model(x, state, lengths)[0])
    assert all(map(np.array_equal, flat(last), flat(model(x, state, lengths)[1])))
    dx, dstate0 = pullback(dy, dstate)
    assert_close(dx, central_difference(loss, x), 1e-8)
    for got, array in zip(flat(dstate0), flat(state), strict=True):
        assert_close(got, central_difference(loss, array), 1e-8)
    assert len(model.parameters()) == 2 + 8 + 2 + 4 + 2
    for parameter in model.parameters().values():
        assert_close(parameter.grad, parameter_gradient(parameter, loss), 1e-8)


def test_sequential_pullback_takes_no_dstate_as_zeros():
    model, x, dy = recurrent_model(), normal(4, 3, 2), normal(4, 3, 5)
    zeros = tuple(np.zeros((2, 3, 4)) for _ in "hc"), (np.zeros((1, 3, 2)),)
    (_, pullback) = model.vjp(x)
    one, other = pullback(dy), pullback(dy, zeros)
    assert np.array_equal(one[0], other[0])
    assert all(map(np.array_equal, flat(one[1]), flat(other[1])))


@given(cut=st.integers(0, 6))
def test_sequential_in_two_parts_is_the_whole(cut):
    model, x = recurrent_model(), normal(6, 3, 2)
    whole, last = model(x)
    first, state = model(x[:cut])
    second, state = model(x[cut:], state)
    assert np.array_equal(np.concatenate([first, second]), whole)
    assert all(map(np.array_equal, flat(state), flat(last)))


def test_sequential_steps_are_the_whole():
    model, x, state = recurrent_model(), normal(6, 3, 2), recurrent_state(1, 3)
    whole, last = model(x, state)
    for t in range(6):
        y, state = model.step(x[t], state)
        assert np.array_equal(y, whole[t])
    assert all(map(np.array_equal, flat(state), flat(last)))


def test_sequential_is_a_sequence():
    layers = Linear(2, 3), Dropout(), Linear(3, 2)
    model = Sequential(*layers)
    assert len(model) == 3
    assert tuple(model) == layers
    assert model[-1] is layers[2]
    assert tuple(model[1:]) == layers[1:]
    assert list(model.parameters()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert next(iter(Sequential(Dropout(), model).parameters())) == "1.0.weight"
    assert list(model[2:].parameters()) == ["0.weight", "0.bias"]
    assert model.parameters()["2.bias"] is layers[2].bias
    with pytest.raises(IndexError):
        model[3]


def test_empty_sequential_is_the_identity():
    model, x = Sequential(), normal(3, 2)
    assert model(x) is x
    y, pullback = model.vjp(x)
    assert y is x
    assert pullback(y) is x


def test_sequential_drops_in_vjp_only():
    model = Sequential(Dropout(0.5, seed=1))
    x = np.ones(100)
    assert np.array_equal(model(x), x)
    assert 0 < np.count_nonzero(model.vjp(x)[0]) < 100


def test_sequential_refuses_what_is_no_layer():
    with pytest.raises(TypeError, match="layers: expected a Layer at position 1, got int"):
        Sequential(Dropout(), 3)


@pytest.mark.parametrize(
    ("state", "error", "message"),
    [
        ((None,), ValueError, "state: expected 2 entries, one for each recurrent layer, got 1"),
        ((None,) * 3, ValueError, "state: expected 2 entries, one for each recurrent lay.*, got 3"),
        (np.zeros((2, 1, 4)), TypeError, "state: expected a tuple, got ndarray"),
    ],
)
def test_sequential_refuses_states(state, error, message):
    model, x = recurrent_model(), normal(6, 3, 2)
    with pytest.raises(error, match=f"^{message}"):
        model(x, state)
    with pytest.raises(error, match=f"^{message}"):
        model.step(x[0], state)
    with pytest.raises(error, match=f"^{message}"):
        model.vjp(x, state)
    _, pullback = model.vjp(x)
    with pytest.raises(error, match=f"^d{message}"):
        pullback(normal(6, 3, 5), state)


def test_sequential_without_recurrent_layers_refuses_state_and_lengths():
    model, x = Sequential(Linear(2, 3, dtype="float64")), normal(6, 2)
    for arguments in [{"state": ()}, {"lengths": [1]}]:
        with pytest.raises(TypeError, match="expected None, the model has no recurrent layer"):
            model(x, **arguments)
        with pytest.raises(TypeError, match="expected None, the model has no recurrent layer"):
            model.vjp(x, **arguments)


# All layers


def test_all_layers_are_tested_here():
    elsewhere = ("fastrnn.attention", "fastrnn.decoders", "fastrnn.seq2seq")  # is what they test
    kinds = {
        name for name, kind in LAYER_CLASSES.items() if not kind.__module__.startswith(elsewhere)
    }
    assert {type(layer).__name__ for layer in layers_of_all_kinds()} == kinds


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_layers_are_built_from_their_description(kind, dtype):
    layer = layers_of_all_kinds(dtype)[kind]
    other = build_layer(describe_layer(layer))
    assert type(other) is type(layer)
    assert other.config() == layer.config()
    assert repr(other) == repr(layer)
    shapes = {name: parameter.shape for name, parameter in layer.parameters().items()}
    assert {name: p.shape for name, p in other.parameters().items()} == shapes
    assert {p.dtype for p in other.parameters().values()} <= {np.dtype(dtype)}
    other.load_state_dict(layer.state_dict())


@pytest.mark.parametrize("kind", KINDS)
def test_parameter_shapes_foretell_the_parameters(kind):
    layer = layers_of_all_kinds()[kind]
    want = [(name, parameter.shape) for name, parameter in layer.parameters().items()]
    assert list(type(layer).parameter_shapes(layer.config())) == want


@pytest.mark.parametrize(
    ("layer_class", "config"),
    [
        (RNN, {"input_size": 10**9, "hidden_size": 10**9, "num_layers": 10**12}),
        (LSTM, {"input_size": 10**9, "hidden_size": 10**9, "num_layers": 10**12}),
        (GRU, {"input_size": 10**9, "hidden_size": 10**9, "num_layers": 10**12}),
        (Linear, {"in_features": 10**12, "out_features": 10**12}),
        (Embedding, {"num_embeddings": 10**12, "embedding_dim": 10**12}),
    ],
)
def test_parameter_shapes_build_nothing(layer_class, config):
    name, shape = next(iter(layer_class.parameter_shapes(config)))
    assert name.startswith("weight")
    assert shape[-1] >= 10**9


@pytest.mark.parametrize(
    "description",
    [
        None,
        [],
        {"class": "Linear"},
        {"class": "Linear", "config": {}, "more": 1},
        {"class": "Linear", "config": []},
        {"class": "list", "config": {}},
        {"class": ["Linear"], "config": {}},
        {"class": "Layer", "config": {}},
        {"class": "Sequential", "config": {}},
        {"class": "Sequential", "config": {"layers": {}}},
        {"class": "Sequential", "config": {"layers": [], "more": 1}},
        {"class": "Sequential", "config": {"layers": ["Linear"]}},
    ],
)
def test_build_layer_refuses(description):
    with pytest.raises(ValueError, match="expected"):
        build_layer(description)


def test_describe_layer_refuses_other_classes():
    class Linear(Dropout):
        """Of the name of a known class, but another."""

    with pytest.raises(TypeError, match=r"layer: expected one of RNN, LSTM, .*, got Linear"):
        describe_layer(Linear())
    with pytest.raises(TypeError, match=r"layer: expected one of RNN, LSTM, .*, got list"):
        describe_layer([])


def test_repr_shows_the_arguments_that_are_no_defaults():
    model = Sequential(
        Sequential(Embedding(7, 3, 0), Dropout()), Linear(3, 2, False, dtype="float64")
    )
    assert repr(model) == (
        "Sequential(\n"
        "  (0): Sequential(\n"
        "    (0): Embedding(7, 3, padding_idx=0)\n"
        "    (1): Dropout(p=0.5)\n"
        "  )\n"
        "  (1): Linear(in_features=3, out_features=2, bias=False, dtype='float64')\n"
        ")"
    )
    assert repr(Sequential()) == "Sequential()"


@pytest.mark.parametrize("kind", KINDS)
def test_a_deep_copy_is_a_layer_of_its_own(kind):
    layer = layers_of_all_kinds()[kind]
    if kind in (0, 1):  # prepared weights are no part of it
        layer(normal(2, 1, 3))
    other = copy.deepcopy(layer)
    assert repr(other) == repr(layer)
    before = layer.state_dict()
    for name, parameter in other.parameters().items():
        assert np.array_equal(parameter.data, before[name])
        parameter.data = parameter.data + 1.0
    if kind in (0, 1):
        assert not np.array_equal(layer(normal(2, 1, 3))[0], other(normal(2, 1, 3))[0])
    for name, array in layer.state_dict().items():
        assert np.array_equal(array, before[name])
