"""What `fastrnn.interop.onnx.export_model` writes, run by ONNX Runtime beside the model itself."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="NOT TESTED: needs onnx, which builds the models")
runtime = pytest.importorskip("onnxruntime", reason="NOT TESTED: needs onnxruntime")

import fastrnn  # noqa: E402
from fastrnn import cli, text  # noqa: E402
from fastrnn.interop.onnx import export_model  # noqa: E402

TOLERANCE = 1e-5
V, H = 11, 8
CELLS = {
    "rnn": (fastrnn.RNN, {}),
    "lstm": (fastrnn.LSTM, {}),
    "gru": (fastrnn.GRU, {}),
    "gru_before": (fastrnn.GRU, {"reset_after": False}),
}
VARIANTS = [
    (fastrnn.RNN, {"nonlinearity": "relu"}),
    (fastrnn.RNN, {"nonlinearity": ("leaky_relu", 0.2), "clip": 0.5}),
    (fastrnn.GRU, {"activations": ["hard_sigmoid", ("elu", 0.5)], "reset_after": False}),
    (fastrnn.LSTM, {"peephole": True, "bias": False}),
    (fastrnn.LSTM, {"peephole": True, "coupled": True, "clip": 0.3}),
    (fastrnn.LSTM, {"activations": [("affine", 0.5, 0.1), "softsign", "identity"]}),
]


def session_of(proto):
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return runtime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def run(session, **inputs):
    """The outputs by name."""
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, inputs), strict=True))


def assert_close(one, other):
    assert one.shape == other.shape
    assert one.dtype == other.dtype
    np.testing.assert_allclose(one, other, rtol=0, atol=TOLERANCE * max(1, np.abs(other).max()))


def compare(layer, x, name="x"):
    """A layer with states beside its graph, on other T and B too and with states that go on."""
    session = session_of(export_model(layer, ids=name == "ids"))
    state = {}
    for cut in (x, x[:1], x[2:, :2]):
        B = cut.shape[0 if layer.batch_first else 1]
        shape = (layer.num_layers * (1 + layer.bidirectional), B, layer.hidden_size)
        start = np.random.default_rng(B).normal(size=(2, *shape)).astype(np.float32)
        state = {"h0": start[0]}
        if isinstance(layer, fastrnn.LSTM):
            state["c0"] = start[1]
        got = run(session, **{name: cut}, **state)
        y, last = layer(cut, tuple(state.values()) if len(state) == 2 else start[0])
        assert_close(got["y"], y)
        assert np.abs(y).max() > 0.02
        for part, want in zip(("hn", "cn"), last if len(state) == 2 else (last,), strict=False):
            assert_close(got[part], want)


def numbers(*shape):
    return np.random.default_rng(5).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("cell", CELLS)
def test_character_models_step_by_step_and_at_once(cell, layers):
    """Ids in, one-hot inside; a state that comes out goes in again."""
    kind, options = CELLS[cell]
    model = fastrnn.Sequential(kind(V, H, layers, seed=1, **options), fastrnn.Linear(H, V, seed=2))
    session = session_of(export_model(model, ids=True))
    assert [i.name for i in session.get_inputs()] == ["ids", "h0", "c0"][: 2 + (cell == "lstm")]
    ids = np.random.default_rng(0).integers(0, V, (7, 3))
    want, last = model(ids)
    zeros = np.zeros((layers, 3, H), np.float32)
    state = {"h0": zeros, "c0": zeros} if cell == "lstm" else {"h0": zeros}
    whole = run(session, ids=ids, **state)
    assert_close(whole["y"], want)
    for t in range(7):
        got = run(session, ids=ids[t : t + 1], **state)
        assert_close(got["y"][0], want[t])
        state = {name: got[name[0] + "n"] for name in state}
    for name, array in zip("hc", last[0] if cell == "lstm" else last, strict=False):
        assert_close(state[name + "0"], array)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_numbers_states_and_directions(cell, batch_first, bidirectional):
    kind, options = CELLS[cell]
    layer = kind(5, H, 2, batch_first=batch_first, bidirectional=bidirectional, seed=1, **options)
    compare(layer, numbers(6, 4, 5))


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize(("kind", "options"), VARIANTS)
def test_variants(kind, options, directions):
    compare(kind(5, H, 2, seed=1, bidirectional=directions == 2, **options), numbers(6, 4, 5))


@pytest.mark.parametrize("merge_mode", ["concat", "sum", "mean", "mul"])
def test_merge_modes(merge_mode):
    layer = fastrnn.GRU(V, H, 2, bidirectional=True, merge_mode=merge_mode, seed=1)
    compare(layer, np.random.default_rng(5).integers(0, V, (6, 4)), "ids")


def test_several_recurrent_layers_and_what_is_around_them():
    model = fastrnn.Sequential(
        fastrnn.Embedding(V, 5, seed=0),
        fastrnn.VariationalDropout(0.5),
        fastrnn.LSTM(5, H, dropout=0.5, seed=1),
        fastrnn.Sequential(fastrnn.LayerNorm(H, 1e-3), fastrnn.GRU(H, 4, seed=2)),
        fastrnn.Tanh(),
        fastrnn.Linear(4, 6, bias=False, seed=3),
        fastrnn.ReLU(),
        fastrnn.LayerNorm(6, bias=False),
        fastrnn.Sigmoid(),
    )
    model[3][0].weight.data = np.linspace(0.5, 2, H).astype(np.float32)
    session = session_of(export_model(model))
    ids = np.random.default_rng(0).integers(0, V, (5, 3))
    h, c, g = numbers(1, 3, H), numbers(1, 3, H) * 2, numbers(1, 3, 4)
    got = run(session, ids=ids, h0_2=h, c0_2=c, h0_3_1=g)
    y, ((hn, cn), (gn,)) = model(ids, ((h, c), (g,)))
    for name, want in {"y": y, "hn_2": hn, "cn_2": cn, "hn_3_1": gn}.items():
        assert_close(got[name], want)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("pooling", [fastrnn.LastStep, fastrnn.MeanPooling, fastrnn.MaxPooling])
def test_one_vector_of_each_sequence_without_states(pooling, batch_first):
    model = fastrnn.Sequential(
        fastrnn.LSTM(3, H, batch_first=batch_first, seed=1),
        pooling(batch_first),
        fastrnn.Linear(H, 2, seed=2),
    )
    session = session_of(export_model(model, states=False))
    assert [value.name for value in (*session.get_inputs(), *session.get_outputs())] == ["x", "y"]
    x = numbers(6, 4, 3)
    assert_close(run(session, x=x)["y"], model(x)[0])


def test_the_file_is_the_model_and_carries_metadata(tmp_path):
    path = tmp_path / "m.onnx"
    proto = export_model(fastrnn.GRU(3, 4), path, metadata={"characters": "a\nb"})
    read = onnx.load(path)
    assert read == proto
    assert {p.key: p.value for p in read.metadata_props} == {"characters": "a\nb"}
    assert read.producer_name == "fastrnn"


def test_a_float64_model_keeps_its_type():
    proto = export_model(fastrnn.RNN(3, 4, dtype="float64"))
    assert proto.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.DOUBLE


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        (fastrnn.IndRNN(3, 4), TypeError, "expected a Sequential of .*, got IndRNN"),
        (fastrnn.Sequential(fastrnn.BatchNorm(3)), TypeError, "got BatchNorm"),
        ("text", TypeError, "got str"),
        (fastrnn.LSTM(3, 4, proj_size=2), ValueError, "proj_size: expected 0 in LSTM for ONNX"),
        (fastrnn.GRU(3, 4, zoneout=0.1), ValueError, "zoneout: expected 0.0 in GRU .*, got 0.1"),
        (fastrnn.LSTM(3, 4, zoneout=(0, 0.1)), ValueError, "zoneout"),
        (fastrnn.LSTM(3, 4, cell_clip=1.0), ValueError, "cell_clip: expected None"),
        (fastrnn.RNN(3, 4, layer_norm=True), ValueError, "layer_norm: expected False"),
        (fastrnn.RNN(3, 4, go_backwards=True), ValueError, "go_backwards: expected False"),
        (fastrnn.RNN(3, 4, learned_state=True), ValueError, "learned_state: expected False"),
        (fastrnn.RNN(3, 4, nonlinearity="prelu"), ValueError, "nonlinearity: .* 'prelu' in RNN"),
        (fastrnn.Sequential(fastrnn.Tanh()), ValueError, "has a number of features"),
        (
            fastrnn.Sequential(fastrnn.GRU(3, 4), fastrnn.Linear(5, 2)),
            ValueError,
            "model: Linear expects 5 features, gets 4",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_exported(model, error, message, tmp_path):
    with pytest.raises(error, match=message):
        export_model(model, tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_ids_are_for_models_that_begin_with_a_recurrent_layer():
    with pytest.raises(ValueError, match="ids: expected a model that begins with RNN, GRU or LSTM"):
        export_model(fastrnn.Sequential(fastrnn.Linear(3, 3), fastrnn.GRU(3, 4)), ids=True)


def test_the_command_exports_a_character_model(tmp_path, capsys):
    vocabulary = text.Vocabulary("\nabc")
    model = text.build_model("lstm", vocabulary, 6, 2, seed=1)
    text.save_model(tmp_path / "model.safetensors", model, vocabulary)
    out = tmp_path / "m.onnx"
    assert cli.main(["export", str(tmp_path), "--out", str(out)]) == 0
    assert "ids (T, B), h0 (2, B, 6), c0 (2, B, 6) -> y (T, B, 4), hn (2, B, 6)" in (
        capsys.readouterr().out
    )
    proto = onnx.load(out)
    assert {p.key: p.value for p in proto.metadata_props}["characters"] == vocabulary.characters
    ids = vocabulary.encode("abc\n")[:, None]
    zeros = np.zeros((2, 1, 6), np.float32)
    assert_close(run(session_of(proto), ids=ids, h0=zeros, c0=zeros)["y"], model(ids)[0])
