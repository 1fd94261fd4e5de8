"""Batch scoring with Dask: the bits of one process, whatever the partitions and the scheduler."""

import numpy as np
import pytest

pytest.importorskip("safetensors")
pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
dask = pytest.importorskip("dask")
dd = pytest.importorskip("dask.dataframe")
pd = pytest.importorskip("pandas")

from batch_cases import assert_scored, make_model, make_sequences, make_table, saved
from fastrnn.interop.dask import Predictor, predict

# Of Dask's own calls of pandas.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def parquet(tmp_path):
    """A folder of three files, with four groups of rows in each."""
    table = make_table(make_sequences(60))
    folder = tmp_path / "in"
    folder.mkdir()
    for n in range(3):
        pq.write_table(table.slice(20 * n, 20), folder / f"{n}.parquet", row_group_size=5)
    return folder


@pytest.mark.parametrize("scheduler", ["synchronous", "threads", "processes"])
@pytest.mark.parametrize("partitions", [1, 7])
def test_parquet_to_parquet(tmp_path, parquet, scheduler, partitions):
    model = make_model()
    predictor = Predictor(saved(tmp_path, model), "x", num_threads=1)
    frame = dd.read_parquet(parquet, dtype_backend="pyarrow").repartition(npartitions=partitions)
    scored = predict(frame, predictor)
    with dask.config.set(scheduler=scheduler, num_workers=2):
        scored.to_parquet(tmp_path / "out")
    table = pq.read_table(tmp_path / "out", columns=["id", "output"])
    ids, outputs = (table[name].to_pylist() for name in ("id", "output"))
    assert_scored(model, make_sequences(60), ids, outputs)


@pytest.mark.parametrize("as_objects", [lambda x: x, list, np.ndarray.tolist])
def test_a_frame_of_objects_with_an_empty_partition(tmp_path, as_objects):
    model, sequences = make_model(), make_sequences(12)
    frame = pd.DataFrame({"id": range(12), "x": pd.Series(map(as_objects, sequences))})
    with dask.config.set({"dataframe.convert-string": False}):
        parts = dd.from_pandas(frame, npartitions=4)
    scored = predict(parts[parts["id"] > 5], Predictor(saved(tmp_path, model), "x")).compute(
        scheduler="synchronous"
    )
    assert str(scored.dtypes["output"]) == "list<item: list<item: float>>[pyarrow]"
    assert_scored(model, sequences[6:], [n - 6 for n in scored["id"]], scored["output"])


def test_wrong_arguments(tmp_path):
    predictor = Predictor(saved(tmp_path, make_model()), "z")
    frame = pd.DataFrame({"x": [[1.0]]})
    with pytest.raises(TypeError, match=r"frame: expected a dask.dataframe.DataFrame, got Data"):
        predict(frame, predictor)
    parts = dd.from_pandas(frame, npartitions=1)
    with pytest.raises(TypeError, match=r"column: expected sequences, .*convert-string"):
        predict(parts, Predictor(b"", "x"))
    with pytest.raises(TypeError, match="predictor: expected a Predictor, got str"):
        predict(parts, "model")
    with pytest.raises(ValueError, match="column: expected one of x, got 'z'"):
        predict(parts, predictor)
