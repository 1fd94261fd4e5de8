"""The report in Markdown, from what `runner.run` returns (or results.json holds)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .limits import Machine
from .peers import OURS, PEERS

__all__ = ["best_peer", "counted", "markdown", "measured"]

Result = Mapping[str, Any]


def measured(report: Mapping[str, Any]) -> Iterator[Result]:
    """Yield the results in which fastrnn has been timed."""
    for result in report.get("results", []):
        if "median" in result["programs"].get(OURS, {}):
            yield result


def best_peer(result: Result) -> tuple[str, float] | None:
    """Return the fastest float32 peer in reach of Python, and its seconds; None without any."""
    times = [
        (program["median"], name)
        for name, program in result["programs"].items()
        if name != OURS and "median" in program and PEERS[name].exact and PEERS[name].python
    ]
    if not times:
        return None
    seconds, name = min(times)
    return name, seconds


def markdown(report: Mapping[str, Any]) -> str:
    """Return the whole report: machine, limits, a table for each number of threads, remarks."""
    parts = [_machine(report), _limits(report)]
    for threads, machine in report["limits"].items():
        results = [r for r in report["results"] if r["threads"] == int(threads)]
        parts.append(_table(int(threads), results, machine["peak"]))
    parts.append(_slower(report))
    parts.append(_not_measured(report))
    return "\n\n".join(part for part in parts if part) + "\n"


def _machine(report: Mapping[str, Any]) -> str:
    machine, settings = report["machine"], report["settings"]
    versions = [f"{name} {version}" for name, version in report["versions"].items()]
    lines = [
        f"{machine['processor']}, {machine['cpus']} processors, {machine['system']}, "
        f"Python {machine['python']}; {report['date']}, "
        f"load {machine['load'] or 0:.1f} at the start.",
        "",
        f"{'; '.join(versions)}.",
        "",
        "Medians in microseconds; programs in turns, at least five turns each, "
        f"{settings['seconds']:g} s for a case; each output checked against fastrnn's before it "
        "is timed. Spinning of waiting threads: each library's default; a turn begins when the "
        "threads of the one before sleep, and with a call that is not timed.",
        "",
        *(f"- {name}: {text}" for name, text in report["peers"].items()),
    ]
    return "\n".join(lines)


def _limits(report: Mapping[str, Any]) -> str:
    machines = [Machine.from_dict(values) for values in report["limits"].values()]
    if not machines:
        return ""
    levels = [level.name for level in machines[0].levels]
    peaks = list(machines[0].isa_peaks)
    rows = [
        [
            "threads",
            *(f"FMA peak {isa}, GFLOP/s" for isa in peaks),
            *(f"{level}, GB/s" for level in levels),
            "barrier, ns",
            "team, µs",
        ]
    ]
    for machine in machines:
        rows.append(
            [
                str(machine.threads),
                *(f"{machine.isa_peaks[isa] / 1e9:.0f}" for isa in peaks),
                *(f"{level.bandwidth / 1e9:.0f}" for level in machine.levels),
                "–" if machine.threads == 1 else f"{1e9 * machine.barrier:.0f}",
                "–" if machine.threads == 1 else f"{1e6 * machine.team:.1f}",
            ]
        )
    return "Limits of the machine:\n\n" + _rows(rows)


def _table(threads: int, results: list[Result], peak: float) -> str:
    names = [name for name in PEERS if name != OURS]
    names = [n for n in names if any("median" in r["programs"].get(n, {}) for r in results)]
    external = [name for name in names if not PEERS[name].python]
    rows = [
        ["case", *names, OURS, "× best peer"]
        + [f"× {name}" for name in external]
        + ["of the limit", "pace", "GFLOP/s", "cores busy"]
    ]
    for result in results:
        programs = result["programs"]
        cells = [_name(result)]
        cells += [_micro(programs.get(name, {})) for name in [*names, OURS]]
        ours = programs.get(OURS, {}).get("median")
        if ours is None:
            cells += ["–"] * (len(rows[0]) - len(cells))
        else:
            best = best_peer(result)
            cells.append("–" if best is None else f"{best[1] / ours:.2f} ({best[0]})")
            for name in external:
                other = programs.get(name, {}).get("median")
                cells.append("–" if other is None else f"{other / ours:.2f}")
            cells.append(f"{result['limit'] / ours:.2f}")
            cells.append(f"{result['peak'] / peak:.2f}")
            cells.append(f"{result['flops'] / ours / 1e9:.1f}")
            cells.append(_busy(programs, best))
        rows.append(cells)
    return f"### {counted(threads)}\n\n{_rows(rows)}"


def _name(result: Result) -> str:
    name, client = result["name"], result["case"]["client"]
    return f"{name} ({client})" if client else str(name)


def counted(threads: int) -> str:
    """Return "1 thread", "2 threads"."""
    return f"{threads} thread" + ("" if threads == 1 else "s")


def _micro(program: Mapping[str, Any]) -> str:
    if "median" not in program:
        status = str(program.get("status", "–"))
        return "–" if status == "unsupported" else status
    micro = 1e6 * program["median"]
    return f"{micro:.2f}" if micro < 10 else f"{micro:.1f}" if micro < 100 else f"{micro:.0f}"


def _busy(programs: Mapping[str, Any], best: tuple[str, float] | None) -> str:
    """Return CPU seconds over wall seconds of fastrnn, and of the best peer."""

    def one(name: str) -> str:
        cpu = programs[name]["cpu"]
        return "?" if cpu is None else f"{cpu / programs[name]['mean']:.1f}"

    return one(OURS) + ("" if best is None else f" ({one(best[0])})")


def _slower(report: Mapping[str, Any]) -> str:
    """List the cases in which a peer was faster: none should be."""
    lines = []
    for result in measured(report):
        best = best_peer(result)
        ours = result["programs"][OURS]["median"]
        if best is not None and best[1] < ours:
            lines.append(
                f"- {result['name']}, threads {result['threads']}: {best[0]} {best[1] / ours:.2f}"
            )
    if not lines:
        return ""
    return "Cases in which a peer took less time (its time over fastrnn's):\n\n" + "\n".join(lines)


def _not_measured(report: Mapping[str, Any]) -> str:
    """List what was not measured, and why: each peer and reason once, with its cases."""
    lines = [f"- {name}: {reason}" for name, reason in report["absent"].items()]
    cases: dict[tuple[str, str], list[str]] = {}
    for result in report["results"]:
        for name, program in result["programs"].items():
            if program["status"] != "ok":
                reason = f"{program['status']}: {program['reason']}"
                cases.setdefault((name, reason), []).append(
                    f"{result['name']} ({result['threads']})"
                )
    for (name, reason), found in cases.items():
        several = f"{len(found)} cases, such as " if len(found) > 3 else ""
        lines.append(f"- {name}: {reason}: {several}{'; '.join(found[: 1 if several else 3])}")
    return "Not measured (threads in brackets):\n\n" + "\n".join(lines) if lines else ""


def _rows(rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "| --- " + "| ---: " * (len(rows[0]) - 1) + "|")
    return "\n".join(lines)
