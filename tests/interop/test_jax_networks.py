"""`rnn`, `lstm` and `gru` of fastrnn.interop.jax beside the classes of fastrnn."""

import subprocess
import sys

import numpy as np
import pytest

jax = pytest.importorskip("jax")

import jax.numpy as jnp  # noqa: E402

import fastrnn  # noqa: E402
from fastrnn.interop.jax import gru, init, lstm, rnn  # noqa: E402
from jax_cases import assert_close  # noqa: E402

T, B, I, H = 6, 4, 3, 5  # noqa: E741
NETWORKS = {
    "rnn": (rnn, fastrnn.RNN, {}),
    "relu": (rnn, fastrnn.RNN, {"nonlinearity": "relu"}),
    "lstm": (lstm, fastrnn.LSTM, {}),
    "gru": (gru, fastrnn.GRU, {}),
    "gru_reset_before": (gru, fastrnn.GRU, {"reset_after": False}),
}


def inputs(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def states(name, count, *batch):
    h = inputs(count, *batch, H, seed=1)
    return (h, inputs(count, *batch, H, seed=2)) if name == "lstm" else h


def both(name, layer, x, state, lengths=None, **options):
    """The results of fastrnn's layer and of the function, from the same parameters."""
    function, _, own = NETWORKS[name]
    params = jax.tree.map(jnp.asarray, layer.state_dict())
    return layer(x, state, lengths=lengths), function(params, x, state, lengths, **own, **options)


@pytest.mark.parametrize("layers, bidirectional", [(1, False), (2, False), (1, True), (3, True)])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_same_as_the_layers_of_fastrnn(name, layers, bidirectional):
    _, cls, own = NETWORKS[name]
    batch_first = bidirectional
    layer = cls(
        I, H, layers, bidirectional=bidirectional, batch_first=batch_first, bias=layers < 3, **own
    )
    x = inputs(*((B, T) if batch_first else (T, B)), I)
    state = states(name, layers * (1 + bidirectional), B)
    expected, found = both(name, layer, x, state, np.array([6, 1, 0, 4]), batch_first=batch_first)
    assert_close(found, expected, 1e-5)


@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_one_sequence_without_a_batch(name):
    layer = NETWORKS[name][1](I, H, 2, bidirectional=True)
    expected, found = both(name, layer, inputs(T, I), states(name, 4))
    assert_close(found, expected, 1e-5)


def test_projection():
    layer = fastrnn.LSTM(I, H, 2, bidirectional=True, proj_size=2)
    expected, found = both("lstm", layer, inputs(T, B, I), None)
    assert_close(found, expected, 1e-5)


def test_parameters_go_there_and_back():
    params = init(jax.random.key(0), "lstm", I, H, num_layers=2, bidirectional=True, proj_size=2)
    layer = fastrnn.LSTM(I, H, 2, bidirectional=True, proj_size=2)
    assert params.keys() == layer.state_dict().keys()
    layer.load_state_dict(jax.tree.map(np.asarray, params))
    x = inputs(T, B, I)
    assert_close(lstm(params, x), layer(x), 1e-5)


@pytest.mark.parametrize("kind, gates", [("rnn", 1), ("lstm", 4), ("gru", 3)])
def test_initial_parameters(kind, gates):
    params = init(jax.random.key(1), kind, 200, 100, dtype="float32")
    assert {name: w.shape for name, w in params.items()} == {
        "weight_ih_l0": (gates * 100, 200),
        "weight_hh_l0": (gates * 100, 100),
        "bias_ih_l0": (gates * 100,),
        "bias_hh_l0": (gates * 100,),
    }
    for w in params.values():
        assert w.dtype == "float32"
        assert 0.08 < jnp.abs(w).max() <= 0.1  # 1 / sqrt(100)
    assert len({float(w.ravel()[0]) for w in params.values()}) == 4
    assert len(init(jax.random.key(1), kind, 2, 3, bias=False, num_layers=2)) == 4


def test_dropout():
    params = init(jax.random.key(0), "gru", I, H, num_layers=2)
    x, key = inputs(T, B, I), jax.random.key(1)
    whole = gru(params, x)
    assert_close(gru(params, x, dropout=0.5), whole, 0)
    assert_close(gru(params, x, key=key), whole, 0)
    some = gru(params, x, dropout=0.5, key=key)
    assert_close(gru(params, x, dropout=0.5, key=key), some, 0)
    assert np.abs(some[0] - gru(params, x, dropout=0.5, key=jax.random.key(2))[0]).max() > 1e-3
    assert_close(some[1][0], whole[1][0], 0)  # nothing is dropped before the first layer
    nothing = gru(params, np.zeros_like(x), dropout=1.0, key=key)[0]
    assert_close(gru(params, x, dropout=1.0, key=key)[0], nothing, 1e-6)


def test_training_is_that_of_a_scan():
    params = init(jax.random.key(0), "lstm", I, H)
    x, target = inputs(T, B, I), inputs(B, H, seed=3)

    def losses(engine):
        def loss(params):
            return jnp.mean((lstm(params, x, engine=engine)[1][0][0] - target) ** 2)

        @jax.jit
        def step(params):
            value, gradient = jax.value_and_grad(loss)(params)
            return value, jax.tree.map(lambda p, g: p - 0.5 * g, params, gradient)

        own, found = params, []
        for _ in range(30):
            value, own = step(own)
            found.append(float(value))
        return np.array(found)

    assert losses("auto")[-1] < 0.8 * losses("auto")[0]
    assert_close(losses("auto"), losses("scan"), 1e-5)


GOOD = init(jax.random.key(0), "lstm", I, H, num_layers=2, bidirectional=True)


def without(name):
    return {n: w for n, w in GOOD.items() if n != name}


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda x: lstm({}, x), ValueError, "params: expected weight_ih_l0"),
        (lambda x: lstm(GOOD | {"gain": 1}, x), ValueError, "params: unknown name 'gain'"),
        (lambda x: lstm(GOOD | {"weight_ih_l01": 1}, x), ValueError, "unknown name"),
        (lambda x: lstm(without("weight_hh_l1_reverse"), x), ValueError, "weight_hh_l1_reverse"),
        (
            lambda x: lstm(init(jax.random.key(0), "lstm", I, H) | {"bias_ih_l0_reverse": 1}, x),
            ValueError,
            "expected weight_ih_l0_reverse",
        ),
        (
            lambda x: lstm(
                init(jax.random.key(0), "lstm", I, H, num_layers=2) | {"weight_ih_l1_reverse": 1},
                x,
            ),
            ValueError,
            "the same directions in each layer",
        ),
        (lambda x: lstm(GOOD, x, x), TypeError, r"state: expected a pair \(h, c\), got"),
        (lambda x: lstm(GOOD, x, (x, x)), ValueError, "state: expected 3 axes, of h the first of"),
        (lambda x: lstm(GOOD, x, dropout=2.0), ValueError, "dropout: expected from 0 to 1, got"),
        (lambda x: lstm(GOOD, x[0], lengths=[1]), ValueError, "without a batch"),
        (lambda x: rnn(GOOD, x, nonlinearity="elu"), ValueError, "nonlinearity: expected 'tanh'"),
        (lambda x: gru(GOOD, x), ValueError, "w_ih: expected 3 H rows"),
        (lambda x: init(jax.random.key(0), "qrnn", 1, 1), ValueError, "kind: expected 'rnn'"),
        (lambda x: init(jax.random.key(0), "gru", 1, 0), ValueError, "hidden_size: expected at"),
        (lambda x: init(jax.random.key(0), "gru", 1, 2, proj_size=1), ValueError, "proj_size: "),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call(inputs(T, B, I))


def test_fastrnn_does_not_import_jax():
    code = "import sys, fastrnn; assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_jax():
    code = "import sys; sys.modules['jax'] = None; import fastrnn.interop.jax"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "ImportError: fastrnn.interop.jax needs the package jax: pip install" in done.stderr
