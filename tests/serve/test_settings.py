"""What a server can be told, and that unsafe settings are refused."""

from __future__ import annotations

import pytest

from fastrnn.serve import ModelSettings, Settings, read_tokens
from fastrnn.serve.settings import check_names

TOKEN = "0123456789abcdef"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "example.com"])
def test_others_need_a_token(host):
    with pytest.raises(ValueError, match="--token-file"):
        Settings(host=host)
    assert Settings(host=host, tokens=(TOKEN,)).host == host
    assert Settings(host=host, insecure=True).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.3.2.1", "::1", "localhost"])
def test_this_machine_needs_none(host):
    assert Settings(host=host).loopback


@pytest.mark.parametrize(
    "wrong",
    [
        {"port": -1},
        {"port": "8000"},
        {"max_body": 0},
        {"port": 65536},
        {"max_batch": 65},
        {"max_sessions": 2**24 + 1},
        {"max_steps": 2.5},
        {"idle_timeout": 0},
        {"drain_timeout": float("nan")},
        {"log_format": "xml"},
        {"insecure": "no"},
        {"tokens": "abc"},
        {"origins": "https://a"},
        {"host": None},
        {"state": 1},
    ],
)
def test_wrong_values_are_named(wrong):
    (name,) = wrong
    with pytest.raises((TypeError, ValueError), match=f"^{name}: expected"):
        Settings(**wrong)


def test_tokens_are_not_shown():
    assert TOKEN not in repr(Settings(tokens=(TOKEN,)))


def test_tokens_from_file_and_environment(tmp_path):
    file = tmp_path / "tokens"
    file.write_text(f"# of the page\n\n  {TOKEN}A \r\n{TOKEN}B\n")
    environment = {"FASTRNN_TOKENS": f"{TOKEN}C, {TOKEN}A\n"}
    assert read_tokens(file, environment) == (f"{TOKEN}A", f"{TOKEN}B", f"{TOKEN}C")
    assert read_tokens(None, {}) == ()


@pytest.mark.parametrize("content", ["short\n", f"{TOKEN} and more\n", "", "# none\n", "é" * 20])
def test_wrong_tokens_are_not_told(tmp_path, content):
    file = tmp_path / "tokens"
    file.write_text(content)
    with pytest.raises(ValueError, match="expected") as caught:
        read_tokens(file, {})
    assert not content.strip() or content.strip() not in str(caught.value)


def test_models_by_name_and_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "book"
    folder.mkdir()
    parse = ModelSettings.parse
    assert parse("a/b/gru.safetensors").name == "gru"
    assert parse("book").name == "book"
    assert parse("book").path.name == "model.safetensors"
    assert parse("book/model.safetensors").name == "book"
    assert parse("speech=a=b.bin").name == "speech"
    assert str(parse("speech=a=b.bin").path) == "a=b.bin"
    assert parse("./a=b.bin").name == "a-b"
    model = parse("x=a,b.bin,max_sessions=3,max_steps=70")
    assert (str(model.path), model.max_sessions, model.max_steps) == ("a,b.bin", 3, 70)
    assert model.max_running is None
    assert model.with_defaults(Settings(max_running=5)).max_running == 5
    assert model.with_defaults(Settings()).max_sessions == 3


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x=",
        "a b=c",
        "x=y,max_sessions=0",
        "x=y,max_sessions=99999999",
        "x=y,max_steps=-1",
        "x=y,max_steps=²",
    ],
)
def test_wrong_models_are_refused(text):
    with pytest.raises(ValueError, match="expected"):
        ModelSettings.parse(text)


def test_each_name_once():
    with pytest.raises(ValueError, match="once"):
        check_names([ModelSettings.parse("a.bin"), ModelSettings.parse("x/a.bin")])
    with pytest.raises(ValueError, match="at least one"):
        check_names([])
