"""Attention layers against their formulas: values, masks, gradients, arguments."""

import copy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastrnn
from fastrnn.attention import (
    AdditiveAttention,
    DotAttention,
    GeneralAttention,
    MultiHeadAttention,
    SelfAttentivePooling,
)
from fastrnn.layers import LAYER_CLASSES, build_layer, describe_layer
from reference import central_difference

T_Q, T_M, B, Q, M = 3, 5, 4, 6, 4
LENGTHS = np.array([5, 0, 3, 1])
MASK = np.random.default_rng(9).random((T_M, B)) < 0.6


def layers(batch_first=False, dtype="float64"):
    options = {"batch_first": batch_first, "dtype": dtype}
    return {
        "dot": DotAttention(Q, **options),
        "scaled": DotAttention(Q, scaled=True, **options),
        "general": GeneralAttention(Q, M, seed=1, **options),
        "additive": AdditiveAttention(Q, M, 7, seed=2, **options),
        "unbiased": AdditiveAttention(Q, M, 7, bias=False, seed=2, **options),
        "heads": MultiHeadAttention(Q, 2, seed=3, **options),
        "heads of their own": MultiHeadAttention(
            Q, 3, bias=False, kdim=M, average_attn_weights=False, seed=4, **options
        ),
    }


KINDS = tuple(layers())
POOLING = SelfAttentivePooling(Q, 7, hops=2, dtype="float64", seed=5)


def arrays(layer, seed=0, batch=B):
    """A query and a memory, in the layer's layout."""
    rng = np.random.default_rng(seed)
    shapes = (T_Q, batch, layer.query_size), (T_M, batch, layer.memory_size)
    pair = [rng.standard_normal(shape).astype(layer.dtype) for shape in shapes]
    return [np.ascontiguousarray(a.swapaxes(0, 1)) for a in pair] if layer.batch_first else pair


def real_steps(lengths=None, mask=None):
    real = np.ones((T_M, B), bool)
    if lengths is not None:
        real &= np.arange(T_M)[:, None] < lengths
    return real if mask is None else real & mask


def formula(layer, query, memory, real):
    """Context and weights, for each query of each row by itself; time first."""
    p = {name: parameter.data for name, parameter in layer.parameters().items()}
    T, batch = query.shape[:2]
    context = np.zeros((T, batch, layer.context_size))
    heads = getattr(layer, "num_heads", 1)
    weights = np.zeros((T, batch, heads, len(memory)))
    for b in range(batch):
        steps = np.flatnonzero(real[:, b])
        for t in range(T):
            q, m = query[t, b], memory[steps, b]
            if isinstance(layer, MultiHeadAttention):
                context[t, b], weights[t, b][:, steps] = formula_of_heads(layer, p, q, m)
                continue
            if isinstance(layer, AdditiveAttention):
                bias = p.get("memory_layer.bias", 0.0)
                z = p["query_layer.weight"] @ q + m @ p["memory_layer.weight"].T + bias
                e = np.tanh(z) @ p["attention_v.weight"][0]
            elif isinstance(layer, GeneralAttention):
                e = m @ p["query_layer.weight"] @ q
            else:
                e = m @ q / (np.sqrt(Q) if layer.scaled else 1.0)
            w = np.exp(e) / np.exp(e).sum()
            context[t, b], weights[t, b, 0, steps] = w @ m, w
    return context, weights if getattr(layer, "average_attn_weights", None) is False else (
        weights.mean(axis=2)
    )


def formula_of_heads(layer, p, q, m):
    if "in_proj_weight" in p:
        w_q, w_k, w_v = np.split(p["in_proj_weight"], 3)
    else:
        w_q, w_k, w_v = (p[f"{name}_proj_weight"] for name in "qkv")
    b_q, b_k, b_v = np.split(p.get("in_proj_bias", np.zeros(3 * Q)), 3)
    q, k, v = w_q @ q + b_q, m @ w_k.T + b_k, m @ w_v.T + b_v
    size = Q // layer.num_heads
    parts, weights = [], []
    for head in range(layer.num_heads):
        part = slice(head * size, head * size + size)
        e = np.exp(k[:, part] @ q[part] / np.sqrt(size))
        weights.append(e / e.sum() if len(e) else e)
        parts.append(weights[-1] @ v[:, part])
    y = p["out_proj.weight"] @ np.concatenate(parts) + p.get("out_proj.bias", 0.0)
    return y, weights


def randomise(layer, seed=1):
    """Give every parameter another value than its initial one, which may be zero."""
    rng = np.random.default_rng(seed)
    for parameter in layer.parameters().values():
        parameter.data = rng.standard_normal(parameter.shape) * 0.5
    return layer


@pytest.mark.parametrize("limits", [{}, {"lengths": LENGTHS}, {"mask": MASK}])
@pytest.mark.parametrize("kind", KINDS)
def test_attention_is_its_formula(kind, limits):
    layer = randomise(layers()[kind])
    query, memory = arrays(layer)
    want = formula(layer, query, memory, real_steps(**limits))
    for got in (layer(query, memory, **limits), layer.vjp(query, memory, **limits)[0]):
        for one, other in zip(got, want, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("kind", KINDS)
def test_batch_first_is_another_layout(kind):
    layer, other = layers()[kind], layers(batch_first=True)[kind]
    query, memory = arrays(layer)
    context, weights = layer(query, memory, LENGTHS, MASK)
    turned = [np.ascontiguousarray(a.swapaxes(0, 1)) for a in (query, memory)]
    (context_2, weights_2), pullback = other.vjp(*turned, LENGTHS, np.ascontiguousarray(MASK.T))
    assert np.array_equal(context_2.swapaxes(0, 1), context)
    assert np.array_equal(weights_2.swapaxes(0, 1), weights)
    gradients = layer.vjp(query, memory, LENGTHS, MASK)[1](context, weights)
    for one, two in zip(gradients, pullback(context_2, weights_2), strict=True):
        assert np.array_equal(one, two.swapaxes(0, 1))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", KINDS)
def test_results_have_the_dtype_of_the_layer(kind, dtype):
    layer = layers(dtype=dtype)[kind]
    query, memory = arrays(layer)
    (context, weights), pullback = layer.vjp(query, memory, LENGTHS, MASK)
    results = [context, weights, *pullback(context, weights), *layer(query, memory)]
    results += [parameter.grad for parameter in layer.parameters().values()]
    assert {array.dtype for array in results} == {np.dtype(dtype)}


@pytest.mark.parametrize("kind", KINDS)
def test_float32_is_near_float64(kind):
    layer, exact = layers(dtype="float32")[kind], layers()[kind]
    exact.load_state_dict(layer.state_dict())
    query, memory = arrays(layer)
    want = exact(query.astype(np.float64), memory.astype(np.float64), LENGTHS)
    for one, other in zip(layer(query, memory, LENGTHS), want, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-6)


def check_gradients(layer, inputs, outputs, pullback):
    """Compare a pullback with central differences of a random function of all outputs."""
    rng = np.random.default_rng(3)
    dy = [rng.standard_normal(y.shape) for y in outputs()]

    def loss():
        return float(sum(np.sum(y * d) for y, d in zip(outputs(), dy, strict=True)))

    layer.zero_grad()
    pairs = list(zip(pullback(dy), inputs, strict=True))
    for got, array in pairs:
        near(got, central_difference(loss, array))
    for parameter in layer.parameters().values():
        near(parameter.grad, central_difference(loss, parameter._array))


def near(got, want):
    assert got.shape == want.shape
    assert np.abs(got - want).max() <= 1e-7 * max(1.0, np.abs(want).max())


@pytest.mark.parametrize("limits", [{}, {"lengths": LENGTHS, "mask": MASK}])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients(kind, limits):
    layer = randomise(layers()[kind])
    query, memory = arrays(layer)
    check_gradients(
        layer,
        [query, memory],
        lambda: layer(query, memory, **limits),
        lambda dy: layer.vjp(query, memory, **limits)[1](*dy),
    )


@pytest.mark.parametrize("limits", [{}, {"lengths": LENGTHS}])
def test_gradients_of_pooling(limits):
    x = np.random.default_rng(1).standard_normal((T_M, B, Q))
    layer = randomise(copy.deepcopy(POOLING))
    check_gradients(
        layer,
        [x],
        lambda: layer(x, **limits),
        lambda dy: [layer.vjp(x, **limits)[1](*dy)],
    )


def test_pooling_is_its_formula():
    x = np.random.default_rng(1).standard_normal((T_M, B, Q))
    y, weights = POOLING(x, LENGTHS)
    w_1, w_2 = (POOLING.parameters()[f"{n}_layer.weight"].data for n in ("hidden", "hop"))
    assert y.shape == (B, 2 * Q)
    for b, length in enumerate(LENGTHS):
        h = x[:length, b]
        e = np.exp(w_2 @ np.tanh(w_1 @ h.T))
        a = e / e.sum(axis=1, keepdims=True) if length else e
        np.testing.assert_allclose(y[b], (a @ h).ravel(), rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(weights[b, :, :length], a, rtol=1e-12)
        assert not weights[b, :, length:].any()
    turned = SelfAttentivePooling(Q, 7, 2, batch_first=True, dtype="float64", seed=5)
    x_b, mask = np.ascontiguousarray(x.swapaxes(0, 1)), np.arange(T_M) < LENGTHS[:, None]
    assert np.array_equal(turned(x_b, mask=mask)[0], y)
    dy = np.ones_like(y)
    dx = POOLING.vjp(x, LENGTHS)[1](dy)
    assert np.array_equal(turned.vjp(x_b, LENGTHS)[1](dy), dx.swapaxes(0, 1))


@given(
    kind=st.sampled_from(KINDS),
    mask=st.lists(st.booleans(), min_size=T_M * B, max_size=T_M * B),
    lengths=st.lists(st.integers(0, T_M), min_size=B, max_size=B),
    garbage=st.sampled_from([np.nan, np.inf, -1e300, 7.0]),
)
def test_masked_steps_have_no_weight_and_no_influence(kind, mask, lengths, garbage):
    layer = layers()[kind]
    query, memory = arrays(layer)
    mask, lengths = np.reshape(mask, (T_M, B)), np.array(lengths)
    real = real_steps(lengths, mask)
    spoiled = np.where(real[:, :, None], memory, garbage)
    results = []
    for m in (memory, spoiled):
        layer.zero_grad()
        (context, weights), pullback = layer.vjp(query, m, lengths, mask)
        gradients = pullback(
            np.ones_like(context), np.cos(np.arange(weights.size)).reshape(weights.shape)
        )
        grads = [parameter.grad for parameter in layer.parameters().values()]
        results.append([context, weights, *gradients, *grads])
    for one, other in zip(*results, strict=True):
        assert np.array_equal(one, other)  # which NaN would not be
    context, weights, _, dmemory, *_ = results[0]
    of_heads = weights if weights.ndim == 4 else weights[:, :, None]
    assert not of_heads.transpose(3, 1, 0, 2)[~real].any()
    assert not dmemory[~real].any()
    some = real.any(axis=0)
    np.testing.assert_allclose(of_heads.sum(axis=-1)[:, some], 1.0, rtol=1e-12)
    assert not of_heads[:, ~some].any()
    if not kind.startswith("heads"):
        assert not context[:, ~some].any()


@given(
    x=st.sampled_from([np.nan, np.inf, 3.0]),
    lengths=st.lists(st.integers(0, T_M), min_size=B, max_size=B),
)
def test_pooling_does_not_look_at_padding(x, lengths):
    clean = np.random.default_rng(1).standard_normal((T_M, B, Q))
    spoiled = np.where((np.arange(T_M)[:, None] < lengths)[..., None], clean, x)
    for one, other in zip(POOLING(clean, lengths), POOLING(spoiled, lengths), strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("kind", KINDS)
def test_a_memory_without_steps_or_rows_is_read(kind):
    layer = layers()[kind]
    query, memory = arrays(layer)
    (context, weights), pullback = layer.vjp(query, memory[:0])
    assert weights.shape[-1] == 0
    assert not context.any() or kind == "heads"
    assert pullback(context)[1].shape == (0, B, layer.memory_size)
    context, weights = layer(query[:, :0], memory[:, :0])
    assert context.shape == (T_Q, 0, layer.context_size)
    context, weights = layer(query[:0], memory)
    assert weights.shape[0] == 0


@pytest.mark.parametrize("kind", KINDS)
def test_large_scores_do_not_overflow(kind):
    layer = layers(dtype="float32")[kind]
    query, memory = arrays(layer)
    context, weights = layer(query * 1e4, memory * 1e4, LENGTHS)
    assert np.isfinite(context).all()
    assert np.isfinite(weights).all()


@pytest.mark.parametrize("kind", KINDS)
def test_prepared_memory_gives_the_same(kind):
    layer = layers()[kind]
    query, memory = arrays(layer)
    context, weights = layer(query, memory, LENGTHS)
    prepared = layer.prepare(memory, LENGTHS)
    rows = [2, 0, 2]
    other = layer.read(query[:, rows], prepared.select(rows))
    np.testing.assert_allclose(other[0], context[:, rows], rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(other[1], weights[:, rows], rtol=1e-13, atol=1e-14)
    everything = layer.prepare(memory).select([1])
    assert everything.mask is None
    assert everything.values.shape[0] == 1


def test_dropout_of_weights_is_for_training_alone():
    layer = MultiHeadAttention(Q, 2, dropout=0.5, average_attn_weights=False, seed=1)
    plain = MultiHeadAttention(Q, 2, average_attn_weights=False, seed=1)
    query, memory = arrays(layer)
    assert np.array_equal(layer(query, memory)[0], plain(query, memory)[0])
    weights = layer(query, memory)[1]
    dropped = layer.vjp(query, memory)[0][1]
    kept = dropped != 0
    assert 0.3 < kept.mean() < 0.7
    np.testing.assert_allclose(dropped[kept], 2.0 * weights[kept], rtol=1e-6)
    all_gone = MultiHeadAttention(Q, 2, dropout=1.0).vjp(query, memory)[0][0]
    assert not all_gone.any()


def test_dropped_weights_get_no_gradient():
    query, memory = np.random.default_rng(0).standard_normal((2, 1, T_M, Q))
    query, memory = query.swapaxes(0, 1), memory.swapaxes(0, 1)
    layer = MultiHeadAttention(Q, 2, dropout=0.5, dtype="float64", seed=8)
    states = copy.deepcopy(layer._rng.bit_generator.state)

    def outputs():
        layer._rng.bit_generator.state = states
        return layer.vjp(query, memory)[0]

    def pullback(dy):
        layer._rng.bit_generator.state = states
        return layer.vjp(query, memory)[1](*dy)

    query, memory = np.ascontiguousarray(query), np.ascontiguousarray(memory)
    check_gradients(layer, [query, memory], outputs, pullback)


def test_frozen_parameters_get_no_gradient():
    for layer in layers().values():
        query, memory = arrays(layer)
        for frozen in layer.parameters().values():
            layer.zero_grad()
            frozen.requires_grad = False
            layer.vjp(query, memory)[1](np.ones((T_Q, B, layer.context_size)))
            for parameter in layer.parameters().values():
                assert (parameter.grad is None) == (parameter is frozen)
            frozen.requires_grad = True


def test_changed_weights_are_an_error():
    layer = layers()["heads"]
    query, memory = arrays(layer)
    (context, _), pullback = layer.vjp(query, memory)
    layer.parameters()["in_proj_weight"].data = np.zeros((3 * Q, Q))
    with pytest.raises(RuntimeError, match="the weights changed"):
        pullback(context)


# Descriptions and files


def test_every_kind_of_this_file_is_registered():
    kinds = {type(layer).__name__ for layer in [*layers().values(), POOLING]}
    assert kinds <= LAYER_CLASSES.keys()


@pytest.mark.parametrize("layer", [*layers(dtype="float32").values(), POOLING], ids=repr)
def test_layers_are_built_from_their_description(tmp_path, layer):
    other = build_layer(describe_layer(layer))
    assert repr(other) == repr(layer)
    want = [(name, parameter.shape) for name, parameter in layer.parameters().items()]
    assert [(name, p.shape) for name, p in other.parameters().items()] == want
    assert list(type(layer).parameter_shapes(layer.config())) == want
    fastrnn.save(layer, tmp_path / "layer.safetensors")
    loaded = fastrnn.load(tmp_path / "layer.safetensors")
    assert loaded.config() == layer.config()
    for name, array in loaded.state_dict().items():
        assert np.array_equal(array, layer.state_dict()[name])


def test_parameter_shapes_build_nothing():
    huge = {"query_size": 10**12, "memory_size": 10**12, "attention_size": 10**12}
    assert next(GeneralAttention.parameter_shapes(huge))[1] == (10**12, 10**12)
    assert next(AdditiveAttention.parameter_shapes(huge))[1] == (10**12, 10**12)
    heads = MultiHeadAttention.parameter_shapes({"embed_dim": 10**12, "num_heads": 1})
    assert next(heads)[1] == (3 * 10**12, 10**12)
    pooling = {"in_features": 10**12, "attention_size": 10**12}
    assert next(SelfAttentivePooling.parameter_shapes(pooling))[1] == (10**12, 10**12)


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (DotAttention(3, scaled=True), "DotAttention(3, scaled=True)"),
        (GeneralAttention(3, 4), "GeneralAttention(3, 4)"),
        (AdditiveAttention(3, 4, 5, bias=False), "AdditiveAttention(3, 4, 5, bias=False)"),
        (MultiHeadAttention(4, 2), "MultiHeadAttention(4, 2)"),
        (MultiHeadAttention(4, 2, kdim=3), "MultiHeadAttention(4, 2, kdim=3)"),
        (SelfAttentivePooling(3, 4, 2), "SelfAttentivePooling(3, 4, hops=2)"),
    ],
)
def test_repr(layer, text):
    assert repr(layer) == text


# Arguments


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"query": np.zeros((3, 4, 5))}, ValueError, r"query: expected the shape \(T_q, 4, 6\)"),
        ({"query": np.zeros((3, 2, 6))}, ValueError, r"query: .* \(T_q, 4, 6\), got \(3, 2, 6\)"),
        ({"query": np.zeros((3, 4, 6), "f4")}, TypeError, "query: expected an array of float64"),
        ({"memory": np.zeros((5, 4))}, ValueError, r"memory: expected the shape \(T_m, B, 4\)"),
        ({"memory": np.zeros((5, 4, 4), int)}, TypeError, "memory: expected an array of float64"),
        ({"lengths": [1, 2, 3]}, ValueError, r"lengths: expected the shape \(4,\), got \(3,\)"),
        ({"lengths": [1, 2, 3, 6]}, ValueError, "lengths: expected numbers from 0 to 5, got 6"),
        ({"lengths": [1, 2, 3, -1]}, ValueError, "lengths: expected numbers from 0 to 5, got -1"),
        ({"lengths": [1.0] * 4}, TypeError, "lengths: expected an array of integers"),
        ({"mask": np.ones((5, 4))}, TypeError, "mask: expected an array of bool, got float64"),
        ({"mask": np.ones((4, 5), bool)}, ValueError, r"mask: expected the shape \(5, 4\)"),
    ],
)
def test_wrong_arguments(arguments, error, message):
    layer = layers()["general"]
    query, memory = arrays(layer)
    for function in (layer, layer.vjp):
        with pytest.raises(error, match=message):
            function(**{"query": query, "memory": memory, **arguments})


def test_wrong_gradients():
    layer = layers()["general"]
    (context, weights), pullback = layer.vjp(*arrays(layer))
    with pytest.raises(ValueError, match=r"dcontext: expected the output's shape \(3, 4, 4\)"):
        pullback(context[:, :1])
    with pytest.raises(ValueError, match=r"dweights: expected the output's shape \(3, 4, 5\)"):
        pullback(context, weights[:1])
    with pytest.raises(TypeError, match="dcontext: expected an array of float64"):
        pullback(context.astype(np.float32))


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: DotAttention(0), ValueError, "size: expected at least 1, got 0"),
        (lambda: DotAttention(3, scaled=1), TypeError, "scaled: expected True or False"),
        (lambda: GeneralAttention(3, "4"), TypeError, "memory_size: expected an integer"),
        (lambda: AdditiveAttention(3, 4, 0), ValueError, "attention_size: expected at least 1"),
        (lambda: MultiHeadAttention(6, 4), ValueError, "num_heads: expected a divisor of 6, got 4"),
        (lambda: MultiHeadAttention(6, 3, 1.5), ValueError, "dropout: expected a number from 0"),
        (lambda: SelfAttentivePooling(6, 3, 0), ValueError, "hops: expected at least 1"),
        (lambda: DotAttention(3, dtype="float16"), TypeError, "dtype: expected float32"),
    ],
)
def test_wrong_constructor_arguments(build, error, message):
    with pytest.raises(error, match=message):
        build()
