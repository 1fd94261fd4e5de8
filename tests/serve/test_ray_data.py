"""Batch scoring with Ray Data: the bits of one process, whatever the blocks and the actors."""

import os

import pytest

pytest.importorskip("safetensors")
pq = pytest.importorskip("pyarrow.parquet")
ray = pytest.importorskip("ray")
pytest.importorskip("ray.data")

import numpy as np

from batch_cases import assert_scored, make_model, make_sequences, make_table, saved
from fastrnn.interop.ray import Predictor, predict
from ray_cases import cluster  # noqa: F401

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own
COUNT = 300


@pytest.mark.parametrize("actors, rows, files", [(1, None, 1), (2, 7, 3), (3, 100, 20)])
def test_parquet_to_parquet(cluster, tmp_path, actors, rows, files):  # noqa: F811
    model, sequences = make_model(), make_sequences(COUNT)
    table = make_table(sequences)
    (tmp_path / "in").mkdir()
    for n, ids in enumerate(np.array_split(np.arange(COUNT), files)):
        pq.write_table(table.take(ids), tmp_path / "in" / f"{n}.parquet")
    # By its bytes: as on machines that do not share files.
    predictor = Predictor(saved(tmp_path, model).read_bytes(), "x", num_threads=1)
    dataset = ray.data.read_parquet(str(tmp_path / "in"))
    scored = predict(dataset, predictor, actors=actors, batch_size=rows, num_cpus=0.5)
    scored.drop_columns(["x"]).write_parquet(str(tmp_path / "out"))
    found = pq.read_table(tmp_path / "out")
    ids, outputs = (found[name].to_pylist() for name in ("id", "output"))
    assert_scored(model, sequences, ids, outputs)


def test_each_actor_loads_the_model_once(cluster, tmp_path):  # noqa: F811
    from fastrnn.interop import batch

    predictor = Predictor(saved(tmp_path, make_model()), "x")

    class Counting:
        def __init__(self, predictor):
            self.predictor = predictor

        def __call__(self, table):
            scored = self.predictor(table)
            misses = batch._load_file.cache_info().misses
            return scored.append_column("loads", [[misses] * len(scored)]).append_column(
                "process", [[os.getpid()] * len(scored)]
            )

    dataset = ray.data.from_arrow(make_table(make_sequences(60))).repartition(12)
    rows = dataset.map_batches(
        Counting,
        fn_constructor_args=(predictor,),
        batch_format="pyarrow",
        concurrency=2,
        num_cpus=0.5,
        batch_size=5,
    ).take_all()
    assert len(rows) == 60
    assert {row["loads"] for row in rows} == {1}
    assert len({row["process"] for row in rows}) <= 2


def test_arrays_as_ray_keeps_them(cluster, tmp_path):  # noqa: F811
    model, sequences = make_model(), make_sequences(20)
    rows = [{"id": n, "x": sequence} for n, sequence in enumerate(sequences)]
    dataset = ray.data.from_items(rows, override_num_blocks=3)
    scored = predict(dataset, Predictor(saved(tmp_path, model), "x"), num_cpus=0.5).take_all()
    assert_scored(model, sequences, [row["id"] for row in scored], [r["output"] for r in scored])


def test_wrong_arguments():
    predictor = Predictor(b"", "x")
    with pytest.raises(TypeError, match=r"dataset: expected a ray.data.Dataset, got list"):
        predict([], predictor)
