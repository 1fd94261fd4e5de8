"""Streams: one long sequence cut into contiguous pieces, window by window."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrnn import data


@given(st.integers(1, 7), st.integers(0, 60))
def test_streams_are_contiguous_pieces_and_targets_follow(B, more):
    ids = np.random.default_rng(more).integers(0, 9, B + 1 + more)
    streams = data.Streams(ids, B)
    T = (len(ids) - 1) // B
    assert (len(streams), streams.batch) == (T, B)
    for b in range(B):
        np.testing.assert_array_equal(streams.inputs[:, b], ids[b * T : (b + 1) * T])
        np.testing.assert_array_equal(streams.targets[:, b], ids[b * T + 1 : (b + 1) * T + 1])


@given(st.integers(1, 4), st.integers(4, 40), st.integers(1, 12))
def test_windows_cover_the_streams_in_order(B, length, seq_len):
    streams = data.Streams(np.arange(length + 1), B)
    windows = list(streams.windows(seq_len, partial=True))
    np.testing.assert_array_equal(np.concatenate([x for x, _ in windows]), streams.inputs)
    np.testing.assert_array_equal(np.concatenate([y for _, y in windows]), streams.targets)
    whole = list(streams.windows(seq_len))
    assert len(whole) == len(streams) // seq_len
    assert all(x.shape == y.shape == (seq_len, B) for x, y in whole)
    for one, other in zip(whole, windows, strict=False):
        np.testing.assert_array_equal(one, other)


def test_windows_are_contiguous_views():
    streams = data.Streams(np.arange(100), 5)
    for array in next(streams.windows(4)):
        assert array.flags.c_contiguous
        assert array.base is not None


def test_split_cuts_where_the_recipe_does():
    assert data.split("abcdefghij", 0.95) == ("abcdefghi", "j")
    first, last = data.split(np.arange(1115394))
    assert len(first) == int(1115394 * 0.95)
    assert last[0] == len(first)
    assert data.split("", 0.95) == ("", "")
    with pytest.raises(ValueError, match="fraction: expected a number from 0"):
        data.split("ab", 1.5)


@pytest.mark.parametrize(
    ("ids", "batch", "error", "message"),
    [
        (
            np.zeros((2, 2), int),
            1,
            ValueError,
            r"ids: expected 1 dimension, got the shape \(2, 2\)",
        ),
        (np.zeros(9), 1, TypeError, "ids: expected an array of integers, got float64"),
        (np.zeros(5, int), 5, ValueError, r"ids: expected at least batch \+ 1 = 6, got 5"),
        ([], 1, ValueError, r"ids: expected at least batch \+ 1 = 2, got 0"),
        (np.zeros(5, int), 0, ValueError, "batch: expected at least 1, got 0"),
        (np.zeros(5, int), 2.0, TypeError, "batch: expected an integer"),
    ],
)
def test_streams_reject(ids, batch, error, message):
    with pytest.raises(error, match=message):
        data.Streams(ids, batch)


def test_windows_reject():
    with pytest.raises(ValueError, match="seq_len: expected at least 1, got 0"):
        next(data.Streams(np.arange(9), 2).windows(0))
