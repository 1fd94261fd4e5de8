"""test_keras_accelerate.py on Keras's other backends, each in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("keras", reason="NOT TESTED: needs keras 3")
FILE = Path(__file__).with_name("test_keras_accelerate.py")


@pytest.mark.parametrize("backend", ["jax", "tensorflow"])
def test_layers_and_models_on(backend):
    pytest.importorskip(backend, reason=f"NOT TESTED: needs {backend}")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(FILE)],
        cwd=FILE.parents[1],  # not where the checkout lies, which may be without the compiled core
        env={**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "passed" in run.stdout
    assert "skipped" not in run.stdout
