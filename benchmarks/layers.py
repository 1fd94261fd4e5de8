"""Time recurrent layers beside PyTorch's: same weights and input, in turn, medians and quartiles.

    python benchmarks/layers.py --threads 1 2

Each row first checks that both give the same outputs. Needs torch. One subprocess per thread count.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time

SHAPES = {  # T, B, I, H, layers
    "inference": [
        (100, 64, 256, 256, 1),
        (100, 1, 128, 256, 1),
        (1, 1, 128, 256, 1),
        (50, 8, 128, 256, 1),
        (200, 64, 32, 32, 1),
        (50, 32, 128, 128, 1),
    ],
    "step": [(1, 1, 128, 256, 1)],
    "training": [
        (50, 50, 65, 128, 2),
        (50, 32, 64, 128, 1),
        (200, 1, 64, 256, 1),
        (100, 64, 128, 256, 2),
    ],
}


def make(mode, cell, T, B, I, H, layers):  # noqa: E741
    """Return two functions that do the same work and give the same y: PyTorch's and fastrnn's."""
    import numpy as np
    import torch

    import fastrnn

    torch_layer = getattr(torch.nn, cell)(I, H, layers)
    layer = getattr(fastrnn, cell)(I, H, layers)
    layer.load_state_dict(torch_layer.state_dict())
    rng = np.random.default_rng(0)
    x = rng.standard_normal((T, B, I), np.float32)
    dy = rng.standard_normal((T, B, H), np.float32)
    torch_x, torch_dy = torch.from_numpy(x), torch.from_numpy(dy)

    def torch_inference():
        with torch.inference_mode():
            return torch_layer(torch_x)[0]

    def torch_training():
        torch_layer.zero_grad()
        torch_x.grad = None
        y = torch_layer(torch_x.requires_grad_())[0]
        y.backward(torch_dy)
        return y.detach()

    def training():
        layer.zero_grad()
        (y, _), pullback = layer.vjp(x)
        pullback(dy)
        return y

    ours = {
        "inference": lambda: layer(x)[0],
        "step": lambda: layer.step(x[0])[0][None],
        "training": training,
    }
    return (torch_training if mode == "training" else torch_inference), ours[mode]


def seconds(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def row(mode, cell, shape, threads, budget):
    import numpy as np

    theirs, ours = make(mode, cell, *shape)
    error = np.abs(theirs().numpy() - ours()).max()
    if not error < 1e-4:
        raise SystemExit(f"{cell} {shape}: outputs differ by {error}")
    count = int(min(1000, max(5, budget / (seconds(theirs) + seconds(ours)))))
    times = [(seconds(theirs), seconds(ours)) for _ in range(count)]
    a, b = (statistics.quantiles([1e6 * t for t in side], n=4) for side in zip(*times, strict=True))
    T, B, I, H, layers = shape  # noqa: E741
    gates = {"RNN": 1, "LSTM": 4, "GRU": 3}[cell]
    work = 2 * T * B * (I + H + (layers - 1) * 2 * H) * gates * H * (3 if mode == "training" else 1)
    print(
        f"| {cell} {mode} | {' '.join(map(str, shape))} | {threads} | "
        f"{a[1]:.0f} ({a[0]:.0f}-{a[2]:.0f}) | {b[1]:.0f} ({b[0]:.0f}-{b[2]:.0f}) | "
        f"{a[1] / b[1]:.2f} | {work / b[1] / 1e3:.0f} |",
        flush=True,
    )


def measure(threads, budget):
    import torch

    import fastrnn

    torch.set_num_threads(threads)
    fastrnn.set_num_threads(threads)
    for mode, shapes in SHAPES.items():
        for cell in ("LSTM", "GRU", "RNN"):
            for shape in shapes:
                row(mode, cell, shape, threads, budget)


def plot(rows, path):
    """Draw how many times faster than PyTorch each row of the table is."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"svg.hashsalt": "fastrnn", "font.size": 9, "svg.fonttype": "none"})
    works = list(dict.fromkeys((row[0], row[1]) for row in rows))
    threads = sorted({row[2] for row in rows}, key=int)
    figure, axes = plt.subplots(figsize=(8, 0.33 * len(works) + 1), layout="constrained")
    for i, count in enumerate(threads):
        ratio = {(row[0], row[1]): float(row[5]) for row in rows if row[2] == count}
        places = [y + 0.8 * (i + 0.5) / len(threads) - 0.4 for y in range(len(works))]
        label = f"{count} thread" + "s" * (count != "1")
        bars = axes.barh(places, [ratio[w] for w in works], 0.8 / len(threads), label=label)
        axes.bar_label(bars, fmt="%.1f", padding=2, fontsize=7)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_yticks(range(len(works)), [f"{work}  {shape}" for work, shape in works])
    axes.invert_yaxis()
    axes.set_xscale("log")
    ticks = [1, 2, 5, 10, 20]
    axes.set_xticks(ticks, [f"{tick}x" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("times as fast as PyTorch (work, then T B I H layers)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, metadata={"Date": None} if path.endswith(".svg") else None)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--seconds", type=float, default=1.0, help="per row (default: %(default)s)")
    parser.add_argument("--plot", metavar="FILE", help="draw the ratios (needs matplotlib)")
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        measure(args.measure, args.seconds)
        return
    print("| work | T B I H layers | threads | torch, µs | fastrnn, µs | ratio | GFLOP/s |")
    print("| --- | --- | --- | --- | --- | --- | --- |", flush=True)
    rows = []
    for threads in args.threads:
        command = [sys.executable, __file__, "--measure", str(threads)]
        with subprocess.Popen(
            [*command, "--seconds", str(args.seconds)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        ) as process:
            for line in process.stdout:
                print(line, end="", flush=True)
                rows.append([cell.strip() for cell in line.strip("|\n ").split("|")])
        if process.returncode:
            raise SystemExit(process.returncode)
    if args.plot:
        plot(rows, args.plot)


if __name__ == "__main__":
    main()
