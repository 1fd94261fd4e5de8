"""Padding, packing and tokenising against plain Python loops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrnn import _ragged, data

DTYPES = ("float32", "float64", "int64", "int32")


@st.composite
def batches(draw, smallest=1):
    """A list of sequences of different lengths: one dtype, the same axes after the first."""
    dtype = draw(st.sampled_from(DTYPES))
    shape = draw(st.sampled_from([(), (1,), (3,), (2, 2), (0,)]))
    lengths = draw(st.lists(st.integers(0, 6), min_size=smallest, max_size=7))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    return [rng.integers(-99, 99, (n, *shape)).astype(dtype) for n in lengths]


def padded_by_loops(sequences, batch_first, padding_value, T):
    shape = sequences[0].shape[1:]
    leading = (len(sequences), T) if batch_first else (T, len(sequences))
    out = np.empty(leading + shape, sequences[0].dtype)
    for b in range(len(sequences)):
        for t in range(T):
            element = sequences[b][t] if t < len(sequences[b]) else padding_value
            out[(b, t) if batch_first else (t, b)] = element
    return out


def packed_by_loops(sequences):
    order = sorted(range(len(sequences)), key=lambda b: -len(sequences[b]))
    steps = [[b for b in order if t < len(sequences[b])] for t in range(max(map(len, sequences)))]
    elements = [sequences[b][t] for t, step in enumerate(steps) for b in step]
    return elements, [len(step) for step in steps], order


def assert_same(got, expected):
    expected = np.asarray(expected)
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    np.testing.assert_array_equal(got, expected)


# --- padding --------------------------------------------------------------------------------------


@given(batches(), st.booleans(), st.sampled_from([0.0, -1.0]))
def test_pad_sequence_equals_loops(sequences, batch_first, padding_value):
    T = max(map(len, sequences))
    got = data.pad_sequence(sequences, batch_first, padding_value)
    assert_same(got, padded_by_loops(sequences, batch_first, padding_value, T))
    assert got.flags.c_contiguous


@given(batches(), st.booleans())
def test_unpad_sequence_inverts_pad_sequence(sequences, batch_first):
    padded = data.pad_sequence(sequences, batch_first, 77)
    found = data.unpad_sequence(padded, [len(s) for s in sequences], batch_first)
    assert len(found) == len(sequences)
    for got, expected in zip(found, sequences, strict=True):
        assert_same(got, expected)


@given(batches(), st.booleans(), st.integers(0, 3))
def test_lengths_to_mask_marks_the_real_elements(sequences, batch_first, more):
    lengths = [len(s) for s in sequences]
    T = max(lengths) + more
    got = data.lengths_to_mask(lengths, T, batch_first)
    ones = [np.ones(n, bool) for n in lengths]
    assert_same(got, padded_by_loops(ones, batch_first, False, T))
    if not more:
        assert_same(data.lengths_to_mask(lengths, batch_first=batch_first), got)


def test_padding_takes_lists_and_strided_arrays():
    table = np.arange(24.0).reshape(4, 6)
    got = data.pad_sequence([table.T[:2], table[:, ::2].T, np.zeros((0, 4))], batch_first=True)
    assert_same(got[0], [*table.T[:2], np.zeros(4)])
    assert_same(got[1], table[:, ::2].T)
    assert_same(got[2], np.zeros((3, 4)))
    assert_same(data.pad_sequence([[1, 2], [3]]), np.array([[1, 3], [2, 0]]))
    assert_same(data.unpad_sequence(table.T, [1, 2, 0, 6])[3], table[3])


def test_padding_keeps_nan_and_read_only_input():
    sequence = np.array([np.nan, 1.0])
    sequence.flags.writeable = False
    assert_same(data.pad_sequence([sequence, np.zeros(3)], padding_value=np.inf)[2], [np.inf, 0])
    assert np.isnan(data.pad_sequence([sequence])[0, 0])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: data.pad_sequence([]), ValueError, "sequences: expected at least one"),
        (lambda: data.pad_sequence([1.0]), ValueError, r"sequences\[0\]: expected at least 1 dim"),
        (
            lambda: data.pad_sequence([np.zeros((2, 3)), np.zeros((2, 4))]),
            ValueError,
            r"sequences\[1\]: expected \(3,\) after the first axis, got \(4,\)",
        ),
        (
            lambda: data.pad_sequence([np.zeros(2), np.zeros(2, np.float32)]),
            TypeError,
            r"sequences\[1\]: expected float64 as the first, got float32",
        ),
        (lambda: data.pad_sequence([["a"]]), TypeError, r"sequences\[0\]: expected numbers"),
        (
            lambda: data.pad_sequence([np.array([None])]),
            TypeError,
            r"sequences\[0\]: expected numbers, got object",
        ),
        (lambda: data.pad_sequence([[1]], batch_first=2), TypeError, "batch_first"),
        (lambda: data.pad_sequence([[1]], padding_value=0.5), ValueError, "padding_value"),
        (lambda: data.pad_sequence([[1]], padding_value=np.nan), ValueError, "padding_value"),
        (
            lambda: data.unpad_sequence(np.zeros(3), [1]),
            ValueError,
            r"padded_sequences: expected at least 2 dimensions, got the shape \(3,\)",
        ),
        (lambda: data.unpad_sequence([[None]], [1]), TypeError, "padded_sequences: .* object"),
        (
            lambda: data.unpad_sequence(np.zeros((4, 2)), [1]),
            ValueError,
            r"lengths: expected the shape \(2,\), got the shape \(1,\)",
        ),
        (
            lambda: data.unpad_sequence(np.zeros((4, 2)), [1, 5]),
            ValueError,
            "lengths: expected 0 to 4, got 5 at index 1",
        ),
        (
            lambda: data.unpad_sequence(np.zeros((4, 2)), [1, -1]),
            ValueError,
            "lengths: expected at least 0, got -1",
        ),
        (lambda: data.unpad_sequence(np.zeros((4, 2)), [1.0, 2.0]), TypeError, "lengths"),
        (lambda: data.lengths_to_mask([[1]]), ValueError, "lengths: expected 1 dimension"),
        (lambda: data.lengths_to_mask([3], 2), ValueError, "at most total_length = 2, got 3"),
    ],
)
def test_padding_rejects(call, error, message):
    with pytest.raises(error, match=message):
        call()


# --- packing --------------------------------------------------------------------------------------


@given(batches(), st.booleans())
def test_pack_equals_loops(sequences, batch_first):
    elements, batch_sizes, order = packed_by_loops(sequences)
    padded = data.pad_sequence(sequences, batch_first)
    lengths = [len(s) for s in sequences]
    got = data.pack_padded_sequence(padded, lengths, batch_first, enforce_sorted=False)
    shape = (len(elements), *sequences[0].shape[1:])
    assert_same(got.data, np.array(elements, sequences[0].dtype).reshape(shape))
    assert_same(got.batch_sizes, np.array(batch_sizes, np.int64))
    assert_same(got.sorted_indices, np.array(order, np.int64))
    assert_same(got.sorted_indices[got.unsorted_indices], np.arange(len(sequences)))
    for one, other in zip(data.pack_sequence(sequences, enforce_sorted=False), got, strict=True):
        assert_same(one, other)


@given(batches(), st.booleans(), st.integers(0, 2))
def test_pad_packed_inverts_pack(sequences, batch_first, more):
    T = max(map(len, sequences)) + more
    packed = data.pack_sequence(sequences, enforce_sorted=False)
    padded, lengths = data.pad_packed_sequence(packed, batch_first, 7, T if more else None)
    assert_same(padded, padded_by_loops(sequences, batch_first, 7, T))
    assert_same(lengths, np.array([len(s) for s in sequences], np.int64))
    for got, expected in zip(data.unpack_sequence(packed), sequences, strict=True):
        assert_same(got, expected)


def test_empty_batch_is_legal():
    padded = np.zeros((3, 0, 2))
    packed = data.pack_padded_sequence(padded, [])
    assert_same(packed.data, np.zeros((0, 2)))
    assert data.unpad_sequence(padded, []) == []
    assert_same(data.pad_packed_sequence(packed, total_length=3)[0], padded)
    assert_same(data.lengths_to_mask([]), np.zeros((0, 0), bool))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sorted_indices": np.array([0, 0])}, "sorted_indices: expected a permutation"),
        ({"sorted_indices": np.array([0, 2])}, "sorted_indices: expected a permutation"),
        ({"batch_sizes": np.array([1, 2])}, "batch_sizes: expected 1 to 1, got 2 at step 1"),
        ({"batch_sizes": np.array([3])}, "batch_sizes: expected 1 to 2, got 3 at step 0"),
        ({"batch_sizes": np.array([2, 1, 0])}, "batch_sizes: expected 1 to 1, got 0 at step 2"),
        ({"batch_sizes": np.array([2])}, "data: expected 2 elements by batch_sizes, got 3"),
        ({"data": np.zeros(4)}, "data: expected 3 elements by batch_sizes, got 4"),
    ],
)
def test_pad_packed_rejects_a_broken_packed_sequence(change, message):
    packed = data.pack_sequence([np.zeros(2), np.zeros(1)])
    with pytest.raises(ValueError, match=message):
        data.pad_packed_sequence(packed._replace(**change))


def test_packing_rejects():
    with pytest.raises(ValueError, match="falling order, got another; enforce_sorted=False"):
        data.pack_padded_sequence(np.zeros((3, 2)), [1, 2])
    with pytest.raises(ValueError, match="lengths: expected at most 3, got 4"):
        data.pack_padded_sequence(np.zeros((3, 2)), [4, 2])
    with pytest.raises(ValueError, match="batch_sizes: expected at most 1 steps, got 2"):
        data.pad_packed_sequence(data.pack_sequence([np.zeros(2)]), total_length=1)
    with pytest.raises(TypeError, match="total_length"):
        data.pad_packed_sequence(data.pack_sequence([np.zeros(2)]), total_length=2.0)


# --- the loops themselves: nothing outside the arrays ---------------------------------------------


@pytest.mark.parametrize("row", [-1, 3, 2**62, -(2**63)])
def test_rows_outside_the_table_are_an_error_and_nothing_is_written(row):
    rows = np.array([0, row])
    table, flat = np.zeros((3, 4), np.uint8), np.ones((2, 4), np.uint8)
    with pytest.raises(IndexError, match=f"rows: expected 0 to 2, got {row} at index 1"):
        _ragged.put_rows(flat, rows, table)
    with pytest.raises(IndexError, match="rows"):
        _ragged.take_rows(table, rows, flat)
    assert not table.any()
    assert flat.all()


@pytest.mark.parametrize("shape", [(1, 4), (3, 4), (2, 3)])
def test_rows_of_another_shape_are_an_error(shape):
    rows, table = np.array([0, 1]), np.zeros((3, 4), np.uint8)
    with pytest.raises(ValueError, match="expected 2 rows of 4 bytes"):
        _ragged.put_rows(np.zeros(shape, np.uint8), rows, table)
    with pytest.raises(ValueError, match="expected 2 rows of 4 bytes"):
        _ragged.take_rows(table, rows, np.zeros(shape, np.uint8))


@pytest.mark.parametrize("length", [-1, 5, 2**62])
def test_sequence_rows_checks_lengths(length):
    with pytest.raises(ValueError, match=f"lengths: expected 0 to 4, got {length} at index 0"):
        _ragged.sequence_rows(np.array([length]), 4, False)


# --- text -----------------------------------------------------------------------------------------

texts = st.text(st.characters(), max_size=30)  # surrogates and astral characters too


def table_of(characters):
    table = np.full(max(map(ord, characters), default=-1) + 1, -1, np.int64)
    for index, character in enumerate(characters):
        table[ord(character)] = index
    return table


@given(texts)
def test_characters_are_the_sorted_set(text):
    assert _ragged.characters(text) == "".join(sorted(set(text)))


@given(texts, texts, st.integers(0, 5))
def test_encode_equals_a_loop(text, known, replacement):
    characters = "".join(sorted(set(known)))
    ids, first_unknown = _ragged.encode(text, table_of(characters), replacement)
    expected = [characters.index(c) if c in characters else replacement for c in text]
    assert_same(ids, np.array(expected, np.int64))
    unknown = [n for n, c in enumerate(text) if c not in characters]
    assert first_unknown == (unknown[0] if unknown else -1)


@given(st.text(st.characters(), min_size=1, max_size=30))
def test_decode_inverts_encode(text):
    characters = _ragged.characters(text)
    ids, _ = _ragged.encode(text, table_of(characters))
    assert _ragged.decode(ids, characters) == text


def test_text_rejects():
    assert _ragged.decode(np.zeros(0, np.int64), "ab") == ""
    for token in (-1, 2, 2**62):
        with pytest.raises(ValueError, match=f"ids: expected 0 to 1, got {token} at index 1"):
            _ragged.decode(np.array([0, token]), "ab")
    with pytest.raises(TypeError):
        _ragged.encode(b"ab", table_of("ab"))
    with pytest.raises(TypeError):
        _ragged.characters(None)
