"""Runs the cases: one process for each number of threads, started anew where a library crashes."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .cases import Case
from .limits import Machine, case_seconds
from .peers import OURS, PEERS
from .report import counted

__all__ = ["SCHEMA", "Settings", "run"]

SCHEMA = 1
THREAD_VARIABLES = (
    "FASTRNN_NUM_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NPROC",  # JAX
)


@dataclass(frozen=True)
class Settings:
    """What is asked for."""

    threads: tuple[int, ...]
    peers: tuple[str, ...]
    seconds: float  # for each case and number of threads
    longest: float | None  # cases whose limit is above so many seconds are left out
    left_out: tuple[tuple[str, str], ...] = ()  # peers that are not tried, and why


Progress = Callable[[str], None]


def run(
    cases: Sequence[Case],
    settings: Settings,
    log: Path,
    begin: Progress,
    done: Progress,
    results: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Measure the cases; return the report that `report` and `plots` read.

    Parameters
    ----------
    cases, settings
        What to measure.
    log : path
        Takes what the libraries print.
    begin, done : callable
        Told what begins, and the name of each case that is finished.
    results : dict, optional
        Filled as results arrive and returned, so that an interrupted run keeps what it has.
    """
    missing = {name: PEERS[name].missing() for name in settings.peers}
    usable = [name for name in settings.peers if missing[name] is None]
    report = {} if results is None else results
    report |= {
        "schema": SCHEMA,
        "date": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "machine": machine_facts(),
        "settings": asdict(settings),
        "versions": {},
        "peers": {name: PEERS[name].settings for name in (OURS, *usable)},
        "absent": {
            **{name: reason for name, reason in missing.items() if reason is not None},
            **dict(settings.left_out),
        },
        "limits": {},
        "results": [],
    }
    for threads in settings.threads:
        _ThreadCount(threads, cases, settings, usable, report).run(log, begin, done)
    return report


class _ThreadCount:
    """The cases with one number of threads: run to the end, whatever the libraries do."""

    def __init__(
        self,
        threads: int,
        cases: Sequence[Case],
        settings: Settings,
        peers: list[str],
        report: dict[str, Any],
    ) -> None:
        self._threads = threads
        self._settings = settings
        self._peers = peers
        self._report = report
        self._todo = dict(enumerate(cases))
        self._died: dict[int, dict[str, Any]] = {}  # by case and name: what ended the process
        self._machine: Machine | None = None
        self._at: tuple[int | None, str] = (None, "import")

    def run(self, log: Path, begin: Progress, done: Progress) -> None:
        """Measure the limits, the cases, and the limits again: the better ones count."""
        self._process(self._job(limits=True), log, begin, done)
        self._leave_out_long(done)
        while self._todo:
            self._process(self._job(limits=False), log, begin, done)
        self._process(self._job(limits=True), log, begin, done)
        assert self._machine is not None
        results = [r for r in self._report["results"] if r["threads"] == self._threads]
        machine = self._machine.with_peak(max(result["peak"] for result in results))
        self._report["limits"][str(self._threads)] = machine.as_dict()
        for result in results:
            result["limit"] = case_seconds(Case(**result["case"]), machine)

    def _process(self, job: dict[str, Any], log: Path, begin: Progress, done: Progress) -> None:
        self._at = (None, "import")
        worker = Worker(self._threads, job, log)
        for event in worker.events():
            self._take(event, begin, done)
        if worker.status:
            self._blame(worker.ending(), log, done)

    def _job(self, limits: bool) -> dict[str, Any]:
        todo = () if limits else self._todo.items()
        return {
            "threads": self._threads,
            "limits": limits,
            "peers": self._peers,
            "seconds": self._settings.seconds,
            "excluded": [(index, name) for index, names in self._died.items() for name in names],
            "cases": [(index, asdict(case)) for index, case in todo],
        }

    def _take(self, event: dict[str, Any], begin: Progress, done: Progress) -> None:
        if "limits" in event:
            found = Machine.from_dict(event["limits"])
            self._machine = found.best_of(self._machine or found)
            self._report["limits"][str(self._threads)] = self._machine.as_dict()
        elif "versions" in event:
            self._report["versions"] |= event["versions"]
        elif "result" in event:
            self._finish(event["result"], event["programs"], done, event["peak"])
        else:
            index, program = self._at = (event["begin"], event["program"])
            name = "" if index is None else f"{self._todo[index].name()}: "
            begin(f"{counted(self._threads)}, {name}{program}")

    def _finish(
        self, index: int, programs: dict[str, Any], done: Progress, peak: float = 0.0
    ) -> None:
        assert self._machine is not None
        case = self._todo.pop(index)
        programs = programs | self._died.get(index, {})
        result = _result(case, self._threads, self._machine, programs)
        self._report["results"].append({**result, "peak": peak})
        done(case.name())

    def _blame(self, ending: str, log: Path, done: Progress) -> None:
        """Leave out the peer that ended the process; while timing it may be any: the case."""
        index, name = self._at
        if index is None:
            raise RuntimeError(f"the measuring process {ending} ({name}): see {log}")
        failed = {"status": "failed", "reason": f"the process {ending}"}
        if name in self._peers:
            self._died.setdefault(index, {})[name] = failed
        else:
            self._finish(index, {OURS: failed}, done)

    def _leave_out_long(self, done: Progress) -> None:
        assert self._machine is not None
        longest = self._settings.longest
        for index, case in list(self._todo.items()):
            least = case_seconds(case, self._machine)
            if longest is not None and least > longest:
                reason = f"takes at least {least:.1f} s a call"
                self._finish(index, {OURS: {"status": "skipped", "reason": reason}}, done)


def _result(case: Case, threads: int, machine: Machine, programs: dict[str, Any]) -> dict[str, Any]:
    return {
        "case": asdict(case),
        "name": case.name(),
        "threads": threads,
        "flops": case.flops(),
        "streamed_bytes": case.streamed_bytes(),
        "limit": case_seconds(case, machine),
        "programs": programs,
    }


class Worker:
    """One measuring process."""

    def __init__(self, threads: int, job: dict[str, Any], log: Path) -> None:
        environment = {**os.environ, **{name: str(threads) for name in THREAD_VARIABLES}}
        environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        environment.setdefault("JAX_PLATFORMS", "cpu")
        environment["CUDA_VISIBLE_DEVICES"] = ""
        cpus = one_cpu_per_core()[:threads]
        self._log = log.open("a")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fastrnn.bench.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=environment,
        )
        # Pools that ask the system for its processors then find as many as there are threads.
        if len(cpus) == threads:
            os.sched_setaffinity(self._process.pid, cpus)
        assert self._process.stdin is not None
        with self._process.stdin as stdin:
            json.dump(job, stdin)
        self.status = 0

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield what the process reports, until it has ended."""
        assert self._process.stdout is not None
        try:
            for line in self._process.stdout:
                yield json.loads(line)
        except BaseException:
            self._process.kill()
            raise
        finally:
            self.status = self._process.wait()
            self._process.stdout.close()
            self._log.close()

    def ending(self) -> str:
        """Return how it ended."""
        if self.status < 0:
            return f"was killed by {signal.Signals(-self.status).name}"
        return f"ended with status {self.status}"


def one_cpu_per_core() -> list[int]:
    """Return the processors this process may use, one of each core first; empty if not known."""
    if not hasattr(os, "sched_getaffinity"):
        return []
    first: list[int] = []
    others: list[int] = []
    seen: set[str] = set()
    for cpu in sorted(os.sched_getaffinity(0)):
        path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        siblings = path.read_text() if path.exists() else str(cpu)
        (others if siblings in seen else first).append(cpu)
        seen.add(siblings)
    return first + others


def machine_facts() -> dict[str, Any]:
    """Return processor, system and load."""
    model = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    return {
        "processor": model,
        "cpus": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }
