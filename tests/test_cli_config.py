"""``--config`` and what is kept of it: files good and bad, and what overrides what."""

import argparse
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrnn import cli, text
from fastrnn.cli import config
from fastrnn.cli.common import CommandError, Parser

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

RECIPE = """
[train]
cell = "gru"
hidden = 6
layers = 1
seq-len = 8
batch = 4
epochs = 1
lr = 1
"""

pytestmark = pytest.mark.usefixtures("set_num_threads")


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("good.txt").write_text("the cat sat on the mat; the dog sat on the log.\n" * 40)
    Path("recipe.toml").write_text(RECIPE)


def train(*arguments):
    return cli.main(["train", "good.txt", *arguments])


def printed(capsys, *arguments):
    capsys.readouterr()
    assert train(*arguments, "--print-config") == 0
    return tomllib.loads(capsys.readouterr().out)["train"]


def test_the_defaults_are_the_recipe(capsys):
    found = printed(capsys)
    recipe = {name.replace("_", "-"): v for name, v in vars(text.Recipe()).items()}
    assert found.items() <= recipe.items()
    assert not Path("fastrnn-model").exists()


def test_flags_override_the_file_which_overrides_the_defaults(capsys):
    found = printed(capsys, "--config", "recipe.toml", "--hidden", "7")
    assert (found["cell"], found["hidden"], found["lr"], found["seed"]) == ("gru", 7, 1.0, 1)
    assert type(found["lr"]) is float


def test_what_is_kept_trains_the_same_model_again():
    assert train("--config", "recipe.toml", "--lr", "0.01", "--threads", "1", "--out", "a") == 0
    assert train("--config", "a/config.toml", "--out", "b") == 0
    first, second = (Path(folder, "model.safetensors").read_bytes() for folder in "ab")
    assert first == second
    assert Path("a/config.toml").read_bytes() == Path("b/config.toml").read_bytes()
    assert text.load_model("a/model.safetensors").recipe.lr == 0.01


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("hidden = 3", "recipe.toml: hidden: expected it in a table [train]"),
        ("", "recipe.toml: expected a table [train]"),
        ("[trian]\nhidden = 3", "recipe.toml: expected a table [train]"),
        (
            "[train]\nhiden = 3",
            "recipe.toml: hiden: no such key in [train] (did you mean hidden?)",
        ),
        (
            "[train]\nseq_len = 3",
            "recipe.toml: seq_len: no such key in [train] (did you mean seq-len?)",
        ),
        ("[train]\nzzz = 3", "recipe.toml: zzz: no such key in [train] (see fastrnn train --help)"),
        ("[train]\njson = true", "recipe.toml: json: no such key"),
        ('[train]\nhidden = "3"', 'recipe.toml: hidden: expected an integer, got "3"'),
        ("[train]\nhidden = 3.5", "recipe.toml: hidden: expected an integer, got 3.5"),
        ("[train]\nhidden = true", "recipe.toml: hidden: expected an integer, got true"),
        ('[train]\nlr = "fast"', 'recipe.toml: lr: expected a number, got "fast"'),
        ("[train]\ncell = 3", "recipe.toml: cell: expected a string, got 3"),
        ("[train]\nseed = 1979-05-27", "recipe.toml: seed: expected an integer, got 1979-05-27"),
        ("[train]\nlr = 1" + "0" * 400, "--lr: expected a number above 0, got inf"),
        ("[train]\nhidden = 0", "--hidden: expected at least 1, got 0"),
        ("[train", "recipe.toml: not TOML (Expected ']'"),
        ("a = " + "[" * 100_000, "recipe.toml: not TOML ("),
        ("\xff", "recipe.toml: not TOML ("),
        ("#" * 1_000_001, "recipe.toml: not TOML (expected at most 1,000,000 bytes)"),
    ],
    ids=lambda value: value[:30],
)
def test_a_bad_file_is_one_line_and_status_2(content, message, capsys):
    Path("recipe.toml").write_text(content, encoding="latin-1")
    assert train("--config", "recipe.toml") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"fastrnn train: {message}")
    assert err.count("\n") == 1
    assert not Path("fastrnn-model").exists()


@pytest.mark.parametrize(
    ("path", "message"), [("none.toml", "No such file or directory"), (".", "Is a directory")]
)
def test_a_file_that_cannot_be_read_is_named(path, message, capsys):
    assert train("--config", path) == 2
    assert capsys.readouterr().err == f"fastrnn train: --config: {path}: {message}\n"


def parser_of_all_kinds():
    parser = Parser(prog="fastrnn some")
    add = parser.add_argument
    add("--text")
    add("--many", nargs="+")
    add("--numbers", nargs="+", type=int)
    add("--number", type=float)
    add("--flag", action="store_true")
    parser.set_defaults(parser=parser, command="some")
    return parser


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1),
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1),
    st.floats(allow_nan=False),
    st.booleans(),
)
def test_what_is_written_is_read_again(tmp_path_factory, texts, integers, number, flag):
    parser = parser_of_all_kinds()
    values = {"text": texts[0], "many": texts, "numbers": integers, "number": number, "flag": flag}
    path = tmp_path_factory.getbasetemp() / "c.toml"
    common = {"parser": parser, "command": "some"}
    path.write_bytes(config.effective(argparse.Namespace(**values, **common)).encode())
    config.set_defaults(str(path), "some", parser)
    assert vars(parser.parse_args([])) == {**values, **common}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('many = "a"', 'many: expected an array, each a string, got "a"'),
        ('many = ["a", 1]', r"many\[1\]: expected a string, got 1"),
        ("numbers = [1, true]", r"numbers\[1\]: expected an integer, got true"),
        ("flag = 1", "flag: expected true or false, got 1"),
        ("number = [1]", r"number: expected a number, got \[1\]"),
    ],
)
def test_wrong_types_are_named(line, message):
    Path("c.toml").write_text(f"[some]\n{line}\n")
    with pytest.raises(CommandError, match=f"^c.toml: {message}$"):
        config.set_defaults("c.toml", "some", parser_of_all_kinds())
