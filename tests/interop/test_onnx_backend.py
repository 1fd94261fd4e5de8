"""ONNX's own tests of backends, with fastrnn as the backend."""

import warnings

import pytest

onnx = pytest.importorskip("onnx", reason="NOT TESTED: needs onnx, whose tests these are")
backend_test = pytest.importorskip("onnx.backend.test")

import fastrnn.interop.onnx  # noqa: E402

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # onnx makes infinities in writing its cases
    tests = backend_test.BackendTest(fastrnn.interop.onnx, __name__)
tests.include(r"test_(rnn|lstm|gru|simple_rnn)_.*_cpu")
globals().update(tests.test_cases)
