"""Decoders, the bridge and the encoder-decoder: whole sequences, steps, gradients, files."""

import copy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastrnn
from fastrnn.attention import AdditiveAttention, DotAttention, GeneralAttention, MultiHeadAttention
from fastrnn.layers import Dropout, Embedding, Linear, build_layer, describe_layer
from fastrnn.recurrent import GRU, LSTM, RNN
from fastrnn.seq2seq import (
    Bridge,
    EncoderDecoder,
    InputFeedingDecoder,
    LuongDecoder,
    PlainDecoder,
)
from reference import central_difference

T_S, T, B, N_IN, H, M, V = 5, 4, 3, 2, 4, 4, 6
LENGTHS = np.array([5, 1, 3])
F64 = {"dtype": "float64"}


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def decoders():
    return {
        "plain": PlainDecoder(GRU(N_IN, H, 2, **F64, seed=1)),
        "luong": LuongDecoder(LSTM(N_IN, H, 2, **F64, seed=1), DotAttention(H, **F64), 3, seed=2),
        "luong additive": LuongDecoder(
            RNN(N_IN, H, **F64, seed=1), AdditiveAttention(H, M, 5, **F64, seed=3), seed=2
        ),
        "luong of a projection": LuongDecoder(
            LSTM(N_IN, 5, proj_size=H, **F64, seed=1), DotAttention(H, **F64), seed=2
        ),
        "luong heads": LuongDecoder(
            GRU(N_IN, H, **F64, seed=1), MultiHeadAttention(H, 2, **F64, seed=3), seed=2
        ),
        "feeding": InputFeedingDecoder(
            LSTM(N_IN + 3, H, **F64, seed=1), GeneralAttention(H, M, **F64, seed=3), 3, seed=2
        ),
        "feeding additive": InputFeedingDecoder(
            GRU(N_IN + H, H, 2, **F64, seed=1), AdditiveAttention(H, M, 5, **F64, seed=3), seed=2
        ),
    }


DECODERS = tuple(decoders())


def arrays_of(state):
    """The arrays of a state, which may be nested."""
    if isinstance(state, tuple):
        return [array for part in state for array in arrays_of(part)]
    return [state]


def first_state(decoder, batch=B):
    """A state with no zeros in it, of the decoder."""
    rnn = decoder.rnn
    shape = (rnn.num_layers, batch, H)
    state = normal(*shape, seed=7)
    if isinstance(rnn, LSTM):
        state = state, normal(rnn.num_layers, batch, rnn.hidden_size, seed=8)
    if isinstance(decoder, InputFeedingDecoder):
        state = state, normal(batch, decoder.output_size, seed=9)
    return state


def near(got, want, tolerance=1e-7):
    assert got.shape == want.shape
    assert np.abs(got - want).max() <= tolerance * max(1.0, np.abs(want).max())


def check_parameters(layer, loss):
    for name, parameter in layer.parameters().items():
        near(parameter.grad, differences(parameter, loss)), name


def differences(parameter, loss):
    """Central differences over a parameter, which is told of each change."""
    array = parameter.data.copy()

    def value():
        parameter.data = array
        return loss()

    gradient = central_difference(value, array)
    parameter.data = array
    return gradient


# Decoders


@pytest.mark.parametrize("kind", DECODERS)
def test_gradients_of_decoders(kind):
    decoder = decoders()[kind]
    x, memory, state = normal(T, B, N_IN), normal(T_S, B, M, seed=1), first_state(decoder)
    outputs = decoder(x, memory, state, LENGTHS)
    dy = normal(*outputs.y.shape, seed=2)
    dstate = copy.deepcopy(outputs.state)
    for index, array in enumerate(arrays_of(dstate)):
        array[...] = normal(*array.shape, seed=3 + index)

    def loss():
        y, last, _ = decoder(x, memory, state, LENGTHS)
        pairs = zip(arrays_of(last), arrays_of(dstate), strict=True)
        return float(np.sum(y * dy) + sum(np.sum(s * d) for s, d in pairs))

    trained, pullback = decoder.vjp(x, memory, state, LENGTHS)
    near(trained.y, outputs.y, 1e-14)
    dx, dmemory, dstate0 = pullback(dy, dstate)
    near(dx, central_difference(loss, x))
    if decoder.attention is None:
        assert dmemory is None
    else:
        near(dmemory, central_difference(loss, memory))
    for got, array in zip(arrays_of(dstate0), arrays_of(state), strict=True):
        near(got, central_difference(loss, array))
    check_parameters(decoder, loss)


@pytest.mark.parametrize("kind", DECODERS)
def test_a_pullback_gives_the_same_twice(kind):
    decoder = decoders()[kind]
    x, memory = normal(T, B, N_IN), normal(T_S, B, M, seed=1)
    (y, _, _), pullback = decoder.vjp(x, memory, None, LENGTHS)
    first = pullback(y)
    grads = {name: parameter.grad.copy() for name, parameter in decoder.parameters().items()}
    assert np.array_equal(first.dx, pullback(y).dx)
    for name, parameter in decoder.parameters().items():
        near(parameter.grad, 2.0 * grads[name], 1e-12)


@pytest.mark.parametrize("kind", DECODERS)
def test_steps_give_what_the_whole_sequence_gives(kind):
    decoder = decoders()[kind]
    x, memory, state = normal(T, B, N_IN), normal(T_S, B, M, seed=1), first_state(decoder)
    whole = decoder(x, memory, state, LENGTHS)
    prepared = decoder.prepare(memory, LENGTHS)
    for t in range(T):
        y, state, weights = decoder.step(x[t], state, prepared)
        near(y, whole.y[t], 1e-14)
        if weights is not None:
            near(weights, whole.weights[t], 1e-14)
    for one, other in zip(arrays_of(state), arrays_of(whole.state), strict=True):
        near(one, other, 1e-14)


def test_the_recurrent_stack_of_a_luong_decoder_keeps_its_bits():
    decoder = decoders()["luong"]
    x, memory = normal(T, B, N_IN), normal(T_S, B, M, seed=1)
    state, prepared = None, decoder.prepare(memory)
    for t in range(T):
        _, state, _ = decoder.step(x[t], state, prepared)
    for one, other in zip(state, decoder(x, memory).state, strict=True):
        assert np.array_equal(one, other)


def test_luong_decoder_is_its_formula():
    decoder = decoders()["luong additive"]
    x, memory = normal(T, B, N_IN), normal(T_S, B, M, seed=1)
    h, _ = decoder.rnn(x)
    context, weights = decoder.attention(h, memory, LENGTHS)
    w_c = decoder.parameters()["combine.weight"].data
    got = decoder(x, memory, lengths=LENGTHS)
    near(got.y, np.tanh(np.concatenate([context, h], axis=-1) @ w_c.T), 1e-14)
    assert np.array_equal(got.weights, weights)


def test_input_feeding_is_its_formula():
    decoder = decoders()["feeding"]
    x, memory = normal(T, B, N_IN), normal(T_S, B, M, seed=1)
    w_c = decoder.parameters()["combine.weight"].data
    fed, state, want = np.zeros((B, 3)), None, []
    for x_t in x:
        h, state = decoder.rnn(np.concatenate([x_t, fed], axis=-1)[None], state)
        context, _ = decoder.attention(h, memory, LENGTHS)
        fed = np.tanh(np.concatenate([context[0], h[0]], axis=-1) @ w_c.T)
        want.append(fed)
    near(decoder(x, memory, lengths=LENGTHS).y, np.stack(want), 1e-14)


def test_decoders_take_masks_with_holes():
    mask = np.random.default_rng(3).random((T_S, B)) < 0.5
    for kind in ("luong", "feeding"):
        decoder = decoders()[kind]
        x, memory = normal(T, B, N_IN), normal(T_S, B, M, seed=1)
        spoiled = np.where(mask[..., None], memory, np.nan)
        want, got = decoder(x, memory, mask=mask), decoder(x, spoiled, mask=mask)
        assert np.array_equal(got.y, want.y)
        assert not got.weights.transpose(2, 1, 0)[~mask].any()


# Bridge


@pytest.mark.parametrize("decoder", [GRU(2, 3, 2, **F64), LSTM(2, 4, proj_size=3, **F64)], ids=repr)
@pytest.mark.parametrize(
    "encoder",
    [
        LSTM(2, 4, 2, bidirectional=True, **F64),
        LSTM(2, 4, proj_size=3, **F64),
        RNN(2, 5, **F64),
    ],
    ids=repr,
)
def test_bridge(encoder, decoder):
    bridge = Bridge.between(encoder, decoder, seed=1)
    x = normal(T, B, 2)
    _, last = encoder(x)
    decoder(x, bridge(last))  # fits
    parts = [last] if isinstance(last, np.ndarray) else list(last)
    flat = np.stack([np.concatenate([p[:, b].ravel() for p in parts]) for b in range(B)])
    p = {name: parameter.data for name, parameter in bridge.parameters().items()}
    z = flat @ p["linear.weight"].T + p["linear.bias"]
    layers = decoder.num_layers
    h = np.tanh(z[:, : layers * 3].reshape(B, layers, 3).swapaxes(0, 1))
    near(arrays_of(bridge(last))[0], h, 1e-14)
    if isinstance(decoder, LSTM):
        near(bridge(last)[1], z[:, layers * 3 :].reshape(B, layers, 4).swapaxes(0, 1), 1e-14)

    state, pullback = bridge.vjp(last)
    dstate = tuple(normal(*a.shape, seed=i) for i, a in enumerate(arrays_of(state)))

    def loss():
        pairs = zip(arrays_of(bridge(last)), dstate, strict=True)
        return float(sum(np.sum(s * d) for s, d in pairs))

    dlast = pullback(dstate if len(dstate) > 1 else dstate[0])
    for got, array in zip(arrays_of(dlast), parts, strict=True):
        near(got, central_difference(loss, array))
    check_parameters(bridge, loss)


# Encoder-decoder


def models(dtype="float64"):
    d = {"dtype": dtype}
    wide = LSTM(3, H, bidirectional=True, **d, seed=1)
    summing = RNN(3, H, bidirectional=True, merge_mode="sum", **d, seed=1)
    two_layers = GRU(3, H, 2, bidirectional=True, **d, seed=1)
    thin = GRU(2, 5, **d, seed=3)
    attention = GeneralAttention(5, 2 * H, **d, seed=4)
    embeddings = Embedding(7, 3, **d, seed=5), Embedding(V, 2, **d, seed=6)
    return {
        "plain": EncoderDecoder(
            two_layers,
            PlainDecoder(GRU(2, 2 * H, 2, **d, seed=3)),
            Linear(2 * H, V, **d, seed=7),
            *embeddings,
        ),
        "one-hot": EncoderDecoder(
            RNN(7, H, **d, seed=1),
            LuongDecoder(RNN(V, H, **d, seed=3), DotAttention(H, **d), seed=2),
            Linear(H, V, **d, seed=7),
        ),
        "projections": EncoderDecoder(
            LSTM(3, 5, bidirectional=True, proj_size=2, **d, seed=1),
            LuongDecoder(LSTM(2, 10, proj_size=4, **d, seed=3), DotAttention(4, **d), seed=2),
            Linear(4, V, **d, seed=7),
            *embeddings,
        ),
        "sum of directions": EncoderDecoder(
            summing,
            LuongDecoder(thin, GeneralAttention(5, H, **d, seed=4), seed=2),
            Linear(5, V, **d, seed=7),
            *embeddings,
            Bridge.between(summing, thin, seed=8),
        ),
        "luong": EncoderDecoder(
            wide,
            LuongDecoder(thin, attention, seed=2),
            Linear(5, V, **d, seed=7),
            *embeddings,
            Bridge.between(wide, thin, seed=8),
            seed=9,
        ),
        "feeding": EncoderDecoder(
            wide,
            InputFeedingDecoder(
                LSTM(2 + 3, 2 * H, **d, seed=3), DotAttention(2 * H, **d), 3, seed=2
            ),
            Linear(3, V, **d, seed=7),
            *embeddings,
            seed=9,
        ),
    }


MODELS = tuple(models())


def batch(seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 7, (T_S, B)), rng.integers(0, V, (T + 1, B))


TARGET_LENGTHS = np.array([5, 3, 4])


@pytest.mark.parametrize("kind", MODELS)
def test_gradients_of_the_loss(kind):
    model = models()[kind]
    source, target = batch()
    arguments = source, target, LENGTHS, TARGET_LENGTHS
    loss, pullback = model.loss_vjp(*arguments)
    assert pullback() is None  # tokens
    logits, _ = model(source, target[:-1], LENGTHS)
    mask = np.arange(1, T + 1)[:, None] < TARGET_LENGTHS
    assert loss == pytest.approx(fastrnn.losses.cross_entropy(logits, target[1:], mask=mask)[0])
    check_parameters(model, lambda: model.loss_vjp(*arguments)[0])


def test_gradient_of_a_source_of_vectors():
    encoder = GRU(N_IN, H, **F64, seed=1)
    decoder = LuongDecoder(GRU(V, H, **F64, seed=2), DotAttention(H, **F64), seed=3)
    model = EncoderDecoder(encoder, decoder, Linear(H, V, **F64, seed=4))
    source, target = normal(T_S, B, N_IN), batch()[1]
    dsource = model.loss_vjp(source, target, LENGTHS)[1]()
    near(dsource, central_difference(lambda: model.loss_vjp(source, target, LENGTHS)[0], source))
    assert not dsource[1:, 1].any()


@pytest.mark.parametrize("kind", MODELS)
def test_steps_give_the_logits_of_the_whole_sequence(kind):
    model = models()[kind]
    source, target = batch()
    logits, weights = model(source, target, LENGTHS)
    (trained, trained_weights), _ = model.vjp(source, target, LENGTHS)
    near(trained, logits, 1e-13)
    assert (weights is None) == (trained_weights is None) == (kind == "plain")
    state = model.start(source, LENGTHS)
    for t, tokens in enumerate(target):
        got, state = model.step(tokens, state)
        near(got, logits[t], 1e-13)


@given(
    kind=st.sampled_from(MODELS),
    rows=st.lists(st.integers(0, B - 1), max_size=6),
    before=st.integers(0, 2),
)
def test_selected_rows_go_on_as_they_would_have(kind, rows, before):
    model = models()[kind]
    source, target = batch()
    state = model.start(source, LENGTHS)
    for tokens in target[:before]:
        _, state = model.step(tokens, state)
    chosen = model.select(state, np.array(rows, np.int64))
    for tokens in target[before:]:
        logits, state = model.step(tokens, state)
        got, chosen = model.step(tokens[rows], chosen)
        assert got.shape == (len(rows), V)
        if rows:
            near(got, logits[rows], 1e-13)


@pytest.mark.parametrize("kind", MODELS)
def test_padding_has_no_influence(kind):
    model = models()[kind]
    source, target = batch()
    arguments = target, LENGTHS, TARGET_LENGTHS
    results = []
    for token in (0, 3):
        padded = np.where(np.arange(T_S)[:, None] < LENGTHS, source, token)
        labels = np.where(np.arange(T + 1)[:, None] < TARGET_LENGTHS, target, token)
        model.zero_grad()
        loss, pullback = model.loss_vjp(padded, labels, *arguments[1:])
        pullback()
        results.append([loss, *(parameter.grad for parameter in model.parameters().values())])
    for one, other in zip(*results, strict=True):
        near(np.asarray(one), np.asarray(other), 1e-13)


def test_scheduled_sampling_of_nothing_is_teacher_forcing():
    for kind, model in models().items():
        source, target = batch()
        before = copy.deepcopy(model._rng.bit_generator.state)
        (forced, _), _ = model.vjp(source, target, LENGTHS)
        (sampled, _), _ = model.vjp(source, target, LENGTHS, sampling=0.0)
        assert np.array_equal(forced, sampled), kind
        assert model._rng.bit_generator.state == before


@pytest.mark.parametrize("kind", MODELS)
def test_scheduled_sampling_feeds_the_models_own_tokens(kind):
    source, target = batch()
    model, twin = models()[kind], models()[kind]
    for each in (model, twin):
        each._rng = np.random.default_rng(4)
        each.output.bias.data = [0.0, 0.0, 0.0, 50.0, 0.0, 0.0]  # says nothing but token 3
    (logits, _), pullback = model.vjp(source, target, LENGTHS, sampling=1.0)
    fed = np.concatenate([target[:1], np.full_like(target[1:], 3)])
    near(logits, model(source, fed, LENGTHS)[0], 1e-13)
    pullback(np.ones_like(logits))
    _, pullback = twin.vjp(source, fed, LENGTHS)
    pullback(np.ones_like(logits))
    for one, other in zip(model.parameters().values(), twin.parameters().values(), strict=True):
        near(one.grad, other.grad, 1e-12)


def test_scheduled_sampling_keeps_some_tokens_and_follows_its_seed():
    source, target = np.zeros((2, 50), int), np.zeros((20, 50), int)
    results = []
    for _ in range(2):
        model = models()["luong"]
        model.output.bias.data = [-1e3, 0.0, 0.0, 0.0, 0.0, 0.0]  # never says 0
        model.output.weight.data = np.zeros((V, 5))
        state = model.start(source)
        results.append(model._sampled(target, state, 0.25))
    assert np.array_equal(*results)
    own = results[0] != 0
    assert not own[0].any()
    assert own[1:].mean() == pytest.approx(0.25, abs=0.06)  # 4.2 standard errors of 950 draws
    counts = np.bincount(results[0][own], minlength=V)[1:]
    assert counts.min() > 0.5 * counts.mean()  # all five of the same probability


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", MODELS)
def test_a_model_comes_back_as_it_was(tmp_path, kind, dtype):
    model = models(dtype)[kind]
    fastrnn.save(model, tmp_path / "model.safetensors", {"epoch": 3})
    loaded = fastrnn.load(tmp_path / "model.safetensors")
    assert repr(loaded) == repr(model)
    source, target = batch()
    logits = model(source, target, LENGTHS)[0]
    assert logits.dtype == np.dtype(dtype)
    assert np.array_equal(loaded(source, target, LENGTHS)[0], logits)
    want = [(name, parameter.shape) for name, parameter in model.parameters().items()]
    assert list(EncoderDecoder.parameter_shapes(model.config())) == want


@pytest.mark.parametrize("kind", DECODERS)
def test_decoders_are_built_from_their_description(kind):
    decoder = decoders()[kind]
    other = build_layer(describe_layer(decoder))
    assert repr(other) == repr(decoder)
    want = [(name, parameter.shape) for name, parameter in decoder.parameters().items()]
    assert [(name, parameter.shape) for name, parameter in other.parameters().items()] == want
    assert list(type(decoder).parameter_shapes(decoder.config())) == want


def test_a_hostile_description_builds_nothing():
    config = decoders()["luong"].config()
    config["attentional_size"] = 10**12
    *_, last = LuongDecoder.parameter_shapes(config)
    assert last == ("combine.weight", (10**12, 2 * H))
    config["attention"] = describe_layer(Linear(3, 4))
    with pytest.raises(TypeError, match="attention: expected an Attention, got Linear"):
        list(LuongDecoder.parameter_shapes(config))


def test_a_copy_is_a_model_of_its_own():
    model = models()["luong"]
    source, target = batch()
    logits = model(source, target)[0]
    other = copy.deepcopy(model)
    for parameter in other.parameters().values():
        parameter.data = parameter.data + 1.0
    assert np.array_equal(model(source, target)[0], logits)
    assert not np.array_equal(other(source, target)[0], logits)


# Arguments


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: PlainDecoder(Linear(2, 3)), TypeError, "rnn: expected an RNN, LSTM or GRU"),
        (lambda: PlainDecoder("lstm"), TypeError, "rnn: expected a Layer, got str"),
        (lambda: PlainDecoder(GRU(2, 3, bidirectional=True)), ValueError, "rnn: expected one dir"),
        (lambda: PlainDecoder(GRU(2, 3, go_backwards=True)), ValueError, "rnn: .* forwards"),
        (lambda: PlainDecoder(GRU(2, 3, batch_first=True)), ValueError, "rnn: .* time first"),
        (lambda: LuongDecoder(GRU(2, 3), Dropout()), TypeError, "attention: expected an Attention"),
        (
            lambda: LuongDecoder(GRU(2, 3), DotAttention(4)),
            ValueError,
            "attention: expected queries of the hidden size 3, got 4",
        ),
        (
            lambda: LuongDecoder(GRU(2, 3), DotAttention(3, batch_first=True)),
            ValueError,
            "attention: expected time first",
        ),
        (
            lambda: LuongDecoder(GRU(2, 3), DotAttention(3, dtype="float64")),
            TypeError,
            "attention: expected float32 as rnn has, got float64",
        ),
        (
            lambda: InputFeedingDecoder(GRU(3, 3), DotAttention(3)),
            ValueError,
            "rnn: expected an input size above the fed vector's 3, got 3",
        ),
        (
            lambda: EncoderDecoder(GRU(2, 3), GRU(2, 3), Linear(3, V)),
            TypeError,
            "decoder: got a GRU",
        ),
        (
            lambda: EncoderDecoder(GRU(2, 3), PlainDecoder(GRU(2, 4)), Linear(4, V)),
            ValueError,
            "bridge: expected one",
        ),
        (
            lambda: EncoderDecoder(GRU(2, 3), PlainDecoder(LSTM(2, 3)), Linear(3, V)),
            ValueError,
            "bridge: expected one",
        ),
        (
            lambda: EncoderDecoder(
                GRU(2, 3), PlainDecoder(GRU(2, 3)), Linear(3, V), bridge=Bridge(4, [3])
            ),
            ValueError,
            "bridge: expected .*'in_features': 3",
        ),
        (
            lambda: EncoderDecoder(GRU(2, 3), PlainDecoder(GRU(2, 3)), Linear(4, V)),
            ValueError,
            "output.in_features: expected 3, got 4",
        ),
        (
            lambda: EncoderDecoder(
                GRU(2, 3), PlainDecoder(GRU(2, 3)), Linear(3, V), Embedding(4, 5)
            ),
            ValueError,
            "source_embedding.embedding_dim: expected 2, got 5",
        ),
        (
            lambda: EncoderDecoder(
                GRU(2, 3, bidirectional=True),
                LuongDecoder(GRU(2, 6), DotAttention(6)),
                Linear(6, V),
                None,
                Embedding(4, 5),
            ),
            ValueError,
            "target_embedding.embedding_dim: expected 2, got 5",
        ),
        (
            lambda: EncoderDecoder(
                GRU(2, 3), LuongDecoder(GRU(2, 4), DotAttention(4)), Linear(4, V)
            ),
            ValueError,
            "the attention's memory_size: expected 3, got 4",
        ),
    ],
)
def test_parts_that_do_not_fit(build, error, message):
    with pytest.raises(error, match=message):
        build()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"target": np.zeros((1, B), int)}, ValueError, "target: expected at least two steps"),
        ({"target": np.zeros(B, int)}, ValueError, r"target: expected the shape \(T, B\)"),
        ({"target": np.zeros((T, B))}, TypeError, "target: expected an array of integers"),
        ({"target_lengths": [1, 2]}, ValueError, r"target_lengths: expected the shape \(3,\)"),
        ({"target_lengths": [1, 2, 9]}, ValueError, "target_lengths: expected numbers from 0 to"),
        ({"lengths": [1, 2, 9]}, ValueError, "lengths: expected numbers from 0 to 5, got 9"),
        ({"sampling": 1.5}, ValueError, "sampling: expected a number from 0.0 to 1.0, got 1.5"),
        ({"source": np.full((T_S, B), 7)}, IndexError, "ids: expected ids from 0 to 6"),
    ],
)
def test_wrong_arguments_of_the_loss(arguments, error, message):
    source, target = batch()
    with pytest.raises(error, match=message):
        models()["luong"].loss_vjp(**{"source": source, "target": target, **arguments})


def test_input_feeding_refuses_other_inputs():
    decoder, memory = decoders()["feeding"], normal(T_S, B, M)
    for x in (normal(T, B, N_IN + 1), normal(0, B, N_IN), normal(B, N_IN)):
        with pytest.raises(ValueError, match=r"x: expected the shape \(T, B, 2\), T at least 1"):
            decoder(x, memory)
    with pytest.raises(ValueError, match=r"x_t: expected the shape \(B, 2\)"):
        decoder.step(normal(T, B, N_IN), None, decoder.prepare(memory))
