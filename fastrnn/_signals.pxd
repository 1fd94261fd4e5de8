# cython: language_level=3
"""Ctrl-C in long calls that have let the interpreter lock go."""

from cpython.exc cimport PyErr_CheckSignals
from libc.time cimport CLOCKS_PER_SEC, clock, clock_t


cdef inline int check_signals(clock_t* last) except -1 nogil:
    """Run Python's signal handlers, ten times in a second of computing; `last` is of the caller."""
    cdef clock_t now = clock()
    if now - last[0] > CLOCKS_PER_SEC / 10:
        last[0] = now
        with gil:
            PyErr_CheckSignals()
    return 0
