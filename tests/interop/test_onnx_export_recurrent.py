"""Recurrent layers of every kind as ONNX graphs, run by ONNX Runtime: operators and Scans."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

onnx = pytest.importorskip("onnx", reason="NOT TESTED: needs onnx, which builds the models")
runtime = pytest.importorskip("onnxruntime", reason="NOT TESTED: needs onnxruntime")

import fastrnn  # noqa: E402
from fastrnn.interop.onnx import export_model  # noqa: E402
from onnx_export_cases import (  # noqa: E402
    LENGTHS,
    B,
    assert_all_close,
    assert_close,
    compare,
    compare_steps,
    numbers,
    padded,
    run,
    session_of,
)
from variant_cases import FUNCTIONS, VARIANTS, make  # noqa: E402

T, FEATURES = 7, 4
CASES = {**VARIANTS, "gru": ("GRU", {})}
# What makes a layer more than ONNX's operators are: it is a Scan.
SCANNED = ("proj", "zoneout", "cell_clip", "norm", "prelu", "indrnn", "augru", "_all")
OPERATORS = {name for name in CASES if not any(part in name for part in SCANNED)}


def build(name, layers=1, **options):
    """A variant. Normalisation over few units makes much of rounding: it has more of them."""
    kind, own = CASES[name]
    H = 24 if "norm" in name else 6
    own = {**own, "proj_size": 9} if "norm" in name and "proj_size" in own else own
    more = () if kind == "AUGRU" else (layers,)
    return make(kind, FEATURES, H, *more, seed=1, **own, **options)


def scores(layer, dtype="float32"):
    if not isinstance(layer, fastrnn.AUGRU):
        return ()
    array = np.random.default_rng(3).random((T, B)).astype(dtype)
    return (array.T if layer.batch_first else array,)


def operators(proto):
    return {node.op_type for node in proto.graph.node}


@pytest.mark.parametrize("name", CASES)
def test_variants_of_ragged_batches(name):
    """A single layer; then, but for AUGRU, two in both directions."""
    layer = build(name)
    kind = "GRU" if type(layer) is fastrnn.AUGRU else type(layer).__name__.removeprefix("Ind")
    expected = kind if name in OPERATORS else "Scan"
    assert operators(export_model(layer)) & {"Scan", "RNN", "LSTM", "GRU"} == {expected}
    x = numbers(T, B, FEATURES)
    compare(layer, x, LENGTHS, extra=scores(layer))
    if kind != "GRU" or type(layer) is fastrnn.GRU:
        both = build(name, 2, bidirectional=True, batch_first=True, merge_mode="mean")
        compare(both, x.swapaxes(0, 1).copy(), LENGTHS)


@pytest.mark.parametrize("lengths", [None, LENGTHS])
@pytest.mark.parametrize("name", ["lstm", "lstm_norm_all", "gru", "gru_zoneout", "indrnn"])
def test_both_directions_and_backwards(name, lengths):
    x = numbers(T, B, FEATURES)
    for mode in ("concat", "sum", "mul"):
        compare(build(name, 2, bidirectional=True, merge_mode=mode), x, lengths)
    compare(build(name, 2, go_backwards=True), x, lengths)
    compare(build(name, bidirectional=True), x, lengths, states=False)


@pytest.mark.parametrize("function", FUNCTIONS, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_functions_step_by_step(function, dtype):
    layer = fastrnn.RNN(FEATURES, 6, nonlinearity=function, zoneout=0.1, seed=1, dtype=dtype)
    compare(layer, 2 * numbers(T, B, FEATURES, dtype=dtype))


@pytest.mark.parametrize("name", ["rnn_norm", "lstm", "lstm_coupled_all", "gru", "augru_before"])
def test_float64_is_a_scan_as_onnx_runtime_has_no_operators_of_it(name):
    layer = build(name, dtype="float64")
    assert "Scan" in operators(export_model(layer))
    x = numbers(T, B, FEATURES, dtype="float64")
    compare(layer, x, LENGTHS, extra=scores(layer, "float64"))


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("name", ["rnn_clip", "lstm", "lstm_norm_proj", "gru", "gru_norm", "augru"])
def test_streams(name, batch_first):
    """Step by step is as the whole, by a graph without time and without a Scan."""
    layer = build(name, 2, batch_first=batch_first)
    x = numbers(T, B, FEATURES)
    compare_steps(layer, x.swapaxes(0, 1) if batch_first else x, extra=scores(layer))
    proto = export_model(layer, method="step")
    assert "Scan" not in operators(proto)
    axes = proto.graph.input[0].type.tensor_type.shape.dim
    assert [axis.dim_param or axis.dim_value for axis in axes] == ["B", FEATURES]


def test_a_sequence_in_pieces():
    """States that come out go in again, through a graph of sequences."""
    layer = build("lstm_norm_all", 2)
    session = session_of(export_model(layer))
    x = numbers(T, B, FEATURES)
    y, (h, c) = layer(x)
    states = {"h0": np.zeros_like(h), "c0": np.zeros_like(c)}
    for part in (slice(0, 2), slice(2, 3), slice(3, T)):
        got = run(session, x=x[part], **states)
        assert_close(got["y"], y[part])
        states = {"h0": got["hn"], "c0": got["cn"]}
    assert_all_close(states, {"h0": h, "c0": c})


@pytest.mark.parametrize("dtype", ["int64", "int32"])
def test_dtypes_of_lengths(dtype):
    layer = build("gru")
    session = session_of(export_model(layer, lengths=dtype))
    x, h = numbers(T, B, FEATURES), numbers(1, B, 6)
    got = run(session, x=x, h0=h, lengths=LENGTHS.astype(dtype))
    assert_close(got["y"], layer(x, h, LENGTHS)[0])


@pytest.mark.parametrize("name", ["lstm", "lstm_zoneout", "gru", "rnn_prelu"])
@pytest.mark.parametrize("method", ["call", "step"])
def test_learned_states_are_defaults(name, method):
    """An input of states may be left out; without such inputs they are in the graph."""
    layer = build(name, 2, learned_state=True)
    for i, key in enumerate(("h_0", "c_0")[: 1 + name.startswith("lstm")]):
        layer.parameters()[key].data = numbers(2, 6, seed=i)
    x = numbers(T, B, FEATURES)
    if method == "step":
        compare_steps(layer, x)
        x = x[:1]
    else:
        compare(layer, x, LENGTHS)
        compare(layer, x, states=False)
    session = session_of(export_model(layer, method=method))
    assert next(i.name for i in session.get_overridable_initializers()) == "h0"
    got = run(session, x=x[0] if method == "step" else x)
    assert_close(got["y"], layer(x)[0][0] if method == "step" else layer(x)[0])


@pytest.mark.parametrize("kind", ["LSTM", "IndRNN"])
def test_token_ids(kind):
    layer = make(kind, FEATURES, 6, 2, seed=1)
    ids = np.random.default_rng(0).integers(0, FEATURES, (T, B))
    compare(layer, ids, LENGTHS, ids=True)
    compare_steps(layer, ids, ids=True)


@st.composite
def layers(draw):
    kind = draw(st.sampled_from(["RNN", "IndRNN", "LSTM", "GRU"]))
    options = {
        "bias": draw(st.booleans()),
        "batch_first": draw(st.booleans()),
        "bidirectional": draw(st.booleans()),
        "learned_state": draw(st.booleans()),
        "merge_mode": draw(st.sampled_from(["concat", "sum", "mean", "mul"])),
        "clip": draw(st.sampled_from([None, 0.5])),
        "zoneout": draw(st.sampled_from([0.0, 0.25])),
    }
    functions = st.sampled_from([f for f in FUNCTIONS if f != "prelu"])
    if kind == "LSTM":
        options |= {name: draw(st.booleans()) for name in ("peephole", "coupled")}
        options["cell_clip"] = draw(st.sampled_from([None, 0.5]))
        options["proj_size"] = draw(st.sampled_from([0, 2]))
        options["activations"] = draw(st.tuples(st.just("sigmoid"), functions, functions))
        if options["proj_size"]:
            options["zoneout"] = (0.0, options["zoneout"])
    elif kind == "GRU":
        options["reset_after"] = draw(st.booleans())
        options["activations"] = draw(st.tuples(st.just("sigmoid"), functions))
    else:
        options["nonlinearity"] = draw(st.sampled_from(["tanh", "relu", "prelu", ("elu", 0.5)]))
    options["go_backwards"] = not options["bidirectional"] and draw(st.booleans())
    sizes = draw(st.integers(1, 4)), draw(st.integers(3, 6)), draw(st.integers(1, 2))
    return make(kind, *sizes, seed=draw(st.integers(0, 9)), **options)


@settings(max_examples=25)
@given(layer=layers(), data=st.data())
def test_any_options_on_any_batch(layer, data):
    steps, batch = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 4))
    lengths = None
    if data.draw(st.booleans()):
        each = st.integers(0, steps)
        lengths = np.array(data.draw(st.lists(each, min_size=batch, max_size=batch)))
        lengths[0] = steps
    x = numbers(steps, batch, layer.input_size, seed=data.draw(st.integers(0, 9)))
    x = padded(x, lengths)
    x = x.swapaxes(0, 1).copy() if layer.batch_first else x
    compare(layer, x, lengths, zeros=True)
