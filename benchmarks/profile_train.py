"""Where the time of `fastrnn train` goes: the shares of the core's functions and of all else.

    python benchmarks/profile_train.py TEXT --cell lstm --epochs 1 --threads 1

Takes the options of `fastrnn train`. Each function of the core is timed around its call from
Python; what no function accounts for is Python's and NumPy's own. Reading the text and writing the
model count too.
"""

import collections
import functools
import sys
import tempfile
import time

import fastrnn.cli
from fastrnn import _core

METHODS = (_core.StackFloat32, "call"), (_core.TapeFloat32, "backward")
RECURRENT = ("pack_cell", "layer_forward", "call", "backward")


def main():
    seconds = collections.Counter()

    def timed(name, function):
        @functools.wraps(function)
        def call(*args, **kwargs):
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                seconds[name] += time.perf_counter() - start

        return call

    for name, value in vars(_core).items():
        if callable(value) and not isinstance(value, type):
            setattr(_core, name, timed(name, value))
    for kind, name in METHODS:
        setattr(kind, name, timed(name, getattr(kind, name)))
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        status = fastrnn.cli.main(["train", *sys.argv[1:], "--out", folder])
    wall = time.perf_counter() - start
    if status:
        return status
    print(f"\n{wall:.1f} s in all\n\n| function of the core | share of wall time |\n| --- | ---: |")
    for name, spent in seconds.most_common(12):
        print(f"| {name} | {spent / wall:.1%} |")
    print(f"| all else | {1 - seconds.total() / wall:.1%} |")
    print(f"\nrecurrent layers: {sum(seconds[name] for name in RECURRENT) / wall:.1%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
