"""oneDNN, driven by a program of one's own: no Python in between.

Used where the environment variable FASTRNN_BENCH_ONEDNN names that program. It is started as::

    DRIVER CELL MODE T B I H LAYERS DIRECTIONS THREADS WEIGHTS_FILE

WEIGHTS_FILE holds raw float32: x (T, B, I), dy (T, B, D * H), then for each layer and direction
weight_ih, weight_hh, bias_ih and bias_hh in PyTorch's layout. It prints ``ready`` once it is
prepared; for each line ``run N`` it does the work N times and prints the nanoseconds of all of
them together, for ``output PATH`` it writes y as raw float32 and prints ``ok``, and ``quit`` ends
it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..cases import Case
from .base import Array, Peer, Program, Timing, UnsupportedError, weight_suffixes

VARIABLE = "FASTRNN_BENCH_ONEDNN"


class OneDnn(Peer):
    """The engineers' bar: not in reach of a Python user."""

    name = "onednn"
    python = False
    settings = f"an external program (${VARIABLE}); its own clock"

    def missing(self) -> str | None:
        """Return why the peer cannot be used here, or None."""
        driver = os.environ.get(VARIABLE)
        if not driver:
            return f"{VARIABLE} names no driver"
        return None if shutil.which(driver) else f"{VARIABLE}: no program {driver}"

    def version(self) -> str:
        """Return what the driver says of itself, if anything."""
        try:
            said = subprocess.run(
                [os.environ[VARIABLE], "--version"],
                capture_output=True,
                text=True,
                timeout=10,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            return "unknown"
        return said.stdout.strip().splitlines()[0] if said.stdout.strip() else "unknown"

    def prepare(
        self, case: Case, weights: Mapping[str, Array], x: Array, dy: Array, threads: int
    ) -> Program:
        """See `Peer.prepare`."""
        if case.padding:
            raise UnsupportedError("no lengths")
        return _Driver(case, [x, dy, *_in_order(case, weights)], threads)


def _in_order(case: Case, weights: Mapping[str, Array]) -> list[Array]:
    kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    ends = [end for directions in weight_suffixes(case) for end in directions]
    return [weights[kind + end] for end in ends for kind in kinds]


class _Driver(Program):
    def __init__(self, case: Case, values: list[Array], threads: int) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="fastrnn-bench-"))
        self._shape = (case.T, case.B, case.directions * case.H)
        file = self._folder / "weights"
        with file.open("wb") as out:
            for value in values:
                value.tofile(out)
        numbers = (case.T, case.B, case.I, case.H, case.layers, case.directions, threads)
        self._process = subprocess.Popen(
            [os.environ[VARIABLE], case.cell, case.mode, *map(str, numbers), str(file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        super().__init__(lambda: self._ask("run 1"), self._arrays, self._close)
        try:
            self._expect("ready", self._read())
        except Exception:
            self._close()
            raise

    def time(self, calls: int) -> Timing:
        """Return the driver's own time; its CPU time is not known.

        One order for all calls, so that nothing comes between them: the driver does not wait for
        this process, with its threads asleep and its caches used by others, and then start anew.
        """
        return 1e-9 * int(self._ask(f"run {calls}")), None

    def _ask(self, line: str) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the driver ended with status {self._process.wait()}")
        return line.strip()

    def _expect(self, wanted: str, got: str) -> None:
        if got != wanted:
            raise RuntimeError(f"the driver: expected {wanted!r}, got {got!r}")

    def _arrays(self, result: Any) -> dict[str, Any]:
        path = self._folder / "y"
        self._expect("ok", self._ask(f"output {path}"))
        return {"y": np.fromfile(path, np.float32).reshape(self._shape)}

    def _close(self) -> None:
        try:
            self._process.communicate("quit\n", timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
        shutil.rmtree(self._folder, ignore_errors=True)
