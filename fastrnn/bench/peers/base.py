"""What a peer is: how it is found, limited to a number of threads, and given a case to do."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..cases import Case

__all__ = ["Array", "Peer", "Program", "Timing", "UnsupportedError", "weight_suffixes"]

Array = NDArray[np.float32]
Timing = tuple[float, float | None]  # seconds of wall time and of CPU time, where known


class UnsupportedError(Exception):
    """A case that a peer cannot do; the message says why."""


class Program:
    """One case, prepared: weights and input are where and how the library wants them.

    Parameters
    ----------
    run : callable
        Does the work once and returns the library's own result; nothing else is timed.
    arrays : callable
        From that result to NumPy arrays by name: "y" (T, B, D * H) and, after training, "dx"
        and the gradients of the weights by their names.
    close : callable
        Gives back what the program holds.
    """

    def __init__(
        self,
        run: Callable[[], Any],
        arrays: Callable[[Any], Mapping[str, Any]],
        close: Callable[[], None] = lambda: None,
    ) -> None:
        self.run = run
        self.arrays = arrays
        self.close = close

    def time(self, calls: int) -> Timing:
        """Return wall and CPU seconds of so many calls, one after the other."""
        run = self.run
        cpu = time.process_time()
        start = time.perf_counter()
        for _ in range(calls):
            run()
        wall = time.perf_counter() - start
        return wall, time.process_time() - cpu


class Peer:
    """A library that may be measured."""

    name: ClassVar[str]
    modules: ClassVar[tuple[str, ...]] = ()  # all are needed
    tolerance: ClassVar[float] = 1e-4  # of the largest absolute value of the expected output
    exact: ClassVar[bool] = True  # float32 throughout: counts for the best peer
    python: ClassVar[bool] = True  # in reach of a Python user
    slow_start: ClassVar[bool] = False  # takes long to import or compile: not in --quick
    settings: ClassVar[str] = ""  # how it is used, for the report

    def missing(self) -> str | None:
        """Return why the peer cannot be used here, or None."""
        absent = [name for name in self.modules if importlib.util.find_spec(name) is None]
        return f"{', '.join(absent)} not installed" if absent else None

    def version(self) -> str:
        """Return the version of a peer that is not missing."""
        first, *others = map(_version, self.modules)
        names = [f"{name} {v}" for name, v in zip(self.modules[1:], others, strict=True)]
        return f"{first} ({', '.join(names)})" if names else first

    def prepare(
        self, case: Case, weights: Mapping[str, Array], x: Array, dy: Array, threads: int
    ) -> Program:
        """Return the program for a case, limited to so many threads.

        Parameters
        ----------
        case : Case
        weights : mapping
            PyTorch's names to arrays.
        x : array, shape (T, B, I)
        dy : array, shape (T, B, D * H)
            The gradient that comes back, for training.
        threads : int

        Raises
        ------
        UnsupportedError
            If the library cannot do the case.
        """
        raise NotImplementedError


def _version(module: str) -> str:
    try:
        return importlib.metadata.version(module)
    except importlib.metadata.PackageNotFoundError:  # the module has another name (tensorflow-cpu)
        return importlib.metadata.version(importlib.metadata.packages_distributions()[module][0])


def weight_suffixes(case: Case) -> list[list[str]]:
    """Return, for each layer, the suffixes of its weights' names: one for each direction."""
    reverse = ("", "_reverse")[: case.directions]
    return [[f"_l{layer}{end}" for end in reverse] for layer in range(case.layers)]
