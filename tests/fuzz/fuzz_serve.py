"""Run hostile clients against a server for as long as one likes, and watch its memory.

    python tests/fuzz/fuzz_serve.py --seconds 600 [--seed N] [--at-once 12]

Prints a line for each round, and ends with status 1 at the first thing that should not have been:
a 5xx, a traceback in the log, sessions that stay, answers that change, memory that grows. What the
clients send follows from the seed; what they meet depends on the machine's speed, too.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from serve_attacks import LIMITS, at_rest, attack, resident, troubles
from serve_cases import Server, models, until, vectors

ROUND = 200  # attacks
GROWTH = 50  # MiB that the memory may grow by after the third round


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.randrange(10**9))
    parser.add_argument("--at-once", type=int, default=12)
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        Server(*models(Path(folder)).values(), *LIMITS) as server,
    ):
        return run(server, arguments)


def run(server: Server, arguments: argparse.Namespace) -> int:
    end, seed, memory = time.monotonic() + arguments.seconds, arguments.seed, []
    x, total = vectors(1, 4, 5), Counter()
    before = server.infer("two", {"input": x})
    while time.monotonic() < end or len(memory) < 4:
        statuses = Counter(asyncio.run(attack(server, seed, ROUND, arguments.at_once)))
        until(lambda: at_rest(server))
        memory.append(resident(server.process))
        shown = ", ".join(f"{status}: {count}" for status, count in sorted(statuses.items()))
        print(f"seed {seed}: {ROUND} attacks, {memory[-1]:.1f} MiB, {shown}", flush=True)
        total.update(statuses)
        for trouble in troubles(server):
            print(trouble)
            return 1
        if server.infer("two", {"input": x}) != before:
            print("answers have changed")
            return 1
        if len(memory) > 3 and memory[-1] > memory[2] + GROWTH:
            print(f"memory has grown: {memory}")
            return 1
        seed += 1
    status = server.stop()
    print(f"{ROUND * len(memory)} attacks, answers {dict(total)}, ended with {status}")
    return int(status != 0)


if __name__ == "__main__":
    sys.exit(main())
