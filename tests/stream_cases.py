"""What the tests of streams share: a model, servers in this process and in others, Redis."""

import asyncio
import contextlib
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import uvicorn
from websockets.asyncio.client import connect

import fastrnn
from fastrnn.serve import Settings, create_app, protocol
from fastrnn.serve.sockets import websocket_protocol

sys.path.append(str(Path(__file__).parents[1] / "benchmarks" / "serving"))

from processes import RedisServer

I, O = 5, 3  # noqa: E741


def make_model(seed=1):
    return fastrnn.Sequential(
        fastrnn.GRU(I, 17, seed=seed), fastrnn.LSTM(17, 9, seed=2), fastrnn.Linear(9, O, seed=3)
    )


def make_token_model():
    return fastrnn.Sequential(
        fastrnn.Embedding(11, 7, seed=1), fastrnn.GRU(7, 8, seed=2), fastrnn.Linear(8, O, seed=3)
    )


def save_model(folder, model=None, name="m"):
    """Return what a server is told to serve."""
    fastrnn.save(model or make_model(), folder / f"{name}.safetensors")
    return f"{name}={folder / name}.safetensors"


def alone(model, x):
    """The outputs (steps, O) of the model run over one sequence, without a server."""
    pool = fastrnn.StreamPool(model, 1, num_threads=1)
    try:
        return pool.step(pool.open(), x)
    finally:
        pool.shutdown()


def steps(count, seed=0):
    return np.random.default_rng(seed).standard_normal((count, I)).astype(np.float32)


class Server:
    """A server in this process."""

    def __init__(self, server, app):
        self.uvicorn, self.app = server, app
        self.service = app.state.service
        self.port = server.servers[0].sockets[0].getsockname()[1]
        self.url = f"ws://127.0.0.1:{self.port}"

    def stream_url(self, model="m"):
        return f"{self.url}/v2/models/{model}/stream"

    def cut(self, rng=None):
        """Cut connections of clients: all, or one at random."""
        connections = [c for c in self.uvicorn.server_state.connections if hasattr(c, "conn")]
        if rng is not None and connections:
            connections = [connections[rng.integers(len(connections))]]
        for each in connections:
            each.transport.abort()

    @property
    def attached(self):
        return sum(len(model.pool) for model in self.service.models)


@contextlib.asynccontextmanager
async def serving(*models, uvicorn_options=None, **settings):
    """Run a server in the running loop."""
    settings = Settings(port=0, **settings)
    app = create_app(settings, models)
    options = {"ws": websocket_protocol(settings), "ws_max_size": settings.max_frame}
    config = uvicorn.Config(
        app,
        port=0,
        log_config=None,
        ws_per_message_deflate=False,
        **options | (uvicorn_options or {}),
    )
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None
    task = asyncio.create_task(server._serve())
    while not server.started:
        await asyncio.sleep(0.01)
        if task.done():
            task.result()
    try:
        yield Server(server, app)
    finally:
        server.should_exit = True
        await asyncio.wait_for(task, 30)


class Raw:
    """A stream spoken by hand."""

    def __init__(self, socket):
        self.socket = socket

    async def say(self, kind, **fields):
        await self.socket.send(protocol.write_message(kind, **fields))

    async def hear(self):
        """The next message: a dict, or (position, y) of a frame."""
        data = await asyncio.wait_for(self.socket.recv(), 20)
        if isinstance(data, str):
            return json.loads(data)
        position, received = protocol.HEADER.unpack_from(data)
        assert received == 0
        return position, np.frombuffer(data, "<f4", offset=16).reshape(-1, O)

    async def frame(self, position, x, received=0):
        await self.socket.send(protocol.pack_frame(position, received, x))

    async def end(self):
        """All messages until the server closes, and the close code."""
        found = []
        with contextlib.suppress(Exception):
            while True:
                found.append(await self.hear())
        return found, self.socket.close_code

    async def refused(self):
        """The code of the error that ends the stream, checked against the close code."""
        found, close_code = await self.end()
        assert found[-1]["type"] == "error"
        assert isinstance(found[-1]["message"], str)
        assert close_code == protocol.CLOSE_CODES[found[-1]["code"]]
        return found[-1]["code"]


@contextlib.asynccontextmanager
async def raw(server, model="m", **options):
    async with connect(server.stream_url(model), compression=None, max_size=None, **options) as s:
        yield Raw(s)


@contextlib.asynccontextmanager
async def opened(server, model="m"):
    async with raw(server, model) as stream:
        await stream.say("open")
        reply = await stream.hear()
        assert reply["type"] == "opened"
        yield stream, reply


async def until(condition, timeout=20):
    """Wait for something that happens soon."""
    for _ in range(int(timeout / 0.01)):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not happen")


def redis_server(folder):
    """A RedisServer; skips the test where the program is missing."""
    try:
        return RedisServer(folder)
    except FileNotFoundError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
