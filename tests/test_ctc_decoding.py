"""ctc_greedy and ctc_prefix_beam_search against all alignments and against plain Python."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrnn.decoding import ctc_greedy, ctc_prefix_beam_search
from fastrnn.losses import ctc_loss


def scores(*shape, seed=0, dtype="float64", size=1.0):
    return (size * np.random.default_rng(seed).standard_normal(shape)).astype(dtype)


def softmax(logits):
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def collapse(alignment, blank):
    return tuple(label for label, _ in itertools.groupby(alignment) if label != blank)


def probabilities_by_enumeration(logits, blank):
    """{labels: sum over their alignments} of logits (T, C), the most probable first."""
    p = softmax(logits)
    T, C = p.shape
    sums = {}
    for alignment in itertools.product(range(C), repeat=T):
        labels = collapse(alignment, blank)
        probability = math.prod(p[t, k] for t, k in enumerate(alignment))
        sums[labels] = sums.get(labels, 0.0) + probability
    return dict(sorted(sums.items(), key=lambda item: -item[1]))


def plain_prefix_search(logits, blank, width):
    """As Hannun et al. write it: a dictionary of prefixes, in probabilities, for logits (T, C)."""
    beam = {(): (1.0, 0.0)}  # ending in a blank, and in a label
    for row in softmax(logits):
        following = {}

        def add(prefix, in_blank, in_label, following=following):
            before = following.get(prefix, (0.0, 0.0))
            following[prefix] = (before[0] + in_blank, before[1] + in_label)

        for prefix, (in_blank, in_label) in beam.items():
            add(prefix, (in_blank + in_label) * row[blank], 0.0)
            for k, probability in enumerate(row):
                if k == blank:
                    continue
                if prefix and k == prefix[-1]:
                    add(prefix, 0.0, in_label * probability)
                    add((*prefix, k), 0.0, in_blank * probability)
                else:
                    add((*prefix, k), 0.0, (in_blank + in_label) * probability)
        ranked = sorted(following.items(), key=lambda item: -sum(item[1]))
        beam = dict(ranked[:width])
    return {prefix: sum(parts) for prefix, parts in beam.items()}


def read(decoded, b):
    """{labels: probability} of row b, in its order."""
    tokens, lengths, log_probs = (part[b] for part in decoded)
    return {
        tuple(row[:n].tolist()): math.exp(score)
        for row, n, score in zip(tokens, lengths, log_probs, strict=True)
        if score > -np.inf
    }


@pytest.mark.parametrize("blank", [0, 2])
@pytest.mark.parametrize(("T", "C"), [(1, 3), (3, 3), (5, 3), (6, 2), (4, 4)])
def test_prefix_search_of_full_width_sums_all_alignments(T, C, blank):
    blank = min(blank, C - 1)
    logits = scores(T, 2, C, seed=T)
    decoded = ctc_prefix_beam_search(logits, blank=blank, beam_width=3000, n_best=3000)
    for b in range(2):
        got, want = read(decoded, b), probabilities_by_enumeration(logits[:, b], blank)
        assert list(got) == list(want)
        assert list(got.values()) == pytest.approx(list(want.values()), rel=1e-12)
        assert sum(got.values()) == pytest.approx(1.0, rel=1e-12)


@given(
    T=st.integers(0, 12),
    C=st.integers(1, 5),
    width=st.integers(1, 7),
    seed=st.integers(0, 999),
    size=st.sampled_from([0.5, 2.0, 6.0]),
)
def test_prefix_search_is_the_plain_one(T, C, width, seed, size):
    """Prefixes fall out of the beam and come back into it."""
    logits, blank = scores(T, 1, C, seed=seed, size=size), seed % C
    got = read(ctc_prefix_beam_search(logits, blank=blank, beam_width=width, n_best=width), 0)
    want = plain_prefix_search(logits[:, 0], blank, width)
    assert list(got) == [prefix for prefix, probability in want.items() if probability > 0.0]
    assert list(got.values()) == pytest.approx([p for p in want.values() if p > 0.0], rel=1e-11)


def test_scores_are_the_loss_where_the_beam_holds_everything():
    logits = scores(7, 3, 3, seed=3)
    decoded = ctc_prefix_beam_search(logits, [7, 5, 0], beam_width=2000, n_best=4)
    for n in range(4):
        targets, counts = decoded.tokens[:, n], decoded.lengths[:, n]
        losses, _ = ctc_loss(logits, targets, [7, 5, 0], counts, reduction="none")
        there = decoded.scores[:, n] > -np.inf
        assert there.tolist() == [True, True, n == 0]
        assert decoded.scores[there, n] == pytest.approx(-losses[there], rel=1e-12, abs=1e-12)


def test_prefix_search_finds_what_the_best_path_does_not():
    """The example of Graves et al. (2006), figure 2: the blank is likeliest, the label probable."""
    logits = np.log([[[0.6, 0.4]], [[0.6, 0.4]]])
    best_path = ctc_greedy(logits)
    assert best_path.lengths.tolist() == [0]
    assert np.exp(best_path.scores) == pytest.approx(0.36)
    labels = ctc_prefix_beam_search(logits)
    assert labels.tokens.tolist() == [[[1]]]
    assert np.exp(labels.scores) == pytest.approx(0.64)


@given(
    lengths=st.lists(st.integers(0, 9), max_size=4),
    blank=st.integers(0, 2),
    seed=st.integers(0, 99),
    dtype=st.sampled_from(["float32", "float64"]),
)
def test_greedy_is_the_best_path(lengths, blank, seed, dtype):
    logits = scores(9, len(lengths), 3, seed=seed, dtype=dtype)
    for b, n in enumerate(lengths):
        logits[n:, b] = np.nan  # not looked at
    decoded = ctc_greedy(logits, np.array(lengths, int), blank)
    assert decoded.scores.dtype == np.float64
    assert decoded.tokens.shape == (len(lengths), max(decoded.lengths, default=0))
    for b, n in enumerate(lengths):
        path = logits[:n, b].argmax(axis=1)
        want = collapse(path.tolist(), blank)
        assert tuple(decoded.tokens[b, : decoded.lengths[b]].tolist()) == want
        assert (decoded.tokens[b, decoded.lengths[b] :] == blank).all()
        probability = math.prod(softmax(logits[:n, b]).max(axis=1).tolist()) if n else 1.0
        assert math.exp(decoded.scores[b]) == pytest.approx(probability, rel=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_have_the_same_bits_in_any_batch(dtype):
    logits, lengths = scores(20, 5, 6, dtype=dtype), np.array([20, 13, 0, 20, 7])
    for b, n in enumerate(lengths):
        logits[n:, b] = np.nan
    together = ctc_prefix_beam_search(logits, lengths, beam_width=8, n_best=3)
    for b, n in enumerate(lengths):
        alone = ctc_prefix_beam_search(logits[:n, b : b + 1], beam_width=8, n_best=3)
        assert np.array_equal(alone.scores[0], together.scores[b])
        assert np.array_equal(alone.lengths[0], together.lengths[b])
        longest = alone.tokens.shape[2]
        assert np.array_equal(alone.tokens[0], together.tokens[b, :, :longest])


def test_equals_in_order_and_impossible_classes():
    decoded = ctc_prefix_beam_search(np.zeros((1, 1, 4)), beam_width=4, n_best=4)
    assert decoded.lengths.tolist() == [[0, 1, 1, 1]]
    assert decoded.tokens.tolist() == [[[0], [1], [2], [3]]]
    logits = np.array([[[-np.inf, 0.0, -np.inf]], [[-np.inf, 0.0, -np.inf]]])
    decoded = ctc_prefix_beam_search(logits, beam_width=9, n_best=2)
    assert decoded.tokens.tolist() == [[[1], [0]]]
    assert decoded.lengths.tolist() == [[1, 0]]
    assert decoded.scores.tolist() == [[0.0, -np.inf]]


def test_leaves_its_arguments_alone():
    logits = scores(4, 2, 3)
    copy = logits.copy()
    ctc_greedy(logits, [4, 3])
    ctc_prefix_beam_search(logits, [4, 3])
    assert np.array_equal(logits, copy)


@pytest.mark.parametrize("search", [ctc_greedy, ctc_prefix_beam_search])
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"logits": np.zeros((4, 3))}, ValueError, r"logits: expected the shape \(T, B, C\), got"),
        ({"logits": np.zeros((4, 2, 0))}, ValueError, r"logits: expected the shape \(T, B, C\), g"),
        ({"logits": np.zeros((4, 2, 3), int)}, TypeError, "logits: expected an array of float32"),
        ({"logits": np.full((4, 2, 3), np.nan)}, ValueError, "logits: expected finite numbers"),
        ({"lengths": [4]}, ValueError, r"lengths: expected the shape \(2,\), got \(1,\)"),
        ({"lengths": [4, 5]}, ValueError, "lengths: expected 0 to 4, got 5 at index 1"),
        ({"blank": 3}, IndexError, "blank: expected a class from 0 to 2, got 3"),
        ({"blank": -1}, ValueError, "blank: expected at least 0, got -1"),
    ],
)
def test_refuses(search, change, error, message):
    arguments = {"logits": np.zeros((4, 2, 3)), **change}
    with pytest.raises(error, match=f"^{message}"):
        search(**arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beam_width": 0}, "beam_width: expected at least 1, got 0"),
        ({"n_best": 0}, "n_best: expected at least 1, got 0"),
        ({"beam_width": 2, "n_best": 3}, "n_best: expected at most beam_width 2, got 3"),
    ],
)
def test_prefix_search_refuses(options, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        ctc_prefix_beam_search(np.zeros((2, 1, 3)), **options)
