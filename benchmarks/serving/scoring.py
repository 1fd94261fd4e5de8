"""Score a data set larger than the memory that is allowed; speed, memory, and the same bits.

    python benchmarks/serving/scoring.py --gigabytes 2 --limit 1.0
    python benchmarks/serving/scoring.py --engine dask --gigabytes 2 --limit 1.5

Writes a Parquet file of sequences of different lengths, scores it in a process of its own whose
address space beyond what it has after its imports is limited (RLIMIT_AS, Linux), and compares the
scores of some sequences, to the bit, with the model run over each alone.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import fastrnn
from fastrnn.interop.batch import Predictor

I, H, O = 40, 128, 10  # noqa: E741
ROWS, LONGEST = 250, 400  # of a group of rows: 8 MB
GIB = 1 << 30


def make_model():
    layers = fastrnn.GRU(I, H, seed=1), fastrnn.LastStep(), fastrnn.Linear(H, O, seed=2)
    return fastrnn.Sequential(*layers)


def make_group(number):
    """Return one group of rows: ids, and sequences of 1 to LONGEST steps."""
    rng = np.random.default_rng(number)
    lengths = rng.integers(1, LONGEST + 1, ROWS)
    values = rng.standard_normal((lengths.sum(), I), np.float32)
    steps = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), I)
    offsets = pa.array(np.cumsum([0, *lengths]), pa.int32())
    ids = pa.array(np.arange(number * ROWS, (number + 1) * ROWS))
    return pa.table({"id": ids, "x": pa.ListArray.from_arrays(offsets, steps)})


def write(path, gigabytes):
    """Write the data set; return the number of groups and of steps."""
    groups = steps = size = 0
    with pq.ParquetWriter(
        path, make_group(0).schema, compression="none", use_dictionary=False
    ) as sink:
        while size < gigabytes * GIB:
            table = make_group(groups)
            sink.write_table(table)
            groups, size = groups + 1, size + table.nbytes
            steps += table.nbytes // (4 * I)
    return groups, steps


def score(engine, source, target, model, threads):
    """Score with an engine; what the limited process does."""
    predictor = Predictor(model, "x", "score", num_threads=threads)
    if engine == "dask":
        import dask
        import dask.dataframe as dd

        from fastrnn.interop.dask import predict

        frame = dd.read_parquet(source, dtype_backend="pyarrow", split_row_groups=4)
        scored = predict(frame, predictor).drop(columns="x")
        with dask.config.set(scheduler="threads", num_workers=2):
            scored.to_parquet(target)
        return
    sink = None
    for batch in pq.ParquetFile(source).iter_batches(ROWS):
        table = predictor(pa.Table.from_batches([batch])).drop_columns(["x"])
        sink = sink or pq.ParquetWriter(target, table.schema)
        sink.write_table(table)
    sink.close()


def run_limited(arguments):
    """Limit the address space, score, and say what it took."""
    if arguments.engine == "dask":
        import dask.dataframe  # noqa: F401 - before the limit
    if arguments.limit:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        most = used + int(arguments.limit * GIB)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    before = resource.getrusage(resource.RUSAGE_SELF)
    began = time.perf_counter()
    score(arguments.engine, *arguments.run, arguments.threads)
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(
        f"{time.perf_counter() - began:.2f} {cpu:.2f} {before.ru_maxrss / 1024:.0f} "
        f"{after.ru_maxrss / 1024:.0f}"
    )


def is_right(target, model, groups):
    """Whether scores have the bits of the model over each sequence alone."""
    table = pq.read_table(target, columns=["id", "score"]).sort_by("id")
    if table["id"].to_pylist() != list(range(groups * ROWS)):
        return False
    for number in np.random.default_rng(0).integers(0, groups, 5):
        for row, x in enumerate(make_group(int(number))["x"].to_pylist()[:20]):
            expected, _ = model(np.array(x, np.float32)[:, None])
            got = table["score"][int(number) * ROWS + row].as_py()
            if not np.array_equal(np.array(got, np.float32), expected[0]):
                return False
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--limit", type=float, default=1.0, help="GiB; 0: none")
    parser.add_argument("--engine", choices=("loop", "dask"), default="loop")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--run", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        return run_limited(arguments)
    with tempfile.TemporaryDirectory() as folder:
        source, target, model = (f"{folder}/{name}" for name in ("in", "out", "m.safetensors"))
        fastrnn.save(make_model(), model)
        groups, steps = write(source, arguments.gigabytes)
        size = os.path.getsize(source)
        command = [sys.executable, __file__, *sys.argv[1:], "--run", source, target, model]
        # Arrow's own allocator reserves more address space than it uses.
        environment = {**os.environ, "ARROW_DEFAULT_MEMORY_POOL": "system"}
        said = subprocess.run(
            command, check=True, stdout=subprocess.PIPE, text=True, env=environment
        ).stdout
        wall, cpu, before, most = map(float, said.split())
        print(
            f"{arguments.engine}: {size / GIB:.2f} GiB, {groups * ROWS:,} sequences, {steps:,} "
            f"steps, limit {arguments.limit:g} GiB: {wall:.1f} s, {cpu:.1f} s of processors, "
            f"{steps / cpu:,.0f} steps a core-second; memory {before:.0f} MiB after imports, "
            f"at most {most:.0f} MiB"
        )
        right = is_right(target, make_model(), groups)
        print(f"the bits of each sequence alone: {'yes' if right else 'NO'}")
        return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
