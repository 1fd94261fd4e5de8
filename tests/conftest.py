"""Settings and fixtures of the whole test suite."""

import os
import sys
from pathlib import Path

import hypothesis
import pytest

TESTS = Path(__file__).parent
# What tests share, reference.py, and processes.py.
sys.path[:0] = [
    str(folder)
    for folder in (TESTS, TESTS.parent / "tools", TESTS.parent / "benchmarks" / "serving")
]

# Properties are checked on few examples, chosen anew on each run of a developer and always the
# same in continuous integration. No deadline: machines differ.
for name, derandomize in (("developer", False), ("ci", True)):
    hypothesis.settings.register_profile(
        name,
        deadline=None,
        max_examples=25,
        derandomize=derandomize,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
    )
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "developer")


@pytest.fixture
def set_num_threads():
    """fastrnn.set_num_threads, undone after the test."""
    import fastrnn

    before = fastrnn.get_num_threads()
    yield fastrnn.set_num_threads
    fastrnn.set_num_threads(before)
