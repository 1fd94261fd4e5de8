"""Keras's own tests of its recurrent layers, in its package, with fastrnn switched on.

Each in a process of its own with and without fastrnn: the same tests pass, are skipped or fail.
"""

import importlib.util
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

keras = importlib.util.find_spec("keras")
if keras is None:
    pytest.skip("NOT TESTED: needs keras 3", allow_module_level=True)

TESTS = Path(__file__).parents[1]
THEIRS = Path(keras.origin).parent / "src" / "layers" / "rnn"
NAMES = ("lstm", "gru", "simple_rnn", "bidirectional", "rnn", "stacked_rnn_cells")
# JAX compiles the loop of each call of a plain layer anew: minutes for all files, and for the
# test_basics that fit a model of each kind.
FILES = {
    "torch": (*NAMES, "time_distributed"),
    "tensorflow": (*NAMES, "time_distributed"),
    "jax": ("lstm", "gru", "simple_rnn"),
}


def outcomes(backend, folder, fast):
    """What became of each test, and the number of calls of the kernels."""
    pytest.importorskip(backend, reason=f"NOT TESTED: needs {backend}")
    report, calls = folder / "report.xml", folder / "calls"
    environment = {
        **os.environ,
        "KERAS_BACKEND": backend,
        "PYTHONPATH": str(TESTS),
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    environment.pop("FASTRNN_CALLS", None)
    if fast:
        environment["FASTRNN_CALLS"] = str(calls)
    skip = ["-k", "not test_basics"] if backend == "jax" else []
    files = [str(THEIRS / f"{name}_test.py") for name in FILES[backend]]
    if not all(Path(file).exists() for file in files):
        pytest.skip("NOT TESTED: this release of Keras comes without its tests")
    options = ["-q", "-W", "ignore", "-c", os.devnull, "--rootdir", str(folder)]
    options += ["-p", "keras_own_plugin", "-p", "no:cacheprovider", f"--junitxml={report}"]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *skip, *files],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert report.exists(), run.stdout + run.stderr
    found = {}
    for case in ET.parse(report).getroot().iter("testcase"):
        inside = {child.tag for child in case} & {"failure", "error", "skipped"}
        found[case.get("classname"), case.get("name")] = inside or {"passed"}
    return found, int(calls.read_text()) if fast else 0


@pytest.mark.parametrize("backend", FILES)
def test_the_same_tests_pass_with_fastrnn(backend, tmp_path):
    plain, fast = tmp_path / "plain", tmp_path / "fast"
    plain.mkdir()
    fast.mkdir()
    want, _ = outcomes(backend, plain, False)
    got, calls = outcomes(backend, fast, True)
    assert got == want
    assert sum(outcome == {"passed"} for outcome in got.values()) >= 15
    assert calls >= 15
