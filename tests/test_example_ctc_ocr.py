"""The example that reads lines of digits, for half a second."""

import itertools
import runpy
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parent.parent / "examples" / "ctc_ocr.py"


@pytest.fixture(scope="module")
def example():
    pytest.importorskip("sklearn")
    return runpy.run_path(str(EXAMPLE))


def test_learns_to_read(example, set_num_threads, capsys):
    set_num_threads(1)
    options = {"lines": 600, "test_lines": 40, "hidden": 32, "batch": 6, "lr": 1e-2}
    best_path, prefix = example["main"](epochs=1, **options)  # 0.22 to 0.32, by the seed
    assert best_path < 0.5
    assert prefix < 0.5
    assert f"label error rate {best_path:.2%} by best path" in capsys.readouterr().out


def test_edits(example):
    def slowly(a, b):
        if not a or not b:
            return len(a) + len(b)
        same = slowly(a[1:], b[1:]) + (a[0] != b[0])
        return min(same, slowly(a[1:], b) + 1, slowly(a, b[1:]) + 1)

    words = [word for n in range(4) for word in itertools.product((1, 2), repeat=n)]
    for got, want in itertools.product(words, words):
        assert example["edits"](got, want) == slowly(got, want)
