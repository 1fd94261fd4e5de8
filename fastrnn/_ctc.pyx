# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Connectionist temporal classification: the loss of each sequence of a batch and its gradient.

Graves, Fernández, Gomez and Schmidhuber (2006), "Connectionist temporal classification: labelling
unsegmented sequence data with recurrent neural networks". A sequence of S labels is spelled with a
blank before, between and after them: 2 S + 1 states. An alignment goes from state to state, one per
frame: it stays, goes on by one, or by two over a blank between different labels.

The forward pass is that paper's (section 4.1), with logarithms. The backward pass is the chain
rule through it: a state hands its share of the loss to the three it may have come from, in
proportion to their parts in the sum. That gives the occupation of each state (the paper's
alpha beta / p) by multiplications of numbers from 0 to 1 alone.

Everything is double inside; arguments are checked by `fastrnn.losses`.
"""

from libc.math cimport INFINITY, NAN, exp, isnan, log
from libc.stdint cimport int64_t
from libc.time cimport clock, clock_t
from libcpp.vector cimport vector

from fastrnn._probability cimport add_logs, real, softmax
from fastrnn._signals cimport check_signals

import numpy as np

cdef struct Part:  # of a state's probability, by where its alignments were a frame before
    double stay  # in the same state
    double step  # in the one before
    double skip  # two before


cdef struct Workspace:  # of one sequence; kept from one to the next
    vector[int64_t] symbol  # (N,) class of each state
    vector[double] probability  # (T, C)
    vector[Part] part  # (T, N)
    vector[double] before  # (N,) alpha of the frame before; backwards, the occupation
    vector[double] alpha  # (N,)


def ctc_loss(
    const real[:, :, ::1] logits,
    const int64_t[::1] lengths,
    const int64_t[::1] labels,
    const int64_t[::1] starts,
    const int64_t[::1] counts,
    int64_t blank,
    const double[::1] weights,
    bint zero_infinity,
):
    """Return the losses (B,) in double and, times `weights` (B,), their gradient (T, B, C).

    Sequence b has ``lengths[b]`` frames and the labels
    ``labels[starts[b] : starts[b] + counts[b]]``. Without an alignment the loss is infinite and the
    gradient NaN; with `zero_infinity` both are zero.
    """
    cdef Py_ssize_t B = logits.shape[1], C = logits.shape[2], b
    losses = np.zeros(B)
    gradient = np.zeros((logits.shape[0], B, C), np.float32 if real is float else np.float64)
    cdef double[::1] loss = losses
    cdef real[:, :, ::1] d_logits = gradient
    cdef Workspace work
    cdef const int64_t* target
    cdef const real* x
    cdef real* dx
    cdef clock_t asked = clock()
    with nogil:
        for b in range(B):
            check_signals(&asked)
            target = &labels[starts[b]] if counts[b] else NULL
            x = &logits[0, b, 0] if lengths[b] else NULL
            dx = &d_logits[0, b, 0] if lengths[b] else NULL
            loss[b] = forward(work, x, B * C, lengths[b], C, target, counts[b], blank)
            if zero_infinity and loss[b] == INFINITY:
                loss[b] = 0.0
            else:
                backward(work, dx, B * C, lengths[b], C, loss[b], weights[b])
    return losses, gradient


cdef double forward(
    Workspace& work,
    const real* x,
    Py_ssize_t stride,
    Py_ssize_t T,
    Py_ssize_t C,
    const int64_t* target,
    Py_ssize_t S,
    int64_t blank,
) except? -1.0 nogil:
    """Return the loss of one sequence; fills `work`, and `before` with the last occupation."""
    cdef Py_ssize_t N = 2 * S + 1, s, t
    cdef double norm, last, whole
    work.symbol.assign(N, blank)
    for s in range(S):
        work.symbol[2 * s + 1] = target[s]
    work.probability.resize(T * C)
    work.part.resize(T * N)
    work.alpha.assign(N, -INFINITY)
    work.before.assign(N, -INFINITY)
    work.before[0] = 0.0  # so that the first frame is in state 0 or 1
    for t in range(T):
        norm = softmax(x + t * stride, C, &work.probability[t * C])
        if isnan(norm):
            return NAN
        frame(work, x + t * stride, norm, &work.part[t * N], N, max(0, N - 2 * (T - t)))
        work.before.swap(work.alpha)

    last = work.before[N - 1]
    whole = add_logs(last, work.before[N - 2] if S else -INFINITY)
    if whole > -INFINITY:
        work.alpha.assign(N, 0.0)
        work.alpha[N - 1] = exp(last - whole)
        if S:
            work.alpha[N - 2] = exp(work.before[N - 2] - whole)
        work.before.swap(work.alpha)
    return 0.0 - whole  # never -0.0


cdef void frame(
    Workspace& work, const real* x, double norm, Part* part, Py_ssize_t N, Py_ssize_t first
) noexcept nogil:
    """One frame: `alpha` from `before`; states before `first` can no longer reach the end."""
    cdef const double* before = work.before.data()
    cdef double* alpha = work.alpha.data()
    cdef const int64_t* symbol = work.symbol.data()
    cdef double stay, step, skip, top, total
    cdef Py_ssize_t s
    for s in range(N):
        stay = before[s]
        step = before[s - 1] if s > 0 else -INFINITY
        skip = before[s - 2] if s % 2 and s > 1 and symbol[s] != symbol[s - 2] else -INFINITY
        top = max(stay, max(step, skip))
        if s < first or top == -INFINITY:
            alpha[s] = -INFINITY
            part[s] = Part(0.0, 0.0, 0.0)
            continue
        stay = exp_below(stay, top)
        step = exp_below(step, top)
        skip = exp_below(skip, top)
        total = stay + step + skip
        part[s] = Part(stay / total, step / total, skip / total)
        alpha[s] = top + log(total) + (x[symbol[s]] - norm)


cdef inline double exp_below(double a, double top) noexcept nogil:
    """Return exp(a - top) for a <= top; two of three are 0 or 1, for which nothing is computed."""
    if a == top:
        return 1.0
    return 0.0 if a == -INFINITY else exp(a - top)


cdef void backward(
    Workspace& work,
    real* dx,
    Py_ssize_t stride,
    Py_ssize_t T,
    Py_ssize_t C,
    double loss,
    double weight,
) noexcept nogil:
    """Write dx = (softmax - occupation) * weight, frame by frame from the last."""
    cdef Py_ssize_t N = work.symbol.size(), s, t, k
    cdef double* occupation = work.before.data()
    cdef double* row
    cdef const Part* part
    if not loss < INFINITY:
        for t in range(T):
            for k in range(C):
                dx[t * stride + k] = <real>NAN
        return
    for t in range(T - 1, -1, -1):
        row = &work.probability[t * C]
        part = &work.part[t * N]
        for s in range(N):
            row[work.symbol[s]] -= occupation[s]
            occupation[s] *= part[s].stay
            if s + 1 < N:
                occupation[s] += occupation[s + 1] * part[s + 1].step
            if s + 2 < N:
                occupation[s] += occupation[s + 2] * part[s + 2].skip
        for k in range(C):
            dx[t * stride + k] = <real>(row[k] * weight)
