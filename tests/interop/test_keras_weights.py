"""`from_keras` and `to_keras`: layers that give the same outputs, states and masks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastrnn
from keras_cases import FILTERS, interop, keras, numpy_of

pytestmark = [pytest.mark.filterwarnings(f) for f in FILTERS]

layers = keras.layers
B, T, I, H = 3, 5, 4, 6  # noqa: E741
FUNCTIONS = ["linear", "tanh", "sigmoid", "relu", "leaky_relu", "hard_sigmoid", "elu"]
FUNCTIONS += ["softsign", "softplus"]


def same_results(theirs, ours, masked):
    """Compare outputs and final states of layers that return both."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=(B, T, I)).astype(ours.dtype)
    mask = rng.random((B, T)) < 0.6 if masked else None
    D, lstm = 1 + ours.bidirectional, isinstance(ours, fastrnn.LSTM)
    first = rng.normal(size=(1 + lstm, D, B, H)).astype(ours.dtype)
    flat = [first[s, d] for d in range(D) for s in range(1 + lstm)]
    given_mask = None if mask is None else keras.ops.convert_to_tensor(mask)
    y, *last = numpy_of(theirs(x, mask=given_mask, initial_state=flat))
    got, state = ours(x, tuple(first) if lstm else first[0], mask=mask)
    np.testing.assert_allclose(got, y, rtol=0, atol=2e-5)
    state = state if lstm else (state,)
    own = [s[d] for d in range(D) for s in state]
    np.testing.assert_allclose(own, last, rtol=0, atol=2e-5)


def with_random_weights(layer):
    layer.build((B, T, I))
    rng = np.random.default_rng(0)
    layer.set_weights([rng.normal(0, 0.4, w.shape) for w in layer.get_weights()])
    return layer


@st.composite
def options(draw):
    """Class, arguments and merge of a layer of Keras."""
    kind = draw(st.sampled_from(["SimpleRNN", "LSTM", "GRU"]))
    arguments = {
        "activation": draw(st.sampled_from(FUNCTIONS)),
        "use_bias": draw(st.booleans()),
        "dtype": draw(st.sampled_from(["float32", "float64"])),
    }
    if kind != "SimpleRNN":
        arguments["recurrent_activation"] = draw(st.sampled_from(FUNCTIONS[1:3] + FUNCTIONS[5:6]))
    if kind == "GRU":
        arguments["reset_after"] = draw(st.booleans())
    merge_mode = draw(st.sampled_from([None, "concat", "sum", "ave", "mul"]))
    arguments["go_backwards"] = merge_mode is None and draw(st.booleans())
    return kind, arguments, merge_mode


@given(options(), st.booleans())
@settings(max_examples=40)
def test_there_and_back(case, masked):
    kind, arguments, merge_mode = case
    both = {"return_sequences": True, "return_state": True}
    theirs = getattr(layers, kind)(H, **arguments, **both)
    if merge_mode is not None:
        theirs = layers.Bidirectional(theirs, merge_mode=merge_mode, dtype=arguments["dtype"])
    theirs = with_random_weights(theirs)
    ours = interop.from_keras(theirs)
    same_results(theirs, ours, masked)
    again = interop.to_keras(ours, return_state=True)
    assert type(again) is type(theirs)
    for one, other in zip(again.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    same_results(again, ours, masked)


def test_the_two_biases_of_fastrnn_are_added_up():
    ours = fastrnn.LSTM(I, H, batch_first=True, seed=1)
    same_results(interop.to_keras(ours, return_state=True), ours, False)


def test_a_layer_of_a_cell():
    theirs = layers.RNN(layers.GRUCell(H), return_sequences=True, return_state=True)
    same_results(theirs, interop.from_keras(with_random_weights(theirs)), True)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: layers.Dense(3), TypeError, "got Dense"),
        (lambda: layers.RNN([layers.GRUCell(H)] * 2), TypeError, "got StackedRNNCells"),
        (lambda: layers.LSTM(H, activation="gelu"), ValueError, "activation of .*, got gelu"),
        (
            lambda: layers.LSTM(H, dtype="float16", recurrent_initializer="zeros"),
            ValueError,
            "float32 or float64, got float16",
        ),
        (
            lambda: layers.GRU(H, zero_output_for_mask=True),
            ValueError,
            "zero_output_for_mask=False",
        ),
        (lambda: layers.Bidirectional(layers.GRU(H), merge_mode=None), ValueError, "merge_mode"),
        (
            lambda: layers.Bidirectional(
                layers.GRU(H), backward_layer=layers.LSTM(H, go_backwards=True)
            ),
            ValueError,
            "differ in their weights only",
        ),
        (
            lambda: layers.Bidirectional(
                layers.GRU(H, go_backwards=True), backward_layer=layers.GRU(H)
            ),
            ValueError,
            "forward layer with go_backwards=False, got True",
        ),
    ],
)
def test_what_cannot_come_from_keras_says_why(make, error, message):
    layer = make()
    layer.build((B, T, I))
    with pytest.raises(error, match=message):
        interop.from_keras(layer)


def test_a_layer_that_is_not_built():
    with pytest.raises(ValueError, match="expected a built layer, got lstm"):
        interop.from_keras(layers.LSTM(H, name="lstm"))


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (fastrnn.LSTM(I, H, num_layers=2), "num_layers=2"),
        (fastrnn.LSTM(I, H, proj_size=2), "proj_size=2"),
        (fastrnn.LSTM(I, H, peephole=True), "peephole=True"),
        (fastrnn.GRU(I, H, clip=1.0), "clip=1.0"),
        (fastrnn.RNN(I, H, learned_state=True), "learned_state=True"),
        (fastrnn.LSTM(I, H, zoneout=(0.1, 0.0)), "zoneout"),
        (fastrnn.RNN(I, H, nonlinearity=("elu", 0.5)), r"activation \['elu', 0.5\]"),
        (fastrnn.LSTM(I, H, activations=("sigmoid", "tanh", "relu")), "'tanh' and 'relu'"),
    ],
)
def test_what_cannot_go_to_keras_says_why(layer, message):
    with pytest.raises(ValueError, match=message):
        interop.to_keras(layer)


def test_other_layers_do_not_go_to_keras():
    with pytest.raises(TypeError, match="expected RNN, LSTM or GRU, got Linear"):
        interop.to_keras(fastrnn.Linear(I, H))
