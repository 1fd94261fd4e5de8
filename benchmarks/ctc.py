"""Time of ctc_loss with its gradient, softmax included, beside PyTorch's, in turns.

    python benchmarks/ctc.py    # with PyTorch beside it if that is installed

T 100 frames, B 32, C 80 classes, S 20 labels: lines of text for a recogniser.
"""

import statistics
import time

import numpy as np

from fastrnn.losses import ctc_loss

T, B, C, S = 100, 32, 80, 20
rng = np.random.default_rng(0)
logits = rng.standard_normal((T, B, C)).astype(np.float32)
targets = rng.integers(1, C, (B, S))


def ours():
    ctc_loss(logits, targets)


def torchs(torch):
    functional = torch.nn.functional
    lengths, labels = torch.full((B,), T), torch.full((B,), S)
    x, wanted = torch.tensor(logits, requires_grad=True), torch.tensor(targets)

    def run():
        x.grad = None
        functional.ctc_loss(functional.log_softmax(x, -1), wanted, lengths, labels).backward()

    return run


def seconds(run):
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def main():
    runs = {"fastrnn": ours}
    try:
        import torch
    except ImportError:
        print("PyTorch is not installed")
    else:
        torch.set_num_threads(1)
        runs["PyTorch, 1 thread"] = torchs(torch)
    times = {name: [] for name in runs}
    for _ in range(100):
        for name, run in runs.items():
            times[name].append(1e3 * seconds(run))
    for name, all_of in times.items():
        print(f"{name:20} median {statistics.median(all_of):6.2f} ms, shortest {min(all_of):6.2f}")


if __name__ == "__main__":
    main()
