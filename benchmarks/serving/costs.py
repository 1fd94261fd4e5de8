"""What a message of a stream costs in each part of a deployment, for the sizing in docs/scaling.md.

    python benchmarks/serving/costs.py

Runs the load of load.py at several sizes of messages, with and without Redis and the proxies of
examples/serving, and reads the processor time that each process used. From these, by least squares,
what a message and what a step costs; then memory of a session, in the server and in Redis.
"""

import argparse
import contextlib
import io
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import load
import numpy as np
from processes import RedisServer, ServerProcess, free_port, resident_bytes

import fastrnn

EXAMPLES = Path(__file__).parents[2] / "examples" / "serving"


def proxy(kind, folder, server_port):
    """Start a proxy before one server; return its process and its port."""
    name = {"haproxy": "haproxy.cfg", "nginx": "nginx.conf"}[kind]
    text, port = (EXAMPLES / name).read_text(), free_port()
    text = text.replace("127.0.0.1:8000", f"127.0.0.1:{port}")
    text = re.sub(r"^.*127\.0\.0\.1:800[23]\b.*\n", "", text, flags=re.MULTILINE)
    text = text.replace("127.0.0.1:8001", f"127.0.0.1:{server_port}")
    # One process of nginx, whose time is all of its time.
    text = text.replace("worker_processes auto;", "daemon off; master_process off;")
    (folder / name).write_text(text)
    command = [shutil.which(kind, path="/usr/sbin:/usr/bin"), "-db", "-f", folder / name]
    if kind == "nginx":
        pid = f"pid {folder}/nginx.pid;"
        command = [command[0], "-p", folder, "-e", "stderr", "-c", folder / name, "-g", pid]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    time.sleep(1)
    return process, port


def run(arguments, message, redis, kind):
    """Return messages a second, and cores used, by process."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        fastrnn.save(load.make_model(), folder / "m.safetensors")
        options, pids = [], {}
        if redis:
            store = stack.enter_context(RedisServer())
            options, pids["redis"] = ["--state", store.url], store.process.pid
        server = stack.enter_context(ServerProcess(f"m={folder}/m.safetensors", *options))
        pids["server"], url = server.process.pid, server.url
        if kind:
            process, port = proxy(kind, folder, server.port)
            stack.callback(process.wait)
            stack.callback(process.terminate)
            pids[kind], url = process.pid, f"ws://127.0.0.1:{port}"
        given = argparse.Namespace(
            streams=arguments.streams, rate=arguments.rate, message=message, processes=2,
            seconds=arguments.seconds, sample=arguments.seconds, url=url,
        )  # fmt: skip
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            assert load.run_load(given, pids), said.getvalue()
    text = said.getvalue()
    rate = float(re.search(r"throughput +([\d,]+) messages", text)[1].replace(",", ""))
    used = dict(re.findall(r"(\w+) ([\d.]+)", re.search(r"CPU cores +(.*), clients", text)[1]))
    print(f"{message} steps, redis {redis}, {kind}: {rate:.0f} messages/s, {used}", flush=True)
    return rate, {name: float(value) for name, value in used.items()}


def fitted(points):
    """Return microseconds of a message and of a step, from (messages/s, steps of each, cores)."""
    rows = np.array([(rate, rate * steps) for rate, steps, _ in points])
    cores = np.array([used for *_, used in points])
    return 1e6 * np.linalg.lstsq(rows, cores, rcond=None)[0]


def memory(count):
    """Return bytes of an open session: in a server with its stream, and in Redis."""
    import asyncio

    import redis as client_of_redis

    async def main(url, pid, store):
        from fastrnn.serve.client import StreamClient

        x = np.zeros((10, load.I), np.float32)
        clients = [StreamClient(url, "m") for _ in range(count)]
        before = resident_bytes(pid), store.info("memory")["used_memory"]
        for start in range(0, count, 50):
            await asyncio.gather(*(client.connect() for client in clients[start : start + 50]))
        for client in clients:
            await client.send(x)
        after = resident_bytes(pid), store.info("memory")["used_memory"]
        await asyncio.gather(*(client.disconnect() for client in clients))
        return [(b - a) / count for a, b in zip(before, after, strict=True)]

    with tempfile.TemporaryDirectory() as folder, RedisServer() as redis:
        fastrnn.save(load.make_model(), f"{folder}/m.safetensors")
        limit = str(count + 100)
        limits = ("--max-sessions", limit, "--max-sessions-per-client", limit)
        with ServerProcess(f"m={folder}/m.safetensors", "--state", redis.url, *limits) as server:
            store = client_of_redis.Redis(port=redis.port)
            return asyncio.run(main(server.url, server.process.pid, store))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--rate", type=float, default=100)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--sessions", type=int, default=2000, help="for the memory of one")
    parser.add_argument("--part", choices=("all", "times", "memory"), default="all")
    arguments = parser.parse_args()
    parts = {"times", "memory"} if arguments.part == "all" else {arguments.part}
    if "times" in parts:
        times(arguments)
    if "memory" in parts:
        of_server, of_redis = memory(arguments.sessions)
        print(f"a session: {of_server:,.0f} bytes in the server, {of_redis:,.0f} in Redis")


def times(arguments):
    for redis, kind in ((False, "nginx"), (True, "haproxy")):
        points = {}
        for message in (10, 50):
            rate, used = run(arguments, message, redis, kind)
            for name, cores in used.items():
                points.setdefault(name, []).append((rate, message, cores))
        for name, found in points.items():
            of_message, of_step = fitted(found)
            with_redis = " with Redis" if redis else ""
            print(f"{name}{with_redis}: {of_message:.0f} us a message, {of_step:.2f} us a step")


if __name__ == "__main__":
    sys.exit(main())
