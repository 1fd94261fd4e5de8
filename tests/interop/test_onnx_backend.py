"""ONNX's own tests of backends, with fastrnn as the backend.

All tests of single nodes run, but for those listed in EXCLUDED.
"""

import importlib
import re
import warnings

import pytest

onnx = pytest.importorskip("onnx", reason="NOT TESTED: needs onnx, whose tests these are")
backend_test = pytest.importorskip("onnx.backend.test")

backend = importlib.import_module("fastrnn.interop.onnx")

RECURRENT = r"test_(rnn|lstm|gru|simple_rnn)_"

# Patterns of the tests' names, by what fastrnn does not have.
EXCLUDED = {
    "types other than float32, float64, bool and integers of 8 bits and more": [
        r"FLOAT16|BFLOAT16|FLOAT8|FLOAT4|_U?INT[42]_|_U?INT[42]$|float16|fp16|_bf16",
        r"_24_qk_matmul_output_mode3_softmax_precision",
        r"string|strnormalizer|regex|tfidf|_seq$|_seq_none$|identity_sequence|_opt$|sequence_(map|insert)|to_sequence",
        r"optional_(get|has)",
    ],
    "operators of other domains": [r"ada(grad|m)|momentum|ai_onnx_ml|flexattention"],
    "operators": [
        r"_bitcast|bitshift|col2im|convinteger|convtranspose|cumprod|deform_conv|_det_|_i?dft|stft",
        r"gridsample|image_decoder|l[12]normalization|lpnormalization|lppool|_lrn|matmulinteger",
        r"maxunpool|melweightmatrix|nonmaxsuppression|qlinear|quantizelinear|_resize|roialign",
        r"tensorscatter|unique|upsample_nearest",
        r"bernoulli",  # random numbers
    ],
    "attributes": [
        r"pool_\w*ceil|averagepool_(2d_dilations|3d_dilations_small)|_3d_dilations_large_count",
        r"maxpool_with_argmax|maxpool_3d_dilations_use_ref_impl_large",
        r"batchnorm_\w*_training_mode|training_dropout",
    ],
    "operators before version 7, Scan before 9": [r"test_not_[234]d|scan_sum"],
    "functions that onnx.inliner cannot write out, for what is unknown of their types": [
        r"attention_4d_(diff_heads_mask4d_padded_kv|gqa_causal_nonpad_decode)$",
        r"attention_4d_causal_(nonpad|with_past)\w*(?<!expanded)$",
        r"attention_local_window_(with_past|ext_cache)\w*(?<!expanded)$",
        r"linear_attention_(?!.*expanded)(gated|delta|explicit_scale)",
        r"causal_conv_with_state_(silu_)?with_past_state$",
    ],
}
PATTERN = re.compile("|".join(part for parts in EXCLUDED.values() for part in parts))
COUNTS = {"1.23": (18, 1280)}  # of onnx's tests: of recurrent operators, of all that run


def cases():
    """Onnx's test cases with those tests alone that run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # onnx makes infinities in writing its cases
        found = backend_test.BackendTest(backend, __name__).test_cases
    case = found["OnnxBackendNodeModelTest"]
    names = {name.removesuffix("_cpu") for name in dir(case) if name.endswith("_cpu")}
    kept = {name for name in names if not PATTERN.search(name)}
    for name in (name for name in dir(case) if name.startswith("test_")):
        if name.removesuffix("_cpu") not in kept:
            delattr(case, name)
    return case, kept


OnnxBackendNodeModelTest, NAMES = cases()


def test_how_many_run():
    recurrent = sum(re.match(RECURRENT, name) is not None for name in NAMES)
    version = ".".join(onnx.__version__.split(".")[:2])
    counts = COUNTS.get(version)
    assert recurrent >= 18
    assert counts is None or (recurrent, len(NAMES)) == counts


def test_devices():
    assert backend.supports_device("CPU")
    assert not backend.supports_device("CUDA:0")
    with pytest.raises(ValueError, match="device: expected 'CPU', got 'CUDA'"):
        backend.prepare(onnx.ModelProto(), "CUDA")
