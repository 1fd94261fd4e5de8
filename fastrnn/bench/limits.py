"""The limits of this machine, measured, and the limit of a case that follows from them.

The limit of a case is a time that no float32 implementation of its products can beat here. With
R(t) the rows alive at step t, a layer and direction with G gates, input size I and hidden size H
takes at least::

    input       2 sum(R) I G H / peak                        (hoisted out of the time loop)
    recurrent   sum over t of max(2 R(t) H G H / peak, 4 G H H bytes / bandwidth)

where `peak` is the measured FMA rate of all threads together and `bandwidth` the measured rate at
which all threads together read, each its own share of the recurrent weights, from the cache level
where the shares fit. A single step has nothing to hoist: it reads all its weights once, so that
the whole call is max(its FMAs / peak, its bytes / bandwidth). Training adds, for the gradient of
the data, the recurrent part once more (the transposed weights stream as well) and the input's
FMAs, and for the weight gradients all FMAs once. Non-linearities, barriers and reads of inputs and
outputs count nothing: cells with few units cannot come near.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from .cases import Case

__all__ = ["Level", "Machine", "cache_sizes", "case_seconds", "measure", "probes"]

SHARED_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
LARGEST_PROBE = 512 << 20


@dataclass(frozen=True)
class Level:
    """A level of the memory: bytes a thread may keep there, and bytes/s all threads read."""

    name: str
    capacity: int
    bandwidth: float


@dataclass(frozen=True)
class Machine:
    """What `threads` threads of this machine can do at best."""

    threads: int
    isa: str
    peak: float  # FLOP/s of `isa`
    isa_peaks: dict[str, float]
    levels: tuple[Level, ...]  # smallest first; the last holds everything
    barrier: float  # seconds
    team: float  # seconds to wake a team of threads and have it back

    def bandwidth(self, thread_bytes: float) -> float:
        """Return the read bandwidth, all threads together, of what fits where so much does."""
        for level in self.levels:
            if thread_bytes <= level.capacity:
                return level.bandwidth
        return self.levels[-1].bandwidth

    def best_of(self, other: Machine) -> Machine:
        """Return the better of two measurements of each quantity: noise only takes away."""
        peaks = {isa: max(peak, other.isa_peaks[isa]) for isa, peak in self.isa_peaks.items()}
        levels = tuple(
            Level(a.name, a.capacity, max(a.bandwidth, b.bandwidth))
            for a, b in zip(self.levels, other.levels, strict=True)
        )
        return Machine(
            self.threads,
            self.isa,
            peaks[self.isa],
            peaks,
            levels,
            min(self.barrier, other.barrier),
            min(self.team, other.team),
        )

    def with_peak(self, peak: float) -> Machine:
        """Return it with this FMA peak of its instruction set, if that is better."""
        best = max(self.peak, peak)
        return replace(self, peak=best, isa_peaks={**self.isa_peaks, self.isa: best})

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Machine:
        """Return what `as_dict` was made from."""
        levels = tuple(Level(**level) for level in values["levels"])
        return cls(**{**values, "levels": levels})


def case_seconds(case: Case, machine: Machine) -> float:
    """Return the limit of a case (see the module): the least seconds a call can take."""
    if case.mode == "step":
        bandwidth = machine.bandwidth(case.weight_bytes() / machine.threads)
        return max(case.flops() / machine.peak, case.weight_bytes() / bandwidth)
    directions = case.directions
    row_flops = 2 * case.gates * case.H * directions  # of one row, for each input or state unit
    step_bytes = case.recurrent_bytes() * directions
    # Directions run side by side where there are threads for it, else one after the other.
    share = step_bytes / max(machine.threads, directions)
    step_seconds = step_bytes / machine.bandwidth(share)
    recurrent = sum(
        steps * max(rows * case.H * row_flops / machine.peak, step_seconds)
        for rows, steps in _alive(case.lengths())
    )
    total = 0.0
    for size in case.input_sizes():
        hoisted = case.rows() * size * row_flops / machine.peak
        total += hoisted + recurrent
        if case.mode == "training":
            weights = case.rows() * (size + case.H) * row_flops / machine.peak
            total += recurrent + hoisted + weights
    return total


def _alive(lengths: list[int]) -> list[tuple[int, int]]:
    """Return (rows alive, for how many steps) from lengths, longest first."""
    ends = [*lengths[1:], 0]
    return [
        (row + 1, length - end)
        for row, (length, end) in enumerate(zip(lengths, ends, strict=True))
        if length > end
    ]


# --- measuring ------------------------------------------------------------------------------------


def measure(threads: int, report: Callable[[str], None] = lambda text: None) -> Machine:
    """Measure the machine with `threads` threads; takes about a second.

    Parameters
    ----------
    threads : int
        At most what ``fastrnn.get_num_threads`` gives by default.
    report : callable
        Told what is being measured.
    """
    from .. import _core

    config = _core.config()
    report("FMA peak")
    peaks = {isa: _core.peak_flops(isa, threads) for isa in config["isas_supported"]}
    levels = []
    for name, capacity, probe in probes(cache_sizes(), threads):
        report(f"bandwidth of {name}")
        levels.append(Level(name, capacity, _core.read_bandwidth(probe, threads)))
    report("barrier")
    return Machine(
        threads,
        config["isa"],
        peaks[config["isa"]],
        peaks,
        tuple(levels),
        _core.barrier_seconds(threads),
        _core.team_seconds(threads),
    )


def probes(caches: list[tuple[str, int, int]], threads: int) -> list[tuple[str, int, int]]:
    """Return (name, capacity for a thread, bytes to read there) for each level and memory.

    Parameters
    ----------
    caches : list of (name, bytes, cores that share it)
        Smallest first. If empty, the levels are powers of four in size.
    threads : int
    """
    if not caches:
        sizes = [4**k << 10 for k in range(2, 10)]
        swept = [(f"{size >> 10} KiB", size, size) for size in sizes]
        return [*swept[:-1], (swept[-1][0], sys.maxsize, sizes[-1])]
    found = []
    below = 0
    for name, size, cores in caches:
        capacity = size // min(threads, cores)
        # The level at its best: just more than the one below it holds. Large shared caches get
        # slower towards their end, as pages and neighbours get in the way.
        probe = min(max(2 * below, capacity // 16), capacity) if below else capacity // 2
        found.append((name, capacity, probe))
        below = capacity
    largest = min(max(4 * max(size for _, size, _ in caches), 64 << 20), LARGEST_PROBE)
    return [*found, ("DRAM", sys.maxsize, largest // threads)]


def cache_sizes() -> list[tuple[str, int, int]]:
    """Ask the system for (name, bytes, cores that share it) of each data cache; may be empty."""
    try:
        return _macos_caches() if sys.platform == "darwin" else _linux_caches(SHARED_CACHES)
    except (OSError, ValueError, subprocess.SubprocessError):
        return []


def _linux_caches(folder: Path) -> list[tuple[str, int, int]]:
    caches = []
    for index in sorted(folder.glob("index*")):
        kind, level, size, shared = (
            (index / name).read_text().strip()
            for name in ("type", "level", "size", "shared_cpu_list")
        )
        if kind != "Instruction":
            unit = {"K": 10, "M": 20}[size[-1]] if size[-1] in "KM" else 0
            caches.append((f"L{level}", int(size.rstrip("KM")) << unit, _cpus(shared)))
    return _by_core(caches)


def _macos_caches() -> list[tuple[str, int, int]]:
    def ask(name: str) -> str:
        return subprocess.run(
            ["sysctl", "-n", name], capture_output=True, text=True, check=True, timeout=10
        ).stdout

    sharing = [int(count) for count in ask("hw.cacheconfig").split()]
    sizes = [int(size) for size in ask("hw.cachesize").split()]
    levels = list(zip(sizes, sharing, strict=False))[1:]  # the first is memory
    return _by_core(
        [(f"L{i}", size, cpus) for i, (size, cpus) in enumerate(levels, 1) if size and cpus]
    )


def _cpus(listed: str) -> int:
    """Count "0-3,8-11"."""
    spans = [[int(end) for end in part.split("-")] for part in listed.split(",")]
    return sum(span[-1] - span[0] + 1 for span in spans)


def _by_core(caches: list[tuple[str, int, int]]) -> list[tuple[str, int, int]]:
    """Count sharing cores, not hardware threads: those are as many as share the first level."""
    return [(name, size, max(1, cpus // caches[0][2])) for name, size, cpus in caches]
