"""Every layer of the library as an ONNX graph, run by ONNX Runtime; or why it is none."""

import inspect

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

onnx = pytest.importorskip("onnx", reason="NOT TESTED: needs onnx, which builds the models")
runtime = pytest.importorskip("onnxruntime", reason="NOT TESTED: needs onnxruntime")

import fastrnn  # noqa: E402
from fastrnn.base import Layer  # noqa: E402
from fastrnn.interop.onnx import export_model  # noqa: E402
from fastrnn.layers import LAYER_CLASSES  # noqa: E402
from fastrnn.seq2seq import EncoderDecoder  # noqa: E402
from onnx_export_cases import (  # noqa: E402
    LENGTHS,
    B,
    assert_all_close,
    assert_close,
    compare,
    compare_steps,
    flat,
    numbers,
    padded,
    random_states,
    run,
    session_of,
)

T, F, H, V, M = 7, 4, 6, 11, 5


class Leaky(fastrnn.Cell):
    """Of a user."""


def trained_batch_norm(**options):
    layer = fastrnn.BatchNorm(F, **options)
    for name, parameter in layer.parameters().items():
        if parameter.shape:
            parameter.data = numbers(F, seed=3) ** 2 + (0.5 if "var" in name else -0.5)
    return layer


def trained_layer_norm(size):
    layer = fastrnn.LayerNorm(size)
    layer.weight.data, layer.bias.data = numbers(size, seed=1), numbers(size, seed=2)
    return layer


# Layers from one array (T, B, F) to one. What recurrent layers are is in a file of its own.
CHAINED = {
    "AUGRU": None,
    **dict.fromkeys(("RNN", "LSTM", "GRU", "IndRNN")),
    "Sequential": lambda: fastrnn.Sequential(
        fastrnn.Sequential(fastrnn.GRU(F, H, seed=1), fastrnn.Tanh()), fastrnn.Linear(H, 3, seed=2)
    ),
    "Residual": lambda: fastrnn.Residual(fastrnn.LSTM(F, F, seed=1)),
    "Highway": lambda: fastrnn.Highway(fastrnn.GRU(F, F, zoneout=0.1, seed=1), F, 0.3, seed=2),
    "Linear": lambda: fastrnn.Linear(F, 3, seed=1),
    "Embedding": lambda: fastrnn.Embedding(V, F, seed=1),
    "LayerNorm": lambda: trained_layer_norm(F),
    "BatchNorm": trained_batch_norm,
    **{name: getattr(fastrnn, name) for name in ("Tanh", "Sigmoid", "ReLU", "Softmax")},
    **{name: getattr(fastrnn, name) for name in ("Dropout", "VariationalDropout")},
    **{name: getattr(fastrnn, name) for name in ("LastStep", "MeanPooling", "MaxPooling")},
}
ATTENTION = {
    "DotAttention": lambda **o: fastrnn.DotAttention(H, scaled=True, **o),
    "GeneralAttention": lambda **o: fastrnn.GeneralAttention(H, M, seed=1, **o),
    "AdditiveAttention": lambda **o: fastrnn.AdditiveAttention(H, M, 3, seed=1, **o),
    "MultiHeadAttention": lambda **o: fastrnn.MultiHeadAttention(H, 2, kdim=M, seed=1, **o),
}
STANDALONE = {*ATTENTION, "SelfAttentivePooling", "EncoderDecoder"}
DECODERS = {"PlainDecoder", "LuongDecoder", "InputFeedingDecoder"}
CANNOT = {
    "RecurrentLoop": (lambda: fastrnn.RecurrentLoop(Leaky(F, H)), "its cells are Python code"),
    "Cell": (lambda: Leaky(F, H), "Leaky cannot be exported: it is Python code"),
    "Bridge": (lambda: fastrnn.Bridge(H, [H]), "as a part of an EncoderDecoder"),
    "Layer": (Layer, "expected one of .*, got Layer"),
}


def public_layers():
    found = {name: getattr(fastrnn, name) for name in fastrnn.__all__} | LAYER_CLASSES
    return {n for n, v in found.items() if inspect.isclass(v) and issubclass(v, Layer)}


def test_every_layer_is_here():
    assert {*CHAINED, *STANDALONE, *DECODERS, *CANNOT} == public_layers()


@pytest.mark.parametrize("name", CANNOT)
def test_what_cannot_be_a_graph(name):
    build, message = CANNOT[name]
    with pytest.raises(TypeError, match=message):
        export_model(build())
    if name != "Layer":
        with pytest.raises(TypeError, match=message):
            export_model(fastrnn.Sequential(build()))


@pytest.mark.parametrize("name", [name for name, build in CHAINED.items() if build])
def test_layers(name):
    layer = CHAINED[name]()
    x = np.random.default_rng(0).integers(0, V, (T, B)) if name == "Embedding" else numbers(T, B, F)
    compare(layer, x)
    compare(layer, x[:1, :2])
    if layer.recurrent or layer.uses_lengths:
        compare(layer, x, LENGTHS)
    if layer.recurrent:
        compare_steps(layer, x)
    elif not layer.pools_time:
        session = session_of(export_model(layer, method="step"))
        assert_close(run(session, **{session.get_inputs()[0].name: x[0]})["y"], layer(x[0]))


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("lengths", [None, LENGTHS])
@pytest.mark.parametrize(
    "options", [{}, {"track_running_stats": False}, {"affine": False, "eps": 0.1}], ids=str
)
def test_batch_norm(options, lengths, batch_first):
    layer = trained_batch_norm(batch_first=batch_first, **options)
    rnn = fastrnn.LSTM(F, F, batch_first=batch_first, seed=1)
    x = numbers(B, T, F) if batch_first else numbers(T, B, F)
    compare(fastrnn.Sequential(layer, rnn), x, lengths)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("kind", [fastrnn.LastStep, fastrnn.MeanPooling, fastrnn.MaxPooling])
def test_pooling_of_ragged_batches(kind, batch_first):
    """What padding holds is never seen."""
    rnn = fastrnn.GRU(F, H, 2, batch_first=batch_first, bidirectional=True, seed=1)
    model = fastrnn.Sequential(rnn, kind(batch_first), fastrnn.Linear(2 * H, 3, seed=2))
    x = numbers(B, T, F) if batch_first else numbers(T, B, F)
    compare(model, x, LENGTHS)
    compare(model, x, LENGTHS, states=False)
    session = session_of(export_model(kind(batch_first), lengths=True))
    for b, length in enumerate(LENGTHS):
        x[(b, slice(length, None)) if batch_first else (slice(length, None), b)] = np.nan
    assert_close(run(session, x=x, lengths=LENGTHS)["y"], kind(batch_first)(x, LENGTHS))


def test_wrappers_in_wrappers():
    inner = fastrnn.Sequential(fastrnn.LSTM(F, F, seed=1), fastrnn.Residual(fastrnn.Tanh()))
    model = fastrnn.Sequential(
        fastrnn.Highway(inner, F, seed=2), fastrnn.Residual(fastrnn.RNN(F, F, seed=3))
    )
    proto = export_model(model)
    names = [value.name for value in proto.graph.input]
    assert names == ["x", "h0_0_layer_0", "c0_0_layer_0", "h0_1_layer"]
    compare(model, numbers(T, B, F), LENGTHS)
    compare_steps(model, numbers(T, B, F))
    compare(fastrnn.Highway(fastrnn.Tanh(), F, seed=1), numbers(T, B, F))


PARTS = {
    "GRU": lambda b: fastrnn.GRU(F, F, batch_first=b, seed=1),
    "LSTM": lambda b: fastrnn.LSTM(
        F, F, 2, bidirectional=True, merge_mode="sum", batch_first=b, seed=6
    ),
    "IndRNN": lambda b: fastrnn.IndRNN(F, F, nonlinearity="tanh", batch_first=b, seed=2),
    "Linear": lambda b: fastrnn.Linear(F, F, seed=3),
    "LayerNorm": lambda b: trained_layer_norm(F),
    "BatchNorm": lambda b: trained_batch_norm(batch_first=b),
    "Dropout": lambda b: fastrnn.VariationalDropout(0.5, batch_first=b),
    "Sigmoid": lambda b: fastrnn.Sigmoid(),
}
WRAPPERS = [
    lambda layer: layer,
    fastrnn.Sequential,
    fastrnn.Residual,
    lambda layer: fastrnn.Highway(layer, F, seed=4),
]


@settings(max_examples=20)
@given(
    parts=st.lists(
        st.tuples(st.sampled_from(sorted(PARTS)), st.sampled_from(WRAPPERS)), max_size=4
    ),
    batch_first=st.booleans(),
    pooling=st.sampled_from([None, fastrnn.LastStep, fastrnn.MeanPooling, fastrnn.MaxPooling]),
    ragged=st.booleans(),
)
def test_any_model(parts, batch_first, pooling, ragged):
    layers = [wrapper(PARTS[name](batch_first)) for name, wrapper in parts]
    head = [] if pooling is None else [pooling(batch_first), fastrnn.Linear(F, 3, seed=5)]
    model = fastrnn.Sequential(*layers, *head)
    x = numbers(B, T, F) if batch_first else numbers(T, B, F)
    ragged &= model.recurrent or model.uses_lengths
    compare(model, x, LENGTHS if ragged else None)


@pytest.mark.parametrize("pooling", [fastrnn.LastStep, fastrnn.MeanPooling, fastrnn.MaxPooling])
def test_float64(pooling):
    model = fastrnn.Sequential(
        fastrnn.LSTM(V, F, bidirectional=True, merge_mode="mul", seed=1, dtype="float64"),
        fastrnn.LayerNorm(F, dtype="float64"),
        fastrnn.BatchNorm(F, track_running_stats=False, dtype="float64"),
        fastrnn.Highway(fastrnn.GRU(F, F, seed=2, dtype="float64"), F, seed=3, dtype="float64"),
        pooling(),
        fastrnn.Linear(F, 3, seed=4, dtype="float64"),
        fastrnn.Sigmoid(),
    )
    ids = np.random.default_rng(0).integers(0, V, (T, B))
    compare(model, ids, LENGTHS, ids=True)
    compare(model, numbers(T, B, V, dtype="float64"))


def test_estimators_through_their_networks():
    estimators = pytest.importorskip("fastrnn.estimators", reason="NOT TESTED: needs scikit-learn")
    rng = np.random.default_rng(0)
    X = [rng.integers(0, V, rng.integers(2, 9)) for _ in range(20)]
    classifier = estimators.SequenceClassifier(
        hidden_size=H, bidirectional=True, embedding_dim=3, max_epochs=1, random_state=0
    ).fit(X, [len(x) % 2 for x in X])
    compare(classifier.model_, rng.integers(0, 6, (T, B)), LENGTHS, states=False)


# --- attention ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("batch_first", "dtype"), [(False, "float32"), (True, "float32"), (False, "float64")]
)
@pytest.mark.parametrize("lengths", [None, LENGTHS])
@pytest.mark.parametrize("name", [*ATTENTION, "heads apart"])
def test_attention(name, lengths, batch_first, dtype):
    options = {"batch_first": batch_first, "dtype": dtype}
    if name == "heads apart":
        layer = fastrnn.MultiHeadAttention(
            H, 3, bias=False, average_attn_weights=False, seed=1, **options
        )
    else:
        layer = ATTENTION[name](**options)
    session = session_of(export_model(layer, lengths=lengths is not None))
    query = numbers(3, B, layer.query_size, dtype=dtype)
    memory = padded(numbers(T, B, layer.memory_size, dtype=dtype), lengths)
    if batch_first:
        query, memory = query.swapaxes(0, 1).copy(), memory.swapaxes(0, 1).copy()
    given = {} if lengths is None else {"lengths": lengths}
    context, weights = layer(query, memory, **given)
    got = run(session, query=query, memory=memory, **given)
    assert_all_close(got, {"context": context, "weights": weights})


@pytest.mark.parametrize("lengths", [None, LENGTHS])
@pytest.mark.parametrize("batch_first", [False, True])
def test_self_attentive_pooling(batch_first, lengths):
    layer = fastrnn.SelfAttentivePooling(F, 3, hops=2, batch_first=batch_first, seed=1)
    session = session_of(export_model(layer, lengths=lengths is not None))
    x = padded(numbers(T, B, F), lengths)
    x = x.swapaxes(0, 1).copy() if batch_first else x
    given = {} if lengths is None else {"lengths": lengths}
    y, weights = layer(x, **given)
    assert_all_close(run(session, x=x, **given), {"y": y, "weights": weights})


# --- decoders -------------------------------------------------------------------------------------


def attention_of(name, size=M):
    if name == "MultiHeadAttention":
        return fastrnn.MultiHeadAttention(H, 2, kdim=size, average_attn_weights=False, seed=2)
    if name == "DotAttention":
        return fastrnn.DotAttention(H)
    classes = {"GeneralAttention": (H, size), "AdditiveAttention": (H, size, 3)}
    return getattr(fastrnn, name)(*classes[name], seed=2)


def decoder_of(kind, name="AdditiveAttention", rnn=fastrnn.LSTM, inputs=F, size=M, layers=2):
    if kind == "PlainDecoder":
        return fastrnn.PlainDecoder(rnn(inputs, H, layers, seed=3))
    outputs = 3
    fed = outputs if kind == "InputFeedingDecoder" else 0
    stack = rnn(inputs + fed, H, layers, seed=3)
    return getattr(fastrnn, kind)(stack, attention_of(name, size), outputs, seed=4)


def decoder_feed(states):
    arrays = flat(states)
    names = ["h0", "c0", "fed0"] if len(arrays) == 3 else ["h0", "c0"]
    if arrays[0].ndim == 3 and len(arrays) == 2 and arrays[1].ndim == 2:
        names = ["h0", "fed0"]
    return dict(zip(names, arrays, strict=False))


def last_named(states):
    return {name.replace("0", "n"): array for name, array in decoder_feed(states).items()}


@pytest.mark.parametrize("lengths", [None, LENGTHS])
@pytest.mark.parametrize("rnn", [fastrnn.LSTM, fastrnn.GRU])
@pytest.mark.parametrize("kind", sorted(DECODERS))
def test_decoders(kind, rnn, lengths):
    decoder = decoder_of(kind, rnn=rnn)
    memory = None if kind == "PlainDecoder" else numbers(T, B, M)
    given = {} if lengths is None or memory is None else {"lengths": lengths}
    x = numbers(4, B, F)
    zeros = decoder(x, memory)
    states = random_states(zeros.state)
    want = decoder(x, memory, states, **given)
    arrays = {"x": x, **({} if memory is None else {"memory": memory}), **given}
    shown = {} if memory is None else {"weights": want.weights}

    session = session_of(export_model(decoder, lengths=bool(given)))
    got = run(session, **arrays, **decoder_feed(states))
    assert_all_close(got, {"y": want.y, **shown, **last_named(want.state)})
    if lengths is None:
        session = session_of(export_model(decoder, states=False))
        assert_close(run(session, **arrays)["y"], zeros.y)

    session = session_of(export_model(decoder, method="step", lengths=bool(given)))
    prepared = decoder.prepare(memory, **given)
    parts = {} if prepared is None else prepared._asdict()
    parts = {name: array for name, array in parts.items() if array is not None}
    for t, x_t in enumerate(x):
        got = run(session, x=x_t, **parts, **decoder_feed(states))
        y, states, weights = decoder.step(x_t, states, prepared)
        assert_close(got["y"], want.y[t])
        assert_all_close(
            got,
            {"y": y, **({} if weights is None else {"weights": weights}), **last_named(states)},
        )


def translator(kind, name, encoder=None, embedded=True, bridge=False):
    encoder = encoder or fastrnn.LSTM(F, 3, 2, bidirectional=True, seed=1)
    size = encoder.hidden_size * (1 + encoder.bidirectional)
    rnn = fastrnn.GRU if bridge else type(encoder)
    inputs = F if embedded else V
    decoder = decoder_of(kind, name, rnn, inputs, size, layers=1 if bridge else 2)
    return EncoderDecoder(
        encoder,
        decoder,
        fastrnn.Linear(decoder.output_size, V, seed=5),
        fastrnn.Embedding(V, F, seed=6) if embedded else None,
        fastrnn.Embedding(V, F, seed=7) if embedded else None,
        fastrnn.Bridge.between(encoder, decoder.rnn, seed=8) if bridge else None,
    )


TRANSLATORS = [
    (translator("PlainDecoder", None), {}),
    (translator("PlainDecoder", None, fastrnn.GRU(V, H, 2, seed=1), embedded=False), {"ids": True}),
    (translator("PlainDecoder", None, fastrnn.GRU(F, H, 2, seed=1), embedded=False), {}),
    *[(translator("LuongDecoder", name), {}) for name in ATTENTION],
    (translator("LuongDecoder", "GeneralAttention", bridge=True), {}),
    (translator("InputFeedingDecoder", "AdditiveAttention"), {}),
    (translator("InputFeedingDecoder", "MultiHeadAttention", bridge=True), {}),
    (
        translator(
            "InputFeedingDecoder",
            "DotAttention",
            fastrnn.LSTM(F, H, 2, layer_norm=True, learned_state=True, seed=1),
        ),
        {},
    ),
]


@pytest.mark.parametrize("lengths", [None, LENGTHS])
@pytest.mark.parametrize("which", range(len(TRANSLATORS)))
def test_encoder_decoders(which, lengths):
    """A call with given inputs; then greedy decoding by the two other graphs."""
    model, options = TRANSLATORS[which]
    options = {**options, "lengths": lengths is not None}
    rng = np.random.default_rng(0)
    vectors = model.source_embedding is None and not options.get("ids")
    source = numbers(T, B, F) if vectors else rng.integers(0, V, (T, B))
    inputs = rng.integers(0, V, (4, B))
    given = {} if lengths is None else {"lengths": lengths}

    logits, weights = model(source, inputs, **given)
    got = run(session_of(export_model(model, **options)), source=source, inputs=inputs, **given)
    assert_all_close(got, {"logits": logits, **({} if weights is None else {"weights": weights})})

    start = session_of(export_model(model, method="start", **options))
    step = session_of(export_model(model, method="step", **options))
    held, state = run(start, source=source, **given), model.start(source, **given)
    tokens = np.zeros(B, np.int64)
    fixed = {name: array for name, array in held.items() if name in ("keys", "values", "mask")}
    states = {name: array for name, array in held.items() if name not in fixed}
    assert {i.name for i in step.get_inputs()} == {"tokens", *fixed, *states}
    for _ in range(3):
        got = run(step, tokens=tokens, **fixed, **states)
        logits, state = model.step(tokens, state)
        assert_close(got["logits"], logits)
        states = {name: got[name.replace("0", "n")] for name in states}
        tokens = logits.argmax(axis=-1)
