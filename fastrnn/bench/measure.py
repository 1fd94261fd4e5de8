"""How programs are timed beside each other: in turns, A B A B, so that all share the noise.

A turn is: wait until no thread of this process spins any more (libraries keep theirs awake for a
while after a call), one call or block that is not timed, then timed blocks of calls one after the
other. So nobody pays for waking up or for caches that somebody else has filled, and each library's
own way of waiting is left as its users have it.
"""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .peers import Program

__all__ = ["BLOCK_SECONDS", "TURNS", "Times", "difference", "interleave", "settle"]

TURNS = 5  # at least so many for each program
BLOCK_SECONDS = 200e-6  # the shortest time that is measured; shorter calls are repeated
WARM_SECONDS = 20e-3  # a call that takes longer warms itself up
SETTLE_SECONDS = 0.25  # the longest wait for spinning threads


@dataclass
class Times:
    """What was measured of one program: seconds of a call, one number for each block."""

    calls_per_block: int
    blocks: list[float] = field(default_factory=list)
    cpu: float | None = 0.0  # seconds, of all blocks together; None if not known
    turns: int = 0

    def summary(self) -> dict[str, Any]:
        """Return median and quartiles in seconds of wall time, and CPU seconds of a call."""
        first, median, third = statistics.quantiles(self.blocks, n=4, method="inclusive")
        calls = self.calls_per_block * len(self.blocks)
        return {
            "median": median,
            "mean": statistics.fmean(self.blocks),
            "q1": first,
            "q3": third,
            "cpu": None if self.cpu is None else self.cpu / calls,
            "blocks": len(self.blocks),
            "calls_per_block": self.calls_per_block,
            "turns": self.turns,
        }


def interleave(
    programs: Mapping[str, Program], seconds: float, pace: Callable[[], object] = lambda: None
) -> tuple[dict[str, Times], dict[str, Exception]]:
    """Time the programs in turns until `seconds` are over, at least TURNS turns each.

    Parameters
    ----------
    programs : mapping
    seconds : float
    pace : callable
        Called once in each round, to see how the machine is doing meanwhile.

    Returns
    -------
    times : dict
        Of those that came to the end.
    failures : dict
        What the others raised.
    """
    turn_seconds = min(max(seconds / (2 * TURNS * max(len(programs), 1)), 2e-3), 50e-3)
    times: dict[str, Times] = {}
    failures: dict[str, Exception] = {}
    gc.collect()
    gc.disable()
    try:
        begin = time.perf_counter()
        rounds = 0
        while programs and (rounds < TURNS or time.perf_counter() - begin < seconds):
            for name, program in programs.items():
                if name in failures:
                    continue
                try:
                    if name not in times:
                        times[name] = Times(_calls_per_block(program))
                    _turn(program, times[name], turn_seconds)
                except Exception as problem:
                    failures[name] = problem
                    times.pop(name, None)
            settle()
            pace()
            rounds += 1
    finally:
        gc.enable()
    return times, failures


def _calls_per_block(program: Program) -> int:
    settle()
    calls = 1
    while (wall := _best_of_three(program, calls)) < BLOCK_SECONDS:
        calls = max(calls + 1, math.ceil(1.1 * calls * BLOCK_SECONDS / max(wall, 1e-7)))
    return calls


def _best_of_three(program: Program, calls: int) -> float:
    """Return the shortest time: a call that was interrupted must not pass for a long one."""
    wall = program.time(calls)[0]
    if wall > WARM_SECONDS:
        return wall
    return min(wall, program.time(calls)[0], program.time(calls)[0])


def _turn(program: Program, times: Times, seconds: float) -> None:
    settle()
    calls = times.calls_per_block
    if not times.blocks or times.blocks[-1] < WARM_SECONDS:
        program.time(calls)
    spent = 0.0
    while spent < seconds:
        wall, cpu = program.time(calls)
        times.blocks.append(wall / calls)
        times.cpu = None if times.cpu is None or cpu is None else times.cpu + cpu
        spent += wall
    times.turns += 1


def settle() -> None:
    """Wait until this process uses next to no CPU time, at most SETTLE_SECONDS."""
    deadline = time.perf_counter() + SETTLE_SECONDS
    while time.perf_counter() < deadline:
        cpu = time.process_time()
        time.sleep(2e-3)
        if time.process_time() - cpu < 0.5e-3:
            return


def difference(got: NDArray[Any], expected: NDArray[Any]) -> float:
    """Return the largest difference over the largest absolute value expected; inf if shapes differ.

    NaN anywhere gives inf as well.
    """
    if got.shape != expected.shape:
        return math.inf
    if not expected.size:
        return 0.0
    error = float(np.abs(got - expected).max()) / max(float(np.abs(expected).max()), 1e-30)
    return error if math.isfinite(error) else math.inf
