"""The examples of fastrnn.estimators, made small."""

import runpy
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def _one_thread(set_num_threads):
    set_num_threads(1)


def main_of(name):
    return runpy.run_path(str(ROOT / "examples" / f"{name}.py"))["main"]


def test_digits_classifier(capsys):
    assert main_of("digits_classifier")(max_epochs=2) > 0.5
    out = capsys.readouterr().out
    assert "2 epochs" in out
    assert "accuracy of 450 test images" in out


def test_tagging(capsys):
    assert main_of("tagging")(count=150, max_epochs=6) > 0.9  # 0.65 where all is "-"
    assert "/PERSON" in capsys.readouterr().out


def test_sunspots(tmp_path, capsys):
    pytest.importorskip("matplotlib").use("agg")
    t = np.arange(260)
    spots = np.square(np.sin(np.pi * t / 10.4)) * (60 + 30 * np.sin(t / 13))
    spots += np.random.default_rng(0).normal(size=260) * 8
    path = tmp_path / "spots.png"
    error, naive, coverage = main_of("sunspots")(spots, max_epochs=20, path=str(path))
    assert error < naive
    assert 0.75 < coverage <= 1
    assert path.stat().st_size > 1000
    assert "56 forecasts of 11 years; 194 years were known" in capsys.readouterr().out
