"""Sequences of different lengths as one array: padding, masks and packing.

Names, arguments and layouts are those of ``torch.nn.utils.rnn``. Lengths of zero are legal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _ragged
from ..base import check_flag, check_size, integer_array
from .sources import padding_bytes, rows_of_list

__all__ = [
    "PackedSequence",
    "lengths_to_mask",
    "pack_padded_sequence",
    "pack_sequence",
    "pad_packed_sequence",
    "pad_sequence",
    "unpack_sequence",
    "unpad_sequence",
]

Array = NDArray[Any]
Integers = NDArray[np.int64]


# --- padding --------------------------------------------------------------------------------------


def pad_sequence(
    sequences: Sequence[ArrayLike], batch_first: bool = False, padding_value: float = 0.0
) -> Array:
    """Stack sequences of different lengths into one array, the short ones padded at their end.

    Parameters
    ----------
    sequences : sequence of array_like, each (length, ...)
        At least one; all of one dtype and with the same axes after the first.
    batch_first : bool, default False
        The layout of the result.
    padding_value : float, default 0.0
        What fills the rest; it must be a value of the dtype.

    Returns
    -------
    ndarray, (T, B, ...) or (B, T, ...)
        A new array of the sequences' dtype; T is the largest length. Recurrent layers take it with
        ``lengths=[len(sequence) for sequence in sequences]``.

    Raises
    ------
    ValueError
        For no sequence, a sequence without axes, or one that differs from the first in shape;
        for a `padding_value` that an integer dtype cannot hold.
    TypeError
        For a sequence of another dtype than the first, or that is not made of numbers.
    """
    rows = rows_of_list("sequences", sequences)
    padding = padding_bytes(rows.dtype, rows.shape, padding_value)
    return rows.pad(np.arange(len(rows)), check_flag("batch_first", batch_first), padding)[0]


def unpad_sequence(
    padded_sequences: ArrayLike, lengths: ArrayLike, batch_first: bool = False
) -> list[Array]:
    """Cut a padded array back into its sequences: the inverse of `pad_sequence`.

    Parameters
    ----------
    padded_sequences : array_like, (T, B, ...) or (B, T, ...)
    lengths : array_like of integers, (B,)
    batch_first : bool, default False

    Returns
    -------
    list of ndarray, each (length, ...)

    Raises
    ------
    ValueError
        For too few axes, lengths of another shape, or a length outside 0 to T.
    TypeError
        For lengths that are not integers.
    """
    padded, B, T = _padded("padded_sequences", padded_sequences, batch_first)
    sizes = _lengths(lengths, B)
    rows = _ragged.sequence_rows(sizes, T, batch_first)
    return np.split(_take(padded, rows), np.cumsum(sizes)[:-1]) if B else []


def lengths_to_mask(
    lengths: ArrayLike, total_length: int | None = None, batch_first: bool = False
) -> NDArray[np.bool_]:
    """Return the mask of a padded batch: True at the real elements, False at the padding.

    Parameters
    ----------
    lengths : array_like of integers, (B,)
    total_length : int, optional
        T of the result; the largest length by default.
    batch_first : bool, default False

    Returns
    -------
    ndarray of bool, (T, B) or (B, T)
        As the losses' `mask` takes it.

    Raises
    ------
    ValueError
        For lengths that are not one-dimensional, negative, or larger than `total_length`.
    TypeError
        For lengths that are not integers.
    """
    sizes = _lengths(lengths)
    T = _total_length(total_length, sizes)
    mask: NDArray[np.bool_] = np.arange(T) < sizes[:, np.newaxis]
    return mask if check_flag("batch_first", batch_first) else np.ascontiguousarray(mask.T)


# --- packing --------------------------------------------------------------------------------------


class PackedSequence(NamedTuple):
    """Sequences of different lengths without padding, time step after time step, as PyTorch's.

    Sorted by falling length, step t holds element t of the first ``batch_sizes[t]`` sequences.

    Attributes
    ----------
    data : ndarray, (sum of lengths, ...)
    batch_sizes : ndarray of int64, (T,)
        Falling, all positive.
    sorted_indices : ndarray of int64, (B,)
        The sequences by falling length, those of the same length in their own order.
    unsorted_indices : ndarray of int64, (B,)
        The inverse permutation.
    """

    data: Array
    batch_sizes: Integers
    sorted_indices: Integers
    unsorted_indices: Integers


def pack_padded_sequence(
    input: ArrayLike,
    lengths: ArrayLike,
    batch_first: bool = False,
    enforce_sorted: bool = True,
) -> PackedSequence:
    """Pack a padded array.

    Parameters
    ----------
    input : array_like, (T, B, ...) or (B, T, ...)
    lengths : array_like of integers, (B,)
    batch_first : bool, default False
        The layout of `input`.
    enforce_sorted : bool, default True
        Whether lengths that are not in falling order are an error.

    Returns
    -------
    PackedSequence

    Raises
    ------
    ValueError
        For too few axes, lengths of another shape or not sorted, or a length outside 0 to T.
    TypeError
        For lengths that are not integers.
    """
    padded, B, T = _padded("input", input, batch_first)
    sizes = _lengths(lengths, B)
    if sizes.size and sizes.max() > T:
        raise ValueError(f"lengths: expected at most {T}, got {sizes.max()}")
    batch_sizes, order = _packing(sizes, enforce_sorted)
    rows = _ragged.step_rows(batch_sizes, order, T, batch_first)
    return PackedSequence(_take(padded, rows), batch_sizes, order, np.argsort(order))


def pad_packed_sequence(
    sequence: PackedSequence,
    batch_first: bool = False,
    padding_value: float = 0.0,
    total_length: int | None = None,
) -> tuple[Array, Integers]:
    """Pad a packed batch: the inverse of `pack_padded_sequence`.

    Parameters
    ----------
    sequence : PackedSequence
    batch_first : bool, default False
        The layout of the result.
    padding_value : float, default 0.0
    total_length : int, optional
        T of the result; the largest length by default.

    Returns
    -------
    padded : ndarray, (T, B, ...) or (B, T, ...)
    lengths : ndarray of int64, (B,)

    Raises
    ------
    ValueError
        For a `total_length` below the largest length, a `padding_value` that an integer dtype
        cannot hold, or a packed sequence that does not keep what its class says.
    """
    data, batch_sizes, order, _ = sequence
    B = len(order)
    if not np.array_equal(np.sort(order), np.arange(B)):
        raise ValueError(f"sorted_indices: expected a permutation of 0 to {B - 1}, got {order}")
    T = len(batch_sizes) if total_length is None else check_size("total_length", total_length, 0)
    rows = _ragged.step_rows(batch_sizes, order, T, batch_first)
    if len(rows) != len(data):
        raise ValueError(f"data: expected {len(rows)} elements by batch_sizes, got {len(data)}")
    lengths = np.empty(B, np.int64)
    lengths[order] = (np.arange(B)[:, np.newaxis] < batch_sizes).sum(axis=1)
    return _put(data, rows, B, T, batch_first, padding_value), lengths


def pack_sequence(sequences: Sequence[ArrayLike], enforce_sorted: bool = True) -> PackedSequence:
    """Pack a list of sequences: `pad_sequence`, then `pack_padded_sequence`.

    Parameters
    ----------
    sequences : sequence of array_like, each (length, ...)
    enforce_sorted : bool, default True
        As of `pack_padded_sequence`.

    Returns
    -------
    PackedSequence
    """
    lengths = rows_of_list("sequences", sequences).lengths
    return pack_padded_sequence(pad_sequence(sequences), lengths, enforce_sorted=enforce_sorted)


def unpack_sequence(packed_sequences: PackedSequence) -> list[Array]:
    """Return the sequences of `packed_sequences`, a packed batch, as a list.

    The inverse of `pack_sequence`.
    """
    return unpad_sequence(*pad_packed_sequence(packed_sequences))


# --- shapes, checks and bytes ---------------------------------------------------------------------


def _padded(name: str, value: ArrayLike, batch_first: bool) -> tuple[Array, int, int]:
    """Return a padded array as C-contiguous, with B and T."""
    array = np.ascontiguousarray(value)
    if array.ndim < 2:
        raise ValueError(f"{name}: expected at least 2 dimensions, got the shape {array.shape}")
    if array.dtype.kind not in "biufc":
        raise TypeError(f"{name}: expected numbers, got {array.dtype}")
    T, B = array.shape[1::-1] if check_flag("batch_first", batch_first) else array.shape[:2]
    return array, B, T


def _lengths(lengths: ArrayLike, batch: int | None = None) -> Integers:
    """Return the argument `lengths` as an array of int64."""
    array = integer_array("lengths", lengths)
    if array.ndim != 1 or (batch is not None and len(array) != batch):
        expected = "1 dimension" if batch is None else f"the shape {(batch,)}"
        raise ValueError(f"lengths: expected {expected}, got the shape {array.shape}")
    if array.size and array.min() < 0:
        raise ValueError(f"lengths: expected at least 0, got {array.min()}")
    return array


def _total_length(total_length: int | None, lengths: Integers) -> int:
    largest = int(lengths.max(initial=0))
    T = largest if total_length is None else check_size("total_length", total_length, 0)
    if largest > T:
        raise ValueError(f"lengths: expected at most total_length = {T}, got {largest}")
    return T


def _packing(lengths: Integers, enforce_sorted: bool) -> tuple[Integers, Integers]:
    """Return batch_sizes (largest length,) and the order (B,) of a packed batch."""
    if check_flag("enforce_sorted", enforce_sorted) and (np.diff(lengths) > 0).any():
        raise ValueError(
            "lengths: expected a falling order, got another; enforce_sorted=False sorts them"
        )
    order = np.argsort(-lengths, kind="stable")
    ended = np.cumsum(np.bincount(lengths))  # by t: how many sequences have at most t elements
    return (len(lengths) - ended)[:-1], order


def _put(
    flat: Array, rows: Integers, B: int, T: int, batch_first: bool, padding_value: float
) -> Array:
    """Return a new padded array with the elements of `flat` at `rows` and padding elsewhere."""
    padding = padding_bytes(flat.dtype, (), padding_value)
    leading = (B, T) if check_flag("batch_first", batch_first) else (T, B)
    padded = np.full(leading + flat.shape[1:], np.frombuffer(padding, flat.dtype)[0])
    _ragged.put_rows(_bytes(np.ascontiguousarray(flat), 1), rows, _bytes(padded, 2))
    return padded


def _take(padded: Array, rows: Integers) -> Array:
    """Return the elements of a padded array at `rows`, one after the other."""
    flat = np.empty((len(rows), *padded.shape[2:]), padded.dtype)
    _ragged.take_rows(_bytes(padded, 2), rows, _bytes(flat, 1))
    return flat


def _bytes(array: Array, axes: int) -> NDArray[np.uint8]:
    """Return a view of `array`: one row of bytes per element of its first `axes` axes."""
    shape = math.prod(array.shape[:axes]), math.prod(array.shape[axes:])
    return array.reshape(shape).view(np.uint8)
