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

cdef int C_CONTIGUOUS = 1


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


cdef inline fastrnn_array* _fields(object array) noexcept:
    return <fastrnn_array*><PyObject*>array


cdef bint _alike(object array, fastrnn_array* first) except -1:
    """Whether `array` is a C-contiguous array of the dtype and axes of the `first`, length aside."""
    cdef fastrnn_array* fields = _fields(array)
    cdef int axis
    if not isinstance(array, ndarray) or not fields.flags & C_CONTIGUOUS or fields.nd != first.nd:
        return False
    for axis in range(1, fields.nd):
        if fields.dimensions[axis] != first.dimensions[axis]:
            return False
    return fields.descr == first.descr or <object>fields.descr == <object>first.descr


def first_unlike(list arrays not None, Py_ssize_t start=0):
    """Return which, from `start` on, is the first that `Rows` would not take beside the first; or -1.

    The first itself must be an array with an axis.
    """
    cdef Py_ssize_t n
    for n in range(start, len(arrays)):
        if not _alike(arrays[n], _fields(arrays[0])):
            return n
    return -1


cdef class Rows:
    """Where sequences lie in memory, to put any of them side by side as one padded array.

    Parameters
    ----------
    source : list of ndarray, each (length, ...), or one ndarray (steps, ...)
        C-contiguous, of numbers, of one dtype and the same axes after the first. They are kept, not
        copied; the list must not change.
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
    cdef object _source, _offsets, _starts
    cdef int64_t[::1] _length
    cdef int64_t[::1] _start  # addresses
    cdef Py_ssize_t _width  # bytes of a step

    def __cinit__(self, source not None, offsets=None):
        cdef object first = source if offsets is not None else source[0]
        if not isinstance(first, ndarray) or first.ndim == 0 or first.dtype.kind not in "biufc":
            raise TypeError("source: expected arrays of numbers")
        cdef Py_ssize_t count = len(source) if offsets is None else len(offsets) - 1
        self._source, self._offsets = source, offsets
        self.dtype, self.shape = first.dtype, first.shape[1:]
        self._width = self.dtype.itemsize
        for size in self.shape:
            self._width *= size
        lengths = np.empty(count, np.int64)
        self._length, self._start = lengths, np.empty(count, np.int64)
        if offsets is None:
            self._find(source)
        else:
            self._cut(source, offsets)
        lengths.flags.writeable = False
        self.lengths = lengths

    cdef _find(self, list arrays):
        cdef fastrnn_array* first = _fields(arrays[0])
        cdef Py_ssize_t n
        for n in range(len(arrays)):
            if not _alike(arrays[n], first):
                raise ValueError(f"source: expected arrays like the first, got another at {n}")
            self._start[n] = <int64_t>_fields(arrays[n]).data
            self._length[n] = _fields(arrays[n]).dimensions[0]

    cdef _cut(self, object flat, const int64_t[::1] offsets):
        cdef int64_t data = <int64_t>_fields(flat).data, size = len(flat)
        cdef Py_ssize_t n
        if not flat.flags.c_contiguous:
            raise ValueError("source: expected a C-contiguous array")
        for n in range(self._length.shape[0]):
            if not 0 <= offsets[n] <= offsets[n + 1] <= size:
                raise ValueError(
                    f"offsets: expected rising numbers from 0 to {size}, got {offsets[n]} and "
                    f"{offsets[n + 1]} at index {n}"
                )
            self._start[n] = data + offsets[n] * self._width
            self._length[n] = offsets[n + 1] - offsets[n]

    def __len__(self):
        return self._length.shape[0]

    def __reduce__(self):
        return Rows, (self._source, self._offsets)

    def pad(
        self,
        const int64_t[::1] indices,
        bint batch_first,
        bytes padding not None,
        Py_ssize_t shortest=0,
    ):
        """Return the sequences `indices` (B,) as one padded array, and their lengths (B,).

        The array is (T, B, ...) or (B, T, ...), T the largest length and at least `shortest`;
        `padding` is the bytes of one step. IndexError for a sequence that is not there.
        """
        cdef Py_ssize_t B = indices.shape[0], T = shortest, b
        lengths = np.empty(B, np.int64)
        cdef int64_t[::1] length = lengths
        if PyBytes_GET_SIZE(padding) != self._width:
            raise ValueError(f"padding: expected {self._width} bytes, got {len(padding)}")
        for b in range(B):
            if not 0 <= indices[b] < self._length.shape[0]:
                raise IndexError(
                    f"indices: expected 0 to {len(self) - 1}, got {indices[b]} at index {b}"
                )
            length[b] = self._length[indices[b]]
            T = max(T, length[b])
        padded = np.empty(((B, T) if batch_first else (T, B)) + self.shape, self.dtype)
        cdef char* out = _fields(padded).data
        cdef const char* filler = PyBytes_AS_STRING(padding)
        cdef Py_ssize_t step = self._width if batch_first else B * self._width
        cdef Py_ssize_t row = T * self._width if batch_first else self._width
        if self._width == 0:
            return padded, lengths
        if T * B * self._width < FEW:  # who lets the lock go may wait long to have it back
            self._copy(indices, out, T, step, row, filler)
        else:
            with nogil:
                self._copy(indices, out, T, step, row, filler)
        return padded, lengths

    cdef void _copy(
        self,
        const int64_t[::1] indices,
        char* out,
        Py_ssize_t T,
        Py_ssize_t step,
        Py_ssize_t row,
        const char* filler,
    ) noexcept nogil:
        """Copy block by block of steps, so that lines of `out` are filled while they are in cache."""
        cdef Py_ssize_t begin = 0, size = T if step == self._width else BLOCK, end, last, b
        cdef const char* source
        while begin < T:
            end = min(begin + size, T)
            for b in range(indices.shape[0]):
                source = <const char*>self._start[indices[b]]
                last = max(begin, min(end, self._length[indices[b]]))
                _move(
                    out + begin * step + b * row,
                    source + begin * self._width,
                    last - begin,
                    self._width,
                    step,
                )
                _fill(out + last * step + b * row, filler, end - last, self._width, step)
            begin = end


cdef Py_ssize_t FEW = 65536  # bytes, about 5 µs
cdef Py_ssize_t BLOCK = 32  # steps


cdef inline void _move(
    char* out, const char* source, Py_ssize_t count, Py_ssize_t width, Py_ssize_t step
) noexcept nogil:
    """Copy `count` steps of `width` bytes to places `step` bytes apart."""
    cdef Py_ssize_t n
    if step == width:
        memcpy(out, source, count * width)
    elif width == 4:  # a size that is known is one instruction
        for n in range(count):
            memcpy(out + n * step, source + n * 4, 4)
    elif width == 8:
        for n in range(count):
            memcpy(out + n * step, source + n * 8, 8)
    else:
        for n in range(count):
            memcpy(out + n * step, source + n * width, width)


cdef inline void _fill(
    char* out, const char* filler, Py_ssize_t count, Py_ssize_t width, Py_ssize_t step
) noexcept nogil:
    """Write the step `filler` to `count` places `step` bytes apart."""
    cdef Py_ssize_t n
    if width == 4:
        for n in range(count):
            memcpy(out + n * step, filler, 4)
    elif width == 8:
        for n in range(count):
            memcpy(out + n * step, filler, 8)
    else:
        for n in range(count):
            memcpy(out + n * step, filler, width)


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
