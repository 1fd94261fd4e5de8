"""``fastrnn quantize``: a smaller file of the same model."""

from pathlib import Path

import numpy as np
import pytest

import fastrnn
from fastrnn import cli, serialization, text

VOCABULARY = text.Vocabulary("\nabcdefgh")


@pytest.fixture(autouse=True)
def model(tmp_path, monkeypatch):
    """A character model in ./book."""
    monkeypatch.chdir(tmp_path)
    Path("book").mkdir()
    model = text.build_model("gru", VOCABULARY, 80, 2, seed=1)
    text.save_model("book/model.safetensors", model, VOCABULARY, loss=1.5)
    return model


@pytest.mark.parametrize(("precision", "share"), [("bf16", 0.53), ("int8", 0.3)])
@pytest.mark.parametrize("source", ["book", "book/model.safetensors"])
def test_a_smaller_file_of_the_quantized_model(precision, share, source, model, capsys):
    assert cli.main(["quantize", source, "--to", precision, "--out", "small"]) == 0
    before, after = (Path(p).stat().st_size for p in ("book/model.safetensors", "small"))
    out = capsys.readouterr().out
    assert out == f"Wrote small: {after:,} bytes, {after / before:.0%} of {before:,}\n"
    assert after < share * before
    small = text.load_model("small")
    assert small.model[0].precision == precision
    assert small.vocabulary.characters == VOCABULARY.characters
    assert small.metadata == serialization.load_metadata("book/model.safetensors")
    want = fastrnn.quantize(model, precision).state_dict()
    assert all(np.array_equal(want[n], array) for n, array in small.model.state_dict().items())


def test_the_smaller_model_writes_and_is_measured(capsys):
    Path("text.txt").write_text("abcdefgh\n" * 100)
    assert cli.main(["quantize", "book", "--to", "int8", "--out", "small"]) == 0
    assert cli.main(["sample", "small", "--length", "20", "--seed", "1"]) == 0
    assert cli.main(["eval", "small", "text.txt", "--threads", "1"]) == 0
    assert "nats/char" in capsys.readouterr().out


def test_models_of_other_kinds(capsys):
    fastrnn.save(fastrnn.LSTM(3, 4, seed=1), "lstm", {"a": 1})
    assert cli.main(["quantize", "lstm", "--to", "bf16", "--out", "small"]) == 0
    assert repr(fastrnn.load("small")) == "LSTM(3, 4, precision='bf16')"
    assert serialization.load_metadata("small") == {"a": 1}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("book --out w", "fastrnn: the following arguments are required: --to (see fastrnn quant"),
        ("book --to int8", "fastrnn: the following arguments are required: --out (see fastrnn qua"),
        ("book --to int4 --out w", "fastrnn: argument --to: invalid choice: 'int4'"),
        ("book --to int8 --out no/w", "fastrnn quantize: --out: no/w: No such file or directory"),
        (
            "book --to int8 --out book/model.safetensors",
            "fastrnn quantize: --out: book/model.safetensors: this is the model itself",
        ),
        ("nothing --to int8 --out w", "fastrnn quantize: nothing: No such file or directory"),
        ("text --to int8 --out w", "fastrnn quantize: text: not a whole safetensors file"),
        (
            "linear --to int8 --out w",
            "fastrnn quantize: linear: model: expected a recurrent layer, got Linear",
        ),
        (
            "double --to int8 --out w",
            "fastrnn quantize: double: model: expected a float32 layer, got float64",
        ),
        (
            "small --to int8 --out w",
            "fastrnn quantize: small: model: expected a float32 layer, got one already quantized",
        ),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments, message, capsys):
    Path("text").write_text("text")
    fastrnn.save(fastrnn.Linear(2, 3), "linear")
    fastrnn.save(fastrnn.GRU(2, 3, dtype="float64"), "double")
    fastrnn.save(fastrnn.quantize(fastrnn.GRU(2, 3), "bf16"), "small")
    before = sorted(Path().rglob("*"))
    assert cli.main(["quantize", *arguments.split()]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(message)
    assert err.count("\n") == 1
    assert sorted(Path().rglob("*")) == before
