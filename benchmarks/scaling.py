"""How time grows: with T, with H, with threads, and with padding.

    python benchmarks/scaling.py

Prints, for each cell, R^2 of a straight line through the medians over T; the exponent e of
time ~ H^e where the products dominate; the time on one thread over that on each other number of
threads; and the time of a batch that is half padding over the share of its real steps.
"""

import argparse
import statistics
import time

import numpy as np

import fastrnn
from fastrnn.bench.cases import CELLS, Case

T_VALUES = (50, 100, 200, 400, 800)
H_VALUES = (128, 256, 512)


def work(case):
    """Return a function that does the case's work once."""
    layer = getattr(fastrnn, case.cell)(case.I, case.H, seed=0)
    x = np.random.default_rng(0).standard_normal((case.T, case.B, case.I), np.float32)
    lengths = case.lengths() if case.padding else None
    if case.mode == "inference":
        return lambda: layer(x, None, lengths)
    dy = np.ones((case.T, case.B, case.H), np.float32)

    def train():
        layer.zero_grad()
        layer.vjp(x, None, lengths)[1](dy)

    return train


def medians(cases, budget, threads=None):
    """Return the median seconds of each case, timed in turn; threads: for each, where given."""
    functions = [work(case) for case in cases]
    threads = threads or [fastrnn.get_num_threads()] * len(cases)

    def seconds(function, count):
        fastrnn.set_num_threads(count)
        start = time.perf_counter()
        function()
        return time.perf_counter() - start

    turn = list(zip(functions, threads, strict=True))
    for function, count in turn:
        seconds(function, count)
    one_round = sum(seconds(*each) for each in turn)
    rounds = [[seconds(*each) for each in turn] for _ in range(max(5, int(budget / one_round)))]
    return [statistics.median(times) for times in zip(*rounds, strict=True)]


def linear_in_steps(cell, mode, budget):
    """Return R^2 of time over T."""
    times = medians([Case(cell, mode, T, 8, 64, 128) for T in T_VALUES], budget)
    return np.corrcoef(T_VALUES, times)[0, 1] ** 2


def exponent_of_hidden(cell, mode, budget):
    """Return e of time ~ H^e by least squares on logarithms, with I = H, B = 64."""
    times = medians([Case(cell, mode, 20, 64, H, H) for H in H_VALUES], budget)
    return np.polyfit(np.log(H_VALUES), np.log(times), 1)[0]


def speedup(cell, mode, budget, counts):
    """Return the time on one thread over the time on each number of threads: B 128, H 256."""
    cases = [Case(cell, mode, 50, 128, 256, 256)] * (1 + len(counts))
    one, *others = medians(cases, budget, [1, *counts])
    return [one / other for other in others]


def cost_of_padding(cell, mode, budget):
    """Return the time of a batch that is half padding, over what its real steps would take."""
    full = Case(cell, mode, 100, 64, 256, 256)
    padded = Case(cell, mode, 100, 64, 256, 256, padding=0.5)
    whole, half = medians([full, padded], budget)
    return half / (whole * padded.rows() / full.rows())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, nargs="+", help="default: one for each core")
    parser.add_argument("--budget", type=float, default=4.0, help="seconds for a figure")
    args = parser.parse_args()
    most = fastrnn.get_num_threads()
    counts = args.threads or [most]
    print("| work | R² over T | exponent of H |", end="")
    print("".join(f" × on {count} threads |" for count in counts), "padded, over its real steps |")
    print("| --- |" + " ---: |" * (3 + len(counts)))
    for mode in ("inference", "training"):
        for cell in CELLS:
            fastrnn.set_num_threads(1)
            row = [
                f"{linear_in_steps(cell, mode, args.budget):.4f}",
                f"{exponent_of_hidden(cell, mode, args.budget):.2f}",
                *(f"{ratio:.2f}" for ratio in speedup(cell, mode, args.budget, counts)),
            ]
            fastrnn.set_num_threads(1)
            row.append(f"{cost_of_padding(cell, mode, args.budget):.2f}")
            print(f"| {cell} {mode} | {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
