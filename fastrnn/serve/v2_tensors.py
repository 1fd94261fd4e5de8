"""Tensors of the Open Inference Protocol, as JSON and as bytes: requests in, answers out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import chain
from math import prod
from typing import Annotated, Any, NamedTuple, Union

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr
from pydantic import ValidationError as PydanticError
from pydantic_core import from_json

__all__ = [
    "DATATYPES",
    "InferRequest",
    "InferResponse",
    "Tensors",
    "decode",
    "encode",
]

Array = NDArray[Any]
DATATYPES: dict[str, np.dtype[Any]] = {
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
}
NAMES = {dtype: name for name, dtype in DATATYPES.items()}
BINARY = "binary_data_size"

Parameters = dict[str, Union[StrictBool, StrictInt, StrictFloat, StrictStr]]  # noqa: UP007
Name = Annotated[StrictStr, Field(min_length=1, max_length=200)]
Data = Annotated[
    list[Any],
    Field(
        description="Numbers in row-major order, flat or nested as the shape is.",
        json_schema_extra={"items": {"anyOf": [{"type": "number"}, {"type": "array"}]}},
    ),
]


class _Model(BaseModel):
    model_config = ConfigDict(protected_namespaces=(), regex_engine="python-re")


class InputTensor(_Model):
    """One input: with `data`, or with `binary_data_size` in its parameters."""

    name: Name
    datatype: Annotated[StrictStr, Field(description="FP32, FP64, INT32 or INT64")]
    shape: Annotated[
        list[Annotated[StrictInt, Field(ge=1, lt=2**31)]], Field(min_length=1, max_length=3)
    ]
    parameters: Parameters | None = None
    data: Data | None = None


class RequestedOutput(_Model):
    """One output that is wanted; `binary_data` in its parameters asks for bytes."""

    name: Name
    parameters: Parameters | None = None


class InferRequest(_Model):
    """Whole sequences to run a model over."""

    id: Annotated[StrictStr, Field(max_length=1000)] | None = None
    parameters: Parameters | None = None
    inputs: Annotated[list[InputTensor], Field(min_length=1, max_length=10)]
    outputs: Annotated[list[RequestedOutput], Field(max_length=1000)] | None = None


class OutputTensor(_Model):
    """One output: with `data`, or with `binary_data_size` in its parameters."""

    name: str
    datatype: str
    shape: list[int]
    parameters: Parameters | None = None
    data: list[float] | None = None


class InferResponse(_Model):
    """What a model gave."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[OutputTensor]


class Tensors(NamedTuple):
    """A request that was read."""

    id: str | None
    inputs: dict[str, Array]
    outputs: dict[str, bool] | None  # which are wanted, and whether as bytes; None: all
    binary: bool  # whether outputs come as bytes where nothing is said


def decode(body: bytes | memoryview, header_length: int | None) -> Tensors:
    """Return the tensors of a request.

    Parameters
    ----------
    body : bytes
        JSON and, after `header_length` bytes of it, the tensors' bytes one after the other.
    header_length : int or None
        None: all is JSON.

    Raises
    ------
    ValueError
        For what is no such request; the message says what is wrong.
    """
    view = memoryview(body)
    if header_length is not None and not 0 <= header_length <= len(view):
        raise ValueError(
            "Inference-Header-Content-Length: expected at most the body's "
            f"{len(view)} bytes, got {header_length}"
        )
    header = view if header_length is None else view[:header_length]
    request = _read(bytes(header))
    rest = view[len(header) :]
    inputs: dict[str, Array] = {}
    for tensor in request.inputs:
        if tensor.name in inputs:
            raise ValueError(f"inputs: expected each name once, got {tensor.name!r} again")
        inputs[tensor.name], rest = _input(tensor, rest)
    if len(rest):
        raise ValueError(f"body: {len(rest)} bytes more than the inputs take")
    if "sequence_id" in (request.parameters or {}):
        raise ValueError("sequence_id: not supported, /v2/models/NAME/stream keeps states")
    binary = _flag(request.parameters, "binary_data_output", False)
    return Tensors(request.id, inputs, _wanted(request, binary), binary)


def encode(
    outputs: Mapping[str, Array], request: Tensors, model: str, version: str
) -> tuple[bytes, int | None]:
    """Return the body of an answer, and the length of its JSON if bytes follow it.

    Raises
    ------
    ValueError
        For an output that does not exist, or for one that JSON cannot hold.
    """
    wanted = request.outputs or dict.fromkeys(outputs, request.binary)
    described, parts = [], []
    for name, binary in wanted.items():
        if name not in outputs:
            known = ", ".join(outputs)
            raise ValueError(f"outputs: expected some of {known}, got {name!r}")
        array = outputs[name]
        one: dict[str, Any] = {
            "name": name,
            "datatype": NAMES[array.dtype.newbyteorder("<")],
            "shape": list(array.shape),
        }
        if binary:
            parts.append(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
            one["parameters"] = {BINARY: len(parts[-1])}
        else:
            one["data"] = _numbers(name, array)
        described.append(one)
    answer = {"model_name": model, "model_version": version, "outputs": described}
    if request.id is not None:
        answer["id"] = request.id
    header = json.dumps(answer, allow_nan=False, separators=(",", ":")).encode()
    return b"".join([header, *parts]), len(header) if parts else None


def _read(header: bytes) -> InferRequest:
    try:
        found = from_json(header, allow_inf_nan=False)
    except ValueError as error:
        raise ValueError(f"body: expected JSON ({error})") from None
    try:
        return InferRequest.model_validate(found)
    except PydanticError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"])) or "body"
        raise ValueError(f"{where}: {first['msg']}") from None


def _input(tensor: InputTensor, rest: memoryview) -> tuple[Array, memoryview]:
    """Return an input, and what of the bytes belongs to those after it."""
    name, dtype = tensor.name, DATATYPES.get(tensor.datatype)
    if dtype is None:
        known = ", ".join(DATATYPES)
        raise ValueError(f"{name}: expected the datatype {known}, got {tensor.datatype[:50]!r}")
    for parameter in tensor.parameters or {}:
        if parameter.startswith("shared_memory"):
            raise ValueError(f"{name}: shared memory is not supported")
    count = prod(tensor.shape)
    size = (tensor.parameters or {}).get(BINARY)
    if size is None:
        if tensor.data is None:
            raise ValueError(f"{name}: expected data, or {BINARY} in the parameters")
        return _from_lists(name, tensor.data, tensor.shape, dtype), rest
    if tensor.data is not None:
        raise ValueError(f"{name}: expected data or {BINARY}, got both")
    if type(size) is not int or size != count * dtype.itemsize:
        raise ValueError(
            f"{name}: expected {BINARY} {count * dtype.itemsize} for {tensor.datatype} of the "
            f"shape {tensor.shape}, got {size!r}"
        )
    if size > len(rest):
        raise ValueError(f"{name}: expected {size} bytes after the JSON, got {len(rest)}")
    # A copy: aligned, and the machine's own order of bytes.
    array = np.frombuffer(rest[:size], dtype).reshape(tensor.shape)
    return array.astype(dtype.newbyteorder("=")), rest[size:]


def _from_lists(name: str, data: list[Any], shape: list[int], dtype: np.dtype[Any]) -> Array:
    """Return numbers in lists, flat or nested as the shape is, as an array."""
    level, found = data, [len(data)]
    while level and type(level[0]) is list:
        lengths = set(map(len, level)) if set(map(type, level)) == {list} else set()
        if len(lengths) != 1 or len(found) == len(shape):
            raise ValueError(f"{name}: expected data nested as the shape {shape}, or flat")
        found += lengths
        level = list(chain.from_iterable(level))
    if found not in (shape, [prod(shape)]):
        raise ValueError(f"{name}: expected data of the shape {shape}, got {found}")
    kinds = {int} if dtype.kind == "i" else {int, float}
    wrong = set(map(type, level)) - kinds
    if wrong:
        expected = "integers" if dtype.kind == "i" else "numbers"
        raise ValueError(f"{name}: expected {expected}, got {wrong.pop().__name__}")
    try:
        with np.errstate(over="raise"):
            return (
                np.array(level, np.float64 if dtype.kind == "f" else dtype)
                .astype(dtype.newbyteorder("="))
                .reshape(shape)
            )
    except (OverflowError, FloatingPointError):
        raise ValueError(f"{name}: a number is too large for {NAMES[dtype]}") from None


def _wanted(request: InferRequest, binary: bool) -> dict[str, bool] | None:
    if not request.outputs:
        return None
    wanted: dict[str, bool] = {}
    for output in request.outputs:
        if output.name in wanted:
            raise ValueError(f"outputs: expected each name once, got {output.name!r} again")
        for parameter in output.parameters or {}:
            if parameter.startswith("shared_memory") or parameter == "classification":
                raise ValueError(f"{output.name}: {parameter} is not supported")
        wanted[output.name] = _flag(output.parameters, "binary_data", binary)
    return wanted


def _flag(parameters: Parameters | None, name: str, default: bool) -> bool:
    value = (parameters or {}).get(name, default)
    if not isinstance(value, bool):
        raise ValueError(f"{name}: expected true or false, got {value!r}")
    return value


def _numbers(name: str, array: Array) -> list[Any]:
    """Return an array as flat numbers, from which the very same array can be made."""
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: JSON cannot hold infinite numbers or NaN: ask for binary data")
    numbers: list[Any] = array.ravel().tolist()
    return numbers
