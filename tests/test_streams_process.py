"""StreamPool and AsyncPool in a process that is interrupted, forks, ends, or forgets them."""

import gc
import os
import subprocess
import sys
import weakref

import numpy as np
import pytest

import fastrnn

BEGIN = """
import asyncio, gc, os, signal, sys, threading
import numpy as np
import fastrnn
from fastrnn.streams import AsyncPool
model = fastrnn.GRU(3, 8, seed=0)
x = np.ones(3, "f")
def waiting(**more):  # a pool with a step that waits for the other session's for ever
    pool = fastrnn.StreamPool(model, 4, max_delay=1e6, **more)
    session, _ = pool.open(), pool.open()
    return pool, session, pool.submit(session, x)
"""


def run(code):
    """Run a program to its end; return what it printed."""
    found = subprocess.run(
        [sys.executable, "-c", BEGIN + code], capture_output=True, text=True, timeout=120
    )
    assert (found.returncode, found.stderr) == (0, ""), found
    return found.stdout.split()


needs_signals = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


@needs_signals
@pytest.mark.parametrize("wait", ["answer.result()", "pool.submit(session, x)"])
def test_ctrl_c_is_heard_while_a_program_waits(wait):
    printed = run(f"""
pool, session, answer = waiting(max_pending=1)
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    {wait}
except KeyboardInterrupt:
    print(pool.stats()["pending_steps"], answer.done())
""")
    assert printed == ["1", "False"]


@pytest.mark.parametrize("end", ["", "sys.exit()", "del pool", "del answer; gc.collect()"])
def test_a_program_ends_with_steps_that_wait(end):
    assert run(f"pool, session, answer = waiting()\nprint(len(pool))\n{end}") == ["2"]


def test_a_program_ends_while_daemon_threads_wait():
    """A thread that comes back after the interpreter ended must not take the process with it."""
    run("""
import atexit, time
pool, session, answer = waiting(max_pending=1)
for wait in (answer.result, lambda: pool.submit(session, x)):
    threading.Thread(target=wait, daemon=True).start()
class Slow:
    def __del__(self, sleep=time.sleep):
        sleep(0.5)
sys.modules["slow"] = Slow()
time.sleep(0.1)
""")


def test_a_program_ends_with_an_async_pool_whose_loop_is_gone():
    assert run("""
pool = fastrnn.StreamPool(model, 4)
async def main():
    apool = AsyncPool(pool)
    apool.submit(pool.open(), np.ones((50, 3), "f"))
    return apool
apool = asyncio.run(main())
apool.close()
apool.close()
print("closed")
""") == ["closed"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_has_no_part_in_a_pool():
    printed = run("""
pool, session, answer = waiting()
child = os.fork()
if not child:
    uses = (lambda: pool.submit(session, x), pool.open, lambda: pool.close(session), pool.stats)
    uses += (answer.result,)
    for use in uses:
        try:
            use()
        except RuntimeError:
            print("refused", flush=True)
    pool.shutdown()
    own = fastrnn.StreamPool(model)
    print(own.step(own.open(), x).shape[0], flush=True)
    del pool
    gc.collect()
    sys.exit()
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), len(pool))
""")
    assert printed == ["refused"] * 5 + ["8", "0", "2"]


def test_pools_in_cycles_are_collected():
    class Holder:
        pass

    holder = Holder()
    holder.me, holder.pool = holder, fastrnn.StreamPool(fastrnn.GRU(3, 8))
    holder.answer = holder.pool.submit(holder.pool.open(), np.ones((1000, 3), "f"))
    gone = weakref.ref(holder)
    del holder
    gc.collect()
    assert gone() is None


def test_an_async_pool_that_was_closed_takes_nothing():
    assert run("""
async def main():
    apool = AsyncPool(fastrnn.StreamPool(model))
    session = apool.pool.open()
    apool.close()
    try:
        apool.submit(session, x)
    except RuntimeError:
        print("refused")
asyncio.run(main())
""") == ["refused"]


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts files in /proc")
def test_async_pools_that_are_closed_early_hold_no_files():
    """Answers that come when nobody takes them any more do not keep the pipe."""
    before, after = run("""
count = lambda: len(os.listdir("/proc/self/fd"))
async def main():
    print(count())
    for _ in range(50):
        apool = AsyncPool(fastrnn.StreamPool(model, 2))
        apool.submit(apool.pool.open(), np.ones((5, 3), "f"))
        apool.close()
        apool.pool.shutdown()
    del apool
    gc.collect()
    print(count())
asyncio.run(main())
""")
    assert int(after) <= int(before) + 2
