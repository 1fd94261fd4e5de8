"""Streams: one long sequence cut into contiguous pieces, window by window."""

import tracemalloc

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


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "int64", "uint64"])
def test_windows_of_a_file_are_those_of_memory(tmp_path, dtype):
    ids = np.random.default_rng(0).integers(0, 200, 403)
    ids.astype(dtype).tofile(tmp_path / "ids")
    in_file = data.Streams(np.memmap(tmp_path / "ids", dtype, "r"), 5)
    for one, other in zip(
        data.StreamLoader(in_file, 7, partial=True),
        data.Streams(ids, 5).windows(7, partial=True),
        strict=True,
    ):
        for got, expected in zip(one[:2], other, strict=True):
            np.testing.assert_array_equal(got, expected)
            assert got.dtype == np.int64
            assert got.flags.c_contiguous


def test_streams_of_a_file_need_no_memory_of_its_size(tmp_path):
    size = 2**28  # a hole in a file: nothing of it is on the disk
    with open(tmp_path / "ids", "wb") as file:
        file.truncate(size)
    tracemalloc.start()
    streams = data.Streams(np.memmap(tmp_path / "ids", np.uint8, "r"), 8)
    next(streams.windows(50))
    list(data.StreamLoader(streams, 50).batches(start=len(streams) // 50 - 3))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < size / 1000


def test_windows_do_not_touch_the_ids():
    ids = np.arange(100)
    window, _ = next(data.Streams(ids, 1).windows(4))
    window[:] = -1
    np.testing.assert_array_equal(ids, np.arange(100))


def test_ids_beyond_int64_are_an_error():
    with pytest.raises(ValueError, match=r"ids: expected integers below 2\*\*63"):
        next(data.Streams(np.full(9, 2**63, np.uint64), 1).windows(2))


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
