# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The inner loops of `fastrnn.decoding`: which tokens stay, which hypotheses go on.

Logits are float or double, all else is double. Of equals, what comes first is preferred everywhere:
the hypothesis of lower index, then the token of lower id.
"""

from libc.math cimport INFINITY
from libc.stdint cimport int64_t, uint8_t
from libc.time cimport clock, clock_t
from libcpp.algorithm cimport make_heap, nth_element, pop_heap
from libcpp.pair cimport pair
from libcpp.unordered_map cimport unordered_map
from libcpp.vector cimport vector

from fastrnn._probability cimport add_logs, real, softmax
from fastrnn._signals cimport check_signals

import numpy as np


def not_finite(const real[:, ::1] logits):
    """Return the first row without a softmax (one is NaN or +inf, or all are -inf); -1 for none."""
    cdef Py_ssize_t r, v
    cdef real top
    for r in range(logits.shape[0]):
        top = -INFINITY
        for v in range(logits.shape[1]):
            if not logits[r, v] <= top:  # larger or NaN, which then stays
                top = logits[r, v]
                if top != top:
                    break
        if not -INFINITY < top < INFINITY:
            return r
    return -1


# --- sampling -------------------------------------------------------------------------------------


def most_likely(const real[:, ::1] logits, double temperature, Py_ssize_t k, double p):
    """Return as a mask (R, V) the fewest tokens that have the share p of the k most likely ones.

    Probabilities are those of softmax(logits / temperature); at least one token of each row stays.
    """
    cdef Py_ssize_t R = logits.shape[0], V = logits.shape[1], r
    mask = np.zeros((R, V), np.bool_)
    cdef uint8_t[:, ::1] kept = mask.view(np.uint8)
    cdef vector[double] scaled, probability
    if V:
        with nogil:
            scaled.resize(V)
            probability.resize(V)
            for r in range(R):
                divide(&logits[r, 0], V, temperature, scaled.data())
                softmax(scaled.data(), V, probability.data())
                keep(probability, min(k, V), p, &kept[r, 0])
    return mask


cdef void divide(const real* x, Py_ssize_t V, double temperature, double* out) noexcept nogil:
    """Write (x - max(x)) / temperature, which cannot overflow but to -inf."""
    cdef double top = x[0]
    cdef Py_ssize_t v
    for v in range(1, V):
        top = max(top, <double>x[v])
    for v in range(V):
        out[v] = (x[v] - top) / temperature


cdef int keep(
    const vector[double]& probability, Py_ssize_t k, double p, uint8_t* kept
) except -1 nogil:
    """Mark the k most likely tokens, or as many of them, from the first, as have the share p."""
    cdef vector[pair[double, Py_ssize_t]] heap
    cdef Py_ssize_t V = probability.size(), v, first = V - k
    cdef double whole = 0.0, total = 0.0
    heap.resize(V)
    for v in range(V):
        heap[v] = pair[double, Py_ssize_t](probability[v], -v)  # of equals the lower v is larger
    nth_element(heap.begin(), heap.begin() + first, heap.end())
    for v in range(first, V):
        whole += heap[v].first
    make_heap(heap.begin() + first, heap.end())
    for v in range(V - 1, first - 1, -1):
        pop_heap(heap.begin() + first, heap.begin() + v + 1)
        kept[-heap[v].second] = 1
        total += heap[v].first
        if p < 1.0 and total >= p * whole:
            break
    return 0


# --- beam search ----------------------------------------------------------------------------------


cdef struct Candidate:
    double score
    int64_t parent
    int64_t token


cdef inline int offer(
    vector[Candidate]& best, size_t width, double score, int64_t parent, int64_t token
) except -1 nogil:
    """Insert into the at most `width` best, in falling order, behind equals; never at -inf."""
    cdef size_t place = best.size()
    if score == -INFINITY or (place == width and score <= best[place - 1].score):
        return 0
    if place < width:
        best.push_back(Candidate(score, parent, token))
    else:
        place -= 1
    while place and best[place - 1].score < score:
        best[place] = best[place - 1]
        place -= 1
    best[place] = Candidate(score, parent, token)
    return 0


def expand(
    const real[:, ::1] logits,
    const double[::1] scores,
    const int64_t[::1] offsets,
    Py_ssize_t width,
    int64_t eos,
):
    """Extend the hypotheses of each row by one token, and keep the best `width` of each row.

    Row r has the hypotheses from ``offsets[r]`` to ``offsets[r + 1]``, in falling order of their
    `scores` (N,); `logits` (N, V) are those of their next tokens.

    Returns
    -------
    parents, tokens, scores : ndarray (M,)
        The new hypotheses, row by row and each row in falling order: log-probabilities are added.
        None ends in `eos`, none has the score -inf.
    offsets : ndarray (R + 1,)
    ended : ndarray (N,)
        Score of each old hypothesis with `eos` added; empty if `eos` is negative.
    """
    cdef Py_ssize_t N = logits.shape[0], V = logits.shape[1], R = offsets.shape[0] - 1, r, n, v
    cdef vector[double] probability
    cdef vector[Candidate] best, found
    cdef double norm
    new_offsets = np.zeros(R + 1, np.int64)
    ended = np.empty(N if eos >= 0 else 0)
    cdef int64_t[::1] bounds = new_offsets
    cdef double[::1] end_scores = ended
    with nogil:
        probability.resize(V)
        for r in range(R):
            best.clear()
            for n in range(offsets[r], offsets[r + 1]):
                norm = softmax(&logits[n, 0], V, probability.data())
                for v in range(V):
                    if v == eos:
                        end_scores[n] = scores[n] + (logits[n, v] - norm)
                    else:
                        offer(best, width, scores[n] + (logits[n, v] - norm), n, v)
            found.insert(found.end(), best.begin(), best.end())
            bounds[r + 1] = found.size()
    return *unzip(found), new_offsets, ended


cdef unzip(const vector[Candidate]& found):
    cdef Py_ssize_t M = found.size(), m
    parents, tokens, scores = np.empty(M, np.int64), np.empty(M, np.int64), np.empty(M)
    cdef int64_t[::1] parent = parents, token = tokens
    cdef double[::1] score = scores
    for m in range(M):
        parent[m], token[m], score[m] = found[m].parent, found[m].token, found[m].score
    return parents, tokens, scores


def keep_best(
    double[:, ::1] scores,
    int64_t[:, :, ::1] places,
    const int64_t[::1] rows,
    const int64_t[::1] offsets,
    const double[::1] candidates,
    int64_t step,
    int64_t length,
):
    """Merge the candidates of each row into the n best of that row, in place.

    `scores` (B, n) fall along a row; `places` (B, n, 3) say which hypothesis of which step has that
    score, and its length. Candidate m, of row ``rows[r]`` where ``offsets[r] <= m < offsets[r +
    1]``, is the hypothesis m of `step`.
    """
    cdef Py_ssize_t width = scores.shape[1], r, b, m, k
    for r in range(rows.shape[0]):
        b = rows[r]
        for m in range(offsets[r], offsets[r + 1]):
            k = width
            while k > 0 and scores[b, k - 1] < candidates[m]:
                k -= 1
                if k + 1 < width:
                    scores[b, k + 1] = scores[b, k]
                    places[b, k + 1] = places[b, k]
            if k < width:
                scores[b, k] = candidates[m]
                places[b, k, 0], places[b, k, 1], places[b, k, 2] = step, m, length


# --- connectionist temporal classification --------------------------------------------------------


cdef struct Node:  # of a tree of prefixes; 0 is the empty one
    int64_t parent
    int64_t label


cdef struct Prefix:  # of the beam; logarithms of the probabilities of its alignments
    int64_t node
    double blank  # of those that end in a blank
    double label  # of those that end in its last label
    double total  # of all


cdef struct Search:
    vector[Node] tree
    unordered_map[int64_t, int64_t] children  # by parent * C + label
    vector[int64_t] place  # (nodes,) in the beam, or -1
    vector[Prefix] beam
    vector[Prefix] stayed  # the same prefixes a frame later
    vector[Candidate] best
    vector[uint8_t] known  # (beam, C): whether that extension is in the beam already
    vector[double] probability  # (C,)


def ctc_prefix_beam_search(
    const real[:, :, ::1] logits,
    const int64_t[::1] lengths,
    int64_t blank,
    Py_ssize_t width,
    Py_ssize_t n_best,
):
    """Return the labels (B, n, T), their lengths (B, n) and log-probabilities (B, n).

    Without a n-th best the length is 0 and the log-probability -inf; past its length each row of
    labels is `blank`.
    """
    cdef Py_ssize_t T = logits.shape[0], B = logits.shape[1], C = logits.shape[2], b, t, n
    labels = np.full((B, n_best, T), blank, np.int64)
    counts, scores = np.zeros((B, n_best), np.int64), np.full((B, n_best), -np.inf)
    cdef int64_t[:, :, ::1] out = labels
    cdef int64_t[:, ::1] count = counts
    cdef double[:, ::1] score = scores
    cdef Search search
    cdef clock_t asked = clock()
    with nogil:
        for b in range(B):
            start(search)
            for t in range(lengths[b]):
                check_signals(&asked)
                frame(search, &logits[t, b, 0], C, blank, width)
            for n in range(min(n_best, <Py_ssize_t>search.beam.size())):
                score[b, n] = search.beam[n].total
                count[b, n] = spell(search.tree, search.beam[n].node, &out[b, n, 0] if T else NULL)
    return labels, counts, scores


cdef int start(Search& search) except -1 nogil:
    search.tree.assign(1, Node(-1, -1))
    search.children.clear()
    search.place.assign(1, 0)
    search.beam.assign(1, Prefix(0, 0.0, -INFINITY, 0.0))
    return 0


cdef int64_t spell(const vector[Node]& tree, int64_t node, int64_t* out) noexcept nogil:
    """Write the labels of a prefix, and return how many they are."""
    cdef int64_t count = 0, here = node
    while here:
        count += 1
        here = tree[here].parent
    here = count
    while node:
        here -= 1
        out[here] = tree[node].label
        node = tree[node].parent
    return count


cdef int frame(
    Search& search, const real* x, Py_ssize_t C, int64_t blank, Py_ssize_t width
) except -1 nogil:
    """One frame: the beam's prefixes stay, or get one more label; the best `width` are kept."""
    cdef Py_ssize_t W = search.beam.size(), w
    cdef int64_t k, last
    cdef double norm
    search.probability.resize(C)
    norm = softmax(x, C, search.probability.data())
    search.known.assign(W * C, 0)
    search.stayed.resize(W)
    search.best.clear()
    for w in range(W):
        stay(search, w, x, norm, C, blank)
        offer(search.best, width, search.stayed[w].total, w, blank)
    for w in range(W):
        last = search.tree[search.beam[w].node].label
        for k in range(C):
            if k != blank and not search.known[w * C + k]:
                offer(search.best, width, before(search.beam[w], last, k) + (x[k] - norm), w, k)
    renew(search, C, blank)
    return 0


cdef inline double before(const Prefix& prefix, int64_t last, int64_t label) noexcept nogil:
    """Return the log-probability of what `label` may follow: after itself, only a blank."""
    return prefix.blank if label == last else prefix.total


cdef void stay(
    Search& search, Py_ssize_t w, const real* x, double norm, Py_ssize_t C, int64_t blank
) noexcept nogil:
    """Add a blank or the last label once more; and that label to the prefix without it."""
    cdef Prefix prefix = search.beam[w]
    cdef Node node = search.tree[prefix.node]
    cdef double label = -INFINITY
    cdef int64_t parent
    if prefix.node:
        label = prefix.label
        parent = search.place[node.parent]
        if parent >= 0:
            search.known[parent * C + node.label] = 1
            label = add_logs(
                label,
                before(search.beam[parent], search.tree[node.parent].label, node.label),
            )
        label += x[node.label] - norm
    prefix.blank = prefix.total + (x[blank] - norm)
    prefix.label = label
    prefix.total = add_logs(prefix.blank, label)
    search.stayed[w] = prefix


cdef int renew(Search& search, Py_ssize_t C, int64_t blank) except -1 nogil:
    """Make the beam of the best candidates."""
    cdef vector[Prefix] beam
    cdef Candidate candidate
    cdef Prefix prefix
    cdef size_t w
    for w in range(search.best.size()):
        candidate = search.best[w]
        if candidate.token == blank:
            prefix = search.stayed[candidate.parent]
        else:
            prefix.node = child(search, search.beam[candidate.parent].node, candidate.token, C)
            prefix.blank = -INFINITY
            prefix.label = prefix.total = candidate.score
        beam.push_back(prefix)
    for w in range(search.beam.size()):
        search.place[search.beam[w].node] = -1
    for w in range(beam.size()):
        search.place[beam[w].node] = w
    search.beam.swap(beam)
    return 0


cdef int64_t child(
    Search& search, int64_t node, int64_t label, Py_ssize_t C
) except -1 nogil:
    """Return the node of a prefix with one more label; a new one if it has not been seen."""
    cdef int64_t key = node * C + label, size = search.tree.size()
    if search.children.count(key):
        return search.children[key]
    search.children[key] = size
    search.tree.push_back(Node(node, label))
    search.place.push_back(-1)
    return size
