"""Train on one long sequence with and without checkpoints: peak memory, time, the same bits.

    python benchmarks/checkpointing.py --steps 100000 --every 0 316

One process for each number of steps between checkpoints (0: none), in turn, `--repeat` times.
Memory is what the process has at its peak more than before the forward pass and the pullback, less
y and dx, which are results. Time is the processor time of the two.
"""

import argparse
import hashlib
import json
import statistics
import subprocess
import sys
import time

SHAPE = ("cell", "steps", "batch", "inputs", "hidden")


def memory(name):
    """Bytes from Linux; getrusage may tell the peak of the process that started this one."""
    with open("/proc/self/status") as lines:
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name))


def train(cell, steps, batch, inputs, hidden, every):
    """Run in a process of its own, as the peak of a process never falls."""
    import numpy as np

    import fastrnn

    fastrnn.set_num_threads(1)
    layer = getattr(fastrnn, cell)(inputs, hidden, seed=1)
    rng = np.random.default_rng(2)
    x = rng.standard_normal((steps, batch, inputs), np.float32)
    dy = rng.standard_normal((steps, batch, hidden), np.float32)

    def run(n):
        layer.zero_grad()
        (y, state), pullback = layer.vjp(x[:n], checkpoint_every=every or None)
        dx, dstate = pullback(dy[:n])
        return [y, dx, *state, *dstate, *(p.grad for p in layer.parameters().values())]

    run(100)
    before = memory("VmRSS")
    start = time.process_time()
    results = run(steps)
    seconds = time.process_time() - start
    print(
        json.dumps(
            {
                "bytes": memory("VmHWM") - before - results[0].nbytes - results[1].nbytes,
                "seconds": seconds,
                "hash": hashlib.sha256(b"".join(a.tobytes() for a in results)).hexdigest(),
            }
        )
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cell", default="LSTM", choices=["RNN", "LSTM", "GRU"])
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--inputs", type=int, default=64)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--every", type=int, nargs="+", default=[0, 316])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        return train(*(getattr(args, name) for name in SHAPE), args.every[0])
    runs = {every: [] for every in args.every}
    for _ in range(args.repeat):
        for every, done in runs.items():
            shape = [f"--{name}={getattr(args, name)}" for name in SHAPE]
            command = [sys.executable, __file__, "--child", *shape, "--every", str(every)]
            done.append(json.loads(subprocess.run(command, check=True, stdout=-1).stdout))
    if len({run["hash"] for done in runs.values() for run in done}) != 1:
        raise SystemExit("the bits differ")
    print("| cell | T | B | I | H | checkpoint_every | MiB beside y and dx | seconds |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for every, done in runs.items():
        mib = max(run["bytes"] for run in done) / 2**20
        seconds = statistics.median(run["seconds"] for run in done)
        shape = " | ".join(str(getattr(args, name)) for name in SHAPE)
        print(f"| {shape} | {every or 'None'} | {mib:.1f} | {seconds:.2f} |")
    return None


if __name__ == "__main__":
    main()
