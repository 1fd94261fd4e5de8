"""Every benchmark of the asv suite runs, with the smallest of its parameters."""

import importlib
import inspect
import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

MODULES = [importlib.import_module(f"suite.{name}") for name in ("around", "cells")]
CASES = importlib.import_module("suite.work").CASES


def benchmarks():
    """Yield class and method name of what asv would take for benchmarks."""
    for module in MODULES:
        for name, cls in vars(module).items():
            if inspect.isclass(cls) and cls.__module__ == module.__name__ and name[0] != "_":
                for method in dir(cls):
                    if re.match("(time|timeraw|peakmem|track)_", method):
                        yield pytest.param(cls, method, id=f"{name}.{method}")


def smallest(cls):
    """Return the benchmark's parameters: the least work, and one thread."""

    def work(value):
        return CASES[value].flops() if value in CASES else 0

    choices = [sorted(values, key=work) for values in getattr(cls, "params", ())]
    return next(itertools.product(*choices))


@pytest.fixture(scope="module")
def cache():
    """What asv keeps for a class with a setup_cache, made once."""
    made = {}
    return lambda cls: made.setdefault(cls, cls().setup_cache())


@pytest.mark.parametrize("cls, method", list(benchmarks()))
def test_benchmark_runs(cls, method, cache, set_num_threads):
    arguments = smallest(cls)
    if hasattr(cls, "setup_cache"):
        arguments = (cache(cls), *arguments)
    benchmark = cls()
    if hasattr(benchmark, "setup"):
        benchmark.setup(*arguments)
    result = getattr(benchmark, method)(*arguments)
    if method.startswith("timeraw_"):
        subprocess.run([sys.executable, "-c", result], check=True)
    elif method.startswith("track_"):
        assert result > 0
    else:
        assert result is None


def test_each_kind_of_benchmark_is_there():
    kinds = {parameters.values[1].split("_")[0] for parameters in benchmarks()}
    assert kinds == {"time", "timeraw", "peakmem", "track"}
