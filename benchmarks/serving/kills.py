"""Kill -9 servers at random moments under load; check that nothing is lost and nothing doubled.

    python benchmarks/serving/kills.py --kills 50 --clients 8

Two servers share sessions in Redis. Clients stream all the time, each with several messages under
way. At random moments one server is killed, sometimes both, and started again. At the end each
client's answers must be, to the bit, those of the model run alone, and the server must have
computed each step once. Exits with status 1 otherwise.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from processes import RedisServer, ServerProcess
from websockets.asyncio.client import connect

import fastrnn
from fastrnn.serve import protocol
from fastrnn.serve.client import StreamClient

I = 40  # noqa: E741
UNDER_WAY = 4  # messages of a client


class Load:
    """One client: what it sends, what it gets, and the longest time it waited for an answer."""

    def __init__(self, urls, seed):
        self.rng = np.random.default_rng(seed)
        self.client = StreamClient(urls[seed % 2 :] + urls[: seed % 2], "m", timeout=600)
        self.x, self.y = [], []
        self.longest = 0.0

    async def run(self, stop):
        await self.client.connect()
        tasks = []
        while not stop.is_set() or tasks:
            while len(tasks) < UNDER_WAY and not stop.is_set():
                steps = int(self.rng.integers(1, 30))
                x = self.rng.standard_normal((steps, I)).astype(np.float32)
                self.x.append(x)
                tasks.append(asyncio.create_task(self.client.send(x)))
                await asyncio.sleep(self.rng.uniform(0, 0.01))
            began = time.perf_counter()
            self.y.append(await tasks.pop(0))
            self.longest = max(self.longest, time.perf_counter() - began)
        await self.client.disconnect()

    def is_right(self, model):
        """Whether the answers are those of the model alone."""
        x, y = np.concatenate(self.x), np.concatenate(self.y)
        with fastrnn.StreamPool(model, 1) as pool:
            return np.array_equal(pool.step(pool.open(), x), y)

    async def position(self):
        """Return the steps that the server has computed, as it says itself."""
        ticket = self.client.ticket
        async with connect(f"{self.client.url}/v2/models/m/stream") as socket:
            fields = {"session": ticket.session, "token": ticket.token}
            await socket.send(protocol.write_message("resume", received=ticket.received, **fields))
            return json.loads(await socket.recv())["position"]


async def kill_servers(servers, kills, rng):
    """Kill servers one after the other, each after work of a random length."""
    done = 0
    while done < kills:
        await asyncio.sleep(rng.uniform(0.05, 1.0))
        killed = servers if rng.random() < 0.2 and done + 2 <= kills else [rng.choice(servers)]
        for server in killed:
            server.process.kill()
        done += len(killed)
        await asyncio.sleep(rng.uniform(0, 0.3))
        await asyncio.gather(*(asyncio.to_thread(restart, server) for server in killed))
        print(f"\r{done} of {kills}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)


def restart(server):
    server.kill()
    server.start()


async def run(arguments, folder):
    model = fastrnn.Sequential(fastrnn.GRU(I, 64, seed=1), fastrnn.Linear(64, 10, seed=2))
    path = Path(folder) / "m.safetensors"
    fastrnn.save(model, path)
    rng = np.random.default_rng(arguments.seed)
    with RedisServer() as redis:
        options = (f"m={path}", "--state", redis.url)
        with ServerProcess(*options) as one, ServerProcess(*options) as other:
            urls = [one.url, other.url]
            loads = [Load(urls, seed) for seed in range(arguments.clients)]
            stop = asyncio.Event()
            began = time.perf_counter()
            tasks = [asyncio.create_task(load.run(stop)) for load in loads]
            await asyncio.sleep(0.5)
            await kill_servers([one, other], arguments.kills, rng)
            await asyncio.sleep(0.5)
            stop.set()
            await asyncio.wait_for(asyncio.gather(*tasks), 120)
            seconds = time.perf_counter() - began
            positions = [await load.position() for load in loads]
    right = [load.is_right(model) for load in loads]
    counts = [len(np.concatenate(load.x)) for load in loads]
    once = positions == counts
    print(
        f"{arguments.kills} kills in {seconds:.0f} s: {len(loads)} clients, "
        f"{sum(len(load.x) for load in loads):,} messages, {sum(counts):,} steps, "
        f"{sum(load.client.connections - 1 for load in loads)} resumptions, "
        f"longest wait {max(load.longest for load in loads):.2f} s"
    )
    print(f"answers of the model alone, to the bit: {sum(right)} of {len(right)} clients")
    print(f"each step computed and stored once: {'yes' if once else f'no: {positions} {counts}'}")
    return all(right) and once


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(not asyncio.run(run(arguments, folder)))


if __name__ == "__main__":
    main()
