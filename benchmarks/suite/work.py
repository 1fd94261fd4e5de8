"""What the benchmarks share: the cases of this checkout, and the work of a case.

The cases are those of the checkout that holds the suite and not of the commit that is measured, so
that two commits do the same work.
"""

import importlib.util
import os
import sys
from pathlib import Path

import numpy as np

import fastrnn

THREADS = (1, 2)  # the same on every machine, so that results have the same names


def _load_cases():
    path = Path(__file__).parents[2] / "fastrnn" / "bench" / "cases.py"
    spec = importlib.util.spec_from_file_location("benchmark_cases", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


CASES = {case.name(): case for case in _load_cases().GRID}


def names(*modes):
    """Return the names of the cases of these modes."""
    return [name for name, case in CASES.items() if case.mode in modes]


def use_threads(threads):
    """Set the number of threads; asv leaves a benchmark out where the machine has fewer."""
    if threads > len(os.sched_getaffinity(0)):
        raise NotImplementedError(f"fewer than {threads} processors")
    fastrnn.set_num_threads(threads)


def work_of(case):
    """Return a function that does the work of the case once."""
    layer = getattr(fastrnn, case.cell)(
        case.I, case.H, case.layers, bidirectional=case.bidirectional, seed=0
    )
    rng = np.random.default_rng(1)
    x = rng.standard_normal((case.T, case.B, case.I), np.float32)
    lengths = np.array(case.lengths()) if case.padding else None
    if case.mode == "inference":
        return lambda: layer(x, lengths=lengths)
    if case.mode == "step":
        return _stream(layer, x[0])
    dy = rng.standard_normal((case.T, case.B, case.directions * case.H), np.float32)

    def train():
        layer.zero_grad()
        _, pullback = layer.vjp(x, lengths=lengths)
        pullback(dy)

    return train


def _stream(layer, x_t):
    state = None

    def step():
        nonlocal state
        _, state = layer.step(x_t, state)

    return step
