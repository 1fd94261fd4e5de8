"""A model over tables of Arrow, in one process."""

import pickle

import numpy as np
import pytest

import fastrnn

pa = pytest.importorskip("pyarrow")
pytest.importorskip("safetensors")

from batch_cases import (
    alone,
    assert_scored,
    make_model,
    make_sequences,
    make_table,
    saved,
)
from fastrnn.interop import batch
from fastrnn.interop.batch import Predictor


@pytest.mark.parametrize("max_steps", [1, 30, 10**6])
def test_the_bits_are_those_of_each_sequence_alone(tmp_path, max_steps):
    model, sequences = make_model(), make_sequences(50)
    predictor = Predictor(saved(tmp_path, model), "x", "y", batch_size=7, max_steps=max_steps)
    table = make_table(sequences)
    cut = pa.concat_tables([table.slice(30), table.slice(0, 1), table.slice(1, 29)])
    for given in (table, cut):
        scored = predictor(given)
        assert scored.column_names == ["id", "x", "y"]
        assert_scored(model, sequences, scored["id"].to_pylist(), scored["y"].to_pylist())


def test_a_model_comes_as_bytes_or_as_a_path_and_through_pickle(tmp_path):
    model, sequences = make_model(), make_sequences(9)
    path = saved(tmp_path, model)
    table = make_table(sequences)
    for source in (path, str(path), path.read_bytes()):
        predictor = pickle.loads(pickle.dumps(Predictor(source, "x")))
        scored = predictor(table)
        assert_scored(model, sequences, scored["id"].to_pylist(), scored["output"].to_pylist())


def test_a_process_loads_a_file_once_until_it_changes(tmp_path, monkeypatch):
    loads = []
    monkeypatch.setattr(batch, "load", lambda path: (loads.append(path), fastrnn.load(path))[1])
    path = saved(tmp_path, make_model())
    table = make_table(make_sequences(5))
    for _ in range(3):
        Predictor(path, "x")(table)
    assert loads == [str(path)]
    other = fastrnn.Sequential(fastrnn.GRU(3, 4, seed=5), fastrnn.Linear(4, 2, seed=6))
    fastrnn.save(other, path)
    outputs = Predictor(path, "x")(table)["output"].to_pylist()
    assert_scored(other, make_sequences(5), range(5), outputs)
    assert len(loads) == 2


def lists_of(kind, inner=None):
    def made(sequences):
        rows = [list(map(list, sequence)) for sequence in sequences]
        return pa.array(rows, kind(inner or pa.list_(pa.float64())))

    return made


@pytest.mark.parametrize(
    "made",
    [
        lists_of(pa.large_list),
        lists_of(pa.list_, pa.list_(pa.float32(), 3)),
        lists_of(pa.list_, pa.large_list(pa.float32())),
    ],
)
def test_all_kinds_of_lists_are_taken(tmp_path, made):
    model, sequences = make_model(), make_sequences(20)
    table = pa.table({"id": range(20), "x": made(sequences)})
    scored = Predictor(saved(tmp_path, model), "x")(table)
    assert_scored(model, sequences, range(20), scored["output"].to_pylist())


def test_tensors_of_arrow_are_taken(tmp_path):
    model = make_model()
    dense = np.random.default_rng(0).standard_normal((6, 4, 3), np.float32)
    table = pa.table({"x": pa.FixedShapeTensorArray.from_numpy_ndarray(dense)})
    scored = Predictor(saved(tmp_path, model), "x")(table)
    assert_scored(model, list(dense), range(6), scored["output"].to_pylist())


def test_whole_numbers_one_by_one_are_tokens_and_side_by_side_features(tmp_path):
    texts = [[1, 4, 2], [0], [], [3, 3]]
    model = fastrnn.Sequential(fastrnn.Embedding(5, 3, seed=0), *make_model())
    scored = Predictor(saved(tmp_path, model), "x")(pa.table({"x": texts}))
    ids = [np.array(text, np.int64) for text in texts]
    assert_scored(model, ids, range(4), scored["output"].to_pylist())

    model = make_model()
    rows = [[[1, 2, 3]], [[0, 0, 7], [5, 5, 5]]]
    scored = Predictor(saved(tmp_path, model), "x")(pa.table({"x": rows}))
    features = [np.array(row, np.float32) for row in rows]
    assert_scored(model, features, range(2), scored["output"].to_pylist())


def test_one_number_in_a_step_needs_no_list(tmp_path):
    model = fastrnn.Sequential(fastrnn.LSTM(1, 4, seed=0), fastrnn.Linear(4, 2, seed=0))
    rows = [[0.5, -1.0], [], [2.0]]
    scored = Predictor(saved(tmp_path, model), "x")(pa.table({"x": rows}))
    sequences = [np.array(row, np.float32)[:, None] for row in rows]
    assert_scored(model, sequences, range(3), scored["output"].to_pylist())


@pytest.mark.parametrize("last", [fastrnn.LastStep, fastrnn.MeanPooling])
def test_a_model_that_pools_gives_one_list_for_each_sequence(tmp_path, last):
    model = fastrnn.Sequential(fastrnn.GRU(3, 5, seed=0), last(), fastrnn.Linear(5, 2, seed=0))
    sequences = make_sequences(20, longest=4)
    assert any(len(sequence) == 0 for sequence in sequences)
    predictor = Predictor(saved(tmp_path, model), "x", max_steps=3)
    scored = predictor(make_table(sequences))
    for sequence, output in zip(sequences, scored["output"].to_pylist(), strict=True):
        expected = model(sequence[:, None])[0][0]
        np.testing.assert_array_equal(np.array(output, np.float32), expected)


def test_the_type_of_outputs_does_not_depend_on_the_rows(tmp_path):
    predictor = Predictor(saved(tmp_path, make_model()), "x")
    table = make_table([np.zeros((0, 3), np.float32)] * 3)
    for part in (table, table.slice(0, 0)):
        assert predictor(part)["output"].type == predictor.type
        assert predictor(part)["output"].to_pylist() == [[]] * len(part)


def test_the_order_of_columns_stays_where_outputs_are_replaced(tmp_path):
    model, sequences = make_model(), make_sequences(4)
    scored = Predictor(saved(tmp_path, model), "x", "x")(make_table(sequences))
    assert scored.column_names == ["id", "x"]
    assert_scored(model, sequences, range(4), scored["x"].to_pylist())


def test_double_precision_stays(tmp_path):
    model = fastrnn.GRU(3, 2, dtype="float64", seed=0)
    sequences = make_sequences(5)
    scored = Predictor(saved(tmp_path, model), "x")(make_table(sequences))
    for sequence, output in zip(sequences, scored["output"].to_pylist(), strict=True):
        expected = alone(model, sequence.astype(np.float64))
        np.testing.assert_array_equal(np.array(output).reshape(-1, 2), expected, strict=True)


@pytest.mark.parametrize(
    "column, error, message",
    [
        ([1.0, 2.0], TypeError, "x: expected a column of lists, got double"),
        ([["a"], ["b"]], TypeError, "x: expected numbers in its lists, got string"),
        ([[[[1.0]]]], TypeError, "x: expected numbers in its lists, got list"),
        ([[1.0], None], ValueError, "x: expected no missing values, got 1"),
        ([[1.0, None]], ValueError, "x: expected no missing values, got 1"),
        ([[[1.0, 2.0, None]]], ValueError, "x: expected no missing values, got 1"),
        ([[[1.0, 2.0, 3.0], [1.0]]], ValueError, "x: expected 3 numbers in each step, got 1"),
        ([[[1.0, 2.0]]], ValueError, "3"),  # the model's own
    ],
)
def test_columns_that_hold_no_sequences(tmp_path, column, error, message):
    predictor = Predictor(saved(tmp_path, make_model()), "x")
    with pytest.raises(error, match=message):
        predictor(pa.table({"x": column}))


def test_wrong_arguments(tmp_path):
    path = saved(tmp_path, make_model())
    for arguments, error, message in [
        ((3, "x"), TypeError, "model: expected the path of a file .* got int"),
        ((path, 3), TypeError, "column: expected the name of a column, got 3"),
        ((path, "x", None), TypeError, "output: expected the name of a column, got None"),
    ]:
        with pytest.raises(error, match=message):
            Predictor(*arguments)
    for name in ("batch_size", "max_steps", "num_threads"):
        with pytest.raises(ValueError, match=f"{name}: expected at least 1, got 0"):
            Predictor(path, "x", **{name: 0})
    with pytest.raises(ValueError, match="column: expected one of id, x, got 'z'"):
        Predictor(path, "z")(make_table([]))
    with pytest.raises(TypeError, match=r"table: expected a pyarrow.Table, got dict"):
        Predictor(path, "x")({})
    with pytest.raises(FileNotFoundError, match="absent"):
        Predictor(tmp_path / "absent", "x")(make_table([]))
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        Predictor(b"nothing", "x")(make_table([]))
