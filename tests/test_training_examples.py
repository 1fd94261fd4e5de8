"""The example of Trainer, made short: it learns."""

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_train_classifier(tmp_path, capsys, set_num_threads):
    pytest.importorskip("sklearn.datasets", reason="the digits of scikit-learn")
    pytest.importorskip("matplotlib")
    set_num_threads(1)
    main = runpy.run_path(str(EXAMPLES / "train_classifier.py"))["main"]
    accuracy = main(epochs=4, out=str(tmp_path / "training.png"))
    assert 0.7 < accuracy <= 1.0  # of ten digits, by chance 0.1
    assert (tmp_path / "training.png").stat().st_size > 1000
    assert f"accuracy {accuracy:.1%}" in capsys.readouterr().out
