"""RaggedArray in memory and in files, frames as sequences, and what collates them all."""

import pickle
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrnn import _ragged, data
from fastrnn.data.ragged import HEADER

DTYPES = ["bool", "uint8", "int16", "float32", "float64", ">f4", "complex128"]


@st.composite
def sequences(draw):
    dtype = draw(st.sampled_from(DTYPES))
    shape = draw(st.sampled_from([(), (1,), (3,), (2, 2), (0,)]))
    lengths = draw(st.lists(st.integers(0, 40), min_size=1, max_size=20))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    return [rng.integers(0, 99, (n, *shape)).astype(dtype) for n in lengths]


@given(sequences(), st.booleans(), st.integers(0, 50), st.data())
def test_rows_pad_as_a_loop_does(arrays, batch_first, shortest, draw):
    chosen = draw.draw(st.lists(st.integers(0, len(arrays) - 1), min_size=0, max_size=30))
    first = arrays[0]
    filler = np.full(first.shape[1:], 77).astype(first.dtype)
    lengths = [len(arrays[n]) for n in chosen]
    T = max([shortest, *lengths])
    expected = np.empty((T, len(chosen), *first.shape[1:]), first.dtype)
    expected[:] = filler
    for b, n in enumerate(chosen):
        expected[: len(arrays[n]), b] = arrays[n]
    if batch_first:
        expected = np.swapaxes(expected, 0, 1)
    flat = np.concatenate(arrays).astype(first.dtype)
    offsets = np.concatenate([[0], np.cumsum([len(a) for a in arrays])])
    for rows in (_ragged.Rows(arrays), _ragged.Rows(flat, offsets)):
        got, found = rows.pad(np.array(chosen, np.int64), batch_first, filler.tobytes(), shortest)
        assert got.dtype == first.dtype
        np.testing.assert_array_equal(got, expected)
        assert found.tolist() == lengths
        assert rows.lengths.tolist() == [len(a) for a in arrays]


def test_large_batches_let_the_lock_go_and_are_the_same():
    rng = np.random.default_rng(0)
    arrays = [rng.integers(0, 9, n) for n in rng.integers(0, 3000, 70)]
    for batch_first in (False, True):
        got = data.pad_sequence(arrays, batch_first)
        for b, array in enumerate(arrays):
            column = got[b] if batch_first else got[:, b]
            np.testing.assert_array_equal(column[: len(array)], array)
            assert not column[len(array) :].any()


def test_rows_reject_what_would_read_outside():
    rows = _ragged.Rows([np.arange(3), np.arange(2)])
    for index in (-1, 2, 2**62, -(2**63)):
        with pytest.raises(IndexError, match=f"indices: expected 0 to 1, got {index} at index 1"):
            rows.pad(np.array([0, index]), False, bytes(8))
    for indices in (np.zeros(2), np.zeros((1, 1), np.int64), np.arange(4)[::2], [0], None):
        with pytest.raises(TypeError):
            rows.pad(indices, False, bytes(8))
    with pytest.raises(ValueError, match="padding: expected 8 bytes, got 4"):
        rows.pad(np.array([0]), False, bytes(4))
    for source in ([np.array([None])], [[1, 2]], [np.array(1)]):
        with pytest.raises(TypeError, match="source: expected arrays of numbers"):
            _ragged.Rows(source)
    for other in (np.zeros(2), np.zeros((2, 1), int), np.arange(4)[::2], [1], np.zeros(2, ">i8")):
        with pytest.raises(ValueError, match=r"source: expected arrays like the first, .* at 1"):
            _ragged.Rows([np.arange(3), other])
    for offsets in ([0, 4], [-1, 2], [2, 1], [0, 2**62], [-(2**63), 2**62]):
        with pytest.raises(ValueError, match="offsets: expected rising numbers from 0 to 3"):
            _ragged.Rows(np.arange(3), np.array(offsets))


def test_rows_keep_their_arrays_alive():
    rows = _ragged.Rows([np.full(1000, n) for n in range(100)])
    for _ in range(100):
        np.zeros(1000)  # would take the place of what was let go
    got, _ = rows.pad(np.arange(100), True, bytes(8))
    np.testing.assert_array_equal(got, np.arange(100)[:, np.newaxis] * np.ones((1, 1000), int))


# --- RaggedArray ----------------------------------------------------------------------------------


@given(sequences())
def test_a_ragged_array_is_its_sequences(arrays):
    offsets = np.concatenate([[0], np.cumsum([len(a) for a in arrays])])
    ragged = data.RaggedArray(np.concatenate(arrays), offsets)
    assert len(ragged) == len(arrays)
    for got in (list(ragged), [ragged[n - len(arrays)] for n in range(len(arrays))]):
        for one, other in zip(got, arrays, strict=True):
            np.testing.assert_array_equal(one, other)
    with pytest.raises(IndexError):
        ragged[len(arrays)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (3,), (2, 2)])
def test_files_keep_the_sequences(tmp_path, dtype, shape):
    rng = np.random.default_rng(0)
    arrays = [rng.integers(0, 99, (n, *shape)).astype(dtype) for n in (3, 0, 5)]
    data.write_ragged(tmp_path / "new" / "some", iter(arrays))
    loaded = data.RaggedArray.load(tmp_path / "new" / "some")
    assert isinstance(loaded.flat, np.memmap)
    assert not loaded.flat.flags.writeable
    assert loaded.flat.dtype == arrays[0].dtype
    for one, other in zip(loaded, arrays, strict=True):
        np.testing.assert_array_equal(one, other)
    loaded.save(tmp_path / "again")
    for part in ("flat.npy", "offsets.npy"):
        first = (tmp_path / "new" / "some" / part).read_bytes()
        assert first == (tmp_path / "again" / part).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "new"]


def test_files_larger_than_what_is_allocated(tmp_path):
    step = np.ones((1000, 50), np.float32)
    tracemalloc.start()
    data.write_ragged(tmp_path / "some", (step[: n % 1000] for n in range(300)))
    loader = data.SequenceLoader(data.RaggedArray.load(tmp_path / "some"), shuffle=True)
    batches = loader.batches()
    next(batches)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (tmp_path / "some" / "flat.npy").stat().st_size > 8e6
    assert peak < 3e6


def broken(folder, flat=None, offsets=None):
    """A folder of sequences with other content in one of its files."""
    data.write_ragged(folder, [[1.0, 2.0], [3.0]])
    for name, array in (("flat", flat), ("offsets", offsets)):
        if isinstance(array, bytes):
            (folder / f"{name}.npy").write_bytes(array)
        elif array is not None:
            np.save(folder / f"{name}.npy", array, allow_pickle=True)
    return folder


@pytest.mark.parametrize(
    ("flat", "offsets", "message"),
    [
        (None, np.array([0, 4]), "offsets: expected rising numbers from 0 to 3, got 0 and 4"),
        (None, np.array([0, 2, 1]), "offsets: expected rising"),
        (None, np.array([-1, 2]), "offsets: expected rising"),
        (None, np.array([0.0, 2.0]), "offsets: expected an array of integers"),
        (None, np.array([[0, 2]]), "offsets: expected the shape"),
        (None, np.array([0]), "offsets: expected the shape"),
        (np.array([None]), None, "Array can't be memory-mapped: Python objects"),
        (np.array(["a"]), None, "flat: expected an array of numbers, got <U1"),
        (np.array(1.0), None, "flat: expected a C-contiguous array"),
        (np.asfortranarray(np.ones((3, 2))), None, "flat: expected a C-contiguous array"),
        (b"", None, ""),
        (b"not a file of numpy", None, ""),
        (None, pickle.dumps([0, 3]), ""),
    ],
)
def test_broken_files_are_an_error(tmp_path, flat, offsets, message):
    folder = broken(tmp_path / "some", flat, offsets)
    with pytest.raises(ValueError, match=f"some: not a folder of sequences: .*{message}"):
        data.RaggedArray.load(folder)


def test_a_file_cut_short_is_an_error(tmp_path):
    folder = broken(tmp_path / "some")
    whole = (folder / "flat.npy").read_bytes()
    assert len(whole) == HEADER + 3 * 8
    (folder / "flat.npy").write_bytes(whole[:-1])
    with pytest.raises(ValueError, match="not a folder of sequences"):
        data.RaggedArray.load(folder)
    (folder / "flat.npy").unlink()
    with pytest.raises(FileNotFoundError):
        data.RaggedArray.load(folder)


def test_writing_rejects_and_leaves_nothing(tmp_path):
    for wrong, error, message in (
        ([], ValueError, "sequences: expected at least one, got none"),
        ([[1], ["a"]], TypeError, r"sequences\[1\]: expected numbers"),
        ([[1.0], [1]], TypeError, r"sequences\[1\]: expected float64 as the first, got int64"),
        ([[1], [[1]]], ValueError, r"sequences\[1\]: expected \(\) after the first axis"),
    ):
        with pytest.raises(error, match=message):
            data.write_ragged(tmp_path / "some", wrong)
        assert list(tmp_path.iterdir()) == []
    data.write_ragged(tmp_path / "some", [[1]])
    with pytest.raises(FileExistsError, match="some: expected a new folder"):
        data.write_ragged(tmp_path / "some", [[1]])


@pytest.mark.parametrize(
    ("flat", "offsets", "error", "message"),
    [
        ([1, 2], [0, 2], TypeError, "flat: expected an array of numbers, got list"),
        (np.array(["a"]), [0, 1], TypeError, "flat: .* got <U1"),
        (np.arange(4)[::2], [0, 2], ValueError, "flat: expected a C-contiguous"),
        (np.arange(4), [0.0, 2.0], TypeError, "offsets"),
        (np.arange(4), [], ValueError, "offsets: expected the shape"),
    ],
)
def test_ragged_array_rejects(flat, offsets, error, message):
    with pytest.raises(error, match=message):
        data.RaggedArray(flat, offsets)


# --- frames ---------------------------------------------------------------------------------------


def test_sequences_from_frame():
    pandas = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    frame = pandas.DataFrame(
        {"who": rng.integers(0, 9, 60), "x": rng.random(60), "y": rng.random(60)},
        index=rng.permutation(60),
    )
    found, keys = data.sequences_from_frame(frame, by="who")
    assert list(keys) == list(dict.fromkeys(frame["who"]))
    for key, sequence in zip(keys, found, strict=True):
        np.testing.assert_array_equal(sequence, frame[frame["who"] == key][["x", "y"]])
    only, _ = data.sequences_from_frame(frame, "who", "y")
    np.testing.assert_array_equal(only[2], found[2][:, 1])
    labels = pandas.Series(range(9), index=range(9))
    loader = data.SequenceLoader(found, labels.loc[keys], dtype="float32")
    assert sum(len(batch.indices) for batch in loader) == len(keys)

    with pytest.raises(KeyError, match="nobody"):
        data.sequences_from_frame(frame, "nobody")
    with pytest.raises(ValueError, match="frame: expected at least one row"):
        data.sequences_from_frame(frame[:0], "who")
    with pytest.raises(ValueError, match="by: expected a value in each row, got none in row 1"):
        data.sequences_from_frame(pandas.DataFrame({"who": [1, None], "x": 1}), "who")
    with pytest.raises(TypeError, match="columns: expected numbers, got object"):
        data.sequences_from_frame(pandas.DataFrame({"who": [1], "x": ["a"], "y": [1]}), "who")
    with pytest.raises(TypeError, match="frame: expected a DataFrame, got dict"):
        data.sequences_from_frame({}, "who")


def test_nothing_imports_pandas():
    script = "import sys, fastrnn.data; assert 'pandas' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)
