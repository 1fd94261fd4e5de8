"""Where sequences come from: lists of arrays, dense arrays, and ragged ones, as `_ragged.Rows`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._ragged import Rows, first_unlike
from .ragged import RaggedArray

__all__ = [
    "from_pandas",
    "padding_bytes",
    "plain_array",
    "plain_sequence",
    "rows_of",
    "rows_of_list",
]

Array = NDArray[Any]


def rows_of(name: str, value: Any) -> Rows:
    """Return the sequences of the argument `name`, in any of the forms that loaders take.

    Nothing is copied, unless a list holds what is no array, or arrays that are not contiguous. So
    of an array in memory-mapped files only the lengths are looked at.
    """
    if isinstance(value, RaggedArray):
        return value.rows
    value = from_pandas(value)
    if isinstance(value, np.ndarray) and value.dtype != object:
        check_numbers(name, value)
        if value.ndim < 2:
            raise ValueError(f"{name}: expected (N, T) or (N, T, F), got the shape {value.shape}")
        if value.flags.c_contiguous:
            N, T = value.shape[:2]
            return Rows(value.reshape(N * T, *value.shape[2:]), np.arange(N + 1) * T)
    elif not isinstance(value, (np.ndarray, list, tuple)):
        raise TypeError(
            f"{name}: expected a list of arrays, an array (N, T, ...) or a RaggedArray, "
            f"got {type(value).__name__}"
        )
    return rows_of_list(name, value)


def rows_of_list(name: str, sequences: Sequence[ArrayLike] | Array) -> Rows:
    """Return sequences that are one by one something like an array; errors as of `pad_sequence`."""
    arrays: list[Any] = list(sequences)
    if not arrays:
        raise ValueError(f"{name}: expected at least one, got none")
    odd = 0  # the first is made plain in any case, as the others are compared with it
    while odd >= 0:
        arrays[odd] = plain_sequence(f"{name}[{odd}]", arrays[odd], arrays[0] if odd else None)
        odd = first_unlike(arrays, odd + 1)
    return Rows(arrays)


def plain_sequence(name: str, value: ArrayLike, first: Array | None) -> Array:
    """Return a sequence as `Rows` takes it: contiguous, of the dtype and axes of the first."""
    array: Array = np.asarray(from_pandas(value))
    if array.ndim == 0:
        raise ValueError(f"{name}: expected at least 1 dimension, got a single value")
    if first is not None and array.size == 0 and not hasattr(value, "__array__"):
        array = array.astype(first.dtype)  # an empty list
    check_numbers(name, array)
    if first is not None and array.dtype != first.dtype:
        raise TypeError(f"{name}: expected {first.dtype} as the first, got {array.dtype}")
    if first is not None and array.shape[1:] != first.shape[1:]:
        raise ValueError(
            f"{name}: expected {first.shape[1:]} after the first axis, got {array.shape[1:]}"
        )
    return np.ascontiguousarray(array)


def from_pandas(value: Any) -> Any:
    """Return a DataFrame or Series as an array, anything else as it is.

    Columns of numbers and flags, or with missing values of pandas' own, become float64 and NaN;
    together they would be objects.
    """
    if not hasattr(value, "to_numpy"):
        return value
    dtypes = value.dtypes if hasattr(value, "columns") else [value.dtype]
    array = value.to_numpy()
    if array.dtype == object and all(dtype.kind in "biuf" for dtype in dtypes):
        array = value.to_numpy(np.float64, na_value=np.nan)
    return array


def check_numbers(name: str, array: Array) -> None:
    """Raise TypeError unless the array is one of numbers."""
    if array.dtype.kind not in "biufc":
        raise TypeError(f"{name}: expected numbers, got {array.dtype}")


def plain_array(name: str, value: Any) -> Array:
    """Return the argument `name`, also of pandas, as an array of numbers; a memmap stays one."""
    try:
        array: Array = np.asanyarray(from_pandas(value))
    except ValueError as error:  # lists of different lengths
        raise ValueError(f"{name}: expected an array ({error})") from None
    check_numbers(name, array)
    return array


def padding_bytes(
    dtype: np.dtype[Any], shape: tuple[int, ...], value: float, name: str = "padding_value"
) -> bytes:
    """Return a padded step as bytes; ValueError for a value that an integer dtype cannot hold."""
    if value == 0:
        return bytes(dtype.itemsize * math.prod(shape))
    with np.errstate(invalid="ignore", over="ignore"):
        padding = np.asarray(value).astype(dtype)
    if dtype.kind in "biu" and padding != value:
        raise ValueError(f"{name}: expected a value of {dtype}, got {value}")
    return np.full(shape, padding).tobytes()
