"""What stands in an ONNX file, as Python objects: arrays, attributes, inputs and outputs."""

from __future__ import annotations

import importlib
from typing import Any, NamedTuple

import numpy as np

from .nodes import Array

__all__ = [
    "ValueInfo",
    "array_of",
    "attributes_of",
    "check_here",
    "dtype_of",
    "require_onnx",
    "value_info",
]

DTYPES = tuple(
    np.dtype(name)
    for name in (
        *("float32", "float64", "bool", "int8", "int16", "int32", "int64"),
        *("uint8", "uint16", "uint32", "uint64"),
    )
)


def require_onnx() -> Any:
    """Return the package onnx; ImportError naming the extra if it is missing."""
    try:
        return importlib.import_module("onnx")
    except ImportError:
        raise ImportError(
            "ONNX models need the package onnx: pip install 'fastrnn[onnx]'"
        ) from None


def dtype_of(element_type: int) -> np.dtype[Any]:
    """Return NumPy's type of elements; TypeError for those that kernels do not take."""
    onnx = require_onnx()
    try:
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(element_type))
    except (KeyError, TypeError, ValueError):
        dtype = None
    if dtype is None or dtype not in DTYPES:  # for NumPy, None is float64
        names = {number: name.lower() for name, number in onnx.TensorProto.DataType.items()}
        name = names.get(element_type, f"the unknown type {element_type}")
        known = ", ".join(str(each) for each in DTYPES)
        raise TypeError(f"model: expected tensors of {known}, got {name}")
    return dtype


def check_here(tensor: Any) -> None:
    """Raise ValueError if the data of a TensorProto are not in it."""
    if tensor.data_location == require_onnx().TensorProto.EXTERNAL:
        raise ValueError(f"model: {tensor.name!r} lies in another file; import the model's path")


def array_of(tensor: Any) -> Array:
    """Return a TensorProto as a read-only array; ValueError if its data are not of its shape."""
    onnx = require_onnx()
    dtype = dtype_of(tensor.data_type)
    check_here(tensor)
    if min(tensor.dims, default=0) < 0:  # onnx.checker looks at those of this file alone
        raise ValueError(f"model: the tensor {tensor.name!r} has the sizes {list(tensor.dims)}")
    try:
        array = np.asarray(onnx.numpy_helper.to_array(tensor), dtype)
    except ValueError as error:
        raise ValueError(f"model: the tensor {tensor.name!r}: {error}") from None
    if array.flags.writeable:
        array.flags.writeable = False
    return array


def attributes_of(node: Any) -> dict[str, Any]:
    """Return a node's attributes as Python objects."""
    helper = require_onnx().helper
    return {each.name: _plain(helper.get_attribute_value(each), each) for each in node.attribute}


def _plain(value: Any, attribute: Any) -> Any:
    if attribute.HasField("t"):
        return array_of(value)
    if attribute.HasField("sparse_tensor") or attribute.tensors or attribute.sparse_tensors:
        raise TypeError(f"model: the attribute {attribute.name!r} is of a type not supported")
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, list) and value and isinstance(value[0], bytes):
        return [each.decode() for each in value]
    return value


class ValueInfo(NamedTuple):
    """An input or output of a model.

    Attributes
    ----------
    name : str
    dtype : numpy.dtype
    shape : tuple of int, str or None
        Sizes; names, or None, of those that are free. None for any shape at all.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | str | None, ...] | None

    @property
    def type(self) -> str:
        """The type of elements as ONNX Runtime names it: "tensor(float)"."""
        names = {"float32": "float", "float64": "double"}
        return f"tensor({names.get(self.dtype.name, self.dtype.name)})"

    def checked(self, value: Any) -> Array:
        """Return a value as an array; TypeError, ValueError if it is none of this kind."""
        array: Array = value
        if type(value) is not np.ndarray:
            array = np.asarray(value, None if hasattr(value, "__array__") else self.dtype)
        if array.dtype != self.dtype:
            raise TypeError(f"{self.name}: expected an array of {self.dtype}, got {array.dtype}")
        shape = self.shape
        if shape is None or shape == array.shape:
            return array
        if len(shape) == array.ndim:
            for size, got in zip(shape, array.shape, strict=True):
                if type(size) is int and size != got:
                    break
            else:
                return array
        raise ValueError(f"{self.name}: expected the shape {shape}, got {array.shape}")


def value_info(proto: Any) -> ValueInfo:
    """Return a ValueInfoProto; TypeError if it is no tensor of a type that kernels take."""
    kind = proto.type.WhichOneof("value")
    if kind != "tensor_type":
        raise TypeError(f"model: expected tensors, got {proto.name!r} of {kind}")
    tensor = proto.type.tensor_type
    shape = None
    if tensor.HasField("shape"):
        shape = tuple(
            d.dim_value if d.HasField("dim_value") else (d.dim_param or None)
            for d in tensor.shape.dim
        )
    return ValueInfo(proto.name, dtype_of(tensor.elem_type), shape)
