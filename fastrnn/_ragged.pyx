# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""Loops over ragged data: where padding and packing put each row, and text to token ids and back.

A padded array (T, B, ...) or (B, T, ...) is a table here: one row of bytes per element of its first
two axes. Padding, packing and their inverses all move rows between such a table and a flat one
without gaps; they differ only in which row of the table each flat row belongs to, which
`sequence_rows` and `step_rows` say. So one pair of loops, `take_rows` and `put_rows`, serves every
dtype. Their indices are checked one by one; the shapes are the business of `fastrnn.data`.

`Rows` knows where many sequences lie in memory and puts any of them side by side.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy
from libcpp.vector cimport vector

import numpy as np

cdef extern from "Python.h":
    int PyUnicode_KIND(object text)
    void* PyUnicode_DATA(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)
    unsigned int PyUnicode_MAX_CHAR_VALUE(object text)
    unsigned int PyUnicode_READ(int kind, const void* data, Py_ssize_t index) nogil
    object PyUnicode_FromKindAndData(int kind, const void* data, Py_ssize_t length)
    const int PyUnicode_4BYTE_KIND

cdef extern from *:
    """
    // How NumPy's arrays begin, in all of its versions (PyArrayObject in the NumPy C API); declared
    // here so that no NumPy is needed to build.
    typedef struct {
        PyObject_HEAD
        char *data;
        int nd;
        Py_ssize_t *dimensions;
        Py_ssize_t *strides;
        PyObject *base;
        PyObject *descr;
        int flags;
    } fastrnn_array;
    """
    ctypedef struct fastrnn_array:
        char* data
        int nd
        Py_ssize_t* dimensions
        PyObject* descr
        int flags

    void prefetch "__builtin_prefetch"(const void* place, int write, int locality) nogil

cdef int PLAIN = 0x0101  # NPY_ARRAY_C_CONTIGUOUS | NPY_ARRAY_ALIGNED


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


# --- sequences side by side -----------------------------------------------------------------------


cdef type ndarray = np.ndarray
cdef object empty = np.empty
cdef object int64 = np.dtype(np.int64)
cdef object integers = np.empty(0, np.int64)


cdef inline fastrnn_array* _fields(object array) noexcept:
    return <fastrnn_array*><PyObject*>array


cdef bint _alike(object array, fastrnn_array* first) except -1:
    """Whether `array` is a plain array of the dtype and axes of the `first`, length aside."""
    cdef fastrnn_array* fields = _fields(array)
    cdef int axis
    if not isinstance(array, ndarray) or fields.flags & PLAIN != PLAIN or fields.nd != first.nd:
        return False
    for axis in range(1, fields.nd):
        if fields.dimensions[axis] != first.dimensions[axis]:
            return False
    return fields.descr == first.descr or <object>fields.descr == <object>first.descr


def first_unlike(list arrays not None, Py_ssize_t start=0):
    """Return the first, from `start` on, that `Rows` would not take beside arrays[0], or -1.

    That one must be an array with an axis.
    """
    cdef Py_ssize_t n
    for n in range(start, len(arrays)):
        if not _alike(arrays[n], _fields(arrays[0])):
            return n
    return -1


cdef struct Place:
    const char* start
    int64_t length


cdef class Rows:
    """Where sequences lie in memory, to put any of them side by side as one padded array.

    Parameters
    ----------
    source : list of ndarray, each (length, ...), or one ndarray (steps, ...)
        C-contiguous, aligned, of numbers, of one dtype and the same axes after the first. They are
        kept, not copied; the list must not change.
    offsets : ndarray of int64, (N + 1,), optional
        For one array: sequence n is ``source[offsets[n] : offsets[n + 1]]``.

    Attributes
    ----------
    lengths : ndarray of int64, (N,)
    dtype : dtype
    shape : tuple
        Of a step.
    """

    cdef readonly object lengths, dtype
    cdef readonly tuple shape
    cdef object _source, _offsets
    cdef vector[Place] _places
    cdef Py_ssize_t _width  # bytes of a step

    def __cinit__(self, source not None, offsets=None):
        cdef object first = source if offsets is not None else source[0]
        if not isinstance(first, ndarray) or first.ndim == 0 or first.dtype.kind not in "biufc":
            raise TypeError("source: expected arrays of numbers")
        self._source, self._offsets = source, offsets
        self.dtype, self.shape = first.dtype, first.shape[1:]
        self._width = self.dtype.itemsize
        for size in self.shape:
            self._width *= size
        if offsets is None:
            self._find(source)
        else:
            self._cut(source, offsets)
        cdef int64_t[::1] lengths = empty(self._places.size(), int64)
        cdef size_t n
        for n in range(self._places.size()):
            lengths[n] = self._places[n].length
        self.lengths = lengths.base
        self.lengths.flags.writeable = False

    cdef _find(self, list arrays):
        cdef fastrnn_array* first = _fields(arrays[0])
        cdef fastrnn_array* fields
        cdef Py_ssize_t n
        self._places.reserve(len(arrays))
        for n in range(len(arrays)):
            if not _alike(arrays[n], first):
                raise ValueError(f"source: expected arrays like the first, got another at {n}")
            fields = _fields(arrays[n])
            self._places.push_back(Place(fields.data, fields.dimensions[0]))

    cdef _cut(self, object flat, const int64_t[::1] offsets):
        cdef int64_t size = len(flat)
        cdef Py_ssize_t n
        if _fields(flat).flags & PLAIN != PLAIN:
            raise ValueError("source: expected a C-contiguous array")
        self._places.reserve(max(offsets.shape[0] - 1, 0))
        for n in range(offsets.shape[0] - 1):
            if not 0 <= offsets[n] <= offsets[n + 1] <= size:
                raise ValueError(
                    f"offsets: expected rising numbers from 0 to {size}, got {offsets[n]} and "
                    f"{offsets[n + 1]} at index {n}"
                )
            self._places.push_back(
                Place(_fields(flat).data + offsets[n] * self._width, offsets[n + 1] - offsets[n])
            )

    def __len__(self):
        return self._places.size()

    def __reduce__(self):
        return Rows, (self._source, self._offsets)

    def pad(
        self, indices not None, bint batch_first, bytes padding not None, Py_ssize_t shortest=0
    ):
        """Return the sequences `indices` (B,) as one padded array, and their lengths (B,).

        The array is (T, B, ...) or (B, T, ...), T the largest length and at least `shortest`;
        `padding` is the bytes of one step. `indices` are of int64 and contiguous. IndexError for a
        sequence that is not there.
        """
        if not _alike(indices, _fields(integers)):
            raise TypeError(f"indices: expected a contiguous array (B,) of int64, got {indices!r}")
        if PyBytes_GET_SIZE(padding) != self._width:
            raise ValueError(f"padding: expected {self._width} bytes, got {len(padding)}")
        cdef const int64_t* index = <const int64_t*>_fields(indices).data
        cdef Batch batch
        batch.count, batch.width = _fields(indices).dimensions[0], self._width
        batch.padding = PyBytes_AS_STRING(padding)
        lengths = empty(batch.count, int64)
        cdef int64_t* length = <int64_t*>_fields(lengths).data
        batch.sources.reserve(batch.count)
        cdef Py_ssize_t b, line
        cdef Place* place
        batch.steps = shortest
        for b in range(batch.count):
            if not 0 <= index[b] < <int64_t>self._places.size():
                raise IndexError(
                    f"indices: expected 0 to {len(self) - 1}, got {index[b]} at index {b}"
                )
            place = &self._places[index[b]]
            for line in range(0, min(place.length * self._width, 256), 64):
                prefetch(place.start + line, 0, 3)
            batch.sources.push_back(place[0])
            length[b] = place.length
            batch.steps = max(batch.steps, place.length)
        shape = (batch.count, batch.steps) if batch_first else (batch.steps, batch.count)
        padded = empty(shape + self.shape if self.shape else shape, self.dtype)
        batch.out = _fields(padded).data
        if batch.steps * batch.count * batch.width < FEW:  # who lets the lock go may wait for it
            _put(batch, batch_first)
        else:
            with nogil:
                _put(batch, batch_first)
        return padded, lengths


cdef struct Batch:  # of sequences that are put side by side
    char* out
    const char* padding
    Py_ssize_t count  # B
    Py_ssize_t steps  # T
    Py_ssize_t width  # bytes of a step
    vector[Place] sources


cdef Py_ssize_t FEW = 65536  # bytes, about 5 µs

ctypedef fused unit:
    uint8_t
    uint16_t
    uint32_t
    uint64_t


cdef void _put(Batch& batch, bint batch_first) noexcept nogil:
    """Fill `out`, each element once."""
    cdef Py_ssize_t T = batch.steps, B = batch.count, width = batch.width, b
    cdef Place source
    if batch_first:
        for b in range(B):
            source = batch.sources[b]
            memcpy(batch.out + b * T * width, source.start, source.length * width)
            _fill(batch, b * T + source.length, T - source.length)
    elif width == 1:
        _put_columns[uint8_t](batch, 0)
    elif width == 2:
        _put_columns[uint16_t](batch, 0)
    elif width == 4:
        _put_columns[uint32_t](batch, 0)
    elif width == 8:
        _put_columns[uint64_t](batch, 0)
    else:
        _put_steps(batch)


cdef void _put_steps(Batch& batch) noexcept nogil:
    """Fill (T, B, ...), eight sequences at a time, as narrow steps share lines of `out`."""
    cdef Py_ssize_t B = batch.count, width = batch.width, first, t, b
    cdef char* out
    for first in range(0, B, 8):
        for t in range(batch.steps):
            out = batch.out + (t * B + first) * width
            for b in range(first, min(first + 8, B)):
                if t < batch.sources[b].length:
                    memcpy(out, batch.sources[b].start + t * width, width)
                else:
                    memcpy(out, batch.padding, width)
                out += width


cdef void _fill(Batch& batch, Py_ssize_t first, Py_ssize_t count) noexcept nogil:
    """Write padding to steps of `out`, one beside the other."""
    cdef Py_ssize_t n, width = batch.width
    if width == 4:  # a size that is known is one instruction
        for n in range(first, first + count):
            memcpy(batch.out + n * 4, batch.padding, 4)
    elif width == 8:
        for n in range(first, first + count):
            memcpy(batch.out + n * 8, batch.padding, 8)
    else:
        for n in range(first, first + count):
            memcpy(batch.out + n * width, batch.padding, width)


cdef void _put_columns(Batch& batch, unit size) noexcept nogil:
    """Fill (T, B) with steps of one number, eight sequences at a time: lines of `out` are whole."""
    # `size` only says by its type how many bytes a step has
    cdef Py_ssize_t T = batch.steps, B = batch.count, first, many, shortest, t, j
    cdef const char* sources[8]
    cdef int64_t lengths[8]
    cdef char* row
    for first in range(0, B, 8):
        many = min(8, B - first)
        shortest = T if many == 8 else 0
        for j in range(many):
            sources[j] = batch.sources[first + j].start
            lengths[j] = batch.sources[first + j].length
            shortest = min(shortest, lengths[j])
        row = batch.out + first * sizeof(unit)
        for t in range(shortest):
            for j in range(8):  # a copy of a size that is known is a move, aligned or not
                memcpy(row + j * sizeof(unit), sources[j] + t * sizeof(unit), sizeof(unit))
            row += B * sizeof(unit)
        for t in range(shortest, T):
            for j in range(many):
                if t < lengths[j]:
                    memcpy(row + j * sizeof(unit), sources[j] + t * sizeof(unit), sizeof(unit))
                else:
                    memcpy(row + j * sizeof(unit), batch.padding, sizeof(unit))
            row += B * sizeof(unit)


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
