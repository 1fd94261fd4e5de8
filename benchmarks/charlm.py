"""Train the character model with fastrnn and with a PyTorch program side by side; print a table.

    python benchmarks/charlm.py TEXT --cells lstm gru --seeds 1 2 --epochs 10 --threads 2

Both run as whole programs, one after the other, fastrnn and PyTorch in turn, so that a machine that
changes its speed does so for both. Needs an environment with torch and `fastrnn[train]`.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PEER = Path(__file__).with_name("charlm_torch.py")


def run(command):
    """Run one program; return the JSON object on its last line, with its wall time."""
    start = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result = json.loads(done.stdout.strip().splitlines()[-1])
    result["wall_seconds"] = time.perf_counter() - start
    return result


def programs(args, cell, seed, folder):
    """Return the two commands of one comparison."""
    shared = [f"--{name}={getattr(args, name)}" for name in ("epochs", "threads", "hidden")]
    shared += [f"--cell={cell}", f"--seed={seed}", f"--layers={args.layers}"]
    return {
        "PyTorch": [sys.executable, str(args.peer), args.text, *shared],
        "fastrnn": [
            *(sys.executable, "-m", "fastrnn.cli", "train", args.text, *shared),
            *("--out", folder, "--json"),
        ],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text")
    parser.add_argument("--cells", nargs="+", default=["lstm", "gru"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--peer", default=PEER, help="the PyTorch program (default: %(default)s)")
    args = parser.parse_args()
    print("| cell | program | seed | validation loss | seconds per epoch | wall seconds |")
    print("| --- | --- | --- | --- | --- | --- |", flush=True)
    for cell in args.cells:
        results = {"PyTorch": [], "fastrnn": []}
        for seed in args.seeds:
            with tempfile.TemporaryDirectory() as folder:
                for name, command in programs(args, cell, seed, folder).items():
                    result = run(command)
                    results[name].append(result)
                    print(
                        f"| {cell} | {name} | {seed} | {result['validation_loss']:.4f} | "
                        f"{result['seconds_per_epoch']:.2f} | {result['wall_seconds']:.1f} |",
                        flush=True,
                    )
        mean = {
            name: {
                key: statistics.mean(result[key] for result in rows)
                for key in ("validation_loss", "wall_seconds")
            }
            for name, rows in results.items()
        }
        loss = mean["fastrnn"]["validation_loss"] - mean["PyTorch"]["validation_loss"]
        ratio = mean["fastrnn"]["wall_seconds"] / mean["PyTorch"]["wall_seconds"]
        print(
            f"| {cell} | fastrnn - PyTorch, means | | {loss:+.4f} | | x {ratio:.2f} |", flush=True
        )


if __name__ == "__main__":
    main()
