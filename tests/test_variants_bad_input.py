"""Wrong options of the recurrent layers, and wrong masks, resets and scores, are errors that name
the argument, what was expected and what came."""

import re

import numpy as np
import pytest

import fastrnn

LAYERS = ("RNN", "LSTM", "GRU", "IndRNN")
NAN, INF = float("nan"), float("inf")

# What holds for all four: argument, value, exception, words of the message.
OPTIONS = [
    ("clip", 0, ValueError, "above 0, got 0"),
    ("clip", -1.0, ValueError, "got -1.0"),
    ("clip", NAN, ValueError, "got nan"),
    ("clip", "1", TypeError, "a number, got '1'"),
    ("clip", True, TypeError, "a number, got True"),
    ("clip", [1.0], TypeError, "a number, got [1.0]"),
    ("zoneout", 1.5, ValueError, "from 0.0 to 1.0, got 1.5"),
    ("zoneout", -0.1, ValueError, "from 0.0 to 1.0, got -0.1"),
    ("zoneout", NAN, ValueError, "got nan"),
    ("zoneout", "a", TypeError, "a number, got 'a'"),
    ("zoneout", None, TypeError, "a number, got None"),
    ("zoneout", (0.1, 0.2, 0.3), ValueError, "got (0.1, 0.2, 0.3)"),
    ("zoneout", (), ValueError, "got ()"),
    ("weight_dropout", 1.1, ValueError, "from 0.0 to 1.0, got 1.1"),
    ("weight_dropout", "a", TypeError, "a number, got 'a'"),
    ("merge_mode", "ave", ValueError, "'concat', 'sum', 'mean', 'mul', got 'ave'"),
    ("merge_mode", None, ValueError, "got None"),
    ("merge_mode", ["sum"], ValueError, "got ['sum']"),
    ("go_backwards", 1, TypeError, "True or False, got 1"),
    ("learned_state", "yes", TypeError, "True or False, got 'yes'"),
]
# And of one alone.
OWN_OPTIONS = [
    ("RNN", "recurrent_dropout", 2, ValueError, "from 0.0 to 1.0, got 2"),
    ("LSTM", "recurrent_dropout", -0.5, ValueError, "from 0.0 to 1.0, got -0.5"),
    ("GRU", "recurrent_dropout", None, TypeError, "a number, got None"),
    ("RNN", "zoneout", (0.1, 0.2), ValueError, "a number, got (0.1, 0.2)"),
    ("GRU", "zoneout", [0.1, 0.2], ValueError, "a number, got [0.1, 0.2]"),
    ("LSTM", "zoneout", (0.1, 2), ValueError, "from 0.0 to 1.0, got 2"),
    ("LSTM", "zoneout", (0.1,), ValueError, "(of h, of c), got (0.1,)"),
    ("LSTM", "proj_size", -1, ValueError, "at least 0, got -1"),
    ("LSTM", "proj_size", 5, ValueError, "less than hidden_size, got 5"),
    ("LSTM", "proj_size", 2.5, TypeError, "an integer, got 2.5"),
    ("LSTM", "proj_size", True, TypeError, "an integer, got True"),
    ("LSTM", "proj_size", None, TypeError, "an integer, got None"),
    ("LSTM", "peephole", 1, TypeError, "True or False, got 1"),
    ("LSTM", "coupled", None, TypeError, "True or False, got None"),
    ("LSTM", "cell_clip", 0.0, ValueError, "above 0, got 0.0"),
    ("LSTM", "cell_clip", "a", TypeError, "a number, got 'a'"),
    ("LSTM", "activations", "tanh", ValueError, "3, of gates, g, c, got 'tanh'"),
    ("LSTM", "activations", None, ValueError, "3, of gates, g, c, got None"),
    ("LSTM", "activations", ("tanh",) * 4, ValueError, "3, of gates, g, c, got ('tanh'"),
    ("GRU", "activations", ("tanh",) * 3, ValueError, "2, of gates, n, got ('tanh'"),
    ("GRU", "activations", ("tanh", "gelu"), ValueError, "softplus, identity, got 'gelu'"),
    ("GRU", "activations", ("prelu", "tanh"), ValueError, "identity, got 'prelu'"),
    ("GRU", "activations", (None, "tanh"), ValueError, "got None"),
    ("GRU", "activations", ("tanh", ()), ValueError, "got ()"),
    ("GRU", "reset_after", 1, TypeError, "True or False, got 1"),
    ("RNN", "nonlinearity", "gelu", ValueError, "identity, prelu, got 'gelu'"),
    ("RNN", "nonlinearity", 3, ValueError, "got 3"),
    ("RNN", "nonlinearity", ("elu", 1, 2), ValueError, "at most 1 numbers after 'elu', got"),
    ("RNN", "nonlinearity", ("tanh", 1), ValueError, "at most 0 numbers after 'tanh', got"),
    ("RNN", "nonlinearity", ("prelu", 1), ValueError, "got ('prelu', 1)"),
    ("RNN", "nonlinearity", ("elu", INF), ValueError, "finite numbers after 'elu', got"),
    ("RNN", "nonlinearity", ("elu", NAN), ValueError, "got nan"),
    ("IndRNN", "nonlinearity", ("affine", 1, "b"), TypeError, "a number, got 'b'"),
    ("IndRNN", "nonlinearity", ("elu", True), TypeError, "a number, got True"),
]


def check_refused(error, name, words, function):
    with pytest.raises(error, match=f"^{name}.*: expected.*{re.escape(words)}"):
        function()


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize(("name", "value", "error", "words"), OPTIONS)
def test_options(kind, name, value, error, words):
    check_refused(error, name, words, lambda: getattr(fastrnn, kind)(4, 5, **{name: value}))


@pytest.mark.parametrize(("kind", "name", "value", "error", "words"), OWN_OPTIONS)
def test_own_options(kind, name, value, error, words):
    check_refused(error, name, words, lambda: getattr(fastrnn, kind)(4, 5, **{name: value}))


def test_options_that_exclude_each_other():
    check_refused(
        ValueError,
        "go_backwards",
        "bidirectional layer, got True",
        lambda: fastrnn.GRU(4, 5, go_backwards=True, bidirectional=True),
    )
    check_refused(
        ValueError,
        "zoneout",
        "0 for h with proj_size, got 0.1",
        lambda: fastrnn.LSTM(4, 5, zoneout=0.1, proj_size=2),
    )


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("name", ["peephole", "proj_size", "attention", "cell_clip"])
def test_options_of_others(kind, name):
    if kind != "LSTM" or name == "attention":
        with pytest.raises(TypeError, match=name):
            getattr(fastrnn, kind)(4, 5, **{name: 1})


# ------------------------------------------------------------------------------- calls

T, B = 3, 2
X = np.zeros((T, B, 4), np.float32)
FLAGS = [
    (np.ones((T, B)), TypeError, "an array of bools, got float64"),
    (np.ones((T, B), int), TypeError, "an array of bools, got int64"),
    ([[1, 0]] * T, TypeError, "an array of bools, got int64"),
    ("a", TypeError, "an array of bools, got <U1"),
    ([None] * T, TypeError, "an array of bools, got object"),
    ([[True], [True, False]], ValueError, "an array of bools"),
    (np.ones((B, T), bool), ValueError, "the shape (3, 2), got (2, 3)"),
    (np.ones((T, B, 1), bool), ValueError, "the shape (3, 2), got (3, 2, 1)"),
    (True, ValueError, "the shape (3, 2), got ()"),
]
CALLS = {
    "call": lambda layer, *a, **k: layer(*a, **k),
    "vjp": lambda layer, *a, **k: layer.vjp(*a, **k),
    "cell_states": lambda layer, *a, **k: layer.cell_states(*a, **k),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("name", ["mask", "resets"])
@pytest.mark.parametrize(("value", "error", "words"), FLAGS)
def test_flags(call, name, value, error, words):
    layer = fastrnn.LSTM(4, 5)
    check_refused(error, name, words, lambda: CALLS[call](layer, X, **{name: value}))


@pytest.mark.parametrize("name", ["mask", "resets"])
def test_flags_are_laid_out_as_x(name):
    flags = np.ones((T, B), bool)
    one, batch_first = fastrnn.GRU(4, 5), fastrnn.GRU(4, 5, batch_first=True)
    check_refused(
        ValueError, name, "the shape (3,), got (3, 2)", lambda: one(X[:, 0], **{name: flags})
    )
    x = np.zeros((B, T, 4), np.float32)
    check_refused(
        ValueError,
        name,
        "the shape (2, 3), got (3, 2)",
        lambda: batch_first.vjp(x, **{name: flags}),
    )
    with pytest.raises(TypeError, match="positional"):
        one(X, None, None, flags)


SCORES = [
    (np.ones((T, B)), TypeError, "an array of float32, got float64"),
    (np.ones((T, B), int), TypeError, "an array of float32, got int64"),
    (None, TypeError, "an array, got None"),
    (np.ones((B, T), np.float32), ValueError, "the shape (3, 2), got (2, 3)"),
    (np.ones((T, B, 1), np.float32), ValueError, "the shape (3, 2), got (3, 2, 1)"),
    (1.0, ValueError, "the shape (3, 2), got ()"),
]


@pytest.mark.parametrize("call", ["call", "vjp"])
@pytest.mark.parametrize(("value", "error", "words"), SCORES)
def test_attention(call, value, error, words):
    layer = fastrnn.AUGRU(4, 5)
    check_refused(error, "attention", words, lambda: CALLS[call](layer, X, value))


def test_attention_of_a_step():
    layer = fastrnn.AUGRU(4, 5)
    for value, error, words in [
        (None, TypeError, "an array, got None"),
        (np.ones(B), TypeError, "an array of float32, got float64"),
        (np.ones(3, np.float32), ValueError, "the shape (2,), got (3,)"),
        (0.5, ValueError, "the shape (2,), got ()"),
    ]:
        check_refused(error, "attention", words, lambda value=value: layer.step(X[0], value))
    y, _ = layer.step(X[0], np.full(B, 0.5, np.float32))
    one, _ = layer.step(X[0, 0], 0.5)
    assert np.array_equal(y[0], one)
    with pytest.raises(TypeError, match="attention"):
        layer(X)


def test_a_step_backwards():
    layer = fastrnn.RNN(4, 5, go_backwards=True)
    check_refused(
        ValueError, "step", "forward, got one that goes backwards", lambda: layer.step(X[0])
    )


def test_states_of_a_projection():
    layer = fastrnn.LSTM(4, 5, proj_size=2)
    h, c = np.zeros((1, B, 2), np.float32), np.zeros((1, B, 5), np.float32)
    _, pullback = layer.vjp(X, (h, c))
    for name, state, words in [
        ("state.0. .h.", (c, c), "the shape (1, 2, 2), got (1, 2, 5)"),
        ("state.1. .c.", (h, h), "the shape (1, 2, 5), got (1, 2, 2)"),
    ]:
        check_refused(ValueError, name, words, lambda state=state: layer(X, state))
        check_refused(ValueError, "d" + name[:8], words, lambda state=state: pullback(None, state))
    check_refused(
        ValueError, "dy", "(3, 2, 2), got (3, 2, 5)", lambda: pullback(np.zeros((T, B, 5), "f"))
    )
    assert all(p.grad is None for p in layer.parameters().values()), "nothing is half-written"


# --------------------------------------------------------------------------- what is taken


def test_numbers_of_numpy_make_the_same_configuration():
    """Which has plain numbers, as JSON takes them."""
    layer = fastrnn.LSTM(
        np.int64(4),
        np.int32(5),
        clip=np.float32(0.5),
        zoneout=(np.float64(0.25), 0),
        activations=["sigmoid", ("elu", np.float32(0.5)), "Tanh"],
        peephole=np.True_,
        cell_clip=INF,
    )
    plain = fastrnn.LSTM(
        4,
        5,
        clip=0.5,
        zoneout=(0.25, 0),
        activations=("sigmoid", ("elu", 0.5), "tanh"),
        peephole=True,
    )
    assert repr(layer) == repr(plain)
    assert layer.config() == plain.config()
    assert {type(value) for value in layer.config().values()} <= {
        int,
        float,
        bool,
        str,
        list,
        type(None),
    }


def test_names_of_onnx_and_of_torch():
    for onnx, torch in (("LeakyRelu", "leaky_relu"), ("HardSigmoid", "hard_sigmoid")):
        assert repr(fastrnn.RNN(4, 5, nonlinearity=onnx)) == repr(
            fastrnn.RNN(4, 5, nonlinearity=torch)
        )
