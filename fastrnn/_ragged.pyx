# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""Loops over ragged data: where padding and packing put each row, and text to token ids and back.

A padded array (T, B, ...) or (B, T, ...) is a table here: one row of bytes per element of its first
two axes. Padding, packing and their inverses all move rows between such a table and a flat one
without gaps; they differ only in which row of the table each flat row belongs to, which
`sequence_rows` and `step_rows` say. So one pair of loops, `take_rows` and `put_rows`, serves every
dtype. Their indices are checked one by one; the shapes are the business of `fastrnn.data`.
"""

from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memcpy

import numpy as np

cdef extern from "Python.h":
    int PyUnicode_KIND(object text)
    void* PyUnicode_DATA(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)
    unsigned int PyUnicode_MAX_CHAR_VALUE(object text)
    unsigned int PyUnicode_READ(int kind, const void* data, Py_ssize_t index) nogil
    object PyUnicode_FromKindAndData(int kind, const void* data, Py_ssize_t length)
    const int PyUnicode_4BYTE_KIND


# --- rows of padded arrays ------------------------------------------------------------------------


def sequence_rows(const int64_t[::1] lengths, Py_ssize_t total_length, bint batch_first):
    """Rows (sum of lengths,) of a padded array's real elements, sequence after sequence.

    `lengths` is (B,), each from 0 to `total_length`; ValueError for any other.
    """
    cdef Py_ssize_t B = lengths.shape[0], T = total_length, b, t, n = 0, first, stride
    for b in range(B):
        if not 0 <= lengths[b] <= T:
            raise ValueError(f"lengths: expected 0 to {T}, got {lengths[b]} at index {b}")
        n += lengths[b]
    rows = np.empty(n, np.int64)
    cdef int64_t[::1] out = rows
    stride = 1 if batch_first else B
    n = 0
    with nogil:
        for b in range(B):
            first = b * T if batch_first else b
            for t in range(lengths[b]):
                out[n] = first + t * stride
                n += 1
    return rows


def step_rows(
    const int64_t[::1] batch_sizes,
    const int64_t[::1] sorted_indices,
    Py_ssize_t total_length,
    bint batch_first,
):
    """Rows (sum of batch_sizes,) of a padded array's real elements, time step after time step.

    The order of a packed sequence: step t holds the first ``batch_sizes[t]`` of the sequences
    `sorted_indices` (B,). ValueError unless `batch_sizes` falls from at most B, stays positive and
    has at most `total_length` entries. The indices are not looked at: `take_rows` checks the rows.
    """
    cdef Py_ssize_t B = sorted_indices.shape[0], T = total_length, t, b, n = 0, limit = B
    if batch_sizes.shape[0] > T:
        raise ValueError(f"batch_sizes: expected at most {T} steps, got {batch_sizes.shape[0]}")
    for t in range(batch_sizes.shape[0]):
        if not 1 <= batch_sizes[t] <= limit:
            raise ValueError(f"batch_sizes: expected 1 to {limit}, got {batch_sizes[t]} at step {t}")
        limit = batch_sizes[t]
        n += limit
    rows = np.empty(n, np.int64)
    cdef int64_t[::1] out = rows
    n = 0
    with nogil:
        for t in range(batch_sizes.shape[0]):
            for b in range(batch_sizes[t]):
                out[n] = sorted_indices[b] * T + t if batch_first else t * B + sorted_indices[b]
                n += 1
    return rows


def take_rows(const uint8_t[:, ::1] table, const int64_t[::1] rows, uint8_t[:, ::1] out):
    """Copy ``table[rows[n]]`` to ``out[n]`` for each n; IndexError for a row that is not there."""
    cdef Py_ssize_t N = rows.shape[0], width = table.shape[1], n
    _check_rows(rows, table.shape[0])
    _check_table(out, N, width)
    if width:
        with nogil:
            for n in range(N):
                memcpy(&out[n, 0], &table[rows[n], 0], width)


def put_rows(const uint8_t[:, ::1] flat, const int64_t[::1] rows, uint8_t[:, ::1] table):
    """Copy ``flat[n]`` to ``table[rows[n]]`` for each n; IndexError for a row that is not there."""
    cdef Py_ssize_t N = rows.shape[0], width = table.shape[1], n
    _check_rows(rows, table.shape[0])
    _check_table(flat, N, width)
    if width:
        with nogil:
            for n in range(N):
                memcpy(&table[rows[n], 0], &flat[n, 0], width)


cdef _check_rows(const int64_t[::1] rows, Py_ssize_t count):
    cdef Py_ssize_t n, N = rows.shape[0]
    for n in range(N):
        if not 0 <= rows[n] < count:
            raise IndexError(f"rows: expected 0 to {count - 1}, got {rows[n]} at index {n}")


cdef _check_table(const uint8_t[:, ::1] table, Py_ssize_t rows, Py_ssize_t width):
    if table.shape[0] != rows or table.shape[1] != width:
        raise ValueError(
            f"expected {rows} rows of {width} bytes, got {table.shape[0]} of {table.shape[1]}"
        )


# --- text -----------------------------------------------------------------------------------------


def characters(str text not None):
    """Return the distinct characters of `text` as a string, in the order of their code points."""
    cdef int kind = PyUnicode_KIND(text)
    cdef const void* data = PyUnicode_DATA(text)
    cdef Py_ssize_t n, length = PyUnicode_GET_LENGTH(text)
    seen = np.zeros(PyUnicode_MAX_CHAR_VALUE(text) + 1, np.uint8)
    cdef uint8_t[::1] marks = seen
    with nogil:
        for n in range(length):
            marks[PyUnicode_READ(kind, data, n)] = 1
    return "".join(map(chr, np.flatnonzero(seen)))


def encode(str text not None, const int64_t[::1] table, int64_t replacement=-1):
    """Return the token ids (len(text),) int64 of `text`, and where the first unknown character is.

    `table` maps code points to ids; -1, or a code point past its end, is a character it does not
    know. Those get the id `replacement`, and the second value is the position of the first of them,
    -1 if there is none.
    """
    cdef int kind = PyUnicode_KIND(text)
    cdef const void* data = PyUnicode_DATA(text)
    cdef Py_ssize_t n, length = PyUnicode_GET_LENGTH(text), size = table.shape[0]
    cdef Py_ssize_t first_unknown = -1
    cdef Py_ssize_t point
    cdef int64_t token
    ids = np.empty(length, np.int64)
    cdef int64_t[::1] out = ids
    with nogil:
        for n in range(length):
            point = PyUnicode_READ(kind, data, n)
            token = table[point] if point < size else -1
            if token < 0:
                token = replacement
                if first_unknown < 0:
                    first_unknown = n
            out[n] = token
    return ids, first_unknown


def decode(const int64_t[::1] ids, str characters not None):
    """Return the text of token ids: ``characters[id]`` for each; ValueError for an id without."""
    cdef int kind = PyUnicode_KIND(characters)
    cdef const void* data = PyUnicode_DATA(characters)
    cdef Py_ssize_t n, length = ids.shape[0], size = PyUnicode_GET_LENGTH(characters)
    for n in range(length):
        if not 0 <= ids[n] < size:
            raise ValueError(f"ids: expected 0 to {size - 1}, got {ids[n]} at index {n}")
    if length == 0:
        return ""
    points = np.empty(length, np.uint32)
    cdef unsigned int[::1] out = points
    with nogil:
        for n in range(length):
            out[n] = PyUnicode_READ(kind, data, ids[n])
    return PyUnicode_FromKindAndData(PyUnicode_4BYTE_KIND, &out[0], length)
