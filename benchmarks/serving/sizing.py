"""The tables of docs/scaling.md, from what messages and steps cost (measured by costs.py).

    python benchmarks/serving/sizing.py --rate 100 --count 1000000 --length 50

Costs are processor time in microseconds. Plans keep cores at 60 %, and Redis, which has one, at
50 %.
"""

import argparse
import math
from typing import NamedTuple


class Cost(NamedTuple):
    """Microseconds of a core."""

    what: str
    message: float
    step: float

    def cores(self, messages, steps):
        """Return the cores that messages and steps of a second keep busy."""
        return 1e-6 * (messages * self.message + steps * self.step)


# Measured by costs.py and scoring.py, on the machine that docs/scaling.md names.
POOL = Cost("data sets; `StreamPool` with many sessions at work", 0, 3.7)
SERVER = Cost("server", 233, 15.3)
STORED = Cost("server, sessions in Redis", 342, 24.5)
REDIS = Cost("Redis", 25, 3.5)
HAPROXY = Cost("HAProxy, both ways", 67, 2.7)
NGINX = Cost("nginx, both ways", 67, 2.0)
SERVER_BYTES, REDIS_BYTES = 54_690, 1_599  # of an open stream, of a stored session

I, O, STATE = 40, 10, 512  # numbers in and out of a step, bytes of a state  # noqa: E741
HEADERS = 120  # bytes of a message: its own head, WebSocket, TCP, IP, acknowledgements
BUSY, BUSY_REDIS = 0.6, 0.5
LENGTHS = (10, 50, 100)  # steps of messages
GIGABIT, GIB = 8e-9, 2**30


def table(*rows):
    """Return rows of Markdown; the first is the head."""
    lines = [f"| {' | '.join(map(str, row))} |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]])


def costs():
    parts = POOL, SERVER, STORED, REDIS, HAPROXY, NGINX
    return table(
        ("processor time", "a message, µs", "each of its steps, µs"),
        *((part.what, f"{part.message:g}", f"{part.step:g}") for part in parts),
    )


def streams_of_a_core(rate):
    """Streams for each core."""
    rows = [("messages of", *(part.what for part in (POOL, SERVER, STORED, HAPROXY)))]
    for length in LENGTHS:
        parts = (POOL, SERVER, STORED, HAPROXY)
        found = [BUSY / part.cores(rate / length, rate) for part in parts]
        rows.append((f"{length} steps", *(f"{each:,.0f}" for each in found)))
    return table(*rows)


def a_million_steps(price):
    """Core-seconds, and their price."""
    cases = [("a data set, or a busy pool", POOL.step)]
    for part in (SERVER, STORED):
        for length in LENGTHS:
            name = f"{part.what}, messages of {length} steps"
            cases.append((name, part.message / length + part.step))
    rows = [(name, f"{s:.1f}", f"{100 * s * price / 3600:.3f}") for name, s in cases]
    return table(("a million steps", "core-seconds", "cents"), *rows)


def plan(count, rate, length):
    """What many streams need."""
    messages, steps = count * rate / length, count * rate
    servers = STORED.cores(messages, steps) / BUSY
    proxies = HAPROXY.cores(messages, steps) / BUSY
    stores = REDIS.cores(messages, steps) / BUSY_REDIS
    stored = messages * (STATE + 4 * length * O + 250) * GIGABIT
    wire_in = messages * (4 * length * I + HEADERS) * GIGABIT
    wire_out = messages * (4 * length * O + HEADERS) * GIGABIT
    return table(
        ("part", "all", "a thousandth of it"),
        ("streams", f"{count:,}", f"{count / 1000:,.0f}"),
        ("messages a second", f"{messages:,.0f}", f"{messages / 1000:,.0f}"),
        ("steps a second", f"{steps:,.0f}", f"{steps / 1000:,.0f}"),
        ("cores for servers", up(servers), f"{servers / 1000:.1f}"),
        ("cores for HAProxy", up(proxies), f"{proxies / 1000:.2f}"),
        ("Redis, processes of one core", up(stores), f"{stores / 1000:.2f}"),
        (
            "memory of servers for streams",
            f"{up(count * SERVER_BYTES / GIB)} GiB",
            f"{count * SERVER_BYTES / GIB / 1000:.2f} GiB",
        ),
        (
            "memory of Redis",
            f"{up(count * REDIS_BYTES / GIB)} GiB",
            f"{count * REDIS_BYTES / GIB / 1000:.3f} GiB",
        ),
        ("to Redis", f"{stored:,.0f} Gbit/s", f"{stored / 1000:.3f} Gbit/s"),
        ("from clients", f"{wire_in:,.0f} Gbit/s", f"{wire_in / 1000:.3f} Gbit/s"),
        ("to clients", f"{wire_out:,.0f} Gbit/s", f"{wire_out / 1000:.3f} Gbit/s"),
    )


def up(value):
    return f"{math.ceil(value):,}"


def tables(rate=100, count=1_000_000, length=50, price=0.04):
    """Return all tables."""
    return (
        costs(), streams_of_a_core(rate), a_million_steps(price), plan(count, rate, length)
    )  # fmt: skip


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rate", type=float, default=100, help="steps/s of a stream")
    parser.add_argument("--count", type=int, default=1_000_000, help="streams of the plan")
    parser.add_argument("--length", type=int, default=50, help="steps of its messages")
    parser.add_argument("--price", type=float, default=0.04, help="of a core for an hour")
    print(*tables(**vars(parser.parse_args())), sep="\n\n")


if __name__ == "__main__":
    main()
