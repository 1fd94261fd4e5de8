"""Many WebSocket streams at a fixed pace against one server; how long answers take.

    python benchmarks/serving/load.py                    300 streams x 100 steps/s, a minute
    python benchmarks/serving/load.py --seconds 600      sustained: memory over time
    python benchmarks/serving/load.py --redis            states kept in Redis

Each stream sends a message of some steps at fixed times, whether or not answers have come; streams
are spread in time. The latency of an answer counts from the time at which its message was due, so
that a late client or a full queue shows. The outputs of one stream of each client process are
compared, to the bit, with the model run alone.
"""

import argparse
import asyncio
import collections
import contextlib
import hashlib
import multiprocessing
import struct
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from processes import (
    RedisServer,
    ServerProcess,
    cpu_seconds,
    machine_cpu_seconds,
    resident_bytes,
)

import fastrnn
from fastrnn.serve import protocol

try:
    import uvloop
except ImportError:
    uvloop = None

I, H, O = 40, 128, 10  # noqa: E741
BANK = 64  # different messages
WINDOW = 16  # messages under way that the server allows
LATE = 0.005  # seconds after which a message counts as sent late
WARM_UP = 3.0  # seconds that do not count


def make_model():
    return fastrnn.Sequential(fastrnn.GRU(I, H, seed=1), fastrnn.Linear(H, O, seed=2))


def make_bank(message):
    rng = np.random.default_rng(0)
    return rng.standard_normal((BANK, message, I)).astype(np.float32)


class Stream(asyncio.Protocol):
    """One stream: sends at its times, notes when answers come.

    It speaks WebSocket by itself, as little of it as it takes, and the protocol of streams without
    resumption: it shares the machine with the server, of which more is asked than of a client.
    """

    def __init__(self, number, arguments, bank):
        self.number, self.bank = number, bank
        self.steps = arguments.message
        self.period = arguments.message / arguments.rate
        self.offset = self.period * number / arguments.streams
        self.path = "/v2/models/m/stream"
        self.loop = asyncio.get_running_loop()
        self.opened, self.ended = self.loop.create_future(), self.loop.create_future()
        self.latencies, self.late, self.sent, self.answered = [], 0, 0, 0
        self.due = collections.deque()  # times of messages without an answer, the oldest first
        self.digest = hashlib.blake2b()
        self.buffer = b""
        self.upgraded = False

    def message(self, k):
        return self.bank[(7 * self.number + k) % BANK]

    # --- time

    def start(self, begin, count_from, end):
        """Send from one time to another, of time.monotonic()."""
        self.count_from, self.end = count_from, end
        self.next = begin + self.offset
        self.wait()

    def wait(self):
        if self.next < self.end:
            self.loop.call_later(max(0.0, self.next - time.monotonic()), self.become_due)
        else:
            self.next = None
            self.send_due()

    def become_due(self):
        self.due.append(self.next)
        self.next += self.period
        self.send_due()
        self.wait()

    def send_due(self):
        """Send what is due, as far as the server allows; at the end say goodbye."""
        while self.sent < self.answered + len(self.due) and self.sent < self.answered + WINDOW:
            due = self.due[self.sent - self.answered]
            self.late += due >= self.count_from and time.monotonic() - due > LATE
            header = protocol.HEADER.pack(self.sent * self.steps, self.answered * self.steps)
            self.send(0x82, header + self.message(self.sent).tobytes())
            self.sent += 1
        if self.next is None and not self.due:
            self.send(0x81, protocol.write_message("close").encode())

    def take_answer(self, frame):
        due = self.due.popleft()
        if due >= self.count_from:
            self.latencies.append(time.monotonic() - due)
        assert protocol.frame_position(frame) == self.answered * self.steps
        self.answered += 1
        self.digest.update(memoryview(frame)[protocol.HEADER.size :])
        self.send_due()

    def is_right(self):
        """Whether the answers had the bits of the model alone."""
        digest = hashlib.blake2b()
        with fastrnn.StreamPool(make_model(), 1, num_threads=1) as pool:
            session = pool.open()
            for k in range(self.sent):
                digest.update(pool.step(session, self.message(k)))
        return digest.digest() == self.digest.digest()

    # --- WebSocket

    def connection_made(self, transport):
        self.transport = transport
        host, port = transport.get_extra_info("peername")
        transport.write(
            f"GET {self.path} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n".encode()
        )

    def connection_lost(self, error):
        for future in (self.opened, self.ended):
            if not future.done():
                future.set_exception(error or ConnectionError("the server closed the connection"))

    def send(self, opcode, data):
        """Send a frame; its mask is zero."""
        size = len(data)
        length = bytes([0x80 | size]) if size < 126 else struct.pack("!BH", 0x80 | 126, size)
        self.transport.write(b"".join((bytes([opcode]), length, bytes(4), data)))

    def data_received(self, data):
        data = self.buffer + data if self.buffer else data
        if not self.upgraded:
            head, end, data = data.partition(b"\r\n\r\n")
            if not end:
                self.buffer = head
                return
            assert b" 101 " in head, head
            self.upgraded = True
            self.send(0x81, protocol.write_message("open").encode())
        at = 0
        while len(data) >= at + 2:
            size, start = data[at + 1], at + 2
            if size == 126:
                size, start = int.from_bytes(data[at + 2 : at + 4], "big"), at + 4
            elif size == 127:
                size, start = int.from_bytes(data[at + 2 : at + 10], "big"), at + 10
            if len(data) < start + size:
                break
            self.take_frame(data[at] & 15, data[start : start + size])
            at = start + size
        self.buffer = data[at:]

    def take_frame(self, opcode, data):
        if opcode == 2:
            self.take_answer(data)
        elif opcode == 1:
            kind = protocol.read_reply(data.decode())["type"]
            future = self.opened if kind == "opened" else self.ended
            future.set_result(None)
        elif opcode == 9:
            self.send(0x8A, data)


def run_client(numbers, arguments, begin, results):
    """Run some of the streams; what a client process does."""

    async def main():
        bank = make_bank(arguments.message)
        url = urlsplit(arguments.url)
        loop = asyncio.get_running_loop()
        streams = [Stream(number, arguments, bank) for number in numbers]
        for stream in streams:
            await loop.create_connection(lambda stream=stream: stream, url.hostname, url.port)
            await stream.opened
        count_from, end = begin + WARM_UP, begin + WARM_UP + arguments.seconds
        for stream in streams:
            stream.start(begin, count_from, end)
        await asyncio.gather(*(stream.ended for stream in streams))
        return streams

    if uvloop is not None:
        uvloop.install()
    streams = asyncio.run(main())
    cpu = time.process_time()
    results.put(
        {
            "latencies": np.concatenate([np.float32(stream.latencies) for stream in streams]),
            "late": sum(stream.late for stream in streams),
            "sent": sum(stream.sent for stream in streams),
            "cpu": cpu,
            "right": streams[0].is_right(),
        }
    )


class Watch:
    """CPU and memory of the server, over time."""

    def __init__(self, pids, interval):
        self.pids, self.interval = pids, interval
        self.began = time.monotonic()
        self.cpu_before = {name: cpu_seconds(pid) for name, pid in pids.items()}
        self.all_before = machine_cpu_seconds()
        self.memory = []

    def sample(self):
        sizes = {name: resident_bytes(pid) / 2**20 for name, pid in self.pids.items()}
        self.memory.append((time.monotonic() - self.began, sizes))
        print(
            f"  {self.memory[-1][0]:6.0f} s  RSS "
            + ", ".join(f"{name} {size:.1f} MiB" for name, size in sizes.items()),
            flush=True,
        )

    def cpu(self):
        """CPU seconds a second of each process."""
        seconds = time.monotonic() - self.began
        used = {name: cpu_seconds(pid) - self.cpu_before[name] for name, pid in self.pids.items()}
        used["whole machine"] = machine_cpu_seconds() - self.all_before
        return {name: value / seconds for name, value in used.items()}


def run_load(arguments, pids):
    """Run client processes against a server; print what came of it; tell whether it was right."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    begin = time.monotonic() + 3.0 + arguments.streams / 200  # all clients are there by then
    clients = [
        context.Process(
            target=run_client,
            args=(range(first, arguments.streams, arguments.processes), arguments, begin, results),
        )
        for first in range(arguments.processes)
    ]
    for client in clients:
        client.start()
    time.sleep(max(0.0, begin + WARM_UP - time.monotonic()))
    watch = Watch(pids, arguments.sample)
    end = begin + WARM_UP + arguments.seconds
    while time.monotonic() < end:
        watch.sample()
        time.sleep(max(0.0, min(arguments.sample, end - time.monotonic())))
    watch.sample()
    cpu = watch.cpu()
    parts = [results.get(timeout=120) for _ in clients]
    for client in clients:
        client.join()
    report(arguments, parts, cpu, watch.memory)
    return all(part["right"] for part in parts)


def report(arguments, parts, cpu, memory):
    latencies = 1000 * np.concatenate([part["latencies"] for part in parts])
    late = sum(part["late"] for part in parts)
    total = arguments.seconds + WARM_UP
    rate = len(latencies) / arguments.seconds
    p50, p99, p999 = np.percentile(latencies, [50, 99, 99.9])
    print(
        f"{arguments.streams} streams x {arguments.rate:g} steps/s, messages of "
        f"{arguments.message} steps, {arguments.seconds:g} s, {arguments.processes} client "
        f"processes, GRU {I} -> {H}, Linear {H} -> {O}"
    )
    print(f"throughput  {rate:,.0f} messages/s, {rate * arguments.message:,.0f} steps/s")
    print(
        f"answers     p50 {p50:.2f} ms, p99 {p99:.2f} ms, p99.9 {p999:.2f} ms, "
        f"longest {latencies.max():.1f} ms, of {len(latencies):,}"
    )
    print(
        f"late sends  {late:,} of {len(latencies):,} ({LATE * 1000:g} ms or more after their time)"
    )
    used = ", ".join(f"{name} {value:.2f}" for name, value in cpu.items())
    print(f"CPU cores   {used}, clients {sum(part['cpu'] for part in parts) / total:.2f}")
    for name in memory[0][1]:
        sizes = np.array([sizes[name] for _, sizes in memory])
        half = len(sizes) // 2
        print(
            f"RSS {name:8}{sizes[0]:.1f} MiB at first, {sizes[half]:.1f} at half time, "
            f"{sizes[-1]:.1f} at the end, at most {sizes.max():.1f}"
        )
    print(f"bits        {sum(part['right'] for part in parts)} of {len(parts)} streams as alone")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--streams", type=int, default=300)
    parser.add_argument("--rate", type=float, default=100, help="steps per second of a stream")
    parser.add_argument("--message", type=int, default=10, help="steps of a message")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--processes", type=int, default=2, help="of clients")
    parser.add_argument("--sample", type=float, default=10, help="seconds between looks at memory")
    parser.add_argument("--redis", action="store_true", help="keep states in Redis, started here")
    parser.add_argument("--url", help="of a server that runs and serves the model as m")
    parser.add_argument("--options", default="", help="more for fastrnn serve")
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        pids = {}
        if arguments.url is None:
            path = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "m.safetensors"
            fastrnn.save(make_model(), path)
            options = arguments.options.split()
            if arguments.redis:
                redis = stack.enter_context(RedisServer())
                options += ["--state", redis.url]
                pids["redis"] = redis.process.pid
            server = stack.enter_context(ServerProcess(f"m={path}", *options))
            pids["server"] = server.process.pid
            arguments.url = server.url
        sys.exit(not run_load(arguments, pids))


if __name__ == "__main__":
    main()
