"""The process that measures, for one number of threads: ``python -m fastrnn.bench.worker``.

Takes a job as JSON on standard input and writes events as lines of JSON to standard output:
``{"limits": ...}``, ``{"versions": ...}``, ``{"begin": case, "program": name}`` before each step
that might take the process down, ``{"result": case, "programs": ...}``. `runner` starts it.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

import fastrnn
from fastrnn import _core

from . import limits
from .cases import Case
from .measure import difference, interleave, settle
from .peers import OURS, PEERS, Program, UnsupportedError


def main() -> None:
    """Do the job that standard input describes."""
    job = json.load(sys.stdin)
    # Libraries print: what they print goes to standard error, so that events stay readable.
    events = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def report(event: dict[str, Any]) -> None:
        events.write(json.dumps(event) + "\n")

    def begin(index: int | None, program: str) -> None:
        report({"begin": index, "program": program})

    threads = job["threads"]
    if job["limits"]:
        machine = limits.measure(threads, partial(begin, None))
        report({"limits": machine.as_dict()})
        peers = [PEERS[name] for name in (OURS, *job["peers"])]
        report({"versions": {peer.name: peer.version() for peer in peers}})
    for index, values in job["cases"]:
        case = Case(**values)
        names = [name for name in job["peers"] if [index, name] not in job["excluded"]]
        programs, peak = measure_case(case, names, threads, job["seconds"], partial(begin, index))
        report({"result": index, "programs": programs, "peak": peak})


def measure_case(
    case: Case, peers: Sequence[str], threads: int, seconds: float, begin: Callable[[str], None]
) -> tuple[dict[str, dict[str, Any]], float]:
    """Prepare, check and time fastrnn and the peers.

    Returns
    -------
    programs : dict
        What became of each, by name.
    peak : float
        The FMA peak (FLOP/s) meanwhile, the median of one measurement in each round.
    """
    isa = _core.config()["isa"]
    peaks: list[float] = []
    with contextlib.ExitStack() as stack:
        found, programs = _prepared(case, peers, threads, begin, stack)
        begin("timing")
        times, failures = interleave(
            programs, seconds, lambda: peaks.append(_core.peak_flops(isa, threads))
        )
    for name, failure in failures.items():
        found[name] = {"status": "failed", "reason": _one_line(failure)}
    for name, measured in times.items():
        found[name] |= measured.summary()
    settle()
    return found, statistics.median(peaks) if peaks else 0.0


def _prepared(
    case: Case,
    peers: Sequence[str],
    threads: int,
    begin: Callable[[str], None],
    stack: contextlib.ExitStack,
) -> tuple[dict[str, dict[str, Any]], dict[str, Program]]:
    """Return what became of each so far, and the programs that give the right results."""
    weights, x, dy = arrays_of(case)
    found: dict[str, dict[str, Any]] = {}
    programs: dict[str, Program] = {}
    expected: list[dict[str, Any]] = []
    for name in (OURS, *peers):
        begin(name)
        try:
            program = PEERS[name].prepare(case, weights, x, dy, threads)
            stack.callback(program.close)
            results = _two_results(program)
        except UnsupportedError as reason:
            found[name] = {"status": "unsupported", "reason": str(reason)}
            continue
        except Exception as problem:
            found[name] = {"status": "failed", "reason": _one_line(problem)}
            if name == OURS:
                break
            continue
        expected = expected or results  # ours come first
        error = _worst(results, expected)
        tolerance = PEERS[name].tolerance
        if error <= tolerance:
            found[name] = {"status": "ok", "error": error}
            programs[name] = program
        else:
            text = f"differs by {error:.2g}, tolerance {tolerance:g}"
            found[name] = {"status": "wrong", "reason": text}
    return found, programs


def arrays_of(case: Case) -> tuple[dict[str, Any], Any, Any]:
    """Return weights by PyTorch's names, x and dy: the same in every process."""
    rng = np.random.default_rng(0)
    layer = getattr(fastrnn, case.cell)(
        case.I, case.H, case.layers, bidirectional=case.bidirectional, seed=rng
    )
    x = rng.standard_normal((case.T, case.B, case.I), np.float32)
    dy = rng.standard_normal((case.T, case.B, case.directions * case.H), np.float32)
    for row, length in enumerate(case.lengths()):
        dy[length:, row] = 0  # no loss looks at padding
    return dict(layer.state_dict()), x, dy


def _two_results(program: Program) -> list[dict[str, Any]]:
    """Return copies of what two calls gave; the second shows whether a step keeps its state."""
    return [
        {name: np.array(value) for name, value in program.arrays(program.run()).items()}
        for _ in range(2)
    ]


def _worst(got: list[dict[str, Any]], expected: list[dict[str, Any]]) -> float:
    return max(
        difference(result[name], wanted[name])
        for result, wanted in zip(got, expected, strict=True)
        for name in result
    )


def _one_line(problem: Exception) -> str:
    text = " ".join(str(problem).split())
    return f"{type(problem).__name__}: {text}"[:300]


if __name__ == "__main__":
    main()
