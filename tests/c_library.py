"""libfastrnn as ctypes sees it: what fastrnn.h declares; models and streams as objects."""

from __future__ import annotations

import ctypes
import os
import pathlib
from collections.abc import Callable, Sequence
from ctypes import POINTER, c_char_p, c_double, c_int, c_int32, c_size_t, c_uint64, c_void_p
from typing import Any

import numpy as np

ROOT = pathlib.Path(__file__).parents[1]
HEADER = ROOT / "src/include/fastrnn/fastrnn.h"
PATH = pathlib.Path(os.environ.get("FASTRNN_C_LIBRARY", ROOT / "build/make/libfastrnn.so"))

STATUSES = (
    *("FR_OK", "FR_INVALID_ARGUMENT", "FR_OUT_OF_MEMORY", "FR_IO_ERROR", "FR_INVALID_MODEL"),
    *("FR_UNSUPPORTED", "FR_INTERNAL_ERROR", "FR_FULL", "FR_UNKNOWN_SESSION", "FR_CANCELLED"),
    "FR_SHUT_DOWN",
)
PRECISIONS = ("as_stored", "float32", "bf16", "bf16_dot", "int8")


class ModelOptions(ctypes.Structure):
    _fields_ = (("struct_size", c_size_t), ("precision", c_int))


class StreamOptions(ctypes.Structure):
    _fields_ = (("struct_size", c_size_t), ("block_steps", c_size_t))


class ModelInfo(ctypes.Structure):
    _fields_ = (
        *((name, c_size_t) for name in ("struct_size", "input_size", "output_size", "state_size")),
        *(("memory", c_size_t), ("takes_tokens", c_int), ("streams", c_int), ("precision", c_int)),
    )


# Result and arguments of each function; c_void_p is what may be any array.
FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "fr_last_error": (c_char_p, ()),
    "fr_status_name": (c_char_p, (c_int,)),
    "fr_version": (c_char_p, ()),
    "fr_abi_version": (c_int, ()),
    "fr_isa": (c_char_p, ()),
    "fr_model_load": (c_int, (c_char_p, c_void_p, POINTER(c_void_p))),
    "fr_model_load_memory": (c_int, (c_void_p, c_size_t, c_void_p, POINTER(c_void_p))),
    "fr_model_free": (None, (c_void_p,)),
    "fr_model_get_info": (c_int, (c_void_p, c_void_p)),
    "fr_model_metadata": (c_char_p, (c_void_p,)),
    "fr_model_run": (c_int, (c_void_p, c_void_p, c_size_t, c_size_t, c_void_p, c_void_p)),
    "fr_model_run_tokens": (c_int, (c_void_p, c_void_p, c_size_t, c_size_t, c_void_p, c_void_p)),
    "fr_stream_create": (c_int, (c_void_p, c_void_p, POINTER(c_void_p))),
    "fr_stream_free": (None, (c_void_p,)),
    "fr_stream_step": (c_int, (c_void_p, c_void_p, c_void_p)),
    "fr_stream_step_token": (c_int, (c_void_p, c_int32, c_void_p)),
    "fr_stream_process": (c_int, (c_void_p, c_void_p, c_size_t, c_void_p)),
    "fr_stream_process_tokens": (c_int, (c_void_p, c_void_p, c_size_t, c_void_p)),
    "fr_streams_step": (c_int, (c_void_p, c_size_t, c_void_p, c_void_p)),
    "fr_streams_step_tokens": (c_int, (c_void_p, c_size_t, c_void_p, c_void_p)),
    "fr_stream_reset": (c_int, (c_void_p,)),
    "fr_stream_get_state": (c_int, (c_void_p, c_void_p, c_size_t)),
    "fr_stream_set_state": (c_int, (c_void_p, c_void_p, c_size_t)),
    "fr_pool_create": (c_int, (c_void_p, c_void_p, POINTER(c_void_p))),
    "fr_pool_free": (None, (c_void_p,)),
    "fr_pool_open": (c_int, (c_void_p, c_void_p, c_size_t, POINTER(c_uint64))),
    "fr_pool_close": (c_int, (c_void_p, c_uint64)),
    "fr_pool_submit": (c_int, (c_void_p, c_void_p, c_size_t, c_double)),
    "fr_pool_step": (c_int, (c_void_p, c_uint64, c_void_p, c_size_t, c_void_p)),
    "fr_pool_step_tokens": (c_int, (c_void_p, c_uint64, c_void_p, c_size_t, c_void_p)),
    "fr_pool_export": (c_int, (c_void_p, c_uint64, c_void_p, c_size_t)),
    "fr_pool_import": (c_int, (c_void_p, c_uint64, c_void_p, c_size_t)),
    "fr_pool_state_bytes": (c_size_t, (c_void_p,)),
    "fr_pool_get_stats": (c_int, (c_void_p, c_void_p)),
    "fr_pool_shut_down": (c_int, (c_void_p, c_int)),
}


def open_library() -> Any:
    """Return the library; OSError if it was not built."""
    library = ctypes.CDLL(str(PATH))
    for name, (result, arguments) in FUNCTIONS.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


lib = open_library()


class ApiError(Exception):
    """What a status other than FR_OK becomes; its message is fr_last_error()."""

    def __init__(self, status: int) -> None:
        super().__init__(lib.fr_last_error().decode())
        self.status = lib.fr_status_name(status).decode()


def check(status: int) -> None:
    if status:
        raise ApiError(status)


def address(array: Any) -> int | None:
    return None if array is None else array.ctypes.data


def is_tokens(x: Any) -> bool:
    return x.dtype.kind == "i"


class CModel:
    """A model of the C library, from a path or from bytes."""

    def __init__(
        self, source: os.PathLike[str] | str | bytes, precision: str = "as_stored"
    ) -> None:
        options = ModelOptions(ctypes.sizeof(ModelOptions), PRECISIONS.index(precision))
        self.handle = c_void_p()
        if isinstance(source, bytes):
            data = np.frombuffer(source, np.uint8) if source else np.zeros(1, np.uint8)
            status = lib.fr_model_load_memory(
                address(data), len(source), ctypes.byref(options), ctypes.byref(self.handle)
            )
        else:
            path = os.fsencode(source)
            status = lib.fr_model_load(path, ctypes.byref(options), ctypes.byref(self.handle))
        check(status)

    def __del__(self) -> None:
        lib.fr_model_free(self.handle)

    @property
    def info(self) -> ModelInfo:
        info = ModelInfo(ctypes.sizeof(ModelInfo))
        check(lib.fr_model_get_info(self.handle, ctypes.byref(info)))
        return info

    @property
    def metadata(self) -> str:
        text: bytes = lib.fr_model_metadata(self.handle)
        return text.decode()

    def run(self, x: Any, lengths: Sequence[int] | None = None) -> Any:
        """Return y (B, T, O) of x (B, T, I) or tokens (B, T)."""
        x = np.ascontiguousarray(x)
        y = np.full((*x.shape[:2], self.info.output_size), np.nan, np.float32)
        counts = None if lengths is None else np.array(lengths, np.uintp)
        function = lib.fr_model_run_tokens if is_tokens(x) else lib.fr_model_run
        check(function(self.handle, address(x), *x.shape[:2], address(counts), address(y)))
        return y


class CStream:
    """A stream of a model."""

    def __init__(self, model: CModel, block_steps: int = 0) -> None:
        self.output_size = model.info.output_size
        self.state_size = model.info.state_size
        options = StreamOptions(ctypes.sizeof(StreamOptions), block_steps)
        self.handle = c_void_p()
        check(lib.fr_stream_create(model.handle, ctypes.byref(options), ctypes.byref(self.handle)))

    def __del__(self) -> None:
        lib.fr_stream_free(self.handle)

    def step(self, x: Any) -> Any:
        """Return y (O,) of x (I,), or of a token."""
        y = np.full(self.output_size, np.nan, np.float32)
        if np.ndim(x) == 0:
            check(lib.fr_stream_step_token(self.handle, int(x), address(y)))
        else:
            check(lib.fr_stream_step(self.handle, address(np.ascontiguousarray(x)), address(y)))
        return y

    def process(self, x: Any) -> Any:
        """Return y (T, O) of x (T, I), or of tokens (T,)."""
        x = np.ascontiguousarray(x)
        y = np.full((len(x), self.output_size), np.nan, np.float32)
        function = lib.fr_stream_process_tokens if is_tokens(x) else lib.fr_stream_process
        check(function(self.handle, address(x), len(x), address(y)))
        return y

    def reset(self) -> None:
        check(lib.fr_stream_reset(self.handle))

    @property
    def state(self) -> Any:
        state = np.full(self.state_size, np.nan, np.float32)
        check(lib.fr_stream_get_state(self.handle, address(state), self.state_size))
        return state

    @state.setter
    def state(self, state: Any) -> None:
        check(lib.fr_stream_set_state(self.handle, address(state), state.size))


def step_streams(streams: Sequence[CStream], x: Any) -> Any:
    """Return y (N, O) of x (N, I), or of tokens (N,): one step of each stream."""
    x = np.ascontiguousarray(x)
    handles = (c_void_p * len(streams))(*(stream.handle for stream in streams))
    y = np.full((len(streams), streams[0].output_size), np.nan, np.float32)
    function: Callable[..., int] = lib.fr_streams_step
    if is_tokens(x):
        function = lib.fr_streams_step_tokens
    check(function(handles, len(streams), address(x), address(y)))
    return y
