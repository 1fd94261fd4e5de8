"""The tables of docs/scaling.md, from what steps and messages cost (see costs.py).

    python benchmarks/serving/sizing.py --step 3 --message 250

Costs are microseconds of a core. What is planned keeps cores at 60 %, Redis, which has one, at 50 %.
"""

import argparse
import math

SIZES = (5, 10, 50)  # steps of a message
I, O, STATE = 40, 10, 512  # numbers in and out of a step, bytes of a state  # noqa: E741
HEADERS = 120  # bytes of a message for WebSocket, TCP, IP and acknowledgements
BUSY, BUSY_REDIS = 0.6, 0.5
COSTS = {
    "step": (@STEP@, "a step, many sessions at once"),
    "message": (@MSG@, "a message, in the server"),
    "redis-message": (@RMSG@, "a message, in the server, where its session is stored"),
    "redis": (@REDIS@, "a message, in Redis"),
    "haproxy": (@HAP@, "a message, in HAProxy, both ways"),
    "nginx": (@NGX@, "a message, in nginx, both ways"),
}
BYTES = {
    "stream-bytes": (@MEM@, "an open stream, in a server"),
    "redis-bytes": (@RMEM@, "a session, in Redis"),
}


def streams(costs, rate, message, of_message):
    """Return the streams that a core takes."""
    return BUSY / (rate * (costs["step"] + of_message / message) * 1e-6)


def of_a_core(costs, rate):
    """Yield the lines of the table of streams for each core."""
    yield f"| messages of | StreamPool | server | server, Redis | of these: {rate:g} steps/s |"
    yield "| --- | --- | --- | --- | --- |"
    for size in SIZES:
        found = [
            f"{streams(costs, rate, size, each):,.0f}"
            for each in (0, costs["message"], costs["redis-message"])
        ]
        yield f"| {size} steps | {' | '.join(found)} | {rate / size:g} messages/s each |"


def of_a_million(costs, price):
    """Yield the lines of the table of core-seconds for a million steps."""
    yield f"| a million steps | core-seconds | at {price:g} $ for a core and hour |"
    yield "| --- | --- | --- |"
    cases = [("a data set, or a StreamPool", 0, 1)]
    cases += [(f"messages of {size} steps", costs["message"], size) for size in SIZES]
    cases += [(f"{case[0]}, Redis", costs["redis-message"], case[2]) for case in cases[1:]]
    for name, of_message, size in cases:
        seconds = costs["step"] + of_message / size
        yield f"| {name} | {seconds:,.1f} | {seconds / 3600 * price:.5f} $ |"


def plan(costs, count, rate, message):
    """Yield the lines of the plan for many streams."""
    messages, steps = count * rate / message, count * rate
    redis_value = STATE + 4 * message * O + 250
    wire_in, wire_out = 4 * message * I + 16 + HEADERS, 4 * message * O + 16 + HEADERS
    cores = {
        "servers": (messages * costs["redis-message"] + steps * costs["step"]) * 1e-6 / BUSY,
        "HAProxy": messages * costs["haproxy"] * 1e-6 / BUSY,
    }
    of_redis = messages * costs["redis"] * 1e-6 / BUSY_REDIS
    gigabit = 8e-9
    yield "| for | it takes | |"
    yield "| --- | --- | --- |"
    yield f"| messages | {messages:,.0f}/s | {steps:,.0f} steps/s |"
    yield f"| servers | {_up(cores['servers'])} cores | one process each |"
    yield f"| HAProxy | {_up(cores['HAProxy'])} cores | {2 * count:,} sockets |"
    yield f"| Redis | {_up(of_redis)} processes | {messages * redis_value * gigabit:,.0f} Gbit/s |"
    memory = count * costs["stream-bytes"] / 2**30, count * costs["redis-bytes"] / 2**30
    yield f"| memory | {_up(memory[0])} GiB of servers | {_up(memory[1])} GiB of Redis |"
    yield (
        f"| network | {messages * wire_in * gigabit:,.0f} Gbit/s in "
        f"| {messages * wire_out * gigabit:,.0f} Gbit/s out |"
    )


def _up(value):
    return f"{math.ceil(value):,}"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, (default, help_text) in {**COSTS, **BYTES}.items():
        parser.add_argument(f"--{name}", type=float, default=default, help=f"of {help_text}")
    parser.add_argument("--rate", type=float, default=100, help="steps/s of a stream")
    parser.add_argument("--count", type=int, default=1_000_000, help="streams of the plan")
    parser.add_argument("--length", type=int, default=50, help="steps of its messages")
    parser.add_argument("--price", type=float, default=0.04, help="of a core for an hour")
    arguments = parser.parse_args()
    costs = {name: getattr(arguments, name.replace("-", "_")) for name in (*COSTS, *BYTES)}
    print("| cost | |\n| --- | --- |")
    for name, (_, text) in COSTS.items():
        print(f"| {text} | {costs[name]:g} µs |")
    for name, (_, text) in BYTES.items():
        print(f"| {text} | {costs[name]:,.0f} bytes |")
    for table in (
        of_a_core(costs, arguments.rate),
        of_a_million(costs, arguments.price),
        plan(costs, arguments.count, arguments.rate, arguments.length),
    ):
        print("", *table, sep="\n")


if __name__ == "__main__":
    main()
