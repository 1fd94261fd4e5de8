"""The variants of the recurrent layers give what their formulas say, and keep the promises.

The formulas are in reference_variants.py; values are compared with them in both dtypes, and every
gradient along a random direction.
"""

import numpy as np
import pytest

import fastrnn
import reference_variants
from recurrent_cases import DTYPES, assert_close, assert_same_bits
from variant_cases import (
    FUNCTIONS,
    LENGTHS,
    VARIANTS,
    arguments,
    check_gradients,
    infer,
    is_lstm,
    make,
    make_data,
    reference_outputs,
    run_reference,
    train,
    train_and_draws,
)

TOLERANCES = {"float32": 1e-5, "float64": 1e-12}


def make_layer(kind, options, dtype="float64", input_size=4, hidden_size=5):
    """A layer with weights everywhere: learned states, slopes and gains too."""
    layer = make(kind, input_size, hidden_size, dtype=dtype, seed=1, **options)
    rng = np.random.default_rng(8)
    for name, parameter in layer.parameters().items():
        if name.startswith(("h_0", "c_0", "slope", "gain", "bias_c")):
            parameter.data = rng.normal(size=parameter.shape)
    return layer


def of_names(arrays, names):
    return {name: arrays[name] for name in names}


def zones(layer):
    return bool(np.any(layer.config().get("zoneout", 0)))


def check(kind, options, dtype="float64", **how):
    """Values, gradients, and that inference, training and checkpoints agree in the bits."""
    layer = make_layer(kind, options, dtype)
    data = make_data(layer, **how)
    want = reference_outputs(layer, data)
    got = infer(layer, data)
    assert_close(got, want, TOLERANCES[dtype])
    if dtype == "float32":
        return
    trained, factors = train_and_draws(layer, data)
    if zones(layer):
        if data.mask is not None or data.resets is not None:
            return  # what is drawn there is laid out by segments
        want = reference_outputs(layer, data, factors)
        assert_close(of_names(trained, want), want, TOLERANCES[dtype])
        check_gradients(layer, data, trained, factors)
        return
    assert_same_bits(of_names(trained, got), got)
    check_gradients(layer, data, trained)
    for every in (1, 3, 100):
        assert_same_bits(train(layer, data, checkpoint_every=every), trained)


# ---------------------------------------------------------------------------------- the formulas

CALLS = {
    "plain": {},
    "lengths": {"lengths": LENGTHS},
    "holes_and_resets": {"lengths": LENGTHS, "holes": True, "resets": True},
}
NETWORKS = {
    "one_layer": {},
    "two_layers_both_ways": {"num_layers": 2, "bidirectional": True, "batch_first": True},
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant(variant, call):
    kind, options = VARIANTS[variant]
    check(kind, options, **CALLS[call])
    check(kind, options, "float32", **CALLS[call])
    if kind != "AUGRU" and call == "holes_and_resets":  # the slowest by far: all at once
        check(kind, options | NETWORKS["two_layers_both_ways"], **CALLS[call])


@pytest.mark.parametrize("function", FUNCTIONS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_function(function, dtype):
    for kind in ("RNN", "IndRNN"):
        check(kind, {"nonlinearity": function}, dtype)
    if function != "prelu":
        check("LSTM", {"activations": (function,) * 3, "clip": 0.9}, dtype)
        check("GRU", {"activations": (function,) * 2}, dtype)


@pytest.mark.parametrize("hidden_size", [2, 3, 15, 16, 17, 33])
@pytest.mark.parametrize("variant", ["lstm_proj_peephole", "lstm_coupled", "gru_zoneout", "augru"])
def test_every_size(variant, hidden_size):
    """Around a vector and around a group of units; the projection has one less, or half."""
    kind, options = VARIANTS[variant]
    changes = [{}]
    if "proj_size" in options:
        changes = [{"proj_size": n} for n in {hidden_size - 1, hidden_size // 2}]
    for change in changes:
        layer = make_layer(kind, options | change, input_size=19, hidden_size=hidden_size)
        data = make_data(layer, steps=4, batch=13)
        got, factors = train_and_draws(layer, data)
        want = reference_outputs(layer, data, factors)
        assert_close(of_names(got, want), want, TOLERANCES["float64"])
        check_gradients(layer, data, got, factors)


BASES = {"rnn": ("RNN", {}), "lstm": ("LSTM", {"proj_size": 3}), "gru": ("GRU", {})}
OPTIONS = {
    "backwards": {"go_backwards": True, "num_layers": 2},
    "learned": {"learned_state": True, "num_layers": 2, "bidirectional": True},
    "learned_backwards": {"learned_state": True, "go_backwards": True, "batch_first": True},
    "sum": {"bidirectional": True, "merge_mode": "sum"},
    "mean": {"bidirectional": True, "merge_mode": "mean", "num_layers": 3},
    "mul": {"bidirectional": True, "merge_mode": "mul", "num_layers": 2},
}
MORE_CALLS = CALLS | {
    "holes": {"holes": True},
    "resets": {"resets": True},
    "no_state": {"state": False},
    "no_state_resets": {"state": False, "lengths": LENGTHS, "resets": True},
}


@pytest.mark.parametrize("call", MORE_CALLS)
@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("base", BASES)
def test_every_option_of_the_network(base, option, call):
    kind, options = BASES[base]
    check(kind, options | OPTIONS[option], **MORE_CALLS[call])


@pytest.mark.parametrize("steps", [0, 1, 3])
@pytest.mark.parametrize("batch", [0, 1, 2])
@pytest.mark.parametrize("variant", VARIANTS)
def test_nothing_to_do(variant, steps, batch):
    """No rows, no steps, no real steps: the final state is the first, and its gradient too."""
    kind, options = VARIANTS[variant]
    layer = make_layer(kind, options)
    data = make_data(layer, steps, batch)
    for some in (
        data._replace(lengths=np.zeros(batch, int)),
        data._replace(mask=np.zeros((steps, batch), bool)),
    ):
        for got in (infer(layer, some), train(layer, some)):
            assert not got["y"].any()
            for name, first, dlast in zip(("h", "c"), data.state, data.dstate, strict=False):
                assert np.array_equal(got["last " + name], first)
                if "dx" in got:
                    assert np.array_equal(got["d first " + name], dlast)
                    assert not got["dx"].any()
                    assert not any(got[n].any() for n in got if n.startswith("grad"))


@pytest.mark.parametrize("variant", VARIANTS)
def test_one_sequence_and_token_ids(variant):
    """Without the axis of the batch, and with ids for one-hot vectors."""
    kind, options = VARIANTS[variant]
    layer = make_layer(kind, options)
    data = make_data(layer, batch=1, holes=True, resets=True)
    want = infer(layer, data)
    positional, flags = arguments(layer, data)
    x, *attention, state, _ = positional
    states = state if is_lstm(layer) else (state,)
    one = [s[:, 0] for s in states]
    y, last = layer(
        x[:, 0],
        *(a[:, 0] for a in attention),
        tuple(one) if is_lstm(layer) else one[0],
        **{name: flag[:, 0] for name, flag in flags.items()},
    )
    assert np.array_equal(y, want["y"][:, 0])
    assert np.array_equal((last if is_lstm(layer) else (last,))[0], want["last h"][:, 0])

    ids = np.random.default_rng(4).integers(0, 4, (7, 1))
    one_hot = data._replace(x=np.eye(4)[ids])
    got, want = (infer(layer, data._replace(x=x)) for x in (ids, one_hot.x))
    assert_close(got, want, TOLERANCES["float64"])
    if not zones(layer):
        got, want = (train(layer, data._replace(x=x)) for x in (ids, one_hot.x))
        assert "dx" not in got
        assert_close(got, of_names(want, got), TOLERANCES["float64"])


# ---------------------------------------------------------------------------------- the promises


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_step_by_step_gives_the_bits_of_the_whole(variant, dtype):
    kind, options = VARIANTS[variant]
    network = {} if kind == "AUGRU" else {"num_layers": 2}
    layer = make_layer(kind, options | network, dtype, hidden_size=19)
    data = make_data(layer, batch=3)
    want = infer(layer, data)
    (x, *attention, state, _), _ = arguments(layer, data)
    for t in range(len(x)):
        y, state = layer.step(x[t], *(a[t] for a in attention), state)
        assert np.array_equal(y, want["y"][t])
    assert np.array_equal(state[0] if is_lstm(layer) else state, want["last h"])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_row_is_independent_of_the_batch(variant, dtype):
    """A row alone, and among others in another order, has the same bits."""
    kind, options = VARIANTS[variant]
    network = {} if kind == "AUGRU" else {"bidirectional": True}
    layer = make_layer(kind, options | network, dtype, hidden_size=17)
    data = make_data(layer, lengths=LENGTHS, holes=True, resets=True)
    whole = infer(layer, data)
    for rows in ([3], [4, 2, 0], [1, 1]):
        part = data._replace(
            x=data.x[:, rows],
            state=tuple(s[:, rows] for s in data.state),
            lengths=data.lengths[rows],
            mask=data.mask[:, rows],
            resets=data.resets[:, rows],
            attention=None if data.attention is None else data.attention[:, rows],
        )
        got = infer(layer, part)
        assert_same_bits(got, {name: array[:, rows] for name, array in whole.items()})


def test_what_is_past_the_end_or_masked_is_not_looked_at():
    """NaN there comes to nothing, in values and gradients."""
    for kind, options in (("LSTM", {"proj_size": 2, "peephole": True}), ("AUGRU", {"clip": 1.0})):
        layer = make_layer(kind, options)
        data = make_data(layer, lengths=LENGTHS, holes=True)
        inside = np.arange(7)[:, None] < data.lengths
        x = np.where((inside & data.mask)[..., None], data.x, np.nan)
        assert_same_bits(train(layer, data._replace(x=x)), train(layer, data))


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_resets_are_separate_sequences(kind):
    """A row with a reset before step t gives the bits of two rows, the second from nothing."""
    layer = make_layer(kind, {}, hidden_size=19)
    data = make_data(layer, batch=1)
    resets = np.zeros((7, 1), bool)
    resets[4] = True
    y, last = layer(data.x, data.state if is_lstm(layer) else data.state[0], resets=resets)
    before, _ = layer(data.x[:4], data.state if is_lstm(layer) else data.state[0])
    after, last_of_two = layer(data.x[4:])
    assert np.array_equal(y, np.concatenate([before, after]))
    assert np.array_equal(last[0], last_of_two[0])


# -------------------------------------------------------------------------------- cell_states


@pytest.mark.parametrize("call", MORE_CALLS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"peephole": True, "proj_size": 3, "num_layers": 2, "batch_first": True},
        {"coupled": True, "bidirectional": True, "cell_clip": 0.4},
        {"zoneout": (0.1, 0.4), "go_backwards": True},
        {"bidirectional": True, "merge_mode": "sum", "num_layers": 2},
    ],
    ids=str,
)
def test_cell_states(options, call):
    layer = make_layer("LSTM", options)
    data = make_data(layer, **MORE_CALLS[call])
    (x, state, lengths), flags = arguments(layer, data)
    got = layer.cell_states(x, state, lengths, **flags)
    want = run_reference(layer, data).cells.real
    want = want.swapaxes(0, 1) if options.get("batch_first") else want
    assert_close({"c": got}, {"c": want}, TOLERANCES["float64"])


def test_cell_states_end_with_the_last_state():
    layer = make_layer("LSTM", {"num_layers": 2}, "float32")
    data = make_data(layer)
    _, (_, c) = layer(data.x)
    states = layer.cell_states(data.x)
    assert states.dtype == np.float32
    assert np.array_equal(states[-1], c[-1])
    one = layer.cell_states(data.x[:, 0])
    assert np.array_equal(one, states[:, 0])


# ---------------------------------------------------------------------------------- randomness

DROPS = {
    "recurrent_dropout": {"recurrent_dropout": 0.4},
    "weight_dropout": {"weight_dropout": 0.3},
    "zoneout": {"zoneout": 0.3},
    "everything": {
        "recurrent_dropout": 0.2,
        "weight_dropout": 0.2,
        "zoneout": 0.4,
        "dropout": 0.3,
        "num_layers": 2,
        "bidirectional": True,
    },
}


def of_the_kind(kind, options):
    """Without what the kind does not take."""
    if kind == "IndRNN":
        return {name: value for name, value in options.items() if name != "recurrent_dropout"}
    return options


@pytest.mark.parametrize("drop", DROPS)
@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU", "IndRNN"])
def test_draws_repeat_with_the_seed_and_no_call_is_like_the_last(kind, drop):
    options = of_the_kind(kind, DROPS[drop])
    if not options:
        return
    layers = [make(kind, 4, 20, seed=seed, **options) for seed in (5, 5, 6)]
    layers[2].load_state_dict(layers[0].state_dict())
    data = make_data(layers[0])
    first, again, other = (train(layer, data) for layer in layers)
    assert_same_bits(first, again)
    assert not np.array_equal(first["y"], other["y"])
    assert not np.array_equal(first["y"], train(layers[0], data)["y"])
    calls = [infer(layers[0], data) for _ in range(2)]
    assert_same_bits(*calls)


@pytest.mark.parametrize("drop", ["recurrent_dropout", "weight_dropout"])
@pytest.mark.parametrize(
    "base", [("RNN", {}), ("GRU", {}), ("GRU", {"reset_after": False}), ("LSTM", {"proj_size": 3})]
)
@pytest.mark.parametrize("network", NETWORKS)
def test_values_and_gradients_with_drops(base, drop, network):
    """With what was drawn, the formulas."""
    kind, options = base
    layer = make_layer(kind, options | DROPS[drop] | NETWORKS[network])
    data = make_data(layer, lengths=LENGTHS)
    got, factors = train_and_draws(layer, data)
    want = reference_outputs(layer, data, factors)
    assert_close(of_names(got, want), want, TOLERANCES["float64"])
    check_gradients(layer, data, got, factors)
    plain = reference_outputs(layer, data)
    assert_close(infer(layer, data), plain, TOLERANCES["float64"])  # nothing is dropped


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("every", [1, 2, 7])
def test_checkpoints_have_the_bits_with_drops(kind, every):
    options = DROPS["everything"] | {"dtype": "float64"}
    layers = [make(kind, 4, 5, seed=3, **options) for _ in range(2)]
    data = make_data(layers[0], lengths=LENGTHS, resets=True)
    assert_same_bits(train(layers[0], data, every), train(layers[1], data))


def of_the_state_alone(**options):
    """h_t = h_{t-1}, but for what the options do: nothing comes from x."""
    layer = fastrnn.RNN(1, 50, nonlinearity="identity", bias=False, seed=2, **options)
    layer.parameters()["weight_ih_l0"].data = np.zeros((50, 1))
    layer.parameters()["weight_hh_l0"].data = np.eye(50)
    return layer


def test_recurrent_dropout_is_constant_in_time():
    """Dropped units are so at once, the others grow by 1 / (1 - p) each step."""
    layer = of_the_state_alone(recurrent_dropout=0.25)
    (y, _), _ = layer.vjp(np.zeros((4, 30, 1), np.float32), np.ones((1, 30, 50), np.float32))
    kept = y[0] != 0
    for t in range(4):
        assert np.allclose(y[t], np.where(kept, 0.75 ** -(t + 1), 0), rtol=1e-6)
    # 1500 draws: six standard deviations of their mean.
    assert abs(kept.mean() - 0.75) < 6 * np.sqrt(0.75 * 0.25 / kept.size)
    assert len({row.tobytes() for row in kept}) == 30, "rows have masks of their own"


def test_weight_dropout_drops_elements_of_weight_hh():
    """All rows and steps see the same weights, 0 or 1 / (1 - p) times what they were."""
    layer = of_the_state_alone(weight_dropout=0.25)
    layer.parameters()["weight_hh_l0"].data = np.full((50, 50), 0.01)
    first = np.broadcast_to(np.eye(50, dtype=np.float32), (1, 50, 50)).copy()
    (y, _), pullback = layer.vjp(np.zeros((1, 50, 1), np.float32), first)
    kept = y[0] != 0
    assert np.allclose(y[0][kept], 0.01 / 0.75, rtol=1e-6)
    assert abs(kept.mean() - 0.75) < 6 * np.sqrt(0.75 * 0.25 / kept.size)
    pullback(np.ones_like(y))
    grad = layer.parameters()["weight_hh_l0"].grad
    assert np.array_equal(grad.T != 0, kept), "what was dropped has no gradient"


@pytest.mark.parametrize("variant", ["LSTM", "GRU", "RNN", "IndRNN"])
def test_zoneout_of_everything_and_nothing(variant):
    """p = 1 keeps the first state for ever, p = 0 is no zoneout at all, both to the bit."""
    data = make_data(make(variant, 4, 5), resets=True)
    everything = make(variant, 4, 5, zoneout=1.0, seed=1)
    first = data._replace(resets=None)
    for got in (infer(everything, first), train(everything, first)):
        for name, state in zip(("h", "c"), data.state, strict=False):
            assert np.array_equal(got["last " + name], state)
        assert np.array_equal(got["y"], np.broadcast_to(data.state[0], got["y"].shape))
    assert not got["dx"].any()
    nothing = make(variant, 4, 5, zoneout=0.0, seed=1)
    assert_same_bits(train(nothing, data), train(make(variant, 4, 5, seed=1), data))


def test_zoneout_of_c_alone():
    layer = make("LSTM", 4, 5, zoneout=(0.0, 1.0), seed=1)
    got = infer(layer, data := make_data(layer))
    assert np.array_equal(got["last c"], data.state[1])
    assert not np.array_equal(got["last h"], data.state[0])


def test_zoneout_keeps_units_and_draws_anew_each_step():
    layer = of_the_state_alone(zoneout=0.3)
    layer.parameters()["weight_hh_l0"].data = 2 * np.eye(50)
    (y, _), _ = layer.vjp(np.zeros((20, 4, 1), np.float32), np.ones((1, 4, 50), np.float32))
    growth = y[1:] / y[:-1]
    assert set(np.unique(growth)) == {1.0, 2.0}
    kept = growth == 1
    assert abs(kept.mean() - 0.3) < 6 * np.sqrt(0.3 * 0.7 / kept.size)
    assert len({step.tobytes() for step in kept}) == 19
    y, _ = layer(np.zeros((3, 4, 1), np.float32), np.ones((1, 4, 50), np.float32))
    assert np.allclose(y[:, 0, 0], 1.7 ** np.arange(1, 4)), "a call mixes by the probability"


# --------------------------------------------------------------------------- the layer as a whole


@pytest.mark.parametrize("variant", VARIANTS)
def test_config_builds_the_same_layer(variant):
    kind, options = VARIANTS[variant]
    layer = make_layer(kind, options)
    twin = type(layer).from_config(layer.config())
    assert twin.config() == layer.config()
    assert repr(twin) == repr(layer)
    shapes = dict(type(layer).parameter_shapes(layer.config()))
    assert shapes == {name: p.shape for name, p in layer.parameters().items()}
    twin.load_state_dict(layer.state_dict())
    data = make_data(layer, lengths=LENGTHS)
    assert_same_bits(infer(twin, data), infer(layer, data))


@pytest.mark.parametrize("variant", VARIANTS)
def test_frozen_weights_get_no_gradient(variant):
    kind, options = VARIANTS[variant]
    layer = make_layer(kind, options | ({} if kind == "AUGRU" else {"learned_state": True}))
    data = make_data(layer, state=False)
    for frozen in layer.parameters():
        for name, parameter in layer.parameters().items():
            parameter.requires_grad = name != frozen
        got = train(layer, data)
        assert got["grad " + frozen] is None
        assert all(got["grad " + n] is not None for n in layer.parameters() if n != frozen)


def test_a_second_pullback_adds():
    layer = make_layer("LSTM", {"peephole": True, "proj_size": 2, "learned_state": True})
    data = make_data(layer, state=False, resets=True)
    _, pullback = layer.vjp(data.x, resets=data.resets)
    pullback(data.dy)
    once = {name: p.grad.copy() for name, p in layer.parameters().items()}
    pullback(data.dy)
    for name, parameter in layer.parameters().items():
        assert np.allclose(parameter.grad, 2 * once[name], rtol=1e-12)


def test_a_changed_weight_is_seen():
    """Packed weights, peepholes and slopes too, are made anew."""
    for kind, options in (
        ("LSTM", {"peephole": True, "proj_size": 2}),
        ("RNN", {"nonlinearity": "prelu"}),
    ):
        layer = make_layer(kind, options)
        data = make_data(layer)
        for name, parameter in layer.parameters().items():
            before = infer(layer, data)["y"]
            parameter.data = parameter.data + 0.5
            assert not np.array_equal(infer(layer, data)["y"], before), name
            assert_close(infer(layer, data), reference_outputs(layer, data), 1e-12)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_saved_layer_comes_back(variant, tmp_path):
    kind, options = VARIANTS[variant]
    layer = make_layer(kind, options | ({} if kind == "AUGRU" else {"learned_state": True}))
    fastrnn.save(layer, tmp_path / "layer.safetensors")
    twin = fastrnn.load(tmp_path / "layer.safetensors")
    assert repr(twin) == repr(layer)
    data = make_data(layer, state=False)
    assert_same_bits(infer(twin, data), infer(layer, data))


# --------------------------------------------------------------------------------- the pullback


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_the_pullback_is_linear_and_none_is_zero(kind, option):
    layer = make_layer(kind, OPTIONS[option])
    data = make_data(layer, lengths=LENGTHS, holes=True, resets=True)
    nothing = np.zeros_like(data.dy), tuple(np.zeros_like(d) for d in data.dstate)
    both = train(layer, data)
    of_y = train(layer, data._replace(dstate=nothing[1]))
    of_state = train(layer, data._replace(dy=nothing[0]))
    (x, state, lengths), flags = arguments(layer, data)
    _, pullback = layer.vjp(x, state, lengths, **flags)
    for name in [n for n in both if n not in ("y", "last h", "last c")]:
        assert np.allclose(of_y[name] + of_state[name], both[name], rtol=1e-10, atol=1e-12), name
    dx, _ = pullback(None, data.dstate if is_lstm(layer) else data.dstate[0])
    assert np.array_equal(dx.swapaxes(0, 1) if layer.batch_first else dx, of_state["dx"])
    dx, _ = pullback(None)
    assert not dx.any()


def test_the_pullback_owns_flags_scores_and_states():
    """What the caller writes to them afterwards changes nothing."""
    layer = make_layer("AUGRU", {})
    data = make_data(layer, lengths=LENGTHS, holes=True, resets=True)
    want = train(layer, data)
    copies = [a.copy() for a in (data.mask, data.resets, data.attention, data.state[0])]
    mask, resets, attention, state = copies
    lengths = data.lengths.copy()
    _, pullback = layer.vjp(data.x, attention, state, lengths, mask=mask, resets=resets)
    for array in (*copies, lengths):
        array[...] = 0
    dx, dattention, dstate = pullback(data.dy, data.dstate[0])
    assert np.array_equal(dx, want["dx"])
    assert np.array_equal(dattention, want["dattention"])
    assert np.array_equal(dstate, want["d first h"])


# -------------------------------------------------------------------------------- the functions


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("function", [f for f in FUNCTIONS if f != "prelu"], ids=str)
def test_functions_over_all_magnitudes(function, dtype):
    """A layer that is the function itself, at numbers from 1e-30 to 1e30 and at infinity; slopes,
    too. Errors of a few last places, of the value or of alpha and beta, whichever is larger."""
    sizes = np.concatenate([[0], np.logspace(-30, 30, 61), np.linspace(0.05, 100, 500)])
    x = np.concatenate([-sizes[::-1], sizes]).astype(dtype)
    layer = make("RNN", 1, 1, nonlinearity=function, bias=False, dtype=dtype)
    for parameter in layer.parameters().values():
        parameter.data = [[1.0]]
    (y, _), pullback = layer.vjp(x[None, :, None])
    dx, _ = pullback(np.ones_like(y))
    exact = x.astype(np.float64)
    want = reference_variants.activate(function, exact)
    eps = np.finfo(dtype).eps
    scale = np.maximum(np.abs(want), 0.5)
    assert (np.abs(y.ravel() - want) <= 4 * eps * scale).all()
    smooth = x != 0
    with np.errstate(over="ignore", invalid="ignore"):
        slopes = reference_variants.derivative(
            lambda z: reference_variants.activate(function, z), exact, np.ones_like(exact)
        )
    smooth &= np.isfinite(slopes)
    assert np.isfinite(dx).all()
    assert (np.abs(dx.ravel() - slopes)[smooth] <= 8 * eps).all()
    edges, _ = layer(np.array([np.nan, np.inf, -np.inf], dtype)[None, :, None])
    assert np.isnan(edges[0, 0, 0]), "NaN is not lost"
