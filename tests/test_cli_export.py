"""``fastrnn export``: files for other programs. What those make of them: interop."""

import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from fastrnn import cli, text

VOCABULARY = text.Vocabulary("\0\nabé")


@pytest.fixture(autouse=True)
def model(tmp_path, monkeypatch):
    """A character model in ./book."""
    monkeypatch.chdir(tmp_path)
    Path("book").mkdir()
    model = text.build_model("gru", VOCABULARY, 4, 2, seed=1)
    text.save_model("book/model.safetensors", model, VOCABULARY)
    return model


@pytest.mark.parametrize(
    ("arguments", "read"),
    [
        ("--out w.safetensors", load_file),
        ("--out w.bin --format safetensors", load_file),
        ("--out w.NPZ", np.load),
    ],
)
def test_weights_under_their_names(arguments, read, model, capsys):
    assert cli.main(["export", "book", *arguments.split()]) == 0
    out = arguments.split()[1]
    assert capsys.readouterr().out == f"Wrote {out}: 10 arrays, 277 numbers\n"
    found = dict(read(out))
    characters = found.pop("characters", None)
    assert found.keys() == model.state_dict().keys()
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(found[name], array)
    if read is np.load:  # without allow_pickle
        assert str(characters) == VOCABULARY.characters


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("book", "fastrnn: the following arguments are required: --out (see fastrnn export"),
        (
            "book --out w.bin",
            "fastrnn export: --out: expected a name that ends in .onnx, .safetensors, .npz, "
            "or --format, got w.bin",
        ),
        ("book --out w --format pt", "fastrnn: argument --format: invalid choice: 'pt'"),
        ("book --out no/w.npz", "fastrnn export: --out: no/w.npz: No such file or directory"),
        (
            "book --out book/model.safetensors",
            "fastrnn export: --out: book/model.safetensors: this is the model itself",
        ),
        ("nothing --out w.npz", "fastrnn export: nothing: No such file or directory"),
        ("book --out w.npz --step", "fastrnn export: --step: expected the format onnx, got npz"),
        (
            "book --out w.bin --format safetensors --lengths",
            "fastrnn export: --lengths: expected the format onnx, got safetensors",
        ),
        ("book --out w.onnx --step --lengths", "fastrnn: argument --lengths: not allowed with"),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments, message, capsys):
    before = sorted(Path().rglob("*"))
    assert cli.main(["export", *arguments.split()]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(message)
    assert err.count("\n") == 1
    assert sorted(Path().rglob("*")) == before


def test_what_onnx_cannot_say_is_one_line(capsys):
    pytest.importorskip("onnx")
    model = text.build_model("lstm", VOCABULARY, 4, 1)
    config = {**model[0].config(), "hidden_size": 2, "bidirectional": True}
    changed = type(model)(type(model[0])(**config), model[1])
    text.save_model("book/model.safetensors", changed, VOCABULARY)
    assert cli.main(["export", "book", "--out", "m.onnx", "--step"]) == 2
    message = "fastrnn export: book/model.safetensors: method: expected 'call' for a bidirectional"
    assert capsys.readouterr().err.startswith(message)


def test_a_missing_onnx_is_named(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert cli.main(["export", "book", "--out", "m.onnx"]) == 2
    assert capsys.readouterr().err == "fastrnn export: needs onnx: pip install 'fastrnn[onnx]'\n"
    from fastrnn.interop.onnx import export_model

    with pytest.raises(ImportError, match=r"pip install 'fastrnn\[onnx\]'"):
        export_model(text.build_model("rnn", VOCABULARY, 4))
