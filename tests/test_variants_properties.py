"""Any combination of options, shapes, lengths, masks and resets: what must hold for all of them."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recurrent_cases import assert_close, assert_same_bits
from variant_cases import (
    FUNCTIONS,
    check_gradients,
    infer,
    make,
    make_data,
    reference_outputs,
    train,
    train_and_draws,
)

PLAIN_FUNCTIONS = [f for f in FUNCTIONS if f != "prelu"]
probabilities = st.sampled_from([0.0, 0.0, 0.3])
limits = st.sampled_from([None, None, 0.3, 1.0])


@st.composite
def layers(draw, kinds=("RNN", "IndRNN", "LSTM", "GRU", "AUGRU"), drops=True):
    """A float64 layer of any options that go together."""
    kind = draw(st.sampled_from(kinds))
    hidden_size = draw(st.integers(1, 6))
    flag = st.booleans()
    options = {"bias": draw(flag), "clip": draw(limits), "batch_first": draw(flag)}
    if kind in ("RNN", "IndRNN"):
        options["nonlinearity"] = draw(st.sampled_from(FUNCTIONS))
    else:
        count = 3 if kind == "LSTM" else 2
        options["activations"] = [draw(st.sampled_from(PLAIN_FUNCTIONS)) for _ in range(count)]
    if kind in ("GRU", "AUGRU"):
        options["reset_after"] = draw(flag)
    if kind in ("RNN", "LSTM", "GRU"):
        options["layer_norm"] = draw(flag)
    if kind == "LSTM":
        options |= {"peephole": draw(flag), "coupled": draw(flag), "cell_clip": draw(limits)}
        options["proj_size"] = draw(st.integers(0, hidden_size - 1))
    if kind != "AUGRU":
        options["num_layers"] = draw(st.integers(1, 3))
        options["learned_state"] = draw(flag)
        options["bidirectional"] = draw(flag)
        options["merge_mode"] = draw(st.sampled_from(["concat", "sum", "mean", "mul"]))
        options["go_backwards"] = draw(flag) and not options["bidirectional"]
        if drops:
            options["dropout"] = draw(probabilities)
            options["weight_dropout"] = draw(probabilities)
            options["zoneout"] = draw(probabilities)
            if kind == "LSTM":
                of_h = 0.0 if options["proj_size"] else options["zoneout"]
                options["zoneout"] = (of_h, draw(probabilities))
            if kind != "IndRNN":
                options["recurrent_dropout"] = draw(probabilities)
    layer = make(kind, draw(st.integers(1, 4)), hidden_size, dtype="float64", seed=1, **options)
    rng = np.random.default_rng(7)
    for name, parameter in layer.parameters().items():
        if name.startswith(("h_0", "c_0", "gain", "bias_c")):
            parameter.data = rng.normal(size=parameter.shape)
    return layer


@st.composite
def calls(draw, layer, flags=True):
    """Data for the layer, with any lengths, masks and resets."""
    steps, batch = draw(st.integers(0, 6)), draw(st.integers(0, 4))
    flag = st.booleans()
    data = make_data(layer, steps, batch, seed=draw(st.integers(0, 9)), state=draw(flag))
    if draw(flag):
        lengths = draw(st.lists(st.integers(0, steps), min_size=batch, max_size=batch))
        data = data._replace(lengths=np.array(lengths, np.int64))
    for name in ("mask", "resets") if flags else ():
        if draw(flag):
            bits = draw(st.lists(flag, min_size=steps * batch, max_size=steps * batch))
            data = data._replace(**{name: np.array(bits, bool).reshape(steps, batch)})
    return data


def check_finite(arrays):
    for name, array in arrays.items():
        assert np.isfinite(array).all(), name


@given(st.data())
def test_any_layer_without_drops(data):
    """The formulas, in values and gradients; inference, training and checkpoints to the bit."""
    layer = data.draw(layers(drops=False))
    call = data.draw(calls(layer))
    got = infer(layer, call)
    assert_close(got, reference_outputs(layer, call), 1e-12)
    trained = train(layer, call)
    check_finite(trained)
    assert_same_bits({name: trained[name] for name in got}, got)
    check_gradients(layer, call, trained)
    assert_same_bits(train(layer, call, data.draw(st.integers(1, 8))), trained)


@given(st.data())
def test_any_layer_with_drops(data):
    """With what was drawn, the formulas. Dropout between layers is left to the plain layers' tests,
    and zoneout with holes and resets, where what is drawn is laid out by segments."""
    layer = data.draw(layers(("RNN", "IndRNN", "LSTM", "GRU")))
    call = data.draw(calls(layer, flags=not np.any(layer.config()["zoneout"])))
    check_finite(infer(layer, call))
    assert_close(infer(layer, call), reference_outputs(layer, call), 1e-12)
    got, factors = train_and_draws(layer, call)
    check_finite(got)
    by_segments = layer.recurrent_dropout and call.resets is not None
    if not by_segments and not layer.config()["dropout"]:
        want = reference_outputs(layer, call, factors)
        assert_close({name: got[name] for name in want}, want, 1e-12)
        check_gradients(layer, call, got, factors)


@given(st.data())
def test_any_layer_in_float32(data):
    """Sees what float64 sees."""
    wide = data.draw(layers())
    narrow = type(wide).from_config(wide.config() | {"dtype": "float32"})
    narrow.load_state_dict(wide.state_dict())
    call = data.draw(calls(narrow))
    got = infer(narrow, call)
    assert all(array.dtype == np.float32 for array in got.values())
    assert_close(got, reference_outputs(narrow, call), 1e-4)
    check_finite(train(narrow, call))
