"""A plugin of pytest for Keras's own tests: fastrnn switched on, and the calls counted.

FASTRNN_CALLS names the file that the number of calls of the kernels is written to; without it,
plain Keras is tested.
"""

import os
from pathlib import Path

REPORT = os.environ.get("FASTRNN_CALLS")
calls = []


def pytest_configure(config):
    config.addinivalue_line("markers", "requires_trainable_backend: of Keras's own tests")
    if REPORT:
        from fastrnn.interop import keras as interop

        run_cell = interop.backends.run_cell

        def counted(*arguments):
            results = run_cell(*arguments)
            calls.append(1)
            return results

        interop.backends.run_cell = counted
        interop.enable()


def pytest_unconfigure(config):
    if REPORT:
        Path(REPORT).write_text(str(len(calls)))
