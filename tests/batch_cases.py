"""Models and sequences that the tests of batch scoring share."""

import numpy as np
import pyarrow as pa

import fastrnn


def make_model():
    return fastrnn.Sequential(fastrnn.GRU(3, 5, seed=0), fastrnn.Linear(5, 2, seed=1))


def saved(folder, model):
    path = folder / "model.safetensors"
    fastrnn.save(model, path)
    return path


def make_sequences(count, seed=0, longest=20):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((n, 3), np.float32) for n in rng.integers(0, longest, count)]


def make_table(sequences):
    rows = [list(map(list, sequence)) for sequence in sequences]
    column = pa.array(rows, pa.list_(pa.list_(pa.float32())))
    return pa.table({"id": pa.array(range(len(rows))), "x": column})


def alone(model, sequence):
    """What a model gives for one sequence by itself."""
    return model(sequence[:, None])[0][:, 0]


def assert_scored(model, sequences, ids, outputs):
    """Each sequence's outputs have the bits of that sequence alone."""
    assert sorted(ids) == list(range(len(sequences)))
    for n, output in zip(ids, outputs, strict=True):
        got = np.array([list(step) for step in output], np.float32).reshape(-1, 2)
        np.testing.assert_array_equal(got, alone(model, sequences[n]), strict=True)
