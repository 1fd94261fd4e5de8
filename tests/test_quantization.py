"""Layers with small weights: what they compute, whatever they are made of, and their bounds.

The formulas are in reference_quantized.py. Files: test_quantization_files.py; the same bits on
every instruction set and with threads: test_same_bits.py.
"""

import copy
import pickle

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import fastrnn
import reference_quantized as reference
import variant_cases
from fastrnn.precision import PRECISIONS
from recurrent_cases import name_states

F = np.float32
EXACT = ("bf16", "int8")  # of the same-bits promise
KINDS = {
    "RNN": (fastrnn.RNN, {}),
    "LSTM": (fastrnn.LSTM, {}),
    "GRU": (fastrnn.GRU, {}),
    "GRU before": (fastrnn.GRU, {"reset_after": False}),
}
SIZES = st.sampled_from((1, 2, 3, 4, 5, 15, 16, 17, 33, 64, 65))


def make(kind, I, H, seed=0, **options):  # noqa: E741
    layer_class, own = KINDS[kind]
    return fastrnn.quantize(layer_class(I, H, seed=seed, **own, **options), "int8")


def normal(rng, *shape):
    return rng.normal(size=shape).astype(F)


def same(got, want):
    assert got.keys() == want.keys()
    for name in want:
        np.testing.assert_array_equal(got[name], want[name], err_msg=name, strict=True)


# --- the weights ----------------------------------------------------------------------------------


def weights_of(array, precision):
    layer = fastrnn.RNN(array.shape[1], len(array), bias=False)
    layer.parameters()["weight_ih_l0"].data = array
    return fastrnn.quantize(layer, precision).parameters()["weight_ih_l0"]


def test_bf16_rounds_to_the_nearest_and_of_two_to_the_even():
    bits = np.arange(0, 2**32, 40993, dtype=np.uint64).astype(np.uint32)
    half = np.arange(2**16, dtype=np.uint32) << 16 | 0x8000  # all that lie in the middle
    array = np.concatenate([bits, half, half - 1, half + 1]).view(F)
    small = weights_of(array[: len(array) // 4 * 4].reshape(4, -1), "bf16")
    want = reference.round_to_bf16(array[: len(array) // 4 * 4].reshape(4, -1))
    np.testing.assert_array_equal(small.data, want)
    assert small.values.dtype == np.uint16


@given(st.integers(0, 2**32 - 1), SIZES, SIZES, st.sampled_from((1.0, 1e30, 1e-37, 1e-43)))
def test_int8_has_a_scale_for_each_row(seed, rows, columns, size):
    array = normal(np.random.default_rng(seed), rows, columns) * F(size)
    array[rows // 2] = 0
    small, want = weights_of(array, "int8"), reference.quantize_rows(array)
    np.testing.assert_array_equal(small.values, want.q, strict=True)
    np.testing.assert_array_equal(small.scales, want.scale, strict=True)
    np.testing.assert_array_equal(small.data, want.q * want.scale[:, None], strict=True)


def test_ties_of_int8_go_to_the_even_integer():
    small = weights_of(np.array([[127, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5]], F), "int8")
    assert small.values.tolist() == [[127, 0, 2, 2, 0, -2, -2]]


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_int8_weights_must_be_finite(wrong):
    layer = fastrnn.RNN(2, 3)
    layer.parameters()["weight_hh_l0"].data = np.full((3, 3), wrong)
    with pytest.raises(ValueError, match="weight_hh_l0: expected finite weights for int8"):
        fastrnn.quantize(layer, "int8")
    fastrnn.quantize(layer, "bf16")


def test_only_matrices_of_products_become_small():
    options = {"proj_size": 2, "peephole": True, "layer_norm": True, "learned_state": True}
    layer = fastrnn.LSTM(3, 5, seed=1, **options)
    small = fastrnn.quantize(layer, "int8")
    for name, parameter in small.parameters().items():
        is_matrix = name.startswith("weight_")
        assert parameter.values.dtype == (np.int8 if is_matrix else F), name
        if not is_matrix:
            np.testing.assert_array_equal(parameter.data, layer.parameters()[name].data)
    independent = fastrnn.quantize(fastrnn.IndRNN(3, 5), "bf16").parameters()
    assert independent["weight_ih_l0"].values.dtype == np.uint16
    assert independent["weight_hh_l0"].values.dtype == F


# --- bf16: as float32 with rounded weights --------------------------------------------------------


def rounded(layer, precision):
    """The float32 layer with the weights that the small ones stand for."""
    twin = copy.deepcopy(layer)
    twin.load_state_dict(fastrnn.quantize(layer, precision).state_dict())
    return twin


VARIANTS = {
    **variant_cases.VARIANTS,
    **{f"{kind} plain": (kind, {}) for kind in ("RNN", "GRU")},
    "bidirectional": ("GRU", {"bidirectional": True, "num_layers": 2}),
    "merged": ("LSTM", {"bidirectional": True, "num_layers": 2, "merge_mode": "mul"}),
    "backwards": ("RNN", {"go_backwards": True, "learned_state": True}),
    "batch_first": ("LSTM", {"batch_first": True, "num_layers": 3, "proj_size": 4}),
}


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("how", [{}, {"lengths": (4, 0, 3, 1, 4, 2), "holes": True}])
def test_bf16_is_float32_with_rounded_weights(name, how):
    kind, options = VARIANTS[name]
    for sizes in ((9, 35), (33, 7)):
        layer = variant_cases.make(kind, *sizes, seed=1, **options)
        data = variant_cases.make_data(layer, 4, 6, **how)
        got = variant_cases.infer(fastrnn.quantize(layer, "bf16"), data)
        same(got, variant_cases.infer(rounded(layer, "bf16"), data))
        with np.testing.assert_raises(AssertionError):  # and not as it was
            same(got, variant_cases.infer(layer, data))


@given(st.data(), st.sampled_from(list(KINDS)), SIZES, SIZES, st.integers(1, 70))
def test_bf16_of_any_shape(draw, kind, I, H, B):  # noqa: E741
    layer_class, options = KINDS[kind]
    layer = layer_class(I, H, seed=1, **options)
    small, twin = fastrnn.quantize(layer, "bf16"), rounded(layer, "bf16")
    rng = np.random.default_rng(2)
    T = draw.draw(st.integers(1, 6))
    x = draw.draw(st.sampled_from((normal(rng, T, B, I), rng.integers(0, I, (T, B)))))
    results = [layer(x) for layer in (small, twin)]
    same(*({"y": y} | name_states("", s if kind == "LSTM" else (s,)) for y, s in results))


def test_bf16_of_weights_that_are_not_finite():
    layer = fastrnn.RNN(3, 4, nonlinearity="relu", seed=1)
    weight = layer.state_dict()["weight_ih_l0"]
    weight[0, 0], weight[1, 1] = np.inf, np.nan
    layer.parameters()["weight_ih_l0"].data = weight
    x = np.ones((2, 1, 3), F)
    with np.errstate(all="ignore"):
        got, want = fastrnn.quantize(layer, "bf16")(x)[0], rounded(layer, "bf16")(x)[0]
    np.testing.assert_array_equal(got, want)


def test_bf16_dot_is_near():
    """Its inputs are rounded too, to 8 bits: not more than 2^-8 of each product away."""
    for kind in KINDS:
        layer_class, options = KINDS[kind]
        layer = layer_class(40, 50, seed=1, **options)
        x = normal(np.random.default_rng(1), 9, 5, 40)
        got, want = fastrnn.quantize(layer, "bf16_dot")(x)[0], rounded(layer, "bf16")(x)[0]
        assert np.abs(got - want).max() < 0.02


# --- int8: the formulas ---------------------------------------------------------------------------


def reference_weights(layer):
    p = layer.parameters()
    matrices = (p["weight_ih_l0"], p["weight_hh_l0"])
    none = np.zeros(len(matrices[0].scales), F)
    return reference.Weights(
        *(reference.Int8(m.values, m.scales) for m in matrices),
        *(p[name].data if name in p else none for name in ("bias_ih_l0", "bias_hh_l0")),
    )


@given(st.data(), SIZES, SIZES, st.sampled_from((1, 2, 7, 40)), st.booleans())
def test_int8_products_are_the_formulas_bit_for_bit(draw, I, H, B, bias):  # noqa: E741
    """Seen through a cell without a nonlinearity."""
    layer = make("RNN", I, H, nonlinearity="identity", bias=bias)
    w = reference_weights(layer)
    rng = np.random.default_rng(draw.draw(st.integers(0, 2**32 - 1)))
    size = draw.draw(st.sampled_from((1.0, 1e-3, 1e20, 1e-30)))
    x, h = normal(rng, 4, B, I) * F(size), normal(rng, 1, B, H)
    y, last = layer(x, h)
    state = h[0]
    for t in range(4):
        state = reference.pre_activations(w, x[t], state)
        np.testing.assert_array_equal(y[t], state, strict=True)
    np.testing.assert_array_equal(last[0], state)


def gates_alone(kind, z, state, H):
    """What fastrnn's float32 cell makes of pre-activations (G H,) of one row: they are its biases,
    all its weights are zero."""
    layer_class, options = KINDS[kind]
    layer = layer_class(1, H, **options)
    weights = {name: np.zeros(p.shape, F) for name, p in layer.parameters().items()}
    weights |= {"bias_ih_l0": z[0], "bias_hh_l0": z[1]}
    layer.load_state_dict(weights)
    before = tuple(s[None] for s in state)
    _, after = layer.step(np.zeros(1, F), before if kind == "LSTM" else before[0])
    return [s[0] for s in after] if kind == "LSTM" else [after[0]]


@given(st.sampled_from(("RNN", "LSTM", "GRU")), SIZES, SIZES, st.integers(1, 3), st.booleans())
def test_int8_layers_are_the_formulas_bit_for_bit(kind, I, H, B, ids):  # noqa: E741
    """Products by the reference, gates by fastrnn's own float32 cell."""
    layer = make(kind, I, H, seed=3)
    w = reference_weights(layer)
    rng = np.random.default_rng(4)
    x = rng.integers(0, I, (3, B)) if ids else normal(rng, 3, B, I)
    vectors = np.eye(I, dtype=F)[x] if ids else x
    state = [normal(rng, 1, B, H) for _ in range(1 + (kind == "LSTM"))]
    y, _ = layer(x, tuple(state) if kind == "LSTM" else state[0])
    state = [s[0] for s in state]
    for t in range(3):
        if kind == "GRU":
            gates, n_x, n_h = reference.gru_pre_activations(w, vectors[t], state[0])
            zero = np.zeros_like(gates)
            z = np.concatenate([gates, n_x], 1), np.concatenate([zero, n_h], 1)
        else:
            z = reference.pre_activations(w, vectors[t], state[0])
            z = z, np.zeros_like(z)
        rows = [gates_alone(kind, [p[b] for p in z], [s[b] for s in state], H) for b in range(B)]
        state = [np.stack(part) for part in zip(*rows, strict=True)]
        np.testing.assert_array_equal(y[t], state[0], strict=True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("I", "H", "B"), [(3, 5, 4), (64, 65, 2), (130, 200, 1)])
def test_int8_steps_are_the_formulas_up_to_rounding(kind, I, H, B):  # noqa: E741
    """Each step from the state that the layer itself was in; gates in float64."""
    layer = make(kind, I, H)
    w = reference_weights(layer)
    rng = np.random.default_rng(5)
    state = [normal(rng, 1, B, H) for _ in range(1 + (kind == "LSTM"))]
    # A few units in the last place of numbers up to 4; of a reset gate before the product half an
    # integer of it: |r h| / 254 times a weight.
    allowed = 5e-6 if kind != "GRU before" else 5e-6 + 4 / 254 * H**-0.5
    for _ in range(4):
        x = normal(rng, B, I)
        want = reference.STEPS[kind](w, x, [s[0] for s in state])
        _, after = layer.step(x, tuple(state) if kind == "LSTM" else state[0])
        state = after if kind == "LSTM" else [after]
        for got, expected in zip(state, want, strict=True):
            assert np.abs(got[0] - expected).max() < allowed


@pytest.mark.parametrize("name", VARIANTS)
def test_int8_is_near_float32(name):
    """A factor of a product is off by at most half of 1 / 127 of the largest of its row, which is
    some 2 or 3 deviations: by about 3 / 127 / sqrt(12) = 0.7 % of a typical one. Both factors, and
    steps that hand errors on: a few percent of the outputs, in the mean square."""
    kind, options = VARIANTS[name]
    layer = variant_cases.make(kind, 32, 48, seed=1, **options)
    data = variant_cases.make_data(layer, 6, 5)
    got = variant_cases.infer(fastrnn.quantize(layer, "int8"), data)["y"]
    want = variant_cases.infer(layer, data)["y"]
    error = np.sqrt(np.mean((got - want) ** 2) / np.mean(want**2))
    assert 0 < error < 0.04


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_int8_of_an_input_that_is_not_finite_is_nan_in_its_row(wrong):
    layer = make("RNN", 5, 9, nonlinearity="identity")
    x = normal(np.random.default_rng(6), 3, 4, 5)
    y = layer(x)[0]
    x[1, 2, 3] = wrong
    got = layer(x)[0]
    assert np.isnan(got[1:, 2]).all()
    rows = [0, 1, 3]
    np.testing.assert_array_equal(got[:, rows], y[:, rows])
    np.testing.assert_array_equal(got[0], y[0])


def test_int8_of_numbers_that_are_too_small_is_zero():
    layer = make("RNN", 5, 9, nonlinearity="identity", bias=False)
    assert not layer(np.full((2, 3, 5), 1e-40, F))[0].any()
    assert not layer(np.zeros((2, 3, 5), F))[0].any()


# --- laws -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", EXACT)
@given(st.data())
def test_rows_are_independent_and_padding_changes_nothing(precision, draw):
    kind = draw.draw(st.sampled_from(list(KINDS)))
    layer_class, options = KINDS[kind]
    I, H, B, T = (draw.draw(s) for s in (SIZES, SIZES, st.integers(2, 9), st.integers(1, 5)))  # noqa: E741
    both = draw.draw(st.booleans())
    layer = layer_class(I, H, num_layers=2, bidirectional=both, seed=1, **options)
    layer = fastrnn.quantize(layer, precision)
    x = normal(np.random.default_rng(2), T, B, I)
    lengths = np.array(draw.draw(st.lists(st.integers(0, T), min_size=B, max_size=B)))
    y, _ = layer(x, None, lengths)
    for b in range(B):
        alone, _ = layer(x[: lengths[b], b])
        np.testing.assert_array_equal(y[: lengths[b], b], alone)
        assert not y[lengths[b] :, b].any()


@pytest.mark.parametrize("precision", EXACT)
@given(st.data())
def test_steps_and_parts_are_the_whole(precision, draw):
    kind = draw.draw(st.sampled_from(list(KINDS)))
    layer_class, options = KINDS[kind]
    I, H, B = (draw.draw(s) for s in (SIZES, SIZES, st.integers(1, 9)))  # noqa: E741
    layer = fastrnn.quantize(layer_class(I, H, num_layers=2, seed=1, **options), precision)
    T, cut = 5, draw.draw(st.integers(0, 5))
    x = normal(np.random.default_rng(2), T, B, I)
    y, last = layer(x)
    first, state = layer(x[:cut])
    second, state = layer(x[cut:], state)
    same(
        {"y": np.concatenate([first, second])} | name_states("", np.atleast_1d(state)),
        {"y": y} | name_states("", np.atleast_1d(last)),
    )
    state = None
    for t in range(T):
        y_t, state = layer.step(x[t], state)
        np.testing.assert_array_equal(y_t, y[t])


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_token_ids_are_one_hot_vectors(precision, kind):
    layer_class, options = KINDS[kind]
    layer = fastrnn.quantize(layer_class(19, 33, seed=1, **options), precision)
    ids = np.random.default_rng(2).integers(0, 19, (6, 5))
    for rows in (ids, ids[:, :1]):
        y, dense = layer(rows)[0], layer(np.eye(19, dtype=F)[rows])[0]
        np.testing.assert_array_equal(y, dense)


@pytest.mark.parametrize("precision", EXACT)
def test_a_stack_is_its_layers_in_a_row(precision):
    stack = fastrnn.quantize(fastrnn.GRU(7, 20, num_layers=2, seed=1), precision)
    x = normal(np.random.default_rng(2), 5, 3, 7)
    y = x
    for layer, size in enumerate((7, 20)):
        one = fastrnn.GRU(size, 20)
        one = fastrnn.quantize(one, precision)
        for name in one.parameters():
            given = stack.parameters()[name.replace("_l0", f"_l{layer}")]
            one.parameters()[name].restore(name, given.values, given.scales)
        y, _ = one(y)
    np.testing.assert_array_equal(stack(x)[0], y)


# --- models ---------------------------------------------------------------------------------------


def sequential():
    return fastrnn.Sequential(
        fastrnn.Embedding(11, 6, seed=1),
        fastrnn.Sequential(fastrnn.LSTM(6, 8, bidirectional=True, seed=2)),
        fastrnn.Residual(fastrnn.GRU(16, 16, seed=3)),
        fastrnn.Highway(fastrnn.RNN(16, 16, seed=4), 16, seed=5),
        fastrnn.Linear(16, 4, seed=6),
    )


def translator():
    return fastrnn.EncoderDecoder(
        fastrnn.LSTM(5, 6, bidirectional=True, seed=1),
        fastrnn.LuongDecoder(fastrnn.LSTM(7, 12, seed=2), fastrnn.GeneralAttention(12, 12, seed=3)),
        fastrnn.Linear(12, 9, seed=4),
        fastrnn.Embedding(10, 5, seed=5),
        fastrnn.Embedding(9, 7, seed=6),
    )


def recurrent_layers(model):
    found = [model] if isinstance(model, fastrnn.recurrent.Recurrent) else []
    return found + [each for child in model.children().values() for each in recurrent_layers(child)]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_recurrent_layer_of_a_model_becomes_small(precision):
    model = sequential()
    before = model.state_dict()
    small = fastrnn.quantize(model, precision)
    assert type(small) is type(model)
    assert [layer.precision for layer in recurrent_layers(small)] == [precision] * 3
    assert [layer.precision for layer in recurrent_layers(model)] == ["float32"] * 3
    same(model.state_dict(), before)
    ids = np.random.default_rng(1).integers(0, 11, (7, 3))
    difference = np.abs(small(ids)[0] - model(ids)[0]).max()
    assert 0 < difference < 0.05
    assert repr(small).count(f"precision='{precision}'") == 3
    assert "precision" not in repr(model)


def test_encoder_and_decoder_become_small():
    model = translator()
    small = fastrnn.quantize(model, "int8")
    assert [layer.precision for layer in recurrent_layers(small)] == ["int8"] * 2
    rng = np.random.default_rng(1)
    source, target = rng.integers(0, 10, (6, 4)), rng.integers(0, 9, (5, 4))
    (logits, _), (want, _) = small(source, target), model(source, target)
    assert 0 < np.abs(logits - want).max() < 0.05
    state = small.start(source)
    for t in range(5):
        step, state = small.step(target[t], state)
        np.testing.assert_allclose(step, logits[t], atol=1e-6)
    with pytest.raises(ValueError, match="expected float32 weights for training"):
        small.loss_vjp(source, target)


def test_a_layer_that_is_used_twice_stays_one():
    shared = fastrnn.GRU(4, 4, seed=1)
    small = fastrnn.quantize(fastrnn.Sequential(shared, shared), "bf16")
    assert small[0] is small[1]
    assert small[0].precision == "bf16"


def test_other_layers_can_still_be_trained():
    small = fastrnn.quantize(fastrnn.Sequential(fastrnn.GRU(3, 4), fastrnn.Linear(4, 2)), "int8")
    small[1].parameters()["weight"].data = np.zeros((2, 4))
    y, pullback = small[1].vjp(np.ones((2, 4), F))
    pullback(np.ones_like(y))
    assert small[1].parameters()["weight"].grad is not None


def test_gradients_are_left_behind():
    model = fastrnn.Sequential(fastrnn.GRU(3, 4), fastrnn.Linear(4, 2))
    (y, _), pullback = model.vjp(np.ones((2, 1, 3), F))
    pullback(np.ones_like(y))
    small = fastrnn.quantize(model, "int8")
    assert all(p.grad is None for p in small.parameters().values())
    assert all(p.grad is not None for p in model.parameters().values())


# --- small layers as layers -----------------------------------------------------------------------


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU", "IndRNN", "AUGRU"])
def test_copies_and_configurations_keep_the_precision(precision, kind):
    layer = getattr(fastrnn, kind)(5, 17, seed=1)
    assert "precision" not in layer.config()
    small = fastrnn.quantize(layer, precision)
    assert small.config() == layer.config() | {"precision": precision}
    twin = type(small).from_config(small.config())
    assert twin.config() == small.config()
    assert repr(twin) == repr(small) == f"{kind}(5, 17, precision={precision!r})"
    assert list(type(small).parameter_shapes(small.config())) == [
        (name, p.shape) for name, p in layer.parameters().items()
    ]
    data = variant_cases.make_data(small, 3, 2)
    want = variant_cases.infer(small, data)
    for copied in (copy.deepcopy(small), pickle.loads(pickle.dumps(small))):
        same(variant_cases.infer(copied, data), want)
    again = fastrnn.quantize(small, precision)
    assert again is not small
    same(variant_cases.infer(again, data), want)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_parameters_are_the_float32_numbers_and_read_only(precision):
    layer = fastrnn.LSTM(5, 7, proj_size=3, seed=1)
    small = fastrnn.quantize(layer, precision)
    assert small.num_parameters() == layer.num_parameters()
    for name, parameter in small.parameters().items():
        original = layer.parameters()[name].data
        assert parameter.shape == original.shape
        assert parameter.size == original.size
        assert parameter.dtype == parameter.data.dtype == np.float32
        # Half of the last of 8 bits, or of 1 / 127 of the largest of the row.
        assert np.abs(parameter.data - original).max() <= np.abs(original).max() / 254 * 1.001
        assert not parameter.requires_grad
        with pytest.raises(ValueError, match="read-only"):
            parameter.data = original
        with pytest.raises(ValueError, match="read-only"):
            parameter.data[...] = 0
    before = small.state_dict()
    with pytest.raises(ValueError, match="weight_ih_l0 is of a quantized layer") as caught:
        small.load_state_dict(layer.state_dict())
    assert str(caught.value).count("read-only") == len(before)
    same(small.state_dict(), before)
    layer.load_state_dict(before)


def test_loading_into_a_model_with_a_small_layer_writes_nothing():
    model = fastrnn.Sequential(fastrnn.Linear(3, 3, seed=1), fastrnn.GRU(3, 4, seed=2))
    small = fastrnn.quantize(model, "int8")
    before = small.state_dict()
    with pytest.raises(ValueError, match="read-only"):
        small.load_state_dict({name: np.zeros_like(w) for name, w in before.items()})
    same(small.state_dict(), before)
    small.load_state_dict({"0.weight": np.zeros((3, 3))}, strict=False)
    assert not small[0].weight.data.any()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_training_is_an_error_that_says_why(precision):
    message = f"LSTM: expected float32 weights for training or inspection, got {precision}"
    small = fastrnn.quantize(fastrnn.LSTM(3, 4), precision)
    x = np.ones((2, 1, 3), F)
    for function in (small.vjp, small.cell_states):
        with pytest.raises(ValueError, match=message):
            function(x)
    model = fastrnn.Sequential(small, fastrnn.Linear(4, 2))
    with pytest.raises(ValueError, match=message):
        model.vjp(x)
    trainer = fastrnn.Trainer(model, optimizer=fastrnn.optim.SGD(model, lr=0.1))
    targets = np.zeros((2, 1), int)
    with pytest.raises(ValueError, match=message):
        trainer.fit((x, targets), epochs=1, progress=False)


@pytest.mark.parametrize(
    ("model", "precision", "error", "message"),
    [
        (
            fastrnn.GRU(2, 3),
            "int4",
            ValueError,
            "precision: expected one of 'bf16', .*, got 'int4'",
        ),
        (fastrnn.GRU(2, 3), "float32", ValueError, "precision: expected one of .*, got 'float32'"),
        (fastrnn.GRU(2, 3), None, ValueError, "precision: expected one of .*, got None"),
        (np.ones(3), "int8", TypeError, "model: expected a Layer, got ndarray"),
        (fastrnn.Linear(2, 3), "int8", ValueError, "model: expected a recurrent layer, got Linear"),
        (
            fastrnn.Sequential(fastrnn.Linear(2, 3)),
            "int8",
            ValueError,
            "model: expected a recurrent layer, got Sequential",
        ),
        (
            fastrnn.Sequential(fastrnn.GRU(2, 3, dtype="float64")),
            "bf16",
            TypeError,
            r"model\.0: expected a float32 layer, got float64",
        ),
        (
            fastrnn.quantize(fastrnn.Sequential(fastrnn.GRU(2, 3)), "int8"),
            "bf16",
            ValueError,
            r"model\.0: expected a float32 layer, got one already quantized to int8",
        ),
    ],
)
def test_what_cannot_be_quantized(model, precision, error, message):
    with pytest.raises(error, match=message):
        fastrnn.quantize(model, precision)


@pytest.mark.parametrize("wrong", ["int4", "float32", None, 8, ["int8"]])
def test_a_configuration_of_an_unknown_precision(wrong):
    with pytest.raises(ValueError, match="precision: expected one of 'bf16'"):
        fastrnn.GRU.from_config({"input_size": 2, "hidden_size": 3, "precision": wrong})


# --- others ---------------------------------------------------------------------------------------


def test_state_dict_loads_in_pytorch():
    torch = pytest.importorskip("torch")
    small = fastrnn.quantize(fastrnn.LSTM(5, 7, num_layers=2, seed=1), "bf16")
    theirs = torch.nn.LSTM(5, 7, num_layers=2)
    theirs.load_state_dict({n: torch.from_numpy(w) for n, w in small.state_dict().items()})
    x = normal(np.random.default_rng(1), 4, 3, 5)
    y = theirs(torch.from_numpy(x))[0].detach().numpy()
    np.testing.assert_allclose(small(x)[0], y, atol=1e-6)


@pytest.mark.parametrize(("precision", "allowed"), [("bf16", 1e-6), ("int8", 0.02)])
@pytest.mark.parametrize("options", [{}, {"peephole": True, "zoneout": 0.1}])
def test_onnx_gets_the_float32_numbers(precision, allowed, options):
    """ONNX's operators have no such weights: the graph computes in float32 with what they stand
    for, which is bf16 exactly; of int8 the inputs and states are not rounded."""
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    from fastrnn.interop.onnx import export_model

    small = fastrnn.quantize(fastrnn.LSTM(5, 7, seed=1, **options), precision)
    session = onnxruntime.InferenceSession(export_model(small).SerializeToString())
    x = normal(np.random.default_rng(1), 4, 3, 5)
    zero = np.zeros((1, 3, 7), F)
    y = session.run(["y"], {"x": x, "h0": zero, "c0": zero})[0]
    np.testing.assert_allclose(small(x)[0], y, atol=allowed)
