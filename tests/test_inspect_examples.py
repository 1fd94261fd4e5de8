"""The examples of fastrnn.inspect, made small: what they measure is what they say."""

import runpy
from pathlib import Path

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_gradient_flow(capsys):
    example = runpy.run_path(str(EXAMPLES / "gradient_flow.py"))
    reach = example["main"](steps=25, out=None)
    plain, clipped = reach.values()
    assert plain["RNN, gain 0.8"] < 0.01
    assert plain["RNN, gain 2"] > 10
    assert clipped["RNN, gain 2"] < 1.5
    assert plain["LSTM, chrono"] > 10 * plain["LSTM, forget bias 0"]
    assert plain["LSTM, chrono: dL/dc"] > 0.1
    assert plain["GRU, chrono"] > 0.1
    assert "no clipping:" in capsys.readouterr().out


def test_interpretable_cells(tmp_path):
    example = runpy.run_path(str(EXAMPLES / "interpretable_cells.py"))
    out = tmp_path / "cells.html"
    scores = example["main"](length=30_000, unseen_length=5_000, epochs=3, hidden=16, out=str(out))
    assert scores.keys() == {"quotes", "brackets"}
    trained, untrained = scores["quotes"]
    assert trained > max(untrained, 0.53)  # 0.5 is chance
    assert "<h1>Cells of a made-up language</h1>" in out.read_text(encoding="utf-8")
