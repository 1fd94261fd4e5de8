"""Does time depend on values? Random data beside zeros, saturated gates and denormals.

    python benchmarks/values.py --threads 1

Each row times one cell, mode and shape with the four kinds of data in turn, and prints the medians
relative to that of random data. Required: within 5 %.
"""

import argparse
import itertools
import statistics
import time

import numpy as np

import fastrnn

LAYERS = {
    "LSTM": fastrnn.LSTM,
    "GRU": fastrnn.GRU,
    "GRU before": lambda *sizes, seed: fastrnn.GRU(*sizes, reset_after=False, seed=seed),
    "RNN": fastrnn.RNN,
}
KINDS = ("random", "zero", "saturated", "denormal")
STEPS = 50


def denormal(rng, shape):
    """Numbers of 1e-42 to 1e-39: the smallest normal float32 is 1.2e-38."""
    return (rng.choice([-1.0, 1.0], shape) * 10 ** rng.uniform(-42, -39, shape)).astype(np.float32)


def make(cell, mode, hidden, batch, kind):
    """Return a function that does the work once; all arrays of the kind (random, for weights)."""
    rng = np.random.default_rng(1)
    layer = LAYERS[cell](hidden, hidden, seed=1)

    def data(*shape):
        if kind == "zero":
            return np.zeros(shape, np.float32)
        return (
            denormal(rng, shape) if kind == "denormal" else rng.standard_normal(shape, np.float32)
        )

    for parameter in layer.parameters().values():
        if kind in ("zero", "denormal"):
            parameter.data = data(*parameter.shape)
        elif kind == "saturated" and len(parameter.shape) == 1:  # |z| about 50, either sign
            parameter.data = rng.choice([-25.0, 25.0], parameter.shape).astype(np.float32)
    x, dy = data(STEPS, batch, hidden), data(STEPS, batch, hidden)
    state = data(1, batch, hidden)
    state = (state, data(1, batch, hidden)) if cell == "LSTM" else state

    def train():
        layer.zero_grad()
        layer.vjp(x, state)[1](dy)

    return (lambda: layer(x, state)) if mode == "inference" else train


def seconds(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def measure(cell, mode, hidden, batch, budget):
    """Return the median seconds of each kind, timed in turn, and the largest ratio to random."""
    functions = [make(cell, mode, hidden, batch, kind) for kind in KINDS]
    count = int(min(500, max(7, budget / sum(map(seconds, functions)))))
    rounds = [[seconds(function) for function in functions] for _ in range(count)]
    medians = [statistics.median(times) for times in zip(*rounds, strict=True)]
    return [medians[0] * 1e6] + [median / medians[0] for median in medians[1:]]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--budget", type=float, default=1.0, help="seconds for a row")
    parser.add_argument("--cells", nargs="+", default=list(LAYERS), choices=list(LAYERS))
    args = parser.parse_args()
    fastrnn.set_num_threads(args.threads)
    print("| work | H | B | random, µs | zero | saturated | denormal |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    shapes = itertools.product(args.cells, ("inference", "training"), (64, 256), (1, 32))
    for cell, mode, hidden, batch in shapes:
        row = measure(cell, mode, hidden, batch, args.budget)
        ratios = " | ".join(f"{ratio:.2f}" for ratio in row[1:])
        print(f"| {cell} {mode} | {hidden} | {batch} | {row[0]:.0f} | {ratios} |", flush=True)


if __name__ == "__main__":
    main()
