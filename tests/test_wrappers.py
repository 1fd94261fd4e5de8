"""Residual, Highway, VariationalDropout, the activations, and lengths in models made of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastrnn
from fastrnn.activations import ReLU, Sigmoid, Softmax, Tanh
from fastrnn.layers import Dropout, Linear, Sequential, VariationalDropout
from fastrnn.normalization import BatchNorm, LayerNorm
from fastrnn.pooling import LastStep
from fastrnn.recurrent import GRU, LSTM
from fastrnn.wrappers import Highway, Residual
from layer_checks import assert_close, check_gradients, drawn, normal

LENGTHS = [5, 0, 2, 4]


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def inner_layers():
    return [
        Linear(3, 3, dtype="float64", seed=1),
        Sequential(Linear(3, 5, dtype="float64", seed=1), Tanh(), Linear(5, 3, dtype="float64")),
        GRU(3, 3, dtype="float64", seed=1),
        LSTM(3, 3, 2, dtype="float64", seed=1),
        Sequential(LSTM(3, 2, dtype="float64", seed=1), Linear(2, 3, dtype="float64", seed=2)),
    ]


def around(kind, layer):
    return drawn(Residual(layer) if kind == "residual" else Highway(layer, 3, dtype="float64"))


def joined(wrapper, x, inner):
    if isinstance(wrapper, Residual):
        return x + inner
    t = sigmoid(x @ wrapper.gate.weight.data.T + wrapper.gate.bias.data)
    return t * inner + (1.0 - t) * x


kinds = pytest.mark.parametrize("kind", ["residual", "highway"])


@kinds
@pytest.mark.parametrize("index", range(5))
def test_around_a_layer_is_its_formula(kind, index):
    layer = inner_layers()[index]
    wrapper, x = around(kind, layer), normal(5, 4, 3)
    if not layer.recurrent:
        assert_close(wrapper(x), joined(wrapper, x, layer(x)), 1e-14)
        assert np.array_equal(wrapper.vjp(x)[0], wrapper(x))
        return
    for lengths in (None, LENGTHS):
        (y, state), (inner, last) = wrapper(x, None, lengths), layer(x, None, lengths)
        assert_close(y, joined(wrapper, x, inner), 1e-14)
        assert repr(state) == repr(last)
        assert np.array_equal(wrapper.vjp(x, None, lengths)[0][0], y)
    state = None
    for step in range(5):
        y_t, state = wrapper.step(x[step], state)
        assert np.array_equal(y_t, wrapper(x)[0][step])


@kinds
@pytest.mark.parametrize("index", range(5))
@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_around_a_layer_gradients(kind, index, lengths):
    layer = inner_layers()[index]
    wrapper, x, dy = around(kind, layer), normal(5, 4, 3), normal(5, 4, 3, seed=1)
    if layer.recurrent:

        def run(x):
            (y, _), pullback = wrapper.vjp(x, None, lengths)
            return y, lambda dy: pullback(dy)[0]

        check_gradients(run, wrapper, x, dy)
    elif lengths is None:
        check_gradients(wrapper.vjp, wrapper, x, dy)


@kinds
def test_around_a_layer_state_gradients_pass_through(kind):
    layer = GRU(3, 3, dtype="float64", seed=1)
    wrapper, x, state = around(kind, layer), normal(5, 4, 3), normal(1, 4, 3, seed=1)
    dstate = normal(1, 4, 3, seed=2)
    (_, pullback), (_, want) = wrapper.vjp(x, state), layer.vjp(x, state)
    for got, expected in zip(pullback(None, dstate), want(None, dstate), strict=True):
        assert np.array_equal(got, expected)


def test_highway_begins_near_its_input():
    layer = Highway(Linear(4, 4, seed=1), 4, -30.0, seed=2)
    x = normal(7, 4, dtype="float32")
    assert_close(layer(x), x, 1e-6)
    assert np.array_equal(layer.gate.bias.data, np.full(4, -30.0))
    assert list(layer.parameters()) == ["layer.weight", "layer.bias", "gate.weight", "gate.bias"]


@kinds
def test_around_a_layer_refuses(kind):
    make = Residual if kind == "residual" else lambda layer: Highway(layer, 3)
    x = np.zeros((5, 2, 3), np.float32)
    with pytest.raises(TypeError, match="layer: expected a Layer, got list"):
        make([])
    with pytest.raises(ValueError, match=r"layer: expected one whose output is .* got LastStep"):
        make(LastStep())
    for function in (make(Linear(3, 4)), make(Linear(3, 4)).vjp):
        with pytest.raises(ValueError, match=r"input's shape \(5, 2, 3\), got \(5, 2, 4\)"):
            function(x)
    wrapper = make(Linear(3, 3))
    with pytest.raises(TypeError, match="state: expected None"):
        wrapper(x, state=())
    with pytest.raises(TypeError, match="lengths: expected None"):
        wrapper.vjp(x, lengths=[1, 2])
    with pytest.raises(TypeError, match="x: expected an array of float32 or float64, got int64"):
        wrapper(np.zeros((5, 2, 3), np.int64))
    with pytest.raises(ValueError, match="dy: expected the output's shape"):
        wrapper.vjp(x)[1](x[0])


def test_nested_wrappers_come_back_from_a_file(tmp_path):
    model = Sequential(
        Linear(4, 3, seed=1),
        Residual(Sequential(LayerNorm(3), Highway(LSTM(3, 3, seed=2), 3, -1.5, seed=3))),
        BatchNorm(3),
        VariationalDropout(0.1),
        LastStep(),
    )
    x = normal(5, 4, 4, dtype="float32")
    model.vjp(x, lengths=LENGTHS)  # running statistics other than those of the beginning
    fastrnn.save(model, tmp_path / "model.safetensors")
    other = fastrnn.load(tmp_path / "model.safetensors")
    assert repr(other) == repr(model)
    assert "1.layer.1.layer.weight_hh_l0" in other.parameters()
    assert np.array_equal(other(x, lengths=LENGTHS)[0], model(x, lengths=LENGTHS)[0])
    assert not other.parameters()["2.running_mean"].requires_grad


# Lengths in models


def deep_model(dtype="float64"):
    options = {"dtype": dtype, "seed": 1}
    return Sequential(
        Linear(3, 4, **options),
        BatchNorm(4, dtype=dtype),
        Residual(LSTM(4, 4, **options)),
        LayerNorm(4, dtype=dtype),
        Sequential(Highway(GRU(4, 4, **options), 4, **options), BatchNorm(4, dtype=dtype)),
    )


@given(data=st.data())
@pytest.mark.parametrize("pooling", [True, False])
def test_padding_changes_nothing_in_a_model_of_all_kinds(pooling, data):
    """Nor does it get in: neither outputs of real steps nor any gradient depend on it."""
    T, B = data.draw(st.integers(2, 5)), data.draw(st.integers(1, 4))
    lengths = np.array(data.draw(st.lists(st.integers(0, T), min_size=B, max_size=B)))
    lengths[data.draw(st.integers(0, B - 1))] = T
    padding = np.arange(T)[:, None] >= lengths
    x, dy = normal(T, B, 3), normal(*((B, 4) if pooling else (T, B, 4)), seed=1)
    results = []
    for value in (0.0, -3.0, 1e20):
        model = Sequential(deep_model(), LastStep()) if pooling else deep_model()
        x[padding] = value
        if not pooling:
            dy[padding] = 0.0  # as a loss with a mask leaves it
        (y, state), pullback = model.vjp(x, lengths=lengths)
        dx, _ = pullback(dy)
        assert not dx[padding].any()
        again = model(x, lengths=lengths)[0]
        if not pooling:
            y, again = y[~padding], again[~padding]
        gradients = [p.grad for p in model.parameters().values() if p.requires_grad]
        results.append([y, again, dx, *gradients, repr(state)])
    for other in results[1:]:
        assert all(map(np.array_equal, results[0], other))


def test_the_state_of_wrapped_layers_is_carried_on():
    model, x = deep_model(), normal(6, 2, 3)
    model.vjp(x)
    y, state = model(x)
    first, middle = model(x[:2])
    second, last = model(x[2:], middle)
    assert np.array_equal(np.concatenate([first, second]), y)
    assert repr(last) == repr(state)
    steps, state = [], None
    for step in x:
        y_t, state = model.step(step, state)
        steps.append(y_t)
    assert np.array_equal(np.stack(steps), y)


def test_checkpoints_reach_wrapped_layers():
    model, x, dy = deep_model(), normal(6, 2, 3), normal(6, 2, 4, seed=1)
    results = []
    for every in (None, 2):
        model.zero_grad()
        (y, _), pullback = model.vjp(x, checkpoint_every=every)
        gradients = [p.grad for p in model.parameters().values() if p.requires_grad]
        results.append([y, pullback(dy)[0], *gradients])
    assert all(map(np.array_equal, *results))
    with pytest.raises(ValueError, match="checkpoint_every: expected at least 1"):
        model.vjp(x, checkpoint_every=0)


# VariationalDropout


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_variational_dropout_has_one_mask_for_all_steps(dtype):
    x = np.ones((50, 30, 20), dtype)
    for batch_first, layout in ((False, x), (True, x.swapaxes(0, 1))):
        y, pullback = VariationalDropout(0.25, batch_first, seed=1).vjp(layout)
        assert y.dtype == np.dtype(dtype)
        time_first = y.swapaxes(0, 1) if batch_first else y
        assert (time_first == time_first[0]).all()
        values, counts = np.unique(time_first[0], return_counts=True)
        assert_close(values, np.array([0, 1 / 0.75]), 1e-6)
        assert abs(counts[0] / 600 - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 600)
        assert np.array_equal(pullback(layout), y)
    one = VariationalDropout(0.5, True, seed=2).vjp(np.ones((9, 40)))[0]
    assert (one == one[0]).all()
    assert len(np.unique(one[0])) == 2


def test_variational_dropout_draws_anew_and_is_the_identity_in_inference():
    layer, x = VariationalDropout(0.5, seed=1), normal(4, 5, 6)
    assert np.array_equal(layer(x), x)
    assert not np.array_equal(layer.vjp(x)[0], layer.vjp(x)[0])
    same = VariationalDropout(0.5, seed=1).vjp(x)[0]
    assert np.array_equal(same, VariationalDropout(0.5, seed=1).vjp(x)[0])
    with pytest.raises(ValueError, match=r"x: expected the shape \(T, B, F\) or \(T, F\), got"):
        layer.vjp(x[0, 0])
    assert not VariationalDropout(1.0).vjp(x)[0].any()
    assert isinstance(layer, Dropout)


# Activations


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("layer", "function"),
    [(Tanh(), np.tanh), (Sigmoid(), sigmoid), (ReLU(), lambda x: np.maximum(x, 0))],
)
def test_activations_are_their_functions(layer, function, dtype):
    for shape in ((), (0,), (7,), (3, 2, 5)):
        x = 3 * normal(*shape, dtype=dtype)
        y = layer(x)
        assert y.dtype == np.dtype(dtype)
        assert_close(y, function(x.astype(float)), 1e-6 if dtype == "float32" else 1e-14)
        assert np.array_equal(layer.vjp(x)[0], y)
    with pytest.raises(ValueError, match="dy: expected the output's shape"):
        layer.vjp(normal(3))[1](normal(4))


@pytest.mark.parametrize("layer", [Tanh(), Sigmoid(), ReLU(), Softmax(), Softmax(0)])
def test_activation_gradients(layer):
    check_gradients(layer.vjp, layer, normal(3, 4), normal(3, 4, seed=1))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("shape", "dim"), [((5,), -1), ((3, 40), 1), ((3, 4, 2), 1), ((2, 0), 1)])
def test_softmax_is_its_formula(shape, dim, dtype):
    x = 20 * normal(*shape, dtype=dtype)
    y = Softmax(dim)(x)
    exp = np.exp(x.astype(float))
    want = exp / exp.sum(dim, keepdims=True)
    assert y.dtype == np.dtype(dtype)
    assert_close(y, want, 1e-6 if dtype == "float32" else 1e-14)
    assert np.array_equal(Softmax(dim).vjp(x)[0], y)


def test_softmax_of_extremes():
    rows = np.array([[1e30, 0.0, -np.inf], [np.nan, 1.0, 2.0], [-np.inf] * 3, [np.inf, 0.0, 0.0]])
    y = Softmax()(rows)
    assert y[0].tolist() == [1.0, 0.0, 0.0]
    assert np.isnan(y[1:]).all()


def test_softmax_rejects():
    with pytest.raises(TypeError, match="dim: expected an integer, got None"):
        Softmax(None)
    with pytest.raises(IndexError, match=r"x: expected an axis 2, got an array of shape \(3, 4\)"):
        Softmax(2)(normal(3, 4))


def test_relu_shows_nan():
    assert np.isnan(ReLU()(np.array([np.nan, -1.0]))).tolist() == [True, False]


# masks and resets in models


def marked_model():
    def gru(seed):
        return GRU(3, 3, dtype="float64", seed=seed)

    return Sequential(
        Residual(gru(1)), Linear(3, 3, dtype="float64", seed=2), Highway(gru(3), 3, dtype="float64")
    )


def test_masks_and_resets_reach_the_recurrent_layers_of_a_model():
    model, x = marked_model(), normal(6, 4, 3)
    rng = np.random.default_rng(1)
    mask, resets = rng.random((6, 4)) < 0.7, rng.random((6, 4)) < 0.3
    y, (first, last) = model(x, mask=mask, resets=resets)
    inner, want_first = model[0](x, mask=mask, resets=resets)
    want, want_last = model[2](model[1](inner), mask=mask, resets=resets)
    assert np.array_equal(y, want)
    assert np.array_equal(first, want_first)
    assert np.array_equal(last, want_last)
    assert not np.array_equal(y, model(x)[0])
    (again, _), pullback = model.vjp(x, mask=mask, resets=resets)
    assert np.array_equal(again, y)

    def loss(x):
        return (model(x, mask=mask, resets=resets)[0] * dy).sum()

    dy, step = normal(6, 4, 3, seed=1), 1e-6 * normal(6, 4, 3, seed=2)
    slope = (pullback(dy)[0] * step).sum()
    assert_close((loss(x + step) - loss(x - step)) / 2, slope, 1e-6 * abs(slope) + 1e-14)


def test_marks_without_use_are_errors():
    mask = np.ones((6, 4), bool)
    with pytest.raises(ValueError, match=r"^mask: expected None in a model with LastStep"):
        Sequential(GRU(3, 3), LastStep())(normal(6, 4, 3, dtype="float32"), mask=mask)
    for layer in (Sequential(Linear(3, 3)), Residual(Linear(3, 3))):
        with pytest.raises(TypeError, match=r"^resets: expected None, the model has no recurrent"):
            layer(normal(6, 4, 3, dtype="float32"), resets=mask)


def test_a_wrapper_of_ones_own_layer_can_be_shown():
    class Doubled(fastrnn.Layer):
        def __repr__(self):
            return "Doubled()"

    assert repr(Residual(Doubled())) == "Residual(Doubled())"
    assert repr(Highway(Doubled(), 3)).startswith("Highway(Doubled(), features=3, gate_bias=-2.0")
