# cython: language_level=3
"""Arithmetic of probabilities and their logarithms, in double: of `_ctc.pyx` and `_decoding.pyx`."""

from libc.math cimport INFINITY, exp, log

ctypedef fused real:
    float
    double


cdef inline double softmax(const real* x, Py_ssize_t n, double* p) noexcept nogil:
    """Write p = softmax(x) of n >= 1 values; return log(sum of exp(x)).

    Both are NaN if a value is NaN or +inf, or all are -inf.
    """
    cdef double top = x[0], total = 0.0
    cdef Py_ssize_t k
    for k in range(1, n):
        if x[k] > top:
            top = x[k]
    for k in range(n):
        p[k] = exp(x[k] - top)
        total += p[k]
    for k in range(n):
        p[k] /= total
    return top + log(total)


cdef inline double add_logs(double a, double b) noexcept nogil:
    """Return log(exp(a) + exp(b)) of two numbers that are neither NaN nor +inf."""
    if a < b:
        a, b = b, a
    return a if b == -INFINITY else a + log(1.0 + exp(b - a))
