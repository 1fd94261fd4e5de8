"""SequenceLoader: every example once, bounded padding, the same from one seed, from any source."""

import json
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrnn import data

lengths_of_all = st.lists(st.integers(0, 40), min_size=1, max_size=60)
options_of_loaders = st.fixed_dictionaries(
    {
        "batch_size": st.integers(1, 9),
        "shuffle": st.booleans(),
        "seed": st.integers(0, 5),
        "max_waste": st.sampled_from([0.0, 0.05, 0.1, 0.3, 0.7, 1.0]),
        "batch_first": st.booleans(),
    }
)


def make_sequences(lengths, shape=(2,), dtype=np.float32):
    rng = np.random.default_rng(len(lengths))
    return [rng.integers(1, 99, (n, *shape)).astype(dtype) for n in lengths]


def assert_same_batches(got, expected):
    got, expected = list(got), list(expected)
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        for mine, theirs in zip(one, other, strict=True):
            assert (mine is None) == (theirs is None)
            if mine is not None:
                assert mine.dtype == theirs.dtype
                np.testing.assert_array_equal(mine, theirs)


def padded_by_a_loop(sequences, T, batch_first, value=0):
    out = np.full((T, len(sequences), *sequences[0].shape[1:]), value, sequences[0].dtype)
    for b, sequence in enumerate(sequences):
        out[: len(sequence), b] = sequence
    return np.swapaxes(out, 0, 1) if batch_first else out


def padding_of(batches):
    """Padded and all elements, by the batches themselves; an empty sequence has a real step."""
    real = all_of_them = 0
    for batch in batches:
        real += np.maximum(batch.lengths, 1).sum()
        all_of_them += batch.inputs.shape[0] * batch.inputs.shape[1]
    return 1 - real / all_of_them


@given(lengths_of_all, options_of_loaders, st.integers(0, 3))
def test_every_sequence_comes_once_as_a_loop_pads_it(lengths, options, epoch):
    sequences = make_sequences(lengths)
    steps = make_sequences(lengths, (), np.int32)
    loader = data.SequenceLoader(
        sequences, steps, per_step=True, padding_value=-3, target_padding=7, **options
    )
    batches = list(loader.batches(epoch))
    assert len(batches) == len(loader)
    seen = np.concatenate([batch.indices for batch in batches])
    assert sorted(seen) == list(range(len(lengths)))
    for batch in batches:
        T = max(1, *(lengths[n] for n in batch.indices))
        assert 1 <= len(batch.indices) <= options["batch_size"]
        for padded, source, value in ((batch.inputs, sequences, -3), (batch.targets, steps, 7)):
            chosen = [source[n] for n in batch.indices]
            expected = padded_by_a_loop(chosen, T, options["batch_first"], value)
            np.testing.assert_array_equal(padded, expected)
            assert padded.dtype == expected.dtype
            assert padded.flags.c_contiguous
        if len(set(lengths)) == 1 and lengths[0]:
            assert batch.lengths is None
            assert batch.mask is None
        else:
            assert list(batch.lengths) == [lengths[n] for n in batch.indices]
            ones = [np.ones(lengths[n], bool) for n in batch.indices]
            np.testing.assert_array_equal(
                batch.mask, padded_by_a_loop(ones, T, options["batch_first"], False)
            )


@given(lengths_of_all, options_of_loaders, st.integers(0, 3))
def test_padding_is_bounded_in_every_epoch(lengths, options, epoch):
    lengths = [*lengths, 1, 41]  # so that they differ, and batches have lengths
    loader = data.SequenceLoader(make_sequences(lengths, ()), **options | {"batch_first": False})
    assert padding_of(loader.batches(epoch)) <= options["max_waste"] + 1e-12
    if min(lengths) > 0:
        assert loader.waste == pytest.approx(padding_of(loader.batches(0)), abs=1e-12)


@given(lengths_of_all, options_of_loaders)
def test_full_batches_alone(lengths, options):
    B = options["batch_size"]
    lengths = [1, 41, *lengths, *[5] * B]
    options["max_waste"] = max(0.95, options["max_waste"])  # smaller ones may be out of reach
    loader = data.SequenceLoader(make_sequences(lengths, ()), drop_last=True, **options)
    batches = list(loader)
    assert len(batches) == len(loader) == len(lengths) // B
    assert all(len(batch.indices) == B for batch in batches)
    assert len(np.unique(np.concatenate([b.indices for b in batches]))) == B * len(loader)
    assert padding_of(batches) <= options["max_waste"] + 1e-12


@pytest.mark.parametrize("shuffle", [False, True])
def test_full_batches_keep_a_bound_too(shuffle):
    lengths = np.random.default_rng(0).lognormal(3, 0.7, 1003).astype(int) + 1
    loader = data.SequenceLoader(
        make_sequences(lengths, ()), batch_size=16, shuffle=shuffle, max_waste=0.1, drop_last=True
    )
    for epoch in range(5):
        batches = list(loader.batches(epoch))
        assert {len(batch.indices) for batch in batches} == {16}
        assert len(batches) == len(loader) == 1003 // 16
        assert padding_of(batches) <= 0.1
    left = [set(range(1003)) - {n for b in loader.batches(e) for n in b.indices} for e in (0, 1)]
    assert (left[0] != left[1]) is shuffle


@given(lengths_of_all, options_of_loaders, st.integers(0, 3), st.integers(0, 70))
def test_batches_from_a_place_on_are_the_tail(lengths, options, epoch, start):
    sequences = make_sequences(lengths)
    loader = data.SequenceLoader(sequences, np.arange(len(lengths)), **options)
    again = data.SequenceLoader(sequences, np.arange(len(lengths)), **options)
    assert_same_batches(again.batches(epoch, start), list(loader.batches(epoch))[start:])


def test_shuffling_changes_company_and_order_with_epoch_and_seed():
    sequences = make_sequences(np.random.default_rng(0).integers(5, 60, 400), ())

    def groups(seed, epoch):
        loader = data.SequenceLoader(sequences, batch_size=8, shuffle=True, seed=seed)
        return [tuple(batch.indices) for batch in loader.batches(epoch)]

    first = groups(0, 0)
    assert groups(0, 0) == first
    for other in (groups(0, 1), groups(1, 0)):
        assert other != first
        assert len({frozenset(g) for g in other} & {frozenset(g) for g in first}) < len(first) // 4
    largest = [max(len(sequences[n]) for n in group) for group in first]
    assert largest not in (sorted(largest), sorted(largest, reverse=True))


def test_equal_lengths_keep_their_order_or_meet_anyhow():
    table = np.arange(60.0).reshape(10, 3, 2)
    loader = data.SequenceLoader(table, np.arange(10), batch_size=4)
    assert [batch.targets.tolist() for batch in loader] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    np.testing.assert_array_equal(next(iter(loader)).inputs, np.swapaxes(table[:4], 0, 1))
    assert loader.waste == 0
    assert next(iter(loader)).lengths is None
    shuffled = data.SequenceLoader(table, np.arange(10), batch_size=4, shuffle=True)
    meets = {tuple(sorted(b.targets)) for epoch in range(9) for b in shuffled.batches(epoch)}
    assert len(meets) > 15


def test_few_batches_beyond_the_least_for_usual_lengths():
    lengths = np.random.default_rng(0).lognormal(3, 0.7, 5000).astype(int) + 1
    loader = data.SequenceLoader(make_sequences(lengths, ()), shuffle=True)
    assert loader.waste < 0.1
    assert len(loader) < 1.1 * (5000 / 32)


# --- sources --------------------------------------------------------------------------------------


@given(lengths_of_all, options_of_loaders)
def test_all_sources_give_the_same(lengths, options):
    arrays = make_sequences(lengths)
    loader = data.SequenceLoader(arrays, **options)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    strided = [np.repeat(array, 2, axis=0)[::2] for array in arrays]
    as_objects = np.empty(len(arrays), object)
    as_objects[:] = arrays
    for source in (
        tuple(arrays),
        strided,
        as_objects,
        data.RaggedArray(np.concatenate(arrays), offsets),
    ):
        assert_same_batches(data.SequenceLoader(source, **options), loader)
    assert_same_batches(pickle.loads(pickle.dumps(loader)), loader)


def test_dense_arrays_of_any_layout_and_files(tmp_path):
    table = np.random.default_rng(0).random((23, 6, 3), np.float32)
    np.save(tmp_path / "table.npy", table)
    options = {"batch_size": 4, "shuffle": True}
    expected = list(data.SequenceLoader(list(table), **options))
    for source in (
        table,
        np.load(tmp_path / "table.npy", mmap_mode="r"),
        np.repeat(table, 2, axis=0)[::2],
        np.asfortranarray(table),
    ):
        assert_same_batches(data.SequenceLoader(source, **options), expected)
    assert np.asarray(expected[0].inputs).shape == (6, 4, 3)


def test_arrays_are_kept_and_not_copied():
    sequences = make_sequences([3, 2], ())
    loader = data.SequenceLoader(sequences)
    sequences[0][:] = 55
    sequences.clear()  # the loader has a list of its own
    assert next(iter(loader)).inputs[0].tolist() == [55]


def test_pandas():
    pandas = pytest.importorskip("pandas")
    frames = [pandas.DataFrame({"a": [1.0, 2], "b": [3.0, 4]}), pandas.DataFrame(np.ones((1, 2)))]
    labels = pandas.Series([5, 6], index=["x", "y"])
    loader = data.SequenceLoader(frames, labels, max_waste=1.0, dtype="float32")
    (batch,) = loader
    assert batch.inputs.tolist() == [[[1, 3], [1, 1]], [[2, 4], [0, 0]]]
    assert batch.inputs.dtype == np.float32
    assert batch.targets.tolist() == [5, 6]
    wide = pandas.DataFrame([[1, 2, 3], [4, 5, 6]])
    assert next(iter(data.SequenceLoader(wide))).inputs.tolist() == [[1, 4], [2, 5], [3, 6]]


# --- targets --------------------------------------------------------------------------------------


def test_targets_of_sequences_or_of_steps():
    ragged = make_sequences([2, 3])
    dense = np.ones((2, 4, 3), np.float32)

    def shapes(inputs, targets, **options):
        (batch,) = data.SequenceLoader(inputs, targets, max_waste=1.0, **options)
        return batch.targets.shape, batch.mask is not None

    assert shapes(ragged, [0, 1]) == ((2,), False)
    assert shapes(ragged, [[0, 1, 2], [1, 2, 3]]) == ((2, 3), False)
    assert shapes(ragged, [[0, 1], [1, 2, 3]]) == ((3, 2), True)
    assert shapes(ragged, data.RaggedArray(np.arange(5), [0, 2, 5])) == ((3, 2), True)
    assert shapes(ragged, [[0, 1], [1, 2, 3]], batch_first=True) == ((2, 3), True)
    assert shapes(dense, np.zeros((2, 4))) == ((4, 2), False)
    assert shapes(dense, np.zeros((2, 4)), per_step=False) == ((2, 4), False)
    assert shapes(dense, np.zeros((2, 5))) == ((2, 5), False)
    assert shapes(dense, np.zeros((2, 4, 6))) == ((4, 2, 6), False)


def test_dtype_converts_numbers_and_leaves_integer_targets():
    inputs = [np.array([[1], [2]], np.uint8), np.array([[3]], np.uint8)]
    (batch,) = data.SequenceLoader(inputs, [1, 2], max_waste=1.0, dtype=np.float32)
    assert batch.inputs.dtype == np.float32
    assert batch.inputs[:, :, 0].T.tolist() == [[1, 2], [3, 0]]
    assert batch.targets.dtype == np.int64
    (batch,) = data.SequenceLoader(inputs, [1.5, 2], max_waste=1.0, dtype=np.float32)
    assert batch.targets.dtype == np.float32


# --- what is rejected, what is told ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda make: make([]), ValueError, "inputs: expected at least one, got none"),
        (lambda make: make("ab"), TypeError, "inputs: expected a list of arrays, .* got str"),
        (lambda make: make(np.zeros(3)), ValueError, r"inputs: expected \(N, T\) or \(N, T, F\)"),
        (lambda make: make([[1], ["a"]]), TypeError, r"inputs\[1\]: expected numbers"),
        (lambda make: make([[1], [0.5]]), TypeError, r"inputs\[1\]: expected int64 as the first"),
        (lambda make: make(np.array([["a"]])), TypeError, "inputs: expected numbers, got <U1"),
        (lambda make: make([[1]], [1, 2]), ValueError, "targets: expected 1, one for each seq"),
        (lambda make: make([[1]], ["a"]), TypeError, "targets: expected numbers, got <U1"),
        (lambda make: make([[1], [1, 2]], [[1], [2, 3, 4]]), ValueError, "targets"),
        (
            lambda make: make([[1], [1, 2]], [[1], [2, 3, 4]], per_step=True),
            ValueError,
            r"targets\[1\]: expected the 2 steps of its sequence, got 3",
        ),
        (lambda make: make([[1]], batch_size=0), ValueError, "batch_size: expected at least 1"),
        (lambda make: make([[1]], max_waste=1.5), ValueError, "max_waste: expected a number"),
        (lambda make: make([[1]], shuffle=1), TypeError, "shuffle: expected True or False"),
        (lambda make: make([[1]], seed=-1), ValueError, "seed: expected at least 0"),
        (lambda make: make([[1]], padding_value=0.5), ValueError, "padding_value: expected a val"),
        (
            lambda make: make([[1]], [[1]], target_padding=0.5),
            ValueError,
            "target_padding: expected a value of int64",
        ),
        (lambda make: make([[1]], dtype="int8"), TypeError, "dtype: expected float32 or float64"),
        (lambda make: make([[1]], drop_last=True), ValueError, "batch_size: expected at most"),
        (
            lambda make: make([[1], [1] * 9], batch_size=2, drop_last=True),
            ValueError,
            r"max_waste: batches of exactly 2 \(drop_last\) waste up to 0.444, got 0.1",
        ),
    ],
)
def test_loader_rejects(call, error, message):
    with pytest.raises(error, match=message):
        call(data.SequenceLoader)


def test_config_tells_loaders_apart():
    sequences = make_sequences([3, 4], ())
    config = data.SequenceLoader(sequences).config()
    assert json.loads(json.dumps(config)) == config
    for other in ({"seed": 1}, {"shuffle": True}, {"max_waste": 0.2}, {"batch_size": 3}):
        assert data.SequenceLoader(sequences, **other).config() != config
    assert data.SequenceLoader(sequences[:1]).config() != config
    assert "batch_size=32" in repr(data.SequenceLoader(sequences))


def test_as_loader():
    sequences = make_sequences([3, 4], ())
    loader = data.SequenceLoader(sequences)
    assert data.as_loader(loader) is loader
    made = data.as_loader((sequences, [1, 0]), batch_size=1, shuffle=True)
    assert isinstance(made, data.SequenceLoader)
    assert made.config()["batch_size"] == 1
    assert_same_batches(data.as_loader((sequences, None)), loader)
    assert len(data.as_loader(np.zeros((70, 2, 3)))) == 3
    with pytest.raises(TypeError, match="its own options, got batch_size, shuffle besides"):
        data.as_loader(loader, shuffle=True, batch_size=3)
    for wrong, words in (
        (sequences, r"a list; .* \(sequences, None\)"),
        (next(iter(loader)), "one Batch"),
        ((1, 2, 3), "a tuple of 3"),
        ("text", "got str"),
    ):
        with pytest.raises(TypeError, match=f"data: expected a Loader.*{words}"):
            data.as_loader(wrong)
