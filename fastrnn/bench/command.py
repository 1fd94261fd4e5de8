"""``fastrnn bench``: its arguments, and what it does with them."""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .cases import SETS, Case

__all__ = ["DESCRIPTION", "EPILOG", "add_arguments", "run"]

DESCRIPTION = """\
Measure fastrnn beside the limits of this machine and beside the other libraries
that are installed, in turns and with checked results."""
EPILOG = """\
examples:
  fastrnn bench --quick                          a dozen cases, about a minute
  fastrnn bench --set grid --threads 1 2         all of them
  fastrnn bench --cases "GRU.* B1 " --peers torch onnxruntime
  fastrnn bench --list                           cases and libraries

DIR gets results.json, table.md, roofline.png, ratios.png and log.txt (what the
libraries print). Ctrl-C writes what has been measured and ends with status 130.
How it is measured: docs/benchmarks.md.
"""
QUICK_SECONDS = 0.4
SECONDS = 3.0
LONGEST = 2.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add = parser.add_argument
    add("--quick", action="store_true", help="the set quick, briefly, without slow starters")
    add("--set", choices=sorted(SETS), help="named set of cases (default: grid)")
    add("--cases", metavar="REGEX", help="only cases whose name has this in it, in any case")
    add("--threads", metavar="N", type=int, nargs="+", help="default: 1 and one for each core")
    add("--peers", metavar="NAME", nargs="+", help="default: all; none for fastrnn alone")
    add(
        "--seconds",
        metavar="S",
        type=float,
        help=f"for a case (default: {SECONDS:g}, with --quick {QUICK_SECONDS:g})",
    )
    add("--long", action="store_true", help=f"also cases of more than {LONGEST:g} s a call")
    add("--out", metavar="DIR", default="fastrnn-bench", help="default: fastrnn-bench")
    add("--list", action="store_true", help="show cases and libraries, measure nothing")


def run(arguments: argparse.Namespace) -> int:
    """Run the command; return its exit status. ValueError for bad arguments."""
    from . import plots, report, runner

    cases = chosen_cases(arguments)
    if arguments.list:
        return _list(cases)
    settings = _settings(arguments)
    out = Path(arguments.out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        log = out / "log.txt"
        log.write_text("")
    except OSError as error:
        raise ValueError(f"--out: {error.filename or out}: {error.strerror}") from None
    results: dict[str, Any] = {}
    interrupted = False
    with _progress(len(cases) * len(settings.threads)) as (begin, done):
        try:
            runner.run(cases, settings, log, begin, done, results)
        except KeyboardInterrupt:
            interrupted = True
    (out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    text = report.markdown(results)
    (out / "table.md").write_text(text)
    if any(report.measured(results)):
        plots.roofline(results, out / "roofline.png")
        plots.ratios(results, out / "ratios.png")
    print(text)
    print(f"Wrote {out}/results.json, table.md, roofline.png, ratios.png.", file=sys.stderr)
    return 130 if interrupted else 0


def chosen_cases(arguments: argparse.Namespace) -> list[Case]:
    """Return the cases asked for; ValueError if there are none."""
    name = arguments.set or ("quick" if arguments.quick else "grid")
    try:
        pattern = re.compile(arguments.cases or "", re.IGNORECASE)
    except re.error as error:
        raise ValueError(
            f"--cases: {arguments.cases!r} is no regular expression: {error}"
        ) from None
    cases = [case for case in SETS[name] if pattern.search(f"{case.name()} ")]
    if not cases:
        raise ValueError(
            f"--cases: no case of the set {name} has {arguments.cases!r} in its name, "
            f"such as {SETS[name][0].name()!r} (see --list)"
        )
    return cases


def _settings(arguments: argparse.Namespace) -> Any:
    from .. import get_num_threads
    from .peers import OURS, PEERS
    from .runner import Settings

    most = get_num_threads()
    threads = arguments.threads or sorted({1, most})
    for count in threads:
        if not 1 <= count <= most:
            raise ValueError(f"--threads: expected numbers from 1 to {most} here, got {count}")
    seconds = arguments.seconds
    if seconds is None:
        seconds = QUICK_SECONDS if arguments.quick else SECONDS
    if not 0 < seconds < 1e6:
        raise ValueError(f"--seconds: expected a number above 0, got {seconds:g}")
    known = [name for name in PEERS if name != OURS]
    names = known if arguments.peers is None else arguments.peers
    names = [] if names == ["none"] else list(dict.fromkeys(names))
    for name in names:
        if name not in known:
            raise ValueError(f"--peers: expected none, or of {', '.join(known)}; got {name}")
    slow: list[tuple[str, str]] = []
    if arguments.quick and arguments.peers is None:
        slow = [(n, "slow to start, left out by --quick") for n in names if PEERS[n].slow_start]
        names = [name for name in names if not PEERS[name].slow_start]
    longest = None if arguments.long else LONGEST
    return Settings(tuple(dict.fromkeys(threads)), tuple(names), seconds, longest, tuple(slow))


def _list(cases: Sequence[Case]) -> int:
    from .peers import PEERS

    for case in cases:
        print(f"{case.name():50} {case.client}".rstrip())
    print()
    for name, peer in PEERS.items():
        print(f"{name:14} {peer.missing() or peer.version()}")
    return 0


@contextlib.contextmanager
def _progress(total: int) -> Iterator[tuple[Any, Any]]:
    """Yield what `runner.run` calls: a bar on a terminal, else a line for each case."""
    if not sys.stderr.isatty():
        count = 0

        def line(name: str) -> None:
            nonlocal count
            count += 1
            print(f"{count}/{total} {name}", file=sys.stderr, flush=True)

        yield (lambda text: None), line
        return
    from tqdm import tqdm

    with tqdm(total=total, unit="case", dynamic_ncols=True) as bar:
        yield bar.set_postfix_str, lambda name: bar.update()
