"""Sliding windows of time series against loops."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrnn import data

sizes = st.integers(1, 5)


def make_series(steps, F=3):
    return np.random.default_rng(steps).integers(-99, 99, (steps, F)).astype(np.float32)


def windows_by_a_loop(tables, window, horizon, stride):
    """(inputs, targets) of each window, from series to series."""
    found = []
    for table in tables:
        start = 0
        while start + window + horizon <= len(table):
            end = start + window
            found.append((table[start:end], table[end : end + horizon]))
            start += stride
    return found


@given(
    st.lists(st.integers(0, 20), min_size=0, max_size=4),
    st.fixed_dictionaries({"window": sizes, "horizon": st.integers(0, 4), "stride": sizes}),
    st.fixed_dictionaries(
        {"batch_size": sizes, "shuffle": st.booleans(), "batch_first": st.booleans()}
    ),
    st.booleans(),
    st.integers(0, 30),
)
def test_every_window_comes_once(steps, shape, options, drop_last, start):
    tables = [make_series(n) for n in [*steps, 10]]
    expected = windows_by_a_loop(tables, **shape)
    loader = data.WindowLoader(tables, **shape, **options, drop_last=drop_last)
    batches = list(loader.batches(1))
    assert len(batches) == len(loader)
    seen = [n for batch in batches for n in batch.indices]
    B = options["batch_size"]
    many = len(expected) // B * B if drop_last else len(expected)
    assert len(set(seen)) == len(seen) == many
    assert options["shuffle"] or seen == list(range(many))
    for batch in batches:
        inputs = batch.inputs if options["batch_first"] else np.swapaxes(batch.inputs, 0, 1)
        assert batch.inputs.flags.c_contiguous
        assert (batch.targets is None) == (shape["horizon"] == 0)
        for b, n in enumerate(batch.indices):
            np.testing.assert_array_equal(inputs[b], expected[n][0])
            if batch.targets is not None:
                np.testing.assert_array_equal(batch.targets[b], expected[n][1])
    tail = list(loader.batches(1, start))
    assert [b.indices.tolist() for b in tail] == [b.indices.tolist() for b in batches[start:]]


def test_shuffling_follows_from_seed_and_epoch():
    def order(seed, epoch):
        loader = data.WindowLoader(np.arange(100.0), 3, shuffle=True, seed=seed)
        return [n for batch in loader.batches(epoch) for n in batch.indices]

    assert order(0, 0) == order(0, 0)
    assert len({tuple(order(*key)) for key in [(0, 0), (0, 1), (1, 0), (1, 1)]}) == 4


def test_columns_of_targets_and_those_known_ahead():
    table = make_series(9, 4)
    (batch,) = data.WindowLoader(table, 4, 2, targets=1, known=[3, -4], batch_first=True)
    for b in range(4):
        now, later = table[b : b + 4], table[b + 2 : b + 6][:, [3, 0]]
        np.testing.assert_array_equal(batch.inputs[b], np.concatenate([now, later], axis=1))
        np.testing.assert_array_equal(batch.targets[b], table[b + 4 : b + 6, 1])
    assert batch.targets.shape == (4, 2)
    (batch,) = data.WindowLoader(table, 4, 2, targets=[1, 3])
    np.testing.assert_array_equal(batch.targets[0], table[4:6, [1, 3]])
    (batch,) = data.WindowLoader(table[:, 0], 4, 2)
    assert (batch.inputs.shape, batch.targets.shape) == ((4, 4, 1), (4, 2))


def test_sources_give_the_same(tmp_path):
    pandas = pytest.importorskip("pandas")
    table = make_series(30).astype(np.float64)
    np.save(tmp_path / "table.npy", table)
    options = {"targets": 1, "known": 2, "shuffle": True, "batch_size": 4}
    expected = list(data.WindowLoader(table, 5, 2, **options))
    assert expected[0].inputs.dtype == expected[0].targets.dtype == np.float32
    frame = pandas.DataFrame(table, columns=["a", "b", "c"])
    frame.index = pandas.date_range("2001-01-01", periods=30)
    named = options | {"targets": "b", "known": ["c"]}
    for loader in (
        data.WindowLoader(np.load(tmp_path / "table.npy", mmap_mode="r"), 5, 2, **options),
        data.WindowLoader(np.asfortranarray(table), 5, 2, **options),
        data.WindowLoader(data.RaggedArray(table, [0, 30]), 5, 2, **options),
        data.WindowLoader(frame, 5, 2, **named),
        data.WindowLoader([frame], 5, 2, **named),
    ):
        for one, other in zip(loader, expected, strict=True):
            np.testing.assert_array_equal(one.inputs, other.inputs)
            np.testing.assert_array_equal(one.targets, other.targets)
    (batch,) = data.WindowLoader(frame["b"], 5, 2, dtype="float64")
    np.testing.assert_array_equal(batch.targets[-1], table[-2:, 1])
    assert batch.targets.dtype == np.float64
    assert next(iter(data.WindowLoader([1, 2, 3], 2))).targets.tolist() == [[3]]
    nested = next(iter(data.WindowLoader([[1, 2, 3], [4, 5, 6]], 2)))  # two series
    assert nested.targets.tolist() == [[3], [6]]


@given(st.integers(1, 20), sizes, sizes, st.booleans(), st.sampled_from([(), (2,), (2, 3)]))
def test_sliding_windows_are_views(more, window, stride, batch_first, shape):
    x = np.random.default_rng(0).random((window + more, *shape))
    got = data.sliding_windows(x, window, stride, batch_first)
    expected = [x[n : n + window] for n in range(0, len(x) - window + 1, stride)]
    np.testing.assert_array_equal(got, np.stack(expected, axis=0 if batch_first else 1))
    assert np.shares_memory(got, x)
    assert not got.flags.writeable


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda make: make(np.zeros(4), 3, 2), ValueError, r"window \+ horizon = 5 steps, got 4"),
        (lambda make: make(np.zeros((4, 2, 2)), 3), ValueError, r"series: expected real numbers"),
        (lambda make: make(["a", "b"], 1), TypeError, "series: expected numbers, got <U1"),
        (
            lambda make: make([np.zeros((4, 2)), np.zeros((4, 3))], 3),
            ValueError,
            r"series\[1\]: expected 2 columns as the first",
        ),
        (lambda make: make(np.zeros((9, 2)), 3, targets=2), ValueError, "targets: expected column"),
        (lambda make: make(np.zeros((9, 2)), 3, targets="a"), ValueError, "targets: .* got 'a'"),
        (lambda make: make(np.zeros((9, 2)), 3, targets=[]), ValueError, "targets: .* got none"),
        (lambda make: make(np.zeros((9, 2)), 3, 0, known=1), ValueError, "horizon: expected at"),
        (lambda make: make(np.zeros(9), 0), ValueError, "window: expected at least 1, got 0"),
        (lambda make: make(np.zeros(9), 3, stride=0), ValueError, "stride: expected at least 1"),
        (lambda make: make(np.zeros(9), 3, dtype=int), TypeError, "dtype: expected float32"),
        (lambda make: data.sliding_windows([1, 2], 3), ValueError, "x: expected at least window"),
    ],
)
def test_rejects(call, error, message):
    with pytest.raises(error, match=message):
        call(data.WindowLoader)


def test_frames_of_numbers_flags_and_missing_values():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"load": [0.5, 1, 2, 3], "holiday": [True, False, True, False]})
    (batch,) = data.WindowLoader(frame, 2, targets="load", known="holiday")
    assert batch.inputs[:, 1].tolist() == [[1, 0, 1], [2, 1, 0]]
    frame["load"] = pandas.array([1.5, None, 2, 3], "Float64")
    (batch,) = data.WindowLoader(frame, 3, targets="load")
    np.testing.assert_array_equal(batch.inputs[:, 0], [[1.5, 1], [np.nan, 0], [2, 1]])
    with pytest.raises(TypeError, match="series: expected numbers, got object"):
        data.WindowLoader(pandas.DataFrame({"a": [1, 2], "b": ["1", "2"]}), 1)


def test_frames_of_other_columns_are_rejected():
    pandas = pytest.importorskip("pandas")
    frames = [pandas.DataFrame({name: [1.0, 2, 3]}) for name in "ab"]
    with pytest.raises(ValueError, match="series: expected the same columns in all"):
        data.WindowLoader(frames, 1)
    with pytest.raises(ValueError, match=r"targets: expected columns of \['a'\], got 0"):
        data.WindowLoader(frames[0], 1, targets=0)


def test_config_is_plain():
    config = data.WindowLoader(np.zeros((9, 2)), 3, targets=[np.int64(1)]).config()
    assert json.loads(json.dumps(config)) == config
    assert config["targets"] == [1]
