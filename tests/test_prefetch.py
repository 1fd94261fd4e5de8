"""prefetch: the loader's batches, from a thread that never outlives its reader."""

import gc
import os
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrnn import data
from fastrnn.data.batches import Batch, Loader


class Counted(Loader):
    """Batches of their numbers, counted as they are made; `fails_at` raises."""

    stateful = True

    def __init__(self, many=10, fails_at=None, error=RuntimeError):
        self.many, self.fails_at, self.error = many, fails_at, error
        self.made = 0

    def __len__(self):
        return self.many

    def batches(self, epoch=0, start=0):
        for n in range(start, self.many):
            if n == self.fails_at:
                raise self.error("the file is gone")
            self.made += 1
            yield Batch(np.array([epoch, n]))

    def config(self):
        return {"many": self.many}


def threads():
    return [t for t in threading.enumerate() if t.name == "fastrnn-prefetch"]


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    gc.collect()
    assert threads() == []


def numbers(batches):
    return [tuple(batch.inputs) for batch in batches]


@given(st.integers(0, 8), st.integers(1, 10), st.integers(0, 3), st.integers(0, 9))
def test_same_batches_in_the_same_order(many, ahead, epoch, start):
    loader = Counted(many)
    got = data.prefetch(loader, ahead)
    assert numbers(got.batches(epoch, start)) == numbers(loader.batches(epoch, start))
    assert len(got) == many
    assert got.config() == loader.config()
    assert got.stateful
    assert threads() == []


def test_a_loader_of_sequences_and_one_around_another():
    rng = np.random.default_rng(0)
    sequences = [rng.random((n, 2)) for n in rng.integers(1, 30, 100)]
    loader = data.SequenceLoader(sequences, rng.integers(0, 3, 100), shuffle=True, batch_size=7)
    for epoch in range(2):
        got = data.prefetch(data.prefetch(loader, 1), 3).batches(epoch)
        for one, other in zip(got, loader.batches(epoch), strict=True):
            for mine, theirs in zip(one, other, strict=True):
                np.testing.assert_array_equal(mine, theirs)


def test_nothing_is_made_before_it_is_read_and_no_more_than_ahead():
    loader = Counted(100)
    batches = data.prefetch(loader, 3).batches()
    assert threads() == []
    next(batches)
    give_up = time.monotonic() + 20
    while loader.made < 4 and time.monotonic() < give_up:
        time.sleep(0.001)
    time.sleep(0.02)
    assert loader.made == 4  # the one that was read, and three
    batches.close()


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, MemoryError])
def test_an_error_reaches_the_reader_after_what_came_before_it(error):
    batches = data.prefetch(Counted(10, fails_at=4, error=error)).batches()
    assert numbers(next(batches) for _ in range(4)) == [(0, n) for n in range(4)]
    with pytest.raises(error, match="the file is gone"):
        next(batches)
    assert threads() == []


def test_leaving_early_ends_the_thread():
    loader = data.prefetch(Counted(10**9), 2)
    for _ in loader:  # the generator is closed when nothing refers to it
        break
    gc.collect()
    assert threads() == []

    with pytest.raises(ZeroDivisionError):
        sum(1 // int(batch.inputs[0]) for batch in loader)
    gc.collect()
    assert threads() == []

    batches = loader.batches()
    next(batches)
    batches.close()
    assert threads() == []

    cycle = [loader.batches()]
    cycle.append(cycle)
    next(cycle[0])
    assert len(threads()) == 1
    del cycle
    gc.collect()
    assert threads() == []


def run(script, **options):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=os.getcwd(),
        **options,
    )


SLOW = """
    import os, signal, sys, threading, time
    from fastrnn import data
    from fastrnn.data.batches import Batch, Loader

    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored by what runs in background

    class Slow(Loader):
        def __init__(self, seconds): self.seconds = seconds
        def __len__(self): return 10**6
        def batches(self, epoch=0, start=0):
            for n in range(start, len(self)):
                yield Batch(n)
                time.sleep(self.seconds)
        def config(self): return {}
"""


def test_control_c_while_the_reader_waits():
    result = run(
        SLOW
        + """
    batches = data.prefetch(Slow(0.5)).batches()
    next(batches)
    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        next(batches)
        next(batches)
    except KeyboardInterrupt:
        timer.join()
        print("interrupted", threading.active_count())
    """
    )
    assert result.stdout == "interrupted 1\n", result.stderr


def test_a_program_ends_in_the_middle_of_an_iteration():
    result = run(SLOW + "    batches = data.prefetch(Slow(0)).batches(); print(next(batches)[0])\n")
    assert (result.stdout, result.stderr, result.returncode) == ("0\n", "", 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_goes_on_without_the_thread():
    result = run(
        SLOW
        + """
    import warnings
    warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads
    batches = data.prefetch(Slow(0)).batches()
    first = [next(batches)[0] for _ in range(3)]
    child = os.fork()
    rest = [next(batches)[0] for _ in range(3)]
    again = [next(data.prefetch(Slow(0)).batches())[0] for _ in range(2)]
    batches.close()
    if child:
        _, status = os.waitpid(child, 0)
        print(status)
    else:
        os._exit(0 if (first, rest, again) == ([0, 1, 2], [3, 4, 5], [0, 0]) else 1)
    """
    )
    assert result.stdout == "0\n", result.stderr


def test_rejects():
    with pytest.raises(TypeError, match="loader: expected a Loader, got list"):
        data.prefetch([])
    with pytest.raises(ValueError, match="ahead: expected at least 1, got 0"):
        data.prefetch(Counted(), 0)
    assert repr(data.prefetch(Counted())) == "prefetch(Counted(many=10), ahead=2)"
