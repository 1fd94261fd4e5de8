"""The number of threads, and what the core is made of."""

from __future__ import annotations

from . import _core
from .base import check_size

__all__ = ["set_num_threads", "show_config"]


def set_num_threads(n: int) -> None:
    """Set how many threads a call may use; small work uses fewer. Results do not depend on it.

    The default is the environment variable FASTRNN_NUM_THREADS, else OMP_NUM_THREADS, else the
    processors this process may run on. Where other programs keep threads from their cores, calls
    use one for a while.

    Raises
    ------
    ValueError
        If n is less than 1 or more than 4096.
    TypeError
        If n is no integer.
    """
    count = check_size("n", n)
    if count > 4096:
        raise ValueError(f"n: expected at most 4096, got {count}")
    _core.set_num_threads(count)


def show_config() -> None:
    """Print the version, the instruction set in use, those built, the threads and the compiler."""
    for name, value in _core.config().items():
        shown = ", ".join(value) if isinstance(value, list) else value
        print(f"{name:<15} {shown}")
