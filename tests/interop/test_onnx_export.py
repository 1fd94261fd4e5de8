"""What `fastrnn.interop.onnx.export_model` writes, run by ONNX Runtime beside the model itself."""

import io
import re
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="NOT TESTED: needs onnx, which builds the models")
runtime = pytest.importorskip("onnxruntime", reason="NOT TESTED: needs onnxruntime")

import fastrnn  # noqa: E402
from fastrnn import cli, text  # noqa: E402
from fastrnn.interop.onnx import export_model  # noqa: E402
from onnx_export_cases import assert_close, numbers, run, session_of  # noqa: E402

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


def sequential(*layers):
    return fastrnn.Sequential(*layers)


GRU = fastrnn.GRU(3, 4)
BOTH = fastrnn.GRU(3, 4, bidirectional=True)


@pytest.mark.parametrize(
    ("model", "options", "error", "message"),
    [
        ("text", {}, TypeError, "model: expected a Layer, got str"),
        (type("Mine", (fastrnn.GRU,), {})(3, 4), {}, TypeError, "expected one of .*, got Mine"),
        (sequential(fastrnn.AUGRU(3, 4)), {}, TypeError, "AUGRU is exported alone: it takes"),
        (sequential(GRU, fastrnn.Linear(4, 4, dtype="float64")), {}, TypeError, "of one dtype"),
        (
            sequential(GRU, fastrnn.Linear(5, 2)),
            {},
            ValueError,
            "Linear expects 5 features, gets 4",
        ),
        (sequential(GRU, fastrnn.Embedding(4, 2)), {}, ValueError, "Embedding expects token ids"),
        (sequential(fastrnn.LastStep(), GRU), {}, ValueError, "GRU expects sequences, gets the sh"),
        (sequential(GRU, *[fastrnn.LastStep()] * 2), {}, ValueError, "LastStep expects sequences"),
        (
            sequential(GRU, fastrnn.LSTM(4, 2, batch_first=True)),
            {},
            ValueError,
            "batch_first: expected the same in all layers, got True in LSTM",
        ),
        (fastrnn.Residual(GRU), {}, ValueError, r"layer: expected an output of its input's shape"),
        (fastrnn.Linear(3, 3), {"ids": True}, ValueError, "ids: expected a model that begins with"),
        (sequential(fastrnn.Linear(3, 3), GRU), {"ids": True}, ValueError, "ids: expected a model"),
        (fastrnn.Linear(3, 3), {"lengths": True}, ValueError, "no layer that uses them"),
        (GRU, {"lengths": "int16"}, ValueError, "lengths: expected True, .*, got 'int16'"),
        (GRU, {"lengths": 1}, TypeError, "lengths: expected True or False, got 1"),
        (
            GRU,
            {"method": "vjp"},
            ValueError,
            "method: expected one of call, step, start, got 'vjp'",
        ),
        (GRU, {"method": "start"}, ValueError, "method: expected 'call' or 'step' for GRU"),
        (GRU, {"method": "step", "lengths": True}, ValueError, "lengths: expected False with"),
        (GRU, {"method": "step", "states": False}, ValueError, "states: expected True with"),
        (BOTH, {"method": "step"}, ValueError, r"method: .* for a bidirectional layer \(GRU\)"),
        (
            fastrnn.RNN(3, 4, go_backwards=True),
            {"method": "step"},
            ValueError,
            r"method: expected 'call' for one that goes backwards \(RNN\), got 'step'",
        ),
        (sequential(GRU, fastrnn.LastStep()), {"method": "step"}, ValueError, "with LastStep, got"),
        (GRU, {"input_names": ["x"]}, ValueError, "input_names: expected 2 names, got 1"),
        (GRU, {"output_names": "yh"}, TypeError, "output_names: expected a sequence of str, got"),
        (GRU, {"output_names": ["y", "y"]}, ValueError, "output_names: expected different names"),
        (fastrnn.DotAttention(3), {"method": "step"}, ValueError, "'call' for DotAttention, got"),
        (fastrnn.PlainDecoder(GRU), {"lengths": True}, ValueError, "lengths: .* for PlainDecoder"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_exported(model, options, error, message, tmp_path):
    with pytest.raises(error, match=message):
        export_model(model, tmp_path / "m.onnx", **options)
    assert not list(tmp_path.iterdir())


def test_names_of_ones_own():
    layer = fastrnn.LSTM(3, 4, learned_state=True, seed=1)
    names = {"input_names": ["in", "n", "h0", "x"], "output_names": ["h0n", "y", "out"]}
    session = session_of(export_model(layer, lengths=True, **names))
    x, lengths, h, c = numbers(6, 2, 3), np.array([6, 2]), numbers(1, 2, 4), numbers(1, 2, 4) + 1
    got = run(session, **dict(zip(names["input_names"], (x, lengths, h, c), strict=True)))
    y, (hn, cn) = layer(x, (h, c), lengths)
    for name, array in zip(names["output_names"], (y, hn, cn), strict=True):
        assert_close(got[name], array)


def test_to_an_open_file():
    file = io.BytesIO()
    proto = export_model(GRU, file)
    assert file.getvalue() == proto.SerializeToString()


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "m.onnx"
    export_model(GRU, path)
    before = path.read_bytes()
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        export_model(fastrnn.LSTM(3, 4), path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {"m.onnx": before}


@pytest.mark.parametrize("model", [fastrnn.Sequential(), fastrnn.Tanh(), fastrnn.MaxPooling()])
def test_the_number_of_features_is_free_where_no_layer_has_one(model):
    x = numbers(6, 4, 3)
    assert_close(run(session_of(export_model(model)), x=x)["y"], model(x))


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


@pytest.mark.parametrize(
    ("option", "inputs"),
    [("--step", "ids (B), h0"), ("--lengths", "ids (T, B), lengths (B), h0")],
)
def test_the_command_exports_steps_and_lengths(option, inputs, tmp_path, capsys):
    vocabulary = text.Vocabulary("\nabc")
    model = text.build_model("gru", vocabulary, 6)
    text.save_model(tmp_path / "model.safetensors", model, vocabulary)
    arguments = ["export", str(tmp_path), "--out", str(tmp_path / "m.onnx"), option]
    assert cli.main(arguments) == 0
    assert f"m.onnx: {inputs} (2, B, 6) -> y (" in capsys.readouterr().out


def test_the_page(tmp_path, monkeypatch):
    """The code of the section on export runs; it asserts what it says."""
    page = Path(__file__).parents[2] / "docs" / "onnx.md"
    if not page.exists():
        pytest.skip("the documentation is not here")
    section = re.split(r"^## ", page.read_text(encoding="utf-8").split("## Export")[1], flags=re.M)[
        0
    ]
    blocks = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    assert len(blocks) >= 4
    monkeypatch.chdir(tmp_path)
    exec("\n".join(blocks), {})
