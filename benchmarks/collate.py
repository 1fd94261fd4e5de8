"""Time to collate 100,000 sequences of mixed length, beside loops in Python, in turns.

    python benchmarks/collate.py [--rounds 7] [--json FILE]

Lengths are log-normal (median 8, 20 or 60, sigma 0.7), batches of similar lengths in random order.

- loop: what a script has, `out[: len(s), b] = s` into zeros, and the lengths;
- elements: from element to element;
- list: `Rows` over arrays that Python owns one by one; flat: over a RaggedArray;
- pad_sequence: that function on a list of each batch;
- loader: a whole epoch of SequenceLoader(shuffle=True), which also draws its order;
- copy: NumPy's plain copy of the data into memory that is there, the least there can be.

All give the same arrays and lengths, which is checked first.
"""

import argparse
import itertools
import json
import statistics
import time
from pathlib import Path

import numpy as np

from fastrnn import _ragged, data

N = 100_000
CASES = [  # median length, shape of a step, dtype
    (8, (), "int64"),
    (8, (), "float32"),
    (20, (), "int64"),
    (20, (), "float32"),
    (60, (), "int64"),
    (20, (8,), "float32"),
    (60, (16,), "float32"),
]


def by_a_loop(sequences, batch_first):
    lengths = np.array([len(s) for s in sequences])
    T, B, first = lengths.max(), len(sequences), sequences[0]
    if batch_first:
        out = np.zeros((B, T, *first.shape[1:]), first.dtype)
        for b, s in enumerate(sequences):
            out[b, : len(s)] = s
    else:
        out = np.zeros((T, B, *first.shape[1:]), first.dtype)
        for b, s in enumerate(sequences):
            out[: len(s), b] = s
    return out, lengths


def by_elements(sequences, batch_first):
    lengths = np.array([len(s) for s in sequences])
    T, B, first = lengths.max(), len(sequences), sequences[0]
    out = np.zeros(((B, T) if batch_first else (T, B)) + first.shape[1:], first.dtype)
    for b, s in enumerate(sequences):
        for t, x in enumerate(s):
            out[(b, t) if batch_first else (t, b)] = x
    return out, lengths


def make(median, shape, dtype):
    """All sequences as one flat array, its offsets, and as a list of arrays of their own."""
    rng = np.random.default_rng(0)
    lengths = np.maximum(rng.lognormal(np.log(median), 0.7, N).astype(int), 1)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    flat = rng.integers(0, 99, (offsets[-1], *shape)).astype(dtype)
    return flat, offsets, [flat[a:b].copy() for a, b in itertools.pairwise(offsets)]


def ways(flat, offsets, sequences, batch, batch_first):
    """What is timed: by name, a function without arguments; the loop comes first."""
    order = np.argsort(np.diff(offsets), kind="stable")
    starts = np.random.default_rng(1).permutation(np.arange(0, N, batch))
    batches = [order[start : start + batch] for start in starts]
    chosen = {id(indices): indices.tolist() for indices in batches}

    def arrays(indices):
        return [sequences[n] for n in chosen[id(indices)]]

    lists, ragged = _ragged.Rows(sequences), data.RaggedArray(flat, offsets)
    zero = bytes(flat[0].nbytes)
    loader = data.SequenceLoader(sequences, batch_size=batch, shuffle=True, batch_first=batch_first)

    def each(collate):
        return lambda: [None for indices in batches if collate(indices) is None]

    collates = {
        "loop": lambda indices: by_a_loop(arrays(indices), batch_first),
        "elements": lambda indices: by_elements(arrays(indices), batch_first),
        "list": lambda indices: lists.pad(indices, batch_first, zero),
        "flat": lambda indices: ragged.rows.pad(indices, batch_first, zero),
        "pad_sequence": lambda indices: data.pad_sequence(arrays(indices), batch_first),
    }
    for indices in batches[:50]:
        expected, lengths = collates["loop"](indices)
        np.testing.assert_array_equal(collates["pad_sequence"](indices), expected)
        for name in ("elements", "list", "flat"):
            got, found = collates[name](indices)
            np.testing.assert_array_equal(got, expected)
            np.testing.assert_array_equal(found, lengths)
    found = {name: each(collate) for name, collate in collates.items()}
    found["loader"] = lambda: [None for batch in loader if batch is None]
    room = flat.copy()
    found["copy"] = lambda: np.copyto(room, flat)
    return found


def measure(runs, rounds):
    """Milliseconds of each round, all ways in turns."""
    times = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            begin = time.perf_counter()
            run()
            times[name].append(1e3 * (time.perf_counter() - begin))
    return times


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json")
    arguments = parser.parse_args()
    results = {}
    print("median ms (quartiles) of 100,000 sequences; x is times faster than the loop")
    for median, shape, dtype in CASES:
        content = make(median, shape, dtype)
        for batch, batch_first in ((32, False), (256, False), (256, True)):
            times = measure(ways(*content, batch, batch_first), arguments.rounds)
            layout = "(B, T)" if batch_first else "(T, B)"
            case = f"median {median}, {dtype}{list(shape)}, batch {batch}, {layout}"
            results[case] = times
            print(case)
            loop = statistics.median(times["loop"])
            for name, each in times.items():
                low, middle, high = statistics.quantiles(each, n=4)
                print(f"  {name:12} {middle:7.1f} ({low:.1f}-{high:.1f})  {loop / middle:5.1f} x")
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(results))


if __name__ == "__main__":
    main()
