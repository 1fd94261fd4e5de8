"""Models of the library exported, and imported again: the same as before."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="NOT TESTED: needs onnx, which builds the models")

import fastrnn  # noqa: E402
from fastrnn.interop.onnx import export_model, import_model  # noqa: E402
from onnx_export_cases import LENGTHS, B, assert_all_close, numbers, run  # noqa: E402
from variant_cases import VARIANTS, make  # noqa: E402

T, F, H, V = 7, 4, 6, 11
OPERATORS = {
    "rnn": lambda: fastrnn.RNN(F, H, 2, "relu", seed=1),
    "gru": lambda: fastrnn.GRU(F, H, 2, bidirectional=True, batch_first=True, seed=1),
    "gru_before": lambda: fastrnn.GRU(F, H, reset_after=False, clip=0.5, seed=1),
    "lstm": lambda: fastrnn.LSTM(F, H, 2, peephole=True, coupled=True, seed=1),
    "go_backwards": lambda: fastrnn.LSTM(F, H, 2, go_backwards=True, seed=1),
    "pooled": lambda: fastrnn.Sequential(
        fastrnn.LSTM(F, H, bidirectional=True, merge_mode="mul", seed=1), fastrnn.LastStep()
    ),
}


@pytest.mark.parametrize("lengths", [None, LENGTHS])
@pytest.mark.parametrize("name", OPERATORS)
def test_operators_give_the_same_bits(name, lengths):
    model = OPERATORS[name]()
    given = {} if lengths is None else {"lengths": lengths}
    x = numbers(T, B, F)
    x = x.swapaxes(0, 1).copy() if getattr(model, "batch_first", False) else x
    imported = import_model(export_model(model, lengths=bool(given), states=False))
    np.testing.assert_array_equal(run(imported, x=x, **given)["y"], model(x, **given)[0])


@pytest.mark.parametrize("name", VARIANTS)
def test_variants(name):
    """Those that are a Scan too; learned states are defaults."""
    kind, options = VARIANTS[name]
    layer = make(kind, F, 24, seed=1, **options)
    x = numbers(T, B, F)
    scores = [np.random.default_rng(3).random((T, B)).astype(np.float32)] * (kind == "AUGRU")
    proto = export_model(layer, lengths=True, states=False)
    attention = dict(zip(("attention",), scores, strict=False))
    got = run(import_model(proto), x=x, lengths=LENGTHS, **attention)
    assert_all_close(got, {"y": layer(x, *scores, lengths=LENGTHS)[0]})


def test_learned_states():
    layer = fastrnn.GRU(F, H, learned_state=True, zoneout=0.1, seed=1)
    layer.parameters()["h_0"].data = numbers(1, H)
    x, h = numbers(T, B, F), numbers(1, B, H, seed=1)
    imported = import_model(export_model(layer))
    for state in ({}, {"h0": h}):
        y, hn = layer(x, state.get("h0"))
        assert_all_close(run(imported, x=x, **state), {"y": y, "hn": hn})


def test_encoder_decoder():
    model = fastrnn.EncoderDecoder(
        fastrnn.LSTM(V, 3, bidirectional=True, seed=1),
        fastrnn.InputFeedingDecoder(
            fastrnn.LSTM(F + 5, H, seed=2), fastrnn.MultiHeadAttention(H, 2, seed=3), 5, seed=4
        ),
        fastrnn.Linear(5, V, seed=5),
        target_embedding=fastrnn.Embedding(V, F, seed=6),
    )
    rng = np.random.default_rng(0)
    source, inputs = rng.integers(0, V, (T, B)), rng.integers(0, V, (3, B))
    whole, start, step = (
        import_model(export_model(model, method=method, ids=True, lengths=True))
        for method in ("call", "start", "step")
    )
    logits, weights = model(source, inputs, LENGTHS)
    got = run(whole, source=source, inputs=inputs, lengths=LENGTHS)
    assert_all_close(got, {"logits": logits, "weights": weights})
    state = run(start, source=source, lengths=LENGTHS)
    for t, tokens in enumerate(inputs):
        got = run(step, tokens=tokens, **state)
        assert_all_close({"logits": got["logits"]}, {"logits": logits[t]})
        state |= {name: got[name.replace("0", "n")] for name in ("h0", "c0", "fed0")}
