"""Recurrent networks in JAX, by fastrnn and by `jax.lax.scan`, in turns: compiled calls.

    [taskset -c 0] python benchmarks/interop_jax.py [--seconds 1] [--only lstm-training]

Both use the processors that the process may run on. The scan has the products of all inputs before
the loop. Training is a forward pass and all gradients, that of the input included. Prints, per
case, the median times with quartiles and the scan's median divided by fastrnn's; before, the
results are compared. At the end: the median of the ratios of each group.
"""

import argparse
import os
import statistics

import jax
import jax.numpy as jnp
import numpy as np
from pairs import in_turns, show, show_head

import fastrnn
from fastrnn.bench.peers.base import Program
from fastrnn.interop import jax as interop

ENGINES = {"scan": "scan", "fastrnn": "ffi"}

# T, B, I, H, layers, directions.
TRAINING = [
    (200, 1, 64, 256, 1, 1),
    (100, 16, 256, 256, 1, 2),
    (50, 32, 64, 128, 1, 1),
    (100, 32, 128, 128, 1, 1),
    (100, 32, 16, 64, 1, 1),
    (64, 50, 65, 128, 2, 1),
    (100, 64, 128, 256, 2, 1),
]
INFERENCE = [
    (1, 1, 128, 256, 1, 1),
    (100, 1, 64, 128, 1, 1),
    (100, 1, 128, 256, 1, 1),
    (50, 8, 128, 256, 1, 1),
    (100, 16, 256, 256, 2, 2),
    (50, 32, 128, 128, 1, 1),
    (100, 32, 128, 128, 1, 1),
    (200, 64, 32, 32, 1, 1),
]
GROUPS = {
    f"{cell}-{mode}": [(cell, *shape) for shape in shapes]
    for cell in ("lstm", "gru", "rnn")
    for mode, shapes in (("training", TRAINING), ("inference", INFERENCE))
}


def program(cell, mode, engine, params, x, dy):
    """A compiled network, ready to run."""

    def forward(params, x):
        return getattr(interop, cell)(params, x, engine=engine)[0]

    def training(params, x):
        y, pullback = jax.vjp(forward, params, x)
        return y, pullback(dy)

    function = jax.jit(training if mode == "training" else forward)
    return Program(
        lambda: jax.block_until_ready(function(params, x)),
        lambda result: {str(i): np.asarray(a) for i, a in enumerate(jax.tree.leaves(result))},
    )


def compare(cell, mode, shape, seconds):
    """Time both; return their summaries and the largest relative difference of the results."""
    T, B, inputs, hidden, layers, directions = shape
    params = interop.init(
        jax.random.key(0), cell, inputs, hidden, num_layers=layers, bidirectional=directions == 2
    )
    x = jax.random.normal(jax.random.key(1), (T, B, inputs))
    dy = jax.random.normal(jax.random.key(2), (T, B, directions * hidden))
    programs = {
        name: program(cell, mode, engine, params, x, dy) for name, engine in ENGINES.items()
    }
    found = [p.arrays(p.run()) for p in programs.values()]
    difference = max(
        float(jnp.abs(found[0][name] - found[1][name]).max() / max(1, jnp.abs(a).max()))
        for name, a in found[0].items()
    )
    summaries = in_turns(programs, seconds)
    return summaries, difference


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=1.0, help="for each case")
    parser.add_argument("--only", choices=GROUPS, action="append", help="some of the groups")
    arguments = parser.parse_args()
    processors = len(os.sched_getaffinity(0))
    fastrnn.set_num_threads(processors)
    print(f"jax {jax.__version__}, {processors} processors; microseconds a call")
    show_head("scan")
    medians = {}
    for group in arguments.only or GROUPS:
        mode = group.partition("-")[2]
        print(f"-- {group}")
        ratios = [
            show(case, *compare(case[0], mode, case[1:], arguments.seconds))
            for case in GROUPS[group]
        ]
        medians[group] = statistics.median(ratios)
    for group, ratio in medians.items():
        print(f"{group}: {ratio:.2f} times as fast, the median")


if __name__ == "__main__":
    main()
