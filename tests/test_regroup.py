"""Masks, resets and both directions, regrouped: against one row and one step at a time.

The plain simulation below knows nothing of segments: it goes through a row step by step, and
forgets the state at a reset. Adjoints are checked by <A x, y> = <x, A' y>.
"""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import example, given

from fastrnn.directions import MERGE_MODES, merge, merge_gradient, reverse_rows
from fastrnn.regroup import flag_array, regroup

FEATURES = 2


class Batch:
    """A random batch; seed alone decides its numbers, the strategy its shape and what it has."""

    def __init__(self, T, B, seed, lengths=True, mask="holes", resets=0.3):
        rng = np.random.default_rng(seed)
        self.T, self.B, self.rng = T, B, rng
        self.lengths = rng.integers(0, T + 1, B) if lengths else None
        self.mask = None
        if mask == "holes":
            self.mask = rng.random((T, B)) < rng.random()
        elif mask == "prefix":
            self.mask = np.arange(T)[:, None] < rng.integers(0, T + 1, B)
        self.resets = rng.random((T, B)) < resets if resets else None
        self.x = self.numbers(T, B, FEATURES)
        self.state = self.numbers(1, B, FEATURES)
        self.fresh = self.numbers(1, FEATURES)

    def numbers(self, *shape):
        return self.rng.normal(size=shape)

    @property
    def group(self):
        return regroup(self.T, self.B, self.lengths, self.mask, self.resets)

    def ends(self):
        return np.full(self.B, self.T) if self.lengths is None else self.lengths

    def simulate(self, reverse):
        """A decaying sum, row by row and step by step."""
        y = np.zeros_like(self.x)
        repeated = np.zeros_like(self.x)
        last = self.state.copy()
        for b in range(self.B):
            h, output, real_before = self.state[0, b], 0.0, False
            times = range(self.ends()[b])
            for t in reversed(times) if reverse else times:
                reset = self.resets is not None and self.resets[t, b]
                if reset and not reverse:
                    h, output = self.fresh[0], 0.0
                if self.mask is None or self.mask[t, b]:
                    h = y[t, b] = output = 0.5 * h + self.x[t, b]
                    last[0, b] = h
                    real_before = True
                elif not reverse and reset:
                    last[0, b] = h
                repeated[t, b] = output
                if reset and reverse:  # the border is before step t, which was processed already
                    h, output = self.fresh[0], 0.0
            if not real_before and reverse:
                last[0, b] = self.state[0, b]
        return y, repeated, last


def run_ragged(x, state, lengths, reverse):
    """The same decaying sum of rows that have nothing but lengths."""
    y, last = np.zeros_like(x), np.zeros((1, x.shape[1], FEATURES)) if state is None else state
    last = last.copy()
    for b in range(x.shape[1]):
        times = range(len(x) if lengths is None else lengths[b])
        for t in reversed(times) if reverse else times:
            last[0, b] = y[t, b] = 0.5 * last[0, b] + x[t, b]
    return y, last


batches = st.builds(
    Batch,
    T=st.integers(1, 8),
    B=st.integers(1, 5),
    seed=st.integers(0, 2**32),
    lengths=st.booleans(),
    mask=st.sampled_from(["holes", "prefix", None]),
    resets=st.sampled_from([0.0, 0.1, 0.5]),
)
directions = st.booleans()


@given(batches, directions)
@example(Batch(8, 5, 0), False)
@example(Batch(8, 5, 0), True)
def test_a_regrouped_batch_gives_what_steps_give(batch, reverse):
    group = batch.group
    y, last = run_ragged(
        group.take(batch.x),
        group.take_state(batch.state, batch.fresh, (reverse,)),
        group.lengths,
        reverse,
    )
    want, repeated, want_last = batch.simulate(reverse)
    np.testing.assert_array_equal(group.put(y), want)
    got = group.put(y, "reverse" if reverse else "forward")
    np.testing.assert_array_equal(got, want if batch.mask is None else repeated)
    np.testing.assert_array_equal(group.put_state(last, (reverse,)), want_last)


@given(batches, st.integers(0, 8))
def test_windows_give_what_one_piece_gives(batch, cut):
    cut = min(cut, batch.T)
    _, _, want = batch.simulate(reverse=False)
    state = batch.state
    for part in (slice(cut), slice(cut, None)):
        flags = [None if f is None else f[part] for f in (batch.mask, batch.resets)]
        lengths = None
        if batch.lengths is not None:
            lengths = np.clip(batch.lengths - (part.start or 0), 0, len(batch.x[part]))
        group = regroup(len(batch.x[part]), batch.B, lengths, *flags)
        x, first = group.take(batch.x[part]), group.take_state(state, batch.fresh)
        state = group.put_state(run_ragged(x, first, group.lengths, False)[1])
    np.testing.assert_array_equal(state, want)


def inner(a, b):
    return float((a * b).sum())


def alive(group, array):
    """The array, zero past the end of each row: elsewhere neither is defined."""
    if group.lengths is None:
        return array
    inside = np.arange(group.steps)[:, None] < group.lengths
    return np.where(inside[..., None], array, 0.0)


@given(batches, st.sampled_from([None, "forward", "reverse"]))
def test_adjoints_of_sequences(batch, repeat):
    group = batch.group
    x = alive(group, batch.numbers(group.steps, group.rows, FEATURES))
    y = batch.numbers(batch.T, batch.B, FEATURES)
    assert inner(group.put(x, repeat), y) == pytest.approx(
        inner(x, alive(group, group.put_gradient(y, repeat))), abs=1e-12
    )
    assert inner(alive(group, group.take(y)), x) == pytest.approx(
        inner(y, group.take_gradient(x)), abs=1e-12
    )


@given(batches, st.sampled_from([(False,), (True,), (False, True)]))
def test_adjoints_of_states(batch, reverse):
    group, entries = batch.group, 2 * len(reverse)
    state, fresh = batch.numbers(entries, batch.B, FEATURES), batch.numbers(entries, FEATURES)
    new = batch.numbers(entries, group.rows, FEATURES)
    d_state, d_fresh = group.take_state_gradient(new, reverse)
    assert inner(group.take_state(state, fresh, reverse), new) == pytest.approx(
        inner(state, d_state) + inner(fresh, d_fresh), abs=1e-12
    )
    assert inner(group.take_state(None, fresh, reverse), new) == pytest.approx(
        inner(fresh, d_state.sum(axis=1) + d_fresh), abs=1e-12
    )
    assert inner(group.put_state(new, reverse), state) == pytest.approx(
        inner(new, group.put_state_gradient(state, reverse)), abs=1e-12
    )


def test_both_directions_share_a_regrouping():
    batch = Batch(8, 4, 3)
    group = batch.group
    state = batch.numbers(4, 4, FEATURES)
    both = group.take_state(state, None, (False, True))
    np.testing.assert_array_equal(both[0::2], group.take_state(state[0::2], None, (False,)))
    np.testing.assert_array_equal(both[1::2], group.take_state(state[1::2], None, (True,)))


@pytest.mark.parametrize("mask", ["prefix", None])
@pytest.mark.parametrize("lengths", [True, False])
def test_prefixes_are_lengths_without_copies(mask, lengths):
    batch = Batch(6, 4, 1, lengths, mask, resets=0.0)
    group = batch.group
    assert group.take(batch.x) is batch.x
    assert group.put(batch.x) is batch.x
    assert group.put_gradient(batch.x) is batch.x
    assert group.take_state(batch.state) is batch.state
    assert group.put_state(batch.state) is batch.state
    if mask is None:
        assert group.lengths is batch.lengths
    else:
        np.testing.assert_array_equal(
            group.lengths, np.minimum(batch.mask.sum(axis=0), batch.ends())
        )


def test_resets_at_first_steps_copy_no_sequence():
    batch = Batch(6, 3, 1, lengths=False, mask=None, resets=0.0)
    batch.resets = np.zeros((6, 3), bool)
    batch.resets[0, 1] = True
    group = batch.group
    assert group.take(batch.x) is batch.x
    assert group.lengths is None
    assert (group.take_state(batch.state)[0, 1] == 0).all()
    np.testing.assert_array_equal(group.take_state(batch.state)[0, ::2], batch.state[0, ::2])


def test_resets_and_masks_past_the_end_mean_nothing():
    x = np.ones((4, 1, 1))
    late = np.array([[False], [False], [True], [True]])
    group = regroup(4, 1, np.array([2]), late | True, late)
    assert group.take(x) is x
    state = np.ones((1, 1, 1))
    assert group.put_state(state) is state


def test_rows_without_a_real_step():
    group = regroup(
        3,
        2,
        None,
        np.zeros((3, 2), bool),
        np.array([[False, False], [False, True], [False, False]]),
    )
    state = np.ones((1, 2, 1))
    np.testing.assert_array_equal(group.put_state(group.take_state(state)).ravel(), [1, 0])
    reverse = group.take_state(state, None, (True,))
    np.testing.assert_array_equal(group.put_state(reverse, (True,)).ravel(), [1, 1])
    np.testing.assert_array_equal(group.lengths, [0, 0])


@pytest.mark.parametrize("T, B", [(0, 3), (3, 0), (0, 0)])
def test_empty_batches(T, B):
    flags = np.zeros((T, B), bool)
    group = regroup(T, B, np.zeros(B, np.int64), flags, flags)
    assert group.take(np.zeros((T, B, 2))).shape == (T, B, 2)
    assert group.put(np.zeros((T, B, 2)), "forward").shape == (T, B, 2)


def test_token_ids_are_taken():
    mask = np.array([[True, False], [False, True], [True, True]])
    ids = np.array([[1, 2], [3, 4], [5, 6]])
    taken = regroup(3, 2, None, mask).take(ids)
    np.testing.assert_array_equal(taken, [[1, 4], [5, 6]])
    assert taken.dtype == ids.dtype


def test_flags_are_checked():
    assert flag_array("mask", [[True], [False]], (2, 1)).shape == (2, 1)
    with pytest.raises(TypeError, match="mask: expected an array of bools, got int64"):
        flag_array("mask", np.ones((2, 1), np.int64), (2, 1))
    with pytest.raises(ValueError, match=r"resets: expected the shape \(2, 1\), got \(1, 2\)"):
        flag_array("resets", [[True, False]], (2, 1))


@given(st.integers(1, 6), st.integers(1, 4), st.integers(0, 2**32))
def test_reversed_rows(T, B, seed):
    rng = np.random.default_rng(seed)
    x, lengths = rng.normal(size=(T, B, 2)), rng.integers(0, T + 1, B)
    y = reverse_rows(x, lengths)
    for b, length in enumerate(lengths):
        np.testing.assert_array_equal(y[:length, b], x[:length, b][::-1])
        np.testing.assert_array_equal(y[length:, b], x[length:, b])
    np.testing.assert_array_equal(reverse_rows(y, lengths), x)
    np.testing.assert_array_equal(reverse_rows(x), reverse_rows(x, np.full(B, T)))


@pytest.mark.parametrize("mode", MERGE_MODES)
def test_merges_and_their_gradients(mode):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 3, 4, 5))
    want = {
        "concat": np.concatenate([a, b], axis=-1),
        "sum": a + b,
        "mean": (a + b) / 2,
        "mul": a * b,
    }[mode]
    np.testing.assert_array_equal(merge(a, b, mode), want)
    dy, da, db = rng.normal(size=want.shape), rng.normal(size=a.shape), rng.normal(size=a.shape)
    got = merge_gradient(dy, a, b, mode)
    step = 1e-6
    along = merge(a + step * da, b + step * db, mode) - merge(a - step * da, b - step * db, mode)
    assert inner(got[0], da) + inner(got[1], db) == pytest.approx(
        inner(dy, along) / (2 * step), rel=1e-6
    )
