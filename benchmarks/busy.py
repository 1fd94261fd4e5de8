"""What another program costs that keeps a core busy, on one thread and on all.

    python benchmarks/busy.py

Threads that meet at each step wait for the slowest: where a core is taken, the one without a core.
"""

import argparse
import statistics
import subprocess
import sys
import time

import numpy as np

import fastrnn


def milliseconds(layer, x, budget):
    """Return the median and the mean time of a call, in ms."""
    layer(x)
    times, end = [], time.perf_counter() + budget
    while time.perf_counter() < end:
        start = time.perf_counter()
        layer(x)
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times), statistics.mean(times)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--budget", type=float, default=3.0, help="seconds for a figure")
    parser.add_argument("--busy", type=int, default=1, help="programs beside this one")
    args = parser.parse_args()
    layer = fastrnn.LSTM(128, 256, seed=0)
    x = np.random.default_rng(0).standard_normal((100, 1, 128), np.float32)
    most = fastrnn.get_num_threads()
    print("| LSTM T100 B1 I128 H256 | threads | median, ms | mean, ms |")
    print("| --- | ---: | ---: | ---: |")
    for busy in (0, args.busy):
        command = [sys.executable, "-c", "while True: pass"]
        others = [subprocess.Popen(command) for _ in range(busy)]
        try:
            for threads in sorted({1, most}):
                fastrnn.set_num_threads(threads)
                median, mean = milliseconds(layer, x, args.budget)
                beside = f"beside {busy} busy" if busy else "alone"
                print(f"| {beside} | {threads} | {median:.2f} | {mean:.2f} |", flush=True)
        finally:
            for other in others:
                other.kill()
                other.wait()


if __name__ == "__main__":
    main()
