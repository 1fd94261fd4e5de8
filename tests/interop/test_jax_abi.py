"""XLA's C interface as src/bindings/xla_abi.h declares it, beside the header that jaxlib brings,
and what the handlers do with frames that XLA does not make today."""

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

jax = pytest.importorskip("jax")

from fastrnn import _core  # noqa: E402

BINDINGS = Path(__file__).parents[2] / "src" / "bindings"

# Each struct of ours with XLA's, and its fields with theirs.
STRUCTS = {
    ("Extension", "Extension_Base"): "struct_size type next",
    ("Version", "Api_Version"): (
        "struct_size extensions:extension_start major:major_version minor:minor_version"
    ),
    ("ErrorArguments", "Error_Create_Args"): (
        "struct_size extensions:extension_start message code:errc"
    ),
    ("Api", "Api"): (
        "struct_size extensions:extension_start version:api_version internal:internal_api "
        "create_error:XLA_FFI_Error_Create"
    ),
    ("Buffer", "Buffer"): ("struct_size extensions:extension_start type:dtype data rank dims"),
    ("Scalar", "Scalar"): "type:dtype value",
    ("Bytes", "ByteSpan"): "data:ptr size:len",
    ("Operands", "Args"): "struct_size extensions:extension_start size types items:args",
    ("Operands", "Rets"): "struct_size extensions:extension_start size types items:rets",
    ("Attributes", "Attrs"): (
        "struct_size extensions:extension_start size types names items:attrs"
    ),
    ("CallFrame", "CallFrame"): (
        "struct_size extensions:extension_start api context:ctx stage arguments:args results:rets "
        "attributes:attrs"
    ),
    ("Metadata", "Metadata"): "struct_size version:api_version traits",
    ("MetadataExtension", "Metadata_Extension"): "base:extension_base metadata",
}
NUMBERS = {
    "extension_metadata": "Extension_Metadata",
    "stage_execute": "ExecutionStage_EXECUTE",
    "argument_buffer": "ArgType_BUFFER",
    "result_buffer": "RetType_BUFFER",
    "attribute_scalar": "AttrType_SCALAR",
    "type_s32": "DataType_S32",
    "type_s64": "DataType_S64",
    "type_f32": "DataType_F32",
    "type_f64": "DataType_F64",
    "invalid_argument": "Error_Code_INVALID_ARGUMENT",
    "resource_exhausted": "Error_Code_RESOURCE_EXHAUSTED",
    "unimplemented": "Error_Code_UNIMPLEMENTED",
    "internal": "Error_Code_INTERNAL",
}


def comparison():
    """A C++ program that compiles where both headers agree."""
    lines = [
        '#include "xla_abi.h"',
        '#include "xla/ffi/api/c_api.h"',
        "namespace x = fastrnn::xla;",
    ]
    for (ours, theirs), fields in STRUCTS.items():
        for field in fields.split():
            own, _, other = field.partition(":")
            pair = f"x::{ours}, {own}", f"XLA_FFI_{theirs}, {other or own}"
            lines.append(f"static_assert(offsetof({pair[0]}) == offsetof({pair[1]}));")
            sizes = (f"sizeof({p.replace(', ', '::')})" for p in pair)
            lines.append(f"static_assert({' == '.join(sizes)});")
    for ours, theirs in NUMBERS.items():
        lines.append(f"static_assert(static_cast<int>(x::{ours}) == XLA_FFI_{theirs});")
    lines.append("static_assert(x::api_major == XLA_FFI_API_MAJOR);")
    return "\n".join(lines) + "\n"


def compiles(code, tmp_path):
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if not compiler:
        pytest.skip("no C++ compiler")
    if not BINDINGS.is_dir():
        pytest.skip("no sources of fastrnn")
    path = tmp_path / "comparison.cpp"
    path.write_text(code, encoding="utf-8")
    include = [f"-I{BINDINGS}", f"-I{jax.ffi.include_dir()}"]
    command = [compiler, "-std=c++17", "-fsyntax-only", *include, str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_layout_is_that_of_the_header(tmp_path):
    done = compiles(comparison(), tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_comparison_can_fail(tmp_path):
    wrong = comparison().replace("x::Buffer, rank", "x::Buffer, data", 1)
    assert compiles(wrong, tmp_path).returncode != 0


# ------------------------------------------------------------------ frames of other versions

WORD = 8


class Frame(ctypes.Structure):
    """The beginning of a call frame, with room for the rest."""

    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("extensions", ctypes.c_void_p),
        ("api", ctypes.c_void_p),
        ("rest", ctypes.c_char * 400),
    ]


class Api(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("extensions", ctypes.c_void_p),
        ("version_size", ctypes.c_size_t),
        ("version_extensions", ctypes.c_void_p),
        ("major", ctypes.c_int),
        ("minor", ctypes.c_int),
        ("internal", ctypes.c_void_p),
        ("create_error", ctypes.c_void_p),
    ]


class ErrorArguments(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("extensions", ctypes.c_void_p),
        ("message", ctypes.c_char_p),
        ("code", ctypes.c_int),
    ]


def handlers():
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    signature = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
    return {n: signature(pointer(h, None)) for n, h in _core.xla_handlers().items()}


def errors_of(handler, frame_size=200, major=0, minor=3, extensions=None):
    """The error codes and messages that a handler makes of an empty frame."""
    found = []

    @ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.POINTER(ErrorArguments))
    def create(arguments):
        found.append((arguments.contents.code, arguments.contents.message.decode()))
        return 1  # any pointer but null

    api = Api(ctypes.sizeof(Api), None, 3 * WORD, None, major, minor, None)
    api.create_error = ctypes.cast(create, ctypes.c_void_p)
    frame = Frame(frame_size, extensions, ctypes.addressof(api))
    result = handler(ctypes.addressof(frame))
    assert (result is None) == (not found)
    return found


@pytest.mark.parametrize("name", ["fastrnn_layer_forward", "fastrnn_layer_backward"])
def test_unknown_versions_are_refused(name):
    handler = handlers()[name]
    unknown = [(12, "fastrnn: unknown version of XLA's interface")]
    assert errors_of(handler, major=1) == unknown
    assert errors_of(handler, frame_size=64) == unknown
    # Of a known one, but its operands say that they have no fields.
    assert errors_of(handler) == [(12, "fastrnn: arguments: unknown version of XLA's interface")]


@pytest.mark.parametrize("theirs, told", [(0, 0), (2, 2), (3, 3), (9, 3)])
def test_a_handler_tells_the_version_that_both_know(theirs, told):
    metadata = (ctypes.c_uint64 * 6)(5 * WORD)
    extension = (ctypes.c_uint64 * 4)(4 * WORD, 1, 0, ctypes.addressof(metadata))
    handler = handlers()["fastrnn_layer_forward"]
    assert not errors_of(handler, minor=theirs, extensions=ctypes.addressof(extension))
    version = np.frombuffer(metadata, np.int32)[6:8]  # after two sizes and a pointer
    assert version.tolist() == [0, told]


def test_a_refusal_at_registration_means_calls_back(monkeypatch):
    from fastrnn.interop.jax import native

    def refuse(*args, **kwargs):
        raise RuntimeError("unsupported version")

    monkeypatch.setattr(native.ffi, "register_ffi_target", refuse)
    assert native._register() is False
