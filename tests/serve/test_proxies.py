"""Several servers behind HAProxy and nginx, with the configurations of examples/serving."""

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("redis")

from processes import ServerProcess, free_port

from fastrnn.serve.client import StreamClient
from stream_cases import I, alone, make_model, redis_server, save_model, steps

EXAMPLES = Path(__file__).parents[2] / "examples" / "serving"
SERVERS, STREAMS, SECONDS = 3, 12, 300


class Proxy:
    """HAProxy or nginx with the example's configuration, for servers on other ports."""

    def __init__(self, kind, folder, ports):
        program = shutil.which(kind, path=os.environ["PATH"] + ":/usr/sbin")
        if program is None:
            if os.environ.get("CI"):
                raise FileNotFoundError(f"{kind} is missing")
            pytest.skip(f"{kind} is missing")
        name = {"haproxy": "haproxy.cfg", "nginx": "nginx.conf"}[kind]
        if not (EXAMPLES / name).exists():
            pytest.skip("the examples are not here")
        self.port = free_port()
        text = (EXAMPLES / name).read_text(encoding="utf-8")
        for old, new in zip((8000, 8001, 8002, 8003), (self.port, *ports), strict=True):
            text, found = re.subn(rf"127\.0\.0\.1:{old}\b", f"127.0.0.1:{new}", text)
            assert found
        (folder / name).write_text(text, encoding="utf-8")
        command = [program, "-db", "-f", folder / name]
        if kind == "nginx":
            globals_ = f"daemon off; pid {folder}/nginx.pid;"
            command = [program, "-p", folder, "-e", "stderr", "-c", folder / name, "-g", globals_]
        self.process = subprocess.Popen(command)
        self.url = f"ws://127.0.0.1:{self.port}"
        for _ in range(500):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            assert self.process.poll() is None
            time.sleep(0.02)
        raise RuntimeError(f"{kind} does not listen")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(30)


@pytest.fixture(params=["haproxy", "nginx"])
def kind(request):
    return request.param


@contextlib.contextmanager
def behind(kind, folder, *options):
    """Servers of one model, and a proxy before them."""
    with contextlib.ExitStack() as stack:
        model = save_model(folder)
        options = (model, "--trusted-proxies", "127.0.0.1", *options)
        servers = [stack.enter_context(ServerProcess(*options)) for _ in range(SERVERS)]
        ports = [server.port for server in servers]
        yield stack.enter_context(Proxy(kind, folder, ports)), servers


def run(main):
    return asyncio.run(asyncio.wait_for(main, SECONDS))


def fetch(url, body=None):
    request = urllib.request.Request(
        url.replace("ws", "http", 1), body and json.dumps(body).encode()
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.read()


def streams_of(server):
    """How many streams a server has, by its own word."""
    found = re.findall(
        r"^fastrnn_sessions\S* (\S+)$", fetch(f"{server.url}/metrics").decode(), re.M
    )
    return sum(map(float, found))


def test_a_session_comes_back_to_its_server(kind, tmp_path):
    """Without a common store: no other server could go on with it."""
    model, x = make_model(), steps(20)

    async def stream(proxy):
        client = StreamClient(proxy.url, "m")
        await client.connect()
        y = [await client.send(x[:7])]
        for start in (7, 11, 15):
            await client.disconnect()
            client = StreamClient(proxy.url, "m", resume=client.ticket)
            await client.connect()
            y.append(await client.send(x[start : start + 4]))
        np.testing.assert_array_equal(np.concatenate(y), alone(model, x[:19]))
        return client

    async def main():
        with behind(kind, tmp_path) as (proxy, servers):
            clients = await asyncio.gather(*(stream(proxy) for _ in range(STREAMS)))
            counts = [await asyncio.to_thread(streams_of, server) for server in servers]
            await asyncio.gather(*(client.close() for client in clients))
        assert sum(counts) == STREAMS
        assert max(counts) < STREAMS  # they are spread

    run(main())


class Load:
    """A client that streams until it is told to stop."""

    def __init__(self, proxy, seed):
        self.client = StreamClient(proxy.url, "m", timeout=60)
        self.rng = np.random.default_rng(seed)
        self.x, self.y = [], []

    async def run(self, stop):
        await self.client.connect()
        while not stop.is_set():
            self.x.append(self.rng.standard_normal((int(self.rng.integers(1, 9)), I), np.float32))
            self.y.append(await self.client.send(self.x[-1]))
        await self.client.disconnect()

    def check(self, model):
        x, y = np.concatenate(self.x), np.concatenate(self.y)
        np.testing.assert_array_equal(y, alone(model, x))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_streams_go_on_elsewhere_when_a_server_goes(kind, tmp_path, how):
    model = make_model()

    async def main(redis):
        with behind(kind, tmp_path, "--state", redis.url) as (proxy, servers):
            loads, stop = [Load(proxy, seed) for seed in range(STREAMS)], asyncio.Event()
            tasks = [asyncio.create_task(load.run(stop)) for load in loads]
            await answered(loads, 5)
            there = await asyncio.to_thread(streams_of, servers[0])
            status = await asyncio.to_thread(servers[0].kill, how)
            assert status == (0 if how == signal.SIGTERM else -signal.SIGKILL)
            await answered(loads, 5)
            again = [load.client.connections > 1 for load in loads]
            assert sum(again) == there  # the others noticed nothing
            await asyncio.to_thread(servers[0].start)
            stop.set()
            await asyncio.gather(*tasks)
            for load in loads:
                load.check(model)
            return sum(again)

    with redis_server(None) as redis:
        moved = run(main(redis))
    assert 0 < moved < STREAMS


async def answered(loads, count):
    """Wait until each has got so many answers more."""
    wanted = [len(load.y) + count for load in loads]
    while any(len(load.y) < n for load, n in zip(loads, wanted, strict=True)):
        await asyncio.sleep(0.02)


def test_whole_sequences_go_to_servers_that_are_there(kind, tmp_path):
    model, x = make_model(), steps(6)
    given = {"name": "input", "shape": [1, 6, I], "datatype": "FP32", "data": x.ravel().tolist()}
    with behind(kind, tmp_path) as (proxy, servers):
        servers[1].kill()
        for _ in range(9):
            answer = json.loads(fetch(f"{proxy.url}/v2/models/m/infer", {"inputs": [given]}))
            y = np.array(answer["outputs"][0]["data"], np.float32).reshape(6, -1)
            np.testing.assert_array_equal(y, alone(model, x))
        with pytest.raises(urllib.error.HTTPError, match="403"):
            fetch(f"{proxy.url}/metrics")
