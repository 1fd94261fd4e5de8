"""Imported ONNX models beside ONNX Runtime: recurrent nodes of all kinds.

What ONNX Runtime does not have is compared with the formulas instead: float64, rows of length 0.
Of layout 1, which it does not have either, it is given the model with layout 0.
"""

import numpy as np
import pytest
from hypothesis import given, settings

onnx = pytest.importorskip("onnx", reason="NOT TESTED: needs onnx, whose models these are")
runtime = pytest.importorskip("onnxruntime", reason="NOT TESTED: needs onnxruntime")

import onnx_cases as cases  # noqa: E402
from fastrnn.interop.onnx import import_model  # noqa: E402

TOLERANCE = 1e-5


def session_of(model):
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    content = model if isinstance(model, bytes) else model.SerializeToString()
    return runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def assert_close(got, want, tolerance=TOLERANCE):
    assert len(got) == len(want)
    for one, other in zip(got, want, strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(
            one, other, rtol=0, atol=tolerance * max(1, np.abs(other).max(initial=0))
        )


@settings(max_examples=300)
@given(cases.cases())
def test_recurrent_nodes_as_onnx_runtime(case):
    model, inputs = cases.model_of(case)
    got = import_model(model).run(None, inputs)
    plain, plain_inputs = cases.model_of(case, layout=0)
    want = session_of(plain).run(None, plain_inputs)
    assert_close(got, cases.swapped(case, want))


@settings(max_examples=100)
@given(cases.cases(np.float64, shortest=0))
def test_recurrent_nodes_as_the_formulas(case):
    model, inputs = cases.model_of(case)
    got = import_model(model).run(None, inputs)
    assert all(array.dtype == np.float64 for array in got)
    assert_close(got, cases.swapped(case, cases.by_formula(case)), 1e-11)
