"""`accelerate`: layers and models of Keras give what they gave, and the kernels compute it.

On the backend that KERAS_BACKEND names, PyTorch if none; test_keras_backends.py runs this file on
the others.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_cases import BACKEND, FILTERS, interop, keras, numpy_of, value_and_gradients

pytestmark = [pytest.mark.filterwarnings(f) for f in FILTERS]

layers = keras.layers
EXAMPLES = 40 if BACKEND == "torch" else 6
B, T, I, H = 3, 5, 4, 6  # noqa: E741
STATES = {"SimpleRNN": 1, "GRU": 1, "LSTM": 2}


@pytest.fixture
def kernels(monkeypatch):
    """The kinds of the calls that reached the kernels, so far; of traces, where Keras traces."""
    calls = []
    run_cell = interop.backends.run_cell

    def counted(cell, *arguments):
        calls.append(interop.cells.kind_of(cell))
        return run_cell(cell, *arguments)

    monkeypatch.setattr(interop.backends, "run_cell", counted)
    return calls


def random_weights(layer, seed=0):
    """Weights that are no zeros, of a built layer."""
    rng = np.random.default_rng(seed)
    layer.set_weights([rng.normal(0, 0.4, w.shape) for w in layer.get_weights()])


def twin(layer, shape):
    """The layer built with random weights, and an accelerated copy of it."""
    copy = type(layer).from_config(layer.get_config())
    for each in (layer, copy):
        each.build(shape)
        random_weights(each)
    report = interop.accelerate(copy)
    assert report.replaced
    assert not report.left
    return layer, copy


def compare(layer, x, states=0, tolerance=2e-5, **options):
    """Results and all gradients of the layer beside its accelerated copy's."""
    plain, fast = twin(layer, x.shape)
    rng = np.random.default_rng(3)
    dtype = layer.compute_dtype
    if states:
        options["initial_state"] = [
            rng.normal(size=(len(x), H)).astype(dtype) for _ in range(states)
        ]
    shapes = [r.shape for r in numpy_of(plain(x, **_given(options)))]
    cotangents = [rng.normal(size=shape) for shape in shapes]
    want = value_and_gradients(plain, x, cotangents, **options)
    got = value_and_gradients(fast, x, cotangents, **options)
    for ours, theirs in zip(got[0] + got[1], want[0] + want[1], strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance)


def _given(options):
    return {**options, "initial_state": options.get("initial_state")}


@st.composite
def cases(draw):
    """The class and the options of a recurrent layer, how it is merged if at all, and a mask."""
    kind = draw(st.sampled_from(list(STATES)))
    names = ("use_bias", "return_sequences", "return_state", "zero_output_for_mask")
    options = {name: draw(st.booleans()) for name in names}
    options["dtype"] = draw(st.sampled_from(DTYPES))
    if kind == "GRU":
        options["reset_after"] = draw(st.booleans())
    if kind == "SimpleRNN":
        options["activation"] = draw(st.sampled_from(["tanh", "relu"]))
    merge_mode = draw(st.sampled_from(["one", "one", "concat", "sum", "mul", "ave", None]))
    options["go_backwards"] = merge_mode == "one" and draw(st.booleans())
    mask = None
    if draw(st.booleans()):
        mask = np.array(draw(st.lists(st.booleans(), min_size=B * T, max_size=B * T)))
        mask = mask.reshape(B, T)
        if draw(st.booleans()):
            mask = np.sort(mask, axis=1)[:, ::-1]  # padded on the right
    return kind, options, merge_mode, mask


# JAX has float64 only where it is switched on for the whole process.
DTYPES = ["float32"] if BACKEND == "jax" else ["float32", "float64"]


@given(cases(), st.booleans(), st.integers(1, B), st.integers(1, T))
@settings(max_examples=EXAMPLES)
def test_layers_give_the_same_results_and_gradients(case, with_states, rows, steps):
    kind, options, merge_mode, mask = case
    layer, states = getattr(layers, kind)(H, **options), STATES[kind]
    if merge_mode != "one":
        states *= 2
        layer = layers.Bidirectional(layer, merge_mode=merge_mode, dtype=options["dtype"])
    x = np.random.default_rng(1).normal(size=(rows, steps, I)).astype(options["dtype"])
    mask = None if mask is None else keras.ops.convert_to_tensor(mask[:rows, :steps].copy())
    compare(layer, x, states * with_states, mask=mask)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kind", STATES)
def test_the_kernels_run(kind, masked, kernels):
    layer = getattr(layers, kind)(H)
    mask = keras.ops.convert_to_tensor(np.eye(B, T) == 0) if masked else None
    compare(layer, np.ones((B, T, I), np.float32), mask=mask)
    assert set(kernels) == {{"SimpleRNN": "rnn_tanh"}.get(kind, kind.lower())}


def test_stacked_cells_of_all_kinds(kernels):
    cells = [layers.LSTMCell(H), layers.GRUCell(H), layers.SimpleRNNCell(H, activation="relu")]
    layer = layers.RNN(cells, return_sequences=True, return_state=True)
    x = np.random.default_rng(1).normal(size=(B, T, I)).astype("float32")
    compare(layer, x, mask=keras.ops.convert_to_tensor(np.eye(B, T) == 0))
    assert {"lstm", "gru", "rnn_relu"} == set(kernels)


@pytest.mark.parametrize("kind", STATES)
def test_dropout_of_inputs_draws_the_same_masks(kind, kernels):
    plain, fast = (
        getattr(layers, kind)(H, dropout=0.5, seed=4, return_sequences=True) for _ in range(2)
    )
    for layer in (plain, fast):
        layer.build((B, T, I))
        random_weights(layer)
    interop.accelerate(fast)
    x = np.ones((B, T, I), np.float32)
    for training in (True, False, True):
        want, got = (numpy_of(each(x, training=training)) for each in (plain, fast))
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)
    assert len(kernels) == 3


def test_recurrent_dropout_goes_the_way_of_keras_in_training_only(kernels):
    plain, fast = twin(layers.LSTM(H, recurrent_dropout=0.5, seed=4), (B, T, I))
    x = np.ones((B, T, I), np.float32)
    for training in (True, False):
        want, got = (numpy_of(each(x, training=training)) for each in (plain, fast))
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)
    assert kernels == ["lstm"]


@pytest.mark.parametrize("kind", STATES)
def test_stateful_layers_carry_their_states_on(kind, kernels):
    layer = getattr(layers, kind)(H, stateful=True, return_sequences=True)
    plain, fast = twin(layer, (B, T, I))
    x = np.random.default_rng(1).normal(size=(3, B, T, I)).astype("float32")
    for part in x:
        want, got = (numpy_of(each(part)) for each in (plain, fast))
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)
    for ours, theirs in zip(fast.states, plain.states, strict=True):
        np.testing.assert_allclose(numpy_of(ours), numpy_of(theirs), rtol=0, atol=1e-5)
    assert kernels


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: layers.LSTM(H, activation="relu"), "activation=relu"),
        (lambda: layers.GRU(H, recurrent_activation="hard_sigmoid"), "hard_sigmoid"),
        (lambda: layers.SimpleRNN(H, activation=None), "activation=linear"),
        (lambda: layers.LSTM(H, dtype="mixed_bfloat16"), "bfloat16"),
        (lambda: layers.GRU(H, use_cudnn=True), "cuDNN"),
        (lambda: layers.RNN(OwnCell(H)), "OwnCell"),
        (lambda: layers.RNN([layers.LSTMCell(H)]), "stack of one"),
        (lambda: OwnLoop(H), "inner_loop of its own"),
    ],
)
def test_layers_that_are_left_say_why(make, reason):
    layer = make()
    report = interop.accelerate(layer)
    assert report.replaced == []
    assert reason in next(iter(report.left.values()))
    assert reason in str(report)
    assert reason in interop.explain(layer)
    assert "inner_loop" not in vars(layer)


class OwnCell(layers.LSTMCell):
    """A cell that may compute anything."""


class OwnLoop(layers.LSTM):
    """A layer that may do anything."""

    def inner_loop(self, *args, **kwargs):
        return super().inner_loop(*args, **kwargs)


class Nested(keras.Model):
    """Recurrent layers at several depths of a subclassed model."""

    def __init__(self):
        super().__init__()
        self.first = layers.Bidirectional(layers.LSTM(H, return_sequences=True))
        self.rest = keras.Sequential([layers.GRU(H, return_sequences=True), layers.SimpleRNN(H)])
        self.left = layers.LSTM(H, activation="relu")

    def call(self, x):
        x = self.first(x)
        return self.rest(x) + self.left(x)


def functional():
    x = keras.Input((None,), dtype="int32")
    y = layers.Embedding(7, I, mask_zero=True)(x)
    y = layers.Bidirectional(layers.LSTM(H, return_sequences=True))(y)
    y = layers.GRU(H)(y)
    return keras.Model(x, layers.Dense(1)(y))


def test_a_nested_model_is_accelerated_and_restored(kernels):
    model = Nested()
    x = np.random.default_rng(1).normal(size=(B, T, I)).astype("float32")
    want = numpy_of(model(x))
    report = interop.accelerate(model)
    assert len(report.replaced) == 4
    assert list(report.left.values()) == ["activation=relu"]
    np.testing.assert_allclose(numpy_of(model(x)), want, rtol=0, atol=1e-5)
    assert sorted(kernels) == ["gru", "lstm", "lstm", "rnn_tanh"]
    assert interop.accelerate(model) == report
    assert sorted(interop.restore(model)) == sorted(report.replaced)
    kernels.clear()
    np.testing.assert_allclose(numpy_of(model(x)), want, rtol=0, atol=1e-5)
    assert kernels == []
    assert interop.restore(model) == []


def train(model, x, y):
    keras.utils.set_random_seed(0)
    model.compile(keras.optimizers.SGD(0.1), "mse")
    history = model.fit(x, y, batch_size=4, epochs=2, verbose=0, shuffle=False)
    score = model.evaluate(x, y, batch_size=4, verbose=0)
    return [*history.history["loss"], score], model.predict(x, batch_size=4, verbose=0)


def test_fit_evaluate_and_predict_of_a_masked_model(kernels):
    rng = np.random.default_rng(1)
    x = np.where(rng.random((8, T)) < 0.7, rng.integers(1, 7, (8, T)), 0)
    y = rng.normal(size=(8, 1)).astype("float32")
    plain = functional()
    fast = keras.models.clone_model(plain)
    for model in (plain, fast):
        random_weights(model)
    want_losses, want = train(plain, x, y)
    assert not kernels
    interop.accelerate(fast)
    losses, got = train(fast, x, y)
    assert {"lstm", "gru"} == set(kernels)
    np.testing.assert_allclose(losses, want_losses, rtol=1e-4)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-4)


def test_a_model_that_was_used_before_is_traced_anew(kernels):
    model = functional()
    model.compile("sgd", "mse")
    x = np.arange(2 * T).reshape(2, T) % 7
    want = model.predict(x, verbose=0)
    interop.accelerate(model)
    np.testing.assert_allclose(model.predict(x, verbose=0), want, rtol=0, atol=1e-5)
    assert kernels
    kernels.clear()
    interop.restore(model)
    np.testing.assert_allclose(model.predict(x, verbose=0), want, rtol=0, atol=1e-5)
    assert not kernels


def test_a_saved_model_is_plain_keras(tmp_path, kernels):
    model = functional()
    interop.accelerate(model)
    x = np.arange(2 * T).reshape(2, T) % 7
    want = numpy_of(model(x))
    kernels.clear()
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(numpy_of(loaded(x)), want, rtol=0, atol=1e-5)
    assert not kernels


def test_enable_and_disable_all_layers(kernels):
    x = np.ones((B, T, I), np.float32)
    layer = layers.LSTM(H)
    want = numpy_of(layer(x))
    assert not kernels
    interop.enable()
    try:
        np.testing.assert_allclose(numpy_of(layer(x)), want, rtol=0, atol=1e-5)
        layers.SimpleRNN(H)(x)
        assert interop.explain(layer) is None
    finally:
        interop.disable()
    assert kernels == ["lstm", "rnn_tanh"]
    layer(x)
    assert kernels == ["lstm", "rnn_tanh"]


def test_what_is_no_model_is_an_error():
    with pytest.raises(TypeError, match="model: expected a Keras model or layer, got list"):
        interop.accelerate([])


@pytest.mark.parametrize("shape", [(0, T, I), (B, T, I + 1)])
def test_odd_shapes_do_what_keras_does(shape, kernels):
    plain, fast = twin(layers.GRU(H), (B, T, I))
    outcomes = []
    for layer in (plain, fast):
        try:
            outcomes.append(numpy_of(layer(np.ones(shape, np.float32)))[0].shape)
        except Exception as error:
            outcomes.append(type(error))
    assert outcomes[0] == outcomes[1]
    assert not kernels
