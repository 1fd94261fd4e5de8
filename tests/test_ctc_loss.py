"""ctc_loss against the sum over all alignments, its formula with logaddexp, finite differences."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrnn.losses import ctc_loss
from reference import central_difference

DTYPES = ["float32", "float64"]


def scores(*shape, seed=0, dtype="float64", size=2.0):
    return (size * np.random.default_rng(seed).standard_normal(shape)).astype(dtype)


def log_softmax(logits):
    logits = np.asarray(logits, np.float64)
    top = logits.max(axis=-1, keepdims=True)
    return logits - top - np.log(np.exp(logits - top).sum(axis=-1, keepdims=True))


def collapse(alignment, blank):
    return [label for label, _ in itertools.groupby(alignment) if label != blank]


def probability_of_all_alignments(logits, target, blank=0):
    """Sum over all C^T alignments of logits (T, C) that become the target."""
    probabilities = np.exp(log_softmax(logits))
    T, C = logits.shape
    return math.fsum(
        math.prod(probabilities[t, k] for t, k in enumerate(alignment))
        for alignment in itertools.product(range(C), repeat=T)
        if collapse(alignment, blank) == list(target)
    )


def loss_by_logaddexp(logits, target, blank=0):
    """Section 4.1 of Graves et al. (2006) in logarithms, for logits (T, C), state by state."""
    spelled = [blank]
    for label in target:
        spelled += [label, blank]
    with np.errstate(invalid="ignore"):
        alpha = [0.0] + [-np.inf] * (len(spelled) - 1)
        for row in log_softmax(logits):
            before, alpha = alpha, []
            for s, label in enumerate(spelled):
                total = before[s]
                if s > 0:
                    total = np.logaddexp(total, before[s - 1])
                if s > 1 and label not in (blank, spelled[s - 2]):
                    total = np.logaddexp(total, before[s - 2])
                alpha.append(total + row[label])
        return -np.logaddexp.reduce(alpha[-2:])


@pytest.mark.parametrize("blank", [0, 2])
@pytest.mark.parametrize("T", [0, 1, 2, 3, 5])
@pytest.mark.parametrize("dtype", DTYPES)
def test_loss_is_the_sum_over_all_alignments(dtype, T, blank):
    labels = [k for k in range(3) if k != blank]
    targets = [list(y) for S in range(4) for y in itertools.product(labels, repeat=S)]
    logits = scores(T, len(targets), 3, dtype=dtype)
    counts = [len(target) for target in targets]
    flat = np.array([*itertools.chain(*targets)], int)
    losses, _ = ctc_loss(logits, flat, None, counts, blank, "none")
    assert losses.dtype == np.dtype(dtype)
    for b, target in enumerate(targets):
        want = probability_of_all_alignments(logits[:, b], target, blank)
        assert np.exp(-losses[b]) == pytest.approx(want, rel={"float32": 2e-6}.get(dtype, 1e-13))
        assert (losses[b] == np.inf) == (want == 0.0)


@given(
    T=st.integers(0, 12),
    target=st.lists(st.integers(1, 3), max_size=6),
    size=st.sampled_from([0.0, 1.0, 30.0, 1000.0]),
    seed=st.integers(0, 99),
)
def test_loss_is_that_of_the_formula(T, target, size, seed):
    logits = scores(T, 4, seed=seed, size=size)
    want = loss_by_logaddexp(logits, target)
    loss, gradient = ctc_loss(logits, np.array(target, int), reduction="sum")
    assert loss == pytest.approx(want, rel=1e-12, abs=1e-12)
    if math.isfinite(want):  # softmax and occupation both have the sum one in each frame
        assert np.abs(gradient.sum(axis=1)).max(initial=0.0) < 1e-13 * max(T, 1)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_gradient_is_that_of_finite_differences(reduction):
    logits = scores(6, 4, 5)
    targets = np.array([[1, 2, 3], [4, 4, 0], [2, 2, 2], [0, 0, 0]])
    lengths, counts = [6, 5, 5, 2], [3, 2, 3, 0]

    def loss():
        return np.sum(ctc_loss(logits, targets, lengths, counts, 0, reduction)[0])

    gradient = ctc_loss(logits, targets, lengths, counts, 0, reduction)[1]
    want = central_difference(loss, logits)
    assert gradient.shape == logits.shape
    assert np.abs(gradient - want).max() < 1e-6 * np.abs(want).max()
    for b, length in enumerate(lengths):
        assert not gradient[length:, b].any()
        assert gradient[:length, b].all()


def test_gradient_where_probabilities_are_far_below_the_smallest_double():
    """The only alignment that is left has the probability exp(-80000): softmax less one-hot."""
    logits = np.zeros((40, 1, 3))
    logits[:, 0, 0] = 2000.0
    loss, gradient = ctc_loss(logits, np.array([[1, 2] * 20]), reduction="sum")
    assert loss == 80000.0
    want = np.zeros_like(logits)
    want[:, 0, 0] = 1.0
    want[0::2, 0, 1] = want[1::2, 0, 2] = -1.0
    assert np.array_equal(gradient, want)


def test_float32_is_rounded_from_float64():
    logits = scores(50, 3, 11, dtype="float32")
    targets = np.random.default_rng(1).integers(1, 11, (3, 9))
    losses, gradient = ctc_loss(logits, targets, reduction="none")
    want_losses, want = ctc_loss(logits.astype(np.float64), targets, reduction="none")
    assert np.array_equal(losses, want_losses.astype(np.float32))
    assert gradient.dtype == np.float32
    assert np.array_equal(gradient, want.astype(np.float32))


@pytest.mark.parametrize("dtype", DTYPES)
def test_log_probabilities_give_what_logits_give(dtype):
    logits, targets = scores(9, 2, 4, dtype=dtype), [[1, 2, 3], [3, 3, 1]]
    log_probs = log_softmax(logits).astype(dtype)
    tolerance = {"float32": 2e-6, "float64": 1e-14}[dtype]
    loss, gradient = ctc_loss(logits, targets)
    same, same_gradient = ctc_loss(log_probs, targets)
    assert same == pytest.approx(loss, rel=tolerance)
    assert np.abs(same_gradient - gradient).max() < tolerance


def test_reductions():
    logits, targets, counts = scores(8, 3, 4), np.array([1, 2, 3, 1, 2]), [2, 0, 3]
    losses, gradient = ctc_loss(logits, targets, None, counts, reduction="none")
    total, same = ctc_loss(logits, targets, None, counts, reduction="sum")
    assert type(total) is float
    assert total == pytest.approx(losses.sum(), rel=1e-15)
    assert np.array_equal(gradient, same)
    mean, scaled = ctc_loss(logits, targets, None, counts)
    assert type(mean) is float
    assert mean == pytest.approx((losses / [2, 1, 3]).mean(), rel=1e-15)
    assert np.allclose(scaled, gradient / np.array([6, 3, 9])[:, None], rtol=1e-14, atol=0.0)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 4)), max_size=5), st.integers(0, 9))
def test_sequences_have_the_same_bits_in_any_batch_and_padding(sizes, seed):
    """Padded or one after the other, with garbage where nothing counts, alone or together."""
    rng = np.random.default_rng(seed)
    B = len(sizes)
    frames, counts = np.array(sizes, int).reshape(-1, 2).T
    logits = np.full((10, B, 5), np.nan, np.float32)
    targets = np.full((B, 6), 99)
    for b, (T, S) in enumerate(sizes):
        logits[:T, b] = rng.standard_normal((T, 5))
        targets[b, :S] = rng.integers(1, 5, S)
    flat = np.concatenate([np.zeros(0, int), *(targets[b, :S] for b, S in enumerate(counts))])
    losses, gradient = ctc_loss(logits, targets, frames, counts, 0, "none")
    same, same_gradient = ctc_loss(logits, flat, frames, counts, 0, "none")
    assert np.array_equal(losses, same)
    assert np.array_equal(gradient, same_gradient, equal_nan=True)
    for b, (T, S) in enumerate(sizes):
        loss, alone = ctc_loss(logits[:T, b], targets[b, :S], reduction="none")
        assert loss.shape == ()
        assert loss == losses[b]
        assert np.array_equal(alone, gradient[:T, b], equal_nan=True)
        assert not gradient[T:, b].any()


def test_without_an_alignment():
    """Two equal labels need three frames."""
    logits, targets = scores(3, 3, 4), [[1, 1], [1, 1], [1, 2]]
    lengths = [3, 2, 2]
    losses, gradient = ctc_loss(logits, targets, lengths, reduction="none")
    assert np.isfinite(losses).tolist() == [True, False, True]
    assert losses[1] == np.inf
    assert np.isnan(gradient[:2, 1]).all()
    assert not gradient[2, 1].any()
    assert np.isfinite(gradient[:, [0, 2]]).all()
    zeroed, zeros = ctc_loss(logits, targets, lengths, reduction="none", zero_infinity=True)
    assert zeroed[1] == 0.0
    assert not zeros[:, 1].any()
    assert np.array_equal(zeros[:, [0, 2]], gradient[:, [0, 2]])
    assert np.array_equal(zeroed[[0, 2]], losses[[0, 2]])
    assert ctc_loss(logits, targets, lengths)[0] == np.inf


def test_classes_without_probability():
    logits = np.zeros((3, 1, 3))
    logits[:, :, 2] = -np.inf
    loss, gradient = ctc_loss(logits, [[1]], reduction="sum")
    assert loss == pytest.approx(math.log(8 / 6))
    assert not gradient[:, :, 2].any()
    assert ctc_loss(logits, [[2]], reduction="sum")[0] == np.inf


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_nan_is_passed_on(wrong):
    logits = scores(4, 2, 3)
    logits[1, 0, 2] = wrong
    losses, gradient = ctc_loss(logits, [[1], [1]], reduction="none", zero_infinity=True)
    assert np.isnan(losses).tolist() == [True, False]
    assert np.isnan(gradient[:, 0]).all()
    assert np.isfinite(gradient[:, 1]).all()


def test_of_nothing():
    loss, gradient = ctc_loss(np.zeros((5, 0, 3)), np.zeros((0, 2), int))
    assert math.isnan(loss)
    assert gradient.shape == (5, 0, 3)
    assert ctc_loss(np.zeros((5, 0, 3)), np.zeros((0, 2), int), reduction="sum")[0] == 0.0
    loss, gradient = ctc_loss(np.zeros((0, 2, 3)), np.zeros((2, 0), int))
    assert (loss, gradient.shape) == (0.0, (0, 2, 3))
    assert math.copysign(1.0, loss) == 1.0


def test_leaves_its_arguments_alone_and_takes_any_strides():
    logits = scores(4, 3, 8).transpose(2, 1, 0)
    targets = np.array([[1, 9, 2], [3, 9, 3], [2, 9, 1]])[:, ::2]
    copies = logits.copy(), targets.copy()
    got = ctc_loss(logits, targets)
    assert np.array_equal(logits, copies[0])
    assert np.array_equal(targets, copies[1])
    want = ctc_loss(*copies)
    assert got[0] == want[0]
    assert np.array_equal(got[1], want[1])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"logits": np.zeros((5, 2, 0))}, ValueError, r"logits: expected the shape \(T, B, C\)"),
        ({"logits": np.zeros(3)}, ValueError, r"logits: expected the shape .*, got \(3,\)"),
        ({"logits": np.zeros((5, 2, 3), int)}, TypeError, "logits: expected an array of float32"),
        ({"logits": np.zeros((5, 3))}, ValueError, r"targets: expected the shape \(S,\), got \(2,"),
        ({"targets": [[1.0], [2.0]]}, TypeError, "targets: expected an array of integers"),
        ({"targets": [[1, 2]]}, ValueError, r"targets: expected the shape \(2, S\) or \(N,\), got"),
        ({"targets": [[1, 3], [1, 1]]}, IndexError, "targets: expected labels from 0 to 2 other"),
        ({"targets": [[1, 1], [1, -1]]}, IndexError, "targets: expected labels .* 0, got -1"),
        ({"targets": [[1, 0], [1, 1]]}, IndexError, "targets: expected labels .* blank 0, got 0"),
        ({"targets": [1, 2]}, TypeError, "target_lengths: needed for targets that are not padded"),
        ({"targets": [1, 2], "target_lengths": [1, 2]}, ValueError, "target_lengths: expected the"),
        ({"target_lengths": [1, 3]}, ValueError, "target_lengths: expected 0 to 2, got 3 at index"),
        ({"target_lengths": [1]}, ValueError, r"target_lengths: expected the shape \(2,\), got \("),
        ({"input_lengths": [5, 6]}, ValueError, "input_lengths: expected 0 to 5, got 6 at index 1"),
        ({"input_lengths": [-1, 5]}, ValueError, "input_lengths: expected 0 to 5, got -1 at index"),
        ({"input_lengths": [5.0, 5.0]}, TypeError, "input_lengths: expected an array of integers"),
        ({"blank": 3}, IndexError, "blank: expected a class from 0 to 2, got 3"),
        ({"blank": -1}, ValueError, "blank: expected at least 0, got -1"),
        ({"reduction": "max"}, ValueError, "reduction: expected 'mean', 'sum' or 'none', got 'max"),
        ({"zero_infinity": 1}, TypeError, "zero_infinity: expected True or False, got 1"),
    ],
)
def test_refuses(change, error, message):
    arguments = {"logits": np.zeros((5, 2, 3)), "targets": [[1, 2], [2, 1]], **change}
    with pytest.raises(error, match=f"^{message}"):
        ctc_loss(**arguments)
